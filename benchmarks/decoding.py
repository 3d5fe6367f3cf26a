"""How fast and in how much memory recordings become windows, one core.

Run: `OMP_NUM_THREADS=1 python benchmarks/decoding.py [--hours 10]`. Writes benchmarks/results/decoding-<machine>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import soundfile as sf

from NatureLM.audio.recording import open_recording
from NatureLM.audio.windows import WindowPlan

RATE_HZ = 48_000
MINUTES = 10
FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("FLAC", "PCM_16"),
    ("MP3", None),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
]


def write(path: Path, seconds: int, form: str, subtype: str | None, level: float = 0.1) -> None:
    """Write noise over a tone, ten seconds of it again and again."""
    noise = np.random.default_rng(0).standard_normal(10 * RATE_HZ)
    tone = np.sin(2 * np.pi * 3000 * np.arange(10 * RATE_HZ) / RATE_HZ)
    block = (level * (0.3 * noise + tone)).astype(np.float32)
    with sf.SoundFile(path, "w", RATE_HZ, 1, format=form, subtype=subtype) as file:
        for _ in range(seconds // 10):
            file.write(block)


def times_real_time(path: Path, rate_hz: int, mode: str, seconds: float) -> float:
    """Read all windows; CPU time, the best of three."""
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        read = sum(1 for _ in open_recording(path).windows(WindowPlan(), rate_hz, mode))
        best = min(best, time.process_time() - begin)
        assert read == round(seconds / 10)
    return round(seconds / best, 1)


def resident_mb() -> float:
    """Return what the process holds now; the peak that getrusage gives is inherited from the parent."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(path: str, rate_hz: int) -> dict[str, float]:
    """Read all windows and say how far the process grew over what it held after the first minute."""
    windows = open_recording(path).windows(WindowPlan(), rate_hz)
    idle = resident_mb()
    for _ in range(6):
        next(windows)
    before = peak = resident_mb()
    begin, end_s = time.process_time(), 0.0
    for audio in windows:
        end_s = audio.window.end_s
        peak = max(peak, resident_mb())
    cpu_s = time.process_time() - begin
    return {
        "hours": round(end_s / 3600, 3),
        "rss_growth_after_a_minute_mb": round(peak - before, 1),
        "rss_growth_over_idle_mb": round(peak - idle, 1),
        "rss_peak_mb": round(peak, 1),
        "times_real_time": round(end_s / cpu_s, 1),
        "file_mb": round(Path(path).stat().st_size / 1e6, 1),
    }


def machine() -> dict[str, object]:
    """Say where and with what this was measured."""
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    names = ("numpy", "soundfile", "av", "soxr")
    return {"cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(), "versions": {name: version(name) for name in names}, "commit": git.stdout.strip(), "command": " ".join(["python", *sys.argv])}  # fmt: skip


def measure(hours: int) -> dict[str, object]:
    """Measure everything."""
    speed: dict[str, dict[str, float]] = {}
    long: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for form, subtype in FORMATS:
            path = Path(folder) / f"a.{form}"
            write(path, MINUTES * 60, form, subtype)
            row = {
                f"48k->{rate // 1000}k": times_real_time(path, rate, "default", MINUTES * 60)
                for rate in (16_000, 48_000)
            }
            row["published 48k->16k"] = times_real_time(path, 16_000, "published", MINUTES * 60)
            speed[f"{form} {subtype or ''}".strip()] = row
            print(form, subtype, row, flush=True)
        for form, subtype, length in (("FLAC", "PCM_16", hours * 3600), ("OGG", "OPUS", 3600)):
            path = Path(folder) / f"long.{form}"
            write(path, length, form, subtype, level=1e-4)
            call = [sys.executable, __file__, "--memory", str(path)]
            long[f"{form} {length // 3600} h"] = json.loads(
                subprocess.run(call, capture_output=True, text=True, check=True).stdout
            )
            print(long, flush=True)
    return {"machine": machine(), "times_real_time_one_core": speed, "long_recordings": long}


def main() -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=10)
    parser.add_argument("--memory", metavar="PATH", help="measure this file only and print JSON")
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(memory(args.memory, 16_000)))
        return 0
    results = measure(args.hours)
    out = (
        Path(__file__).parent
        / "results"
        / f"decoding-{platform.machine()}-{os.cpu_count()}cores.json"
    )
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
