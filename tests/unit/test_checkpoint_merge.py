"""Folding LoRA into its base gives a plain Llama with equal logits, written a tensor at a time."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from NatureLM.cli import models_merge
from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models.merge import MergeSettings, merge
from NatureLM.models.weight_file import open_weights
from NatureLM.models.weight_write import Promise, write_file, write_shards

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
ROWS, SCALE = 346, 8 / 4


@pytest.fixture(scope="module")
def adapted() -> torch.nn.Module:
    config = LlamaConfig.from_pretrained(GOLDEN / "llama", vocab_size=ROWS + 1)
    config.dtype = torch.float32
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=[f"{p}_proj" for p in "qkvo"])
    model = get_peft_model(LlamaForCausalLM(config), lora)
    stored = load_file(GOLDEN / "model.safetensors")
    tensors = {
        k.removeprefix("llama_model."): v for k, v in stored.items() if k.startswith("llama_model.")
    }
    tensors["base_model.model.model.embed_tokens.weight"] = stored["llama_embed_tokens.weight"]
    model.load_state_dict(tensors, strict=True)
    return model.eval()


@pytest.mark.parametrize("form", ["model.safetensors", "model_published_form.safetensors"])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
def test_logits_are_equal(
    tmp_path: Path, adapted: torch.nn.Module, form: str, alpha: float
) -> None:
    checkpoint = open_weights(GOLDEN / form).entries
    settings = MergeSettings(alpha * SCALE, ROWS)
    out = merge(checkpoint, GOLDEN / "llama", tmp_path / "out", settings)
    plain = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    assert plain.get_input_embeddings().weight.shape[0] == ROWS
    ids = torch.arange(40)[None]
    for module in adapted.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {"default": alpha * SCALE}
    with torch.no_grad():
        expected, found = adapted(ids).logits[..., :ROWS], plain(ids).logits
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert len(AutoTokenizer.from_pretrained(out)) == ROWS


def test_another_dtype_is_written_and_said(tmp_path: Path) -> None:
    checkpoint = open_weights(GOLDEN / "model.safetensors").entries
    settings = MergeSettings(SCALE, ROWS, torch.bfloat16)
    out = merge(checkpoint, GOLDEN / "llama", tmp_path / "out", settings)
    dtypes = {e.dtype for e in open_weights(out / "model.safetensors").entries.values()}
    assert dtypes == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_base_without_what_lora_changes_is_refused(tmp_path: Path) -> None:
    checkpoint = open_weights(GOLDEN / "model.safetensors").entries
    lame = {k: e for k, e in checkpoint.items() if "layers.1.self_attn.q_proj.base" not in k}
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.1\.self_attn\.q_proj"):
        merge(lame, GOLDEN / "llama", tmp_path / "out", MergeSettings(1.0, ROWS))


def test_files_written_here_are_read_by_others(tmp_path: Path) -> None:
    tensors = {"b": torch.rand(3, 2), "a": torch.arange(5), "c": torch.rand(4).bfloat16()}
    promises = {k: Promise.of(v) for k, v in tensors.items()}
    write_file(tmp_path / "w.safetensors", promises, {"note": "x"})
    found = load_file(tmp_path / "w.safetensors")
    assert all(torch.equal(found[k], v) for k, v in tensors.items())
    assert open_weights(tmp_path / "w.safetensors").metadata == {"note": "x"}


def test_shards_hold_everything_once(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.rand(100) for i in range(7)}
    paths = write_shards(tmp_path, {k: Promise.of(v) for k, v in tensors.items()}, 900)
    assert paths[0].name == "model-00001-of-00004.safetensors"
    found = open_weights(tmp_path / "model.safetensors.index.json").entries
    assert set(found) == set(tensors)
    assert all(p.stat().st_size < 1500 for p in paths)


def test_a_broken_promise_is_noticed(tmp_path: Path) -> None:
    promise = Promise(torch.float32, (3,), lambda: torch.zeros(2))
    with pytest.raises(ValueError, match="promised"):
        write_file(tmp_path / "w.safetensors", {"a": promise})


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    models_merge.add_arguments(parser)
    return parser.parse_args(["--model", str(GOLDEN), *words])


def test_the_command_merges_at_the_asked_alpha(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {}
    for alpha in ("0", "0.5", "1"):
        out = tmp_path / alpha
        assert models_merge.run(parsed("--alpha", alpha, str(out))) == 0
        assert capsys.readouterr().out.strip() == str(out)
        written[alpha] = load_file(out / "model.safetensors")
    base = load_file(GOLDEN / "llama" / "model.safetensors")
    changed = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(written["0"][changed], base[changed])
    middle = (written["0"][changed] + written["1"][changed]) / 2
    torch.testing.assert_close(written["0.5"][changed], middle)
    assert written["1"].keys() == base.keys()


def test_an_alpha_outside_its_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"merging alpha is 1\.5"):
        models_merge.run(parsed("--alpha", "1.5", str(tmp_path / "out")))
