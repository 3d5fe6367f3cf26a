"""naturelm doctor: what this machine has, what is missing and how to get it.

Knows how to look, changes nothing and asks nothing of the network. A fault that keeps the pocket model from running makes the exit code 1; a
model that is not fetched yet is no fault. The surprise: the device is tried with a real product of matrices, since a driver can be
listed and still not work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

BROKEN = 1
_OLDEST, _NEWEST = (3, 10), (3, 13)
_LIBRARIES = ("transformers", "peft", "safetensors", "soundfile", "soxr", "av", "gguf", "tflite")
_TRAPS = ("torchaudio", "torchcodec", "torchvision")
"""Packages that this project never needs and that break transformers when they were built for another torch."""
_MEMORY_BYTES = 2 * 10**9
_DISK_BYTES = 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: ``ok``, ``note`` for what is worth knowing, ``fault`` for what must be mended.
        found: What is there.
        advice: What to do; empty where nothing is to be done.
    """

    name: str
    state: Literal["ok", "note", "fault"]
    found: str
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm doctor --json"
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--device", default="auto", metavar="auto|cpu|cuda|mps", help="try this one"
    )


def run(args: argparse.Namespace) -> int:
    """Look, print, and return 1 when something must be mended."""
    findings = list(_findings(args.device))
    ok = not any(finding.state == "fault" for finding in findings)
    if args.json:
        print(json.dumps({"ok": ok, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        for finding in findings:
            print(f"{finding.state:5}  {finding.name:15} {finding.found}")
            if finding.advice:
                print(f"{'':22} -> {finding.advice}")
    return 0 if ok else BROKEN


def _findings(device: str) -> Iterator[Finding]:
    yield _python()
    yield _torch()
    yield from _libraries()
    yield _device(device)
    yield _memory()
    yield from _cache()
    yield from _models()


def _python() -> Finding:
    version = sys.version_info[:2]
    found = f"{platform.python_version()} in {sys.prefix}, {platform.platform(terse=True)}"
    if version < _OLDEST:
        return Finding("python", "fault", found, "install Python 3.10 to 3.13")
    advice = "" if version <= _NEWEST else "this Python is newer than what is tested (3.10 to 3.13)"
    return Finding("python", "note" if advice else "ok", found, advice)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("torch", "fault", f"cannot be imported ({error})", "pip install torch")
    made_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    found = f"{torch.__version__}, built with {made_for}, {torch.get_num_threads()} threads"
    return Finding("torch", "ok", found)


def _libraries() -> Iterator[Finding]:
    versions = {name: _version(name) for name in _LIBRARIES}
    missing = [name for name, version in versions.items() if not version]
    found = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    advice = f"pip install {' '.join(missing)}" if missing else ""
    yield Finding("libraries", "fault" if missing else "ok", found, advice)
    traps = [name for name in _TRAPS if _version(name)]
    if traps:
        yield Finding(
            "beside torch",
            "note",
            f"{', '.join(traps)} installed",
            "not needed here; if transformers cannot be imported, uninstall them",
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _device(asked: str) -> Finding:
    """Choose the device as the other commands do and try it."""
    try:
        import torch

        from NatureLM.errors import DeviceError
        from NatureLM.infer.device import choose_device
    except (ImportError, OSError) as error:
        return Finding("device", "fault", f"none, since torch is not there ({error})")
    try:
        device = choose_device(asked)
        square = torch.ones(64, 64, device=device)
        worked = float((square @ square).sum()) == 64.0**3
    except (DeviceError, RuntimeError) as error:
        return Finding("device", "fault", str(error).splitlines()[0], "use --device cpu")
    name = f"{device}{_card(device.type)}"
    if not worked:
        return Finding("device", "fault", f"{name} computes wrongly", "use --device cpu")
    return Finding("device", "ok", f"{name}, tried ({os.cpu_count()} CPU cores here)")


def _card(kind: str) -> str:
    import torch

    if kind != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info()
    return f" ({torch.cuda.get_device_name()}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free)"


def _memory() -> Finding:
    free, total = _memory_bytes()
    if not total:
        return Finding("memory", "note", "unknown on this platform", "pocket needs 2 GB free")
    found = f"{free / 1e9:.1f} GB free of {total / 1e9:.1f} GB"
    tight = free < _MEMORY_BYTES
    return Finding("memory", "note" if tight else "ok", found, "pocket needs 2 GB" * tight)


def _memory_bytes() -> tuple[int, int]:
    """Return free and total memory; zeros where the platform does not tell."""
    table = Path("/proc/meminfo")
    if table.is_file():
        rows = dict(line.split(":", 1) for line in table.read_text().splitlines())
        free, total = (int(rows[row].split()[0]) * 1024 for row in ("MemAvailable", "MemTotal"))
        return free, total
    try:
        page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0, 0
    return page * pages, page * pages


def _cache() -> Iterator[Finding]:
    from NatureLM.models.parts import cache_folder

    folder = cache_folder()
    there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    advice = "point NATURELM_CACHE at a folder that can be written"
    if not os.access(there, os.W_OK):
        yield Finding("cache", "fault", f"{folder} cannot be written", advice)
        return
    tight = free < _DISK_BYTES
    found = f"{folder}, {free / 1e9:.1f} GB free on its disk"
    yield Finding("cache", "note" if tight else "ok", found, "pocket needs 0.6 GB" * tight)


def _models() -> Iterator[Finding]:
    from NatureLM.cli.fetching import megabytes
    from NatureLM.models.catalog import MODELS, is_cached, revision_of, state_of
    from NatureLM.models.parts import cached, unpacked_folder

    for model in MODELS.values():
        state = state_of(model)
        if state == "ready":
            said = "cached"
            if model.parts and not (unpacked_folder() / "model.safetensors").is_file():
                said = "cached; its language model will be unpacked at first use"
            yield Finding(model.name, "ok", f"{said}, revision {revision_of(model) or 'unknown'}")
            continue
        lacks = [name for name in model.parts if cached(name) is None]
        lacks += [r.name for r in model.repositories if not is_cached(r)]
        found = f"{state}: lacks {', '.join(lacks)} ({megabytes(model.size_bytes)} to fetch)"
        advice = f"naturelm models pull {model.name}; needs {model.needs}"
        yield Finding(model.name, "note", found, advice)
