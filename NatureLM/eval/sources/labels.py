"""Labels of anyone's recordings: a folder a label, a CSV or TSV table, Raven selection tables.

Knows tables and paths, nothing of audio. The surprise: times decide what a table is; with them its rows are events and every window
is judged by what overlaps it, without them a label holds for the whole recording.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from NatureLM.audio.discovery import find_recordings
from NatureLM.errors import ManifestError

FOLDERS = "folders"
"""Said in place of a table: the folder that a recording lies in is its label."""

RECORDING_COLUMNS = (
    "recording", "file", "filename", "file_name", "path", "filepath", "file_path", "audio", "begin file", "begin path",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "species", "common_name", "common name", "scientific_name", "scientific name", "annotation", "class",
    "category", "caption", "output", "tags",
)  # fmt: skip
START_COLUMNS = ("start_s", "begin time (s)", "start", "onset", "begin", "start time (s)")
END_COLUMNS = ("end_s", "end time (s)", "end", "offset", "stop")
_RAVEN_NAME = re.compile(r"(\.Table\.\d+)?(\.selections?)?(\.Table\.\d+)?\.txt$", re.IGNORECASE)


@dataclass(frozen=True)
class Event:
    """A label of a recording.

    Attributes:
        label: As written.
        start_s: Start in seconds; ``None`` for the whole recording.
        end_s: End in seconds.
    """

    label: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Labels:
    """Labels of recordings.

    Attributes:
        events: Recording to what is labelled in it, in the order of the table.
        timed: Whether the labels have times.
        captions: Whether they are sentences.
    """

    events: Mapping[Path, tuple[Event, ...]]
    timed: bool = False
    captions: bool = False


def read_labels(root: Path, table: str, column: str | None = None) -> Labels:
    """Read the labels of the recordings below a folder.

    Args:
        root: Where the recordings are.
        table: ``folders``, a CSV or TSV, one Raven selection table, or a folder of them.
        column: The column with the labels; found by its name when left out.

    Raises:
        ManifestError: The table cannot be read, or names no recording that is there.
    """
    if not root.is_dir():
        raise ManifestError(f"{root}: no such folder")
    if table == FOLDERS:
        return _by_folder(root)
    path = Path(table)
    if not path.exists():
        raise ManifestError(f"{table}: no such table; expected a file, a folder, or 'folders'")
    tables = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
    if not tables:
        raise ManifestError(f"{table}: no Raven selection tables (*.txt) inside")
    return _of_tables(root, tables, column)


def _by_folder(root: Path) -> Labels:
    events: dict[Path, tuple[Event, ...]] = {}
    for path in find_recordings([root]):
        label = path.parent.name if path.parent != root else ""
        if label:
            events[path] = (Event(label.replace("_", " ")),)
    if not events:
        raise ManifestError(f"{root}: no recordings in folders; expected LABEL/recording.wav")
    return Labels(events)


def _of_tables(root: Path, tables: Sequence[Path], column: str | None) -> Labels:
    found: dict[Path, list[Event]] = {}
    finder, timed, captions = _Finder(root), False, False
    for table in tables:
        rows = _rows(table)
        reader = _Columns(table, rows[0] if rows else {}, column)
        timed, captions = timed or reader.timed, captions or reader.label == "caption"
        by_name = reader.recording is None and table.suffix.casefold() == ".txt"
        fallback = finder.of_raven(table) if by_name else None
        if fallback is not None:
            found.setdefault(fallback, [])
        for number, row in enumerate(rows, 2):
            where = f"{table}:{number}"
            path = fallback or finder.find(reader.recording_of(row, where), where)
            events = found.setdefault(path, [])
            events += [event for event in reader.events(row, where) if event not in events]
    if not found:
        raise ManifestError(f"{tables[0]}: no rows")
    return Labels({path: tuple(events) for path, events in found.items()}, timed, captions)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{table}: cannot be read as UTF-8 text ({error})") from error
    first = text.partition("\n")[0]
    separator = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    return [
        {(k or "").strip().casefold(): (v or "") for k, v in row.items() if k} for row in reader
    ]


class _Columns:
    """Which columns of a table say what."""

    def __init__(self, table: Path, row: Mapping[str, str], label: str | None) -> None:
        self.recording = _first(row, RECORDING_COLUMNS)
        self.start, self.end = _first(row, START_COLUMNS), _first(row, END_COLUMNS)
        self.timed = self.start is not None and self.end is not None
        chosen = label.casefold() if label else _first(row, LABEL_COLUMNS)
        if row and (chosen is None or chosen not in row):
            wanted = f"no column {label!r}" if label else "no column with labels"
            raise ManifestError(
                f"{table}: {wanted} (found {', '.join(row)}); name it by --label-column"
            )
        self.label = chosen or ""

    def recording_of(self, row: Mapping[str, str], where: str) -> str:
        name = row.get(self.recording or "", "")
        if not name:
            raise ManifestError(
                f"{where}: no recording; expected a column such as {', '.join(RECORDING_COLUMNS[:4])}"
            )
        return name

    def events(self, row: Mapping[str, str], where: str) -> Iterator[Event]:
        text = row[self.label].strip()
        start_s, end_s = (self._time(row, c, where) for c in (self.start, self.end))
        labels = [text] if self.label == "caption" else re.split(r"\s*[;|]\s*", text)
        for label in labels:
            if label:
                yield Event(label, start_s, end_s)

    def _time(self, row: Mapping[str, str], column: str | None, where: str) -> float | None:
        if not self.timed or column is None:
            return None
        try:
            time_s = float(row[column])
        except ValueError as error:
            raise ManifestError(
                f"{where}: {column} is {row[column]!r}; expected seconds"
            ) from error
        if not math.isfinite(time_s) or time_s < 0:
            raise ManifestError(f"{where}: {column} is {row[column]!r}; expected 0 or more seconds")
        return time_s


def _first(row: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((name for name in names if name in row), None)


class _Finder:
    """Finds recordings by what tables call them: a path below the root, or a name that only one recording has."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for path in find_recordings([root]):
            self._by_name.setdefault(path.name, []).append(path)
            self._by_stem.setdefault(path.stem, []).append(path)

    def find(self, name: str, where: str) -> Path:
        direct = self._root / name
        if direct.is_file():
            return direct
        short = re.split(r"[/\\]", name)[-1]
        found = self._by_name.get(short) or self._by_stem.get(short) or []
        if len(found) != 1:
            why = "no such recording" if not found else f"{len(found)} recordings have this name"
            raise ManifestError(f"{where}: {name}: {why} below {self._root}")
        return found[0]

    def of_raven(self, table: Path) -> Path:
        """Find the recording that a selection table is named after."""
        stem = _RAVEN_NAME.sub("", table.name)
        return self.find(stem, str(table))
