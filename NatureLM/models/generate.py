"""Text from spliced prompts: greedy in slots, beams and sampling through transformers.

Knows embeddings, tries and stop tokens; nothing of audio or templates. The surprise: ``stop_rule="published"`` repeats the
reference, whose batch stops as a whole when its first row says token 2, which in Llama 3 is ``#`` (MODEL specification, 7.4).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from NatureLM.config import Generation
from NatureLM.models.grammar import END, Trie
from NatureLM.models.llama import Llama
from NatureLM.models.slots import SlotAnswer, SlotDecoder, SlotPrompt, SlotSettings
from NatureLM.models.splice import padded

PUBLISHED_STOP_ID = 2


@dataclass(frozen=True)
class Ends:
    """Tokens with a special part in generation.

    Attributes:
        stop_ids: End an answer.
        forbidden_ids: Are never said.
    """

    stop_ids: tuple[int, ...]
    forbidden_ids: tuple[int, ...] = ()


def is_plain_greedy(generation: Generation) -> bool:
    """Tell whether slots can decode it."""
    return (
        generation.num_beams == 1
        and not generation.do_sample
        and generation.repetition_penalty == 1.0
        and generation.stop_rule == "row"
    )


def greedy(
    llama: Llama, prompts: Sequence[SlotPrompt], generation: Generation, ends: Ends, slots: int
) -> list[SlotAnswer]:
    """Decode greedily; each row says what it would say alone.

    Args:
        llama: The LLM with its adapter folded in.
        prompts: Prompts and what holds their answers.
        generation: Its ``max_new_tokens`` counts.
        ends: Stop and forbidden tokens.
        slots: Rows decoded together at most.
    """
    settings = SlotSettings(
        ends.stop_ids, ends.forbidden_ids, generation.max_new_tokens, min(slots, len(prompts))
    )
    longest = max(len(p.embeds) for p in prompts)
    by_place = dict(SlotDecoder(llama, settings).answers(prompts, longest))
    return [by_place[place] for place in range(len(prompts))]


@torch.inference_mode()
def searched(
    llm: Any, prompts: Sequence[SlotPrompt], generation: Generation, ends: Ends
) -> list[SlotAnswer]:
    """Decode by beams, by sampling or with a repetition penalty, through transformers.

    Args:
        llm: The LLM, its adapter scaled as wanted.
        prompts: Prompts and what holds their answers.
        generation: How to decode.
        ends: Stop and forbidden tokens.
    """
    embeds, mask = padded([p.embeds for p in prompts], "left")
    out = llm.generate(
        inputs_embeds=embeds,
        attention_mask=mask,
        **_arguments(generation, ends),
        **_extras(prompts, generation, ends),
    )
    ids = out.sequences
    scores = llm.compute_transition_scores(
        ids, out.scores, getattr(out, "beam_indices", None), normalize_logits=True
    )
    return [
        _cut(row.tolist(), gain, ends, generation) for row, gain in zip(ids, scores, strict=True)
    ]


def _arguments(generation: Generation, ends: Ends) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "max_new_tokens": generation.max_new_tokens,
        "num_beams": generation.num_beams,
        "do_sample": generation.do_sample,
        "repetition_penalty": generation.repetition_penalty,
        "eos_token_id": list(ends.stop_ids),
        "pad_token_id": ends.stop_ids[0],
        "return_dict_in_generate": True,
        "output_scores": True,
    }
    if generation.num_beams > 1:
        chosen["length_penalty"] = generation.length_penalty
    if generation.do_sample:
        chosen |= {"temperature": generation.temperature, "top_p": generation.top_p}
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
    else:
        chosen |= {"temperature": None, "top_p": None, "top_k": None}
    if ends.forbidden_ids:
        chosen["suppress_tokens"] = list(ends.forbidden_ids)
    return chosen


def _extras(prompts: Sequence[SlotPrompt], generation: Generation, ends: Ends) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if generation.stop_rule == "published":
        extras["stopping_criteria"] = StoppingCriteriaList([_FirstRowStops()])
    if any(p.constraint is not None for p in prompts):
        extras["prefix_allowed_tokens_fn"] = _allowed_by([p.constraint for p in prompts], ends)
    return extras


class _FirstRowStops(StoppingCriteria):
    """The reference's rule: everything ends when the first row has said token 2."""

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        """Say for every row whether it has ended."""
        ended = bool(input_ids.shape[1]) and int(input_ids[0, -1]) == PUBLISHED_STOP_ID
        return torch.full((len(input_ids),), ended, device=input_ids.device, dtype=torch.bool)


def _allowed_by(
    constraints: Sequence[Trie | None], ends: Ends
) -> Callable[[int, Tensor], list[int]]:
    def allowed(row: int, said: Tensor) -> list[int]:
        trie = constraints[row]
        if trie is None:
            return []
        ids = list(trie.allowed(said.tolist()))
        return [i for i in ids if i != END] + (list(ends.stop_ids) if END in ids or not ids else [])

    return allowed


def _cut(
    ids: list[int], gains: Float[Tensor, " said"], ends: Ends, generation: Generation
) -> SlotAnswer:
    stop = next((i for i, token in enumerate(ids) if token in ends.stop_ids), len(ids))
    finish: Literal["stop", "length"] = (
        "length" if stop == len(ids) and len(ids) >= generation.max_new_tokens else "stop"
    )
    total = gains[: stop + 1]
    return SlotAnswer(tuple(ids[:stop]), float(total[total.isfinite()].sum()), finish)
