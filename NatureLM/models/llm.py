"""The language model: which are known, how one is built or loaded, where it stops, its ``[PAD]`` row.

Loads through transformers only. The surprise: the vocabulary has one row more than the base model's, for ``[PAD]``; that row is
pinned to zero and can never be said (MODEL specification, section 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from NatureLM.errors import CheckpointError

PAD = "[PAD]"


@dataclass(frozen=True)
class LLMRow:
    """What is known of an LLM family.

    Attributes:
        template: Row of ``prompts.TEMPLATES``.
        lora_targets: Linear layers that the published adapter changes.
        adds_pad: Whether a ``[PAD]`` row is added to its vocabulary.
    """

    template: str
    lora_targets: tuple[str, ...]
    adds_pad: bool


LLMS: dict[str, LLMRow] = {
    "llama3": LLMRow("llama3", ("q_proj", "k_proj", "v_proj", "o_proj"), adds_pad=True),
    "smollm2": LLMRow(
        "chatml",
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        adds_pad=False,
    ),
}
"""Family -> what is known of it."""


def load_tokenizer(folder: str | Path, *, adds_pad: bool = True) -> Any:
    """Load a tokenizer from a folder, with ``[PAD]`` where the model was trained with one.

    Raises:
        CheckpointError: The folder holds no tokenizer.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, clean_up_tokenization_spaces=False
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: holds no tokenizer that can be read ({error})."
        ) from error
    if adds_pad:
        tokenizer.add_special_tokens({"pad_token": PAD})
    tokenizer.padding_side = "left"
    return tokenizer


def empty_llm(folder: str | Path, vocabulary: int, dtype: torch.dtype) -> Any:
    """Build an LLM without weights, on the meta device, from a folder's ``config.json``.

    Args:
        folder: Where the base LLM's configuration lies.
        vocabulary: Rows of its tables, ``[PAD]`` included.
        dtype: Of its weights.

    Raises:
        CheckpointError: The folder holds no configuration of an LLM.
    """
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: holds no configuration of an LLM ({error}).") from error
    config.vocab_size = vocabulary
    with torch.device("meta"):
        llm = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")
    if Path(folder, "generation_config.json").is_file():
        llm.generation_config = GenerationConfig.from_pretrained(str(folder), local_files_only=True)
    return llm.eval()


def stop_ids(llm: Any, tokenizer: Any) -> tuple[int, ...]:
    """List the tokens that end an answer, by the LLM's generation settings, else its tokenizer."""
    ends = llm.generation_config.eos_token_id
    if ends is None:
        ends = (
            llm.config.eos_token_id
            if llm.config.eos_token_id is not None
            else tokenizer.eos_token_id
        )
    return tuple(ends) if isinstance(ends, list | tuple) else (int(ends),)


def forbidden_ids(llm: Any, tokenizer: Any) -> tuple[int, ...]:
    """List the tokens that are never said: the ``[PAD]`` row, unless it is an ordinary stop token."""
    pad = tokenizer.convert_tokens_to_ids(PAD)
    known = pad is not None and pad != tokenizer.unk_token_id
    return (int(pad),) if known and pad not in stop_ids(llm, tokenizer) else ()
