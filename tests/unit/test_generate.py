"""Generation: each row as if alone, whatever the strategy; constraints, stop rules, draws and log-probabilities."""

import pytest
import torch

from NatureLM.config import Generation
from NatureLM.models import generate, lora
from NatureLM.models.grammar import END, Speller, TokenTrie
from NatureLM.models.slots import SlotPrompt
from tests import tiny

MODEL = tiny.model()
LLM = lora.plain(MODEL.llm)
ENDS = MODEL.ends
TABLE = LLM.get_input_embeddings().weight.detach()


def prompts(*texts: str, held=None) -> list[SlotPrompt]:
    rows = [MODEL.embeds(_none(), [MODEL.prompt(t, 0)])[0].detach() for t in texts]
    return [SlotPrompt(r, h) for r, h in zip(rows, held or [None] * len(rows), strict=True)]


def _none():
    from NatureLM.models.model import AudioTokens

    return AudioTokens(torch.zeros(0, 1, 32), torch.zeros(0, dtype=torch.long))


TEXTS = ("a", "which of these many animals is it?", "b c")
STRATEGIES = {
    "greedy": Generation(max_new_tokens=8),
    "published stop": Generation(max_new_tokens=8, stop_rule="published"),
    "penalty": Generation(max_new_tokens=8, repetition_penalty=1.3),
    "beams": Generation(max_new_tokens=8, num_beams=3, length_penalty=0.6),
    "draw": Generation(max_new_tokens=8, do_sample=True, seed=3),
    "narrow draw": Generation(max_new_tokens=8, do_sample=True, seed=3, top_p=0.3, temperature=0.5),
}


def say(rows, generation: Generation):
    if generate.is_plain_greedy(generation):
        return generate.greedy(MODEL.llama(), rows, generation, ENDS, 2)
    return generate.searched(LLM, rows, generation, ENDS)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_row_says_what_it_says_alone(name: str) -> None:
    generation = STRATEGIES[name]
    together = say(prompts(*TEXTS), generation)
    for text, answer in zip(TEXTS, together, strict=True):
        alone = say(prompts(text), generation)[0]
        assert alone.token_ids == answer.token_ids
        assert alone.finish == answer.finish
        assert alone.log_probability == pytest.approx(answer.log_probability, abs=1e-4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_log_probabilities_are_those_of_the_answer(name: str) -> None:
    rows = prompts(*TEXTS)
    for row, answer in zip(rows, say(rows, STRATEGIES[name]), strict=True):
        ids = list(answer.token_ids)
        embeds = torch.cat([row.embeds, TABLE[ids]])[None]
        with torch.no_grad():
            logits = LLM(inputs_embeds=embeds).logits[0, len(row.embeds) - 1 :]
        logits[:, list(ENDS.forbidden_ids)] = float("-inf")
        steps = logits.log_softmax(-1)
        total = sum(float(steps[i, t]) for i, t in enumerate(ids))
        if answer.finish == "stop":  # which stop token it was is not kept: one of them
            last = [total + float(steps[len(ids), stop]) for stop in ENDS.stop_ids]
            assert any(answer.log_probability == pytest.approx(t, abs=1e-3) for t in last)
        else:
            assert answer.log_probability == pytest.approx(total, abs=1e-3)


def test_both_roads_of_greedy_agree() -> None:
    rows = prompts(*TEXTS)
    plain = say(rows, STRATEGIES["greedy"])
    through = generate.searched(LLM, rows, STRATEGIES["greedy"], ENDS)
    assert [r.token_ids for r in plain] == [r.token_ids for r in through]


def test_draws_repeat_with_a_seed_and_differ_without() -> None:
    rows = prompts("a")
    seeded = Generation(max_new_tokens=12, do_sample=True, seed=1)
    assert say(rows, seeded) == say(rows, seeded)
    other = Generation(max_new_tokens=12, do_sample=True, seed=2)
    assert say(rows, seeded)[0].token_ids != say(rows, other)[0].token_ids
    free = Generation(max_new_tokens=12, do_sample=True)
    assert len({say(rows, free)[0].token_ids for _ in range(4)}) > 1


def test_draws_follow_the_models_probabilities() -> None:
    row = prompts("a")[0]
    with torch.no_grad():
        logits = LLM(inputs_embeds=row.embeds[None]).logits[0, -1]
    best = int(logits.argmax())
    share = float((logits / 0.5).softmax(-1)[best])
    hits, draws = 0, 200
    for seed in range(draws):
        one = Generation(max_new_tokens=1, do_sample=True, seed=seed, temperature=0.5, top_p=1.0)
        said = generate.searched(LLM, [row], one, ENDS)[0]
        hits += said.token_ids == (best,)
    assert hits / draws == pytest.approx(share, abs=4 * (share * (1 - share) / draws) ** 0.5 + 1e-3)


def test_the_padding_row_is_never_said(monkeypatch: pytest.MonkeyPatch) -> None:
    (pad,) = ENDS.forbidden_ids
    head = LLM.lm_head.weight
    kept = head.detach().clone()
    with torch.no_grad():
        head[pad] = 50 * head.mean(0)
        head[pad] += 50 * torch.sign(head.sum(0))
    try:
        for generation in STRATEGIES.values():
            for answer in say(prompts(*TEXTS), generation):
                assert pad not in answer.token_ids
    finally:
        with torch.no_grad():
            head.copy_(kept)


NAMES = ("Gray Wolf", "Gray Wolfhound", "Green Treefrog", "None")


@pytest.mark.parametrize("name", STRATEGIES)
def test_constraints_hold_each_row_by_its_own_trie(name: str) -> None:
    spell = Speller(lambda t: list(MODEL.tokenizer(t, add_special_tokens=False).input_ids))
    held = [spell.one_of(NAMES), None, spell.one_of(["yes", "no"])]
    generation = Generation(
        **{**STRATEGIES[name].__dict__, "max_new_tokens": 24, "stop_rule": "row"}
    )
    answers = say(prompts(*TEXTS, held=held), generation)
    texts = [MODEL.tokenizer.decode(list(a.token_ids)) for a in answers]
    assert texts[0] in NAMES
    assert texts[2] in ("yes", "no")
    assert answers[0].finish == answers[2].finish == "stop"
    alone = say(prompts(TEXTS[1]), generation)[0]
    assert alone.token_ids == answers[1].token_ids


def test_a_trie_that_allows_nothing_ends_the_answer() -> None:
    empty = TokenTrie([])
    assert END not in empty.allowed([])
    for generation in (STRATEGIES["greedy"], STRATEGIES["beams"]):
        assert say(prompts("a", held=[empty]), generation)[0].token_ids == ()


def test_length_ends_an_answer() -> None:
    lengths = {a.finish: len(a.token_ids) for a in say(prompts("a"), Generation(max_new_tokens=2))}
    assert lengths in ({"length": 2}, {"stop": 0}, {"stop": 1})


def test_published_stop_ends_the_batch_by_its_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = prompts(*TEXTS)
    plain = say(rows, Generation(max_new_tokens=8))
    first = plain[0].token_ids[2]
    monkeypatch.setattr(generate, "PUBLISHED_STOP_ID", first)
    stopped = say(rows, STRATEGIES["published stop"])
    cut = plain[0].token_ids.index(first) + 1
    assert [a.token_ids for a in stopped] == [a.token_ids[:cut] for a in plain]
    assert [a.token_ids for a in say(rows, Generation(max_new_tokens=8))] == [
        a.token_ids for a in plain
    ]
