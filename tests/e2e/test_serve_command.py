"""The server as a process of its own: it says where it is, answers with pocket, and Ctrl-C ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from NatureLM.cli import main
from tests.web import audio, batch, call, question, wav


@pytest.mark.pocket
def test_the_pocket_model_is_served_and_stopped():
    command = [
        sys.executable,
        "-m",
        "NatureLM",
        "serve",
        "--port",
        "0",
        "--device",
        "cpu",
        "--max-batch-size",
        "2",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).parents[2]
    child = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        for line in child.stderr:
            if " at http" in line:
                address = line.split(" at ")[1].split()[0]
                break
        assert call(address, "/info")[1]["model"] == "pocket"
        asked = question(
            "a",
            "What is the common name for the focal species in the audio?",
            audio(wav(0.01, 1.0)),
        )
        status, body, _ = call(address, "/predict", batch(asked))
        assert status == 200
        assert isinstance(body["responses"][0]["predictions"][0], str)
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
        assert child.wait(30) == 130
        assert "Traceback" not in rest
    finally:
        child.kill()
        child.wait()
        child.stderr.close()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--max-batch-size", "0"), "max_batch_size 0"),
        (("--allow-files", "/nowhere"), "/nowhere"),
        (("--port", "99999"), "99999"),
        (("--host", "no.such.host.invalid"), "no.such.host.invalid"),
    ],
)
def test_wrong_options_are_refused_before_the_model_is_loaded(more, said, capfd, monkeypatch):
    monkeypatch.setattr("NatureLM.infer.device.load_model", lambda *_, **__: pytest.fail("loaded"))
    assert main(["serve", "--port", "0", *more]) == 2
    assert said in capfd.readouterr().err
