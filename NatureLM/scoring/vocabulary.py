"""What each BEANS-Zero component declares: its task, its labels, its residual label, its licence.

Knows the shipped table ``beans_zero_components.json`` and nothing of files under test. The surprise: three whale labels contain
commas, so a list of labels can only be taken apart by someone who knows the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

Task = Literal["classification", "detection", "captioning"]

NONE = "None"
"""The label of a recording in which nothing of interest was found."""


@dataclass(frozen=True)
class Component:
    """One data set of a benchmark.

    Attributes:
        name: Name in the column ``dataset_name``.
        task: ``classification``, ``detection`` or ``captioning``.
        labels: The declared vocabulary; empty for captions.
        rows: Number of test rows, 0 when not declared.
        unknown_label: The residual class, if there is one.
        sample_rate_hz: Rate of the published recordings, 0 when not declared.
        licence: Licence of the recordings as declared.
    """

    name: str
    task: Task
    labels: tuple[str, ...] = ()
    rows: int = 0
    unknown_label: str | None = None
    sample_rate_hz: int = 0
    licence: str = ""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The labels that an answer may name, without the empty answer of detection."""
        if self.task != "detection":
            return self.labels
        return tuple(label for label in self.labels if label.casefold() != NONE.casefold())


@cache
def beans_zero_components() -> Mapping[str, Component]:
    """Load the 22 components of BEANS-Zero, in the order of the published table."""
    text = (files("NatureLM.scoring") / "beans_zero_components.json").read_text(encoding="utf-8")
    return MappingProxyType({row["name"]: _component(row) for row in json.loads(text)})


def _component(row: Mapping[str, Any]) -> Component:
    return Component(
        name=row["name"],
        task=row["task"],
        labels=tuple(row["labels"] or ()),
        rows=row["n_test"],
        unknown_label=row["unknown_label"],
        sample_rate_hz=row["sample_rate"] or 0,
        licence=row["license"] or "",
    )


def split_labels(text: str, vocabulary: Iterable[str]) -> list[str]:
    """Take a comma-joined list apart, keeping labels of the vocabulary that contain commas whole.

    Args:
        text: Such as ``"Walrus, Fin, Finback Whale"``.
        vocabulary: The labels that may hold commas.
    """
    with_commas = sorted((label for label in vocabulary if "," in label), key=len, reverse=True)
    pieces, rest = [], text.strip()
    while rest:
        whole = next((label for label in with_commas if _starts(rest, label)), None)
        piece = rest[: len(whole)] if whole is not None else rest.partition(",")[0]
        rest = rest[len(piece) :].lstrip().removeprefix(",").lstrip()
        if piece.strip():
            pieces.append(piece.strip())
    return pieces


def _starts(text: str, label: str) -> bool:
    """Say whether a list begins with this label, whatever its case."""
    head, tail = text[: len(label)], text[len(label) :].lstrip()
    return head.casefold() == label.casefold() and (not tail or tail.startswith(","))
