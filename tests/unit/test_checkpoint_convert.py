"""Pickles come in by one road only: tensors and plain values, through a child, never a line of their code."""

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from NatureLM.cli import models_convert
from NatureLM.errors import CheckpointError
from NatureLM.models import unpickle
from NatureLM.models.convert import BEATS_METADATA, convert, read_pickle
from NatureLM.models.weight_file import open_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
BIAS = "beats.encoder.layers.{}.self_attn.relative_attention_bias.weight"


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "model.safetensors")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the child's code in this process: starting torch anew for every pickle takes seconds."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors):
            code = unpickle.main(*command[-3:])
        return subprocess.CompletedProcess(command, code, "", errors.getvalue())

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> object:
    """A configuration as a training checkpoint pickles it: pydantic objects of a module that is not there later."""
    module = types.ModuleType("NatureLM.settings_of_another_package")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class ModelPart(BaseModel):
        llama_path: pathlib.Path
        beats_cfg: dict
        lora_rank: int = 4
        ckpt: str | None = None

    class Settings(BaseModel):
        model: ModelPart
        run: dict | None = None

    for made in (ModelPart, Settings):
        made.__module__, made.__qualname__ = module.__name__, made.__name__
        setattr(module, made.__name__, made)
    config = json.loads((GOLDEN / "config.json").read_text())
    return Settings(model=ModelPart(llama_path=Path("llama"), beats_cfg=config["beats_cfg"]))


def trainable(stored: dict) -> dict[str, torch.Tensor]:
    """The tensors of a training checkpoint with a frozen encoder: its aliases stay by accident."""
    kept = {k: v for k, v in stored.items() if not k.startswith(("llama_model.", "beats."))}
    kept |= {k: v for k, v in stored.items() if "lora_" in k}
    kept[BIAS.format(1)] = stored[BIAS.format(0)]
    return kept


def test_a_training_checkpoint_gives_weights_and_configuration(
    tmp_path: Path, stored: dict, settings: object
) -> None:
    source = tmp_path / "checkpoint_best.pth"
    tensors = OrderedDict(trainable(stored))
    optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
    torch.save({"model": tensors, "optimizer": optimizer, "config": settings, "epoch": 7}, source)
    out = convert(source, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    assert config["llama_path"] == "llama"
    assert config["lora_rank"] == 4
    assert config["beats_cfg"]["encoder_layers"] == 2
    found = load_file(out / "model.safetensors")
    assert set(found) == (set(tensors) - {BIAS.format(1)}) | {BIAS.format(0)}
    assert all(torch.equal(found[k], stored[k]) for k in found)
    assert open_weights(out / "model.safetensors").metadata[BIAS.format(1)] == BIAS.format(0)


@pytest.mark.usefixtures("here")
def test_a_checkpoint_without_configuration_asks_for_one(tmp_path: Path, stored: dict) -> None:
    source = tmp_path / "c.pth"
    torch.save({"model": trainable(stored)}, source)
    with pytest.raises(CheckpointError, match="--config"):
        convert(source, tmp_path / "out")
    out = convert(source, tmp_path / "out", GOLDEN / "inference.yml")
    assert json.loads((out / "config.json").read_text())["max_txt_len"] == 24


@pytest.mark.usefixtures("here")
def test_an_original_encoder_becomes_one_file(tmp_path: Path, stored: dict) -> None:
    bare = {k.removeprefix("beats."): v for k, v in stored.items() if k.startswith("beats.")}
    bare[BIAS.format(1).removeprefix("beats.")] = bare[BIAS.format(0).removeprefix("beats.")]
    torch.save({"cfg": {"encoder_layers": 2}, "model": bare}, tmp_path / "BEATs.pt")
    out = convert(tmp_path / "BEATs.pt", tmp_path / "beats.safetensors")
    found = open_weights(out)
    assert json.loads(found.metadata[BEATS_METADATA]) == {"encoder_layers": 2}
    assert len(found.entries) == len(bare) - 1
    with pytest.raises(CheckpointError, match="choose a new name"):
        convert(tmp_path / "BEATs.pt", tmp_path / "beats.safetensors")


@pytest.mark.usefixtures("here")
def test_the_folder_form_gathers_its_files(tmp_path: Path, stored: dict) -> None:
    folder = tmp_path / "folder"
    (folder / "llama").mkdir(parents=True)
    (folder / "model_config.yaml").write_text((GOLDEN / "inference.yml").read_text())
    groups = {"beats": {}, "audio_llama_proj": {}, "lora": {}, "rest": {}}
    for k, v in stored.items():
        group = "lora" if "lora_" in k else k.split(".")[0]
        groups[group if group in groups else "rest"][k] = v
    rest = {k: v for k, v in groups["rest"].items() if not k.startswith("llama_model.")}
    torch.save({"model": rest}, folder / "model.pt")
    beats = {k.removeprefix("beats."): v for k, v in groups["beats"].items()}
    torch.save({"cfg": {}, "model": beats}, folder / "beats.pt")
    torch.save(groups["audio_llama_proj"], folder / "audio_llama_proj.pt")
    adapter = {
        k.removeprefix("llama_model.").replace(".default", ""): v for k, v in groups["lora"].items()
    }
    save_file(adapter, folder / "llama" / "adapter_model.safetensors")
    found = load_file(convert(folder, tmp_path / "out") / "model.safetensors")
    expected = {k: v for k, v in stored.items() if not k.startswith("llama_model.") or "lora_" in k}
    assert set(found) == set(expected)
    assert all(torch.equal(found[k], expected[k]) for k in found)
    (folder / "llama" / "adapter_model.safetensors").unlink()
    torch.save(adapter, folder / "llama" / "adapter_model.bin")
    again = load_file(convert(folder, tmp_path / "again") / "model.safetensors")
    assert set(again) == set(found)


class Bomb:
    def __reduce__(self) -> tuple:
        return (os.mkdir, ("exploded",))


class Evaluation:
    def __reduce__(self) -> tuple:
        return (eval, ("__import__('os').mkdir('exploded')",))


@pytest.mark.parametrize("payload", [Bomb(), Evaluation()])
def test_code_in_a_pickle_is_refused_and_never_run(
    tmp_path: Path, payload: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {}, "config": payload}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="refused"):
        convert(tmp_path / "bad.pth", tmp_path / "out")
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_damaged_missing_and_foreign_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        read_pickle(tmp_path / "gone.pth")
    (tmp_path / "noise.pth").write_bytes(b"\x80\x04nonsense" * 40)
    with pytest.raises(CheckpointError, match="cannot be converted"):
        read_pickle(tmp_path / "noise.pth")
    torch.save({"model": {"x": torch.zeros(1000)}}, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be converted"):
        read_pickle(tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="no folder form"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.usefixtures("here")
def test_two_names_with_two_values_are_refused(tmp_path: Path, stored: dict) -> None:
    tensors = trainable(stored)
    tensors[BIAS.format(0)] = tensors[BIAS.format(1)] + 1
    torch.save({"model": tensors}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="two names of one tensor"):
        convert(tmp_path / "c.pth", tmp_path / "out", GOLDEN / "config.json")


@pytest.mark.usefixtures("here")
def test_nothing_is_overwritten(tmp_path: Path, stored: dict) -> None:
    torch.save({"model": trainable(stored)}, tmp_path / "c.pth")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError, match="choose a new name"):
        convert(tmp_path / "c.pth", tmp_path / "out", GOLDEN / "config.json")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(CheckpointError, match="as YAML"):
        convert(tmp_path / "c.pth", tmp_path / "new", tmp_path / "bad.yaml")


@pytest.mark.usefixtures("here")
def test_the_command_warns_and_says_where_the_result_lies(
    tmp_path: Path, stored: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": trainable(stored)}, tmp_path / "c.pth")
    parser = argparse.ArgumentParser()
    models_convert.add_arguments(parser)
    words = [
        str(tmp_path / "c.pth"),
        str(tmp_path / "out"),
        "--config",
        str(GOLDEN / "config.json"),
    ]
    assert models_convert.run(parser.parse_args(words)) == 0
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "out")
    assert "only files you trust" in err
