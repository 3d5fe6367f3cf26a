"""Batches of questions about made-up windows, as token ids: what the pocket model's second stage reads.

Knows evidence, questions and the chat template. The surprise: batch ``k`` is a function of the seed and ``k`` alone, so any number of workers gives the same batches and
a run can go on from any step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from NatureLM.data.evidence import Evidence, Synthesiser
from NatureLM.data.questions import Heard, Questioner
from NatureLM.models.splice import token_ids
from NatureLM.prompts import Template, ask

IGNORED = -100


@dataclass(frozen=True)
class QuestionBatch:
    """Questions and answers as tokens; the audio tokens stand between ``before`` and ``after``.

    Attributes:
        frames: Evidence frames, (batch, frames, width).
        counts: True frames.
        before: Ids in front of the audio, the same for all rows, (before,).
        after: Ids behind it, padded at the end, (batch, after).
        labels: The answer's ids where ``after`` holds them, -100 elsewhere.
    """

    frames: Float[Tensor, "batch frames width"]
    counts: Int[Tensor, " batch"]
    before: Int[Tensor, " before"]
    after: Int[Tensor, "batch after"]
    labels: Int[Tensor, "batch after"]


@dataclass(frozen=True)
class Writer:
    """Turns questions and answers into token ids.

    Attributes:
        tokenizer: The LLM's.
        template: Its chat format.
        room: Tokens behind the audio at most.
    """

    tokenizer: Any
    template: Template
    room: int

    def ids(self, question: str, answer: str) -> tuple[list[int], list[int], list[int]]:
        """Write one example as (before, after, answer), the answer with its end."""
        before, after = token_ids(ask(question, self.template), self.tokenizer)
        said = self.tokenizer(answer, add_special_tokens=False).input_ids
        return before, after, [*said, self.tokenizer.eos_token_id]


class QuestionStream(IterableDataset[QuestionBatch]):
    """Batches number ``first``, ``first + 1``, ... for ever.

    Args:
        synthesise: Makes windows up.
        questioner: Asks about them.
        writer: Writes tokens.
        size: Windows a batch.
        seed: Of the run.
        first: Number of the first batch.
    """

    def __init__(
        self,
        synthesise: Synthesiser,
        questioner: Questioner,
        writer: Writer,
        *,
        size: int,
        seed: int,
        first: int = 0,
    ) -> None:
        super().__init__()
        self._synthesise, self._questioner, self._writer = synthesise, questioner, writer
        self._size, self._seed, self._first = size, seed, first
        self._directions = synthesise.bank.directions

    def __iter__(self) -> Iterator[QuestionBatch]:
        """Yield this worker's share: every n-th batch, so that a loader puts them back in order."""
        worker = get_worker_info()
        number = self._first + (worker.id if worker else 0)
        while True:
            yield self.batch(number)
            number += worker.num_workers if worker else 1

    def batch(self, number: int) -> QuestionBatch:
        """Make batch ``number``."""
        seed = (self._seed * 1_000_003 + number) % (2**63)
        evidence = self._synthesise(self._size, torch.Generator().manual_seed(seed))
        rng = random.Random(seed)  # noqa: S311 - training data, no secrets
        before: list[int] = []
        rows: list[tuple[list[int], list[int]]] = []
        for heard in heard_in(evidence):
            before, after, said = self._fitting(heard, rng)
            rows.append((after, said))
        frames, counts = evidence.frames(self._directions)
        ids, labels = self._padded(rows)
        return QuestionBatch(frames, counts, torch.tensor(before), ids, labels)

    def _fitting(self, heard: Heard, rng: random.Random) -> tuple[list[int], list[int], list[int]]:
        while True:
            _, question, answer = self._questioner(heard, rng)
            before, after, said = self._writer.ids(question, answer)
            if len(after) + len(said) <= self._writer.room:
                return before, after, said

    def _padded(self, rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
        shape = (len(rows), self._writer.room)
        ids = torch.full(shape, self._writer.tokenizer.eos_token_id)
        labels = torch.full(shape, IGNORED)
        for row, (after, said) in enumerate(rows):
            end = len(after) + len(said)
            ids[row, :end] = torch.tensor(after + said)
            labels[row, len(after) : end] = torch.tensor(said)
        return ids, labels


def heard_in(evidence: Evidence) -> Iterator[Heard]:
    """Give each window's evidence as plain numbers."""
    classes, logits = evidence.classes.tolist(), evidence.logits.tolist()
    starts, counts = evidence.starts.tolist(), evidence.real.sum(1).tolist()
    for row, count in enumerate(counts):
        yield Heard(classes[row][:count], logits[row][:count], starts[row][:count])
