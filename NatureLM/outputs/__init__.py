"""Results written as text, JSON lines or CSV while they come, and read back.

One file a format; each sees ``RecordingResult`` only and turns one piece of a recording into text, so that a stream of
pieces can be cut anywhere between two of them and still be read. Where the text goes is ``sink.py``'s business.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TextIO

from NatureLM.errors import FormatError
from NatureLM.outputs.sink import Sink, open_sink
from NatureLM.results import RecordingResult

__all__ = ["FORMATS", "Format", "Sink", "format_for", "open_format", "open_sink", "read", "write"]


class Format(Protocol):
    """One stream of results as text; made anew for every stream."""

    def begin(self) -> str:
        """Write what stands before the first result."""

    def piece(self, result: RecordingResult) -> str:
        """Write one result, or the next piece of one, as whole lines."""

    def read(self, stream: TextIO) -> Iterator[RecordingResult]:
        """Read back what was written; the last line may be cut short by a crash and is then left out."""


FORMATS: dict[str, str] = {
    "text": "NatureLM.outputs.text:Text",
    "jsonl": "NatureLM.outputs.jsonl:JsonLines",
    "csv": "NatureLM.outputs.csv_table:CsvTable",
}
"""Name of a format -> ``module:class``; the name is also the suffix of its files."""


def open_format(name: str) -> Format:
    """Make a format by name.

    Raises:
        FormatError: There is no such format.
    """
    if name not in FORMATS:
        raise FormatError(f"format {name!r}: unknown; choose one of {', '.join(FORMATS)}")
    module, _, attribute = FORMATS[name].partition(":")
    made: Format = getattr(importlib.import_module(module), attribute)()
    return made


def format_for(path: str | Path | None, default: str = "text") -> str:
    """Name the format that the suffix of a file asks for."""
    suffix = "" if path is None else Path(path).suffix.lower().lstrip(".")
    return suffix if suffix in FORMATS else default


def write(
    results: Iterable[RecordingResult],
    path: str | Path,
    name: str | None = None,
    *,
    force: bool = False,
) -> None:
    """Write results to a file as they come.

    Args:
        results: Whole results or pieces of them, in order.
        path: Where to; every piece is in the file before the next one is asked for.
        name: A row of ``FORMATS``; by the suffix when left out.
        force: Replace a file that is already there.

    Raises:
        FormatError: There is no such format.
        StoreError: The file exists, or cannot be written.
    """
    form = open_format(name or format_for(path))
    with open_sink(path, force=force) as sink:
        sink.append(form.begin())
        for result in results:
            sink.append(form.piece(result))


def read(path: str | Path, name: str | None = None) -> Iterator[RecordingResult]:
    """Read a file of results back, one recording at a time.

    Raises:
        FormatError: There is no such format, or the file is not of it.
    """
    form = open_format(name or format_for(path))
    with Path(path).open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        yield from form.read(stream)
