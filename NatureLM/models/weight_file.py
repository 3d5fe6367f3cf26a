"""Reading safetensors straight into the memory where the weights will live.

Knows the file format (an 8-byte length, a JSON header, the bytes) and nothing of models. The one surprise: no mapping and
no intermediate tensor. Bytes are read by several threads into the destination itself, or through a small buffer when the
destination is a GPU or has another dtype, so that loading costs one copy of the weights and runs as fast as the disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from NatureLM.errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
PIECE_BYTES = 32 * 2**20
READERS = 8
MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies.

    Attributes:
        name: Its name in the file.
        path: The file.
        dtype: Its dtype there.
        shape: Its shape.
        start: Its first byte in the file.
    """

    name: str
    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class WeightFiles:
    """The tensors of one file, or of the shards of one model.

    Attributes:
        entries: Name -> where it lies.
        metadata: The files' own notes.
    """

    entries: dict[str, Entry]
    metadata: dict[str, str]


def open_weights(path: Path) -> WeightFiles:
    """Read the header of a ``.safetensors`` file, or of every shard an ``.index.json`` names.

    Raises:
        CheckpointError: When a file is missing, cut short or not what its header says.
    """
    if path.suffix == ".json":
        return _open_shards(path)
    return _open_file(path)


def read_tensor(entry: Entry) -> Tensor:
    """Read one tensor into host memory, in its own dtype."""
    tensor = torch.empty(entry.shape, dtype=entry.dtype)
    read_into([(entry, tensor)])
    return tensor


def read_into(pairs: Iterable[tuple[Entry, Tensor]], readers: int = READERS) -> None:
    """Fill tensors from the disk, several readers at a time.

    Args:
        pairs: What to read and the contiguous tensor, of equal shape, that receives it; dtype and device may differ.
        readers: Threads.

    Raises:
        CheckpointError: When a file ends early or cannot be read.
    """
    pieces = [piece for entry, tensor in pairs for piece in _pieces(entry, tensor)]
    workers = min(readers, len(pieces)) or 1
    buffers = threading.local()
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda piece: _read_piece(piece, buffers), pieces):
            pass


def check_hash(path: Path, sha256: str) -> None:
    """Compare a file with its published hash.

    Raises:
        CheckpointError: When they differ.
    """
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != sha256.lower():
        raise CheckpointError(
            f"{path}: its sha256 is {digest.hexdigest()}, but {sha256} was expected. Fetch it again; do not use this one."
        )


@dataclass(frozen=True)
class _Piece:
    path: Path
    offset: int
    dtype: torch.dtype
    target: Tensor  # flat, a part of the destination


def _pieces(entry: Entry, tensor: Tensor) -> Iterable[_Piece]:
    if tuple(tensor.shape) != entry.shape:
        raise ValueError(f"{entry.name}: {entry.shape} cannot be read into {tuple(tensor.shape)}")
    flat = tensor.detach().view(-1)
    step = PIECE_BYTES // entry.dtype.itemsize
    for first in range(0, flat.numel(), step):
        offset = entry.start + first * entry.dtype.itemsize
        yield _Piece(entry.path, offset, entry.dtype, flat[first : first + step])


def _read_piece(piece: _Piece, buffers: threading.local) -> None:
    target = piece.target
    if target.device.type == "cpu" and target.dtype == piece.dtype:
        _read_bytes(piece, target.view(torch.uint8))
        return
    if not hasattr(buffers, "bytes"):
        pinned = target.device.type == "cuda"
        buffers.bytes = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=pinned)
    raw = buffers.bytes[: target.numel() * piece.dtype.itemsize]
    _read_bytes(piece, raw)
    target.copy_(raw.view(piece.dtype))


def _read_bytes(piece: _Piece, raw: Tensor) -> None:
    view = raw.numpy().data
    try:
        with piece.path.open("rb", buffering=0) as file:
            file.seek(piece.offset)
            while len(view):
                got = file.readinto(view)
                if not got:
                    raise CheckpointError(f"{piece.path}: ends in the middle of a tensor.")
                view = view[got:]
    except OSError as error:
        raise CheckpointError(f"{piece.path}: cannot be read ({error.strerror}).") from error


def _open_shards(index: Path) -> WeightFiles:
    listed = _json_object(index, index.read_bytes()).get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(f"{index}: has no weight_map that says which shard holds what.")
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    for shard in sorted(set(listed.values())):
        part = _open_file(index.parent / Path(shard).name)
        entries |= {k: e for k, e in part.entries.items() if listed.get(k) == shard}
        metadata |= part.metadata
    _complain(index, "names tensors that its shards lack", sorted(set(listed) - set(entries)))
    return WeightFiles(entries, metadata)


def _open_file(path: Path) -> WeightFiles:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError(
                    f"{path}: is no safetensors file, or is cut short inside its header ({size} bytes)."
                )
            header = _json_object(path, file.read(length))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    metadata = header.pop("__metadata__", {})
    entries = {k: _entry(path, k, v, 8 + length) for k, v in header.items()}
    _check_tiling(path, list(entries.values()), header, size - 8 - length)
    return WeightFiles(entries, metadata if isinstance(metadata, dict) else {})


def _json_object(path: Path, raw: bytes) -> dict[str, Any]:
    def once(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            raise CheckpointError(f"{path}: names a tensor twice.")
        return dict(items)

    try:
        found = json.loads(raw, object_pairs_hook=once)
    except ValueError as error:
        raise CheckpointError(f"{path}: its header is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: its header is no JSON object.")
    return found


def _entry(path: Path, name: str, found: Any, data: int) -> Entry:
    try:
        dtype, shape, offsets = found["dtype"], found["shape"], found["data_offsets"]
        begin, end = offsets
        whole = all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise CheckpointError(f"{path}: the header's entry for {name} is not valid.")
    if dtype not in DTYPES:
        raise CheckpointError(f"{path}: {name} has dtype {dtype}, which is not supported.")
    return Entry(name, path, DTYPES[dtype], tuple(shape), data + begin)


def _check_tiling(
    path: Path, entries: Sequence[Entry], header: dict[str, Any], data_bytes: int
) -> None:
    """Insist that the tensors lie one behind the other and fill the file to its last byte."""
    wrong = []
    expected = 0
    for entry in sorted(entries, key=lambda e: (header[e.name]["data_offsets"], e.name)):
        begin, end = header[entry.name]["data_offsets"]
        if begin != expected or end - begin != entry.nbytes:
            wrong.append(entry.name)
        expected = end
    _complain(path, "has wrong offsets for", wrong)
    if expected != data_bytes:
        raise CheckpointError(
            f"{path}: its header promises {expected} bytes of weights, but {data_bytes} are there. It was cut short or damaged; fetch it again."
        )


def _complain(path: Path, what: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(f"{path}: {what} {', '.join(names[:3])}{more}.")
