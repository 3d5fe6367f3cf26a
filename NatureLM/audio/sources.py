"""Where bytes come from: a path, bytes or a file object, each opened as often as wanted.

Knows nothing of audio. The surprise: decoders get an open file, never a name, so that no name can be taken for an option, a
pattern or an address.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from NatureLM.errors import RecordingError


class ByteSource(Protocol):
    """Bytes that can be opened again and again."""

    name: str
    size: int
    suffix: str

    def open(self) -> BinaryIO:
        """Return a new binary file at its start."""
        ...


class PathSource:
    """A file on disk.

    Raises:
        RecordingError: ``missing``, ``no_permission`` or ``not_a_file``.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = os.fspath(path)
        self.suffix = Path(path).suffix.lower()
        self._path = Path.cwd() / path
        try:
            status = self._path.stat()
        except OSError as error:
            raise _path_error(self.name, error) from error
        except ValueError as error:
            raise RecordingError(
                f"{self.name!r}: no path can look like this ({error}).", "missing"
            ) from error
        if stat.S_ISDIR(status.st_mode) and not os.access(self._path, os.R_OK | os.X_OK):
            raise RecordingError(
                f"{self.name}: no permission to look into this folder.", "no_permission"
            )
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
            raise RecordingError(f"{self.name}: {what}; expected a file.", "not_a_file")
        self.size = status.st_size

    def open(self) -> BinaryIO:
        """Return a new binary file at its start."""
        try:
            return self._path.open("rb")
        except OSError as error:
            raise _path_error(self.name, error) from error


def _path_error(name: str, error: OSError) -> RecordingError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RecordingError(f"{name}: there is no such file.", "missing")
    if isinstance(error, PermissionError):
        return RecordingError(f"{name}: no permission to read it.", "no_permission")
    return RecordingError(f"{name}: {error.strerror or error}.", "unreadable")


class MemorySource:
    """Bytes in memory."""

    def __init__(self, data: bytes, name: str = "<bytes>") -> None:
        self.name, self.size, self.suffix = name, len(data), ""
        self._data = data

    def open(self) -> BinaryIO:
        """Return a new binary file at its start."""
        return io.BytesIO(self._data)


class FileSource:
    """A binary file that someone else has opened; what cannot be rewound is copied to a temporary file first."""

    def __init__(self, file: Any) -> None:
        name = getattr(file, "name", None)
        self.name = name if isinstance(name, str) else "<file>"
        self.suffix = Path(self.name).suffix.lower()
        if not _can_seek(file):
            file = _spooled(file)
            weakref.finalize(self, file.close)
        self._file, self._lock = file, threading.Lock()
        self.size = file.seek(0, os.SEEK_END)

    def open(self) -> BinaryIO:
        """Return a new binary file at its start, with a position of its own."""
        return io.BufferedReader(_View(self._file, self._lock, self.size))


def _can_seek(file: Any) -> bool:
    return bool(getattr(file, "seekable", lambda: hasattr(file, "seek"))())


def _spooled(file: Any) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its source
    shutil.copyfileobj(file, copy, 1 << 20)
    return copy


class _View(io.RawIOBase):
    def __init__(self, file: Any, lock: threading.Lock, size: int) -> None:
        self._file, self._lock, self._size, self._at = file, lock, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        with self._lock:
            self._file.seek(self._at)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
