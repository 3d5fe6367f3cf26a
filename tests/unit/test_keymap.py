"""The key map is a bijection over every name of the real model."""

import json
import re
from pathlib import Path

import pytest
import torch

from NatureLM.models import keymap
from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.qformer import QFormer, QFormerShape

KEYS = Path(__file__).parents[1] / "golden" / "model" / "state_dict_keys.json"


@pytest.fixture(scope="module")
def published() -> dict[str, list]:
    return json.loads(KEYS.read_text())


@pytest.fixture(scope="module")
def our_names() -> set[str]:
    """Names of the real-size model as its modules have them; the LLM's as transformers and peft write them."""
    with torch.device("meta"):
        beats, qformer = BEATs(BEATsShape()), QFormer(QFormerShape())
    names = {f"encoder.{k}" for k in beats.state_dict()}
    names |= {f"qformer.{k}" for k in qformer.state_dict()}
    names |= {f"{p}.{k}" for p in ("frame_norm", "projector") for k in ("weight", "bias")}
    model = "llm.base_model.model.model."
    names |= {f"{model}{k}.weight" for k in ("embed_tokens", "norm")}
    names.add("llm.base_model.model.lm_head.weight")
    for i in range(32):
        layer = f"{model}layers.{i}."
        names |= {f"{layer}mlp.{p}_proj.weight" for p in ("gate", "up", "down")}
        names |= {f"{layer}{n}_layernorm.weight" for n in ("input", "post_attention")}
        for p in "qkvo":
            for leaf in ("base_layer", "lora_A.default", "lora_B.default"):
                names.add(f"{layer}self_attn.{p}_proj.{leaf}.weight")
    return names


def test_there_are_860_published_names_and_847_tensors(published: dict, our_names: set) -> None:
    assert len(published) == 860
    assert len(our_names) == 860 - 11 - 1 - len(keymap.CONSTANTS)


def test_every_published_name_has_one_home_and_comes_back(published: dict, our_names: set) -> None:
    for name in published:
        ours = keymap.ours_of(name)
        if name in keymap.CONSTANTS:
            assert ours is None
            continue
        assert ours in our_names, name
        assert keymap.published_of(ours) == keymap.canonical_name(name)


def test_our_names_write_all_860_names_back(published: dict, our_names: set) -> None:
    stored = {keymap.published_of(n) for n in our_names}
    assert len(stored) == len(our_names)
    every = stored | {a for n in stored for a in keymap.aliases_of(n, 12)} | set(keymap.CONSTANTS)
    assert every == set(published)


def test_stored_names_are_the_hub_forms(published: dict, our_names: set) -> None:
    hub = json.loads((KEYS.parent / "state_dict_keys_hub_full_form.json").read_text())
    assert {keymap.published_of(n) for n in our_names} | set(keymap.CONSTANTS) == set(hub)


def test_shapes_of_the_real_modules_are_the_published_ones(published: dict) -> None:
    with torch.device("meta"):
        parts = {"encoder": BEATs(BEATsShape()), "qformer": QFormer(QFormerShape())}
    for part, module in parts.items():
        for name, tensor in module.state_dict().items():
            assert list(tensor.shape) == published[keymap.published_of(f"{part}.{name}")][1]


def test_groups_of_the_published_names(published: dict) -> None:
    def count(pattern: str) -> int:
        return sum(bool(re.match(pattern, k)) for k in published)

    assert count(r"llama_model\..*lora_[AB]\.default\.weight$") == 256
    assert count(r"beats\.encoder\.layers\.\d+\.self_attn\.relative_attention_bias") == 12
    assert count(r"beats\.") == 252
    assert count(r"audio_Qformer\.") == 55


@pytest.mark.parametrize(
    ("wrapped", "plain"),
    [
        (
            "llama_model.base_model.model.model.layers.3.self_attn.q_proj.base_layer.weight",
            "llama_model.model.layers.3.self_attn.q_proj.weight",
        ),
        ("llm.base_model.model.lm_head.weight", "llm.lm_head.weight"),
        ("llm.base_model.model.model.norm.weight", "llm.model.norm.weight"),
    ],
)
def test_wrapping_by_lora_changes_no_identity(wrapped: str, plain: str) -> None:
    assert keymap.logical_name(wrapped) == keymap.logical_name(plain) == plain


def test_strangers_have_no_home() -> None:
    assert keymap.ours_of("vision_tower.weight") is None
    with pytest.raises(KeyError):
        keymap.published_of("vision.weight")
