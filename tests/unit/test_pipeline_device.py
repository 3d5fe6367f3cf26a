"""Which device and which model are taken when nobody says, and the reason that is given."""

import logging

import huggingface_hub
import pytest
import torch

from NatureLM.errors import DeviceError
from NatureLM.infer import Pipeline, choose_device, choose_model, device
from tests import tiny

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def world(monkeypatch):
    """A machine with a GPU; what is cached and reachable is up to the test."""
    state = {"free": 80 * 10**9, "cached": set(), "reachable": set(), "asked": []}

    def auth_check(repo):
        state["asked"].append(repo)
        if repo not in state["reachable"]:
            raise OSError("no route to the hub")

    def cached(repo, name):
        return f"/cache/{repo}/{name}" if repo in state["cached"] else None

    monkeypatch.setattr(device, "_free_bytes", lambda place: state["free"] * (place.type == "cuda"))
    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return state


def test_without_a_gpu_pocket_answers_and_no_network_is_asked(world) -> None:
    choice = choose_model(CPU)
    assert choice.name == "pocket"
    assert "needs a GPU with 20 GB, cpu is no GPU" in choice.reason
    assert world["asked"] == []


def test_a_small_gpu_is_told_its_room(world) -> None:
    world["free"] = 8 * 10**9
    choice = choose_model(GPU)
    assert choice.name == "pocket"
    assert "cuda has 8 GB free" in choice.reason


def test_both_parts_cached_are_taken_without_the_network(world) -> None:
    world["cached"] = {device.PUBLISHED, device.BASE_LLM}
    choice = choose_model(GPU)
    assert choice.name == device.PUBLISHED
    assert "cached" in choice.reason
    assert world["asked"] == []


def test_reachable_is_taken_and_a_gate_is_named(world) -> None:
    world["reachable"] = {device.PUBLISHED, device.BASE_LLM}
    assert choose_model(GPU).name == device.PUBLISHED
    world["reachable"] = {device.PUBLISHED}
    choice = choose_model(GPU)
    assert choice.name == "pocket"
    assert device.BASE_LLM in choice.reason
    assert "access not granted" in choice.reason


def test_offline_asks_nothing(world, monkeypatch) -> None:
    world["reachable"] = {device.PUBLISHED, device.BASE_LLM}
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert choose_model(GPU).name == "pocket"
    assert world["asked"] == []


def test_devices_by_name(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device, "_has_mps", lambda: False)
    assert choose_device() == CPU
    monkeypatch.setattr(device, "_has_mps", lambda: True)
    assert choose_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="'cuda:2': not here"):
        choose_device("cuda:2")


@pytest.mark.parametrize("asked", ["tpu", "", "cuda:x", "cpu:", "auto:1"])
def test_devices_that_do_not_exist_are_refused(asked) -> None:
    if asked == "cpu:":
        assert choose_device("cpu").type == "cpu"
        return
    with pytest.raises(DeviceError, match="unknown; choose one of auto, cpu, cuda, mps"):
        choose_device(asked)


def test_the_pipeline_says_which_model_and_why(world, monkeypatch, caplog) -> None:
    loaded = []

    def load(name, place, **options):
        loaded.append((name, place, options))
        return tiny.stub_model(["A"])

    monkeypatch.setattr(device, "load_model", load)
    with caplog.at_level(logging.INFO, logger="NatureLM"):
        asked = Pipeline(device="cpu")
    assert loaded == [("pocket", CPU, {"parity": "default"})]
    assert asked.choice.name == "pocket"
    assert "pocket answers: the published model needs a GPU" in caplog.text


def test_a_model_that_was_passed_in_stays_where_it_is(monkeypatch) -> None:
    model = tiny.stub_model(["A"])
    moves = []
    model.to = lambda place: moves.append(place) or model
    assert Pipeline(model).choice.reason == "it was passed in"
    assert moves == []
    Pipeline(model, device="cpu")
    assert moves == [CPU]
