"""Parquet shards, on disk or behind any file object.

Light columns and audio are read row group by row group, audio in small batches, so memory stays bounded however large a
shard is. The surprise: a row group without a wanted row costs nothing but its light columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from NatureLM.errors import ManifestError, RecordingError
from NatureLM.eval.sources.columns import batch_audio, batch_rows, check_columns, require_pyarrow
from NatureLM.eval.sources.record import AUDIO_COLUMN, RawAudio, Row, Wanted

AUDIO_BATCH_ROWS = 16


@dataclass(frozen=True)
class Shard:
    """One parquet file.

    Attributes:
        name: For messages.
        open: Gives a fresh readable, seekable file object; of Python's kind or Arrow's.
    """

    name: str
    open: Callable[[], Any]


class ParquetSource:
    """Rows of a list of parquet shards."""

    def __init__(self, name: str, revision: str, shards: Sequence[Shard], root: Path) -> None:
        self.name = name
        self.revision = revision
        self._shards = list(shards)
        self._root = root

    def rows(self) -> Iterator[Row]:
        """Give every row without audio, in shard order."""
        for shard in self._shards:
            with _opened(shard) as file:
                for _, rows in _light_groups(file, shard.name):
                    yield from rows

    def audio(self, wanted: Wanted) -> Iterator[tuple[Row, RawAudio | RecordingError]]:
        """Give the wanted rows with their audio; row groups without one are not read."""
        for shard in self._shards:
            with _opened(shard) as file:
                for group, rows in _light_groups(file, shard.name):
                    chosen = {i: row for i, row in enumerate(rows) if wanted(row)}
                    if chosen:
                        yield from self._group_audio(file, group, chosen)

    def _group_audio(
        self, file: Any, group: int, chosen: dict[int, Row]
    ) -> Iterator[tuple[Row, RawAudio | RecordingError]]:
        first, last = 0, max(chosen)
        for batch in file.iter_batches(
            AUDIO_BATCH_ROWS, row_groups=[group], columns=[AUDIO_COLUMN]
        ):
            column = batch.column(0)
            for index in range(len(column)):
                row = chosen.get(first + index)
                if row is not None:
                    yield row, batch_audio(column, index, row, self._root)
            first += len(column)
            if first > last:
                return


def open_parquet(path: Path, files: Sequence[Path]) -> ParquetSource:
    """Open parquet files on disk; the revision is a hash of their names, sizes and footers."""
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in files:
        digest.update(f"{file.relative_to(root)}|{file.stat().st_size}|".encode())
        digest.update(_footer(file))
    arrow = require_pyarrow()
    shards = [Shard(str(file), lambda file=file: arrow.memory_map(str(file))) for file in files]  # type: ignore[misc]
    return ParquetSource(str(path), f"sha256:{digest.hexdigest()[:16]}", shards, root)


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(0, size - 8 - length))
        return file.read()


@contextmanager
def _opened(shard: Shard) -> Iterator[Any]:
    arrow = require_pyarrow()
    import pyarrow.parquet

    with shard.open() as handle:
        try:
            file = pyarrow.parquet.ParquetFile(handle)
        except arrow.ArrowException as error:
            raise ManifestError(f"{shard.name}: not a readable parquet file ({error})") from error
        check_columns(list(file.schema_arrow.names), shard.name)
        yield file


def _light_groups(file: Any, name: str) -> Iterator[tuple[int, list[Row]]]:
    light = [column for column in file.schema_arrow.names if column != AUDIO_COLUMN]
    first = 0
    for group in range(file.num_row_groups):
        rows = list(batch_rows(file.read_row_group(group, columns=light), name, first))
        first += len(rows)
        yield group, rows
