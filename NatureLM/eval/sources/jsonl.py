"""JSONL tables with paths to recordings: one object a line, the columns of the published table, audio beside the file.

Knows nothing of audio formats. Lines are split at line feeds only: U+2028 inside a string is legal JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from NatureLM.errors import ManifestError, RecordingError
from NatureLM.eval.sources.columns import rate_of
from NatureLM.eval.sources.record import AUDIO_COLUMN, RawAudio, Row, Wanted, audio_cell

PATH_COLUMNS = (
    "audio_path_original_sample_rate",
    "audio_path",
    "audio_path_32KHz",
    "audio_path_16KHz",
    "path",
)
"""Where the recording's path may stand, the original rate first."""


class JsonlSource:
    """Rows of a list of JSONL files; recordings are found relative to the file."""

    def __init__(self, name: str, revision: str, files: Sequence[Path]) -> None:
        self.name = name
        self.revision = revision
        self._files = list(files)

    def rows(self) -> Iterator[Row]:
        """Give every row without audio, in file order."""
        for row, _, _ in self._lines():
            yield row

    def audio(self, wanted: Wanted) -> Iterator[tuple[Row, RawAudio | RecordingError]]:
        """Give the wanted rows with their audio."""
        for row, cell, root in self._lines():
            if not wanted(row):
                continue
            try:
                yield row, audio_cell(cell, rate_of(row.columns), root, row.where)
            except RecordingError as error:
                yield row, error

    def _lines(self) -> Iterator[tuple[Row, Any, Path]]:
        for path in self._files:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        columns = _parse(line, f"{path}:{number}")
                        cell = _cell(columns)
                        yield Row(columns, f"{path}:{number}"), cell, path.parent


def open_jsonl(path: Path, files: Sequence[Path]) -> JsonlSource:
    """Open JSONL tables; the revision is a hash of their content."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return JsonlSource(str(path), f"sha256:{digest.hexdigest()[:16]}", files)


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        columns = json.loads(line)
    except ValueError as error:
        raise ManifestError(f"{where}: not JSON ({error})") from error
    if not isinstance(columns, dict):
        raise ManifestError(f"{where}: expected an object, found {type(columns).__name__}")
    return columns


def _cell(columns: dict[str, Any]) -> Any:
    cell = columns.pop(AUDIO_COLUMN, None)
    paths = (columns.get(name) for name in PATH_COLUMNS)
    return cell if cell is not None else next((path for path in paths if path), None)
