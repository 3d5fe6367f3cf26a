"""Every tensor finds its home or the load is refused with names and a reason."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from NatureLM.errors import CheckpointError
from NatureLM.models.keymap import aliases_of, logical_name, ours_of
from NatureLM.models.weight_file import Entry
from NatureLM.models.weight_plan import Holdings, plan_reads

KEYS = Path(__file__).parents[1] / "golden" / "model" / "state_dict_keys.json"
HEAD = "llama_model.base_model.model.lm_head.weight"


def entry(name: str, shape: list[int]) -> Entry:
    return Entry(name, Path("x"), torch.float32, tuple(shape), 0)


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Entry]:
    return {k: entry(k, shape) for k, (_, shape) in json.loads(KEYS.read_text()).items()}


@pytest.fixture(scope="module")
def expected(checkpoint: dict) -> dict[str, tuple[int, ...]]:
    return {ours: e.shape for k, e in checkpoint.items() if (ours := ours_of(k)) is not None}


@pytest.fixture(scope="module")
def base(checkpoint: dict) -> Callable[[], dict[str, Entry]]:
    tensors = {}
    for k, e in checkpoint.items():
        if k.startswith("llama_model.") and ".lora_" not in k:
            bare = logical_name(k).removeprefix("llama_model.")
            rows = (e.shape[0] - 1, *e.shape[1:]) if e.shape[0] == 128257 else e.shape
            tensors[bare] = entry(bare, list(rows))
    return lambda: tensors


def published(checkpoint: dict) -> dict[str, Entry]:
    return {k: e for k, e in checkpoint.items() if not k.startswith("llama_model.") or "lora" in k}


def test_every_name_of_the_real_model_has_a_home(checkpoint: dict, expected: dict) -> None:
    reads = plan_reads(expected, Holdings("x", checkpoint))
    assert {r.ours for r in reads} == set(expected)
    assert all(r.rows is None for r in reads)


def test_aliases_may_be_there_or_not_and_either_name_will_do(
    checkpoint: dict, expected: dict
) -> None:
    stored = [k for k in checkpoint if aliases_of(k, 12)]
    without = {k: e for k, e in checkpoint.items() if k not in stored}
    assert len(without) == 858
    assert len(plan_reads(expected, Holdings("x", without))) == len(expected)
    aliases = {a for k in stored for a in aliases_of(k, 12)}
    bare = {k: e for k, e in checkpoint.items() if k not in aliases}
    assert len(bare) == 848
    reads = {r.ours: r.entry.name for r in plan_reads(expected, Holdings("x", bare))}
    both = {r.ours: r.entry.name for r in plan_reads(expected, Holdings("x", checkpoint))}
    assert reads == both


def test_names_without_the_wrapping_of_lora(checkpoint: dict, expected: dict) -> None:
    plain = {logical_name(k): e for k, e in checkpoint.items()}
    assert len(plan_reads(expected, Holdings("x", plain))) == len(expected)


def test_a_published_checkpoint_over_its_base(
    checkpoint: dict, expected: dict, base: Callable
) -> None:
    reads = {r.ours: r for r in plan_reads(expected, Holdings("x", published(checkpoint), base))}
    assert set(reads) == set(expected)
    assert reads["llm.base_model.model.model.embed_tokens.weight"].rows is None
    head = reads["llm.base_model.model.lm_head.weight"]
    assert (head.entry.name, head.rows) == ("lm_head.weight", 128256)


def test_a_tied_base_lends_its_embedding_to_the_head(
    checkpoint: dict, expected: dict, base: Callable
) -> None:
    tied = {k: e for k, e in base().items() if k != "lm_head.weight"}
    holdings = Holdings("x", published(checkpoint), lambda: tied)
    reads = {r.ours: r.entry.name for r in plan_reads(expected, holdings)}
    assert reads["llm.base_model.model.lm_head.weight"] == "model.embed_tokens.weight"


def test_the_base_is_not_opened_when_nothing_is_missing(checkpoint: dict, expected: dict) -> None:
    def opened() -> dict:
        raise AssertionError

    plan_reads(expected, Holdings("x", checkpoint, opened))


def test_an_original_encoder_fills_in_and_the_checkpoint_wins(
    checkpoint: dict, expected: dict
) -> None:
    encoder = {k.removeprefix("beats."): e for k, e in checkpoint.items() if k.startswith("beats.")}
    rest = {k: e for k, e in checkpoint.items() if not k.startswith("beats.")}
    alias = "beats.encoder.layers.3.self_attn.relative_attention_bias.weight"
    rest[alias] = entry("mine", list(checkpoint[alias].shape))
    reads = {r.ours: r.entry.name for r in plan_reads(expected, Holdings("x", rest, None, encoder))}
    assert set(reads) == set(expected)
    assert reads["encoder.encoder.relative_attention_bias.weight"] == "mine"


def without(part: str) -> Callable[[dict], dict]:
    return lambda c: {k: e for k, e in c.items() if part not in k}


def reshaped(part: str, change: Callable[[tuple], tuple]) -> Callable[[dict], dict]:
    return lambda c: {k: entry(k, list(change(e.shape))) if part in k else e for k, e in c.items()}


def rank_8(checkpoint: dict) -> dict:
    half = reshaped(".lora_A.", lambda s: (8, s[1]))(checkpoint)
    return reshaped(".lora_B.", lambda s: (s[0], 8))(half)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (published, r"Missing: .* and 28\d more\. Llama base missing: pass llama_path="),
        (rank_8, "LoRA of rank 8 while lora_rank is 32: pass lora_rank=8"),
        (without("beats."), "frozen encoder: pass beats_path"),
        (without("predictor"), "set finetuned_model to false"),
        (without(".lora_"), "without LoRA: pass lora=False"),
        (lambda c: c | {"vision.weight": entry("vision.weight", [1])}, "home: vision.weight"),
        (
            lambda c: c | {k.replace(".31.", ".32."): e for k, e in c.items() if ".31.mlp" in k},
            "another number of layers",
        ),
        (reshaped(HEAD, lambda s: (32001, s[1])), "another base LLM"),
        (reshaped("ln_audio", lambda _: (64,)), r"ln_audio.weight \[64\] where \[768\] was expe"),
    ],
)
def test_what_does_not_fit_is_named_and_explained(
    checkpoint: dict, expected: dict, change: Callable, match: str
) -> None:
    with pytest.raises(CheckpointError, match=match):
        plan_reads(expected, Holdings("folder", change(checkpoint)))


def test_lora_weights_in_a_model_without_lora(checkpoint: dict, expected: dict) -> None:
    plain = {logical_name(k): s for k, s in expected.items() if ".lora_" not in k}
    with pytest.raises(CheckpointError, match="pass lora=True"):
        plan_reads(plain, Holdings("x", checkpoint))


def test_a_base_that_lacks_tensors_too(checkpoint: dict, expected: dict) -> None:
    with pytest.raises(CheckpointError, match="at llama_path lacks them too"):
        plan_reads(expected, Holdings("x", published(checkpoint), dict))
