"""What the official tool's reader, pandas, makes of a column of predictions.

Knows only columns of text. The tool stops when a prediction is not text; pandas turns a column that looks like numbers into
numbers, and in a CSV "None", "NA" or an empty cell into a missing value, which is a float.
"""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = frozenset(
    """
    #N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null|
    """.strip().split("|")
)
"""Cells that pandas, which the official tool reads with, takes for missing."""


def official_type(predictions: Sequence[str | None], *, is_csv: bool) -> str | None:
    """Name the type of the first prediction that is not text to the official tool; ``None`` when all are.

    Args:
        predictions: The column as it stands in the file; ``None`` for null.
        is_csv: Whether the file is a CSV and not JSON lines.
    """
    present = [x for x in predictions if x is not None and not (is_csv and x in NOTHING)]
    missing = len(present) < len(predictions)
    if is_numeric(predictions, is_csv=is_csv):
        return "int" if not missing and all(_is_whole(text) for text in present) else "float"
    if present and is_csv and set(present) <= _BOOLEANS:
        return "bool" if predictions[0] in _BOOLEANS else "float"
    return "float" if missing else None


def is_numeric(predictions: Sequence[str | None], *, is_csv: bool) -> bool:
    """Say whether pandas takes a whole column for numbers."""
    present = [x for x in predictions if x is not None and not (is_csv and x in NOTHING)]
    return bool(present) and all(reads_as_number(text, is_csv=is_csv) for text in present)


_BOOLEANS = frozenset(("True", "TRUE", "true", "False", "FALSE", "false"))


def reads_as_number(text: str, *, is_csv: bool = False) -> bool:
    """Say whether pandas takes a text for a number; its CSV reader knows plain digits only."""
    if is_csv and ("_" in text or not text.isascii()):
        return False
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_whole(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True
