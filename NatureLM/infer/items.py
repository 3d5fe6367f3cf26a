"""Items: a query with any number of recordings, answered in batches; a faulty item never costs its neighbours their answers.

Knows waveforms and prompts, nothing of files or tables. The surprise: a batch that fails is halved until the faulty items stand
alone, so that each of them carries its own error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from NatureLM.errors import StoreError
from NatureLM.infer.engine import Asking, Engine, stack
from NatureLM.models.model import Answer, AudioTokens

if TYPE_CHECKING:
    from NatureLM.models.grammar import Trie
    from NatureLM.prompts import Prompt

FAULTS = (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What one bad item may raise on its way through the model; every error of this package is one of them."""


@dataclass(frozen=True)
class Item:
    """One prompt with its recordings.

    Attributes:
        query: Plain text; a finished prompt when there are several turns.
        waveforms: At the model's rate, in the order of the placeholders; none asks the LLM alone.
    """

    query: str | Prompt
    waveforms: tuple[np.ndarray, ...] = ()


class ItemEngine(Engine):
    """Answer items with one model.

    Args:
        model: The finished model, on its device.
        batch_size: Items in a batch at most; by the device when left out.
    """

    def answer_items(self, items: Sequence[Item], asking: Asking) -> list[Answer | Exception]:
        """Answer items in their order; what went wrong with one of them stands in its place.

        Raises:
            StoreError: The machine's own disk failed, which is nobody's item.
        """
        try:
            return [*self._fitting(items, lambda part: self._answer_items(part, asking))]
        except StoreError:
            raise
        except FAULTS as error:
            if len(items) == 1:
                return [error]
        half = len(items) // 2
        return self.answer_items(items[:half], asking) + self.answer_items(items[half:], asking)

    def _answer_items(self, items: Sequence[Item], asking: Asking) -> list[Answer]:
        with torch.inference_mode():
            return self.model.answer(
                self._encoded(items, asking),
                [self._query(item) for item in items],
                asking.generation,
                merging_alpha=asking.merging_alpha,
                constraints=self._constraints(items),
            )

    def _encoded(self, items: Sequence[Item], asking: Asking) -> AudioTokens:
        waveforms = [waveform for item in items for waveform in item.waveforms]
        if not waveforms:
            return AudioTokens(torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.long))
        stacked, lengths = stack(waveforms, asking.padded_samples)
        device = self.model.device
        return self.model.encode(stacked.to(device), lengths.to(device))

    def _query(self, item: Item) -> str | Prompt:
        if len(item.waveforms) == 1 or not isinstance(item.query, str):
            return item.query
        return self.model.prompt(item.query, len(item.waveforms))

    def _constraints(self, items: Sequence[Item]) -> list[Trie | None] | None:
        """Have the model's grammar hold answers to plain queries, whatever shape their prompts have."""
        grammar = self.model.grammar
        if grammar is None:
            return None
        return [grammar.trie_for(i.query) if isinstance(i.query, str) else None for i in items]
