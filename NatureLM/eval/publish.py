"""What a finished run leaves beside its predictions: processed and scored rows, the report, the record of the run.

Knows the scorer and the report, no model. The stages are separate files because others want them separately: predictions go to the
official tool, processed rows show what its matching made of them, scored rows what became of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from NatureLM.errors import DependencyError
from NatureLM.eval.report import RunInfo, write_report
from NatureLM.eval.report_document import Section
from NatureLM.eval.runner import PREDICTIONS, Job, Outcome
from NatureLM.eval.score import Evaluation, ScoreSettings, evaluate_file
from NatureLM.eval.stages import row_records
from NatureLM.eval.store import write_json, write_jsonl
from NatureLM.eval.task import example_id
from NatureLM.models.catalog import MODELS

PROCESSED, SCORED, RECORD, IDS = "processed.jsonl", "scored.jsonl", "run.json", "ids.txt"


@dataclass(frozen=True)
class Published:
    """A finished run, scored.

    Attributes:
        evaluation: All figures.
        files: What was written.
        missing: Why a part was not written.
    """

    evaluation: Evaluation
    files: tuple[Path, ...]
    missing: str = ""


def run_info(job: Job, outcome: Outcome, notes: Sequence[str] = ()) -> RunInfo:
    """Say where the predictions came from."""
    model, settings = job.engine.model, job.settings
    return RunInfo(
        model=model.name,
        model_revision=model.revision,
        data=f"{job.task.name}: {job.task.data}",
        data_revision=job.task.revision,
        settings={
            **settings.identity(),
            "batch_size": settings.batch_size,
            "examples": len(job.outlines),
            "encoder rate in Hz": model.sample_rate,
            "device": str(model.device),
        },
        failures=outcome.failures,
        licences=_licences(job),
        notes=tuple(notes),
    )


def _licences(job: Job) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for outline in job.outlines:
        if outline.licence:
            found.setdefault(outline.component, set()).add(outline.licence)
    weights = {e.licence for e in MODELS.values() if job.engine.model.name in (e.name, e.source)}
    stated = {"weights": ", ".join(sorted(weights))} if weights else {}
    return stated | {name: ", ".join(sorted(terms)) for name, terms in found.items()}


def publish(
    job: Job,
    outcome: Outcome,
    settings: ScoreSettings,
    notes: Sequence[str] = (),
    more: Sequence[Section] = (),
) -> Published:
    """Score a finished run and write its stages and report into its folder.

    Args:
        job: The run.
        outcome: What it left.
        settings: How to score.
        notes: What a reader must know.
        more: Sections of the report beside the scores.

    Raises:
        StoreError: The folder cannot be written.
        FormatError: There is no row to score.
    """
    folder = job.folder
    evaluation = evaluate_file(folder / PREDICTIONS, settings)
    if evaluation.official is not None:
        write_jsonl(folder / PROCESSED, _processed(outcome, evaluation))
    write_jsonl(folder / SCORED, row_records(evaluation))
    write_json(folder / RECORD, _record(job, outcome, notes))
    names = [example_id(outline) for outline in job.outlines]
    (folder / IDS).write_text("\n".join(names) + "\n", encoding="utf-8", newline="\n")
    written = [folder / name for name in (PREDICTIONS, PROCESSED, SCORED, RECORD, IDS)]
    try:
        report = write_report(evaluation, run_info(job, outcome, notes), folder, more)
    except DependencyError as error:
        return Published(evaluation, tuple(p for p in written if p.exists()), str(error))
    (folder / "rows.jsonl").unlink(missing_ok=True)
    written += [path for path in report if path.name != "rows.jsonl"]
    return Published(evaluation, tuple(p for p in written if p.exists()))


def _processed(outcome: Outcome, evaluation: Evaluation) -> list[dict[str, Any]]:
    processed = evaluation.official.processed if evaluation.official else ()
    columns = ("label", "id", "dataset_name")
    return [
        {"prediction": answer, **{name: row[name] for name in columns}}
        for row, answer in zip(outcome.rows, processed, strict=True)
    ]


def _record(job: Job, outcome: Outcome, notes: Sequence[str]) -> dict[str, Any]:
    model = job.engine.model
    return {
        "task": job.task.name,
        "data": job.task.data,
        "data_revision": job.task.revision,
        "model": model.name,
        "model_revision": model.revision,
        "settings": job.settings.identity(),
        "examples": len(job.outlines),
        "failures": outcome.failures,
        "reused": outcome.progress.reused,
        "model_s": round(outcome.model_s, 3),
        "total_s": round(outcome.total_s, 3),
        "notes": list(notes),
    }
