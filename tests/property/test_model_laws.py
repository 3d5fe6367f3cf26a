"""Laws of the whole model in float32: what is beside a window changes nothing, and nothing that a call sets stays."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.config import Generation
from NatureLM.models.loss import TrainingBatch
from tests import tiny

MODEL = tiny.model()
RATE = 16_000
GENERATOR = torch.Generator().manual_seed(5)
WAVES = torch.randn(6, 2 * RATE, generator=GENERATOR) * 0.1
LENGTHS = [2 * RATE, 20_000, 8_000, 7_920, 3_000, 400]
QUERIES = [
    "which?",
    "what is the common name of it?",
    "a <|eot_id|> b",
    "yes or no",
    "x " * 40,
    "ä?",
]
STRATEGIES = [
    Generation(max_new_tokens=5),
    Generation(max_new_tokens=5, num_beams=2),
    Generation(max_new_tokens=5, do_sample=True, seed=9),
]

places = st.lists(st.integers(0, 5), min_size=1, max_size=5)


def heard(rows: list[int]):
    lengths = torch.tensor([LENGTHS[i] for i in rows])
    with torch.no_grad():
        return MODEL.encode(WAVES[rows, : int(lengths.max())], lengths)


ALONE = [heard([i]) for i in range(6)]
SAID = [
    [MODEL.answer(ALONE[i], [QUERIES[i]], strategy)[0] for i in range(6)] for strategy in STRATEGIES
]


@given(places)
@settings(max_examples=25, deadline=None)
def test_a_window_is_encoded_as_if_alone(rows: list[int]) -> None:
    tokens = heard(rows)
    for row, got in zip(rows, tokens.rows(), strict=True):
        assert torch.allclose(got, ALONE[row].rows()[0], atol=2e-5)


@given(places, st.sampled_from(range(len(STRATEGIES))))
@settings(max_examples=25, deadline=None)
def test_answers_depend_neither_on_batch_size_nor_order_nor_neighbours(
    rows: list[int], strategy: int
) -> None:
    answers = MODEL.answer(heard(rows), [QUERIES[i] for i in rows], STRATEGIES[strategy])
    for row, answer in zip(rows, answers, strict=True):
        expected = SAID[strategy][row]
        assert answer.token_ids == expected.token_ids
        assert abs(answer.log_probability - expected.log_probability) < 1e-3


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=3))
@settings(max_examples=10, deadline=None)
def test_setting_alpha_again_and_again_equals_setting_the_last(alphas: list[float]) -> None:
    for alpha in alphas:
        last = MODEL.answer(ALONE[0], QUERIES[:1], STRATEGIES[0], merging_alpha=alpha)
    fresh = tiny.model().answer(ALONE[0], QUERIES[:1], STRATEGIES[0], merging_alpha=alphas[-1])
    assert last == fresh
    assert MODEL.answer(ALONE[0], QUERIES[:1], STRATEGIES[0])[0] == SAID[0][0]


@given(st.permutations(range(4)))
@settings(max_examples=8, deadline=None)
def test_the_loss_of_a_batch_is_that_of_its_examples(order: list[int]) -> None:
    texts = ["Green Treefrog", "", "a b c d e f g", "None"]

    def loss(rows: list[int]):
        lengths = torch.tensor([LENGTHS[i] for i in rows])
        batch = TrainingBatch(
            WAVES[rows, : int(lengths.max())],
            lengths,
            tuple(MODEL.prompt(QUERIES[i]) for i in rows),
            tuple(texts[i] for i in rows),
        )
        with torch.no_grad():
            return MODEL(batch)

    together, single = loss(order), [loss([i]) for i in order]
    assert torch.allclose(
        together.per_example_loss, torch.cat([s.per_example_loss for s in single]), atol=1e-4
    )
    assert together.total == sum(s.total for s in single)
    assert together.correct == sum(s.correct for s in single)
    weighted = sum(float(s.loss) * s.total for s in single) / together.total
    assert abs(float(together.loss) - weighted) < 1e-4


def test_training_reads_the_prompt_that_inference_reads() -> None:
    query = QUERIES[1]
    batch = TrainingBatch(WAVES[:1], torch.tensor(LENGTHS[:1]), (MODEL.prompt(query),), ("x",))
    with torch.no_grad():
        out = MODEL(batch)
        asked = MODEL.embeds(ALONE[0], [query])[0]
    start = int((out.labels[0] >= 0).nonzero()[0])
    assert start == len(asked)
    assert torch.allclose(out.inputs_embeds[0, :start], asked, atol=1e-5)
