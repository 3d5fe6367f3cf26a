"""The card's Python as printed, with the pocket model on a real recording."""

import re

import pytest

from NatureLM.infer import Pipeline, PipelineSettings
from NatureLM.models import NatureLM, parts

pytestmark = pytest.mark.pocket
QUERY = "What is the common name for the focal species in the audio?"


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return NatureLM.from_pretrained("pocket").eval().to("cpu")


@pytest.fixture(scope="module")
def recording() -> str:
    found = parts.cached("demo-recording")
    assert found, "run `naturelm models pull pocket` first"
    return str(found)


def test_the_cards_python_runs_as_printed(model: NatureLM, recording: str) -> None:
    pipeline = Pipeline(model=model)
    (text,) = pipeline([recording], [QUERY], window_length_seconds=10.0, hop_length_seconds=10.0)
    assert re.fullmatch(r"(#\d+\.\d\ds - \d+\.\d\ds#: [A-Z][\w' -]+\n)+", text)


def test_real_answers_do_not_depend_on_the_batch(model: NatureLM, recording: str) -> None:
    texts = [
        Pipeline(model, settings=PipelineSettings(batch_size=size))(recording, QUERY, 2.0, 2.0)
        for size in (1, 5)
    ]
    assert texts[0] == texts[1]


def test_the_answer_is_the_most_probable_of_the_options(model: NatureLM, recording: str) -> None:
    pipeline = Pipeline(model)
    (said,) = pipeline.ask(recording, QUERY)
    name = said.answers[0].answer
    others = [o for o in ("Barn Owl", "Gray Wolf", "Spring Peeper") if o != name]
    (found,) = pipeline.choose(recording, QUERY, [*others, name])
    assert found.answers[0].answer == name
    (found,) = pipeline.choose(recording, QUERY, others)
    assert found.answers[0].answer == "None"
