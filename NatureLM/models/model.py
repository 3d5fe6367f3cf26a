"""The composition: recordings are encoded once into audio tokens, then asked as often as you like.

Receives finished parts and builds none (``build.py`` does). Knows no file and no audio format. The surprise: ``answer`` takes the merging
alpha and the constraint as arguments of the call; nothing that a call sets stays behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int
from torch import Tensor, nn

from NatureLM.config import Generation
from NatureLM.errors import PromptError
from NatureLM.models import generate, lora, scoring, splice
from NatureLM.models.grammar import Grammar, Trie
from NatureLM.models.llama import Llama
from NatureLM.models.llm import forbidden_ids, stop_ids
from NatureLM.models.loss import LossOutput, TrainingBatch, teacher_forced
from NatureLM.models.slots import SlotPrompt
from NatureLM.prompts import Prompt, Template, ask, recordings_in

GREEDY = Generation()
"""How answers are decoded when nothing is said about it."""
SHORTEST_S = 0.5
"""Shorter windows are padded with silence to this length before they are encoded, and count with their true length."""
SLOTS = {"cuda": 256, "mps": 16, "cpu": 32}
"""Rows decoded together, by the type of device."""


@dataclass(frozen=True)
class AudioTokens:
    """Encoded windows, ready to be asked about.

    Attributes:
        tokens: (windows, audio_tokens, width), padded at the end.
        counts: True audio tokens of each window.
    """

    tokens: Float[Tensor, "windows audio_tokens width"]
    counts: Int[Tensor, " windows"]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, which: slice | Tensor | list[int]) -> AudioTokens:
        return AudioTokens(self.tokens[which], self.counts[which])

    def rows(self) -> list[Float[Tensor, "_ width"]]:
        """Give each window's tokens without padding."""
        return [row[:n] for row, n in zip(self.tokens, self.counts.tolist(), strict=True)]


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        encoder: Row of ``ENCODERS``.
        frame_norm: Between encoder and Q-Former.
        qformer: Frames to audio tokens.
        projector: Audio tokens to the LLM's width.
        llm: A causal LLM of transformers, with or without an adapter.
        tokenizer: Its tokenizer.
        template: Its chat format.
        grammar: What holds answers to what may be said; ``None`` leaves them free.
    """

    encoder: Any
    frame_norm: nn.Module
    qformer: Any
    projector: nn.Module
    llm: Any
    tokenizer: Any
    template: Template
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Answer:
    """What the model said about one query.

    Attributes:
        text: The answer.
        token_ids: Its tokens.
        log_probability: Sum of their log-probabilities, the end included.
        finish: ``stop`` or ``length``.
    """

    text: str
    token_ids: tuple[int, ...]
    log_probability: float
    finish: Literal["stop", "length"]


@dataclass(frozen=True)
class TextLimits:
    """How reference answers are written in training.

    Attributes:
        max_txt_len: Tokens of a reference at most.
        end_sym: What ends it.
    """

    max_txt_len: int = 160
    end_sym: str = "<|end_of_text|>"


class NatureLM(nn.Module):
    """An audio language model: encoder, Q-Former, projector, LLM.

    Args:
        parts: The finished parts.
        config: The record that the parts were built from; kept for saving.
        name: What the user calls the model.
        revision: Which weights these are.

    Attributes:
        sample_rate: Rate of the waveforms that ``encode`` takes, in Hz.
    """

    def __init__(
        self, parts: Parts, config: Any = None, name: str = "", revision: str = ""
    ) -> None:
        super().__init__()
        self.encoder = parts.encoder
        self.frame_norm = parts.frame_norm
        self.qformer = parts.qformer
        self.projector = parts.projector
        self.llm = parts.llm
        self.tokenizer, self.template, self.grammar = parts.tokenizer, parts.template, parts.grammar
        self.config, self.name, self.revision = config, name, revision
        self.limits = TextLimits(
            getattr(config, "max_txt_len", 160), getattr(config, "end_sym", "<|end_of_text|>")
        )
        self.ends = generate.Ends(
            stop_ids(lora.plain(self.llm), self.tokenizer),
            forbidden_ids(lora.plain(self.llm), self.tokenizer),
        )
        self._folded: tuple[Any, Llama] | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> NatureLM:
        """Load a model: ``pocket``, a hub id or a folder.

        Args:
            name: Which model.
            **options: ``revision``, ``token``, ``cache_dir``, ``local_files_only``, ``device``, ``dtype``, ``sha256``,
                ``parity``, and any key of the checkpoint's ``config.json`` to override, ``llama_path`` among them.

        Raises:
            CheckpointError: The weights do not fit, are damaged or are not there.
        """
        from NatureLM.models.build import load

        return load(name, **options)

    def save_pretrained(self, folder: Any) -> None:
        """Write the model in hub form; reading it back gives an equal model."""
        from NatureLM.models.checkpoint import save

        save(self, folder)

    @property
    def sample_rate(self) -> int:
        """Rate of the waveforms, in Hz."""
        return int(self.encoder.sample_rate)

    @property
    def device(self) -> torch.device:
        """Where the LLM is."""
        return self._embedding().device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the LLM's weights."""
        return self._embedding().dtype

    def encode(
        self, waveforms: Float[Tensor, "windows samples"], lengths: Int[Tensor, " windows"]
    ) -> AudioTokens:
        """Turn windows of sound into audio tokens.

        Args:
            waveforms: In [-1, 1] at ``sample_rate``, padded at the end.
            lengths: True samples of each; full lengths have the padding heard as audio.
        """
        missing = int(SHORTEST_S * self.sample_rate) - waveforms.shape[1]
        if missing > 0:
            waveforms = F.pad(waveforms, (0, missing))
        place = torch.arange(waveforms.shape[1], device=waveforms.device)
        waveforms = waveforms.masked_fill(place >= lengths[:, None], 0.0)
        frames, counts = self.encoder(waveforms, lengths)
        frames = self.frame_norm(frames.to(next(self.projector.parameters()).dtype))
        frames, mask, tokens = self._masked(frames, counts)
        return AudioTokens(self.projector(self.qformer(frames, mask)), tokens)

    def prompt(self, query: str, recordings: int | None = None) -> Prompt:
        """Put a query into this model's chat format.

        Args:
            query: Plain text; it may say where recordings stand by ``<Audio><AudioHere></Audio>``, once for each.
            recordings: How many it is about; by its placeholders when left out, else one.
        """
        return ask(query, self.template, recordings_in(query) if recordings is None else recordings)

    def answer(
        self,
        tokens: AudioTokens,
        queries: Sequence[str | Prompt],
        generation: Generation = GREEDY,
        *,
        merging_alpha: float = 1.0,
        constraints: Sequence[Trie | None] | None = None,
    ) -> list[Answer]:
        """Answer queries about encoded windows.

        Args:
            tokens: The windows, in the order in which the prompts take them: one each, or as many as a query or ``Prompt``
                has placeholders.
            queries: Questions in plain text, or finished prompts.
            generation: How answers are decoded.
            merging_alpha: Scale of the adapter in [0, 1].
            constraints: What holds each answer; by the model's own grammar when left out.

        Raises:
            PromptError: A query is empty, or the recordings do not fit the prompts.
        """
        if not queries:
            return []
        if constraints is None:
            constraints = [self._held(query) for query in queries]
        embeds = self.embeds(tokens, queries)
        prompts = [SlotPrompt(e, c) for e, c in zip(embeds, constraints, strict=True)]
        if generate.is_plain_greedy(generation) and self._is_llama:
            slots = SLOTS.get(self.device.type, 32)
            llama = self.llama(merging_alpha)
            said = generate.greedy(llama, prompts, generation, self.ends, slots)
        else:
            with lora.scaled(self.llm, merging_alpha):
                said = generate.searched(lora.plain(self.llm), prompts, generation, self.ends)
        return [
            Answer(
                self.tokenizer.decode(list(s.token_ids), skip_special_tokens=True),
                s.token_ids,
                s.log_probability,
                s.finish,
            )
            for s in said
        ]

    def score(
        self,
        tokens: AudioTokens,
        queries: Sequence[str | Prompt],
        options: Sequence[Sequence[str]],
        *,
        merging_alpha: float = 1.0,
    ) -> list[list[float]]:
        """Give the raw log-probability of each option as the whole answer.

        Args:
            tokens: As for ``answer``.
            queries: As for ``answer``.
            options: The options of each query.
            merging_alpha: Scale of the adapter in [0, 1].
        """
        return self._scores(self.embeds(tokens, queries), options, merging_alpha)

    def prior(
        self,
        queries: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        merging_alpha: float = 1.0,
    ) -> list[list[float]]:
        """Give the log-probability of each option when the model hears nothing: the query without a recording."""
        prompts = [ask(query, self.template, 0) for query in queries]
        return self._scores([self._spliced(p, []) for p in prompts], options, merging_alpha)

    def train(self, mode: bool = True) -> NatureLM:
        """Switch to training mode; parts of which nothing learns stay in evaluation mode, without dropout."""
        super().train(mode)
        for part in self.children():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
        return self

    def forward(self, batch: TrainingBatch) -> LossOutput:
        """Compute the loss of reference answers (MODEL specification, section 7.3)."""
        tokens = self.encode(batch.waveforms, batch.lengths)
        embeds = self.embeds(tokens, batch.prompts)
        references = [
            self._ids(text + self.limits.end_sym)[: self.limits.max_txt_len] for text in batch.texts
        ]
        return teacher_forced(self.llm, embeds, references, self._embedding())

    def embeds(
        self, tokens: AudioTokens, queries: Sequence[str | Prompt]
    ) -> list[Float[Tensor, "_ width"]]:
        """Splice the windows into the queries' prompts, one sequence of embeddings a query.

        Raises:
            PromptError: A query is empty, or the recordings do not fit the prompts.
        """
        prompts = [self.prompt(q) if isinstance(q, str) else q for q in queries]
        wanted = sum(p.recordings for p in prompts)
        if wanted != len(tokens):
            raise PromptError(
                f"The prompts have room for {wanted} recordings and {len(tokens)} came with them."
            )
        heard = iter(tokens.rows())
        return [self._spliced(p, list(islice(heard, p.recordings))) for p in prompts]

    def llama(self, merging_alpha: float = 1.0) -> Llama:
        """Give the LLM with its adapter folded in; kept until alpha or the weights change."""
        if self._folded is None or self._folded[0] != self._state(merging_alpha):
            self._folded = None
            with torch.inference_mode(mode=False):
                llama = Llama(lora.merged(self.llm, merging_alpha))
            self._folded = (self._state(merging_alpha), llama)
        return self._folded[1]

    def _state(self, merging_alpha: float) -> tuple[Any, ...]:
        """Tell weights apart: where they lie and how often they were changed."""
        weights = lora.plain(self.llm).parameters()
        return (merging_alpha, *((p.data_ptr(), p._version) for p in weights))  # noqa: SLF001 - torch's count of in-place changes

    def _spliced(self, prompt: Prompt, heard: list[Tensor]) -> Tensor:
        ids = splice.token_ids(prompt, self.tokenizer)
        whole = splice.spliced(ids, heard, self._embedding())
        most = getattr(lora.plain(self.llm).config, "max_position_embeddings", None)
        if most is not None and len(whole) >= most:
            raise PromptError(
                f"The prompt has {len(whole):,} tokens; the LLM reads {most:,} at most. Shorten the query."
            )
        return whole

    def _scores(
        self, prompts: list[Tensor], options: Sequence[Sequence[str]], merging_alpha: float
    ) -> list[list[float]]:
        if any(not option for row in options for option in row):
            raise PromptError("An option is empty; name a label.")
        ids = [[splice.text_ids(option, self.tokenizer) for option in row] for row in options]
        if self._is_llama:
            return scoring.option_scores(self.llama(merging_alpha), prompts, ids, self.ends)
        with lora.scaled(self.llm, merging_alpha):
            return scoring.recomputed_scores(lora.plain(self.llm), prompts, ids, self.ends)

    @property
    def _is_llama(self) -> bool:
        return lora.plain(self.llm).config.model_type == "llama"

    def _embedding(self) -> Tensor:
        table: Tensor = lora.plain(self.llm).get_input_embeddings().weight
        return table

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _held(self, query: str | Prompt) -> Trie | None:
        if self.grammar is None or not isinstance(query, str):
            return None
        return self.grammar.trie_for(query)

    def _masked(self, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Pad frames to one span at least; say which are read, and how many audio tokens are true."""
        span = self.qformer.shape.span_frames
        if span is not None and frames.shape[1] < span:
            frames = F.pad(frames, (0, 0, 0, span - frames.shape[1]))
        if getattr(self.encoder, "padding_rule", "exact") == "published":
            # The reference forgets the padding here.
            counts = torch.full_like(counts, frames.shape[1])
        spans = torch.tensor([self.qformer.spans_in(n) for n in counts.tolist()])
        spans = spans.to(counts.device).clamp_min(1)
        tokens = spans * self.qformer.shape.queries
        if bool((counts == frames.shape[1]).all()):
            return frames, None, tokens
        place = torch.arange(frames.shape[1], device=counts.device)[None]
        read = place < counts.clamp_min(1)[:, None]
        if span is not None:  # spans behind the true ones come out finite and are dropped
            stride = self.qformer.shape.stride_frames or span
            read |= place >= ((spans - 1) * stride + span)[:, None]
        return frames, read, tokens
