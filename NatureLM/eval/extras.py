"""What is run beside a benchmark to say what its figures mean: controls, panels, the alpha sweep, baselines; and their report sections.

Knows runs and sections, no file layout. Each part is optional, and each writes its own folder, so all of it is resumed with the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from NatureLM.errors import ConfigError, DependencyError
from NatureLM.eval.baselines import BASELINES, baseline_rows, features
from NatureLM.eval.controls import (
    ARMS,
    Headline,
    Spread,
    Variant,
    headline_of,
    headlines,
    run_alpha,
    run_arm,
    run_wording,
    spreads,
)
from NatureLM.eval.report_document import Figure, Grid, Section
from NatureLM.eval.report_plots import Ink, dress, legend, plot
from NatureLM.eval.runner import Job, Outcome, Watch
from NatureLM.eval.score import ScoreSettings, evaluate_rows
from NatureLM.eval.task import Outline
from NatureLM.eval.wordings import has_options, paraphrases, reordered

PANELS = ("options", "paraphrase")
ORDERS = ("reversed", "shuffle-1", "shuffle-2")
"""Orders of options beside the given one."""
WAYS = 3
"""Paraphrases beside the given wording."""


@dataclass(frozen=True)
class Extras:
    """What to run beside the benchmark.

    Attributes:
        controls: Names of `ARMS`.
        panels: Names of `PANELS`.
        alphas: Scales of the adapter.
        baselines: Names of `BASELINES`.
    """

    controls: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    alphas: tuple[float, ...] = ()
    baselines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for what, names, known in (
            ("control", self.controls, tuple(ARMS)),
            ("panel", self.panels, PANELS),
            ("baseline", self.baselines, BASELINES),
        ):
            for name in names:
                if name not in known:
                    raise ConfigError(f"{what} {name!r}: unknown; choose among {', '.join(known)}")
        for alpha in self.alphas:
            if not 0 <= alpha <= 1:
                raise ConfigError(f"alpha {alpha}: expected 0 (base LLM) to 1 (fine-tuned)")


@dataclass
class Findings:
    """What the extras found.

    Attributes:
        sections: For the report.
        record: The same as JSON-able values.
    """

    sections: list[Section] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


Say = Callable[[str], None]


def run_extras(
    job: Job,
    outcome: Outcome,
    extras: Extras,
    scoring: ScoreSettings,
    hear: tuple[Watch, Say],
) -> Findings:
    """Run what was asked for beside a finished run.

    Args:
        job: The finished run.
        outcome: What it left.
        extras: What to run.
        scoring: How to score.
        hear: Takes progress, and the name of each part as it begins.
    """
    watch, say = hear
    real = Variant("real", outcome, headlines(job.folder, scoring))
    found = Findings()
    arms = []
    for name in extras.controls:
        say(f"control {name}")
        arms.append(run_arm(job, name, scoring, watch))
    if arms:
        _controls(found, real, arms)
    for panel in extras.panels:
        _panel(found, job, real, panel, scoring, hear)
    sweep = []
    for alpha in extras.alphas:
        say(f"alpha {alpha:g}")
        sweep.append(run_alpha(job, alpha, scoring, watch))
    if sweep:
        _sweep(found, sweep)
    if extras.baselines:
        say("baselines")
        _baselines(found, job, real, extras.baselines, scoring)
    return found


def _controls(found: Findings, real: Variant, arms: Sequence[Variant]) -> None:
    rows, record = [], {}
    for component, own in real.headlines.items():
        others = {arm.name: arm.headlines.get(component, own).value for arm in arms}
        gains = {
            name: None if own.value is None or value is None else own.value - value
            for name, value in others.items()
        }
        record[component] = {"metric": own.metric, "real": own.value, "arms": others, "gain": gains}
        cells = [f"{_show(others[a.name])} ({_show(gains[a.name], signed=True)})" for a in arms]
        rows.append((component, own.metric, _show(own.value), *cells))
    heads = ("component", "figure", ">real", *(f">{arm.name} (gain)" for arm in arms))
    text = (
        "The same questions with the sound replaced. The gain is the figure with the real sound minus the figure with the "
        "replaced one; a gain near zero means that the answer does not come from the recording."
    )
    found.sections.append(Section("Is the audio used?", (text,), (Grid(heads, tuple(rows)),)))
    found.record["controls"] = record


def _panel(
    found: Findings,
    job: Job,
    real: Variant,
    panel: str,
    scoring: ScoreSettings,
    hear: tuple[Watch, Say],
) -> None:
    part = _narrowed(job, panel)
    if not part.outlines:
        text = "No query of this run names options."
        found.sections.append(Section(_TITLES[panel], (text,)))
        found.record[f"panel {panel}"] = {}
        return
    watch, say = hear
    variants = [_part_of(real, part)]
    for name, reword in _rewordings(job, panel):
        say(f"{panel}: {name}")
        variants.append(run_wording(part, f"{panel}-{name}", reword, scoring, watch))
    _spread_section(found, panel, spreads(variants))


def _narrowed(job: Job, panel: str) -> Job:
    """Keep the components whose queries a panel can change."""
    if panel != "options":
        return job
    closed = {o.component for o in job.outlines if has_options(o.query, _labels(job, o))}
    return replace(job, outlines=[o for o in job.outlines if o.component in closed])


def _labels(job: Job, outline: Outline) -> tuple[str, ...]:
    return job.task.components[outline.component].labels


def _part_of(variant: Variant, job: Job) -> Variant:
    components = {outline.component for outline in job.outlines}
    rows = tuple(row for row in variant.outcome.rows if row["dataset_name"] in components)
    kept = {name: h for name, h in variant.headlines.items() if name in components}
    return Variant("as given", replace(variant.outcome, rows=rows), kept)


def _rewordings(job: Job, panel: str) -> Iterator[tuple[str, Callable[[Outline], str]]]:
    if panel == "options":
        for order in ORDERS:
            yield order, lambda o, order=order: reordered(o.query, _labels(job, o), order)  # type: ignore[misc]
        return
    for way in range(1, WAYS + 1):
        yield str(way), lambda o, way=way: _way(o.query, way)  # type: ignore[misc]


def _way(query: str, way: int) -> str:
    ways = paraphrases(query)
    return ways[way % len(ways)]


_TITLES = {
    "options": "Does the order of the options decide?",
    "paraphrase": "Does the wording decide?",
}


def _spread_section(found: Findings, panel: str, by_component: dict[str, Spread]) -> None:
    names = list(dict.fromkeys(n for spread in by_component.values() for n in spread.values))
    rows = tuple(
        (
            component,
            spread.metric,
            *(_show(spread.values.get(name)) for name in names),
            _show(spread.worst),
            _show(spread.spread),
            _show(spread.agreement),
        )
        for component, spread in by_component.items()
    )
    heads = ("component", "figure", *(f">{n}" for n in names), ">worst", ">spread", ">same answer")
    text = "The same recordings asked otherwise. The worst case and the spread say what a figure owes to its wording."
    found.sections.append(Section(_TITLES[panel], (text,), (Grid(heads, rows),)))
    found.record[f"panel {panel}"] = {
        component: {
            "metric": s.metric,
            "values": dict(s.values),
            "worst": s.worst,
            "spread": s.spread,
            "agreement": s.agreement,
        }
        for component, s in by_component.items()
    }


def _sweep(found: Findings, variants: Sequence[Variant]) -> None:
    alphas = [float(variant.name) for variant in variants]
    lines: dict[str, list[float | None]] = {}
    for variant in variants:
        for component, headline in variant.headlines.items():
            lines.setdefault(component, []).append(headline.value)
    rows = tuple((name, *map(_show, values)) for name, values in lines.items())
    grid = Grid(("component", *(f">{alpha:g}" for alpha in alphas)), rows)
    text = (
        "The adapter's scale, from the base LLM (0) to the fine-tuned one (1); arXiv 2511.05171 recommends 0.4 to 0.6 for questions "
        "that the fine-tuning did not hold."
    )
    figures = tuple(figure for figure in (_sweep_plot(alphas, lines),) if figure)
    found.sections.append(Section("Merging alpha", (text,), (grid,), figures))
    found.record["alphas"] = {"alphas": alphas, "values": lines}


def _sweep_plot(alphas: Sequence[float], lines: dict[str, list[float | None]]) -> Figure | None:
    def draw(canvas: Any, ink: Ink) -> None:
        axes = canvas.add_subplot()
        dress(axes, ink)
        colours, styles = (ink.first, ink.second, ink.third), ("-", "--", ":", "-.")
        for number, (name, values) in enumerate(lines.items()):
            heights = [float("nan") if value is None else 100 * value for value in values]
            axes.plot(
                alphas,
                heights,
                marker="o",
                markersize=3,
                color=colours[number % 3],
                linestyle=styles[number // 3 % 4],
                label=name,
            )
        axes.set_ylim(-2, 102)
        axes.set_xlabel("merging alpha")
        axes.set_ylabel("headline figure, %")
        legend(axes, ink, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7)

    try:
        return plot(draw, "Each component's headline figure against the adapter's scale.", 3.6)
    except DependencyError:
        return None


def _baselines(
    found: Findings, job: Job, real: Variant, names: Sequence[str], scoring: ScoreSettings
) -> None:
    vectors = features(job) if "probe" in names else {}
    quick = replace(scoring, scorer="corrected", resamples=0)
    columns: dict[str, dict[str, Headline]] = {}
    for name in names:
        corrected = evaluate_rows(baseline_rows(job, name, vectors), quick).corrected
        scores = corrected.components if corrected else {}
        columns[name] = {component: headline_of(score) for component, score in scores.items()}
    nobody = Headline("", None)
    rows = tuple(
        (
            component,
            own.metric,
            _show(own.value),
            *(_show(columns[name].get(component, nobody).value) for name in names),
        )
        for component, own in real.headlines.items()
    )
    text = (
        "What no model reaches: the most frequent reference (known from the truth, so the best constant answer), None, a random label; "
        "and a linear probe on the frozen encoder, trained on the other recordings of the component (five folds by recording)."
    )
    heads = ("component", "figure", ">model", *(f">{name}" for name in names))
    found.sections.append(Section("Cheap baselines", (text,), (Grid(heads, rows),)))
    found.record["baselines"] = {
        name: {c: h.value for c, h in column.items()} for name, column in columns.items()
    }


def _show(value: float | None, *, signed: bool = False) -> str:
    if value is None:
        return "not computed"
    return f"{100 * value:+.1f}" if signed else f"{100 * value:.1f}"
