"""Log-probabilities of offered options under the model, all options of a row in one pass.

Knows prompts as embeddings and options as token ids. The surprise: the options of a row share their beginnings as one tree behind the
prompt, each token seeing the prompt and its own ancestors only, so a list of names costs about its distinct tokens; long
lists go in groups behind the same cached prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from NatureLM.models.generate import Ends
from NatureLM.models.llama import Llama, SlotCache

MOST_NODES = 512
"""Tokens of options read in one pass behind a prompt; bounds the logits that are held at once."""


@dataclass
class _Tree:
    """Token ids as a tree: node i has a token and a parent; -1 is the prompt's end."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Sequence[Sequence[int]]) -> _Tree:
        """Grow a tree of all options."""
        tree = cls()
        for ids in options:
            tree.add(ids)
        return tree

    def add(self, ids: Sequence[int]) -> list[int]:
        """Walk along ``ids``, growing what is missing; return the nodes passed."""
        at, path = -1, []
        for token in ids:
            if (at, token) not in self.children:
                self.children[at, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(at)
            at = self.children[at, token]
            path.append(at)
        return path

    def sees(self) -> Tensor:
        """Say which node sees which: its ancestors and itself."""
        seen = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


@torch.inference_mode()
def option_scores(
    llama: Llama,
    prompts: Sequence[Float[Tensor, "_ width"]],
    options: Sequence[Sequence[Sequence[int]]],
    ends: Ends,
) -> list[list[float]]:
    """Score every option of every row.

    Args:
        llama: The LLM with its adapter folded in.
        prompts: One prompt a row, as embeddings.
        options: Token ids of each option of each row.
        ends: An option's score includes the probability that the answer ends behind it.

    Returns:
        Natural log-probabilities of "this option and then the end".
    """
    rounds = [list(_groups(row)) for row in options]
    sizes = [len(_Tree.of(group).tokens) for row in rounds for group in row]
    if not sizes:
        return [[] for _ in options]
    lengths = torch.tensor([len(p) for p in prompts], device=llama.device)
    batch = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
    cache = llama.cache(len(prompts), batch.shape[1] + max(sizes))
    first = _log_softmax(llama.prefill(batch, cache, lengths), ends)
    scores: list[list[float]] = [[] for _ in options]
    for index in range(max(map(len, rounds))):
        groups = [row[index] if index < len(row) else [] for row in rounds]
        for row, group in enumerate(_round(llama, cache, first, groups, ends)):
            scores[row] += group
    return scores


def _round(
    llama: Llama,
    cache: SlotCache,
    first: Tensor,
    groups: Sequence[Sequence[Sequence[int]]],
    ends: Ends,
) -> list[list[float]]:
    """Score one group of options a row behind the prompts in the cache."""
    trees = [_Tree.of(group) for group in groups]
    paths = [[tree.add(ids) for ids in group] for tree, group in zip(trees, groups, strict=True)]
    tokens, sees = (t.to(llama.device) for t in _stacked(trees))
    hidden = llama.extend(llama.embed(tokens), cache, sees.sum(-1) - 1, sees)
    stops = torch.tensor(list(ends.stop_ids), device=llama.device)
    scores: list[list[float]] = []
    for row, tree in enumerate(trees):
        if not tree.tokens:
            scores.append([])
            continue
        steps = _log_softmax(llama.logits(hidden[row, : len(tree.tokens)]), ends)
        after = torch.cat([first[row][None], steps])  # the prompt's end is node -1, kept in front
        gain = after[torch.tensor(tree.parents) + 1, torch.tensor(tree.tokens)].tolist()
        end = after[1:, stops].logsumexp(-1).tolist()
        scores.append([sum(gain[n] for n in path) + end[path[-1]] for path in paths[row]])
    return scores


@torch.inference_mode()
def recomputed_scores(
    llm: Any,
    prompts: Sequence[Float[Tensor, "_ width"]],
    options: Sequence[Sequence[Sequence[int]]],
    ends: Ends,
) -> list[list[float]]:
    """Score options as ``option_scores`` does, one whole pass an option: for LLMs that are no Llama, and to check against.

    Args:
        llm: Any causal LLM of transformers, its adapter scaled as wanted.
        prompts: As for ``option_scores``.
        options: As for ``option_scores``.
        ends: As for ``option_scores``.
    """
    table = llm.get_input_embeddings().weight
    stops = torch.tensor(list(ends.stop_ids), device=table.device)
    scores: list[list[float]] = []
    for prompt, row in zip(prompts, options, strict=True):
        scores.append([])
        for option in row:
            ids = torch.tensor(list(option), device=table.device)
            embeds = torch.cat([prompt, torch.nn.functional.embedding(ids, table)])
            logits = llm(inputs_embeds=embeds[None], use_cache=False).logits[0, len(prompt) - 1 :]
            steps = _log_softmax(logits, ends)
            said = steps[:-1].gather(1, ids[:, None]).sum()
            scores[-1].append(float(said + steps[-1, stops].logsumexp(-1)))
    return scores


def shares(scores: Sequence[float], prior: Sequence[float] | None = None) -> list[float]:
    """Turn log-probabilities of options into probabilities over the options.

    Args:
        scores: Log-probabilities given the audio.
        prior: Log-probabilities of the same options without audio, which are taken off.
    """
    gains = [s - p for s, p in zip(scores, prior or [0.0] * len(scores), strict=True)]
    highest = max(gains)
    weights = [math.exp(gain - highest) for gain in gains]
    return [weight / sum(weights) for weight in weights]


def _groups(options: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Part the options of a row into groups whose trees stay small, in order."""
    group: list[Sequence[int]] = []
    tokens = 0
    for option in options:
        if group and tokens + len(option) > MOST_NODES:
            yield group
            group, tokens = [], 0
        group.append(option)
        tokens += len(option)
    if group:
        yield group


def _log_softmax(logits: Tensor, ends: Ends) -> Tensor:
    logits = logits.float()
    logits[..., list(ends.forbidden_ids)] = float("-inf")
    return logits.log_softmax(-1)


def _stacked(trees: Sequence[_Tree]) -> tuple[Tensor, Tensor]:
    most = max(1, *(len(tree.tokens) for tree in trees))
    tokens = torch.zeros(len(trees), most, dtype=torch.long)
    sees = torch.eye(most, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        size = len(tree.tokens)
        tokens[row, :size] = torch.tensor(tree.tokens, dtype=torch.long)
        sees[row, :size, :size] = tree.sees()
    return tokens, sees
