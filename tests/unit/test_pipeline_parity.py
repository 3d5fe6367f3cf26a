"""``parity="published"`` repeats the reference's Pipeline strings; the default does not repeat its defects."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from NatureLM.config import read_config
from NatureLM.errors import RecordingError
from NatureLM.infer import Pipeline, PipelineSettings
from NatureLM.models import NatureLM
from tests import tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
QUERY = "What is the common name for the focal species in the audio?"
CASES = json.loads((GOLDEN / "expected" / "golden.json").read_text())["modes"]["fp32"]["pipeline"]


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return NatureLM.from_pretrained(GOLDEN, parity="published")


@pytest.mark.parametrize("case", CASES)
def test_the_references_strings_come_out(model: NatureLM, case: str) -> None:
    name, window, hop, beams = case.split("|")
    cfg_path = GOLDEN / "inference.yml"
    generate = read_config(cfg_path).generate
    assert generate is not None
    generation = replace(generate.generation(), num_beams=int(beams.removeprefix("beams")))
    settings = PipelineSettings(parity="published", generation=generation)
    texts = Pipeline(model, cfg_path, settings=settings)(
        [str(GOLDEN / "audio" / name)],
        [QUERY],
        window_length_seconds=float(window.removeprefix("win")),
        hop_length_seconds=float(hop.removeprefix("hop")),
    )
    assert texts == CASES[case]["output"]


def test_the_models_file_is_found_beside_its_published_yaml() -> None:
    asked = Pipeline(cfg_path=GOLDEN / "inference.yml", parity="published")
    assert asked.choice.name == str(GOLDEN)
    assert asked.asking.generation.num_beams == 2
    assert asked.asking.generation.max_new_tokens == 12
    (text,) = asked(GOLDEN / "audio" / "trill.wav", QUERY)
    assert text == CASES["trill.wav|win10.0|hop10.0|beams2"]["output"][0]


def test_published_drops_the_tail_and_labels_past_the_end_and_the_default_does_not() -> None:
    sound = np.random.default_rng(0).normal(scale=0.1, size=16_000 * 13)
    published = Pipeline(tiny.stub_model(["A"]), parity="published")
    assert published(sound, QUERY) == ["#0.00s - 10.00s#: A\n"]
    assert published(sound[: 16_000 * 3], QUERY) == ["#0.00s - 10.00s#: A\n"]
    default = Pipeline(tiny.stub_model(["A"]))
    assert default(sound, QUERY) == ["#0.00s - 10.00s#: A\n#10.00s - 13.00s#: A\n"]


def test_published_refuses_what_is_shorter_than_half_a_second(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.ones(7_999) * 0.1, 16_000)
    with pytest.raises(RecordingError, match=r"a.wav: 0.50 s long.*--skip-short") as caught:
        Pipeline(tiny.stub_model(["A"]), parity="published")(tmp_path / "a.wav", QUERY)
    assert caught.value.code == "too_short"


def test_published_asks_about_silence_and_cuts_windows_to_ten_seconds() -> None:
    model = tiny.stub_model(["A"])
    heard = []
    encode = model.encode
    model.encode = lambda waves, lengths: (
        heard.append((waves.shape, lengths.tolist())) or encode(waves, lengths)
    )
    asked = Pipeline(model, parity="published")
    assert asked(np.zeros(16_000 * 40), QUERY, 20.0, 20.0) == [
        "#0.00s - 20.00s#: A\n#20.00s - 40.00s#: A\n"
    ]
    assert [shape[1] for shape, _ in heard] == [160_000]
    assert heard[0][1] == [160_000, 160_000]
