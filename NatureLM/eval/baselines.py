"""Cheap baselines: what a score is worth depends on what no model, or the frozen encoder alone, would reach.

Knows references and features, no LLM. The surprise: `majority` is taken from the references under test, so it is the best that any
constant answer could do, and `probe` is trained on the other recordings of the same component, which the model is not.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from NatureLM.eval.prepare import Prepared, prepare
from NatureLM.eval.runner import Job
from NatureLM.eval.task import Outline
from NatureLM.infer.batching import chunks
from NatureLM.infer.engine import stack
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.vocabulary import NONE, Component, split_labels

if TYPE_CHECKING:
    from NatureLM.models.model import NatureLM

BASELINES = ("majority", "none", "random", "probe")
FOLDS = 5
RIDGE = 0.1
"""Weight of the penalty, as a share of the mean squared feature norm."""
NAMED_ABOVE = 0.5
"""Score from which a detection probe names a label."""


def majority(outlines: Sequence[Outline]) -> list[str]:
    """Answer every example of a component with its most frequent reference; ties go to the first in order."""
    counts = Counter(outline.reference for outline in outlines)
    best = min(counts, key=lambda label: (-counts[label], label)) if counts else ""
    return [best] * len(outlines)


def nothing(outlines: Sequence[Outline]) -> list[str]:
    """Answer "None" always."""
    return [NONE] * len(outlines)


def chance(outlines: Sequence[Outline], component: Component) -> list[str]:
    """Answer with a label drawn by the example's name, from the vocabulary, or from the references where none is declared."""
    labels = sorted({*component.labels} or {outline.reference for outline in outlines})
    return [_drawn(outline, labels) for outline in outlines]


def _drawn(outline: Outline, labels: Sequence[str]) -> str:
    seed = hashlib.sha256(f"{outline.component}/{outline.id}".encode()).hexdigest()
    return random.Random(seed).choice(labels)  # noqa: S311 - reproducible, not secret


def features(job: Job) -> dict[tuple[str, str], np.ndarray]:
    """Run the frozen encoder over the examples: mean and maximum of the frames of each."""
    names = {outline.name for outline in job.outlines}
    rate_hz, parity = job.engine.model.sample_rate, job.settings.parity
    found: dict[tuple[str, str], np.ndarray] = {}
    batch: list[Prepared] = []
    for example in job.task.examples(lambda o: o.name in names):
        prepared = prepare(example, rate_hz, parity)
        if prepared.error is None:
            batch.append(prepared)
        if len(batch) == job.settings.batch_size:
            found |= _encoded(job.engine.model, batch)
            batch = []
    return found | _encoded(job.engine.model, batch)


def _encoded(model: NatureLM, batch: Sequence[Prepared]) -> dict[tuple[str, str], np.ndarray]:
    found = {}
    for part in chunks(batch, 16):
        waveforms, lengths = stack([prepared.waveforms[0] for prepared in part])
        missing = model.sample_rate // 2 - waveforms.shape[1]
        if missing > 0:
            waveforms = torch.nn.functional.pad(waveforms, (0, missing))
        with torch.inference_mode():
            encoder: Any = model.encoder
            frames, counts = encoder(waveforms.to(model.device), lengths.to(model.device))
        for prepared, row, count in zip(part, frames.float(), counts.tolist(), strict=True):
            heard = row[: max(1, count)]
            both = torch.cat([heard.mean(0), heard.amax(0)])
            found[prepared.outline.name] = both.cpu().numpy().astype(np.float64)
    return found


def probe(
    outlines: Sequence[Outline], component: Component, vectors: dict[tuple[str, str], np.ndarray]
) -> list[str]:
    """Answer by a linear probe on frozen features, each recording by a probe trained on the others' folds.

    Ridge regression in closed form on standardised features, one output a label. An example without features, or in a fold for
    which nothing is left to train on, is answered with the majority of what is.
    """
    usable = [o for o in outlines if o.name in vectors]
    fallback = majority(usable or outlines)[0] if outlines else ""
    answers = {o.name: fallback for o in outlines}
    folds = np.array([_fold(o) for o in usable])
    for fold in range(FOLDS):
        train = [o for o, f in zip(usable, folds, strict=True) if f != fold]
        test = [o for o, f in zip(usable, folds, strict=True) if f == fold]
        if train and test:
            answers |= _probed(train, test, component, vectors)
    return [answers[o.name] for o in outlines]


def _fold(outline: Outline) -> int:
    return int(hashlib.sha256(outline.recording.encode()).hexdigest()[:8], 16) % FOLDS


def _probed(
    train: Sequence[Outline],
    test: Sequence[Outline],
    component: Component,
    vectors: dict[tuple[str, str], np.ndarray],
) -> dict[tuple[str, str], str]:
    detects = component.task == "detection"
    named = [_labels(o, component) if detects else [o.reference] for o in train]
    labels = sorted({label for row in named for label in row})
    if not labels:
        return {o.name: NONE for o in test}
    targets = np.array([[float(label in row) for label in labels] for row in named])
    known = np.stack([vectors[o.name] for o in train])
    scores = _ridge(known, targets, np.stack([vectors[o.name] for o in test]))
    if not detects:
        return {o.name: labels[int(row.argmax())] for o, row in zip(test, scores, strict=True)}
    return {
        o.name: ", ".join(x for x, s in zip(labels, row, strict=True) if s > NAMED_ABOVE) or NONE
        for o, row in zip(test, scores, strict=True)
    }


def _labels(outline: Outline, component: Component) -> list[str]:
    found = split_labels(outline.reference, component.labels)
    return [label for label in found if label.casefold() != NONE.casefold()]


def _ridge(known: np.ndarray, targets: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Solve in the dual form: there are fewer recordings than features."""
    middle, scale = known.mean(0), known.std(0)
    scale[scale < 1e-9] = 1.0
    known, unknown = (known - middle) / scale, (unknown - middle) / scale
    offset = targets.mean(0)
    kernel = known @ known.T
    penalty = RIDGE * max(float(np.trace(kernel)) / len(kernel), 1e-9)
    weights = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), targets - offset)
    return np.asarray(unknown @ known.T @ weights + offset)


def baseline_rows(
    job: Job, name: str, vectors: dict[tuple[str, str], np.ndarray]
) -> list[PredictionRow]:
    """Answer every example of a job by a baseline.

    Args:
        job: The run that is compared.
        name: One of `BASELINES`.
        vectors: Features, for ``probe``.
    """
    rows: list[PredictionRow] = []
    for component in job.task.components.values():
        part = [o for o in job.outlines if o.component == component.name]
        answers = _baseline(name, part, component, vectors)
        rows += [
            PredictionRow(len(rows) + i, o.component, answer, o.reference, o.id, o.recording)
            for i, (o, answer) in enumerate(zip(part, answers, strict=True), 1)
        ]
    return rows


def _baseline(
    name: str,
    outlines: Sequence[Outline],
    component: Component,
    vectors: dict[tuple[str, str], np.ndarray],
) -> list[str]:
    if name == "majority" or (name == "probe" and component.task == "captioning"):
        return majority(outlines)
    if name == "probe":
        return probe(outlines, component, vectors)
    return nothing(outlines) if name == "none" else chance(outlines, component)
