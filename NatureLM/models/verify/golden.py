"""A golden folder: numbers recorded from the reference implementation, and how far a recomputation is from them.

Knows the folder's files and how to compare; no stage is computed here. The one surprise: nothing is assumed about sizes,
seeds, files or cases, since any folder of this layout may be given; all of them are read from the folder itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from NatureLM.errors import CheckpointError
from NatureLM.models.weight_file import Entry, open_weights, read_tensor

RATE_HZ = 16000
STAGE_ATOL, LOGITS_ATOL, LOSS_ATOL, NORM_RTOL = 1e-4, 2e-3, 1e-3, 1e-3
MEL_ATOL, MEL_ATOL_FLOAT32 = 5e-5, 2e-4
"""Tolerances suggested by the fixtures' README; measured there against float64."""


@dataclass(frozen=True)
class Check:
    """One compared number, tensor or text.

    Attributes:
        stage: What was recomputed.
        difference: Largest absolute difference, relative where ``note`` says so; infinite when shapes or texts differ.
        tolerance: What it may be.
        note: What a reader should know, such as which file was meant.
        skipped: Whether nothing was compared; ``note`` says why.
    """

    stage: str
    difference: float
    tolerance: float
    note: str = ""
    skipped: bool = False

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance

    @property
    def verdict(self) -> str:
        """``pass``, ``fail`` or ``skip``."""
        if self.skipped:
            return "skip"
        return "pass" if self.passed else "fail"

    def as_row(self) -> dict[str, Any]:
        """Give a JSON-able row; an infinite difference is the text ``inf``."""
        finite = self.difference if np.isfinite(self.difference) else "inf"
        return {
            "stage": self.stage,
            "max_abs_difference": finite,
            "tolerance": self.tolerance,
            "verdict": self.verdict,
            "note": self.note,
        }


def skipped(stage: str, why: str) -> Check:
    """Say that nothing was compared."""
    return Check(stage, 0.0, 0.0, why, skipped=True)


def compare(stage: str, found: Any, golden: Any, tolerance: float, note: str = "") -> Check:
    """Compare arrays or numbers by their largest absolute difference."""
    a, b = (np.asarray(_array(v), dtype=np.float64) for v in (found, golden))
    if a.shape != b.shape:
        return Check(
            stage, np.inf, tolerance, f"{a.shape} here, {b.shape} recorded. {note}".strip()
        )
    difference = float(np.abs(a - b).max()) if a.size else 0.0
    return Check(stage, np.inf if np.isnan(difference) else difference, tolerance, note)


def compare_relative(stage: str, found: float, golden: float, tolerance: float) -> Check:
    """Compare two numbers relative to the recorded one."""
    difference = abs(found - golden) / max(abs(golden), 1e-12)
    return Check(stage, np.inf if np.isnan(difference) else difference, tolerance, "relative")


def compare_exactly(stage: str, found: Any, golden: Any, note: str = "") -> Check:
    """Compare texts, ids or names, which are equal or not."""
    if found == golden:
        return Check(stage, 0.0, 0.0, note)
    shown = f"{found!r:.120} here, {golden!r:.120} recorded"
    return Check(stage, np.inf, 0.0, f"{shown}. {note}".strip())


class Golden:
    """A golden folder, read when asked.

    Attributes:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, Any] = {}

    def json(self, name: str) -> Any:
        """Read a JSON file of the folder, once.

        Raises:
            CheckpointError: When it is missing or damaged.
        """
        if name not in self._read:
            try:
                self._read[name] = json.loads((self.folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"{self.folder / name}: cannot be read, so this is no golden folder ({error})."
                ) from error
        return self._read[name]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read every tensor of a file under ``expected/``, once."""
        if name not in self._read:
            entries = open_weights(self.folder / "expected" / f"{name}.safetensors").entries
            self._read[name] = {k: read_tensor(e) for k, e in entries.items()}
        found: dict[str, Tensor] = self._read[name]
        return found

    def weights(self) -> dict[str, Entry]:
        """List the tensors of the complete hub form."""
        return open_weights(self.folder / "model.safetensors").entries

    @property
    def config(self) -> dict[str, Any]:
        """``config.json``."""
        found: dict[str, Any] = self.json("config.json")
        return found

    @property
    def info(self) -> dict[str, Any]:
        """Seeds, ids, counts and the Q-Former's sizes."""
        found: dict[str, Any] = self.json("expected/golden.json")["info"]
        return found

    @property
    def recorded(self) -> dict[str, Any]:
        """The numbers of the reference in float32."""
        found: dict[str, Any] = self.json("expected/golden.json")["modes"]["fp32"]
        return found

    @property
    def samples(self) -> dict[str, Any]:
        """Prompts, texts, files and lengths of the recorded batches."""
        found: dict[str, Any] = self.json("expected/golden.json")["samples"]
        return found

    @property
    def misc(self) -> dict[str, Any]:
        """Everything that needs no weights."""
        found: dict[str, Any] = self.json("expected/misc.json")
        return found

    @cached_property
    def single_file(self) -> str:
        """The file of the recorded single window: the first one that needs no resampling."""
        stored = self.tensors("processor_audio_f64")
        names = self.samples["files"]
        return next((n for n in names if n not in stored), names[0])

    def waveform(self, name: str) -> Tensor:
        """Give a recording as the reference's processor hands it to the encoder, float64, unpadded."""
        stored = self.tensors("processor_audio_f64")
        if name in stored:
            return stored[name]
        decoded, _ = soundfile.read(self.folder / "audio" / name, dtype="float64", always_2d=True)
        return torch.from_numpy(decoded.mean(axis=1))

    def batch(self, files: Sequence[str], lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Cut recordings to ``lengths`` and pad them with zeros at the end."""
        padded = torch.zeros(len(files), max(lengths), dtype=torch.float64)
        for row, name, length in zip(padded, files, lengths, strict=True):
            row[:length] = self.waveform(name)[:length]
        return padded, torch.tensor(list(lengths))


def _array(value: Any) -> Any:
    return value.detach().double().cpu().numpy() if isinstance(value, Tensor) else value
