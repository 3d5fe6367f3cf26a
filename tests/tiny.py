"""A complete NatureLM in miniature: 2 layers, 32 wide, a byte tokenizer; built in under a second, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from NatureLM.config import Generation
from NatureLM.models import lora
from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.grammar import Trie
from NatureLM.models.model import GREEDY, Answer, AudioTokens, NatureLM, Parts
from NatureLM.models.qformer import QFormer, QFormerShape
from NatureLM.prompts import TEMPLATES, Prompt

SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "[PAD]",
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer of one token a byte, with Llama 3's special tokens behind them."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[4], pad_token=SPECIAL[5]
    )
    made.add_special_tokens(
        {"additional_special_tokens": [t for t in SPECIAL if t not in made.get_vocab()]}
    )
    return made


def llm(words: Any, *, rank: int = 4) -> Any:
    """Build a two-layer Llama with an adapter that changes something."""
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        initializer_range=0.3,
        bos_token_id=words.convert_tokens_to_ids(SPECIAL[0]),
        eos_token_id=words.convert_tokens_to_ids([SPECIAL[1], SPECIAL[4]]),
    )
    wrapped = lora.attach(LlamaForCausalLM(config), lora.LoRAShape(rank, 2 * rank, 0.1))
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.2)
    return wrapped


def encoder() -> BEATs:
    """Build a two-layer BEATs, 32 wide."""
    shape = BEATsShape(
        embed_dim=16,
        encoder_layers=2,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=4,
        conv_pos=16,
        conv_pos_groups=4,
        num_buckets=32,
        max_distance=64,
        finetuned_model=False,
    )
    return BEATs(shape)


def model(seed: int = 0, grammar: Any = None) -> NatureLM:
    """Build the miniature, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        words = tokenizer()
        shape = QFormerShape(width=32, heads=4, layers=2, feed_forward=64, frame_width=32)
        parts = Parts(
            encoder(),
            nn.LayerNorm(32),
            QFormer(shape),
            nn.Linear(32, 32),
            llm(words),
            words,
            TEMPLATES["llama3"],
            grammar,
        )
        return NatureLM(parts, name="tiny", revision="0").eval()


class _Silent(nn.Module):
    """An encoder that tells nothing but how long it heard."""

    width, frames_per_second, sample_rate = 4, 50.0, 16_000

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames = torch.zeros(len(waveforms), max(1, waveforms.shape[1] // 320), self.width)
        return frames, (lengths // 320).clamp_min(1)


class ScriptedModel(nn.Module):
    """What stands in for a model where only its answers matter: it says what the script says.

    Args:
        script: Answers taken in turn, or a function of the query.
    """

    name, revision, grammar = "scripted", "0", None

    def __init__(self, script: Sequence[str] | Callable[[str], str]) -> None:
        super().__init__()
        self.encoder = _Silent()
        self.script, self.said = script, 0
        self.queries: list[str] = []
        self.encoded = 0
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.sample_rate = self.encoder.sample_rate

    def encode(self, waveforms: Tensor, lengths: Tensor) -> AudioTokens:
        self.encoded += len(waveforms)
        tokens = waveforms.abs().mean(1).float()[:, None, None].expand(-1, 1, 4)
        return AudioTokens(tokens, torch.ones(len(waveforms), dtype=torch.long))

    def answer(
        self,
        tokens: AudioTokens,
        queries: Sequence[str | Prompt],
        generation: Generation = GREEDY,
        *,
        merging_alpha: float = 1.0,
        constraints: Sequence[Trie | None] | None = None,
    ) -> list[Answer]:
        del generation, merging_alpha, constraints
        texts = [self._next(q if isinstance(q, str) else q.text) for q in queries]
        return [Answer(text, (1,), -0.5, "stop") for text in texts]

    def score(
        self,
        tokens: AudioTokens,
        queries: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        merging_alpha: float = 1.0,
    ) -> list[list[float]]:
        del tokens, merging_alpha
        wanted = [self._next(q) for q in queries]
        return [
            [0.0 if o == w else -3.0 for o in row] for row, w in zip(options, wanted, strict=True)
        ]

    def prior(
        self,
        queries: Sequence[str],
        options: Sequence[Sequence[str]],
        *,
        merging_alpha: float = 1.0,
    ) -> list[list[float]]:
        del merging_alpha
        return [[0.0] * len(row) for row in options]

    def _next(self, query: str) -> str:
        self.queries.append(query)
        if callable(self.script):
            return self.script(query)
        answer = self.script[self.said % len(self.script)]
        self.said += 1
        return answer


def stub_model(answers: Sequence[str] | Callable[[str], str]) -> Any:
    """Make a model whose answers are scripted."""
    return ScriptedModel(answers)
