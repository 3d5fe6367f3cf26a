"""The card's contract, faults as rows, and answers that do not depend on how windows are batched."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from NatureLM.audio.options import Findings
from NatureLM.audio.recording import Recording, WindowAudio
from NatureLM.audio.windows import Window, WindowPlan
from NatureLM.config import Generation
from NatureLM.errors import ConfigError, DeviceError, PromptError, RecordingError, WindowError
from NatureLM.infer import Pipeline, PipelineSettings
from NatureLM.infer.engine import Engine, chosen, is_out_of_memory, stack
from NatureLM.results import RecordingResult
from tests import tiny

RATE = 16_000
QUERY = "What is the common name for the focal species in the audio?"
BRIEF = PipelineSettings(generation=Generation(max_new_tokens=6))


def noise(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=round(seconds * rate))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, seconds in (("a", 25.0), ("b", 3.0), ("c", 0.3)):
        sf.write(tmp_path / f"{name}.wav", noise(seconds, len(name)), RATE)
    (tmp_path / "text.wav").write_text("<html>not audio</html>" * 50)
    return tmp_path


def pipeline(answers=("A", "B", "C"), **changes) -> Pipeline:
    return Pipeline(tiny.stub_model(list(answers)), settings=PipelineSettings(**changes))


def test_one_string_per_recording_in_the_cards_format(folder: Path) -> None:
    texts = pipeline()([folder / "a.wav", str(folder / "b.wav")], QUERY)
    assert texts == [
        "#0.00s - 10.00s#: A\n#10.00s - 20.00s#: B\n#20.00s - 25.00s#: C\n",
        "#0.00s - 3.00s#: A\n",
    ]


@pytest.mark.parametrize(
    "single",
    [
        pytest.param(lambda p: str(p / "b.wav"), id="path"),
        pytest.param(lambda p: p / "b.wav", id="Path"),
        pytest.param(lambda _: noise(3.0), id="array"),
        pytest.param(lambda _: noise(3.0).astype(np.float32), id="float32"),
        pytest.param(lambda _: torch.from_numpy(noise(3.0)), id="tensor"),
        pytest.param(lambda _: list(noise(3.0)), id="numbers"),
        pytest.param(lambda _: np.stack([noise(3.0)] * 2), id="channels first"),
        pytest.param(lambda _: np.stack([noise(3.0)] * 2, 1), id="channels last"),
        pytest.param(lambda p: (p / "b.wav").read_bytes(), id="bytes"),
    ],
)
def test_a_single_recording_of_any_kind(folder: Path, single) -> None:
    assert pipeline()(single(folder), QUERY) == ["#0.00s - 3.00s#: A\n"]


def test_arrays_have_the_rate_that_is_given() -> None:
    array = noise(2.0, rate=44_100)
    assert pipeline()([array], QUERY, input_sample_rate=44_100) == ["#0.00s - 2.00s#: A\n"]


def test_integers_are_scaled_as_the_same_sound_in_floats() -> None:
    model = tiny.model()
    floats = np.round(noise(2.0) * 32768).clip(-32768, 32767)
    asked = Pipeline(model, settings=BRIEF)
    whole = asked([floats.astype(np.int16)], QUERY)
    assert whole == asked([(floats / 32768).astype(np.float32)], QUERY)


def test_one_query_each(folder: Path) -> None:
    asked = Pipeline(tiny.stub_model(lambda query: query.upper()))
    texts = asked([folder / "b.wav", folder / "b.wav"], ["who?", "where?"])
    assert texts == ["#0.00s - 3.00s#: WHO?\n", "#0.00s - 3.00s#: WHERE?\n"]


@pytest.mark.parametrize("queries", [["a", "b"], []])
def test_queries_that_do_not_fit_are_refused(folder: Path, queries) -> None:
    with pytest.raises(PromptError, match=f"{len(queries)} queries for 1 recordings"):
        pipeline()([folder / "b.wav"], queries)


@pytest.mark.parametrize("query", ["", "  \n", [""]])
def test_an_empty_query_is_refused_before_any_work(folder: Path, query) -> None:
    with pytest.raises(PromptError, match="query is empty"):
        pipeline().ask([folder / "b.wav"], query)


def test_no_recordings_give_no_answers() -> None:
    assert pipeline()([], QUERY) == []
    assert list(pipeline().ask([], QUERY)) == []


def test_an_unreadable_recording_raises_in_the_cards_form_and_names_it(folder: Path) -> None:
    with pytest.raises(RecordingError, match=r"text\.wav") as caught:
        pipeline()([folder / "text.wav", folder / "b.wav"], QUERY)
    assert caught.value.code == "not_audio"


def test_a_fault_is_a_row_and_the_others_go_on(folder: Path) -> None:
    sources = [folder / "b.wav", folder / "text.wav", folder / "gone.wav", folder / "b.wav"]
    found = list(pipeline().ask(sources, QUERY))
    assert [r.recording for r in found] == [str(source) for source in sources]
    assert [len(r.answers) for r in found] == [1, 0, 0, 1]
    assert found[1].error_code == "not_audio"
    assert found[2].error_code
    assert "gone.wav" in (found[2].error or "")
    assert {r.model for r in found} == {"scripted"}


class Broken(Recording):
    """A recording whose second window is its last: what follows cannot be decoded."""

    def __init__(self) -> None:
        self.name, self.rate_hz, self.channels = "broken.wav", RATE, 1
        self.expected_s, self.duration_s = 40.0, 20.0
        self._findings = Findings()

    def windows(self, plan, rate_hz, mode="default"):
        for index in range(2):
            window = Window(index, 10.0 * index, 10.0 * index + 10.0)
            yield WindowAudio(window, noise(10.0).astype(np.float32))
        self._findings.add("truncated")
        raise RecordingError("broken.wav: the rest is damaged", "undecodable")


def test_a_fault_on_the_way_keeps_every_window_before_it(folder: Path) -> None:
    broken, whole = pipeline().ask([Broken(), folder / "b.wav"], QUERY)
    assert [a.end_s for a in broken.answers] == [10.0, 20.0]
    assert (broken.error_code, broken.error) == ("undecodable", "broken.wav: the rest is damaged")
    assert "truncated" in broken.flags
    assert [row["error_code"] for row in broken.rows()] == [None, None, "undecodable"]
    assert len(whole.answers) == 1


def test_two_recordings_of_one_name_stay_two(folder: Path) -> None:
    found = list(pipeline().ask([folder / "a.wav"] * 2, QUERY))
    assert [len(r.answers) for r in found] == [3, 3]


def test_every_window_is_encoded_once_for_all_queries(folder: Path) -> None:
    model = tiny.stub_model(lambda query: query.upper())
    (found,) = Pipeline(model).ask(folder / "a.wav", ["x?", "y?"])
    assert model.encoded == 3
    assert [(a.start_s, a.query, a.answer) for a in found.answers] == [
        (start_s, query, query.upper()) for start_s in (0.0, 10.0, 20.0) for query in ("x?", "y?")
    ]


def test_queries_per_recording(folder: Path) -> None:
    model = tiny.stub_model(lambda query: query.upper())
    found = list(Pipeline(model).ask([folder / "b.wav"] * 2, [["x?"], ["y?", "z?"]]))
    assert [[a.answer for a in r.answers] for r in found] == [["X?"], ["Y?", "Z?"]]
    with pytest.raises(PromptError, match="1 groups of queries for 2 recordings"):
        Pipeline(model).ask([folder / "b.wav"] * 2, [["x?"]])


def test_silence_is_answered_without_the_model_unless_forced() -> None:
    model = tiny.stub_model(["Wolf"])
    sound = np.concatenate([np.zeros(10 * RATE), noise(5.0)])
    (found,) = Pipeline(model).ask([sound], QUERY)
    assert [a.answer for a in found.answers] == ["None", "Wolf"]
    assert [a.flags for a in found.answers] == [("silent",), ()]
    assert model.encoded == 1
    forced = Pipeline(model, settings=PipelineSettings(ask_silence=True))
    (found,) = forced.ask([sound], QUERY)
    assert [a.answer for a in found.answers] == ["Wolf", "Wolf"]
    assert "silent" in found.answers[0].flags


def test_a_short_recording_is_padded_and_keeps_its_true_end(folder: Path) -> None:
    assert pipeline()(folder / "c.wav", QUERY) == ["#0.00s - 0.30s#: A\n"]


def test_short_recordings_are_left_out_when_asked_for(folder: Path) -> None:
    short, long = pipeline(skip_short=True).ask([folder / "c.wav", folder / "b.wav"], QUERY)
    assert short.answers == ()
    assert "too_short" in short.flags
    assert short.error_code is None
    assert len(long.answers) == 1


def test_windows_that_the_model_cannot_hear_are_refused(folder: Path) -> None:
    with pytest.raises(WindowError, match="windows of 30 s: scripted hears at most 10 s"):
        pipeline().stream([folder / "b.wav"], QUERY, WindowPlan(30.0, 30.0))
    with pytest.raises(WindowError):
        pipeline()([folder / "b.wav"], QUERY, window_length_seconds=-1.0)


def test_stream_hands_pieces_on_as_they_come(folder: Path) -> None:
    model = tiny.stub_model(["A"])
    pieces = Pipeline(model, settings=PipelineSettings(batch_size=1)).stream(
        [folder / "a.wav"], QUERY
    )
    first = next(pieces)
    assert [a.end_s for a in first.answers] == [10.0]
    assert model.encoded == 1
    pieces.close()


def test_the_job_may_be_endless(folder: Path) -> None:
    def forever():
        while True:
            yield folder / "b.wav"

    answers = pipeline().ask(forever(), QUERY)
    assert [next(answers).answers[0].answer for _ in range(4)] == ["A", "B", "C", "A"]
    answers.close()


def test_options_give_probabilities_that_sum_to_one(folder: Path) -> None:
    (found,) = pipeline(["Wolf"]).choose([folder / "b.wav"], "Which?", ["Owl", "Wolf"])
    (answer,) = found.answers
    assert answer.answer == "Wolf"
    assert [o.option for o in answer.options] == ["Owl", "Wolf", "None"]
    assert sum(o.probability for o in answer.options) == pytest.approx(1.0)
    assert answer.probability == max(o.probability for o in answer.options)
    assert answer.log_probability == 0.0


def test_the_prior_is_taken_off_and_asked_once_a_query(folder: Path) -> None:
    model = tiny.stub_model(["Wolf"])
    calls = []

    def prior(queries, options, *, merging_alpha):
        calls.append((tuple(queries), merging_alpha))
        return [[-8.0, 0.0]]

    model.prior = prior
    (found,) = Pipeline(model).choose(folder / "a.wav", "Which?", ["Owl", "Wolf"], none=False)
    assert {a.answer for a in found.answers} == {"Owl"}  # -3 - (-8) / 2 beats 0 - 0
    assert calls == [(("Which?",), 1.0)]


def test_none_is_no_bias_of_wording() -> None:
    answer = chosen("Which?", ["Owl", "Wolf", "None"], [-8.0, -7.0, -1.0], [-8.0, -6.0, 0.0])
    assert answer.answer == "None"
    owl, wolf, _ = answer.options
    assert owl.probability == pytest.approx(wolf.probability)


def test_silence_with_options_that_leave_no_way_out_is_asked(folder: Path) -> None:
    model = tiny.stub_model(["Yes"])
    (found,) = Pipeline(model).choose(np.zeros(RATE), "Rain?", ["Yes", "No"], none=False)
    assert found.answers[0].answer == "Yes"


# the law: answers depend on the window, not on its company

ROWS = [noise(s, i) for i, s in enumerate((10.0, 3.0, 0.7, 10.0, 23.0))]


@pytest.fixture(scope="module")
def alone() -> dict[int, RecordingResult]:
    one = Pipeline(tiny.model(), settings=replace(BRIEF, batch_size=1))
    return {i: next(iter(one.ask([row], QUERY))) for i, row in enumerate(ROWS)}


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate],
)
@given(st.permutations(range(len(ROWS))), st.integers(1, 9))
def test_answers_do_not_depend_on_batch_order_or_neighbours(alone, order, batch_size) -> None:
    asked = Pipeline(tiny.model(), settings=replace(BRIEF, batch_size=batch_size))
    found = list(asked.ask([ROWS[i] for i in order], QUERY))
    for i, result in zip(order, found, strict=True):
        assert result.as_text() == alone[i].as_text()
        ours = [a.log_probability for a in result.answers]
        assert ours == pytest.approx([a.log_probability for a in alone[i].answers], abs=1e-3)


class Narrow:
    """A model with room for so many windows."""

    def __init__(self, room: int, error: Exception) -> None:
        self.model, self.room, self.error = tiny.stub_model(lambda q: q.upper()), room, error
        self.tried: list[int] = []

    def __getattr__(self, name: str):
        return getattr(self.model, name)

    def encode(self, waveforms, lengths):
        self.tried.append(len(waveforms))
        if len(waveforms) > self.room:
            raise self.error
        return self.model.encode(waveforms, lengths)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_batch_and_goes_on(folder: Path, error, caplog) -> None:
    narrow = Narrow(3, error)
    asked = Pipeline(narrow, settings=PipelineSettings(batch_size=8))
    with caplog.at_level(logging.WARNING):
        found = list(asked.ask([folder / "a.wav"] * 6, "x?"))
    assert [a.answer for r in found for a in r.answers] == ["X?"] * 18
    assert narrow.tried[:4] == [8, 4, 2, 2]
    assert max(narrow.tried[4:]) == 2
    assert "going on with 2" in caplog.text


def test_no_room_for_one_window_is_an_error_that_says_what_to_do(folder: Path) -> None:
    narrow = Narrow(0, MemoryError())
    with pytest.raises(DeviceError, match=r"out of memory with one window.*--device cpu"):
        Pipeline(narrow).ask([folder / "b.wav"], "x?").__next__()


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    narrow = Narrow(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(Pipeline(narrow).ask([noise(1.0)], "x?"))


def test_the_first_batches_are_small_unless_a_size_is_given() -> None:
    model = tiny.stub_model(["A"])
    sizes = Engine(model).sizes()
    assert [next(sizes) for _ in range(4)] == [2, 8, 16, 16]
    sizes = Engine(model, 5).sizes()
    assert [next(sizes) for _ in range(2)] == [5, 5]


def test_stacking_pads_at_the_end_and_can_call_the_padding_audio() -> None:
    waves = [np.ones(3, np.float32), np.ones(5, np.float32)]
    batch, lengths = stack(waves)
    assert batch.tolist() == [[1, 1, 1, 0, 0], [1] * 5]
    assert lengths.tolist() == [3, 5]
    batch, lengths = stack(waves, padded_samples=4)
    assert batch.tolist() == [[1, 1, 1, 0], [1] * 4]
    assert lengths.tolist() == [4, 4]
    assert stack([np.ones(2)])[0].dtype == torch.float64


def test_merging_alpha_is_checked_and_handed_on(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"merging_alpha is 1\.5"):
        pipeline(merging_alpha=1.5)
    (half,) = Pipeline(tiny.model(), settings=replace(BRIEF, merging_alpha=0.0)).ask(
        folder / "b.wav", QUERY
    )
    (whole,) = Pipeline(tiny.model(), settings=BRIEF).ask(folder / "b.wav", QUERY)
    assert half.as_text() != whole.as_text()


def test_names_that_are_not_utf_8_come_back_as_they_are(folder: Path) -> None:
    name = folder / os.fsdecode(b"caf\xe9\n.wav")
    try:
        name.write_bytes((folder / "b.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (found,) = pipeline().ask([name], QUERY)
    assert os.fsencode(found.recording) == os.fsencode(name)
    assert len(found.answers) == 1
