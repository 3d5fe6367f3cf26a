"""What the user may ask of reading, and the flags that reading brings to light.

Knows no file. ``Findings`` is the one thing here that changes: decoding adds to it, the recording shows it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from NatureLM.errors import RecordingError

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 1_000_000
MOST_CHANNELS = 64


@dataclass(frozen=True)
class ReadOptions:
    """How recordings are read.

    Attributes:
        force_rate_hz: Believe this sample rate instead of the header's.
        min_duration_s: Refuse recordings that are shorter, with the code ``too_short``.
        max_duration_s: Refuse recordings that are longer, with the code ``audio_too_long``.
        band_limit_hz: The highest frequency that the model hears, for the hint that a recording's energy lies above it;
            ``None`` takes half the rate that is asked for.
        slow_down: Play the recording so many times slower, so that a model hears what lies above its band (bats at 10). Window
            and hop count in the time that the model hears; reported times are those of the recording.
    """

    force_rate_hz: int | None = None
    min_duration_s: float = 0.0
    max_duration_s: float | None = None
    band_limit_hz: float | None = None
    slow_down: float = 1.0


@dataclass(frozen=True)
class Stretch:
    """A flag that holds from one time to another.

    Attributes:
        code: A key of ``FLAGS``.
        start_s: Start in seconds from the start of the recording.
        end_s: End in seconds.
    """

    code: str
    start_s: float
    end_s: float


@dataclass
class Findings:
    """What reading one recording brought to light so far.

    Attributes:
        codes: Flags of the whole recording, in the order found.
        gaps: Stretches that could not be decoded, at most 1,000 of them.
    """

    codes: dict[str, None] = field(default_factory=dict)
    gaps: list[tuple[float, float]] = field(default_factory=list)

    def add(self, code: str) -> None:
        """Note a flag of the recording."""
        self.codes.setdefault(code)

    def add_gap(self, start_s: float, end_s: float) -> None:
        """Note a stretch that could not be decoded."""
        self.add("gap")
        if len(self.gaps) < 1000 and (start_s, end_s) not in self.gaps:
            self.gaps.append((start_s, end_s))


def check_rate(name: str, rate_hz: float, channels: int, options: ReadOptions) -> None:
    """Refuse what no recorder writes.

    Args:
        name: The recording, for the message.
        rate_hz: Rate that the header gives, before it is forced.
        channels: Number of channels.
        options: A forced rate lets any rate pass.

    Raises:
        RecordingError: ``bad_header`` or ``implausible_rate``.
    """
    if not 1 <= channels <= MOST_CHANNELS:
        raise RecordingError(
            f"{name}: the header says {channels} channels; expected 1 to {MOST_CHANNELS}.",
            "bad_header",
        )
    if options.force_rate_hz is not None:
        return
    if not 1 <= rate_hz < 2**31:
        raise RecordingError(
            f"{name}: the header says a sample rate of {rate_hz} Hz. Pass --force-rate HZ if you know the true rate.",
            "bad_header",
        )
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise RecordingError(
            f"{name}: a sample rate of {rate_hz} Hz; expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ:,} Hz. "
            "Pass --force-rate HZ to read it all the same.",
            "implausible_rate",
        )
