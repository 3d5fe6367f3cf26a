"""CIDEr-D of captions in pure Python, and its union with SPICE.

Knows pairs of texts. Words are split at white space only, with case and punctuation; the document frequencies come from the
references given, so the score of a subset is not the score of the whole (Vedantam et al. 2015; BENCHMARKS 1.4).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_NGRAM = 4
SIGMA = 6.0
"""Width of the length penalty, in bigrams."""

Vector = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Cider:
    """CIDEr-D of a list of captions.

    Attributes:
        per_row: Score of each caption, from 0 to 10.
        mean: Mean over the captions, from 0 to 10.
    """

    per_row: tuple[float, ...]
    mean: float


def cider(predictions: Sequence[str], references: Sequence[str]) -> Cider:
    """Score captions against one reference each."""
    counts = [_ngrams(reference) for reference in references]
    frequency = Counter(ngram for count in counts for ngram in count)
    documents = math.log(len(references)) if references else 0.0
    rows = tuple(
        _similarity(
            _weigh(_ngrams(text), frequency, documents), _weigh(count, frequency, documents)
        )
        for text, count in zip(predictions, counts, strict=True)
    )
    return Cider(rows, math.fsum(rows) / len(rows) if rows else 0.0)


def spider(cider_mean: float, spice_mean: float) -> float:
    """Join CIDEr, from 0 to 10, and SPICE, from 0 to 1, as the official protocol does."""
    return (cider_mean / 10 + spice_mean) / 2


def _ngrams(text: str) -> Counter[tuple[str, ...]]:
    words = text.split()
    return Counter(
        tuple(words[start : start + size])
        for size in range(1, LONGEST_NGRAM + 1)
        for start in range(len(words) - size + 1)
    )


@dataclass(frozen=True)
class _Weighed:
    vectors: tuple[Vector, ...]
    norms: tuple[float, ...]
    bigrams: int


def _weigh(
    counts: Counter[tuple[str, ...]], frequency: Counter[tuple[str, ...]], documents: float
) -> _Weighed:
    """Weigh counts by inverse document frequency, one vector for each length of n-gram."""
    vectors: tuple[Vector, ...] = tuple({} for _ in range(LONGEST_NGRAM))
    bigrams = 0
    for ngram, count in counts.items():
        weight = count * (documents - math.log(max(1.0, frequency[ngram])))
        vectors[len(ngram) - 1][ngram] = weight
        if len(ngram) == 2:
            bigrams += count
    norms = tuple(math.sqrt(sum(value * value for value in x.values())) for x in vectors)
    return _Weighed(vectors, norms, bigrams)


def _similarity(text: _Weighed, reference: _Weighed) -> float:
    """Compare two weighed captions: clipped cosine times the length penalty, mean over lengths, times 10."""
    total = 0.0
    for mine, theirs, size, other in zip(
        text.vectors, reference.vectors, text.norms, reference.norms, strict=True
    ):
        dot = sum(min(value, theirs[x]) * theirs[x] for x, value in mine.items() if x in theirs)
        total += dot / (size * other) if size and other else dot
    penalty = math.exp(-((text.bigrams - reference.bigrams) ** 2) / (2 * SIGMA**2))
    return total * penalty / LONGEST_NGRAM * 10
