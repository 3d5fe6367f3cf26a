"""Answers read as labels, labels placed in time as annotations, neighbours merged into events.

Pure text and arithmetic; knows nothing of models, files or results. The surprise: a label may itself contain a comma
("Finch, Purple"), so a list of labels can only be cut rightly with the vocabulary at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

NONE = "None"
"""The answer that says: nothing of that kind is here."""

_CUT = re.compile(r"\s*[,;\n]\s*")
_SAME_INSTANT_S = 1e-6


@dataclass(frozen=True)
class Annotation:
    """A label on a stretch of a recording.

    Attributes:
        start_s: Start in seconds from the start of the recording.
        end_s: End in seconds, not before the start.
        label: What is there.
        low_hz: Lower edge in frequency, if known.
        high_hz: Upper edge in frequency, if known.
        score: The model's score for the label, if known; not a calibrated probability.
    """

    start_s: float
    end_s: float
    label: str
    low_hz: float | None = None
    high_hz: float | None = None
    score: float | None = None


class Vocabulary:
    """The labels that may occur, found again in any case and spacing.

    Args:
        labels: The labels as they are to be written.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self._spelling = {_key(label): label for label in labels}
        self.longest = max((_pieces(label) for label in self._spelling.values()), default=1)

    def spelling(self, text: str) -> str | None:
        """Return the label as it is to be written, ``None`` when it is not of the vocabulary."""
        found = self._spelling.get(_key(text))
        return self._spelling.get(_key(text.rstrip(". "))) if found is None else found


def labels_in(answer: str, vocabulary: Vocabulary | None = None) -> tuple[str, ...]:
    """Read an answer as a list of labels, each once, in the order of the answer.

    Labels of the vocabulary come back in its spelling; the list is cut so that as few words as possible stay unknown, which
    keeps a label with a comma whole. Unknown labels come back as written. "None" and an empty answer are no label.
    """
    pieces = [piece for piece in _CUT.split(answer.strip()) if piece]
    labels = _cut(pieces, vocabulary) if vocabulary else [_bare(piece) for piece in pieces]
    return tuple(dict.fromkeys(label for label in labels if label and _key(label) != _key(NONE)))


def annotate(
    answers: Iterable[tuple[float, float, str]], vocabulary: Vocabulary | None = None
) -> list[Annotation]:
    """Turn ``(start_s, end_s, answer)`` into one annotation per label."""
    return [
        Annotation(start_s, end_s, label)
        for start_s, end_s, answer in answers
        for label in labels_in(answer, vocabulary)
    ]


def merge_neighbours(annotations: Iterable[Annotation], gap_s: float = 0.0) -> list[Annotation]:
    """Join annotations of the same label that overlap, touch or lie at most ``gap_s`` seconds apart into events.

    An event spans its members in time and frequency and keeps their highest score. The order of the input does not matter;
    events come sorted by start, end and label, and merging them again changes nothing.

    Raises:
        ValueError: ``gap_s`` is negative.
    """
    if gap_s < 0:
        raise ValueError(f"gap_s is {gap_s}; expected 0 or more seconds")
    events: list[Annotation] = []
    last: dict[str, int] = {}
    for annotation in sorted(annotations, key=_order):
        place = last.get(annotation.label)
        if (
            place is not None
            and annotation.start_s <= events[place].end_s + gap_s + _SAME_INSTANT_S
        ):
            events[place] = _joined(events[place], annotation)
        else:
            last[annotation.label] = len(events)
            events.append(annotation)
    return sorted(events, key=_order)


def _joined(one: Annotation, other: Annotation) -> Annotation:
    return replace(
        one,
        end_s=max(one.end_s, other.end_s),
        low_hz=min(_known(one.low_hz, other.low_hz), default=None),
        high_hz=max(_known(one.high_hz, other.high_hz), default=None),
        score=max(_known(one.score, other.score), default=None),
    )


def _known(*values: float | None) -> list[float]:
    return [value for value in values if value is not None]


def _order(annotation: Annotation) -> tuple[float, float, str]:
    return annotation.start_s, annotation.end_s, annotation.label


def _key(text: str) -> str:
    return " ".join(", ".join(_CUT.split(text.strip())).split()).casefold()


def _bare(piece: str) -> str:
    return piece.rstrip(". ")


def _pieces(label: str) -> int:
    return len(_CUT.split(label.strip()))


def _cut(pieces: list[str], vocabulary: Vocabulary) -> list[str]:
    """Cut the pieces into labels with the fewest unknown ones, then the fewest labels (shortest path from the end)."""
    best: list[tuple[int, int, list[str]]] = [(0, 0, [])]
    for start in range(len(pieces) - 1, -1, -1):
        choices = []
        for length in range(1, min(vocabulary.longest, len(pieces) - start) + 1):
            text = ", ".join(pieces[start : start + length])
            label = vocabulary.spelling(text)
            if label is None and length > 1:
                continue
            unknown, count, rest = best[len(pieces) - start - length]
            choices.append((unknown + (label is None), count + 1, [label or _bare(text), *rest]))
        best.append(min(choices, key=lambda choice: choice[:2]))
    return best[-1][2]
