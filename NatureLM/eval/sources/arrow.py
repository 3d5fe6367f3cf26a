"""Folders written by `datasets.save_to_disk`, and the `datasets` cache: Arrow files, memory-mapped.

Needs pyarrow, not `datasets`. The surprise: those files are Arrow streams, though other tools write the file format under the
same suffix; both are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from NatureLM.errors import ManifestError, RecordingError
from NatureLM.eval.sources.columns import batch_audio, batch_rows, check_columns, require_pyarrow
from NatureLM.eval.sources.record import AUDIO_COLUMN, RawAudio, Row, Wanted


class ArrowSource:
    """Rows of a list of Arrow files."""

    def __init__(self, name: str, revision: str, files: Sequence[Path], root: Path) -> None:
        self.name = name
        self.revision = revision
        self._files = list(files)
        self._root = root

    def rows(self) -> Iterator[Row]:
        """Give every row without audio, in file order."""
        for rows, _ in self._batches():
            yield from rows

    def audio(self, wanted: Wanted) -> Iterator[tuple[Row, RawAudio | RecordingError]]:
        """Give the wanted rows with their audio; pages of other rows are never touched."""
        for rows, column in self._batches():
            for index, row in enumerate(rows):
                if wanted(row):
                    yield row, batch_audio(column, index, row, self._root)

    def _batches(self) -> Iterator[tuple[list[Row], Any]]:
        for path in self._files:
            first = 0
            with _opened(path) as batches:
                for batch in batches:
                    check_columns(batch.schema.names, str(path))
                    light = batch.drop_columns([AUDIO_COLUMN])
                    rows = list(batch_rows(light, str(path), first))
                    first += len(rows)
                    yield rows, batch.column(AUDIO_COLUMN)


def open_arrow(path: Path, files: Sequence[Path]) -> ArrowSource:
    """Open Arrow files; the revision is a hash of their names, sizes, times and the folder's own fingerprint."""
    require_pyarrow()
    digest = hashlib.sha256()
    root = path if path.is_dir() else path.parent
    for file in files:
        stat = file.stat()
        digest.update(f"{file.relative_to(root)}|{stat.st_size}|{stat.st_mtime_ns}|".encode())
        state = file.parent / "state.json"
        digest.update(state.read_bytes() if state.exists() else b"")
    return ArrowSource(str(path), f"sha256:{digest.hexdigest()[:16]}", files, root)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    with require_pyarrow().memory_map(str(path)) as memory:
        yield _batches_of(memory, path)


def _batches_of(memory: Any, path: Path) -> Any:
    arrow = require_pyarrow()
    import pyarrow.ipc

    try:
        return pyarrow.ipc.open_stream(memory)
    except arrow.ArrowInvalid:
        memory.seek(0)
    try:
        reader = pyarrow.ipc.open_file(memory)
    except arrow.ArrowInvalid as error:
        raise ManifestError(f"{path}: not a readable Arrow file ({error})") from error
    return (reader.get_batch(i) for i in range(reader.num_record_batches))
