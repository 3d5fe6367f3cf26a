"""Stages of the whole model: tokens of text, splice, loss and logits, merging alpha, answers and where they stop.

Knows the model as it loads from the folder, in the reference's parity. The surprises: which recording stood where in the
prompt of several recordings is not recorded, so all assignments are tried; and answers are compared up to the first stop
token, in the reference's own stop rule, while a batch of our default rule must repeat the single answers row by row.
"""

from __future__ import annotations

import itertools
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from NatureLM.config import Generation, read_config
from NatureLM.models import lora
from NatureLM.models.checkpoint import load
from NatureLM.models.generate import PUBLISHED_STOP_ID
from NatureLM.models.keymap import CONSTANTS, aliases_of, published_of
from NatureLM.models.loss import LossOutput, TrainingBatch
from NatureLM.models.model import AudioTokens, NatureLM
from NatureLM.models.verify.golden import (
    LOGITS_ATOL,
    LOSS_ATOL,
    STAGE_ATOL,
    Check,
    Golden,
    compare,
    compare_exactly,
    skipped,
)
from NatureLM.models.weight_file import open_weights
from NatureLM.prompts import PLACEHOLDER, Prompt, as_given, ask

_CASE = re.compile(
    r"(?:alpha(?P<alpha>[\d.]+)\.)?"
    r"(?:beam(?P<many>\d+)_lp(?P<length>[\d.]+)_rp(?P<repetition>[\d.]+)\.)?"
    r"(?P<what>q\d+|multi|batch_equal_prompts|unequal_reference_single\d+)"
    r"(?:\.(?:greedy|beam(?P<beams>\d+)))?"
)
"""How a recorded case of generation is called."""


@dataclass
class Speaker:
    """The loaded model and the recorded prompts, spoken to as the reference was.

    Attributes:
        golden: The folder.
        model: Loaded from it, in float32, in published parity.
    """

    golden: Golden
    model: NatureLM

    @cached_property
    def limit(self) -> int:
        """New tokens of every recorded answer: the length of those that no stop token ended, else the settings'."""
        recorded = self.golden.recorded
        stops = {*self.model.ends.stop_ids, PUBLISHED_STOP_ID}
        cases = [*recorded["generate"].values(), *recorded["pipeline"].values()]
        rows = itertools.chain(*(case["ids"] for case in cases if isinstance(case, dict)))
        open_ended = [len(ids) for ids in rows if ids and ids[-1] not in stops]
        settings = read_config(self.golden.folder / "inference.yml").generate
        return max(open_ended, default=settings.max_new_tokens if settings else 300)

    @cached_property
    def single(self) -> AudioTokens:
        """Audio tokens of the recorded single window."""
        waveform = self.golden.waveform(self.golden.single_file)[None]
        return self.hear(waveform, torch.tensor([waveform.shape[1]]))

    @cached_property
    def pair(self) -> AudioTokens:
        """Audio tokens of the first two windows of the recorded batch."""
        samples = self.golden.samples
        return self.hear(*self.golden.batch(samples["files"][:2], samples["lengths"][:2]))

    @torch.no_grad()
    def hear(self, waveforms: Tensor, lengths: Tensor) -> AudioTokens:
        """Encode windows."""
        return self.model.encode(waveforms, lengths)

    def say(
        self, tokens: AudioTokens, prompts: Sequence[Prompt], generation: Generation, alpha: float
    ) -> list[tuple[list[int], str]]:
        """Answer prompts; ids up to the first stop token, and the text."""
        answers = self.model.answer(tokens, prompts, generation, merging_alpha=alpha)
        return [(list(a.token_ids), a.text) for a in answers]

    def batch(self) -> TrainingBatch:
        """Give the recorded batch with its reference answers."""
        samples = self.golden.samples
        waveforms, lengths = self.golden.batch(samples["files"], samples["lengths"])
        prompts = tuple(self.templated(p) for p in samples["prompts"])
        return TrainingBatch(waveforms, lengths, prompts, tuple(samples["texts"]))

    def multi(self) -> Iterator[tuple[tuple[str, ...], TrainingBatch]]:
        """Give the batch of several recordings under every assignment of files that are long enough."""
        samples = self.golden.samples
        lengths = list(itertools.chain(*samples["multi_lengths"]))
        files = samples["files"]
        likely = (files[0], *files[:0:-1])[: len(lengths)]
        every = itertools.product(files, repeat=len(lengths))
        for names in itertools.chain([likely], every):
            if all(len(self.golden.waveform(f)) >= n for f, n in zip(names, lengths, strict=True)):
                waveforms, counts = self.golden.batch(names, lengths)
                prompts = tuple(self.templated(p) for p in samples["multi_prompts"])
                yield (
                    names,
                    TrainingBatch(waveforms, counts, prompts, tuple(samples["multi_texts"])),
                )

    def templated(self, query: str) -> Prompt:
        """Put a recorded query, which names its placeholders itself, into the chat format."""
        return ask(query, self.model.template, query.count(PLACEHOLDER))


def check_checkpoint(golden: Golden) -> Iterator[Check]:
    """Names and aliases of the hub form, and that the published form gives an equal model."""
    info, found = golden.info, open_weights(golden.folder / "model.safetensors")
    yield compare_exactly("hub form: tensors", len(found.entries), info["hub_safetensors_keys"])
    whole = load(golden.folder)
    names = {k: published_of(k) for k in whole.state_dict()}
    layers = whole.config.beats_cfg.encoder_layers
    aliases = {a: k for k in names.values() for a in aliases_of(k, layers, lora=whole.config.lora)}
    yield compare_exactly("hub form: aliases", aliases, info["hub_safetensors_metadata"])
    every = len(names) + len(aliases) + len(CONSTANTS)
    yield compare_exactly("all published names", every, info["full_state_dict_keys"])
    stored = {k: e.shape for k, e in found.entries.items() if k not in CONSTANTS}
    shapes = {names[k]: tuple(v.shape) for k, v in whole.state_dict().items()}
    yield compare_exactly("hub form: names and shapes", shapes, stored)
    published = golden.folder / "model_published_form.safetensors"
    if not published.is_file():
        yield skipped("published form", "the folder has none")
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(golden.folder / "llama", Path(folder, "llama"))
        shutil.copy(golden.folder / "config.json", folder)
        shutil.copy(published, Path(folder, "model.safetensors"))
        heads = golden.info["qformer_bert_config"]["num_attention_heads"]
        other = load(folder, qformer_heads=heads).state_dict()
    differing = [k for k, v in whole.state_dict().items() if not torch.equal(v, other[k])]
    yield compare_exactly("published form: tensors that differ", differing, [])


def check_text(speaker: Speaker) -> Iterator[Check]:
    """Token ids of texts, and queries in the chat format."""
    recorded = speaker.golden.json("expected/tokenization.json")
    tokenizer = speaker.model.tokenizer
    pairs = recorded.items() if isinstance(recorded, dict) else recorded
    for text, ids in pairs:
        if isinstance(ids, list):
            found = list(tokenizer(text, add_special_tokens=False).input_ids)
            yield compare_exactly(f"token ids of {text[:24]!r}", found, ids)
    for query, templated in speaker.golden.misc.get("prepare_instruction", []):
        prompt = ask(query, speaker.model.template).text
        yield compare_exactly(f"prompt of {query.strip()[:24]!r}", prompt, templated)


@torch.no_grad()
def check_forward(speaker: Speaker) -> Iterator[Check]:
    """Splice, labels, loss and logits of the recorded batch, at alpha 1 and the others that were recorded."""
    golden, model = speaker.golden, speaker.model
    tensors = golden.tensors("model_fp32")
    given = as_given(golden.recorded["generate"]["prompts"][0])
    spliced = model.embeds(speaker.single, [given])[0]
    yield compare("splice", spliced[None], tensors["generate.q0.inputs_embeds"], STAGE_ATOL)
    out = model(speaker.batch())
    yield compare(
        "forward: inputs_embeds", out.inputs_embeds, tensors["forward.inputs_embeds"], STAGE_ATOL
    )
    yield compare(
        "forward: attention_mask", out.attention_mask, tensors["forward.attention_mask"], 0.0
    )
    yield compare("forward: labels", out.labels, tensors["forward.labels"], 0.0)
    for key in golden.recorded:
        if key == "forward" or key.startswith("forward_alpha"):
            alpha = float(key.removeprefix("forward").removeprefix("_alpha") or 1)
            with lora.scaled(model.llm, alpha):
                out = model(speaker.batch())
            yield from _compare_loss(key, out, golden.recorded[key])
            if f"{key}.logits" in tensors:
                yield _compare_logits(key, out, tensors[f"{key}.logits"])


@torch.no_grad()
def check_multi(speaker: Speaker) -> Iterator[Check]:
    """Several recordings in one prompt."""
    tensors = speaker.golden.tensors("model_fp32")
    recorded = speaker.golden.recorded["forward_multi_audio"]
    best: list[Check] = []
    for names, batch in speaker.multi():
        out = speaker.model(batch)
        checks = [
            *_compare_loss("several recordings", out, recorded),
            compare("several recordings: labels", out.labels, tensors["forward_multi.labels"], 0.0),
            _compare_logits("several recordings", out, tensors["forward_multi.logits"]),
        ]
        checks = [replace(c, note=f"{c.note} {', '.join(names)}".strip()) for c in checks]
        if not best or _worst(checks) < _worst(best):
            best = checks
        if all(check.passed for check in checks):
            break
    yield from best


def check_answers(speaker: Speaker) -> Iterator[Check]:
    """Greedy and beam answers of every recorded case, and our own batch of unequal prompts."""
    recorded = speaker.golden.recorded["generate"]
    for name, case in recorded.items():
        found = _CASE.fullmatch(name)
        if not isinstance(case, dict):
            continue  # the prompts
        if found is not None:
            yield _compare_case(speaker, name, case, found)
        elif "DEFECT" in name:
            yield skipped(f"answer {name}", "a defect of the reference that is not repeated")
        else:
            yield skipped(f"answer {name}", "a kind of case that is not known here")
    yield from _compare_unequal(speaker, recorded)


def check_stopping(speaker: Speaker) -> Iterator[Check]:
    """Answers that end by ``#``, by a stop token or by length; the reference's batches, and ours row by row."""
    rule = Generation(max_new_tokens=speaker.limit, stop_rule="published")
    ours = Generation(max_new_tokens=speaker.limit)
    for name, cases in speaker.golden.recorded.get("stopping", {}).items():
        if isinstance(cases, list):
            for case in cases:
                prompt = [speaker.model.prompt(case["query"])]
                said = speaker.say(speaker.single, prompt, rule, 1.0)
                yield _compare_said(f"{name}: {case['query']}", said, case)
            continue
        prompts = [speaker.model.prompt(q) for q in cases["queries"]]
        both = _repeated(speaker.single, len(prompts))
        yield _compare_said(
            f"{name}, as the reference", speaker.say(both, prompts, rule, 1.0), cases
        )
        alone = [speaker.say(speaker.single, [p], ours, 1.0)[0] for p in prompts]
        together = speaker.say(both, prompts, ours, 1.0)
        yield compare_exactly(f"{name}, row by row", together, alone)
        prefixes = [ids[: len(r)] for (ids, _), r in zip(together, cases["core_ids"], strict=True)]
        yield compare_exactly(f"{name}, prefixes", prefixes, cases["core_ids"])


def _compare_case(speaker: Speaker, name: str, case: dict[str, Any], found: re.Match[str]) -> Check:
    generation = Generation(
        max_new_tokens=speaker.limit,
        num_beams=int(found["many"] or found["beams"] or 1),
        length_penalty=float(found["length"] or 1.0),
        repetition_penalty=float(found["repetition"] or 1.0),
        stop_rule="published",
    )
    alpha = float(found["alpha"] or 1.0)
    checks = []
    for tokens, prompts, note in _situations(speaker, found["what"], case):
        said = speaker.say(tokens, prompts, generation, alpha)
        checks.append(replace(_compare_said(f"answer {name}", said, case), note=note))
        if checks[-1].passed:
            break
    return min(checks, key=lambda check: check.difference)


def _situations(
    speaker: Speaker, what: str, case: dict[str, Any]
) -> Iterator[tuple[AudioTokens, list[Prompt], str]]:
    """Say which audio and which prompts a case was about; several when it is not recorded."""
    recorded = speaker.golden.recorded["generate"]
    prompts = [as_given(p) for p in recorded["prompts"]]
    if what.startswith("q"):
        yield speaker.single, [prompts[int(what[1:])]], ""
    elif what == "batch_equal_prompts":
        yield speaker.pair, [prompts[0]] * 2, ""
    elif what == "multi":
        text = recorded["multi_prompt"][0]
        count = text.count(PLACEHOLDER)
        for names, batch in speaker.multi():
            tokens = speaker.hear(batch.waveforms[:count], batch.lengths[:count])
            yield tokens, [as_given(text, count)], ", ".join(names[:count])
    else:
        row = int(what[-1])
        tokens = speaker.pair[row : row + 1]
        for prompt in prompts:
            if len(speaker.model.embeds(tokens, [prompt])[0]) == case["n_input_embeds"]:
                yield tokens, [prompt], ""


def _compare_unequal(speaker: Speaker, recorded: dict[str, Any]) -> Iterator[Check]:
    """Two prompts of unequal length in one batch of ours: each row says what it says alone."""
    names = [
        k for k in recorded if k.startswith("unequal_reference_single") and k.endswith(".greedy")
    ]
    if len(names) < 2:
        return
    wanted = [recorded[n]["core_ids"][0] for n in names[:2]]
    situations = [_situations(speaker, n.split(".")[0], recorded[n]) for n in names[:2]]
    checks = []
    for chosen in itertools.product(*situations):
        prompts = [prompts[0] for _, prompts, _ in chosen]
        said = speaker.say(speaker.pair, prompts, Generation(max_new_tokens=speaker.limit), 1.0)
        found = [ids[: len(w)] for (ids, _), w in zip(said, wanted, strict=True)]
        checks.append(compare_exactly("answers of a batch of unequal prompts", found, wanted))
    yield min(checks, key=lambda check: check.difference)
    beams = Generation(max_new_tokens=speaker.limit, num_beams=2)
    together = speaker.say(speaker.pair, prompts, beams, 1.0)
    alone = [
        speaker.say(speaker.pair[i : i + 1], [p], beams, 1.0)[0] for i, p in enumerate(prompts)
    ]
    yield compare_exactly("beams of a batch of unequal prompts, row by row", together, alone)


def _compare_said(stage: str, said: list[tuple[list[int], str]], case: dict[str, Any]) -> Check:
    found = ([ids for ids, _ in said], [text for _, text in said])
    return compare_exactly(stage, found, (case["core_ids"], case["text"]))


def _compare_loss(stage: str, out: LossOutput, recorded: dict[str, Any]) -> Iterator[Check]:
    yield compare(f"{stage}: loss", out.loss, recorded["loss"], LOSS_ATOL)
    counts = [float(out.correct), float(out.total)]
    yield compare(f"{stage}: correct, total", counts, [recorded["correct"], recorded["total"]], 0.0)
    yield compare(
        f"{stage}: loss by example", out.per_example_loss, recorded["per_example_loss"], LOSS_ATOL
    )
    for ours, theirs in (("correct", "correct_per_sample"), ("total", "total_per_sample")):
        found = getattr(out, f"per_example_{ours}")
        yield compare(f"{stage}: {ours} by example", found, recorded[theirs], 0.0)


def _compare_logits(stage: str, out: LossOutput, recorded: Tensor) -> Check:
    real = out.attention_mask.bool()
    if out.logits.shape[:2] != recorded.shape[:2]:
        return compare(f"{stage}: logits", out.logits, recorded, LOGITS_ATOL)
    return compare(f"{stage}: logits", out.logits[real], recorded[real], LOGITS_ATOL)


def _repeated(tokens: AudioTokens, times: int) -> AudioTokens:
    return tokens[torch.zeros(times, dtype=torch.long)]


def _worst(checks: Sequence[Check]) -> float:
    return max(check.difference for check in checks)
