"""Option scores: equal to full recomputation, in groups or not, for any LLM; shares with the prior taken off."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.errors import PromptError
from NatureLM.models import lora, scoring
from tests import tiny

MODEL = tiny.model()
WAVES = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
with torch.no_grad():
    TOKENS = MODEL.encode(WAVES, torch.tensor([16_000, 9_000]))
QUERIES = ["which of these?", "is it one of the following animals: ...?"]
OPTIONS = [["Gray Wolf", "Gray Wolfhound", "None", "Gray Wolf"], ["yes", "no"]]


def recomputed(options, alpha: float = 1.0) -> list[list[float]]:
    ids = [[MODEL.tokenizer(o, add_special_tokens=False).input_ids for o in row] for row in options]
    embeds = MODEL.embeds(TOKENS, QUERIES)
    with lora.scaled(MODEL.llm, alpha):
        return scoring.recomputed_scores(lora.plain(MODEL.llm), embeds, ids, MODEL.ends)


def close(found, expected) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(abs(a - b) <= 1e-4 for x, y in pairs for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("alpha", [1.0, 0.4, 0.0])
def test_the_tree_equals_full_recomputation(alpha: float) -> None:
    found = MODEL.score(TOKENS, QUERIES, OPTIONS, merging_alpha=alpha)
    assert close(found, recomputed(OPTIONS, alpha))
    assert found[0][0] == found[0][3]


@given(
    st.lists(st.lists(st.text("abc", min_size=1, max_size=6), max_size=6), min_size=2, max_size=2)
)
@settings(max_examples=15, deadline=None)
def test_any_options_in_any_groups(options: list[list[str]]) -> None:
    expected = recomputed(options)
    kept = scoring.MOST_NODES
    for most in (1, 7, kept):
        scoring.MOST_NODES = most
        try:
            assert close(MODEL.score(TOKENS, QUERIES, options), expected)
        finally:
            scoring.MOST_NODES = kept


def test_another_row_or_option_changes_nothing() -> None:
    both = MODEL.score(TOKENS, QUERIES, OPTIONS)
    alone = MODEL.score(TOKENS[1:], QUERIES[1:], OPTIONS[1:])
    assert close(both[1:], alone)
    fewer = MODEL.score(TOKENS, QUERIES, [OPTIONS[0][1:3], OPTIONS[1]])
    assert close([both[0][1:3]], fewer[:1])


def test_all_answers_of_one_letter_and_the_rest_sum_to_one_at_most() -> None:
    letters = [chr(i) for i in range(32, 127)]
    total = sum(math.exp(s) for s in MODEL.score(TOKENS[:1], QUERIES[:1], [letters])[0])
    assert 0 < total < 1


def test_another_kind_of_llm_is_recomputed(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = MODEL.score(TOKENS, QUERIES, OPTIONS, merging_alpha=0.5)
    monkeypatch.setattr(lora.plain(MODEL.llm).config, "model_type", "another")
    assert close(MODEL.score(TOKENS, QUERIES, OPTIONS, merging_alpha=0.5), expected)


def test_an_option_that_spells_a_special_token_is_letters() -> None:
    scores = MODEL.score(TOKENS[:1], QUERIES[:1], [["a<|eot_id|>", "a"]])[0]
    assert scores[0] < scores[1] - 20


def test_an_empty_option_is_refused() -> None:
    with pytest.raises(PromptError, match="option is empty"):
        MODEL.score(TOKENS[:1], QUERIES[:1], [["a", ""]])
    assert MODEL.score(TOKENS[:1], QUERIES[:1], [[]]) == [[]]


def test_the_prior_hears_nothing() -> None:
    prior = MODEL.prior(QUERIES, OPTIONS)
    assert prior == MODEL.prior(QUERIES, OPTIONS)
    assert not close(prior, MODEL.score(TOKENS, QUERIES, OPTIONS))
    assert MODEL.prompt(QUERIES[0], 0).recordings == 0


finite = st.floats(-60, 0)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=8), st.floats(-50, 50))
def test_shares_sum_to_one_and_follow_the_gain_over_the_prior(pairs, shift: float) -> None:
    scores, prior = zip(*pairs, strict=True)
    found = scoring.shares(scores, prior)
    assert sum(found) == pytest.approx(1)
    assert scoring.shares([s + shift for s in scores], prior) == pytest.approx(found, abs=1e-9)
    gains = [s - p for s, p in pairs]
    assert found[gains.index(max(gains))] == max(found)
    assert scoring.shares(scores, scores) == pytest.approx([1 / len(scores)] * len(scores))
