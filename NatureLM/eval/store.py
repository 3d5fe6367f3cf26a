"""What a run leaves on disk: an append-only journal of answers, and whole files written at once.

Knows nothing of models. A run may be killed at any moment: a line is either whole and synced or cut off when the journal is opened
again. The surprise: a journal may hold several answers for one example; the last one counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from NatureLM.errors import StoreError

JOURNAL = "journal.jsonl"


def fingerprint(*parts: Any) -> str:
    """Hash JSON-able parts and byte strings into one short key."""
    digest = hashlib.sha256()
    for part in parts:
        block = part if isinstance(part, bytes) else _canonical(part)
        digest.update(len(block).to_bytes(8, "little"))
        digest.update(block)
    return digest.hexdigest()[:32]


def _canonical(part: Any) -> bytes:
    return json.dumps(part, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")


class Journal:
    """Append-only JSONL, safe against being killed.

    Attributes:
        rows: Every row read from disk and appended since, in order.
        repaired_bytes: What was cut off a damaged end when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or create a journal, cutting off an unfinished last line.

        Raises:
            StoreError: Another process writes to it, or the disk refuses.
        """
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.repaired_bytes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file; what was appended is on disk already."""
        self._file.close()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows and wait until they are on disk.

        Raises:
            StoreError: The disk refuses; the journal is cut back to its last whole row.
        """
        if not rows:
            return
        block = b"".join(_line(row) for row in rows)
        size = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(block):
                written += self._file.write(block[written:]) or 0
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise StoreError(
                f"{self.path}: {error.strerror or error}; {len(self.rows)} answers are kept, "
                "the same command goes on from there"
            ) from error
        self.rows.extend(dict(row) for row in rows)

    def _read(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        good = 0
        while (end := data.find(b"\n", good)) >= 0:
            row = _parsed(data[good:end])
            if row is None:
                break
            self.rows.append(row)
            good = end + 1
        if good < len(data):
            self._cut(data, good)

    def _cut(self, data: bytes, good: int) -> None:
        self.repaired_bytes = len(data) - good
        if b"\n" in data[good:].rstrip(b"\n"):
            self.path.with_suffix(".damaged").write_bytes(data[good:])
        self._file.truncate(good)
        os.fsync(self._file.fileno())

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(
                f"{self.path}: another run writes here; wait for it or choose another folder"
            ) from error


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a whole JSONL file at once: readers see the old one or the new one.

    Raises:
        StoreError: The disk refuses; the old file is kept.
    """
    write_bytes(path, b"".join(_line(row) for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write a whole JSON file at once, indented.

    Raises:
        StoreError: The disk refuses; the old file is kept.
    """
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file at once.

    Raises:
        StoreError: The disk refuses; the old file is kept.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise StoreError(f"{path}: {error.strerror or error}") from error


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
