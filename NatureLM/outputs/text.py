"""Text for people: the recording's name, under it the model card's line for every window.

Several questions are numbered (``Q1: ...`` once, then ``#0.00s - 10.00s# Q1: ...``). Made to be read; JSON lines keep more
(flags, model, log-probabilities). The surprise: a name that could be taken for something else, or could steer a terminal,
stands in JSON quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TextIO

from NatureLM.results import RecordingResult, WindowAnswer, join_pieces

_ANSWER = re.compile(r"#(\d+\.\d\d)s - (\d+\.\d\d)s#(?: Q(\d+))?: (.*)")
_LEGEND = re.compile(r"Q(\d+): (.*)")
_FAULT = re.compile(r"! ([^:]+): (.*)")
_OPTION = re.compile(r"  [01]\.\d{3}  ")
_MORE = "  > "
_NOT_A_NAME = re.compile(r'\s*$|["#!]|Q\d+: |  ')


class Text:
    """Results as lines for people."""

    def __init__(self) -> None:
        self._recording: str | None = None
        self._queries: dict[str, int] = {}
        self._numbered = False

    def begin(self) -> str:
        """Write nothing: the first name opens the text."""
        return ""

    def piece(self, result: RecordingResult) -> str:
        """Write the name when the recording is new, then its answers and fault."""
        lines = [*self._head(result), *(self._answer(answer) for answer in result.answers)]
        if result.error_code:
            lines.append(f"! {result.error_code}: {_shown(result.error or '')}\n")
        if not result.answers and not result.error_code:
            lines.append(f"! {', '.join(result.flags) or 'left out'}: not asked\n")
        return "".join(lines)

    def _head(self, result: RecordingResult) -> Iterator[str]:
        fresh = [a.query for a in result.answers if a.query not in self._queries]
        for query in dict.fromkeys(fresh):
            self._queries[query] = len(self._queries) + 1
        if fresh and len(self._queries) > 1:
            known = self._queries if not self._numbered else dict.fromkeys(fresh)
            yield "\n" * (self._recording is not None)
            yield from (f"Q{self._queries[query]}: {_shown(query)}\n" for query in known)
            self._numbered = True
            yield f"\n{_name(result.recording)}\n"
        elif result.recording != self._recording:
            yield "\n" * (self._recording is not None) + f"{_name(result.recording)}\n"
        self._recording = result.recording

    def _answer(self, answer: WindowAnswer) -> str:
        number = f" Q{self._queries[answer.query]}" if self._numbered else ""
        head = f"#{answer.start_s:.2f}s - {answer.end_s:.2f}s#{number}: "
        ranked = sorted(answer.options, key=lambda option: -option.probability)
        options = "".join(f"  {o.probability:.3f}  {_shown(o.option)}\n" for o in ranked)
        return f"{head}{_shown(answer.answer, newline=chr(10) + _MORE)}\n{options}"

    def read(self, stream: TextIO) -> Iterator[RecordingResult]:
        """Read names, times, answers and faults back; what text does not hold stays empty."""
        return join_pieces(_pieces(stream))


def _pieces(stream: TextIO) -> Iterator[RecordingResult]:
    queries: dict[str | None, str] = {}
    name = ""
    waiting: WindowAnswer | None = None
    for line in (raw[:-1] for raw in stream if raw.endswith("\n")):
        if waiting and line.startswith(_MORE):
            waiting = replace(waiting, answer=f"{waiting.answer}\n{line[len(_MORE) :]}")
            continue
        if waiting:
            yield RecordingResult(name, (waiting,), duration_s=waiting.end_s)
            waiting = None
        if found := _ANSWER.fullmatch(line):
            start_s, end_s, number, answer = found.groups()
            waiting = WindowAnswer(float(start_s), float(end_s), queries.get(number, ""), answer)
        elif fault := _FAULT.fullmatch(line):
            yield RecordingResult(name, error_code=fault[1], error=fault[2])
        elif legend := _LEGEND.fullmatch(line):
            queries[legend[1]] = legend[2]
        elif line.strip() and not _OPTION.match(line):
            name = json.loads(line) if line.startswith('"') else line
    if waiting:
        yield RecordingResult(name, (waiting,), duration_s=waiting.end_s)


def _name(recording: str) -> str:
    odd = _NOT_A_NAME.match(recording) or _shown(recording) != recording
    return json.dumps(recording) if odd else recording


def _shown(text: str, newline: str = "\\n") -> str:
    """Make control characters visible, so that text cannot steer a terminal."""
    return "".join(newline if c == "\n" else c if _harmless(c) else ascii(c)[1:-1] for c in text)


def _harmless(character: str) -> bool:
    return character.isprintable() or character == "\t" or "\udc80" <= character <= "\udcff"
