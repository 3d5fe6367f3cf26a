"""The shipped bridge is whole and of its declared sizes; the assembled model says what made-up evidence and noise call for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models.pocket import build_pocket
from NatureLM.models.pocket.assembly import (
    ADAPTER,
    BRIDGE,
    NOTES,
    PocketOptions,
    read_notes,
    revision_of,
    shipped_bridge,
)
from NatureLM.models.pocket.bridge import Bridge, BridgeShape

FOLDER = shipped_bridge()


def test_the_shipped_bridge_fits_its_sizes() -> None:
    notes = read_notes(FOLDER)
    bridge = Bridge(BridgeShape.of(notes["shape"]))
    bridge.load_state_dict({k: v.float() for k, v in load_file(FOLDER / BRIDGE).items()})
    assert notes["shape"]["segment_frames"] == 0
    assert BridgeShape.of(notes["shape"]).as_dict() == notes["shape"]


def test_the_shipped_adapter_has_two_factors_for_each_of_seven_layers_in_thirty() -> None:
    adapter = load_file(FOLDER / ADAPTER)
    assert len(adapter) == 2 * 7 * 30
    rank = read_notes(FOLDER)["lora"]["rank"]
    assert all(rank in t.shape for t in adapter.values())
    assert all(t.isfinite().all() for t in adapter.values())


def test_what_is_shipped_is_small_and_names_its_makers() -> None:
    assert sum((FOLDER / name).stat().st_size for name in (BRIDGE, ADAPTER)) <= 30e6
    stages = read_notes(FOLDER)["stages"]
    assert [stage["recipe"] for stage in stages] == ["pocket_stage1.yaml", "pocket_stage2.yaml"]
    assert "CC BY-NC-SA" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_revision_follows_the_weights(tmp_path: Path) -> None:
    for name in (BRIDGE, ADAPTER):
        save_file({"x": torch.ones(2)}, tmp_path / name)
    one = revision_of(tmp_path)
    save_file({"x": torch.zeros(2)}, tmp_path / ADAPTER)
    assert revision_of(tmp_path) != one


def test_a_folder_without_a_bridge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="naturelm train"):
        build_pocket(bridge=tmp_path)
    (tmp_path / NOTES).write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read"):
        build_pocket(bridge=tmp_path)


def test_unknown_arguments_are_refused_and_those_of_the_hub_passed_over() -> None:
    with pytest.raises(ConfigError, match="brigde"):
        build_pocket(brigde="x")
    assert PocketOptions.of({"token": "x", "revision": "y"}) == PocketOptions()
    assert PocketOptions.of({"dtype": "bfloat16"}).llm_dtype == torch.bfloat16


@pytest.mark.pocket
@pytest.mark.slow
def test_noise_and_silence_are_none_and_clear_evidence_is_named() -> None:
    model = build_pocket(local_files_only=True)
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(3, 480_000, generator=generator) * torch.tensor([0.1, 1e-4, 0.0])[:, None]
    common = "What is the common name for the focal species in the audio?"
    with torch.inference_mode():
        heard = model.encode(waves, torch.tensor([480_000, 144_000, 240_000]))
        assert [a.text for a in model.answer(heard, [common] * 3)] == ["None"] * 3
        for c in (2005, 945, 3514):
            logits = torch.full((2, 6522), -9.0)
            logits[:, :6] = -7.0
            logits[:, c] = torch.tensor([1.5, 2.5])
            frames = model.encoder.frames(logits, torch.tensor([0.0, 3.0]))[None]
            audio = model.projector(model.qformer(model.frame_norm(frames)))
            tokens = type(heard)(audio, torch.tensor([audio.shape[1]]))
            (said,) = model.answer(tokens, [common])
            assert said.text == _name(c)


def _name(index: int) -> str:
    from NatureLM.models import parts

    path = parts.cached("birdnet-labels")
    assert path is not None
    return path.read_text(encoding="utf-8").splitlines()[index].split("_")[1]


def test_notes_are_plain_json() -> None:
    assert json.loads((FOLDER / NOTES).read_text(encoding="utf-8"))["lora"]["alpha"] == 32
