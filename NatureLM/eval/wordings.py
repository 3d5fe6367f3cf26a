"""Other wordings of the same question: options in another order, the same thing asked otherwise.

Text to text. Options are found in a query by the component's labels, not by a form of the question, so that any closed question
that names its options can be turned around.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence

from NatureLM.scoring.vocabulary import NONE

PARAPHRASES: dict[str, tuple[str, ...]] = {
    "common name": (
        "What is the common name for the focal species in the audio?",
        "Which species is heard here? Give its common name.",
        "Name the animal that you hear, by its common name.",
    ),
    "scientific name": (
        "What is the scientific name for the focal species in the audio?",
        "Which species is heard here? Give its scientific name.",
        "Name the animal that you hear, by its scientific name.",
    ),
    "taxonomic name": (
        "What is the taxonomic name of the focal species in the audio?",
        "Give the full taxonomic name of the animal that you hear.",
    ),
    "caption": (
        "Caption the audio.",
        "Describe the sounds in this recording in one sentence.",
        "What can be heard? Answer with a caption.",
    ),
}
"""A phrase in the question -> ways to ask it."""

FRAMES = (
    "{query}",
    "Listen to the recording. {query}",
    "{query} Answer briefly.",
    "Question: {query}",
)
"""Ways to put any other question; none of them changes what is asked."""


def paraphrases(query: str) -> list[str]:
    """Give the query and other ways to ask it, the query first."""
    family = next((f for phrase, f in PARAPHRASES.items() if phrase in query.casefold()), ())
    ways = [*family, *(frame.format(query=query) for frame in FRAMES if not family)]
    return list(dict.fromkeys([query, *ways]))


def has_options(query: str, labels: Sequence[str]) -> bool:
    """Say whether a query names two or more of the labels."""
    return len(_spans(query, labels)) > 1


def reordered(query: str, labels: Sequence[str], order: str) -> str:
    """Put the options of a query into another order.

    Args:
        query: A question that names labels; unchanged when it names fewer than two.
        labels: The component's labels.
        order: ``reversed``, or any other word as the seed of a shuffle.
    """
    spans = _spans(query, labels)
    options = [query[start:end] for start, end in spans]
    if order == "reversed":
        turned = options[::-1]
    else:
        seed = hashlib.sha256(f"{order}|{query}".encode()).hexdigest()
        turned = random.Random(seed).sample(options, len(options))  # noqa: S311 - reproducible, not secret
    text, last = [], 0
    for (start, end), option in zip(spans, turned, strict=True):
        text += [query[last:start], option]
        last = end
    return "".join([*text, query[last:]])


def _spans(query: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """Find where labels stand in a query, longer ones first, none within another."""
    found: list[tuple[int, int]] = []
    for label in sorted({*labels, NONE}, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(label)}(?!\w)"
        for match in re.finditer(pattern, query, re.IGNORECASE):
            start, end = match.span()
            if all(end <= s or start >= e for s, e in found):
                found.append((start, end))
                break
    return sorted(found)
