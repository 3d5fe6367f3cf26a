"""Rows of a prediction file, and the reader that takes them from CSV or JSON lines.

Knows the columns that the official tool reads and three optional ones; knows no metric. It keeps "None", empty and numeric cells
as the text that they are, splits JSON lines on the newline only, and reports a bad row instead of stopping.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from NatureLM.errors import FormatError
from NatureLM.scoring.official_reader import NOTHING, is_numeric, official_type, reads_as_number

REQUIRED = ("prediction", "label", "dataset_name")


@dataclass(frozen=True)
class PredictionRow:
    """One prediction beside its reference.

    Attributes:
        number: Row in the file, counted from 1: the line of JSON lines, the record after the header of a CSV.
        dataset: Name of the component.
        prediction: The model's text; ``None`` when the model failed on this row.
        label: The reference; several labels are joined by ", ".
        id: The row's own name, if it has one.
        recording: Name of the recording that the row was cut from, for intervals; the id when not given.
        scores: Score of each label, when the model gave them.
        confidence: Probability that the model gives its own answer, in [0, 1].
    """

    number: int
    dataset: str
    prediction: str | None
    label: str
    id: str = ""
    recording: str = ""
    scores: Mapping[str, float] | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class RowFault:
    """A row that could not be used as it stands.

    Attributes:
        row: Row in the file, counted from 1.
        column: The column at fault, or "" for the whole row.
        message: What was found, what was expected.
        dataset: Name of the component, when it could be read.
    """

    row: int
    column: str
    message: str
    dataset: str = ""

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", {self.column}" if self.column else "")
        return f"{where}: {self.message}"


@dataclass(frozen=True)
class PredictionFile:
    """What a prediction file holds.

    Attributes:
        rows: Rows in file order; a row whose prediction is missing is here with ``prediction=None``.
        faults: Rows that could not be used, in file order.
        official_stop: What stops the official tool on this file, such as ``AttributeError: ...``, or ``None``.
        name: The file as the user gave it.
    """

    rows: tuple[PredictionRow, ...]
    faults: tuple[RowFault, ...] = ()
    official_stop: str | None = None
    name: str = ""


@dataclass
class _Reading:
    rows: list[PredictionRow] = field(default_factory=list)
    faults: list[RowFault] = field(default_factory=list)
    number: str = ""  # kind of the first prediction that is a JSON number


def read_predictions(path: str | Path) -> PredictionFile:
    """Read predictions as the official tool does, without its crashes.

    Args:
        path: ``.csv`` or JSON lines with the columns ``prediction``, ``label`` and ``dataset_name``; ``id``, ``recording``,
            ``scores`` (label to score) and ``confidence`` are used when they are there, everything else is ignored.

    Raises:
        FormatError: The file cannot be opened, is empty, or lacks a column.
    """
    source = Path(path)
    try:
        content = source.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror or error})") from error
    is_csv = source.suffix.lower() == ".csv"
    reading, found = _Reading(), (_csv_rows if is_csv else _json_rows)
    missing = set(REQUIRED)
    for number, values in found(content, reading.faults):
        missing -= values.keys()
        _take(number, values, reading)
    if not reading.rows and not reading.faults:
        raise FormatError(f"{path}: holds no rows; expected columns {', '.join(REQUIRED)}")
    if missing and (is_csv or not reading.rows):
        raise FormatError(_lacks(path, missing, reading.faults))
    texts = [row.prediction for row in reading.rows]
    kind = official_type(texts, is_csv=is_csv) or reading.number
    stop = f"AttributeError: '{kind}' object has no attribute 'split'" if kind else None
    unread = next((row for row in reading.rows if is_csv and row.label in NOTHING), None)
    if unread and not stop:
        stop = f"a missing value in place of the label {_show(unread.label)} (row {unread.number})"
    if stop and is_numeric(texts, is_csv=is_csv):
        reading.faults += _numeric_faults(reading.rows, stop)
    faults = sorted(reading.faults, key=lambda fault: fault.row)
    return PredictionFile(tuple(reading.rows), tuple(faults), stop, str(path))


def _numeric_faults(rows: list[PredictionRow], stop: str) -> Iterator[RowFault]:
    """Name the rows of a column of numbers, which the official tool cannot take although we can."""
    for row in rows:
        if row.prediction is not None and reads_as_number(row.prediction):
            message = f"{_show(row.prediction)} is kept as text; the official tool reads a number and stops ({stop})"
            yield RowFault(row.number, "prediction", message, row.dataset)


def _lacks(path: str | Path, missing: set[str], faults: list[RowFault]) -> str:
    columns = ", ".join(column for column in REQUIRED if column in missing)
    first = f"; first fault: {faults[0]}" if faults else ""
    return f"{path}: no usable row; column(s) {columns} are missing{first}"


def _json_rows(content: bytes, faults: list[RowFault]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            faults.append(RowFault(number, "", f"not UTF-8 at byte {error.start}"))
        except ValueError as error:
            faults.append(RowFault(number, "", f"not JSON ({error})"))
        else:
            if isinstance(values, dict):
                yield number, values
            else:
                kind = type(values).__name__
                faults.append(RowFault(number, "", f"a JSON {kind}; expected one object a line"))


def _csv_rows(content: bytes, faults: list[RowFault]) -> Iterator[tuple[int, dict[str, Any]]]:
    text = content.decode("utf-8-sig", errors="replace")
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    missing = [column for column in REQUIRED if column not in header]
    if missing and header:
        raise FormatError(
            f"column(s) {', '.join(missing)} are missing; found {', '.join(header)}; "
            f"expected {', '.join(REQUIRED)}"
        )
    number = 0
    for cells in reader:
        if not cells:
            continue
        number += 1
        if len(cells) != len(header):
            message = f"{len(cells)} cells; the header has {len(header)}"
            faults.append(RowFault(number, "", message))
            continue
        yield number, dict(zip(header, cells, strict=True))


def _take(number: int, values: dict[str, Any], reading: _Reading) -> None:
    """Turn the values of a row into a record, or into a fault."""
    dataset = values.get("dataset_name")
    name = dataset if isinstance(dataset, str) else ""

    def fault(column: str, message: str) -> None:
        reading.faults.append(RowFault(number, column, message, name))

    if not name:
        fault("dataset_name", f"{_show(dataset)}; expected the name of a component")
        return
    label = _label(values.get("label"))
    if label is None:
        fault("label", f"{_show(values.get('label'))}; expected text")
        return
    prediction = _text(values.get("prediction"))
    if prediction is not None and not isinstance(values["prediction"], str):
        reading.number = reading.number or type(values["prediction"]).__name__
    if prediction is None:
        fault("prediction", f"{_show(values.get('prediction'))}; expected text")
    row_id = _text(values.get("id")) or ""
    recording = _text(values.get("recording")) or _text(values.get("recording_id")) or row_id
    reading.rows.append(
        PredictionRow(
            number, name, prediction, label, row_id, recording,
            _scores(values.get("scores"), fault), _confidence(values.get("confidence"), fault),
        )
    )  # fmt: skip


def _show(value: Any) -> str:
    if value is None:
        return "null or missing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, int | float) else None


def _label(value: Any) -> str | None:
    if isinstance(value, list):
        parts = [_text(part) for part in value]
        return None if None in parts else ", ".join(part for part in parts if part) or "None"
    return _text(value)


def _scores(value: Any, fault: Callable[[str, str], None]) -> dict[str, float] | None:
    found = _decoded(value)
    if found is None:
        return None
    if not isinstance(found, dict) or not all(_is_number(number) for number in found.values()):
        fault("scores", f"{_show(value)}; expected an object of label to finite number")
        return None
    return {str(label): float(number) for label, number in found.items()}


def _confidence(value: Any, fault: Callable[[str, str], None]) -> float | None:
    found = _decoded(value)
    if found is None:
        return None
    if not _is_number(found) or not 0 <= found <= 1:
        fault("confidence", f"{_show(value)}; expected a probability from 0 to 1")
        return None
    return float(found)


def _decoded(value: Any) -> Any:
    """Read a CSV cell that holds JSON; an empty cell holds nothing."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
