"""The published command: YAML file, options, folders, JSON lines; one bad recording does not end it."""

import argparse
import json
import shutil
from pathlib import Path

import pytest

from NatureLM.cli import infer
from NatureLM.errors import ConfigError, PromptError, RecordingError, StoreError, WindowError

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
RECORDED = json.loads((GOLDEN / "expected" / "golden.json").read_text())["modes"]["fp32"]
QUERY = "What is the common name for the focal species in the audio?"


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    infer.add_arguments(parser)
    return infer.run(parser.parse_args(list(words)))


def asked(folder: Path | str, out: Path, *more: str) -> list[dict]:
    words = ["--cfg-path", str(GOLDEN / "inference.yml"), "--audio-path", str(folder)]
    code = run(*words, "--query", QUERY, "--output-path", str(out), "--device", "cpu", *more)
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert code == (3 if any("error" in line for line in lines) else 0)
    return lines


@pytest.mark.parametrize("beams", [1, 2])
def test_recorded_pipeline_strings(tmp_path: Path, beams: int) -> None:
    windows = ("--window-length-seconds", "10", "--hop-length-seconds", "3")
    published = ("--parity", "published", "--options", f"generate.num_beams={beams}")
    (line,) = asked(GOLDEN / "audio" / "long8k.wav", tmp_path / "o.jsonl", *windows, *published)
    recorded = next(
        v
        for k, v in RECORDED["pipeline"].items()
        if k.startswith("long8k.wav|win10.0|hop3.0") and k.endswith(f"beams{beams}")
    )
    assert line == {
        "audio_path": str(GOLDEN / "audio" / "long8k.wav"),
        "output": recorded["output"][0],
    }


def test_a_folder_with_a_bad_file_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(GOLDEN / "audio" / "trill.wav", folder / "B.WAV")
    (folder / "a.wav").write_bytes(b"no sound")
    lines = asked(folder, tmp_path / "o.jsonl")
    assert [Path(line["audio_path"]).name for line in lines] == ["B.WAV", "a.wav"]
    assert lines[0]["output"].startswith("#0.00s - ")
    assert "error" not in lines[0]
    assert lines[1]["error_code"]
    assert lines[1]["output"] == ""


def test_alpha_changes_the_answer_and_an_existing_file_is_written_anew(tmp_path: Path) -> None:
    recording, out = GOLDEN / "audio" / "trill.wav", tmp_path / "o.jsonl"
    (tuned,) = asked(recording, out)
    (base,) = asked(recording, out, "--merging-alpha", "0")
    (same,) = asked(recording, out, "--options", "generate.merging_alpha=0.0")
    assert tuned["output"] != base["output"]
    assert base == same


def test_an_overridden_model_key_reaches_the_model(tmp_path: Path) -> None:
    recording, out = GOLDEN / "audio" / "trill.wav", tmp_path / "o.jsonl"
    (base,) = asked(recording, out, "--merging-alpha", "0")
    (tiny_scale,) = asked(recording, out, "--options", 'model={"lora_alpha": 0}')
    assert base == tiny_scale


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (["--query", "  "], PromptError, "query is empty"),
        (["--options", "generate.beams=2"], ConfigError, "did you mean 'num_beams'"),
        (["--audio-path", "/nowhere"], RecordingError, "nowhere"),
        (["--window-length-seconds", "-1"], WindowError, "window"),
        (["--output-path", "/nowhere/o.jsonl"], StoreError, "no such folder"),
        (["--merging-alpha", "3"], ConfigError, "3"),
        (["--cfg-path", "/nowhere.yml"], ConfigError, "cannot be read"),
    ],
)
def test_what_is_wrong_is_refused(
    tmp_path: Path, change: list[str], error: type[Exception], message: str
) -> None:
    words = {
        "--cfg-path": str(GOLDEN / "inference.yml"),
        "--audio-path": str(GOLDEN / "audio" / "trill.wav"),
        "--query": QUERY,
        "--output-path": str(tmp_path / "o.jsonl"),
        change[0]: change[1],
    }
    with pytest.raises(error, match=message):
        run(*(word for pair in words.items() for word in pair))


def test_a_file_that_says_nothing_of_answers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.yml"
    path.write_text("model: {llama_path: x}")
    with pytest.raises(ConfigError, match="has no generate section"):
        run("--cfg-path", str(path), "--audio-path", "x.wav", "--query", "a?")
