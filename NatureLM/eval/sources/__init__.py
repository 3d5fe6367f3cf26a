"""Where evaluation rows come from: parquet, Arrow and JSONL tables in a folder, or parquet on the hub.

A source is read in two passes: `rows` gives every column but the audio, cheaply; `audio` reads waveforms of the wanted rows
only. That is why a 1 % subset of a 100 GB table moves 1 % of it. Knows nothing of tasks, prompts or models.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from NatureLM.errors import ManifestError
from NatureLM.eval.sources.record import RawAudio, Row, Source

__all__ = ["SOURCES", "RawAudio", "Row", "Source", "open_source"]

SOURCES: dict[str, str] = {
    "parquet": "NatureLM.eval.sources.parquet:open_parquet",
    "arrow": "NatureLM.eval.sources.arrow:open_arrow",
    "jsonl": "NatureLM.eval.sources.jsonl:open_jsonl",
}
"""Suffix of the files -> the function that opens them, in order of preference when a folder holds several kinds."""

HUB = "NatureLM.eval.sources.hub:open_hub"


def open_source(data: str | Path) -> Source:
    """Open a table of evaluation rows.

    Args:
        data: A file, a folder (searched through), or a data set on the hub as ``owner/name`` or ``owner/name@revision``.

    Raises:
        ManifestError: Nothing readable is there.
        DependencyError: An optional package is needed.
        DownloadError: The hub cannot be reached, or is not to be.
    """
    path = Path(data)
    if path.exists():
        kind, files = _files_of(path)
        return _resolve(SOURCES[kind])(path, files)
    source: Source = _resolve(HUB)(str(data))
    return source


def _files_of(path: Path) -> tuple[str, list[Path]]:
    if path.is_file():
        kind = path.suffix.lower().lstrip(".")
        if kind not in SOURCES:
            raise ManifestError(
                f"{path}: expected one of {', '.join(SOURCES)}, found {path.suffix}"
            )
        return kind, [path]
    for kind in SOURCES:
        files = sorted(p for p in path.rglob(f"*.{kind}") if p.is_file())
        if files:
            return kind, test_split(path, files)
    raise ManifestError(f"{path}: no {', '.join('*.' + kind for kind in SOURCES)} inside")


def test_split(root: Path, files: list[Path]) -> list[Path]:
    """Keep the files of the test split when files are named by split."""
    named = [p for p in files if "test" in str(p.relative_to(root)).lower()]
    return named or files


def _resolve(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    return getattr(importlib.import_module(module), attribute)
