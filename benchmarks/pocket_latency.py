"""How long the pocket model takes on a CPU: loading, one 10 s window end to end, 16 windows together and one by one, memory.

python benchmarks/pocket_latency.py --threads 2 --output benchmarks/results/pocket_latency.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

QUERY = "What is the common name for the focal species in the audio?"
WINDOW_S, WINDOWS = 10, 16


def main() -> None:
    args = _arguments()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    begun = time.perf_counter()
    import numpy as np
    import torch

    torch.set_num_threads(args.threads)
    from NatureLM.audio.recording import open_recording
    from NatureLM.audio.windows import WindowPlan
    from NatureLM.models import NatureLM, parts

    imported = time.perf_counter()
    model = NatureLM.from_pretrained("pocket", bridge=args.bridge)
    loaded = time.perf_counter()
    source = args.recording or parts.fetch("demo-recording")
    one = next(iter(open_recording(source).windows(WindowPlan(10, 10), model.sample_rate)))
    wave = torch.from_numpy(np.ascontiguousarray(one.waveform))
    rng = torch.Generator().manual_seed(0)
    waves = torch.stack(
        [wave.roll(7919 * i) * float(torch.rand(1, generator=rng) + 0.5) for i in range(WINDOWS)]
    )

    @torch.inference_mode()
    def answer(rows: torch.Tensor) -> list[str]:
        lengths = torch.full((len(rows),), rows.shape[1])
        return [a.text for a in model.answer(model.encode(rows, lengths), [QUERY] * len(rows))]

    first = _seconds(lambda: answer(wave[None]), 1)
    single = _seconds(lambda: answer(wave[None]), args.repeats)
    together = _seconds(lambda: answer(waves), max(1, args.repeats // 2))
    apart = _seconds(lambda: [answer(row[None]) for row in waves], max(1, args.repeats // 4))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = {
        "model": f"{model.name} {model.revision}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "load_average": os.getloadavg()[0],
        "threads": args.threads,
        "import_s": round(imported - begun, 2),
        "load_s": round(loaded - imported, 2),
        "first_window_s": round(first, 3),
        "window_s": round(single, 3),
        "windows_16_together_s": round(together, 3),
        "windows_16_apart_s": round(apart, 3),
        "speed_up": round(apart / together, 2),
        "peak_memory_mb": round(peak / (1024 if sys.platform != "darwin" else 1024**2)),
        "answer": answer(wave[None])[0],
    }
    print(json.dumps(report, indent=1))
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recording", type=Path, help="the demo recording when left out")
    parser.add_argument("--bridge", help="folder of a bridge; the shipped one when left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--output", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
