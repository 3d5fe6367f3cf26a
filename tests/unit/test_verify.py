"""Verifying a golden folder: what is right passes, what was changed is caught and named, nothing is passed unseen."""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from NatureLM.cli import models_verify
from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models.verify import STAGES, Check, verify
from NatureLM.models.verify.golden import compare, compare_exactly, skipped

GOLDEN = Path(__file__).parents[1] / "golden" / "model"

pytestmark = pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def failures(folder: Path, *groups: str) -> list[str]:
    return [check.stage for _, check in verify(folder, only=groups) if not check.passed]


def in_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        path = folder / "expected" / name
        values = json.loads(path.read_text())
        change(values)
        path.write_text(json.dumps(values))

    return tamper


def in_tensors(name: str, key: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        path = folder / name
        tensors = load_file(path)
        flat = tensors[key].view(-1)
        flat[len(flat) // 2] += 0.01
        save_file(tensors, path)

    return tamper


def fp32(values: dict) -> dict:
    return values["modes"]["fp32"]


TAMPERED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "fbank": ("front end", in_tensors("expected/encode_single.safetensors", "fbank")),
    "ln_audio": ("one window", in_tensors("expected/encode_single.safetensors", "ln_audio")),
    "beats.encoder.layers.1": (
        "one window",
        in_tensors("expected/encode_single.safetensors", "beats.encoder.layers.1"),
    ),
    "padded: beats.out": (
        "padded batch",
        in_tensors("expected/encode_padded_batch.safetensors", "beats.out"),
    ),
    "forward: logits": (
        "forward",
        in_tensors("expected/model_fp32.safetensors", "forward.logits"),
    ),
    "forward_alpha0.5: loss": (
        "forward",
        in_json("golden.json", lambda v: fp32(v)["forward_alpha0.5"].update(loss=1.0)),
    ),
    "answer q1.beam2": (
        "answers",
        in_json("golden.json", lambda v: fp32(v)["generate"]["q1.beam2"]["core_ids"][0].pop()),
    ),
    "full: Question 5: which species?": (
        "stopping",
        in_json("golden.json", lambda v: fp32(v)["stopping"]["full"][0].update(text=["x"])),
    ),
    "gradient of audio_query_tokens": (
        "gradients",
        in_json("golden.json", lambda v: fp32(v)["grad_norms"].update(audio_query_tokens=0.4)),
    ),
    "optimizer group decay": (
        "gradients",
        in_json("golden.json", lambda v: fp32(v)["optimizer_groups"]["decay"].pop()),
    ),
    "loss after one step": (
        "one step",
        in_json("golden.json", lambda v: fp32(v).update(loss_after_one_adamw_step=9.0)),
    ),
    "learning rates 1": (
        "learning rate",
        in_json("misc.json", lambda v: v["lr_schedule"][1]["lr"].reverse()),
    ),
    "resampling 8000 Hz: first": (
        "resampling",
        in_json("misc.json", lambda v: v["prepare_audio"]["resample_8000"]["first"].reverse()),
    ),
    "token ids of 'None'": ("text", in_json("tokenization.json", lambda v: v["None"].pop())),
}
"""Stage that must fail -> its group, and what is changed in the folder."""


def test_every_changed_number_is_caught_and_named(folder: Path) -> None:
    for _, tamper in TAMPERED.values():
        tamper(folder)
    failed = failures(folder, *{group for group, _ in TAMPERED.values()})
    assert set(TAMPERED) <= set(failed)
    assert len(failed) < len(TAMPERED) + 4


def test_a_changed_recording_is_caught(folder: Path) -> None:
    in_tensors("expected/processor_audio_f64.safetensors", "trill.wav")(folder)
    assert failures(folder, "processor") == ["processor trill.wav"]


def test_a_changed_weight_is_caught_where_it_acts(folder: Path) -> None:
    in_tensors("model.safetensors", "audio_llama_proj.bias")(folder)
    assert failures(folder, "one window") == ["audio_embeds"]


def test_a_stage_that_cannot_be_computed_has_failed_and_others_run(folder: Path) -> None:
    (folder / "expected" / "encode_single.safetensors").unlink()
    checks = dict(verify(folder, only=("one window", "learning rate")))
    assert not checks["one window"].passed
    assert "could not be computed: CheckpointError" in checks["one window"].note
    assert checks["learning rate"].passed


def test_what_needs_a_door_is_skipped_and_says_so() -> None:
    verdicts = {
        check.stage: check.verdict for _, check in verify(GOLDEN, only=("pipeline", "windows"))
    }
    assert verdicts == {"pipeline": "skip", "windows": "skip"}


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no golden folder"):
        list(verify(tmp_path))


def test_comparisons() -> None:
    assert compare("s", torch.ones(2), [1.0, 1.5], 0.6) == Check("s", 0.5, 0.6)
    assert not compare("s", torch.ones(2), torch.ones(3), 1.0).passed
    assert not compare("s", torch.tensor([float("nan")]), [1.0], 1e9).passed
    assert compare_exactly("s", [1], [1]).passed
    assert not compare_exactly("s", [1], [2]).passed
    assert compare("s", [1.0], [1.0, 2.0], 1.0).as_row()["max_abs_difference"] == "inf"
    assert skipped("s", "why").verdict == "skip"


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    models_verify.add_arguments(parser)
    return parser.parse_args(list(words))


def test_the_command_prints_a_table_and_json(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = ("--only", "front end", "--only", "learning rate")
    assert models_verify.run(parsed(str(folder), *only)) == 0
    out = capsys.readouterr().out
    assert "7 compared" in out
    assert "9 passed, 0 failed, 0 skipped" in out
    in_json("misc.json", lambda v: v["lr_schedule"][0]["lr"].reverse())(folder)
    assert models_verify.run(parsed(str(folder), "--json", *only)) == models_verify.FAILED
    report = json.loads(capsys.readouterr().out)
    assert report["passed"] is False
    assert report["counts"] == {"pass": 8, "fail": 1, "skip": 0}
    failed = [row for row in report["stages"] if row["verdict"] == "fail"]
    assert failed[0]["stage"] == "learning rates 0"
    assert set(failed[0]) == {
        "group",
        "stage",
        "max_abs_difference",
        "tolerance",
        "verdict",
        "note",
    }


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such group; known are front end"):
        models_verify.run(parsed(str(GOLDEN), "--only", "ears"))


def test_the_recorded_folder_passes_through_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [g for g in STAGES if g != "real size"]  # tests/golden has it
    only = [word for group in wanted for word in ("--only", group)]
    assert models_verify.run(parsed(str(GOLDEN), "--json", *only)) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(Counter(row["group"] for row in report["stages"])) == wanted
    skips = [row["stage"] for row in report["stages"] if row["verdict"] == "skip"]
    assert skips == ["answer UPSTREAM_DEFECT_batch_unequal_prompts.greedy"]
