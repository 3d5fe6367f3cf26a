"""Controls: is the audio used, does the wording decide, what does the adapter's scale do.

Each control is the same run with one thing changed, in a folder of its own, so it is resumed like any run. The surprise: the
partner whose recording is swapped in has another reference where there is one; the same reference would hide that nobody listens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from NatureLM.errors import ConfigError, RecordingError
from NatureLM.eval.prepare import Prepared, prepare
from NatureLM.eval.runner import PREDICTIONS, Alter, Job, Outcome, Watch, run
from NatureLM.eval.score import ScoreSettings, evaluate_file
from NatureLM.eval.task import Outline
from NatureLM.scoring.corrected import ComponentScore

ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
"""Scales of the merging sweep (arXiv 2511.05171)."""


@dataclass(frozen=True)
class Headline:
    """The one figure by which a component is compared.

    Attributes:
        metric: Its name.
        value: In [0, 1]; ``None`` when it could not be computed.
    """

    metric: str
    value: float | None


@dataclass(frozen=True)
class Variant:
    """A run with one thing changed.

    Attributes:
        name: What was changed.
        outcome: Its rows.
        headlines: Component to figure.
    """

    name: str
    outcome: Outcome
    headlines: Mapping[str, Headline]


def silence(prepared: Prepared) -> Prepared:
    """Replace the sound by digital silence of the same length."""
    return replace(prepared, waveforms=tuple(np.zeros_like(w) for w in prepared.waveforms))


def noise(prepared: Prepared) -> Prepared:
    """Replace the sound by white noise of the same length and power, the same for the same example every time."""
    rng = np.random.default_rng(int(_hash(prepared.outline)[:16], 16))

    def like(waveform: np.ndarray) -> np.ndarray:
        power = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
        drawn = rng.standard_normal(len(waveform)) * power
        return np.clip(drawn, -1.0, 1.0).astype(waveform.dtype)

    return replace(prepared, waveforms=tuple(like(w) for w in prepared.waveforms))


def text_only(prepared: Prepared) -> Prepared:
    """Ask the LLM alone: no recording, no placeholder."""
    return replace(prepared, waveforms=())


ARMS: dict[str, Alter | None] = {
    "silence": silence,
    "noise": noise,
    "swapped": None,
    "text-only": text_only,
}
"""Name -> what is done to every example; ``swapped`` needs the other examples and is made by `swapped`."""


def partners(outlines: Sequence[Outline]) -> dict[tuple[str, str], Outline]:
    """Give every example another one of its component, of another reference where possible, the same every time."""
    parts: dict[str, list[Outline]] = {}
    for outline in outlines:
        parts.setdefault(outline.component, []).append(outline)
    found: dict[tuple[str, str], Outline] = {}
    for part in parts.values():
        ring = sorted(part, key=_hash)
        for place, outline in enumerate(ring):
            others = [ring[(place + step) % len(ring)] for step in range(1, len(ring))]
            strangers = (o for o in others if o.reference != outline.reference)
            partner = next(strangers, others[0] if others else None)
            if partner is not None:
                found[outline.name] = partner
    return found


@contextmanager
def swapped(job: Job) -> Iterator[Alter]:
    """Make the alteration that gives every example its partner's sound; waveforms wait in a temporary folder."""
    pairs = partners(job.outlines)
    with TemporaryDirectory(prefix="naturelm-swapped-") as folder:
        places = _spooled(job, {partner.name for partner in pairs.values()}, Path(folder))

        def swap(prepared: Prepared) -> Prepared:
            partner = pairs.get(prepared.outline.name)
            place = places.get(partner.name) if partner else None
            if place is None:
                message = "no other readable recording in the component"
                return replace(prepared, error=RecordingError(message, "no_partner"))
            return replace(prepared, waveforms=(np.load(place),))

        yield swap


def _spooled(job: Job, wanted: set[tuple[str, str]], folder: Path) -> dict[tuple[str, str], Path]:
    places: dict[tuple[str, str], Path] = {}
    rate_hz, parity = job.engine.model.sample_rate, job.settings.parity
    for number, example in enumerate(job.task.examples(lambda o: o.name in wanted)):
        prepared = prepare(example, rate_hz, parity)
        if prepared.waveforms:
            place = places[example.outline.name] = folder / f"{number}.npy"
            np.save(place, prepared.waveforms[0])
    return places


def run_arm(job: Job, name: str, scoring: ScoreSettings, watch: Watch) -> Variant:
    """Run one arm of "is the audio used?".

    Raises:
        ConfigError: There is no such arm.
    """
    if name not in ARMS:
        raise ConfigError(f"control {name!r}: unknown; choose among {', '.join(ARMS)}")
    settings = replace(job.settings, arm=name)
    folder = job.folder / "controls" / name
    alter = ARMS[name]
    changed = replace(job, settings=settings, folder=folder, alter=alter)
    if alter is not None:
        return _variant(name, changed, scoring, watch)
    with swapped(job) as swap:
        return _variant(name, replace(changed, alter=swap), scoring, watch)


Rewording = Callable[[Outline], str]


def run_wording(
    job: Job, name: str, reword: Rewording, scoring: ScoreSettings, watch: Watch
) -> Variant:
    """Run with other queries about the same recordings."""
    outlines = [replace(outline, query=reword(outline)) for outline in job.outlines]
    changed = replace(job, outlines=outlines, folder=job.folder / "panels" / name)
    return _variant(name, changed, scoring, watch)


def run_alpha(job: Job, alpha: float, scoring: ScoreSettings, watch: Watch) -> Variant:
    """Run with another scale of the adapter."""
    settings = replace(job.settings, merging_alpha=alpha)
    name = f"{alpha:g}"
    changed = replace(job, settings=settings, folder=job.folder / "alphas" / name)
    return _variant(name, changed, scoring, watch)


def _variant(name: str, job: Job, scoring: ScoreSettings, watch: Watch) -> Variant:
    outcome = run(job, watch)
    return Variant(name, outcome, headlines(job.folder, scoring))


def headlines(folder: Path, scoring: ScoreSettings) -> dict[str, Headline]:
    """Score the predictions of a folder by the corrected scorer and keep each component's headline."""
    quick = replace(scoring, scorer="corrected", resamples=0)
    corrected = evaluate_file(folder / PREDICTIONS, quick).corrected
    scores = corrected.components if corrected else {}
    return {name: headline_of(score) for name, score in scores.items()}


def headline_of(score: ComponentScore) -> Headline:
    """Take a component's headline, CIDEr as a tenth of it so that every figure ends at 1."""
    value = score.metrics.get(score.headline)
    if score.headline != "cider":
        return Headline(score.headline, value)
    return Headline("cider / 10", None if value is None else value / 10)


@dataclass(frozen=True)
class Spread:
    """How much a figure moves when only the wording does.

    Attributes:
        metric: The figure.
        values: Variant to value.
        agreement: Share of examples that are answered alike by all variants.
    """

    metric: str
    values: Mapping[str, float]
    agreement: float

    @property
    def worst(self) -> float:
        """The lowest value."""
        return min(self.values.values())

    @property
    def spread(self) -> float:
        """Highest minus lowest."""
        return max(self.values.values()) - self.worst


def spreads(variants: Sequence[Variant]) -> dict[str, Spread]:
    """Compare variants of a panel, component by component."""
    found: dict[str, Spread] = {}
    for component, first in variants[0].headlines.items():
        values = {
            v.name: v.headlines[component].value or 0.0
            for v in variants
            if component in v.headlines
        }
        found[component] = Spread(first.metric, values, _agreement(variants, component))
    return found


def _agreement(variants: Sequence[Variant], component: str) -> float:
    answers: dict[str, set[str]] = {}
    for variant in variants:
        for row in variant.outcome.rows:
            if row["dataset_name"] == component:
                answers.setdefault(row["id"], set()).add(row["prediction"].strip().casefold())
    return sum(len(said) == 1 for said in answers.values()) / max(1, len(answers))


def _hash(outline: Outline) -> str:
    return hashlib.sha256(f"{outline.component}/{outline.id}".encode()).hexdigest()
