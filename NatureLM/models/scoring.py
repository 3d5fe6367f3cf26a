"""Log-probabilities of offered options under the model, all options of a row in one pass.

Knows prompts as embeddings and options as token ids. The surprise: the options of a row share their beginnings as one tree behind the
prompt, each token seeing the prompt and its own ancestors only, so a list of names costs about its distinct tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from NatureLM.models.llama import Llama


@dataclass
class _Tree:
    """Token ids as a tree: node i has a token and a parent; -1 is the prompt's end."""

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

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
    stop_ids: Sequence[int],
) -> list[list[float]]:
    """Score every option of every row.

    Args:
        llama: The LLM with its adapter folded in.
        prompts: One prompt a row, as embeddings.
        options: Token ids of each option of each row.
        stop_ids: An option's score includes the probability that the answer ends there.

    Returns:
        Natural log-probabilities of "this option and then the end".
    """
    trees = [_Tree() for _ in options]
    paths = [[tree.add(ids) for ids in row] for tree, row in zip(trees, options, strict=True)]
    most = max(len(tree.tokens) for tree in trees)
    lengths = torch.tensor([len(p) for p in prompts], device=llama.device)
    batch = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
    cache = llama.cache(len(prompts), batch.shape[1] + most)
    first = llama.prefill(batch, cache, lengths).float().log_softmax(-1)
    tokens, sees = _stacked(trees, most)
    tokens, sees = tokens.to(llama.device), sees.to(llama.device)
    hidden = llama.extend(llama.embed(tokens), cache, sees.sum(-1) - 1, sees)
    stops = torch.tensor(list(stop_ids), device=llama.device)
    scores = []
    for row, tree in enumerate(trees):
        steps = llama.logits(hidden[row, : len(tree.tokens)]).float().log_softmax(-1)
        after = torch.cat([first[row][None], steps])  # the prompt's end is node -1, kept in front
        gain = after[torch.tensor(tree.parents) + 1, torch.tensor(tree.tokens)].tolist()
        ends = after[1:, stops].logsumexp(-1).tolist()
        scores.append([sum(gain[n] for n in path) + ends[path[-1]] for path in paths[row]])
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


def _stacked(trees: Sequence[_Tree], most: int) -> tuple[Tensor, Tensor]:
    tokens = torch.zeros(len(trees), most, dtype=torch.long)
    sees = torch.eye(most, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, tree in enumerate(trees):
        size = len(tree.tokens)
        tokens[row, :size] = torch.tensor(tree.tokens)
        sees[row, :size, :size] = tree.sees()
    return tokens, sees
