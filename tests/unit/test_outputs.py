"""Every writer's output reads back, whole or cut short, whatever the names hold."""

import csv
import errno
import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from NatureLM import outputs
from NatureLM.errors import FormatError, StoreError
from NatureLM.outputs import sink
from NatureLM.outputs.sink import Sink, check_place
from NatureLM.results import ROW, OptionScore, RecordingResult, WindowAnswer, results_of

odd = st.text(max_size=12).map(lambda t: t.replace("\x00", ""))
foreign = st.binary(max_size=8).map(lambda b: os.fsdecode(b"\xe9" + b.replace(b"\0", b"")))
names = st.one_of(
    odd, foreign, st.sampled_from(["a\nb.wav", "#0.00s", "-x.wav", '"q".wav', "! x: y", "é\r😀"])
)
seconds = st.floats(0, 1e6, allow_nan=False)
shares = st.floats(0, 1)
options = st.lists(
    st.builds(OptionScore, odd, shares, st.floats(-1e3, 0) | st.just(-math.inf)), max_size=3
).map(tuple)
answers = st.builds(
    WindowAnswer,
    seconds,
    seconds,
    query=odd,
    answer=odd,
    flags=st.lists(st.sampled_from(["silent", "truncated"]), unique=True).map(tuple),
    log_probability=st.none() | st.floats(-1e3, 0),
    options=options,
)
whole = st.builds(
    RecordingResult,
    recording=names,
    answers=st.lists(answers, max_size=4).map(tuple),
    flags=st.sampled_from([(), ("gap",)]),
    model=st.sampled_from(["", "pocket"]),
    revision=st.sampled_from(["", "1"]),
)
faulty = st.builds(
    RecordingResult, recording=names, error_code=st.just("OE004 empty"), error=odd.filter(bool)
)
results = st.lists(whole | faulty, max_size=5, unique_by=lambda result: result.recording)


def _written(name: str, found: list[RecordingResult]) -> str:
    form = outputs.open_format(name)
    return form.begin() + "".join(form.piece(result) for result in found)


def _read(name: str, text: str) -> list[RecordingResult]:
    kept = sink.encode(text).decode("utf-8", "surrogateescape")
    return list(outputs.open_format(name).read(io.StringIO(kept, newline="")))


def _rows(found) -> list[dict]:
    return [row for result in found for row in result.rows()]


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@given(found=results)
def test_rows_read_back_as_written(name: str, found: list[RecordingResult]) -> None:
    assert _rows(_read(name, _written(name, found))) == _rows(found)


@pytest.mark.parametrize("name", ["jsonl", "csv"])
@given(found=results, cut=st.floats(0, 1))
def test_a_stream_cut_anywhere_reads_back_as_its_beginning(name, found, cut) -> None:
    written = _written(name, found)
    least = len(outputs.open_format(name).begin())
    rows = _rows(_read(name, written[: least + int(cut * (len(written) - least))]))
    assert rows == _rows(found)[: len(rows)]


printable = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=9)
said = st.builds(
    WindowAnswer,
    st.integers(0, 99).map(float),
    st.integers(0, 99).map(float),
    query=printable,
    answer=st.lists(printable, min_size=1, max_size=2).map("\n".join),
)
spoken = st.lists(
    st.builds(RecordingResult, names, st.lists(said, min_size=1, max_size=3).map(tuple)),
    max_size=4,
    unique_by=lambda result: result.recording,
)


@given(found=spoken)
def test_text_reads_back_names_times_and_answers(found: list[RecordingResult]) -> None:
    pieces = [replace(r, answers=(answer,)) for r in found for answer in r.answers]
    back = [
        (r.recording, a.start_s, a.end_s, a.answer)
        for r in _read("text", _written("text", pieces))
        for a in r.answers
    ]
    assert back == [(r.recording, a.start_s, a.end_s, a.answer) for r in found for a in r.answers]


def test_text_is_the_name_and_the_cards_lines() -> None:
    answer = WindowAnswer(0.0, 10.0, "What?", "Green Treefrog")
    found = [
        RecordingResult("a.wav", (answer,)),
        RecordingResult("a.wav", (replace(answer, start_s=10.0, end_s=12.5),)),
        RecordingResult("b.wav", error_code="not_audio", error="b.wav: HTML, not audio"),
        RecordingResult("c.wav", flags=("too_short",)),
    ]
    assert _written("text", found) == (
        "a.wav\n#0.00s - 10.00s#: Green Treefrog\n#10.00s - 12.50s#: Green Treefrog\n\n"
        "b.wav\n! not_audio: b.wav: HTML, not audio\n\n"
        "c.wav\n! too_short: not asked\n"
    )


def test_text_numbers_several_queries_and_ranks_options() -> None:
    ranked = (OptionScore("Owl", 0.25, -3.0), OptionScore("Wolf", 0.75, -1.0))
    asked = (
        WindowAnswer(0.0, 3.0, "Which?", "Wolf", options=ranked),
        WindowAnswer(0.0, 3.0, "How many?", "Two"),
    )
    text = _written("text", [RecordingResult("a.wav", asked), RecordingResult("b.wav", asked)])
    block = "#0.00s - 3.00s# Q1: Wolf\n  0.750  Wolf\n  0.250  Owl\n#0.00s - 3.00s# Q2: Two\n"
    assert text == f"Q1: Which?\nQ2: How many?\n\na.wav\n{block}\nb.wav\n{block}"
    assert [a.query for a in _read("text", text)[0].answers] == ["Which?", "How many?"]


def test_names_cannot_steer_a_terminal_or_pass_for_an_answer() -> None:
    for name in ("\x1b[2J.wav", "a\nb", "#0.00s - 1.00s#: x", "! not_audio: x"):
        first = _written("text", [RecordingResult(name, error_code="e", error="f")]).splitlines()[0]
        assert first.isprintable()
        assert json.loads(first) == name


def test_a_name_of_foreign_bytes_keeps_them() -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    found = [RecordingResult(name, (WindowAnswer(0.0, 1.0, "q", "a"),))]
    assert b"caf\xe9.wav" in sink.encode(_written("csv", found))
    line = sink.encode(_written("jsonl", found)).decode("utf-8")
    assert os.fsencode(json.loads(line)["recording"]) == b"caf\xe9.wav"


def test_the_columns_are_those_of_a_row() -> None:
    assert _written("csv", []) == ",".join(ROW) + "\n"
    (row,) = csv.DictReader(io.StringIO(_written("csv", [RecordingResult("a")])))
    assert set(row) == set(ROW)


def test_write_and_read_a_file(tmp_path: Path) -> None:
    found = [RecordingResult("a.wav", (WindowAnswer(0.0, 1.0, "q", "a"),), model="m")]
    place = tmp_path / "answers.csv"
    outputs.write(found, place)
    assert _rows(outputs.read(place)) == _rows(found)
    with pytest.raises(StoreError, match=r"answers.csv: exists already; pass --force"):
        outputs.write(found, place)
    outputs.write([], place, force=True)
    assert list(outputs.read(place)) == []


def test_unknown_formats_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'xml': unknown; choose one of text, jsonl, csv"):
        outputs.open_format("xml")
    with pytest.raises(FormatError, match="line 1: "):
        _read("jsonl", "[]\n")
    with pytest.raises(FormatError, match="line 1: "):
        _read("jsonl", "hello\n")
    with pytest.raises(FormatError, match="no column 'start_s'"):
        _read("csv", "recording,answer\n1,2\n")
    with pytest.raises(FormatError, match="line 2: could not convert"):
        _read("csv", _written("csv", []) + "a,x" + "," * (len(ROW) - 2) + "\n")


def test_places_where_results_cannot_go_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder"):
        check_place(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        check_place(tmp_path / "x" / "y.csv")


def test_a_full_disk_takes_the_half_written_piece_back(tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "answers.jsonl"
    real = os.write

    def nearly_full(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_size >= 30:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:10])

    with outputs.open_sink(place) as out:
        out.append("first line\n")
        monkeypatch.setattr(sink.os, "write", nearly_full)
        with pytest.raises(StoreError, match="No space left on device"):
            out.append("a second line that is longer than what is left\n")
        monkeypatch.undo()
        out.append("third\n")
    assert place.read_text() == "first line\nthird\n"


def test_a_broken_pipe_is_not_a_full_disk() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), Sink(writer, "pipe", owned=True) as out:
        out.append("x\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_full_device_is_reported() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StoreError, match="results could not be stored"):
        Sink(descriptor, "/dev/full", owned=True).append("x")


def test_results_of_rows_keep_a_fault_between_two_recordings() -> None:
    found = [
        RecordingResult("a", error_code="x", error="y"),
        RecordingResult("a", (WindowAnswer(0.0, 1.0, "q", "a"),)),
    ]
    assert _rows(results_of(_rows(found))) == _rows(found)
