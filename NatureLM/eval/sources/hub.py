"""Parquet shards of a data set on the hub, read by range requests: only the columns and row groups that are needed move.

Needs huggingface_hub and pyarrow, not `datasets`. With the hub's offline variables set, only what its cache holds is read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from NatureLM.errors import DownloadError, ManifestError
from NatureLM.eval.sources.columns import require_pyarrow
from NatureLM.eval.sources.parquet import ParquetSource, Shard, open_parquet

HUB_ID = re.compile(r"^(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def open_hub(data: str) -> ParquetSource:
    """Open a data set on the hub, or its cached copy when offline.

    Args:
        data: ``owner/name`` or ``owner/name@revision``.

    Raises:
        ManifestError: The name is neither a path nor a hub id, or the data set holds no parquet.
        DownloadError: The hub cannot be reached, or is not to be and nothing is cached.
    """
    match = HUB_ID.match(data)
    if match is None:
        raise ManifestError(f"{data}: no such file or folder, and not a hub id (owner/name)")
    require_pyarrow()
    if any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE):
        return _cached(data, match["repo"], match["revision"])
    return _streamed(data, match["repo"], match["revision"])


def _cached(data: str, repo: str, revision: str | None) -> ParquetSource:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            repo, repo_type="dataset", revision=revision, local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        raise DownloadError(
            f"{data}: no such file or folder, and not in the hub's cache; the offline variables are set "
            f"({', '.join(OFFLINE)}), so it is not fetched. Unset them, or pass a folder to --data"
        ) from error
    root = Path(folder)
    files = _test_files([str(p.relative_to(root)) for p in sorted(root.rglob("*.parquet"))], data)
    return open_parquet(root, [root / name for name in files])


def _streamed(data: str, repo: str, revision: str | None) -> ParquetSource:
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().dataset_info(repo, revision=revision)
    except (HfHubHTTPError, OSError) as error:
        raise DownloadError(
            f"{data}: no such file or folder here, and the hub did not give it ({error})"
        ) from error
    names = _test_files([s.rfilename for s in info.siblings or []], data)
    system: Any = HfFileSystem()
    shards = [
        Shard(name, lambda name=name: system.open(f"datasets/{repo}@{info.sha}/{name}", "rb"))  # type: ignore[misc]
        for name in names
    ]
    return ParquetSource(data, f"hub:{info.sha}", shards, Path())


def _test_files(names: list[str], data: str) -> list[str]:
    parquet = sorted(name for name in names if name.endswith(".parquet"))
    if not parquet:
        raise ManifestError(f"{data}: holds no parquet files")
    return [name for name in parquet if "test" in name.lower()] or parquet
