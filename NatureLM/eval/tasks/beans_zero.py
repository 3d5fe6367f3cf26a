"""BEANS-Zero: rows of the published table into examples of its 22 components.

Knows the columns and the published prompts, no model. The surprise: published inference does not ask long-list detection what the
data set's instruction says but a general question (MODEL specification, section 7.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from NatureLM.errors import ManifestError
from NatureLM.eval.prepare import Parity
from NatureLM.eval.sources import Row, Source, open_source
from NatureLM.eval.task import MAX_DURATION_S, Example, Outline, Wanted
from NatureLM.prompts import AUDIO_TAG
from NatureLM.scoring.vocabulary import NONE, Component, beans_zero_components

DATA = "EarthSpeciesProject/BEANS-Zero"
LONG_LIST_LABELS = 8
"""Detection with more labels than this, None included, is asked the general question in published inference."""
GENERAL_QUESTION = "What are the common names for the species in the audio, if any?"
SHORTER_S = {"esc50": 5.0, "watkins": 3.0, "humbugdb": 3.0}
"""Components whose recordings are cut earlier than others."""
SUBSET_WARNING = (
    "this is a part of BEANS-Zero: official targets and document frequencies come from the file under test, so official scores "
    "of a part are easier than, and not comparable with, those of all 91,965 rows"
)


class BeansZero:
    """The benchmark over one copy of its data.

    Args:
        source: The rows.
        parity: ``published`` asks long-list detection the general question.
    """

    name = "beans-zero"

    def __init__(self, source: Source, parity: Parity = "ours") -> None:
        self.data = source.name
        self.revision = source.revision
        self.components: dict[str, Component] = dict(beans_zero_components())
        self._source = source
        self._general = {
            name
            for name, component in self.components.items()
            if parity == "published" and _is_long(component)
        }

    @classmethod
    def open(cls, data: str = DATA, parity: Parity = "ours") -> BeansZero:
        """Open a copy: a file, a folder, or the hub."""
        return cls(open_source(data), parity)

    def outlines(self) -> Iterator[Outline]:
        """Give every row of a known component without audio; other rows are not the benchmark's."""
        reading = _Reading(self)
        for row in self._source.rows():
            outline = reading.outline(row)
            if outline is not None:
                yield outline

    def examples(self, wanted: Wanted) -> Iterator[Example]:
        """Give the wanted rows with their audio."""
        reading, waiting = _Reading(self), dict[str, Outline]()

        def is_wanted(row: Row) -> bool:
            outline = reading.outline(row)
            if outline is None or not wanted(outline):
                return False
            waiting[row.where] = outline
            return True

        for row, audio in self._source.audio(is_wanted):
            yield Example(waiting.pop(row.where), audio)

    def query_of(self, component: str, columns: Any) -> str:
        """Say what is asked about a row, without the audio tag in front."""
        if component in self._general:
            return GENERAL_QUESTION
        text = columns.get("instruction") or columns.get("instruction_text") or ""
        return str(text).removeprefix(AUDIO_TAG).removeprefix(AUDIO_TAG.strip())


class _Reading:
    """One pass over the rows: an id that comes again gets a number behind it."""

    def __init__(self, task: BeansZero) -> None:
        self._task = task
        self._seen: dict[tuple[str, str], int] = {}

    def outline(self, row: Row) -> Outline | None:
        columns = row.columns
        missing = [name for name in ("id", "dataset_name", "output") if name not in columns]
        if missing:
            raise ManifestError(
                f"{row.where}: column(s) {', '.join(missing)} are missing; expected the layout of BEANS-Zero"
            )
        component = str(columns["dataset_name"])
        if component not in self._task.components:
            return None
        return Outline(
            id=self._unique(component, str(columns["id"])),
            component=component,
            query=self._task.query_of(component, columns),
            reference=_reference(columns["output"]),
            recording=str(columns.get("file_name") or columns["id"]),
            licence=str(columns.get("license") or ""),
            max_duration_s=SHORTER_S.get(component, MAX_DURATION_S),
        )

    def _unique(self, component: str, name: str) -> str:
        count = self._seen[component, name] = self._seen.get((component, name), 0) + 1
        return name if count == 1 else f"{name}#{count}"


def _is_long(component: Component) -> bool:
    return component.task == "detection" and len({*component.labels, NONE}) > LONG_LIST_LABELS


def _reference(output: Any) -> str:
    if isinstance(output, list | tuple):
        output = ", ".join(str(part) for part in output)
    return NONE if output is None or output == "" else str(output)
