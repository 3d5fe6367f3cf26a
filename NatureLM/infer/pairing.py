"""What users may pass to a pipeline, put into one shape: one recording or many, one query or many.

Pure checks; knows neither audio nor models. The surprise: a flat list of queries means "one for each recording" in the card's
form and "all of them for every recording" elsewhere, so the two are told apart here and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from numbers import Real
from typing import TypeVar, cast

from NatureLM.errors import PromptError

T = TypeVar("T")
Queries = str | Sequence[str] | Sequence[Sequence[str]]


def several(recordings: T | Iterable[T]) -> Iterable[T]:
    """Wrap a single recording: a path, bytes, a file object, an array or tensor, an open recording, or a list of numbers."""
    single = isinstance(recordings, str | bytes | os.PathLike)
    single = single or hasattr(recordings, "shape") or hasattr(recordings, "read")
    if isinstance(recordings, list | tuple):
        single = bool(recordings) and isinstance(recordings[0], Real)
    if single or not isinstance(recordings, Iterable):
        return [cast("T", recordings)]
    return recordings


def one_each(queries: str | Sequence[str], recordings: int) -> list[tuple[str, ...]]:
    """Give every recording its one query.

    Raises:
        PromptError: There are neither one nor as many queries as recordings.
    """
    if isinstance(queries, str):
        return [(queries,)] * recordings
    if len(queries) != recordings:
        raise PromptError(
            f"{len(queries)} queries for {recordings} recordings; pass one query for all, or one for each"
        )
    return [(query,) for query in queries]


def paired(recordings: Iterable[T], queries: Queries) -> Iterator[tuple[T, tuple[str, ...]]]:
    """Pair every recording with the queries to ask about it.

    Args:
        recordings: Recordings; may be endless when the queries are the same for all.
        queries: One query, several for every recording, or a sequence of queries per recording.

    Raises:
        PromptError: There is no query, one is empty, or there is not one sequence of queries per recording.
    """
    if isinstance(queries, str) or all(isinstance(query, str) for query in queries):
        same = _checked(cast("str | Sequence[str]", queries))
        return ((recording, same) for recording in recordings)
    groups, listed = [_checked(group) for group in queries], list(recordings)
    if len(listed) != len(groups):
        raise PromptError(
            f"{len(groups)} groups of queries for {len(listed)} recordings; pass one group for each"
        )
    return zip(listed, groups, strict=True)


def _checked(queries: str | Sequence[str]) -> tuple[str, ...]:
    group = (queries,) if isinstance(queries, str) else tuple(queries)
    if not group or any(not query.strip() for query in group):
        raise PromptError(
            "the query is empty; ask something, such as "
            '"What is the common name for the focal species in the audio?"'
        )
    return group
