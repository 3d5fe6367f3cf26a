"""What is evaluated: components, examples without audio, examples with it.

Knows no file layout and no model. An `Outline` is an example whose audio has not been read; everything that selects, counts or
resumes works on outlines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from NatureLM.errors import ConfigError, RecordingError
from NatureLM.eval.sources.record import RawAudio
from NatureLM.scoring.vocabulary import Component

MAX_DURATION_S = 10.0
"""What the published model hears at most."""


@dataclass(frozen=True)
class Outline:
    """One example without its audio.

    Attributes:
        id: Unique within the component.
        component: Name of its component.
        query: The question, without the audio tag.
        reference: The truth, as written in the data.
        recording: What recording it was cut from; intervals are clustered by it.
        licence: Terms of this recording.
        max_duration_s: Longest stretch that is used.
    """

    id: str
    component: str
    query: str
    reference: str
    recording: str = ""
    licence: str = ""
    max_duration_s: float = MAX_DURATION_S

    @property
    def name(self) -> tuple[str, str]:
        """Component and id: what names the example in the whole task."""
        return self.component, self.id


@dataclass(frozen=True)
class Example:
    """An outline with its audio, or with the reason why there is none."""

    outline: Outline
    audio: RawAudio | RecordingError


Wanted = Callable[[Outline], bool]


class Task(Protocol):
    """A benchmark: where its examples come from and how they are judged.

    Attributes:
        name: Row in `TASKS`.
        data: What the user called the data.
        revision: Changes when the data change.
        components: By name, in order.
    """

    name: str
    data: str
    revision: str
    components: dict[str, Component]

    def outlines(self) -> Iterator[Outline]:
        """Give every example without audio, in the data's order."""
        ...

    def examples(self, wanted: Wanted) -> Iterator[Example]:
        """Give the wanted examples with their audio, in the data's order."""
        ...


@dataclass(frozen=True)
class Selection:
    """Which examples of a task to use.

    Attributes:
        components: Names to keep; all when empty.
        limit: At most so many of each component, the first ones.
        fraction: Share of each component, stratified by reference; 1 keeps all.
        ids: Keep exactly these, written ``component/id``; other knobs are then not used.
    """

    components: tuple[str, ...] = ()
    limit: int | None = None
    fraction: float = 1.0
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit {self.limit}: expected at least 1 example of each component")
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction {self.fraction}: expected more than 0 and at most 1")


def select(outlines: Iterable[Outline], selection: Selection) -> list[Outline]:
    """Choose examples; the same data and selection always give the same ones.

    Raises:
        ConfigError: An id of the list is not in the data.
    """
    kept = [o for o in outlines if not selection.components or o.component in selection.components]
    if selection.ids is not None:
        return _by_ids(kept, selection.ids)
    chosen = {o.name for part in _parts(kept) for o in _share(part, selection)}
    return [o for o in kept if o.name in chosen]


def example_id(outline: Outline) -> str:
    """Write the name of an example as id files have it."""
    return f"{outline.component}/{outline.id}"


def _by_ids(outlines: list[Outline], ids: frozenset[str]) -> list[Outline]:
    kept = [o for o in outlines if example_id(o) in ids]
    missing = sorted(ids - {example_id(o) for o in kept})
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(ids)} ids are not in the data, such as {missing[0]}; "
            "the list is of another revision, or --tasks leaves its component out"
        )
    return kept


def _parts(outlines: Sequence[Outline]) -> list[list[Outline]]:
    parts: dict[str, list[Outline]] = {}
    for outline in outlines:
        parts.setdefault(outline.component, []).append(outline)
    return list(parts.values())


def _share(part: list[Outline], selection: Selection) -> list[Outline]:
    chosen = _stratified(part, selection.fraction) if selection.fraction < 1 else part
    return chosen[: selection.limit]


def _stratified(part: list[Outline], fraction: float) -> list[Outline]:
    """Take evenly spaced examples of the component sorted by reference, then by hash of the id: references keep their shares."""
    ranked = sorted(part, key=lambda o: (o.reference, _hash(o), o.id))
    count = ceil(len(part) * fraction)
    places = {((2 * i + 1) * len(part)) // (2 * count) for i in range(count)}
    names = {ranked[place].name for place in places}
    return [o for o in part if o.name in names]


def _hash(outline: Outline) -> str:
    return hashlib.sha256(example_id(outline).encode()).hexdigest()
