"""Text from spliced prompts: greedy in slots, beams and sampling through transformers.

Knows embeddings, tries and stop tokens; nothing of audio or templates. The surprises: ``stop_rule="published"`` repeats the
reference, whose batch stops as a whole when its first row says token 2, which in Llama 3 is ``#`` (MODEL specification, 7.4);
and a draw with a seed is the same for a row whatever its neighbours are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

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
    extras = _extras(prompts, generation, ends, llm.config.vocab_size)
    with warnings.catch_warnings():
        # That the penalty sees new tokens only is what the reference does, too.
        warnings.filterwarnings("ignore", "Passing `repetition_penalty`", UserWarning)
        said = llm.generate(
            inputs_embeds=embeds, attention_mask=mask, **_arguments(generation, ends), **extras
        )
    cut = [_cut(row, ends) for row in said.tolist()]
    gains = answer_log_probabilities(llm, [p.embeds for p in prompts], cut, ends.forbidden_ids)
    return [_answer(ids, gain, ends, generation) for ids, gain in zip(cut, gains, strict=True)]


@torch.inference_mode()
def answer_log_probabilities(
    llm: Any,
    prompts: Sequence[Float[Tensor, "_ width"]],
    answers: Sequence[Sequence[int]],
    forbidden_ids: Sequence[int] = (),
) -> list[float]:
    """Sum the log-probabilities of answers by one pass of the LLM over prompts and answers.

    Args:
        llm: The LLM, its adapter scaled as wanted.
        prompts: Embeddings of each prompt.
        answers: Token ids of each answer, its stop token included where it has one.
        forbidden_ids: Tokens that are never said and so have no probability.
    """
    table = llm.get_input_embeddings().weight
    ids = [torch.tensor(list(a), dtype=torch.long, device=table.device) for a in answers]
    rows = [torch.cat([p, F.embedding(i, table)]) for p, i in zip(prompts, ids, strict=True)]
    batch, mask = padded(rows, "right")
    hidden = llm.get_decoder()(
        inputs_embeds=batch, attention_mask=mask, use_cache=False
    ).last_hidden_state
    head, sums = llm.get_output_embeddings(), []
    for row, (prompt, answer) in enumerate(zip(prompts, ids, strict=True)):
        start = len(prompt) - 1
        steps = head(hidden[row, start : start + len(answer)]).float()
        steps[:, list(forbidden_ids)] = float("-inf")
        sums.append(float(steps.log_softmax(-1).gather(1, answer[:, None]).sum()))
    return sums


def _arguments(generation: Generation, ends: Ends) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "max_new_tokens": generation.max_new_tokens,
        "num_beams": generation.num_beams,
        "do_sample": generation.do_sample and generation.num_beams > 1,
        "repetition_penalty": generation.repetition_penalty,
        "eos_token_id": list(ends.stop_ids),
        "pad_token_id": ends.stop_ids[0],
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }
    if generation.num_beams > 1:
        chosen["length_penalty"] = generation.length_penalty
    if chosen["do_sample"]:
        chosen |= {"temperature": generation.temperature, "top_p": generation.top_p}
        if generation.seed is not None:
            torch.manual_seed(generation.seed)
    if ends.forbidden_ids:
        chosen["suppress_tokens"] = list(ends.forbidden_ids)
    return chosen


def _extras(
    prompts: Sequence[SlotPrompt], generation: Generation, ends: Ends, vocabulary: int
) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if generation.stop_rule == "published":
        extras["stopping_criteria"] = StoppingCriteriaList([_FirstRowStops()])
    if any(p.constraint is not None for p in prompts):
        held = [p.constraint for p in prompts]
        extras["prefix_allowed_tokens_fn"] = _allowed_by(held, ends, vocabulary)
    if generation.do_sample and generation.num_beams == 1:
        extras["logits_processor"] = LogitsProcessorList([_Draw(generation)])
    return extras


class _Draw(LogitsProcessor):
    """Draw by adding Gumbel noise and taking the maximum, so that a row's draw hangs on no other row.

    With a seed every row of every batch is given the same noise: the same prompt says the same.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._warpers = LogitsProcessorList(
            [TemperatureLogitsWarper(float(generation.temperature))]
        )
        if generation.top_p < 1:
            self._warpers.append(TopPLogitsWarper(generation.top_p))
        self._noise = torch.Generator()
        if generation.seed is None:
            self._noise.seed()
        else:
            self._noise.manual_seed(generation.seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Turn logits into noisy ones whose maximum is a draw."""
        rows = 1 if self._generation.seed is not None else len(scores)
        even = torch.rand(rows, scores.shape[1], generator=self._noise, dtype=torch.float64)
        gumbel = -(-even.clamp_min(1e-300).log()).clamp_min(1e-300).log()
        warped: Tensor = self._warpers(input_ids, scores.float())
        return warped.log_softmax(-1) + gumbel.to(scores.device, torch.float32)


class _FirstRowStops(StoppingCriteria):
    """The reference's rule: everything ends when the first row has said token 2."""

    def __call__(self, input_ids: Tensor, _scores: Any, **_: Any) -> Tensor:
        """Say for every row whether it has ended."""
        ended = bool(input_ids.shape[1]) and int(input_ids[0, -1]) == PUBLISHED_STOP_ID
        return torch.full((len(input_ids),), ended, device=input_ids.device, dtype=torch.bool)


def _allowed_by(
    constraints: Sequence[Trie | None], ends: Ends, vocabulary: int
) -> Callable[[int, Tensor], list[int]]:
    everything = list(range(vocabulary))

    def allowed(row: int, said: Tensor) -> list[int]:
        trie = constraints[row]
        if trie is None:
            return everything
        ids = trie.allowed(said.tolist())
        spoken = [i for i in ids if i != END]
        return spoken + (list(ends.stop_ids) if END in ids or not spoken else [])

    return allowed


def _cut(said: Sequence[int], ends: Ends) -> list[int]:
    """Cut what was said behind its first stop token."""
    stop = next((i for i, token in enumerate(said) if token in ends.stop_ids), len(said))
    return list(said[: stop + 1])


def _answer(ids: Sequence[int], gain: float, ends: Ends, generation: Generation) -> SlotAnswer:
    ended = bool(ids) and ids[-1] in ends.stop_ids
    full = not ended and len(ids) >= generation.max_new_tokens
    finish: Literal["stop", "length"] = "length" if full else "stop"
    return SlotAnswer(tuple(ids[:-1] if ended else ids), gain, finish)
