"""Recordings found: files, folders searched through, patterns; always in the same order, each once.

Looks at names and folders, never into files: a file that is named is taken whatever its suffix. The surprise: what leads nowhere
is given out all the same, so that it gets its row and the others go on; only when nothing leads anywhere is it an error.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from NatureLM.audio.sniff import SUFFIXES
from NatureLM.errors import RecordingError


@dataclass
class Search:
    """What a search passed over.

    Attributes:
        hidden: Files and folders whose name starts with a dot, such as the ``._x.wav`` that macOS leaves on memory cards.
        other: Files in folders whose suffix is none of a recording.
        repeated: Files that had been found before, under this name or through a link.
        seen: The files found, without links.
    """

    hidden: int = 0
    other: int = 0
    repeated: int = 0
    seen: set[str] = field(default_factory=set, repr=False)


def find_recordings(
    sources: Iterable[str | os.PathLike[str]], search: Search | None = None
) -> Iterator[Path]:
    """Find recordings, in the order of the sources and within a folder in the order of names.

    Args:
        sources: Files, taken whatever their suffix; folders, searched through for suffixes of any case; patterns such as
            ``site*/**/*.wav``. The name of a file or folder that is there is never taken for a pattern.
        search: Counts what is passed over.

    Raises:
        RecordingError: No source leads to a recording: ``missing``, ``no_permission`` or ``no_recordings``.
    """
    search = search or Search()
    faulty: list[tuple[Path, RecordingError]] = []
    found = False
    for source in sources:
        path = Path(source)
        nothing, repeated = True, search.repeated
        for recording in _of_source(path, search):
            yield from (place for place, _ in faulty)
            faulty.clear()
            nothing, found = False, True
            yield recording
        if nothing and search.repeated == repeated:
            if found:
                yield path
            else:
                faulty.append((path, _fault(path)))
    if not found and faulty:
        raise faulty[0][1]


def read_paths(stream: IO[Any]) -> list[str]:
    """Read paths from a stream, separated by NUL if there is one in it, else by line ends.

    Args:
        stream: Text or binary; a binary one may hold names in any encoding.
    """
    content = stream.read()
    text = os.fsdecode(content) if isinstance(content, bytes) else str(content)
    if "\0" in text:
        return [name for name in text.split("\0") if name]
    return [name for line in text.split("\n") if (name := line.removesuffix("\r"))]


def _of_source(path: Path, search: Search) -> Iterator[Path]:
    if os.path.isdir(path):  # noqa: PTH112 - no error where a folder above is closed
        if os.access(path, os.R_OK | os.X_OK):
            yield from _folder(path, search)
    elif os.path.lexists(path):
        yield from _once(path, search)
    elif glob.has_magic(os.fspath(path)):
        yield from _pattern(path, search)


def _fault(path: Path) -> RecordingError:
    """Say why a source led nowhere."""
    if os.path.isdir(path):  # noqa: PTH112
        if not os.access(path, os.R_OK | os.X_OK):
            return RecordingError(
                f"{path}: no permission to look into this folder.", "no_permission"
            )
        return RecordingError(f"{path}: no recordings in this folder or below it.", "no_recordings")
    if glob.has_magic(os.fspath(path)):
        return RecordingError(f"{path}: no recording fits this pattern.", "no_recordings")
    return RecordingError(f"{path}: there is no such file or folder.", "missing")


def _once(path: Path, search: Search) -> Iterator[Path]:
    """Yield a file unless it was found before, also through a link."""
    key = os.path.realpath(path)
    if key in search.seen:
        search.repeated += 1
        return
    search.seen.add(key)
    yield path


def _folder(folder: Path, search: Search) -> Iterator[Path]:
    """Search a folder and what is below it; a link back up is not followed twice."""
    status = folder.stat()
    ancestors = {(status.st_dev, status.st_ino)}
    yield from _below(folder, ancestors, search)


def _below(folder: Path, visited: set[tuple[int, int]], search: Search) -> Iterator[Path]:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError:
        yield folder
        return
    for name in names:
        path = folder / name
        if name.startswith("."):
            search.hidden += 1
            continue
        try:
            status = path.stat()
        except OSError:
            mode, key = 0, (0, 0)
        else:
            mode, key = status.st_mode, (status.st_dev, status.st_ino)
        if stat.S_ISDIR(mode):
            if key not in visited:
                visited.add(key)
                yield from _below(path, visited, search)
        elif path.suffix.lower() in SUFFIXES:
            yield from _once(path, search)
        else:
            search.other += 1


def _pattern(pattern: Path, search: Search) -> Iterator[Path]:
    """Expand a pattern; where it leaves the suffix open, only suffixes of recordings count."""
    chosen = bool(pattern.suffix) and not glob.has_magic(pattern.suffix)
    for name in sorted(glob.glob(os.fspath(pattern), recursive=True)):  # noqa: PTH207 - absolute patterns, too
        path = Path(name)
        if os.path.isdir(path):  # noqa: PTH112
            if pattern.name != "**":
                yield from _folder(path, search)
        elif chosen or path.suffix.lower() in SUFFIXES:
            yield from _once(path, search)
        else:
            search.other += 1
