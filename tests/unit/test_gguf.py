"""Laws of unpacking: the unpacked LLM computes what was packed, all or nothing is written, damage is refused."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from NatureLM.errors import CheckpointError
from NatureLM.models import parts
from NatureLM.models.gguf import FILES, is_intact, load_unpacked, unpacked

TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [
    chr(c) for c in (*range(33, 127), 0x120, 0x10A)
]
MERGES = ["G r", "Gr e", "e n", "Ġ T"]
TOKENS += ["Gr", "Gre", "en", "ĠT"]
OURS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


@pytest.fixture(scope="module")
def original() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
        rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
    )  # fmt: skip
    llm = LlamaForCausalLM(config)
    for parameter in llm.parameters():
        parameter.data = torch.randn_like(parameter).mul(0.3).to(torch.bfloat16).float()
    return llm.eval()


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Permute rows as the converter of llama.cpp does."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def packed(llm: LlamaForCausalLM, path: Path, leave_out: str = "") -> Path:
    config = llm.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    for special in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        special(2)
    for name, tensor in llm.model.state_dict().items():
        theirs = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
        weight = tensor.numpy()
        if name.startswith("layers."):
            _, block, rest = name.split(".", 2)
            inner = OURS[rest.removesuffix(".weight")]
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
            weight = interleaved(weight, heads[inner]) if inner in heads else weight
            theirs[name] = f"blk.{block}.{inner}.weight"
        if theirs[name] != leave_out:
            writer.add_tensor(theirs[name], np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_unpacked_llm_computes_what_was_packed(
    original: LlamaForCausalLM, tmp_path: Path
) -> None:
    folder = unpacked(packed(original, tmp_path / "tiny.gguf"), tmp_path / "made")
    llm, tokenizer = load_unpacked(folder)
    ids = torch.arange(3, 19)[None]
    with torch.no_grad():
        assert torch.allclose(llm(ids).logits, original(ids).logits, atol=1e-5)
    assert not llm.training
    assert llm.lm_head.weight is llm.model.embed_tokens.weight
    assert llm.generation_config.eos_token_id == 2
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2
    assert tokenizer.encode("Green T") == [TOKENS.index(t) for t in ("Gre", "en", "ĠT")]
    assert tokenizer.decode(tokenizer.encode("Green T\n12")) == "Green T\n12"
    assert tokenizer.encode("<|im_end|>") == [2]


def test_unpacking_is_done_once_and_all_or_nothing(
    original: LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = packed(original, tmp_path / "tiny.gguf"), tmp_path / "cache" / "made"
    with monkeypatch.context() as patch:
        patch.setattr("NatureLM.models.gguf._tokenizer", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            unpacked(path, folder)
    assert not list((tmp_path / "cache").iterdir())
    unpacked(path, folder)
    path.unlink()
    assert unpacked(path, folder) == folder
    assert {p.name for p in folder.iterdir()} == set(FILES)
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["made"]


@pytest.mark.parametrize("keep", [0, 100, 20_000])
def test_a_damaged_file_is_refused(original: LlamaForCausalLM, tmp_path: Path, keep: int) -> None:
    path = packed(original, tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"tiny\.gguf"):
        unpacked(path, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_file_that_lacks_a_weight_is_refused(original: LlamaForCausalLM, tmp_path: Path) -> None:
    path = packed(original, tmp_path / "tiny.gguf", leave_out="blk.1.ffn_up.weight")
    folder = unpacked(path, tmp_path / "made")
    with pytest.raises(CheckpointError, match="up_proj"):
        load_unpacked(folder)


@pytest.mark.parametrize("damage", [b"", b"\xff" * 64])
def test_a_damaged_folder_is_refused(
    original: LlamaForCausalLM, tmp_path: Path, damage: bytes
) -> None:
    folder = unpacked(packed(original, tmp_path / "tiny.gguf"), tmp_path / "made")
    (folder / FILES[0]).write_bytes(damage)
    with pytest.raises(CheckpointError, match="remove the folder"):
        load_unpacked(folder)


@pytest.mark.pocket
def test_the_pocket_models_llm_speaks() -> None:
    path = parts.cached("smollm2")
    assert path, "run `naturelm models pull pocket` first"
    folder = unpacked(path, parts.unpacked_folder())
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_hidden_layers"], config["hidden_size"]) == (30, 576)
    assert config["vocab_size"] == 49_152
    llm, tokenizer = load_unpacked(folder, torch.bfloat16)
    names = ("Green Treefrog", "Dryophytes cinereus", "Rüppell's Warbler", "  two  spaces\n")
    assert [tokenizer.decode(tokenizer.encode(name)) for name in names] == list(names)
    ids = torch.tensor([tokenizer.encode("The capital of France is")])
    with torch.no_grad():
        assert tokenizer.decode([int(llm(ids).logits[0, -1].argmax())]) == " Paris"


def test_weights_that_changed_since_are_unpacked_anew(
    original: LlamaForCausalLM, tmp_path: Path
) -> None:
    path, folder = packed(original, tmp_path / "tiny.gguf"), tmp_path / "made"
    weights = unpacked(path, folder) / FILES[0]
    right = weights.read_bytes()
    assert is_intact(folder)
    for damage in (right[:-1], right[:-1] + bytes([right[-1] ^ 1]), b""):
        weights.write_bytes(damage)
        assert not is_intact(folder)
        unpacked(path, folder)
        assert weights.read_bytes() == right
    (folder / "config.json").write_text("{")
    assert not is_intact(folder)
