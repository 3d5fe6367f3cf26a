"""CSV for spreadsheets, R and pandas: the columns of ``results.ROW``, comma, quotes where needed, empty = nothing.

Flags are joined by ``;`` and the options of a closed question are one cell of JSON. A newline in a file name stays inside
its quotes. The surprise: a file name that is not UTF-8 keeps its own bytes, so read such a table with
``errors="surrogateescape"``.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from NatureLM.errors import FormatError
from NatureLM.results import ROW, RecordingResult, results_of

_NUMBERS = ("start_s", "end_s", "probability", "log_probability")
_BETWEEN_FLAGS = ";"
_QUOTE = '"'
_SPECIAL = re.compile(r'[",\r\n]')


class CsvTable:
    """Results as one table with a head."""

    def begin(self) -> str:
        """Write the names of the columns."""
        return _line(ROW)

    def piece(self, result: RecordingResult) -> str:
        """Write one line per row."""
        return "".join(_line([_cell(key, row[key]) for key in ROW]) for row in result.rows())

    def read(self, stream: TextIO) -> Iterator[RecordingResult]:
        """Read the table back.

        Raises:
            FormatError: A column is missing or a cell is not what its column holds.
        """
        return results_of(_rows(stream))


def _line(cells: Iterable[str]) -> str:
    return ",".join(map(_quoted, cells)) + "\n"


def _quoted(cell: str) -> str:
    plain = cell.replace("\0", "\ufffd")
    return f'"{plain.replace(_QUOTE, _QUOTE * 2)}"' if _SPECIAL.search(plain) else plain


def _cell(key: str, value: Any) -> str:
    if value is None or value == []:
        return ""
    if key == "flags":
        return _BETWEEN_FLAGS.join(value)
    if key == "options":
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)


def _rows(stream: TextIO) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(_whole_lines(stream))
    missing = [key for key in ROW if key not in (reader.fieldnames or ())]
    if missing:
        raise FormatError(f"the table has no column {missing[0]!r}; expected {','.join(ROW)}")
    for cells in reader:
        if None in cells.values():
            return
        try:
            yield _row(cells)
        except ValueError as error:
            raise FormatError(f"line {reader.line_num}: {error}") from error


def _whole_lines(stream: TextIO) -> Iterator[str]:
    """Leave out a last line that a crash cut short; a carriage return inside quotes ends no row."""
    held = ""
    for line in stream:
        if held:
            yield held
        held = line
    if held.endswith("\n"):
        yield held


def _row(cells: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {key: cells[key] or None for key in ROW}
    row |= {key: float(cells[key]) if cells[key] else None for key in _NUMBERS}
    row["flags"] = [flag for flag in cells["flags"].split(_BETWEEN_FLAGS) if flag]
    row["options"] = json.loads(cells["options"] or "[]")
    row |= {key: cells[key] for key in ("recording", "model", "revision")}
    if row["start_s"] is not None:
        row |= {"query": cells["query"], "answer": cells["answer"]}
    return row
