"""What comes out: one answer per window, one result per recording.

Knows nothing of models or files. The text form is the model card's ``#0.00s - 10.00s#: Green Treefrog`` line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class OptionScore:
    """One option of a closed question.

    Attributes:
        option: The label as offered.
        probability: Normalised over the options, the no-audio prior removed, in [0, 1].
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
        """Yield one flat row per answer; one row with the error when there are none."""
        for answer in self.answers:
            yield self._row(answer)
        if not self.answers:
            yield self._row(None)

    def _row(self, answer: WindowAnswer | None) -> dict[str, Any]:
        flags = self.flags + (answer.flags if answer else ())
        return {
            "recording": self.recording,
            "start_s": answer.start_s if answer else None,
            "end_s": answer.end_s if answer else None,
            "query": answer.query if answer else None,
            "answer": answer.answer if answer else None,
            "flags": list(dict.fromkeys(flags)),
            "error_code": self.error_code,
            "error": self.error,
            "model": self.model,
            "revision": self.revision,
        }
