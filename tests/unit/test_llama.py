"""The fused Llama says what transformers' Llama says, row by row, whatever stands beside a row."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from NatureLM.models.llama import Llama


@pytest.fixture(scope="module")
def reference() -> LlamaForCausalLM:
    torch.manual_seed(0)
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_parameters=rope,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def ours(reference: LlamaForCausalLM) -> Llama:
    return Llama(reference)


def expected(reference: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return reference(ids[None]).logits[0]


ROWS = [[5, 9, 2, 44, 7, 80], [3], [11, 12, 13]]


def prefilled(ours: Llama, rows: list[list[int]], capacity: int = 20):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    cache = ours.cache(len(rows), capacity)
    logits = ours.prefill(ours.embedding[ids], cache, torch.tensor([len(r) for r in rows]))
    return cache, logits


def test_prompts_of_unequal_length_share_a_batch(reference: LlamaForCausalLM, ours: Llama) -> None:
    _, logits = prefilled(ours, ROWS)
    for row, got in zip(ROWS, logits, strict=True):
        torch.testing.assert_close(
            got, expected(reference, torch.tensor(row))[-1], atol=2e-5, rtol=0
        )


def test_steps_go_on_where_each_prompt_ended(reference: LlamaForCausalLM, ours: Llama) -> None:
    cache, _ = prefilled(ours, ROWS)
    written = [[21, 33, 4], [90, 2, 2], [8, 1, 60]]
    for place in range(3):
        logits = ours.step(torch.tensor([w[place] for w in written]), cache)
        for row, new, got in zip(ROWS, written, logits, strict=True):
            whole = torch.tensor(row + new[: place + 1])
            torch.testing.assert_close(got, expected(reference, whole)[-1], atol=2e-5, rtol=0)


def test_an_extension_is_read_behind_the_prompt_and_can_be_taken_back(
    reference: LlamaForCausalLM, ours: Llama
) -> None:
    cache, _ = prefilled(ours, ROWS)
    for more in ([[1, 2], [3, 4], [5, 6]], [[70, 71], [72, 73], [74, 75]]):
        got = ours.logits(ours.extend(ours.embedding[torch.tensor(more)], cache))
        for row, new, logits in zip(ROWS, more, got, strict=True):
            want = expected(reference, torch.tensor(row + new))[len(row) :]
            torch.testing.assert_close(logits, want, atol=2e-5, rtol=0)


def test_a_tree_of_options_costs_one_pass(reference: LlamaForCausalLM, ours: Llama) -> None:
    cache, _ = prefilled(ours, ROWS)
    tree, parents = [4, 5, 6, 7], [-1, 0, 0, 2]  # 4-5, 4-6-7
    paths = {1: [4, 5], 3: [4, 6, 7]}
    sees = torch.zeros(4, 4, dtype=torch.bool)
    for node in range(4):
        at = node
        while at >= 0:
            sees[node, at] = True
            at = parents[at]
    depths = (sees.sum(1) - 1).expand(3, 4)
    embeds = ours.embedding[torch.tensor(tree)].expand(3, 4, -1)
    got = ours.logits(ours.extend(embeds, cache, depths, sees.expand(3, 4, 4)))
    for row, logits in zip(ROWS, got, strict=True):
        for node, path in paths.items():
            want = expected(reference, torch.tensor(row + path))[-1]
            torch.testing.assert_close(logits[node], want, atol=2e-5, rtol=0)


def test_rows_move_between_caches(ours: Llama) -> None:
    small, _ = prefilled(ours, ROWS)
    big = ours.cache(5, 32)
    big.copy_rows(small, torch.tensor([2, 0]), torch.tensor([4, 1]))
    tokens = torch.tensor([0, 17, 0, 0, 23])
    alone, _ = prefilled(ours, [ROWS[0]])
    torch.testing.assert_close(
        ours.step(tokens, big)[1], ours.step(torch.tensor([17]), alone)[0], atol=2e-5, rtol=0
    )
