"""The loop, stage 1 in small, and stage 2 in small: losses fall, twice the same, and what is written can be read."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from NatureLM.data.evidence import embedding_statistics, make_bank
from NatureLM.errors import ConfigError
from NatureLM.models.pocket.bridge import Bridge, BridgeShape
from NatureLM.taxonomy.names import Taxon, Taxonomy
from NatureLM.train.generalisation import train_generalisation
from NatureLM.train.loop import Run, Schedule
from NatureLM.train.perception import spelling, spelling_loss, train_perception
from NatureLM.train.prepared import FILLER, Prepared, make_words
from NatureLM.train.recipe import PocketRecipe

CLASSES, WIDTH, VOCABULARY, END = 60, 24, 128, 0
SMALL = {"width": 32, "heads": 2, "layers": 1, "feed_forward": 64}


class Letters:
    """A tokenizer of one token a letter."""

    eos_token_id = END

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(input_ids=[ord(letter) % VOCABULARY for letter in text])

    def get_added_vocab(self) -> dict[str, int]:
        return {}


def prepared() -> Prepared:
    g = torch.Generator().manual_seed(0)
    embeddings = torch.randn(300, WIDTH, generator=g).relu()
    prototypes = torch.randn(CLASSES, WIDTH, generator=g)
    bank = make_bank(prototypes, -3 * torch.ones(CLASSES), embedding_statistics(embeddings, 8), 20)
    taxonomy = Taxonomy(
        Taxon(i, f"B{i}", f"A a{i}", "A", "Avidae", "X", "Aves", "bird" if i < 55 else "sound")
        for i in range(CLASSES)
    )
    table = torch.randn(VOCABULARY, 16, generator=g)
    return Prepared(bank, make_words(taxonomy, Letters(), table), taxonomy)


PREPARED = prepared()


def recipe(out: Path, **more: Any) -> PocketRecipe:
    values: dict[str, Any] = {
        "stage": "perception",
        "steps": 60,
        "batch": 32,
        "learning_rate": 5e-3,
        "warmup_steps": 5,
        "bridge": SMALL,
        "out": str(out),
    }
    return PocketRecipe.model_validate(values | more)


@pytest.fixture(autouse=True)
def _toy_width(monkeypatch: pytest.MonkeyPatch) -> None:
    def shape(**values: Any) -> BridgeShape:
        return BridgeShape(**values, direction_width=WIDTH)

    for module in ("perception", "generalisation"):
        monkeypatch.setattr(f"NatureLM.train.{module}.BridgeShape", shape)
    monkeypatch.setattr("NatureLM.train.loop.LOG_SECONDS", 0.0)


def losses(folder: Path) -> list[float]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_perception_learns_and_learns_the_same_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train_perception(recipe(tmp_path / name), PREPARED, torch.device("cpu"))
    first = losses(tmp_path / "a")
    assert first[-1] < 0.6 * first[0]
    assert first == losses(tmp_path / "b")
    one, two = (load_file(tmp_path / name / "bridge.safetensors") for name in ("a", "b"))
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_another_seed_learns_otherwise(tmp_path: Path) -> None:
    for seed in (1, 2):
        train_perception(
            recipe(tmp_path / str(seed), seed=seed, steps=2), PREPARED, torch.device("cpu")
        )
    assert losses(tmp_path / "1") != losses(tmp_path / "2")


def test_what_perception_writes_is_a_bridge_with_its_recipe(tmp_path: Path) -> None:
    made = recipe(tmp_path / "run", steps=2)
    train_perception(made, PREPARED, torch.device("cpu"))
    notes = json.loads((tmp_path / "run" / "bridge.json").read_text(encoding="utf-8"))
    assert notes["recipe"] == made.model_dump(mode="json")
    assert notes["summary"]["steps"] == 2
    bridge = Bridge(BridgeShape.of(notes["shape"]))
    bridge.load_state_dict(
        {k: v.float() for k, v in load_file(tmp_path / "run" / "bridge.safetensors").items()}
    )


def test_spelling_counts_only_whole_names() -> None:
    targets = torch.tensor([[1, 2, FILLER, FILLER], [3, FILLER, FILLER, FILLER]])
    logits = 10 * nn.functional.one_hot(targets, 5).float()
    assert float(spelling_loss(logits, targets, 3)["common"]) == 1.0
    logits[0, 1] = logits[0, 1].roll(1)
    figures = spelling_loss(logits, targets, 3)
    assert float(figures["common"]) == 0.5
    assert float(figures["all"]) == 0.5


def test_nothing_heard_spells_none() -> None:
    from NatureLM.data.evidence import Evidence

    quiet = Evidence(
        torch.arange(5)[None, None],
        torch.linspace(-3, -5, 5)[None, None],
        torch.zeros(1, 1),
        torch.ones(1, 1, dtype=torch.bool),
    )
    targets = spelling(quiet, PREPARED.words)[0]
    places = PREPARED.words.common.shape[1]
    assert torch.equal(targets[:places], PREPARED.words.common[-1])


def llm() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
        )
    ).eval()


def test_generalisation_trains_adapter_and_bridge_and_nothing_else(tmp_path: Path) -> None:
    first = recipe(tmp_path / "one", steps=2)
    train_perception(first, PREPARED, torch.device("cpu"))
    model = llm()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    second = recipe(
        tmp_path / "two",
        stage="generalisation",
        steps=12,
        batch=8,
        tokens=420,
        lora_rank=2,
        bridge_from=str(tmp_path / "one" / "bridge.safetensors"),
    )
    train_generalisation(second, PREPARED, (model, Letters()), torch.device("cpu"))
    seen = losses(tmp_path / "two")
    assert sum(seen[-3:]) < sum(seen[:3])
    after = {k.replace(".base_layer", ""): v for k, v in model.state_dict().items()}
    assert all(torch.equal(after[k], before[k]) for k in before)
    adapter = load_file(tmp_path / "two" / "lora.safetensors")
    assert {name.rpartition(".")[2] for name in adapter} == {"A", "B"}
    assert any(t.abs().sum() > 0 for name, t in adapter.items() if name.endswith(".B"))
    assert (tmp_path / "two" / "bridge.json").is_file()


def test_generalisation_without_a_bridge_is_refused(tmp_path: Path) -> None:
    made = recipe(tmp_path, stage="generalisation")
    with pytest.raises(ConfigError, match="bridge_from"):
        train_generalisation(made, PREPARED, (llm(), Letters()), torch.device("cpu"))


def test_the_rate_rises_then_falls_to_what_is_left() -> None:
    schedule = Schedule(steps=100, minutes=None, warmup_steps=10, end_share=0.1)
    shares = [schedule.share(step, 0.0) for step in range(101)]
    assert shares[0] == pytest.approx(0.1, abs=0.01)
    assert max(shares) == max(shares[8:12])
    assert shares[100] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(shares[10:]))


def test_a_clock_ends_a_run_where_the_cosine_ends() -> None:
    schedule = Schedule(steps=1000, minutes=1.0, warmup_steps=1, end_share=0.0)
    assert schedule.progress(1, 60.0) == 1.0
    assert schedule.share(5, 59.99) == pytest.approx(0.0, abs=1e-3)


def test_a_run_saves_while_it_goes_and_at_its_end(tmp_path: Path) -> None:
    saves: list[int] = []
    weight = nn.Parameter(torch.ones(1))

    def save(_: Path, summary: dict[str, Any]) -> None:
        saves.append(summary["steps"])

    run = Run(tmp_path, Schedule(4, None, 0, 1.0), 1.0, save, save_minutes=0.0)
    run(torch.optim.SGD([weight], 0.1), [weight], lambda _: {"loss": weight.square().sum()})
    assert saves == [1, 2, 3, 4, 4]
