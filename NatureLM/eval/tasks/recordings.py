"""Anyone's labelled recordings as a benchmark of one component.

Knows windows and labels. The surprise: a label without times holds for the whole recording but not for each of its windows, so by
default the windows' answers are joined to one answer a recording before they are judged.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from NatureLM.audio.recording import Recording, open_recording
from NatureLM.audio.windows import Window, WindowPlan, plan_windows
from NatureLM.errors import ManifestError, RecordingError
from NatureLM.eval.prepare import Parity
from NatureLM.eval.questions import Names, label_type, question_for
from NatureLM.eval.sources.labels import Event, Labels
from NatureLM.eval.sources.record import RawAudio
from NatureLM.eval.task import Example, Outline, Wanted
from NatureLM.scoring.vocabulary import NONE, Component, Task, split_labels

Per = Literal["window", "recording"]
COMPONENT = "recordings"
LEAST_OVERLAP_S = 0.1
"""An event counts for a window when so much of it lies inside, or half of it."""


@dataclass(frozen=True)
class RecordingsOptions:
    """How recordings become examples.

    Attributes:
        plan: How they are cut.
        question: What is asked; by the labels when ``None``.
        parity: Whose way of cutting.
        rate_hz: The model's rate.
    """

    plan: WindowPlan = WindowPlan()  # noqa: RUF009 - frozen
    question: str | None = None
    parity: Parity = "ours"
    rate_hz: int = 16_000


class Recordings:
    """Labelled recordings below a folder.

    Args:
        root: The folder.
        labels: What is in them.
        options: How they become examples.
        names: A taxonomy that tells common from scientific names, if there is one.
    """

    name = "recordings"

    def __init__(
        self, root: Path, labels: Labels, options: RecordingsOptions, names: Names | None = None
    ) -> None:
        self.data, self.revision = str(root), _revision(root, labels)
        self._root, self._labels, self._options = root, labels, options
        vocabulary = tuple(sorted({e.label for events in labels.events.values() for e in events}))
        several = labels.timed or any(len(events) != 1 for events in labels.events.values())
        task: Task = (
            "captioning" if labels.captions else "detection" if several else "classification"
        )
        self.label_type = "caption" if labels.captions else label_type(vocabulary, names)
        self.question = options.question or question_for(
            vocabulary, self.label_type or "", several=task == "detection"
        )
        declared = () if labels.captions else vocabulary
        self.components = {COMPONENT: Component(COMPONENT, task, declared)}

    @property
    def timed(self) -> bool:
        """Whether labels have times."""
        return self._labels.timed

    def listen_at(self, rate_hz: int) -> None:
        """Give sound at this rate from now on: the model's, once it is known."""
        self._options = replace(self._options, rate_hz=rate_hz)

    def outlines(self) -> Iterator[Outline]:
        """Give the windows of all recordings; one for a recording that cannot be read."""
        for path, events in self._labels.events.items():
            for window in self._windows(path):
                yield self._outline(path, window, events)

    def examples(self, wanted: Wanted) -> Iterator[Example]:
        """Give the wanted windows with their sound; every recording is decoded once."""
        for path, events in self._labels.events.items():
            outlines = {
                w.index: o
                for w in self._windows(path)
                if wanted(o := self._outline(path, w, events))
            }
            if outlines:
                yield from self._heard(path, outlines)

    def _heard(self, path: Path, outlines: dict[int, Outline]) -> Iterator[Example]:
        options = self._options
        mode: Literal["default", "published"] = (
            "published" if options.parity == "published" else "default"
        )
        waiting = dict(outlines)
        fault = RecordingError(f"{path}: ends before this window", "truncated")
        try:
            for audio in open_recording(path).windows(options.plan, options.rate_hz, mode):
                outline = waiting.pop(audio.window.index, None)
                if outline is not None:
                    yield Example(outline, RawAudio(audio.waveform, options.rate_hz))
        except RecordingError as error:
            fault = error
        for outline in waiting.values():
            yield Example(outline, fault)

    def _windows(self, path: Path) -> list[Window]:
        plan = self._options.plan
        try:
            duration_s = _duration_s(open_recording(path))
        except RecordingError:
            return [Window(0, 0.0, plan.window_s)]
        return list(plan_windows(duration_s, plan)) or [Window(0, 0.0, plan.window_s)]

    def _outline(self, path: Path, window: Window, events: Sequence[Event]) -> Outline:
        name = str(path.relative_to(self._root)) if path.is_relative_to(self._root) else str(path)
        return Outline(
            id=f"{name}#{window.start_s:g}-{window.end_s:g}",
            component=COMPONENT,
            query=self.question,
            reference=_reference(events, window),
            recording=name,
            max_duration_s=self._options.plan.window_s,
        )


def _duration_s(recording: Recording) -> float:
    """Take the header's word for the length, or read the whole recording where it says nothing."""
    if recording.expected_s:
        return recording.expected_s
    for _ in recording.windows(WindowPlan(), 16_000):
        pass
    return recording.duration_s


def _reference(events: Sequence[Event], window: Window) -> str:
    labels = dict.fromkeys(event.label for event in events if _counts(event, window))
    named = [label for label in labels if label.casefold() != NONE.casefold()]
    return ", ".join(sorted(named)) if len(named) > 1 else named[0] if named else NONE


def _counts(event: Event, window: Window) -> bool:
    if event.start_s is None or event.end_s is None:
        return True
    inside = min(event.end_s, window.end_s) - max(event.start_s, window.start_s)
    least = min(LEAST_OVERLAP_S, (event.end_s - event.start_s) / 2)
    return inside > 0 and inside >= least


def _revision(root: Path, labels: Labels) -> str:
    digest = hashlib.sha256()
    for path, events in labels.events.items():
        try:
            facts = path.stat()
            digest.update(
                f"{path.name}|{facts.st_size}|{facts.st_mtime_ns}".encode(
                    "utf-8", "surrogateescape"
                )
            )
        except OSError as error:
            raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
        digest.update("".join(f"|{e.label}|{e.start_s}|{e.end_s}" for e in events).encode())
    digest.update(str(len(labels.events)).encode())
    del root
    return f"sha256:{digest.hexdigest()[:16]}"


def joined(rows: Sequence[Mapping[str, Any]], component: Component) -> list[dict[str, Any]]:
    """Join the rows of windows to one row a recording.

    Classification takes the answer that most windows give, "None" only when all do, the surer one on a tie; detection takes every
    label that any window names; captions take the first window's.
    """
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        parts.setdefault(str(row["recording"]), []).append(row)
    return [_joined(name, part, component) for name, part in parts.items()]


def _joined(name: str, rows: Sequence[Mapping[str, Any]], component: Component) -> dict[str, Any]:
    good = [row for row in rows if not row["error_code"]] or list(rows[:1])
    first = dict(good[0])
    answers = [str(row["prediction"]).strip() for row in good]
    named = [a for a in answers if a and a.casefold() != NONE.casefold()]
    if component.task == "detection":
        labels = {x for answer in named for x in split_labels(answer, component.labels)}
        first["prediction"] = ", ".join(sorted(labels)) or (answers[0] or NONE)
        first["confidence"] = None
    elif component.task == "classification" and named:
        sure: dict[str, float] = dict.fromkeys(answers, 0.0)
        for row, answer in zip(good, answers, strict=True):
            sure[answer] += row["confidence"] or 0.0
        counts = Counter(named)
        best = max(counts, key=lambda answer: (counts[answer], sure[answer]))
        first["prediction"] = best
        first["confidence"] = sure[best] / answers.count(best)
    return {**first, "id": name, "windows": len(rows)}
