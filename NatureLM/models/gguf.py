"""The pocket model's LLM out of its GGUF file: dequantised once into a folder that transformers loads.

Knows SmolLM2's layout in GGUF and in transformers. The surprise: GGUF interleaves the two halves of every rotary pair in the rows of the
query and key matrices; they are put back. Reading runs no code of the file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from NatureLM.errors import CheckpointError
from NatureLM.models.fetch import digest

END_OF_TURN = "<|im_end|>"
FILES = ("model.safetensors", "config.json", "tokenizer.json")
_SPECIAL = 3
_HASH = "weights_sha256"
"""Key in ``config.json``."""
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""GGUF's name in a block -> transformers' name in a layer."""


def unpacked(path: Path, folder: Path) -> Path:
    """Dequantise a GGUF file into a folder, unless that is done already and its weights are intact.

    Args:
        path: The file; trusted by its hash.
        folder: Where the weights (bfloat16), the configuration and the tokenizer go, all or nothing.

    Raises:
        CheckpointError: The file is damaged or no Llama.
    """
    if is_intact(folder):
        return folder
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, OSError) as error:
        raise CheckpointError(f"{path}: is no readable GGUF file ({error}).") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        config = _config(reader)
        save_file(dict(_tensors(reader, config)), Path(made) / FILES[0], {"format": "pt"})
        config.update({_HASH: digest(Path(made) / FILES[0])})
        config.save_pretrained(made)
        _tokenizer(reader).save(str(Path(made) / FILES[2]))
        folder.mkdir(exist_ok=True)
        for name in reversed(FILES):
            shutil.move(Path(made) / name, folder / name)
    return folder


def load_unpacked(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """Load an unpacked LLM.

    Args:
        folder: What ``unpacked`` made.
        dtype: Type of the weights.

    Returns:
        The LLM, in evaluation mode, and its tokenizer.

    Raises:
        CheckpointError: The folder is damaged.
    """
    config = LlamaConfig.from_pretrained(folder)
    with torch.device("meta"):
        llm = LlamaForCausalLM(config)
    try:
        weights = load_file(folder / FILES[0])
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be read ({error}); remove the folder.") from error
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    llm.load_state_dict(weights, strict=False, assign=True)
    llm.tie_weights()
    left = [name for name, p in llm.named_parameters() if p.is_meta]
    if left:
        raise CheckpointError(f"{folder}: lacks {', '.join(left[:4])}; remove the folder.")
    llm.model.rotary_emb = type(llm.model.rotary_emb)(config)
    llm.generation_config.eos_token_id = config.eos_token_id
    return llm.eval(), tokenizer_of(folder)


def tokenizer_of(folder: Path) -> Any:
    """Load the tokenizer that ``unpacked`` wrote."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(folder / FILES[2]), eos_token=END_OF_TURN, pad_token=END_OF_TURN
    )


def is_intact(folder: Path) -> bool:
    """Tell whether a folder is complete and its weights hash to what its configuration says."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    try:
        written = json.loads((folder / FILES[1]).read_text(encoding="utf-8")).get(_HASH)
    except ValueError:
        return False
    return bool(written == digest(folder / FILES[0]))


def _value(reader: Any, name: str) -> Any:
    if name not in reader.fields:
        raise CheckpointError(f"the GGUF file lacks {name!r}; is it a Llama?")
    return reader.fields[name].contents()


def _config(reader: Any) -> LlamaConfig:
    tokens = _value(reader, "tokenizer.ggml.tokens")
    return LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=_value(reader, "llama.embedding_length"),
        intermediate_size=_value(reader, "llama.feed_forward_length"),
        num_hidden_layers=_value(reader, "llama.block_count"),
        num_attention_heads=_value(reader, "llama.attention.head_count"),
        num_key_value_heads=_value(reader, "llama.attention.head_count_kv"),
        max_position_embeddings=_value(reader, "llama.context_length"),
        rms_norm_eps=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": _value(reader, "llama.rope.freq_base"),
        },
        tie_word_embeddings=True,
        bos_token_id=_value(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_value(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_value(reader, "tokenizer.ggml.padding_token_id"),
    )


def _tensors(reader: Any, config: LlamaConfig) -> Iterator[tuple[str, Tensor]]:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for packed in reader.tensors:
        weight = gguf.quants.dequantize(packed.data, packed.tensor_type)
        name, block = packed.name.removesuffix(".weight"), ""
        if name.startswith("blk."):
            _, block, name = name.split(".")
        if name in heads:
            weight = _unpaired(weight, heads[name])
        yield _named(name, block), torch.from_numpy(weight.copy()).to(torch.bfloat16)


def _named(name: str, block: str) -> str:
    if block:
        return f"model.layers.{block}.{_NAMES[name]}.weight"
    return {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[name]


def _unpaired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put each head's rows back: first halves of all rotary pairs, then second halves."""
    rows, columns = weight.shape
    paired = weight.reshape(heads, rows // heads // 2, 2, columns)
    return paired.swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(reader: Any) -> Tokenizer:
    tokens = _value(reader, "tokenizer.ggml.tokens")
    kinds = _value(reader, "tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in _value(reader, "tokenizer.ggml.merges")]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == _SPECIAL])
    return made
