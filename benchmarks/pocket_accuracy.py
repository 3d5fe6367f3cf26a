"""How often the pocket model says what its encoder hears, per kind of question, on a folder of recordings.

Windows of several lengths are cut from each recording. The truth of a window is read off the encoder's own scores by the model's rule
(`NatureLM/data/questions.py`): the class with the highest logit over the window's segments, present from a logit of -1.5 on. Windows whose top class is an
animal with a score of at least 0.25 are asked everything; windows below 0.1, digital silence and made-up noise should be answered None. Wordings rotate.

    python benchmarks/pocket_accuracy.py RECORDINGS --output benchmarks/results/pocket_accuracy.json
    python benchmarks/pocket_accuracy.py RECORDINGS --half odd --kinds common options --windows 3
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from NatureLM.audio.discovery import find_recordings
from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan
from NatureLM.data.evidence import RIVALS
from NatureLM.data.questions import Heard, Questioner
from NatureLM.models import NatureLM, parts
from NatureLM.models.model import AudioTokens
from NatureLM.models.pocket.wording import NONE, QUESTIONS, UNKNOWABLE, refusal
from NatureLM.taxonomy.names import load_taxonomy

ANIMAL_SCORE, QUIET_SCORE = 0.25, 0.1
ALWAYS = ("common", "scientific", "family", "options", "caption")
"""Asked about every window; the other kinds take turns, three a window."""
TURNS = tuple(k for k in [*QUESTIONS, "unknowable"] if k not in ALWAYS)
BATCH = 16


@dataclass(frozen=True)
class Case:
    """A window with its audio tokens and what the encoder heard in it."""

    recording: str
    start_s: float
    window_s: float
    tokens: AudioTokens
    heard: Heard
    number: int

    @property
    def top(self) -> tuple[int, float]:
        """The strongest class and its score."""
        c, logit = self.heard.ranked()[0]
        return c, 1 / (1 + math.exp(-logit))


def main() -> None:
    args = _arguments()
    model = NatureLM.from_pretrained("pocket", bridge=args.bridge)
    taxonomy = load_taxonomy(parts.fetch("birdnet-labels"), parts.fetch("birdnames-ebird"))
    directions = model.encoder.get_buffer("directions")
    centred = torch.nn.functional.normalize(directions - directions.mean(0), dim=1)
    near = (centred @ centred.T - 2 * torch.eye(len(centred))).topk(12, dim=1).indices.tolist()
    judge = Judge(model, Questioner(taxonomy, near), taxonomy, args.kinds)
    begun = time.perf_counter()
    for seconds in args.windows:
        cases = list(_cases(model, args, seconds))
        for i in range(0, len(cases), BATCH):
            judge(cases[i : i + BATCH])
            done = f"{seconds:g} s windows: {min(i + BATCH, len(cases))}/{len(cases)}"
            print(done, f"{time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    for cases in _made_up(model):
        judge(cases, made_up=True)
    report = {
        "model": f"{model.name} {model.revision}",
        "recordings": str(args.recordings),
        "half": args.half,
        "windows_s": args.windows,
        "minutes": round((time.perf_counter() - begun) / 60, 1),
        "kinds": judge.table(),
        "mistakes": judge.mistakes,
    }
    print(json.dumps(report["kinds"], indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


class Judge:
    """Asks, compares and counts."""

    def __init__(
        self, model: NatureLM, questioner: Questioner, taxonomy: Any, kinds: list[str]
    ) -> None:
        self.model, self.questioner, self.taxonomy, self.kinds = model, questioner, taxonomy, kinds
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.mistakes: list[dict[str, Any]] = []
        self.rng = random.Random(7)

    def __call__(self, cases: list[Case], made_up: bool = False) -> None:
        asked: list[tuple[Case, str, str, str]] = []
        for case in cases:
            for row, question, answer in self._questions(case, made_up):
                if not self.kinds or row.split(" ", maxsplit=1)[0] in self.kinds:
                    asked.append((case, row, question, answer))
        if not asked:
            return
        tokens = AudioTokens(
            torch.cat([c.tokens.tokens for c, *_ in asked]),
            torch.cat([c.tokens.counts for c, *_ in asked]),
        )
        with torch.inference_mode():
            said = self.model.answer(tokens, [question for _, _, question, _ in asked])
        for (case, row, question, answer), got in zip(asked, said, strict=True):
            right = self._right(row, answer, got.text)
            self.counts[row][0] += right
            self.counts[row][1] += 1
            if not right:
                self.mistakes.append(
                    {
                        "recording": case.recording,
                        "start_s": case.start_s,
                        "window_s": case.window_s,
                        "score": round(case.top[1], 3),
                        "kind": row,
                        "question": question,
                        "expected": answer,
                        "answer": got.text,
                    }
                )

    def table(self) -> dict[str, dict[str, Any]]:
        return {
            k: {"right": r, "asked": n, "share": round(r / n, 4), "interval_95": wilson(r, n)}
            for k, (r, n) in sorted(self.counts.items())
        }

    def _questions(self, case: Case, made_up: bool) -> Iterator[tuple[str, str, str]]:
        c, score = case.top
        animal = self.taxonomy[c].is_animal
        length = f" {case.window_s:g}s"
        if made_up or score < QUIET_SCORE:
            name = "none-made-up" if made_up else "none-quiet"
            for kind in ("common", "scientific", "list"):
                yield f"{name} {kind}", self._wording(kind, case), NONE
            return
        if score < ANIMAL_SCORE:
            return
        if not animal:
            yield "sound" + length, self._wording("common", case), self.taxonomy[c].common
            return
        turns = [TURNS[(3 * case.number + i) % len(TURNS)] for i in range(3)]
        for kind in self.kinds or (*ALWAYS, *turns):
            if kind in {"options", "yes_no", "when"}:
                yield kind + length, *self._drawn(kind, case)
            elif kind in QUESTIONS:
                yield (
                    kind + length,
                    self._wording(kind, case),
                    self.questioner.answer(kind, case.heard),
                )
            elif kind == "unknowable":
                topic = list(UNKNOWABLE)[case.number % len(UNKNOWABLE)]
                wordings = UNKNOWABLE[topic]
                yield kind + length, wordings[case.number % len(wordings)], refusal(topic)

    def _wording(self, kind: str, case: Case) -> str:
        return QUESTIONS[kind][case.number % len(QUESTIONS[kind])]

    def _drawn(self, kind: str, case: Case) -> tuple[str, str]:
        if kind != "options":
            return self.questioner._askers[kind](kind, case.heard, self.rng)  # noqa: SLF001 - the same questions as in training
        top = case.top[0]
        avoided = {c for c, logit in case.heard.ranked() if logit > -3.0}
        offered = [top] if case.number % 2 else []
        wanted = self.rng.randint(2, 6)
        while len(offered) < wanted:
            c = self.rng.randrange(len(self.taxonomy))
            if c not in avoided and c not in offered and self.taxonomy[c].is_animal:
                offered.append(c)
        self.rng.shuffle(offered)
        names = [self.taxonomy[c].common for c in offered]
        answer = self.taxonomy[top].common if case.number % 2 else NONE
        return self._wording("options", case).format(options=", ".join([*names, NONE])), answer

    def _right(self, row: str, answer: str, said: str) -> bool:
        kind = row.split(" ", maxsplit=1)[0]
        if kind in {"list", "list_scientific"}:
            return set(said.split(", ")) == set(answer.split(", "))
        return said == answer


def wilson(right: int, asked: int, z: float = 1.96) -> list[float]:
    """Wilson's interval of a share."""
    share, scale = right / asked, 1 + z * z / asked
    middle = (share + z * z / (2 * asked)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    return [round(middle - half, 4), round(middle + half, 4)]


def _cases(model: NatureLM, args: argparse.Namespace, seconds: float) -> Iterator[Case]:
    number = 0
    for place, path in enumerate(sorted(find_recordings([args.recordings]))):
        if args.half != "all" and (place % 2 == 1) != (args.half == "odd"):
            continue
        recording = open_recording(path)
        plan = WindowPlan(seconds, seconds)
        for audio in recording.windows(plan, model.sample_rate):
            if "silent" not in audio.flags:
                yield _case(
                    model, (path.name, audio.window.start_s, seconds), audio.waveform, number
                )
                number += 1


def _made_up(model: NatureLM) -> Iterator[list[Case]]:
    """White and pink noise, hum and near-silence of several loudnesses."""
    rng = np.random.default_rng(5)
    for n in range(2):
        cases = []
        for seconds in (1.5, 3.0, 10.0):
            white = rng.normal(size=int(seconds * model.sample_rate))
            pink = np.cumsum(white) - np.cumsum(white).mean()
            kinds = {
                "white": white / 4,
                "pink": pink / np.abs(pink).max(),
                "silence": white * 1e-6,
                "digital silence": white * 0,
            }
            for name, wave in kinds.items():
                quiet = wave * 10 ** rng.uniform(-2.5, -0.3) if "silence" not in name else wave
                cases.append(
                    _case(model, (name, 0.0, seconds), np.clip(quiet, -1, 1).astype("float32"), n)
                )
        yield cases


@torch.inference_mode()
def _case(
    model: NatureLM, where: tuple[str, float, float], waveform: np.ndarray, number: int
) -> Case:
    row = torch.from_numpy(np.ascontiguousarray(waveform))[None]
    lengths = torch.tensor([row.shape[1]])
    logits, starts = model.encoder.evidence(row, lengths)
    top = logits[0].topk(RIVALS, dim=1)
    heard = Heard(top.indices.tolist(), top.values.tolist(), starts[0].tolist())
    return Case(*where, model.encode(row, lengths), heard, number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--bridge", help="folder of a bridge; the shipped one when left out")
    parser.add_argument(
        "--half",
        choices=("all", "odd", "even"),
        default="all",
        help="odd: not used for the statistics",
    )
    parser.add_argument("--windows", type=float, nargs="+", default=[3.0, 1.5, 10.0])
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
