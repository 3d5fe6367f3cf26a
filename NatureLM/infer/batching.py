"""Windows of many recordings gathered into batches, in order, while the next ones are decoded.

Knows order and numbers, nothing of audio or models. The surprise: what is already answered (faults, silence) travels in the
same stream as the windows that wait for the model, so that results come out in the order of the recordings by themselves.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from NatureLM.audio.recording import WindowAudio
from NatureLM.results import RecordingResult

T = TypeVar("T")

_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Waiting:
    """A window that the model has still to be asked about.

    Attributes:
        place: Place of its recording in the job.
        piece: What is known of the recording so far, without answers.
        audio: The window's waveform, times and flags.
        queries: What to ask about it.
    """

    place: int
    piece: RecordingResult
    audio: WindowAudio
    queries: tuple[str, ...]


@dataclass(frozen=True)
class Ready:
    """A piece that needs no model: a fault, or a window known to be silent."""

    place: int
    piece: RecordingResult


Item = Waiting | Ready


def gather(items: Iterable[Item], sizes: Iterator[int]) -> Iterator[list[Item]]:
    """Cut a stream into batches with as many waiting windows as ``sizes`` says, in turn.

    Ready pieces that wait for nobody are passed on at once; joined together, the batches are the stream.
    """
    batch: list[Item] = []
    waiting, most = 0, next(sizes)
    for item in items:
        batch.append(item)
        waiting += isinstance(item, Waiting)
        if waiting in (0, most):
            yield batch
            batch, waiting, most = [], 0, most if not waiting else next(sizes)
    if batch:
        yield batch


def chunks(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs of at most ``size``."""
    return (things[start : start + size] for start in range(0, len(things), size))


def read_ahead(items: Iterable[T], limit: int) -> Generator[T, None, None]:
    """Draw from ``items`` in a thread of its own, at most ``limit`` ahead of the reader.

    What ``items`` raises is raised here, in its turn. When the reader stops early, so does the thread.
    """
    drawn: queue.Queue[Callable[[], T] | None] = queue.Queue(maxsize=max(1, limit))
    stopped = threading.Event()
    thread = threading.Thread(
        target=_draw, args=(items, drawn, stopped), name="read-ahead", daemon=True
    )
    thread.start()
    try:
        while (give := drawn.get()) is not None:
            yield give()
    finally:
        stopped.set()
        thread.join()


def _draw(
    items: Iterable[T], drawn: queue.Queue[Callable[[], T] | None], stopped: threading.Event
) -> None:
    def put(give: Callable[[], T] | None) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                drawn.put(give, timeout=_LOOK_EVERY_S)
                return True
        return False

    def failing(error: BaseException) -> Callable[[], T]:
        def give() -> T:
            raise error

        return give

    try:
        for item in items:
            if not put(lambda item=item: item):  # type: ignore[misc]
                return
    except BaseException as error:  # noqa: BLE001 - handed to the reader, whatever it is
        put(failing(error))
        return
    put(None)
