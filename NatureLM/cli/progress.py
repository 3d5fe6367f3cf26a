"""How far a job over recordings has come: a bar with the time left on a terminal, plain log lines elsewhere.

Everything goes to the standard error, so that the standard output holds answers only. Progress is measured in bytes of the
recordings, because their lengths are known only when they are decoded. The surprise: where answers and bar share one
terminal, the answers are printed above the bar by the bar's own console.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from NatureLM.audio.flags import describe
from NatureLM.results import RecordingResult

LOG_EVERY_S = 10.0
"""Seconds between two plain log lines."""
MOST_FLAGS, MOST_FAULTS = 3, 20
"""Recordings that are named for one flag or one fault; all of them are counted and have their rows."""


class Tally:
    """What a job did so far, for its bar and its summary.

    Args:
        paths: The recordings in order, as they will be named in the results.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.paths = paths
        self.recordings = self.windows = self.skipped = 0
        self.flagged_windows: Counter[str] = Counter()
        self.flagged_recordings: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._bytes = [_size(path) for path in paths]
        self._done_bytes, self._share = 0, 0.0
        self._current: str | None = None
        self._flags: set[str] = set()
        self._began_s = time.monotonic()

    def begin(self) -> None:
        """Start the clock anew: the model is loaded."""
        self._began_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self._began_s

    @property
    def total_bytes(self) -> int:
        """Bytes of all recordings, at least 1."""
        return max(1, sum(self._bytes))

    @property
    def done_bytes(self) -> float:
        """Bytes of the recordings that are answered, the current one by its share."""
        current = self._bytes[self.recordings - 1] if 0 < self.recordings <= len(self._bytes) else 0
        return self._done_bytes + self._share * current

    def add(self, piece: RecordingResult) -> tuple[str, ...]:
        """Count one piece and return the flags that are new for its recording."""
        if piece.recording != self._current:
            self._current, self._flags, self._share = piece.recording, set(), 0.0
            self._done_bytes = sum(self._bytes[: self.recordings])
            self.recordings += 1
        self.windows += len({answer.start_s for answer in piece.answers})
        self.skipped += not piece.answers and not piece.error_code
        if piece.error_code:
            self.faults[piece.error_code] += 1
        expected_s = piece.metadata.get("expected_s") or piece.duration_s
        if piece.answers and expected_s:
            self._share = min(1.0, piece.answers[-1].end_s / expected_s)
        of_windows = {flag for answer in piece.answers for flag in answer.flags}
        self.flagged_windows.update(of_windows - {*piece.flags})
        new = tuple(flag for flag in piece.flags if flag not in self._flags)
        self._flags.update(new)
        self.flagged_recordings.update(new)
        return new

    def summary(self) -> str:
        """Say in one line what was done."""
        rate = self.windows / max(self.elapsed_s, 1e-9)
        parts = [
            _counted(self.recordings, "recording"),
            f"{_counted(self.windows, 'window')} in {_duration(self.elapsed_s)} ({rate:.2g}/s)",
        ]
        parts += [f"{flag}: {_counted(n, 'window')}" for flag, n in self.flagged_windows.items()]
        parts += [f"{flag}: {_counted(n, 'file')}" for flag, n in self.flagged_recordings.items()]
        if self.faults:
            codes = ", ".join(f"{code}: {n}" for code, n in self.faults.items())
            parts.append(f"{sum(self.faults.values())} unreadable ({codes})")
        return ", ".join(parts)


class Reporter:
    """Plain log lines, for everything that is not a terminal.

    Args:
        tally: What is counted.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._logged_s = time.monotonic()
        self._noted: Counter[str] = Counter()

    owns_terminal = False

    def answers(self, text: str) -> None:
        """Print answers where this reporter owns the terminal."""
        print(text, end="", flush=True)

    def note(self, text: str) -> None:
        """Say something beside the answers."""
        print(f"naturelm: {visible(text)}", file=sys.stderr, flush=True)

    def add(self, piece: RecordingResult) -> None:
        """Count one piece of a recording; name its new flags and its fault."""
        new = self.tally.add(piece)
        if piece.error_code:
            self._note_some(piece.error_code, f"{piece.error_code}: {piece.error}", MOST_FAULTS)
        else:
            for flag in new:
                text = f"{piece.recording}: {flag}: {describe(flag)}"
                self._note_some(flag, text, MOST_FLAGS)
        self._show()

    def _note_some(self, code: str, text: str, most: int) -> None:
        self._noted[code] += 1
        if self._noted[code] <= most:
            self.note(text)
        elif self._noted[code] == most + 1:
            self.note(f"more recordings with {code}: see their rows")

    def _show(self) -> None:
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            self.note(self._state())

    def _state(self) -> str:
        tally = self.tally
        share = tally.done_bytes / tally.total_bytes
        left_s = tally.elapsed_s * (1 - share) / share if share else None
        left = "" if left_s is None else f", {_duration(left_s)} left"
        return (
            f"recording {tally.recordings} of {len(tally.paths)}, "
            f"{_counted(tally.windows, 'window')}{left}"
        )

    def end(self, model: str, *, stopped: bool) -> None:
        """Say in one line what was done."""
        self.note(f"{'stopped after ' * stopped}{self.tally.summary()}, {model}")

    def __enter__(self) -> Reporter:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave nothing behind."""


class Quiet(Reporter):
    """Faults, warnings and the summary only."""

    def _show(self) -> None:
        """Say nothing about how far it is."""


class Bar(Reporter):
    """A bar with the time left, on a terminal.

    Args:
        tally: What is counted.
    """

    owns_terminal = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console = Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("loading the model", total=tally.total_bytes)

    def note(self, text: str) -> None:
        """Say something above the bar."""
        self._above(f"naturelm: {visible(text)}\n", style="yellow")

    def answers(self, text: str) -> None:
        """Print answers above the bar."""
        self._above(text)

    def _above(self, text: str, style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), soft_wrap=True, end="")

    def _show(self) -> None:
        tally = self.tally
        described = f"{tally.recordings}/{len(tally.paths)} recordings, {tally.windows} windows"
        self._progress.update(self._task, completed=tally.done_bytes, description=described)

    def __enter__(self) -> Bar:  # noqa: PYI034 - typing.Self needs 3.11
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away, whatever happened."""
        self._progress.stop()


class _Notes(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__(logging.INFO)
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        self._reporter.note(record.getMessage())


@contextmanager
def heard(reporter: Reporter) -> Iterator[None]:
    """Have a reporter say what the library logs, and keep other libraries' advice to programmers out of it."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    log, handler = logging.getLogger("NatureLM"), _Notes(reporter)
    before = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


def reporter_for(tally: Tally, *, quiet: bool = False) -> Reporter:
    """Show a bar on a terminal, plain lines elsewhere, or faults and the summary only."""
    if quiet:
        return Quiet(tally)
    return Bar(tally) if sys.stderr.isatty() else Reporter(tally)


def visible(text: str) -> str:
    """Make what steers a terminal visible: names of files come from anywhere."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _size(path: str | Path) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
