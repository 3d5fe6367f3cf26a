"""What became of each row, for looking at single answers.

Knows evaluations. One record a row that was read, in file order: the answer after official matching and the labels that the
corrected scorer read in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from NatureLM.eval.score import Evaluation


def row_records(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Give a JSON-able record for each row.

    Yields:
        The row's number, id, component, prediction and label; ``official``, its answer after matching; ``labels``, what the
        corrected scorer reads in it; ``value``, its credit; ``invalid``, whether it names something outside the vocabulary.
    """
    scores = evaluation.corrected.components.values() if evaluation.corrected else ()
    outcomes = {outcome.row.number: outcome for score in scores for outcome in score.outcomes}
    for place, row in enumerate(evaluation.file.rows):
        record: dict[str, Any] = {
            "row": row.number,
            "id": row.id,
            "dataset_name": row.dataset,
            "prediction": row.prediction,
            "label": row.label,
        }
        if evaluation.official:
            record["official"] = evaluation.official.processed[place]
        outcome = outcomes.get(row.number)
        if outcome:
            record["labels"] = None if outcome.named is None else sorted(outcome.named)
            record["value"] = outcome.value
            record["invalid"] = outcome.invalid
        yield record
