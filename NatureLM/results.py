"""What comes out: one answer per window, one result per recording, and both as flat rows.

Knows nothing of models or files. The text form is the model card's ``#0.00s - 10.00s#: Green Treefrog`` line. The surprise:
a result may be one piece of a recording; pieces that follow each other under one name are joined by ``join_pieces``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

ROW = (
    "recording",
    "start_s",
    "end_s",
    "query",
    "answer",
    "probability",
    "log_probability",
    "options",
    "flags",
    "error_code",
    "error",
    "model",
    "revision",
)
"""The keys of a row, in the order of the columns."""


@dataclass(frozen=True)
class OptionScore:
    """One option of a closed question.

    Attributes:
        option: The label as offered.
        probability: Normalised over the options, in [0, 1]; what labels owe to their wording alone is taken off.
        log_probability: Raw log-probability of the option's tokens under the model.
    """

    option: str
    probability: float
    log_probability: float


@dataclass(frozen=True)
class WindowAnswer:
    """The answer to one query for one window.

    Attributes:
        start_s: Start of the window in seconds from the start of the recording.
        end_s: True end in seconds, never past the end of the recording.
        query: The user's question.
        answer: The generated text.
        flags: Short codes that qualify the answer, such as ``silent``.
        log_probability: Sum of the answer tokens' log-probabilities, if asked for.
        options: Scores of the options of a closed question, if asked for.
    """

    start_s: float
    end_s: float
    query: str
    answer: str
    flags: tuple[str, ...] = ()
    log_probability: float | None = None
    options: tuple[OptionScore, ...] = ()

    @property
    def probability(self) -> float | None:
        """Probability of the answer among the options of a closed question, else ``None``."""
        return next((o.probability for o in self.options if o.option == self.answer), None)

    def as_text(self) -> str:
        """Write the model card's line, ended by a newline."""
        return f"#{self.start_s:.2f}s - {self.end_s:.2f}s#: {self.answer}\n"


@dataclass(frozen=True)
class RecordingResult:
    """Everything known about one recording after the job.

    Attributes:
        recording: The path as the user gave it, or a name for an array.
        answers: Answers in order of start and query.
        duration_s: Length of what could be decoded, in seconds.
        flags: Codes that hold for the whole recording, such as ``truncated``.
        error_code: Short code when the recording could not be read, else ``None``.
        error: The message that goes with the code.
        model: Name of the model that answered.
        revision: Revision of its weights.
        metadata: What else is known about the recording; not part of the rows.
    """

    recording: str
    answers: tuple[WindowAnswer, ...] = ()
    duration_s: float = 0.0
    flags: tuple[str, ...] = ()
    error_code: str | None = None
    error: str | None = None
    model: str = ""
    revision: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def as_text(self) -> str:
        """Write the card's lines, one a window."""
        return "".join(answer.as_text() for answer in self.answers)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one flat row per answer, then one with the error; one bare row when there is neither."""
        for answer in self.answers:
            yield self._row(answer)
        if self.error_code or not self.answers:
            yield self._row(None)

    def _row(self, answer: WindowAnswer | None) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(ROW)
        row |= {"recording": self.recording, "model": self.model, "revision": self.revision}
        row["flags"] = list(dict.fromkeys(self.flags + (answer.flags if answer else ())))
        row["options"] = [_option_row(option) for option in answer.options] if answer else []
        if answer is None:
            return row | {"error_code": self.error_code, "error": self.error}
        row |= {key: getattr(answer, key) for key in ("start_s", "end_s", "query", "answer")}
        row["probability"] = answer.probability
        row["log_probability"] = _finite(answer.log_probability)
        return row


def _option_row(option: OptionScore) -> dict[str, Any]:
    return {
        "option": option.option,
        "probability": option.probability,
        "log_probability": _finite(option.log_probability),
    }


def _finite(value: float | None) -> float | None:
    """Leave out what JSON and most table readers have no word for."""
    return value if value is not None and math.isfinite(value) else None


def join_pieces(pieces: Iterable[RecordingResult]) -> Iterator[RecordingResult]:
    """Join consecutive pieces of one recording into its whole result; a fault ends a recording."""
    parts: list[RecordingResult] = []
    for piece in pieces:
        if parts and (piece.recording != parts[-1].recording or parts[-1].error_code):
            yield joined(parts)
            parts = []
        parts.append(piece)
    if parts:
        yield joined(parts)


def joined(parts: Sequence[RecordingResult]) -> RecordingResult:
    """Make one result of the pieces of one recording; the last one tells how it ended."""
    answers = tuple(answer for part in parts for answer in part.answers)
    flags = tuple(dict.fromkeys(flag for part in parts for flag in part.flags))
    return replace(parts[-1], answers=answers, flags=flags)


def results_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[RecordingResult]:
    """Read rows back as results: consecutive rows of one recording become one result, its flags with the answers."""
    return join_pieces(map(_piece, rows))


def _piece(row: Mapping[str, Any]) -> RecordingResult:
    flags = tuple(row["flags"])
    answers: tuple[WindowAnswer, ...] = ()
    if row["start_s"] is not None:
        options = tuple(_option(option) for option in row["options"])
        window = {k: row[k] for k in ("start_s", "end_s", "query", "answer", "log_probability")}
        answers = (WindowAnswer(**window, flags=flags, options=options),)
        flags = ()
    return RecordingResult(
        recording=row["recording"],
        answers=answers,
        duration_s=answers[0].end_s if answers else 0.0,
        flags=flags,
        error_code=row["error_code"],
        error=row["error"],
        model=row["model"],
        revision=row["revision"],
    )


def _option(row: Mapping[str, Any]) -> OptionScore:
    known = row["log_probability"]
    return OptionScore(row["option"], row["probability"], -math.inf if known is None else known)
