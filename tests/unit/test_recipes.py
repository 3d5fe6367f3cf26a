"""Shipped recipes load, say what made the shipped bridge, and refuse what they do not know."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
import yaml

from NatureLM.data.evidence import Synthesis
from NatureLM.errors import ConfigError
from NatureLM.models.pocket.bridge import BridgeShape
from NatureLM.train.recipe import BridgeRecipe, SynthesisRecipe, find_recipe, read_recipe

RECIPES = sorted(
    p.name for p in Path(str(resources.files("NatureLM.recipes"))).glob("pocket_*.yaml")
)
BRIDGE = resources.files("NatureLM.models.pocket")


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = read_recipe(name)
    assert find_recipe(name).name == name
    assert recipe.stage in {"perception", "generalisation"}


def test_there_are_two_stages_and_the_second_starts_from_the_first() -> None:
    first, second = (read_recipe(name) for name in RECIPES)
    assert (first.stage, second.stage) == ("perception", "generalisation")
    assert second.bridge_from == f"{first.out}/bridge.safetensors"
    assert first.bridge == second.bridge
    assert first.synthesis == second.synthesis


def test_the_shipped_bridge_was_made_by_the_shipped_recipe() -> None:
    notes = json.loads(BRIDGE.joinpath("bridge.json").read_text(encoding="utf-8"))
    shipped = read_recipe("pocket_stage2.yaml").model_dump(mode="json")
    where = {"prepared", "llm", "bridge_from", "out", "minutes"}
    for key in set(shipped) - where:
        assert notes["recipe"][key] == shipped[key], key
    assert BridgeShape.of(notes["shape"]).width == shipped["bridge"]["width"]


def test_defaults_are_those_of_what_they_set() -> None:
    assert Synthesis(**SynthesisRecipe().model_dump()) == Synthesis()
    shape = BridgeShape()
    assert all(getattr(shape, k) == v for k, v in BridgeRecipe().model_dump().items())


def test_what_is_written_behind_the_recipe_wins() -> None:
    recipe = read_recipe("pocket_stage1.yaml", ["steps=7", "synthesis.noise=0.5", "minutes=null"])
    assert (recipe.steps, recipe.synthesis.noise, recipe.minutes) == (7, 0.5, None)


@pytest.mark.parametrize(
    ("override", "said"),
    [("stepps=7", "stepps"), ("steps=many", "steps"), ("steps", "key=value"), ("steps=0", "steps")],
)
def test_a_wrong_override_is_refused_by_its_name(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_recipe("pocket_stage1.yaml", [override])


def test_an_unknown_recipe_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"pocket_stage1\.yaml"):
        read_recipe("nothing.yaml")


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(ConfigError, match="mapping"):
        read_recipe(str(tmp_path / "r.yaml"))


def test_recipes_hold_no_key_twice_nor_a_place_on_one_machine() -> None:
    for name in RECIPES:
        values = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))
        assert not any(str(v).startswith("/") for v in values.values())
