"""Text embeddings and audio tokens into one sequence a row, then rows into a padded batch.

Knows token ids and tensors; the text was made by ``prompts``. The surprise: every part between two recordings is tokenised by itself,
so no merge reaches across a recording, and a user's text is tokenised with special tokens switched off only when it spells one,
so that ordinary text gives the ids that the published model saw (MODEL specification, section 7.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from NatureLM.errors import PromptError
from NatureLM.prompts import Piece, Prompt


def token_ids(prompt: Prompt, tokenizer: Any) -> list[list[int]]:
    """Tokenise each part of a prompt, the begin-of-text token in front of the first."""
    special = [str(t) for t in tokenizer.get_added_vocab()]
    parts = [_part_ids(part, tokenizer, special) for part in prompt.parts]
    if prompt.begin:
        parts[0] = [tokenizer.bos_token_id, *parts[0]]
    return parts


def text_ids(text: str, tokenizer: Any) -> list[int]:
    """Tokenise a user's text: ordinary text as ever, special tokens that it spells as letters."""
    special = [str(t) for t in tokenizer.get_added_vocab()]
    return _part_ids((Piece(text, trusted=False),), tokenizer, special)


def spliced(
    parts: Sequence[Sequence[int]],
    audio: Sequence[Float[Tensor, "_ width"]],
    embedding: Float[Tensor, "vocabulary width"],
) -> Float[Tensor, "tokens width"]:
    """Interleave parts of text and the recordings between them.

    Args:
        parts: Token ids of each part, one more than recordings.
        audio: Audio tokens of each recording.
        embedding: The LLM's input embedding.

    Raises:
        PromptError: The numbers do not fit.
    """
    if len(parts) != len(audio) + 1:
        raise PromptError(
            f"The prompt has room for {len(parts) - 1} recordings and {len(audio)} came with it."
        )
    rows: list[Tensor] = []
    for index, ids in enumerate(parts):
        where = torch.tensor(list(ids), dtype=torch.long, device=embedding.device)
        rows.append(torch.nn.functional.embedding(where, embedding))
        if index < len(audio):
            rows.append(audio[index].to(embedding.dtype))
    return torch.cat(rows)


def padded(
    rows: Sequence[Float[Tensor, "_ width"]], side: str
) -> tuple[Float[Tensor, "batch tokens width"], Int[Tensor, "batch tokens"]]:
    """Pad rows with zeros to one batch.

    Args:
        rows: Sequences of embeddings.
        side: ``left`` for generation, so that all rows end together; ``right`` for the loss.

    Returns:
        The batch and its attention mask.
    """
    batch = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True, padding_side=side)
    lengths = torch.tensor([len(row) for row in rows], device=batch.device)[:, None]
    place = torch.arange(batch.shape[1], device=batch.device)[None]
    real = place >= batch.shape[1] - lengths if side == "left" else place < lengths
    return batch, real.long()


def _part_ids(part: tuple[Piece, ...], tokenizer: Any, special: Sequence[str]) -> list[int]:
    if not any(token in p.text for p in part if not p.trusted for token in special):
        text = "".join(p.text for p in part)
        return list(tokenizer(text, add_special_tokens=False).input_ids) if text else []
    ids: list[int] = []
    for piece in part:
        call = tokenizer(
            piece.text, add_special_tokens=False, split_special_tokens=not piece.trusted
        )
        ids += call.input_ids
    return ids
