"""Batches of windows through the model: encoded once, asked every query, or scored on every option.

Knows tensors and the model's ``encode``, ``answer`` and ``score``; nothing of files. The surprise: when memory runs out the
batch is halved and the smaller size is kept, so a job slows down instead of dying.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from NatureLM.annotations import NONE
from NatureLM.config import Generation
from NatureLM.errors import DeviceError
from NatureLM.infer.batching import Waiting, chunks
from NatureLM.models.scoring import shares
from NatureLM.results import OptionScore, WindowAnswer

if TYPE_CHECKING:
    from NatureLM.models.model import AudioTokens, NatureLM

T = TypeVar("T")
A = TypeVar("A")

BATCH_SIZES = {"cuda": 64, "mps": 8, "cpu": 16}
"""Windows in a batch by the type of device; the largest that is safe rather than the fastest."""
GREEDY = Generation()
"""How answers are decoded when nothing is said about it."""
FIRST_BATCH = 2
"""Windows in the first batch when the user names no size."""
PRIOR_SHARE = 0.5
"""Share of the no-audio prior that is taken off the options. Right choices of the pocket model on the first 3 s of 73 recordings,
asked with and without the right option, in two wordings (292 questions): 0 gave 289, 0.5 gave 290, 1 gave 282."""

_LOG = logging.getLogger(__name__)
_PRIORS_KEPT = 64
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Asking:
    """How the model is asked.

    Attributes:
        generation: How answers are decoded.
        merging_alpha: Scale of the adapter, 0 for the base LLM and 1 for the fine-tuned one.
        options: The labels of a closed question; empty for a free answer.
        padded_samples: Pad every window to this many samples and let the model hear the padding as audio; ``None`` tells
            it the true lengths.
    """

    generation: Generation = GREEDY
    merging_alpha: float = 1.0
    options: tuple[str, ...] = ()
    padded_samples: int | None = None

    @property
    def rows_at_once(self) -> int | None:
        """One, when the published stop rule would cut a row where another one stops."""
        return 1 if self.generation.stop_rule == "published" else None


class Engine:
    """Answer batches of windows with one model.

    Args:
        model: The finished model, on its device.
        batch_size: Windows in a batch at most; by the device when left out.
        cpu_fallback: Move the model to the CPU when even one window does not fit the device.
    """

    def __init__(
        self, model: NatureLM, batch_size: int | None = None, *, cpu_fallback: bool = False
    ) -> None:
        self.model, self._cpu_fallback = model, cpu_fallback
        self._priors: dict[tuple[str, tuple[str, ...], float], tuple[float, ...]] = {}
        self._first = batch_size or FIRST_BATCH
        self.batch_size = batch_size or BATCH_SIZES.get(model.device.type, 16)

    def sizes(self) -> Iterator[int]:
        """Give the sizes of the batches to gather: small at first, so that the first answer comes early."""
        size = self._first
        while True:
            size = min(size, self.batch_size)
            yield size
            size *= 4

    def answer(self, windows: Sequence[Waiting], asking: Asking) -> list[tuple[WindowAnswer, ...]]:
        """Answer every query of every window, in the windows' order; nothing to do is fine.

        Raises:
            DeviceError: Memory ran out with a single window.
        """
        return self._fitting(windows, lambda part: self._answer(part, asking))

    def _answer(self, windows: Sequence[Waiting], asking: Asking) -> list[tuple[WindowAnswer, ...]]:
        """The way through the model: encode the windows once, then put every query to each of them."""
        with torch.inference_mode():
            waveforms, lengths = stack(
                [window.audio.waveform for window in windows], asking.padded_samples
            )
            device = self.model.device
            tokens = self.model.encode(waveforms.to(device), lengths.to(device))
            pairs = [(i, query) for i, window in enumerate(windows) for query in window.queries]
            ask = self._choose if asking.options else self._say
            said = [
                answer
                for part in chunks(pairs, asking.rows_at_once or len(windows))
                for answer in ask(tokens, part, asking)
            ]
        answers = iter(said)
        return [tuple(_placed(next(answers), w) for _ in w.queries) for w in windows]

    def _say(
        self, tokens: AudioTokens, pairs: Sequence[tuple[int, str]], asking: Asking
    ) -> list[WindowAnswer]:
        rows = torch.tensor([i for i, _ in pairs], device=tokens.tokens.device)
        queries = [query for _, query in pairs]
        answers = self.model.answer(
            tokens[rows], queries, asking.generation, merging_alpha=asking.merging_alpha
        )
        return [
            WindowAnswer(0.0, 0.0, query, answer.text, log_probability=answer.log_probability)
            for query, answer in zip(queries, answers, strict=True)
        ]

    def _choose(
        self, tokens: AudioTokens, pairs: Sequence[tuple[int, str]], asking: Asking
    ) -> list[WindowAnswer]:
        rows = torch.tensor([i for i, _ in pairs], device=tokens.tokens.device)
        queries = [query for _, query in pairs]
        options, alpha = [asking.options] * len(queries), asking.merging_alpha
        scores = self.model.score(tokens[rows], queries, options, merging_alpha=alpha)
        priors = [self._prior(query, asking) for query in queries]
        return [
            chosen(query, asking.options, score, prior)
            for query, score, prior in zip(queries, scores, priors, strict=True)
        ]

    def _prior(self, query: str, asking: Asking) -> tuple[float, ...]:
        """What the model thinks of the options when it hears nothing; asked once a query."""
        key = (query, asking.options, asking.merging_alpha)
        if key not in self._priors:
            (prior,) = self.model.prior(
                [query], [asking.options], merging_alpha=asking.merging_alpha
            )
            self._priors = {key: tuple(prior), **dict(list(self._priors.items())[:_PRIORS_KEPT])}
        return self._priors[key]

    def _fitting(self, things: Sequence[T], work: Callable[[Sequence[T]], list[A]]) -> list[A]:
        """Do the work in parts of at most ``batch_size``; halve that, and go on, when memory runs out."""
        done: list[A] = []
        while len(done) < len(things):
            part = things[len(done) : len(done) + self.batch_size]
            try:
                done += work(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._make_room(len(part), error)
        return done

    def _make_room(self, size: int, error: Exception) -> None:
        if size > 1:
            self.batch_size = max(1, size // 2)
            _LOG.warning("out of memory with %d windows; going on with %d", size, self.batch_size)
        elif self._cpu_fallback and self.model.device.type != "cpu":
            _LOG.warning("out of memory with one window; going on with the CPU")
            self.model.float().to("cpu")
        else:
            raise DeviceError(
                f"{self.model.device}: out of memory with one window; close what else uses it, take "
                "a shorter window, or pass --device cpu"
            ) from error
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def stack(
    waveforms: Sequence[np.ndarray], padded_samples: int | None = None
) -> tuple[Float[Tensor, "windows samples"], Int[Tensor, " windows"]]:
    """Stack waveforms to the right-padded shape that encoders take.

    Args:
        waveforms: Mono waveforms of any lengths.
        padded_samples: Cut or pad all to this length and call all of it audio.
    """
    lengths = [len(waveform) for waveform in waveforms]
    width = padded_samples or max(lengths)
    stacked = np.zeros((len(waveforms), width), dtype=np.result_type(*waveforms))
    for row, waveform in zip(stacked, waveforms, strict=True):
        row[: len(waveform)] = waveform[:width]
    if padded_samples:
        lengths = [width] * len(lengths)
    return torch.from_numpy(stacked), torch.tensor(lengths)


def chosen(
    query: str, options: Sequence[str], scores: Sequence[float], prior: Sequence[float]
) -> WindowAnswer:
    """Make the answer to a closed question of the options' log-probabilities with and without the audio.

    ``PRIOR_SHARE`` of what a label owes to its wording alone is taken off. "None" is spared: it is what a model rightly says
    when it hears nothing, so without the audio it is no bias but the answer.
    """
    labels = [p for option, p in zip(options, prior, strict=True) if option != NONE]
    typical = sum(labels) / max(len(labels), 1)
    biases = [
        PRIOR_SHARE * (typical if option == NONE else p)
        for option, p in zip(options, prior, strict=True)
    ]
    ranked = tuple(map(OptionScore, options, shares(scores, biases), scores))
    best = max(ranked, key=lambda option: option.probability)
    return WindowAnswer(
        0.0, 0.0, query, best.option, log_probability=best.log_probability, options=ranked
    )


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether a device or the host ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def _placed(answer: WindowAnswer, window: Waiting) -> WindowAnswer:
    audio = window.audio
    return replace(
        answer, start_s=audio.window.start_s, end_s=audio.window.end_s, flags=audio.flags
    )
