"""What a report says of an evaluation, section by section.

Knows evaluations and the shapes of a report, neither HTML nor Markdown. Every number is the record's; nothing is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from NatureLM.eval.report_document import Grid, Section
from NatureLM.eval.report_plots import calibration_plot, matching_plot
from NatureLM.eval.score import Evaluation
from NatureLM.eval.tables import percent, span
from NatureLM.scoring.classification import LabelCounts
from NatureLM.scoring.corrected import ComponentScore
from NatureLM.scoring.taxonomic import RANKS

MOST_FAULTS = 50
"""Row errors listed in a report; the JSON card lists all."""


def score_sections(evaluation: Evaluation) -> Iterator[Section]:
    """Give the sections from the overview to each component's tables."""
    yield _overview(evaluation)
    if evaluation.official:
        yield _official(evaluation)
    yield from _captions(evaluation)
    calibration = calibration_plot(evaluation.calibration)
    if calibration:
        yield Section("Calibration", figures=(calibration,), grids=(_calibration_grid(evaluation),))
    if evaluation.taxonomic:
        yield from _taxonomic(evaluation)
    scores = evaluation.corrected.components if evaluation.corrected else {}
    for name, score in scores.items():
        if score.component.task != "captioning":
            yield _component(name, score, evaluation)


def _overview(evaluation: Evaluation) -> Section:
    scores = evaluation.corrected.components if evaluation.corrected else {}
    rows = tuple(_overview_row(name, score, evaluation) for name, score in scores.items())
    columns = (
        "component",
        "figure",
        ">rows",
        ">value",
        ">95 % interval",
        ">strict",
        ">nearest",
        ">invalid",
        ">failed",
    )
    figure = matching_plot(evaluation)
    text = (
        "Corrected scorer: labels come from the declared vocabulary, lists are matched label by label, and an answer that names "
        "no label is wrong. Intervals are bootstrap percentiles over recordings. All figures in percent, CIDEr from 0 to 10."
    )
    return Section(
        "Scores", (text,), (Grid(columns, rows),) if rows else (), (figure,) if figure else ()
    )


_BESIDE = {
    "classification": ("accuracy_strict", "accuracy_nearest"),
    "detection": ("f1_macro_strict", "f1_macro_nearest"),
}


def _overview_row(name: str, score: ComponentScore, evaluation: Evaluation) -> tuple[str, ...]:
    found, task = score.metrics, score.component.task
    bounds = evaluation.intervals.get(name, {})
    count, failed = str(len(score.outcomes)), str(score.failed)
    if task == "captioning":
        cider = bounds.get("cider")
        text = f"{cider.low:.3f} - {cider.high:.3f}" if cider else ""
        return (name, "CIDEr-D", count, f"{found['cider']:.3f}", text, "", "", "", failed)
    strict, nearest = (percent(found[key]) for key in _BESIDE[task])
    value, interval = percent(found[score.headline]), span(bounds.get(score.headline))
    figure = "accuracy" if task == "classification" else "macro F1"
    return (
        name,
        figure,
        count,
        value,
        interval,
        strict,
        nearest,
        percent(found["invalid_rate"]),
        failed,
    )


def _official(evaluation: Evaluation) -> Section:
    score = evaluation.official
    if score is None:
        raise ValueError("the evaluation has no official score")
    metrics = score.metrics
    columns = tuple(dict.fromkeys(name for found in metrics.values() for name in found))
    rows = tuple(
        (
            name,
            *(percent(metrics.get(name, {}).get(column)) for column in columns),
            score.errors.get(name, ""),
        )
        for name in evaluation.components
        if name in metrics or name in score.errors
    )
    text = (
        "The BEANS-Zero protocol bug for bug: targets are the labels of the file under test and every answer is forced onto the "
        "nearest one. mAP ranks equal scores by row order, where the official tool depends on the processor."
    )
    heads = ("component", *(f">{column}" for column in columns), "not computed")
    return Section("Official protocol", (text,), (Grid(heads, rows),))


def _captions(evaluation: Evaluation) -> Iterator[Section]:
    scores = evaluation.corrected.components if evaluation.corrected else {}
    for name, score in scores.items():
        if score.component.task == "captioning":
            rows = [(key, f"{value:.4f}") for key, value in score.metrics.items()]
            rows += list(score.not_computed.items())
            yield Section(f"Captions: {name}", grids=(Grid(("figure", "value"), tuple(rows)),))


def _calibration_grid(evaluation: Evaluation) -> Grid:
    return Grid(
        ("component", ">rows with confidence", ">ECE", ">Brier", ">mean risk"),
        tuple(
            (name, str(found.rows), f"{found.ece:.4f}", f"{found.brier:.4f}", f"{found.aurc:.4f}")
            for name, found in evaluation.calibration.items()
        ),
    )


def _taxonomic(evaluation: Evaluation) -> Iterator[Section]:
    rows = []
    for name, credit in evaluation.taxonomic.items():
        cells = (percent(credit.accuracy.get(rank)) or "not known" for rank in RANKS)
        rows.append((name, str(max(credit.rows.values())), *cells))
    text = "How often the answer is right at each rank: a near miss in the right genus or family is worth more than a far one."
    grid = Grid(("component", ">rows", ">species", ">genus", ">family"), tuple(rows))
    yield Section("Taxonomic credit (%)", (text,), (grid,))
    for name, credit in evaluation.taxonomic.items():
        if credit.families:
            grids = (_label_grid("Families", credit.families, {}),)
            yield Section(f"{name}: by family", grids=grids, folded=True)


def _component(name: str, score: ComponentScore, evaluation: Evaluation) -> Section:
    bounds = evaluation.intervals.get(name, {})
    metrics = [(key, percent(value), span(bounds.get(key))) for key, value in score.metrics.items()]
    metrics += [(key, reason, "") for key, reason in score.not_computed.items()]
    grids = [Grid(("figure", ">%", ">95 % interval"), tuple(metrics))]
    if score.presence:
        there = score.presence
        cells = (
            ("something there", str(there.found), str(there.missed)),
            ("nothing there", str(there.imagined), str(there.agreed_none)),
        )
        grids.append(Grid(("", ">something named", ">nothing named"), cells, "Presence"))
    if score.common_invalid:
        rows = tuple((text or "(empty)", str(count)) for text, count in score.common_invalid)
        grids.append(Grid(("answer", ">rows"), rows, "Most common invalid answers"))
    grids.append(_label_grid("By label", score.labels, score.average_precision))
    extra = ", ".join(score.undeclared)
    notes = (
        (f"Labels of the references that the vocabulary lacks, added: {extra}.",) if extra else ()
    )
    return Section(f"{name}: all figures and labels", notes, tuple(grids), folded=True)


def _label_grid(
    caption: str, labels: tuple[LabelCounts, ...], precision: Mapping[str, float]
) -> Grid:
    """Lay out labels that occur or were named; the silent ones are counted."""
    shown = [each for each in labels if each.support or each.false_positives]
    silent = len(labels) - len(shown)
    note = f"{caption}; {silent} label(s) neither occur nor were named" if silent else caption
    ranked = sorted(shown, key=lambda each: (-each.support, each.label))
    rows = [
        (
            each.label,
            str(each.support),
            percent(each.precision),
            percent(each.recall),
            percent(each.f1),
        )
        for each in ranked
    ]
    heads: tuple[str, ...] = ("label", ">rows", ">precision", ">recall", ">F1")
    if not precision:
        return Grid(heads, tuple(rows), note)
    with_ap = (
        (*row, percent(precision.get(each.label))) for row, each in zip(rows, ranked, strict=True)
    )
    return Grid((*heads, ">AP"), tuple(with_ap), note)


def fault_section(evaluation: Evaluation) -> Section:
    """Give the section on what went wrong."""
    faults = evaluation.file.faults
    scores = evaluation.corrected.components if evaluation.corrected else {}
    failed = {name: score.failed for name, score in scores.items() if score.failed}
    notes = list(evaluation.warnings)
    if failed:
        notes.append(
            "Rows on which the model failed, counted as wrong: "
            + ", ".join(f"{k} {v}" for k, v in failed.items())
        )
    if not faults:
        notes.append("No row errors.")
        return Section("Failures and warnings", tuple(notes))
    kinds = Counter(fault.column or "whole row" for fault in faults)
    notes.append(
        f"{len(faults)} row error(s): "
        + ", ".join(f"{kind} {n}" for kind, n in kinds.most_common())
    )
    rows = tuple((str(f.row), f.dataset, f.column, f.message) for f in faults[:MOST_FAULTS])
    more = f"the first {MOST_FAULTS} of {len(faults)}" if len(faults) > MOST_FAULTS else ""
    return Section(
        "Failures and warnings",
        tuple(notes),
        (Grid((">row", "component", "column", "message"), rows, more),),
    )
