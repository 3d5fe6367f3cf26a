r"""JSON lines: one object per answer or fault, the richest of the formats.

Every line is valid UTF-8 by itself; a file name that is not UTF-8 is written with ``\udcXX`` escapes, which
``os.fsencode`` turns back into its bytes after ``json.loads``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from NatureLM.errors import FormatError
from NatureLM.results import ROW, RecordingResult, results_of

_NEEDED = {"recording", "start_s", "answer"}
_BLANK: dict[str, Any] = {"flags": [], "options": [], "model": "", "revision": ""}


class JsonLines:
    """Results as JSON lines with the keys of ``results.ROW``."""

    def begin(self) -> str:
        """Write nothing: every line names its keys."""
        return ""

    def piece(self, result: RecordingResult) -> str:
        """Write one line per row."""
        return "".join(f"{_line(row)}\n" for row in result.rows())

    def read(self, stream: TextIO) -> Iterator[RecordingResult]:
        """Read the lines back.

        Raises:
            FormatError: A complete line is not one of ours.
        """
        return results_of(_rows(stream))


def _line(row: dict[str, Any]) -> str:
    line = json.dumps(row, ensure_ascii=False, allow_nan=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(row, allow_nan=False)
    return line


def _rows(stream: TextIO) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(stream, 1):
        if not line.endswith("\n"):
            return
        yield dict.fromkeys(ROW) | _BLANK | _row(number, line)


def _row(number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise FormatError(f"line {number}: {error}; expected one JSON object a line") from error
    if not isinstance(row, dict) or not row.keys() >= _NEEDED:
        raise FormatError(f"line {number}: expected the keys {', '.join(sorted(_NEEDED))}")
    return row
