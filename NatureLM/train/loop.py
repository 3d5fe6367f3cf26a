"""The loop around a step: learning rate, clipping, time limit, saves, a line of figures now and then.

Knows optimisers and clocks, nothing of what is trained. The surprise: a run may be bounded by minutes; the cosine then follows the clock, so that it always ends
where it should.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)
LOG_SECONDS = 10.0


@dataclass(frozen=True)
class Schedule:
    """How long, and how the learning rate goes.

    Attributes:
        steps: Steps at most.
        minutes: Minutes at most.
        warmup_steps: Linear warm-up.
        end_share: What is left of the rate at the end.
    """

    steps: int
    minutes: float | None
    warmup_steps: int
    end_share: float

    def progress(self, step: int, seconds: float) -> float:
        """Say how far the run is, from 0 to 1."""
        by_clock = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        return min(1.0, max(step / self.steps, by_clock))

    def share(self, step: int, seconds: float) -> float:
        """Give the learning rate as a share of its peak."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress(step, seconds)))
        return warm * (self.end_share + (1 - self.end_share) * cosine)


@dataclass
class Run:
    """A run in progress.

    Attributes:
        folder: Where it writes.
        schedule: How long.
        clip_norm: Largest gradient norm.
        save: Writes what was learned.
        save_minutes: Between two saves.
        history: Figures noted so far.
    """

    folder: Path
    schedule: Schedule
    clip_norm: float
    save: Callable[[Path, dict[str, Any]], None]
    save_minutes: float = 1.0
    history: list[dict[str, float]] = field(default_factory=list)

    def __call__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        step: Callable[[int], dict[str, Tensor]],
    ) -> dict[str, Any]:
        """Train.

        Args:
            optimizer: Its groups' ``lr`` are the peaks.
            parameters: What is clipped.
            step: Computes a step's figures; ``loss`` is followed downhill.

        Returns:
            A summary of the run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        begun = noted = saved = time.monotonic()
        number = 0
        while self.schedule.progress(number, time.monotonic() - begun) < 1.0:
            share = self.schedule.share(number, time.monotonic() - begun)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * share
            figures = step(number)
            figures["loss"].backward()
            nn.utils.clip_grad_norm_(parameters, self.clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            number += 1
            now = time.monotonic()
            if now - noted > LOG_SECONDS or number == 1:
                noted = now
                self._note(number, now - begun, figures)
            if now - saved > 60 * self.save_minutes:
                saved = now
                self.save(self.folder, self._summary(number, now - begun))
        self._note(number, time.monotonic() - begun, figures)
        summary = self._summary(number, time.monotonic() - begun)
        self.save(self.folder, summary)
        return summary

    def _note(self, number: int, seconds: float, figures: dict[str, Tensor]) -> None:
        row = {name: float(value.detach()) for name, value in figures.items()}
        row |= {"step": number, "seconds": round(seconds, 1)}
        self.history.append(row)
        _LOG.info("%s", "  ".join(f"{k} {v:.4g}" for k, v in row.items()))
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _summary(self, number: int, seconds: float) -> dict[str, Any]:
        return {"steps": number, "minutes": round(seconds / 60, 2), "last": self.history[-1]}
