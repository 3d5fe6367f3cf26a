"""Greedy answers from a fixed number of slots: a row that ends makes room for the next prompt instead of being waited for.

Knows prompts as embeddings and constraints as tries, nothing of audio or text. The surprise: on CUDA one decode step is a
captured graph, and the host looks at the rows only every few steps; rows held by a trie are looked at in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from NatureLM.models.grammar import END, Trie
from NatureLM.models.llama import Llama, SlotCache


@dataclass(frozen=True)
class SlotPrompt:
    """What one row starts from.

    Attributes:
        embeds: The prompt's embeddings, (tokens, width), without padding.
        constraint: What may be answered; ``None`` leaves it free.
    """

    embeds: Tensor
    constraint: Trie | None = None


@dataclass(frozen=True)
class SlotAnswer:
    """What one row said.

    Attributes:
        token_ids: Answer tokens without the stop token.
        log_probability: Sum of the log-probabilities of the tokens said, the stop token included.
        finish: ``stop`` or ``length``.
    """

    token_ids: tuple[int, ...]
    log_probability: float
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class SlotSettings:
    """How to decode.

    Attributes:
        stop_ids: Tokens that end an answer.
        forbidden_ids: Tokens that are never said, such as the padding row.
        max_new_tokens: Tokens said at most.
        slots: Rows decoded together.
        look_every: Steps between two looks of the host at free rows.
    """

    stop_ids: tuple[int, ...]
    forbidden_ids: tuple[int, ...] = ()
    max_new_tokens: int = 300
    slots: int = 32
    look_every: int = 4


@dataclass
class _Rows:
    """The state of all slots on the device, and which prompt each of them answers."""

    cache: SlotCache
    said: Tensor  # (slots, max_new_tokens)
    count: Tensor  # (slots,)
    token: Tensor  # (slots,): said last, not read yet
    log_probability: Tensor  # (slots,)
    ended: Tensor  # (slots,)
    prompt_of: dict[int, int] = field(default_factory=dict)
    constraint_of: dict[int, Trie] = field(default_factory=dict)

    @property
    def free(self) -> list[int]:
        return [slot for slot in range(len(self.count)) if slot not in self.prompt_of]


class SlotDecoder:
    """Answer a stream of prompts greedily.

    Args:
        llama: The LLM with its adapters folded in.
        settings: Stop tokens, lengths, slots.
    """

    def __init__(self, llama: Llama, settings: SlotSettings) -> None:
        self.llama, self.settings = llama, settings
        device = llama.device
        self._stop = torch.tensor(settings.stop_ids, device=device)
        self._forbidden = torch.tensor(settings.forbidden_ids, device=device, dtype=torch.long)

    @torch.inference_mode()
    def answers(
        self, prompts: Iterable[SlotPrompt], longest_tokens: int
    ) -> Iterator[tuple[int, SlotAnswer]]:
        """Yield (place of the prompt in the stream, answer) as rows end; not in the stream's order.

        Args:
            prompts: Prompts; taken from the stream when slots are free.
            longest_tokens: Tokens of the longest prompt that will come.
        """
        stream = enumerate(prompts)
        rows = self._empty(longest_tokens)
        step = self._stepper(rows)
        while True:
            self._fill(rows, stream)
            if not rows.prompt_of:
                break
            yield from self._finished(rows)
            constrained = bool(rows.constraint_of)
            for _ in range(1 if constrained else self.settings.look_every):
                self._say(rows, step())

    def _empty(self, longest_tokens: int) -> _Rows:
        slots, most = self.settings.slots, self.settings.max_new_tokens
        capacity = -(-(longest_tokens + most + self.settings.look_every) // 16) * 16
        zeros = torch.zeros(slots, dtype=torch.long, device=self.llama.device)
        return _Rows(
            self.llama.cache(slots, capacity),
            zeros[:, None].repeat(1, most),
            zeros.clone(),
            zeros.clone(),
            torch.zeros(slots, device=self.llama.device),
            torch.ones(slots, dtype=torch.bool, device=self.llama.device),
        )

    def _fill(self, rows: _Rows, stream: Iterator[tuple[int, SlotPrompt]]) -> None:
        free = rows.free
        taken = list(islice(stream, len(free))) if free else []
        if not taken:
            return
        slots = free[: len(taken)]
        for slot, (place, prompt) in zip(slots, taken, strict=True):
            rows.prompt_of[slot] = place
            if prompt.constraint is not None:
                rows.constraint_of[slot] = prompt.constraint
        embeds = torch.nn.utils.rnn.pad_sequence([p.embeds for _, p in taken], batch_first=True)
        where = torch.tensor(slots, device=self.llama.device)
        fresh = self.llama.cache(len(taken), embeds.shape[1])
        lengths = torch.tensor([len(p.embeds) for _, p in taken], device=self.llama.device)
        logits = self.llama.prefill(embeds, fresh, lengths)
        rows.cache.copy_rows(fresh, torch.arange(len(taken), device=where.device), where)
        rows.count[where], rows.ended[where] = 0, False
        rows.log_probability[where] = 0
        self._say(rows, logits, where)

    def _stepper(self, rows: _Rows) -> Callable[[], Tensor]:
        def step() -> Tensor:
            logits = self.llama.step(rows.token, rows.cache)
            rows.cache.lengths.clamp_(max=rows.cache.capacity - 1)
            return logits

        if self.llama.device.type != "cuda":
            return step
        for _ in range(2):  # libraries choose their workspaces before the capture
            step()
        rows.cache.lengths.zero_()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = step()
        rows.cache.lengths.zero_()

        def replay() -> Tensor:
            graph.replay()
            return logits

        return replay

    def _say(self, rows: _Rows, logits: Tensor, where: Tensor | None = None) -> None:
        """Choose the next token of all slots, or of those ``where`` says, and note it."""
        slots = torch.arange(len(rows.count), device=logits.device) if where is None else where
        if len(self._forbidden):
            logits = logits.index_fill(1, self._forbidden, float("-inf"))
        chosen = logits.argmax(-1)
        for row, slot in enumerate(slots.tolist() if rows.constraint_of else ()):
            if slot in rows.constraint_of and not bool(rows.ended[slot]):
                chosen[row] = self._allowed_best(rows, slot, logits[row])
        gain = logits.gather(1, chosen[:, None])[:, 0].float() - logits.float().logsumexp(-1)
        going = ~rows.ended[slots]
        stops = torch.isin(chosen, self._stop) & going
        place = rows.count[slots].clamp(max=self.settings.max_new_tokens - 1)
        speaks = going & ~stops
        kept = rows.said[slots, place]
        rows.said[slots, place] = torch.where(speaks, chosen, kept)
        rows.log_probability[slots] += torch.where(going, gain, 0.0)
        rows.count[slots] += speaks.long()
        rows.token[slots] = chosen
        rows.ended[slots] |= stops | (rows.count[slots] >= self.settings.max_new_tokens)

    def _allowed_best(self, rows: _Rows, slot: int, logits: Tensor) -> int:
        said = rows.said[slot, : int(rows.count[slot])].tolist()
        allowed = rows.constraint_of[slot].allowed(said)
        ids = [i for i in allowed if i != END]
        if END in allowed or not ids:
            ids += self.settings.stop_ids
        candidates = torch.tensor(ids, device=logits.device)
        return int(candidates[logits[candidates].argmax()])

    def _finished(self, rows: _Rows) -> Iterator[tuple[int, SlotAnswer]]:
        ended = rows.ended.tolist()
        slots = [slot for slot in rows.prompt_of if ended[slot]]
        if not slots:
            return
        where = torch.tensor(slots, device=rows.count.device)
        said, counts = rows.said[where].tolist(), rows.count[where].tolist()
        totals = rows.log_probability[where].tolist()
        for i, slot in enumerate(slots):
            full = counts[i] >= self.settings.max_new_tokens
            finish: Literal["stop", "length"] = "length" if full else "stop"
            rows.constraint_of.pop(slot, None)
            yield (
                rows.prompt_of.pop(slot),
                SlotAnswer(tuple(said[i][: counts[i]]), totals[i], finish),
            )
