"""Rows decoded in slots say what each would say alone."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from NatureLM.models.grammar import TokenTrie
from NatureLM.models.llama import Llama
from NatureLM.models.slots import SlotAnswer, SlotDecoder, SlotPrompt, SlotSettings


@pytest.fixture(scope="module")
def llm() -> LlamaForCausalLM:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=31,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def prompts(llm: LlamaForCausalLM, count: int) -> list[SlotPrompt]:
    generator = torch.Generator().manual_seed(3)
    embedding = llm.model.embed_tokens.weight.detach()
    lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
    return [SlotPrompt(embedding[torch.randint(0, 31, (n,), generator=generator)]) for n in lengths]


def alone(llm: LlamaForCausalLM, prompt: SlotPrompt, stops: list[int], most: int) -> list[int]:
    out = llm.generate(
        inputs_embeds=prompt.embeds[None],
        attention_mask=torch.ones(1, len(prompt.embeds), dtype=torch.long),
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=0,
    )[0].tolist()
    return out[: next((i for i, t in enumerate(out) if t in stops), len(out))]


STOPS = (4, 9, 17)


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("look_every", [1, 4])
def test_every_prompt_gets_the_answer_it_would_get_alone(
    llm: LlamaForCausalLM, slots: int, look_every: int
) -> None:
    asked = prompts(llm, 11)
    settings = SlotSettings(STOPS, max_new_tokens=7, slots=slots, look_every=look_every)
    got = dict(SlotDecoder(Llama(llm), settings).answers(iter(asked), 8))
    assert sorted(got) == list(range(11))
    for place, prompt in enumerate(asked):
        want = alone(llm, prompt, list(STOPS), 7)
        assert list(got[place].token_ids) == want
        assert got[place].finish == ("length" if len(want) == 7 else "stop")
    assert {a.finish for a in got.values()} == {"stop", "length"}


def test_log_probabilities_are_the_models(llm: LlamaForCausalLM) -> None:
    (prompt,) = prompts(llm, 1)
    settings = SlotSettings(STOPS, max_new_tokens=4, slots=2)
    answer: SlotAnswer = dict(SlotDecoder(Llama(llm), settings).answers([prompt], 8))[0]
    embedding = llm.model.embed_tokens.weight
    ids = torch.tensor(answer.token_ids)
    with torch.no_grad():
        logits = llm(inputs_embeds=torch.cat([prompt.embeds, embedding[ids]])[None]).logits[0]
    steps = logits[len(prompt.embeds) - 1 :].log_softmax(-1)
    total = sum(float(steps[i, t]) for i, t in enumerate(answer.token_ids))
    if answer.finish == "stop":
        total += max(float(steps[len(ids), s]) for s in STOPS)
    assert answer.log_probability == pytest.approx(total, abs=1e-4)


def test_a_trie_holds_its_row_and_no_other(llm: LlamaForCausalLM) -> None:
    asked = prompts(llm, 6)
    held = {1: [(5, 6, 7)], 4: [(5, 6), (5, 6, 8), (12,)]}
    mixed = [
        SlotPrompt(p.embeds, TokenTrie(held[i]) if i in held else None) for i, p in enumerate(asked)
    ]
    settings = SlotSettings(STOPS, max_new_tokens=7, slots=4)
    got = dict(SlotDecoder(Llama(llm), settings).answers(mixed, 8))
    for place, prompt in enumerate(asked):
        if place in held:
            assert got[place].token_ids in held[place]
        else:
            assert list(got[place].token_ids) == alone(llm, prompt, list(STOPS), 7)


def test_a_forbidden_token_is_never_said(llm: LlamaForCausalLM) -> None:
    asked = prompts(llm, 8)
    free = dict(SlotDecoder(Llama(llm), SlotSettings(STOPS, max_new_tokens=7)).answers(asked, 8))
    usual = free[0].token_ids[0]
    settings = SlotSettings(STOPS, (usual,), max_new_tokens=7)
    held = dict(SlotDecoder(Llama(llm), settings).answers(asked, 8))
    assert all(usual not in answer.token_ids for answer in held.values())
