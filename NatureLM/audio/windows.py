"""Windows of a recording: pure arithmetic, in seconds and in samples.

Knows no audio. Every start is ``index * hop_s``, never a running sum, so that ten hours do not drift. The surprise: the first
window is always there, even when the recording is shorter and the tail is dropped, because the published Pipeline does so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from NatureLM.errors import WindowError

Tail = Literal["keep", "drop"]

RESOLUTION_S = 1e-6
"""Times closer than this are one time: well under a sample at any rate that recorders use."""


@dataclass(frozen=True)
class Window:
    """A stretch of a recording.

    Attributes:
        index: Number of the window, from 0.
        start_s: Start in seconds from the start of the recording.
        end_s: True end in seconds, never past the end of the recording.
    """

    index: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class WindowPlan:
    """How a recording is cut.

    Attributes:
        window_s: Length of a window in seconds.
        hop_s: Seconds between window starts.
        tail: ``keep`` gives what the last full window left uncovered a window of its own; ``drop`` leaves it out.

    Raises:
        WindowError: A length is not a positive, finite number, or the tail policy is unknown.
    """

    window_s: float = 10.0
    hop_s: float = 10.0
    tail: Tail = "keep"

    def __post_init__(self) -> None:
        for name, value in (("window", self.window_s), ("hop", self.hop_s)):
            if not math.isfinite(value) or value < 1e-3:
                raise WindowError(
                    f"{name} length {value!r}: expected a finite number of seconds, at least 0.001. "
                    f"Pass for example --{name}-length-seconds 10."
                )
        if self.tail not in get_args(Tail):
            raise WindowError(f"tail {self.tail!r}: expected one of {', '.join(get_args(Tail))}.")

    def start_s(self, index: int) -> float:
        """Return the start of a window in seconds."""
        return index * self.hop_s


def is_full(window_end_s: float, duration_s: float) -> bool:
    """Say whether a window that ends there lies within the recording."""
    return window_end_s <= duration_s + RESOLUTION_S


def plan_windows(duration_s: float, plan: WindowPlan) -> Iterator[Window]:
    """Cut a duration into windows.

    Full windows come first, then at most one tail window, which is there only when it covers what no full window does. A
    recording without length has no windows.

    Args:
        duration_s: Length of the recording in seconds.
        plan: Window, hop and tail.

    Raises:
        WindowError: The duration is negative or not finite.
    """
    if not math.isfinite(duration_s) or duration_s < 0:
        raise WindowError(
            f"duration {duration_s!r}: expected a finite number of seconds, 0 or more."
        )
    index = 0
    while duration_s > 0 and is_full(plan.start_s(index) + plan.window_s, duration_s):
        yield _full(index, plan, duration_s)
        index += 1
    tail = tail_window(index, duration_s, plan)
    if tail is not None:
        yield tail


def _full(index: int, plan: WindowPlan, duration_s: float) -> Window:
    start_s = plan.start_s(index)
    return Window(index, start_s, min(start_s + plan.window_s, duration_s))


def tail_window(index: int, duration_s: float, plan: WindowPlan) -> Window | None:
    """Return the window after the last full one, if the recording needs it.

    Args:
        index: Number of full windows, and so of the tail window.
        duration_s: Length of the recording in seconds.
        plan: Window, hop and tail.
    """
    start_s = plan.start_s(index)
    if duration_s <= 0 or (index and plan.tail == "drop"):
        return None
    covered_s = plan.start_s(index - 1) + plan.window_s if index else 0.0
    if index and max(covered_s, start_s) >= duration_s - RESOLUTION_S:
        return None
    return Window(index, start_s, duration_s)


def published_windows(
    samples: int, rate_hz: int, plan: WindowPlan
) -> Iterator[tuple[Window, int, int]]:
    """Cut a recording as the published Pipeline does: in its own samples, the tail dropped, the first window always there.

    Args:
        samples: Length of the recording.
        rate_hz: Rate of the recording.
        plan: Window and hop; the tail policy plays no part.

    Yields:
        The window with its true end, its first sample and the sample after its last.
    """
    length, hop = published_samples(rate_hz, plan)
    index = 0
    while samples and (index == 0 or index * hop + length <= samples):
        first, end = index * hop, min(index * hop + length, samples)
        yield Window(index, first / rate_hz, end / rate_hz), first, end
        index += 1


def published_samples(rate_hz: int, plan: WindowPlan) -> tuple[int, int]:
    """Return window and hop in source samples, cut down to whole samples as the published Pipeline does."""
    return max(1, int(plan.window_s * rate_hz)), max(1, int(plan.hop_s * rate_hz))
