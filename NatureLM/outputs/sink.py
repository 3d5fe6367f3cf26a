"""Where rows go: a new file or the standard output, whole pieces at a time.

Knows bytes, not results. A piece is either in the file or it is not: when the disk is full, the part of the piece that was
written is taken back. The surprise: text is UTF-8 except for file names that are not, whose own bytes are kept
(``surrogateescape``).
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from types import TracebackType

from NatureLM.errors import StoreError


class Sink:
    """Append whole pieces to an open file descriptor.

    Args:
        descriptor: An open, blocking descriptor.
        name: What to call it in messages.
        owned: Close the descriptor at the end.
    """

    def __init__(self, descriptor: int, name: str, *, owned: bool) -> None:
        self._descriptor, self._name, self._owned = descriptor, name, owned
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    def append(self, text: str) -> None:
        """Write the piece; on return the operating system has all of it.

        Raises:
            StoreError: The piece could not be stored; none of it is in a regular file.
            BrokenPipeError: Nobody reads the pipe any more.
        """
        rest = memoryview(encode(text))
        start = os.lseek(self._descriptor, 0, os.SEEK_CUR) if self._regular else 0
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except BrokenPipeError:
            raise
        except OSError as error:
            self._take_back(start)
            raise _not_stored(self._name, error) from error

    def close(self) -> None:
        """Close the file, which may be when a network disk says that it is full."""
        if self._owned and self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.close(descriptor)
            except OSError as error:
                raise _not_stored(self._name, error) from error

    def _take_back(self, start: int) -> None:
        if self._regular:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
                os.lseek(self._descriptor, start, os.SEEK_SET)

    def __enter__(self) -> Sink:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_sink(path: str | Path, *, force: bool = False) -> Sink:
    """Open a new file for results.

    Args:
        path: The file; its folder must be there.
        force: Replace a file that is already there.

    Raises:
        StoreError: The file exists and ``force`` is not set, or it cannot be made.
    """
    check_place(path, force=force)
    flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | (os.O_TRUNC if force else os.O_EXCL), 0o666)
    except OSError as error:
        raise _not_stored(str(path), error) from error
    return Sink(descriptor, str(path), owned=True)


def check_place(path: str | Path, *, force: bool = False) -> None:
    """Refuse, before any work, a place where results cannot go.

    Raises:
        StoreError: The file exists and ``force`` is not set, is a folder, or its folder is not there.
    """
    place = Path(path)
    if place.is_dir():
        raise StoreError(f"{place}: is a folder; name a file for the results")
    if not place.parent.is_dir():
        raise StoreError(f"{place.parent}: no such folder; make it first")
    if place.exists() and not force:
        raise StoreError(f"{place}: exists already; pass --force to replace it")


def encode(text: str) -> bytes:
    """Write text as UTF-8, and file names that are not UTF-8 as the bytes they are."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _not_stored(name: str, error: OSError) -> StoreError:
    return StoreError(f"{name}: results could not be stored: {error.strerror or error}")
