"""Every subcommand in a process of its own: its help, its speed, and ``ask`` as users and their scripts meet it."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from NatureLM import outputs
from NatureLM.cli import COMMANDS

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "model"
ENVIRONMENT = dict(os.environ, PYTHONPATH=str(ROOT), COLUMNS="100", OMP_NUM_THREADS="1")
ASK = [sys.executable, "-m", "NatureLM", "ask", "--model", str(GOLDEN), "--max-new-tokens", "20"]


def naturelm(*words: object, **options) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "NatureLM", *map(str, words)]
    return subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, timeout=120, check=False, **options
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "long.wav"
    rng = np.random.default_rng(0)
    sf.write(path, rng.normal(scale=0.1, size=16_000 * 600).astype(np.float32), 16_000)
    return path


def test_help_answers_in_under_0_3_s_of_cpu() -> None:
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = naturelm("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
    assert min(spent) < 0.3, spent
    for command in COMMANDS:
        assert re.search(rf"^ +{command} ", done.stdout.decode(), re.MULTILINE)


@pytest.mark.parametrize(
    "code", ["import NatureLM", "import NatureLM.cli", "import NatureLM.cli.ask"]
)
def test_importing_brings_no_torch(code: str) -> None:
    heavy = ["torch", "transformers", "numpy", "pydantic", "rich"]
    check = f"{code}; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", check], env=ENVIRONMENT, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_explains_itself(command: str) -> None:
    done = naturelm(command, "--help")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().startswith(f"usage: naturelm {command}")
    assert done.stderr == b""


def test_no_subcommand_and_an_unknown_one_are_refused() -> None:
    assert naturelm().returncode == 2
    unknown = naturelm("aks")
    assert unknown.returncode == 2
    assert b"invalid choice: 'aks'" in unknown.stderr


def test_the_standard_output_holds_answers_only_in_any_locale(tmp_path: Path) -> None:
    """Names with letters the locale has not, bytes that are no letters, a newline and a leading dash."""
    name = os.fsencode(tmp_path) + b"/-\xf0\x9f\x98\x80caf\xe9\nx.wav"
    plain = tmp_path / "x.wav"
    sf.write(plain, np.random.default_rng(0).normal(scale=0.1, size=16_000), 16_000)
    try:
        plain.rename(os.fsdecode(name))
    except OSError:
        name = os.fsencode(plain)
    environment = dict(ENVIRONMENT, LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    done = subprocess.run(
        [
            *ASK,
            "--format",
            "jsonl",
            "-q",
            "wer?",
            "--",
            os.path.relpath(name, os.fsencode(tmp_path)),
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert os.fsencode(row["recording"]) == os.path.split(name)[1]
    assert (row["start_s"], row["end_s"], row["query"]) == (0.0, 1.0, "wer?")
    *_, last = done.stderr.decode().splitlines()  # a slow machine says how far it is before
    assert re.fullmatch(r"naturelm: 1 recording, 1 window in .* on cpu", last)


def _started(*words: object, stdout) -> subprocess.Popen[bytes]:
    command = [*ASK, "--batch-size", "1", "-q", "x?", *map(str, words)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=stdout, stderr=subprocess.PIPE)


def test_answers_stream_and_ctrl_c_stops_cleanly(recording: Path, tmp_path: Path) -> None:
    place = tmp_path / "answers.jsonl"
    running = _started(recording, recording.parent, "--output", place, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not (place.exists() and place.stat().st_size):
        time.sleep(0.02)
    assert running.poll() is None, "the whole job was over before its first answer was written"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err.decode()
    assert b"stopped after 1 recording" in err
    assert b"Traceback" not in err
    (found,) = outputs.read(place)
    assert 0 < len(found.answers) < 60


def test_a_reader_that_goes_away_ends_the_job_without_a_traceback(recording: Path) -> None:
    running = _started(recording, stdout=subprocess.PIPE)
    assert running.stdout
    assert running.stderr
    running.stdout.readline()
    running.stdout.close()
    err = running.stderr.read()
    assert running.wait(60) == 141, err.decode()
    assert b"Traceback" not in err
    assert b"BrokenPipe" not in err
    running.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_standard_output_is_exit_code_4(recording: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        running = _started(recording, stdout=full)
        _, err = running.communicate(timeout=100)
    assert running.returncode == 4, err.decode()
    assert b"standard output: results could not be stored: No space left on device" in err
    assert b"Traceback" not in err
