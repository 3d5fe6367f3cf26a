"""``naturelm ask``: what is refused, where things are written, what the exit codes say."""

import contextlib
import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from NatureLM import outputs
from NatureLM.cli import main
from NatureLM.cli.progress import Bar, Reporter, Tally
from NatureLM.infer import device
from NatureLM.outputs import sink
from NatureLM.results import RecordingResult, WindowAnswer
from tests import tiny

QUERY = "What is the common name for the focal species in the audio?"
RATE = 16_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    inside = tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    sf.write(inside / "a.wav", rng.normal(scale=0.1, size=25 * RATE), RATE)
    sf.write(inside / "deep" / "B.WAV", rng.normal(scale=0.1, size=3 * RATE), RATE)
    return inside


@pytest.fixture
def said(monkeypatch):
    """Script the model that ``--model`` loads."""
    models = []

    def load(name, place, **options):
        models.append(tiny.stub_model(lambda query: f"[{query}]"))
        models[-1].name = str(name)
        return models[-1]

    monkeypatch.setattr(device, "load_model", load)
    return models


def ask(*words: object) -> int:
    return main(["ask", *map(str, words), "--model", "stub"])


def test_text_is_the_name_and_the_cards_lines(folder, said, capfd) -> None:
    assert ask(folder / "a.wav", "--query", "who?") == 0
    out, err = capfd.readouterr()
    assert out == (
        f"{folder}/a.wav\n"
        "#0.00s - 10.00s#: [who?]\n#10.00s - 20.00s#: [who?]\n#20.00s - 25.00s#: [who?]\n"
    )
    assert "1 recording, 3 windows" in err
    assert "stub on cpu" in err


@pytest.mark.parametrize(
    "words",
    [
        ("{0}", "who is it"),
        ("{0}", "who?"),
        ("--query", "who?", "{0}"),
        ("{0}/a.wav", "--query", "who?", "{0}/deep"),
        ("{0}/*.wav", "{0}/deep/*", "who?"),
    ],
)
def test_the_question_is_an_option_or_the_last_word(folder, said, capfd, words) -> None:
    assert ask(*(word.format(folder) for word in words)) == 0
    out, _ = capfd.readouterr()
    assert out.count("#: [who") == 4
    assert f"{folder}/a.wav\n" in out
    assert "deep/B.WAV\n" in out


def test_rows_carry_everything(folder, said, capfd) -> None:
    words = (folder, "-q", "who?", "-q", "where?", "--format", "jsonl")
    assert ask(*words, "--window-length-seconds", 5, "--tail", "drop") == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(rows) == 2 * (5 + 1)
    assert rows[0] == {
        "recording": f"{folder}/a.wav",
        "start_s": 0.0,
        "end_s": 5.0,
        "query": "who?",
        "answer": "[who?]",
        "probability": None,
        "log_probability": -0.5,
        "options": [],
        "flags": [],
        "error_code": None,
        "error": None,
        "model": "stub",
        "revision": "0",
    }
    assert rows[-1]["end_s"] == 3.0


def test_options_print_a_probability_each(folder, said, monkeypatch, capfd) -> None:
    monkeypatch.setattr(device, "load_model", lambda *_, **__: tiny.stub_model(["Wolf"]))
    words = (folder / "a.wav", "Which?", "--option", "Owl", "--option", "Wolf")
    assert ask(*words, "--format", "jsonl") == 0
    row = json.loads(capfd.readouterr().out.splitlines()[0])
    assert [o["option"] for o in row["options"]] == ["Owl", "Wolf", "None"]
    assert row["answer"] == "Wolf"
    assert row["probability"] == row["options"][1]["probability"] > 0.9
    assert ask(*words, "--no-none") == 0
    out, _ = capfd.readouterr()
    assert "#0.00s - 10.00s#: Wolf\n  0.953  Wolf\n  0.047  Owl\n" in out


REFUSALS = {
    "no question": (("{0}",), "no question; pass --query"),
    "empty query": (("{0}", "-q", ""), "the query is empty"),
    "blank last word": (("{0}", "  "), "the query is empty"),
    "no recordings": (("-q", "who?"), "no recordings; name files"),
    "no window": (("{0}", "-q", "x", "--window-length-seconds", "0"), "window length 0.0"),
    "no hop": (("{0}", "-q", "x", "--hop-length-seconds", "-1"), "hop length -1.0"),
    "long window": (("{0}", "-q", "x", "--window-length-seconds", "11"), "hears at most 10 s"),
    "batch of none": (("{0}", "-q", "x", "--batch-size", "0"), "--batch-size 0"),
    "no tokens": (("{0}", "-q", "x", "--max-new-tokens", "0"), "max_new_tokens is 0"),
    "alpha": (("{0}", "-q", "x", "--merging-alpha", "2"), "merging_alpha is 2.0"),
    "one option": (("{0}", "x?", "--option", "A", "--no-none"), "one option is no choice"),
    "blank option": (("{0}", "x?", "--option", " "), "an --option is empty"),
    "output exists": (
        ("{0}", "x?", "--output", "{0}/a.wav"),
        "a.wav: exists already; pass --force",
    ),
    "output folder": (("{0}", "x?", "--output", "{0}"), "is a folder; name a file"),
    "output nowhere": (("{0}", "x?", "--output", "{0}/x/y.csv"), "x: no such folder"),
    "files from": (("x?", "-q", "x", "--files-from", "{0}/nope"), "--files-from"),
    "device": (("{0}", "x?", "--device", "tpu"), "device 'tpu': unknown; choose one of auto, cpu"),
    "device away": (("{0}", "x?", "--device", "cuda:99"), "device 'cuda:99': not here"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_come_before_any_answer_with_exit_code_2(folder, said, capfd, case) -> None:
    words, message = REFUSALS[case]
    assert ask(*(word.format(folder) for word in words)) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("naturelm: ")
    assert message in err
    assert sum(model.encoded for model in said) == 0


def test_an_empty_folder_is_refused(tmp_path, said, capfd) -> None:
    assert ask(tmp_path, "who?") in (2, 3)
    out, err = capfd.readouterr()
    assert str(tmp_path) in err
    assert "#" not in out


def test_an_unreadable_recording_is_a_row_and_exit_code_3(folder, said, capfd) -> None:
    (folder / "0.wav").write_text("<html>no audio</html>" * 40)
    assert ask(folder, "who?", "--format", "csv") == 3
    out, err = capfd.readouterr()
    head, *rows = out.splitlines()
    assert head.startswith("recording,start_s")
    assert f"{folder}/0.wav" in rows[0]
    assert "not_audio" in rows[0]
    assert len(rows) == 1 + 4
    assert "1 unreadable (not_audio: 1)" in err


def test_output_goes_to_the_file_and_its_suffix_says_the_format(folder, said, tmp_path, capfd):
    place = tmp_path / "answers.csv"
    assert ask(folder, "who?", "--output", place) == 0
    assert capfd.readouterr().out == ""
    found = list(outputs.read(place))
    assert [len(r.answers) for r in found] == [3, 1]
    before = place.read_bytes()
    assert ask(folder, "where?", "--output", place) == 2
    assert place.read_bytes() == before
    assert ask(folder, "where?", "--output", place, "--force") == 0
    assert [a.answer for r in outputs.read(place) for a in r.answers] == ["[where?]"] * 4


def test_a_model_that_cannot_be_loaded_leaves_the_old_output_alone(folder, tmp_path, capfd):
    place = tmp_path / "answers.csv"
    place.write_text("precious")
    words = ["ask", str(folder), "x?", "--model", "/nowhere", "--output", str(place), "--force"]
    assert main(words) == 2
    assert place.read_text() == "precious"
    assert "/nowhere" in capfd.readouterr().err


def test_windows_too_long_for_the_model_leave_the_old_output_alone(folder, said, tmp_path) -> None:
    place = tmp_path / "answers.csv"
    place.write_text("precious")
    words = (folder, "x?", "--output", place, "--force", "--window-length-seconds", 11)
    assert ask(*words) == 2
    assert place.read_text() == "precious"


@pytest.mark.parametrize("between", [b"\n", b"\0", b"\r\n"])
def test_files_from_a_list(folder, said, tmp_path, capfd, monkeypatch, between) -> None:
    odd = folder / os.fsdecode(b"caf\xe9.wav")
    try:
        odd.write_bytes((folder / "deep" / "B.WAV").read_bytes())
    except OSError:
        odd = folder / "deep" / "B.WAV"
    listed = tmp_path / "list.txt"
    listed.write_bytes(os.fsencode(folder / "a.wav") + between + os.fsencode(odd) + between)
    assert ask("--files-from", listed, "-q", "who?", "--format", "jsonl") == 0
    names = {json.loads(line)["recording"] for line in capfd.readouterr().out.splitlines()}
    assert names == {str(folder / "a.wav"), str(odd)}


def test_files_from_the_standard_input(folder, said, capfd, monkeypatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(os.fsencode(folder / "a.wav") + b"\n"))
    monkeypatch.setattr("sys.stdin", stream)
    assert ask("--files-from", "-", "who?") == 0
    assert capfd.readouterr().out.count("[who?]") == 3


def test_a_full_disk_ends_with_exit_code_4_and_a_readable_file(
    folder, said, tmp_path, monkeypatch, capfd
) -> None:
    place = tmp_path / "answers.jsonl"
    real, rows = os.write, []

    def nearly_full(descriptor, data):
        rows.append(data)
        if len(rows) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(sink.os, "write", nearly_full)
    assert ask(folder, "who?", "--output", place, "--batch-size", "1") == 4
    assert "No space left on device" in capfd.readouterr().err
    assert [len(r.answers) for r in outputs.read(place)] == [2]


def test_ctrl_c_keeps_what_was_answered(folder, monkeypatch, tmp_path, capfd) -> None:
    model = tiny.stub_model(["A"])
    answer = model.answer

    def interrupted(tokens, queries, *args, **rest):
        if model.said == 2:
            raise KeyboardInterrupt
        return answer(tokens, queries, *args, **rest)

    model.answer = interrupted
    monkeypatch.setattr(device, "load_model", lambda *_, **__: model)
    place = tmp_path / "answers.csv"
    assert ask(folder / "a.wav", "who?", "--output", place, "--batch-size", "1") == 130
    assert [len(r.answers) for r in outputs.read(place)] == [2]
    assert "stopped after 1 recording, 2 windows" in capfd.readouterr().err


def test_skip_short_leaves_a_row(tmp_path, said, capfd) -> None:
    sf.write(tmp_path / "s.wav", np.ones(1_000) * 0.1, RATE)
    assert ask(tmp_path, "who?", "--skip-short", "--format", "jsonl") == 0
    out, err = capfd.readouterr()
    row = json.loads(out)
    assert row["answer"] is None
    assert "too_short" in row["flags"]
    assert "too_short: 1 file" in err


def test_the_tally_counts_once_and_estimates_from_bytes(tmp_path) -> None:
    for name, size in (("a", 100), ("b", 300)):
        (tmp_path / name).write_bytes(b"x" * size)
    tally = Tally([tmp_path / "a", tmp_path / "b"])
    window = WindowAnswer(0.0, 5.0, "q", "None", ("silent",))
    first = RecordingResult("a", (window,), duration_s=5.0, flags=("truncated",))
    assert tally.add(first) == ("truncated",)
    assert tally.done_bytes == 100
    half = RecordingResult("b", (window, window), duration_s=10.0, flags=("truncated",))
    assert tally.add(half) == ("truncated",)
    assert tally.add(half) == ()
    assert tally.done_bytes == 250
    assert tally.total_bytes == 400
    tally.add(RecordingResult("c", error_code="not_audio"))
    text = tally.summary()
    assert "3 recordings, 3 windows" in text
    assert "silent: 3 windows" in text
    assert "truncated: 2 files" in text
    assert "1 unreadable (not_audio: 1)" in text


def test_plain_progress_is_a_line_now_and_then(monkeypatch, capsys) -> None:
    monkeypatch.setattr("NatureLM.cli.progress.LOG_EVERY_S", 0.0)
    reporter = Reporter(Tally(["a"]))
    reporter.add(RecordingResult("a", (WindowAnswer(0.0, 5.0, "q", "x"),), flags=("gap",)))
    err = capsys.readouterr().err
    assert "naturelm: a: gap: A stretch could not be decoded" in err
    assert "recording 1 of 1, 1 window" in err


def test_names_in_notes_cannot_steer_the_terminal(capsys) -> None:
    name = "\x1b[2J\n\udce9.wav"
    for reporter in (Reporter(Tally([])), Bar(Tally([]))):
        reporter.add(RecordingResult(name, error_code="not_audio", error=f"{name}: text"))
        err = capsys.readouterr().err
        assert "not_audio: \\x1b[2J\\n\\udce9.wav: text" in err
        assert "\x1b[2J" not in err


def test_the_bar_prints_answers_above_itself(capsys) -> None:
    with contextlib.closing(io.StringIO()) as _, Bar(Tally(["a"])) as bar:
        bar.answers("#0.00s - 1.00s#: [bold]owl[/]\n")
        bar.add(RecordingResult("a", (WindowAnswer(0.0, 5.0, "q", "x"),), duration_s=5.0))
        bar.end("m on cpu", stopped=False)
    err = capsys.readouterr().err
    assert "#0.00s - 1.00s#: [bold]owl[/]\n" in err
    assert "1 recording, 1 window" in err


def test_a_card_full_of_one_flag_is_named_three_times_and_counted(capsys) -> None:
    reporter = Reporter(Tally([]))
    for number in range(9):
        answer = WindowAnswer(0.0, 5.0, "q", "x")
        reporter.add(RecordingResult(f"{number}.wav", (answer,), flags=("bandwidth_4kHz",)))
    reporter.end("m on cpu", stopped=False)
    *notes, more, summary = capsys.readouterr().err.splitlines()
    assert len(notes) == 3
    assert "more recordings with bandwidth_4kHz" in more
    assert "bandwidth_4kHz: 9 files" in summary


def test_ultrasonic_counts_windows_in_slowed_time_and_reports_true_times(
    folder, said, capfd
) -> None:
    assert ask(folder / "deep" / "B.WAV", "--query", "who?", "--ultrasonic") == 0
    lines = capfd.readouterr().out.splitlines()[1:]
    assert lines[:3] == [f"#{s}.00s - {s + 1}.00s#: [who?]" for s in range(3)]


def test_a_slow_down_of_nothing_is_refused(folder, said, capfd) -> None:
    assert ask(folder / "a.wav", "--query", "who?", "--slow-down", "0") == 2
    assert "slowed down" in capfd.readouterr().err
