"""Recompute every stage of a golden folder and say how far each is from what was recorded.

Knows the table of stages and in which order they run. The surprises: a stage that cannot be computed has failed and the
others still run; and what lives above the models, the pipeline, is handed in through ``Doors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from NatureLM.models.checkpoint import load
from NatureLM.models.verify import audio, encoder, language, training
from NatureLM.models.verify.golden import Check, Golden
from NatureLM.models.verify.language import Speaker

__all__ = ["STAGES", "Check", "Doors", "Golden", "verify"]


@dataclass(frozen=True)
class Doors:
    """What lives above the models and is handed in.

    Attributes:
        pipeline: Answers a recording through the published pipeline's door; see ``audio.PipelineDoor``.
        windows: Lists the labels of a recording's windows as the published pipeline cuts them; see ``audio.WindowDoor``.
    """

    pipeline: audio.PipelineDoor | None = None
    windows: audio.WindowDoor | None = None


class Bench:
    """A golden folder with everything that stages share.

    Attributes:
        golden: The folder.
        doors: What lives above the models.
    """

    def __init__(self, folder: Path, doors: Doors) -> None:
        self.golden = Golden(folder)
        self.doors = doors

    @cached_property
    def speaker(self) -> Speaker:
        """The model, loaded once, in float32 and the reference's parity."""
        model = load(self.golden.folder, parity="published", dtype="float32", freeze_beats=False)
        return Speaker(self.golden, model)


STAGES: dict[str, Callable[[Bench], Iterator[Check]]] = {
    "front end": lambda bench: encoder.check_front_end(bench.golden),
    "resampling": lambda bench: audio.check_resampling(bench.golden),
    "processor": lambda bench: audio.check_processor(bench.golden),
    "windows": lambda bench: audio.check_windows(bench.golden, bench.doors.windows),
    "one window": lambda bench: encoder.check_single(bench.golden),
    "padded batch": lambda bench: encoder.check_padded_batch(bench.golden),
    "padded to ten seconds": lambda bench: encoder.check_ten_seconds(bench.golden),
    "real size": lambda bench: encoder.check_real_size(bench.golden),
    "checkpoint": lambda bench: language.check_checkpoint(bench.golden),
    "text": lambda bench: language.check_text(bench.speaker),
    "forward": lambda bench: language.check_forward(bench.speaker),
    "several recordings": lambda bench: language.check_multi(bench.speaker),
    "answers": lambda bench: language.check_answers(bench.speaker),
    "stopping": lambda bench: language.check_stopping(bench.speaker),
    "pipeline": lambda bench: audio.check_pipeline(bench.speaker, bench.doors.pipeline),
    "gradients": lambda bench: training.check_gradients(bench.speaker),
    "one step": lambda bench: training.check_step(bench.speaker),
    "learning rate": lambda bench: training.check_schedule(bench.golden),
    "bfloat16": lambda bench: training.check_bfloat16(bench.speaker),
}
"""Name of a group of stages -> what computes it."""


def verify(
    folder: Path, doors: Doors | None = None, only: Sequence[str] = ()
) -> Iterator[tuple[str, Check]]:
    """Recompute a golden folder.

    Args:
        folder: Its path.
        doors: What lives above the models; stages that need what is not given are skipped and say so.
        only: Groups of ``STAGES`` to run; all when empty.

    Yields:
        The group's name and a comparison.

    Raises:
        CheckpointError: When the folder is no golden folder at all.
    """
    bench = Bench(folder, doors or Doors())
    _ = bench.golden.info
    for group, stage in STAGES.items():
        if only and group not in only:
            continue
        try:
            for check in stage(bench):
                yield group, check
        except Exception as error:  # noqa: BLE001 - a stage that cannot be computed has failed; the others still count
            reason = f"could not be computed: {type(error).__name__}: {error}"
            yield group, Check(group, np.inf, 0.0, reason)
