"""Arrow columns into rows and audio cells; shared by parquet shards and `datasets` folders.

Knows pyarrow only. Amplitudes leave an Arrow list without a copy: a Python list of 441,000 floats would cost more than the
model's front end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from NatureLM.errors import DependencyError, ManifestError, RecordingError
from NatureLM.eval.sources.record import AUDIO_COLUMN, RawAudio, Row, audio_cell


def require_pyarrow() -> Any:
    """Import pyarrow or say how to get it."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise DependencyError(
            "Reading parquet and Arrow tables needs pyarrow: pip install 'naturelm-audio[eval]'"
        ) from error
    return pa


def check_columns(names: list[str], where: str) -> None:
    """Refuse a table without audio.

    Raises:
        ManifestError: There is no audio column.
    """
    if AUDIO_COLUMN not in names:
        raise ManifestError(
            f"{where}: no column 'audio' (found {', '.join(names) or 'none'}); expected the layout of BEANS-Zero"
        )


def rate_of(columns: Any) -> int | None:
    """Read the sample rate: its own column, or the metadata's JSON; ``None`` when nobody says."""
    rate = columns.get("sample_rate") or columns.get("sampling_rate")
    if rate is None:
        rate = metadata_of(columns).get("sample_rate")
    try:
        return int(rate) if rate else None
    except (TypeError, ValueError):
        return None


def metadata_of(columns: Any) -> dict[str, Any]:
    """Read the metadata column, a JSON string or a struct; empty when it cannot be read."""
    value = columns.get("metadata")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def batch_rows(batch: Any, shard: str, first: int) -> Iterator[Row]:
    """Give the rows of a record batch that holds no audio."""
    for index, columns in enumerate(batch.to_pylist()):
        yield Row(columns, f"{shard}:{first + index + 1}")


def batch_audio(column: Any, index: int, row: Row, root: Path) -> RawAudio | RecordingError:
    """Read one cell of an Arrow audio column, or say why not."""
    scalar = column[index]
    try:
        if _is_list(scalar):
            return _list_cell(scalar, row, root)
        return audio_cell(scalar.as_py(), rate_of(row.columns), root, row.where)
    except RecordingError as error:
        return error


def _is_list(scalar: Any) -> bool:
    types = require_pyarrow().types
    return any(
        test(scalar.type) for test in (types.is_list, types.is_large_list, types.is_fixed_size_list)
    )


def _list_cell(scalar: Any, row: Row, root: Path) -> RawAudio:
    values = scalar.values
    if values is None:
        return audio_cell(None, None, root, row.where)
    samples = values.to_numpy(zero_copy_only=False)
    if samples.dtype.kind not in "fiu":
        raise RecordingError(f"{row.where}: audio holds {samples.dtype}, not numbers", "not_audio")
    return audio_cell(np.asarray(samples), rate_of(row.columns), root, row.where)
