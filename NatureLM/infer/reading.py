"""Recordings read into windows, one after the other; a fault of one becomes its row and the others go on.

Knows audio and results, no torch: it runs in the thread that decodes ahead. The surprise: a window is passed on only when
the next one is decoded, so that the last window of a recording carries every flag that reading it brought to light.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from NatureLM.annotations import NONE
from NatureLM.audio.options import ReadOptions
from NatureLM.audio.recording import Recording, WindowAudio, open_recording
from NatureLM.audio.windows import WindowPlan
from NatureLM.errors import RecordingError
from NatureLM.infer.batching import Item, Ready, Waiting
from NatureLM.results import RecordingResult, WindowAnswer

Source: TypeAlias = Any
"""A path, the bytes of a file, a file object, an array, a tensor, a list of numbers, or an open recording."""

DEFAULT_OPTIONS = ReadOptions()
"""What the reader allows when nothing is said about it."""
SHORTEST_S = 0.5
"""A recording below this is short: the published model refuses it, ours pads it."""


@dataclass(frozen=True)
class Reading:
    """How recordings are read for one job.

    Attributes:
        plan: Window, hop and tail.
        rate_hz: The rate that the model hears.
        array_rate_hz: The rate of recordings given as arrays.
        mode: ``published`` cuts, resamples and labels windows as the published Pipeline does.
        skip_short: Leave recordings out that are shorter than ``SHORTEST_S``.
        ask_silence: Ask the model about digital silence, too.
        model: Name of the model, for the results.
        revision: Revision of its weights.
        options: What the reader allows.
    """

    plan: WindowPlan
    rate_hz: int
    array_rate_hz: int
    mode: Literal["default", "published"] = "default"
    skip_short: bool = False
    ask_silence: bool = False
    model: str = ""
    revision: str = ""
    options: ReadOptions = DEFAULT_OPTIONS


def read(recordings: Iterable[tuple[Source, tuple[str, ...]]], reading: Reading) -> Iterator[Item]:
    """Read recordings into windows that wait for the model and pieces that are ready without it.

    Args:
        recordings: Each with its queries.
        reading: How.
    """
    for place, (source, queries) in enumerate(recordings):
        blank = RecordingResult(
            _name(source, place), model=reading.model, revision=reading.revision
        )
        try:
            yield from _windows(place, _opened(source, reading), queries, blank, reading)
        except (RecordingError, OSError, MemoryError) as error:
            code = error.code if isinstance(error, RecordingError) else "unreadable"
            message = str(error) or type(error).__name__
            yield Ready(place, replace(blank, error_code=code, error=message))


def _windows(
    place: int,
    recording: Recording,
    queries: tuple[str, ...],
    blank: RecordingResult,
    reading: Reading,
) -> Iterator[Item]:
    count = 0
    for audio in _held_back(recording.windows(reading.plan, reading.rate_hz, reading.mode)):
        if not count and (short := _too_short(blank.recording, audio, reading)):
            yield Ready(place, replace(blank, flags=(*recording.flags, short)))
            return
        count += 1
        piece = replace(
            blank,
            flags=recording.flags,
            duration_s=recording.duration_s,
            metadata=_metadata(recording),
        )
        yield _item(Waiting(place, piece, _labelled(audio, reading), queries), reading)
    if not count:
        raise RecordingError(f"{blank.recording}: holds no audio", code="no_audio")


def _metadata(recording: Recording) -> dict[str, Any]:
    return {
        "rate_hz": recording.rate_hz,
        "channels": recording.channels,
        "expected_s": recording.expected_s,
        "gaps": recording.gaps,
    }


def _held_back(windows: Iterator[WindowAudio]) -> Iterator[WindowAudio]:
    """Give each window when the next one is decoded, or has failed to."""
    held = next(windows, None)
    while held is not None:
        try:
            following = next(windows, None)
        except (RecordingError, OSError):
            yield held
            raise
        yield held
        held = following


def _too_short(name: str, audio: WindowAudio, reading: Reading) -> str | None:
    """Return the flag of a recording that is left out for its length.

    Raises:
        RecordingError: It is too short for the published model and was not to be left out.
    """
    if len(audio.waveform) >= int(min(SHORTEST_S, reading.plan.window_s) * reading.rate_hz):
        return None
    if reading.skip_short:
        return "too_short"
    if reading.mode == "published":
        raise RecordingError(
            f"{name}: {len(audio.waveform) / reading.rate_hz:.2f} s long; the published model needs "
            f"at least {SHORTEST_S:.2f} s. Pass --skip-short to leave such files out.",
            code="too_short",
        )
    return None


def _item(waiting: Waiting, reading: Reading) -> Item:
    """Digital silence is answered here, so that no model invents an animal in it."""
    audio = waiting.audio
    if "silent" not in audio.flags or reading.ask_silence or reading.mode == "published":
        return waiting
    answers = tuple(
        WindowAnswer(audio.window.start_s, audio.window.end_s, query, NONE, audio.flags)
        for query in waiting.queries
    )
    return Ready(waiting.place, replace(waiting.piece, answers=answers))


def _labelled(audio: WindowAudio, reading: Reading) -> WindowAudio:
    """The published Pipeline calls every window as long as asked for, even past the end of the recording."""
    if reading.mode == "default":
        return audio
    start_s = audio.window.start_s
    return replace(audio, window=replace(audio.window, end_s=start_s + reading.plan.window_s))


def _opened(source: Source, reading: Reading) -> Recording:
    if isinstance(source, Recording):
        return source
    return open_recording(source, rate_hz=reading.array_rate_hz, options=reading.options)


def _name(source: Source, place: int) -> str:
    if isinstance(source, Recording):
        return source.name
    return (
        os.fsdecode(source) if isinstance(source, str | os.PathLike) else f"recording {place + 1}"
    )
