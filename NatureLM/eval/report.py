"""The result card: one record of a run, written as JSON, Markdown and a single HTML file.

Knows what must never be missing from a reported score: which data, which scorer, which settings, what failed and under what
licences. A part that is not known is written as "not stated", not left out.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from NatureLM import __version__
from NatureLM.errors import StoreError
from NatureLM.eval.report_document import Grid, Section, as_html, as_markdown
from NatureLM.eval.report_sections import fault_section, score_sections
from NatureLM.eval.score import OFFICIAL_REFERENCE, SCORER_VERSION, Evaluation
from NatureLM.eval.stages import row_records

NOT_STATED = "not stated"


@dataclass(frozen=True)
class RunInfo:
    """Where predictions came from.

    Attributes:
        model: Name of the model.
        model_revision: Revision of its weights.
        data: What was evaluated.
        data_revision: Revision of the data.
        settings: Inference settings that change answers.
        failures: Kind of failure to how many examples it struck.
        licences: What (weights, data) to its licence.
        notes: What a reader must know, such as that this is a subset.
        title: Heading of the report.
    """

    model: str = ""
    model_revision: str = ""
    data: str = ""
    data_revision: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    title: str = ""


def write_report(
    evaluation: Evaluation, run: RunInfo, folder: str | Path, more: Sequence[Section] = ()
) -> list[Path]:
    """Write ``card.json``, ``report.md``, ``report.html``, ``rows.jsonl`` and, with official figures, ``official_metrics.json``.

    Args:
        evaluation: The scored predictions.
        run: Where they came from.
        folder: Made when it is not there.
        more: Sections put before those on failures, such as controls.

    Raises:
        StoreError: The folder cannot be written.
        DependencyError: matplotlib is not installed.
    """
    sections = report_sections(evaluation, run, more)
    title = run.title or f"Result card: {run.model or run.data or evaluation.file.name}"
    texts = {
        "card.json": _json(result_card(evaluation, run), 2),
        "report.md": as_markdown(title, sections),
        "report.html": as_html(title, sections),
        "rows.jsonl": "".join(_json(record, None) for record in row_records(evaluation)),
    }
    if evaluation.official:
        texts["official_metrics.json"] = _json(evaluation.official.metrics, 2)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StoreError(f"{folder}: report not written ({error.strerror or error})") from error
    return [target / name for name in texts]


def _json(value: Any, indent: int | None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, default=dict) + "\n"


def result_card(evaluation: Evaluation, run: RunInfo) -> dict[str, Any]:
    """Give the record of a run as JSON-able values."""
    stated = {
        key: value or NOT_STATED
        for key, value in asdict(run).items()
        if key in ("model", "model_revision", "data", "data_revision")
    }
    return {
        **stated,
        "settings": dict(run.settings),
        "failures": dict(run.failures),
        "licences": _licences(evaluation, run),
        "notes": list(run.notes),
        "versions": _versions(),
        "scores": evaluation.as_dict(),
    }


def _versions() -> dict[str, str]:
    return {
        "naturelm": __version__,
        "corrected scorer": SCORER_VERSION,
        "official protocol": OFFICIAL_REFERENCE,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _licences(evaluation: Evaluation, run: RunInfo) -> dict[str, str]:
    """Join the stated licences with those that the scored components declare."""
    used = {row.dataset for row in evaluation.file.rows}
    declared = {
        name: each.licence or NOT_STATED
        for name, each in evaluation.components.items()
        if name in used
    }
    return {"weights": NOT_STATED} | declared | dict(run.licences)


def report_sections(
    evaluation: Evaluation, run: RunInfo, more: Sequence[Section] = ()
) -> list[Section]:
    """Lay out the whole report."""
    licences = tuple(_licences(evaluation, run).items())
    return [
        _summary(evaluation, run),
        *score_sections(evaluation),
        *more,
        _facts(evaluation, run),
        fault_section(evaluation),
        Section("Licences", grids=(Grid(("of", "licence"), licences),)),
    ]


def _summary(evaluation: Evaluation, run: RunInfo) -> Section:
    model = f"{run.model or 'Model ' + NOT_STATED} (revision {run.model_revision or NOT_STATED})"
    data = f"{run.data or 'data ' + NOT_STATED} (revision {run.data_revision or NOT_STATED})"
    rows, faults = len(evaluation.file.rows), len(evaluation.file.faults)
    failed = sum(run.failures.values())
    troubles = (
        f"{faults} row error(s), {failed} failed example(s), {len(evaluation.warnings)} warning(s)"
    )
    return Section("Summary", (f"{model} on {data}: {rows} rows; {troubles}.", *run.notes))


def _facts(evaluation: Evaluation, run: RunInfo) -> Section:
    settings = evaluation.settings
    rows = [
        ("model", run.model or NOT_STATED),
        ("model revision", run.model_revision or NOT_STATED),
        ("data", run.data or NOT_STATED),
        ("data revision", run.data_revision or NOT_STATED),
        ("predictions", evaluation.file.name or "in memory"),
        ("SHA-256 of the predictions", evaluation.digest or NOT_STATED),
        ("rows", str(len(evaluation.file.rows))),
        (
            "intervals",
            f"{settings.resamples} draws of recordings, seed {settings.seed}"
            if settings.resamples
            else "none",
        ),
        *((str(key), str(value)) for key, value in run.settings.items()),
        *((f"failures: {kind}", str(count)) for kind, count in run.failures.items()),
        *_versions().items(),
    ]
    return Section("The run", grids=(Grid(("what", "value"), tuple(rows)),))
