"""The loss of reference answers behind spliced prompts.

Knows embeddings and token ids. The surprise: prompt and reference are joined before any padding, so nothing stands between them, and
rows are then padded on the right (MODEL specification, section 7.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int
from torch import Tensor

from NatureLM.models.splice import padded
from NatureLM.prompts import Prompt

IGNORED = -100


@dataclass(frozen=True)
class TrainingBatch:
    """Examples to learn from.

    Attributes:
        waveforms: All recordings of all examples in order, padded at the end.
        lengths: True samples of each recording.
        prompts: One an example; says how many recordings it takes.
        texts: Reference answers, without end symbol.
    """

    waveforms: Float[Tensor, "recordings samples"]
    lengths: Int[Tensor, " recordings"]
    prompts: tuple[Prompt, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class LossOutput:
    """What teacher forcing gives.

    Attributes:
        loss: Mean cross-entropy over all reference tokens of the batch.
        correct: Reference tokens that were the most probable.
        total: Reference tokens.
        per_example_loss: Mean over each example's tokens.
        per_example_correct: As ``correct``, by example.
        per_example_total: As ``total``, by example.
        logits: (batch, tokens, vocabulary).
        labels: Reference ids, -100 elsewhere, aligned with the inputs.
        attention_mask: 1 where a token is.
        inputs_embeds: What the LLM read.
    """

    loss: Float[Tensor, ""]
    correct: int
    total: int
    per_example_loss: Float[Tensor, " batch"]
    per_example_correct: Int[Tensor, " batch"]
    per_example_total: Int[Tensor, " batch"]
    logits: Float[Tensor, "batch tokens vocabulary"]
    labels: Int[Tensor, "batch tokens"]
    attention_mask: Int[Tensor, "batch tokens"]
    inputs_embeds: Float[Tensor, "batch tokens width"]


def teacher_forced(
    llm: Any,
    prompts: Sequence[Float[Tensor, "_ width"]],
    references: Sequence[Sequence[int]],
    embedding: Float[Tensor, "vocabulary width"],
) -> LossOutput:
    """Run the LLM over prompts and references and compare.

    Args:
        llm: The LLM.
        prompts: One sequence of embeddings an example.
        references: Token ids of each example's answer, its end symbol included.
        embedding: The LLM's input embedding.
    """
    ids = [torch.tensor(list(r), dtype=torch.long, device=embedding.device) for r in references]
    rows = [torch.cat([p, F.embedding(r, embedding)]) for p, r in zip(prompts, ids, strict=True)]
    inputs, mask = padded(rows, "right")
    labels = torch.full(mask.shape, IGNORED, device=mask.device)
    for row, (prompt, reference) in enumerate(zip(prompts, ids, strict=True)):
        labels[row, len(prompt) : len(prompt) + len(reference)] = reference
    logits = llm(inputs_embeds=inputs, attention_mask=mask, use_cache=False).logits
    said, target = logits[:, :-1], labels[:, 1:]
    losses = F.cross_entropy(
        said.float().transpose(1, 2), target, ignore_index=IGNORED, reduction="none"
    )
    counted = target != IGNORED
    totals = counted.sum(1)
    right = ((said.argmax(-1) == target) & counted).sum(1)
    return LossOutput(
        losses.sum() / totals.sum(),
        int(right.sum()),
        int(totals.sum()),
        losses.sum(1) / totals.clamp_min(1),
        right,
        totals,
        logits,
        labels,
        mask,
        inputs,
    )
