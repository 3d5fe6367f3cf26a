"""The service behind every protocol: questions with recordings in, replies out, from one model in micro-batches.

Knows the model, the queue and the limits; no HTTP and no schema. A fault of one question is its reply, never its neighbours'.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from NatureLM.config import Generation
from NatureLM.errors import ConfigError, NatureLMError, PromptError, RecordingError
from NatureLM.infer.engine import Asking
from NatureLM.infer.items import FAULTS, Item, ItemEngine
from NatureLM.infer.pipeline import PUBLISHED_WINDOW_S
from NatureLM.models.model import Answer
from NatureLM.prompts import AUDIO_TAG, Message, Prompt, converse
from NatureLM.serve.batching import BatchQueue, ClosedError
from NatureLM.serve.limits import Limits
from NatureLM.serve.payloads import Payload, hear

if TYPE_CHECKING:
    from NatureLM.models.model import NatureLM

LOOK_EVERY_S = 0.2
"""How often a waiting request looks whether its caller is still there."""
DECODERS = 2
"""Threads that decode recordings."""


@dataclass(frozen=True)
class Question:
    """One question of a caller.

    Attributes:
        messages: The conversation; the last turn is the user's.
        audios: Recordings, in the order of the placeholders.
        options: How to generate, by any of the names that clients use; unknown ones are passed over.
    """

    messages: tuple[Message, ...]
    audios: tuple[Payload, ...] = ()
    options: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Reply:
    """What became of a question.

    Attributes:
        text: The answer; ``None`` when there is none.
        error: Why not, as ``code: sentence``.
        code: The code alone.
        finish: ``stop`` or ``length``.
        tokens: Tokens said.
        heard_s: Seconds of recordings that were heard.
        given_s: Seconds of recordings that were given.
        latency_s: Time since the question came.
    """

    text: str | None = None
    error: str | None = None
    code: str | None = None
    finish: str | None = None
    tokens: int = 0
    heard_s: float = 0.0
    given_s: float = 0.0
    latency_s: float = 0.0


@dataclass(frozen=True)
class _Ready:
    item: Item
    asking: Asking
    heard_s: float
    given_s: float


class Service:
    """One model for many callers.

    Args:
        model: The finished model, on its device.
        limits: What is taken.
    """

    def __init__(self, model: NatureLM, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        self.model, self.limits = model, limits
        self._engine = ItemEngine(model, limits.max_batch_size)
        self.queue: BatchQueue[Item, Answer | Exception] = BatchQueue(
            self._work, limits.max_batch_size, limits.queue_limit, limits.wait_s
        )
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")

    def close(self) -> None:
        """End the threads; those who wait get an error."""
        self.queue.close()
        self._decoders.shutdown(wait=True, cancel_futures=True)

    async def answer(
        self, questions: Sequence[Question], gone: Callable[[], Awaitable[bool]]
    ) -> list[Reply]:
        """Answer questions in their order.

        Args:
            questions: Of one request.
            gone: Says whether the caller has left; then the questions that still wait are dropped.

        Raises:
            BusyError: The queue is full.
            CallerGoneError: The caller has left.
        """
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        ready = await asyncio.gather(
            *(loop.run_in_executor(self._decoders, self._ready, each) for each in questions)
        )
        good = [each for each in ready if isinstance(each, _Ready)]
        futures = self.queue.submit([e.item for e in good], [e.asking for e in good])
        try:
            answers = iter(await _while_there([asyncio.wrap_future(f) for f in futures], gone))
        finally:
            for future in futures:
                future.cancel()
        return [
            _reply(each, next(answers), time.monotonic() - began)
            if isinstance(each, _Ready)
            else each
            for each in ready
        ]

    def _work(self, asking: Hashable, items: Sequence[Item]) -> Sequence[Answer | Exception]:
        return self._engine.answer_items(items, cast("Asking", asking))

    def _ready(self, question: Question) -> _Ready | Reply:
        """Decode the recordings and build the prompt, or say why not."""
        try:
            options = question.options or {}
            asking, most_s = _asking(options, self.limits), _longest_s(options, self.model)
            rate_hz = self.model.sample_rate
            if len(question.audios) > self.limits.max_audios:
                raise PromptError(
                    f"{len(question.audios)} recordings; at most {self.limits.max_audios} are taken"
                )
            heard = [hear(audio, rate_hz, most_s, self.limits) for audio in question.audios]
            query = self._query(question)
        except (*FAULTS, MemoryError) as error:
            return _failed(error)
        return _Ready(
            Item(query, tuple(h.waveform for h in heard)),
            asking,
            sum(h.heard_s for h in heard),
            sum(h.given_s for h in heard),
        )

    def _query(self, question: Question) -> str | Prompt:
        """Put a plain question as text, so that the model's grammar can hold the answer; anything else as a prompt."""
        messages, count = question.messages, len(question.audios)
        prompt = converse(messages, self.model.template, count)  # refuses what does not fit, too
        if len(messages) > 1:
            return prompt
        content = messages[0].content
        if count == 1 and content.startswith(AUDIO_TAG.strip()):
            return content.removeprefix(AUDIO_TAG.strip()).removeprefix(" ")
        return content


class CallerGoneError(NatureLMError, RuntimeError):
    """The caller has left before the answer was there."""


async def _while_there(
    futures: Sequence[asyncio.Future[Answer | Exception]], gone: Callable[[], Awaitable[bool]]
) -> list[Answer | Exception]:
    if not futures:
        return []
    waiting = asyncio.gather(*futures, return_exceptions=True)
    try:
        while not waiting.done():
            done, _ = await asyncio.wait([waiting], timeout=LOOK_EVERY_S)
            if not done and await gone():
                raise CallerGoneError("the caller has left")
        return [_taken(each) for each in await waiting]
    finally:
        if not waiting.done():
            waiting.cancel()
            with suppress(asyncio.CancelledError):
                await waiting


def _taken(answer: Answer | BaseException) -> Answer | Exception:
    """Pass an item's own fault on; raise what concerns the whole server."""
    if isinstance(answer, ClosedError) or not isinstance(answer, Answer | Exception):
        raise answer
    return answer


def _reply(ready: _Ready, answer: Answer | Exception, latency_s: float) -> Reply:
    if isinstance(answer, Exception):
        return _failed(answer)
    return Reply(
        text=answer.text,
        finish=answer.finish,
        tokens=len(answer.token_ids),
        heard_s=ready.heard_s,
        given_s=ready.given_s,
        latency_s=latency_s,
    )


def _failed(error: Exception) -> Reply:
    """Say what went wrong; the words of other people's errors stay inside."""
    code = error.code if isinstance(error, RecordingError) else type(error).__name__
    said = str(error) if isinstance(error, NatureLMError) else "this item could not be answered"
    return Reply(error=f"{code}: {said}", code=code)


def _longest_s(options: Mapping[str, Any], model: NatureLM) -> float:
    longest = float(getattr(model, "longest_window_s", PUBLISHED_WINDOW_S))
    asked = _number(options, ("max_length_seconds",), longest)
    if asked <= 0:
        raise ConfigError(f"max_length_seconds {asked:g}: expected more than 0")
    return min(asked, longest)


def _asking(options: Mapping[str, Any], limits: Limits) -> Asking:
    """Read generation options by the names that clients use; the server's limits hold."""
    temperature = _number(options, ("temperature",), 0.0)
    sample = options.get("do_sample")
    if not isinstance(sample, bool):
        sample = temperature > 0
    tokens = _number(options, ("max_new_tokens", "max_tokens"), limits.max_new_tokens)
    beams = _number(options, ("num_beams",), 1)
    if tokens < 1 or not 1 <= beams <= limits.max_beams:
        raise ConfigError(
            f"max_tokens must be at least 1 and num_beams from 1 to {limits.max_beams}"
        )
    seed = options.get("seed")
    generation = Generation(
        max_new_tokens=int(min(tokens, limits.max_new_tokens)),
        num_beams=int(beams),
        do_sample=sample,
        temperature=temperature if sample and temperature > 0 else 1.0,
        top_p=_number(options, ("top_p",), Generation.top_p) if sample else Generation.top_p,
        repetition_penalty=_number(options, ("repetition_penalty",), 1.0),
        length_penalty=_number(options, ("length_penalty",), 1.0),
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
    )
    alpha = _number(options, ("merging_alpha",), 1.0)
    if not 0 <= alpha <= 1:
        raise ConfigError(f"merging_alpha {alpha:g}: expected 0 to 1")
    return Asking(generation, alpha)


def _number(options: Mapping[str, Any], names: Sequence[str], default: float) -> float:
    """Read the first of several names that is there; null counts as not there."""
    for name in names:
        value = options.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} {value!r}: expected a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ConfigError(f"{name}: expected a finite number")
        return number
    return default
