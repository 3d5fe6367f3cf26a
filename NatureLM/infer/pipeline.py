"""The main flow on one screen: recordings and queries in, answers per window out.

``stream`` tells the whole story; ``ask`` joins its pieces, ``choose`` offers options, and calling the pipeline gives the model
card's strings. Knows which part does what, and none of the parts' business. The surprise: a recording that cannot be read
is a row in ``stream`` and ``ask``, and an exception in the card's form, which has no place for rows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from NatureLM.annotations import NONE
from NatureLM.audio.options import ReadOptions
from NatureLM.audio.windows import WindowPlan
from NatureLM.config import GenerateConfig, Generation, read_config
from NatureLM.errors import ConfigError, RecordingError, WindowError
from NatureLM.infer.batching import Waiting, gather, read_ahead
from NatureLM.infer.device import finished
from NatureLM.infer.engine import Asking, Engine
from NatureLM.infer.pairing import Queries, one_each, paired, several
from NatureLM.infer.reading import Reading, Source, read
from NatureLM.results import RecordingResult, joined

if TYPE_CHECKING:
    from NatureLM.models.model import NatureLM

CARD_PLAN = WindowPlan()
"""The model card's windows: 10 s long, one after the other."""
PUBLISHED_WINDOW_S = 10.0
"""What the published model was trained to hear at once; in parity mode the rest of a longer window is cut off, as there."""
PUBLISHED_GENERATION = Generation(max_new_tokens=300, num_beams=2)
"""The published ``configs/inference.yml``."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineSettings:
    """How a pipeline works; the same for every call.

    Attributes:
        parity: ``published`` repeats what the published Pipeline does, defects that its numbers need included.
        generation: How answers are decoded; by ``cfg_path`` or the model when left out.
        merging_alpha: Scale of the adapter in [0, 1]; by ``cfg_path``, else 1.
        batch_size: Windows in a batch; by the device when left out.
        ask_silence: Ask the model about digital silence instead of answering "None".
        skip_short: Leave recordings out that are shorter than half a second.
        force_rate_hz: Believe this sample rate instead of the files'.
        slow_down: Play recordings so many times slower, for what lies above the model's band, such as bats; times stay true.
        cpu_fallback: Go on with the CPU when even one window does not fit the device.
    """

    parity: Literal["default", "published"] = "default"
    generation: Generation | None = None
    merging_alpha: float | None = None
    batch_size: int | None = None
    ask_silence: bool = False
    skip_short: bool = False
    force_rate_hz: int | None = None
    slow_down: float = 1.0
    cpu_fallback: bool = False


class Pipeline:
    """Ask recordings questions.

    Args:
        model: A finished model; chosen by ``choose_model`` and loaded when left out.
        cfg_path: A published YAML file: how to generate, and which model when none is passed in.
        device: Where to work; ``auto`` leaves a model that was passed in where it is.
        settings: How to work.
        parity: Shorthand for ``settings.parity``.

    Attributes:
        model: The model that answers.
        choice: Its name, and why it was taken.
        settings: How it works.
        engine: What runs its batches.
        asking: How the model is asked.
    """

    def __init__(
        self,
        model: NatureLM | None = None,
        cfg_path: str | Path | None = None,
        *,
        device: str = "auto",
        settings: PipelineSettings = PipelineSettings(),
        parity: Literal["default", "published"] | None = None,
    ) -> None:
        config = read_config(cfg_path) if cfg_path else None
        self.settings = settings = replace(settings, parity=parity or settings.parity)
        self.model, self.choice = finished(model, cfg_path, device, settings.parity)
        self.asking = _asking(settings, config.generate if config else None, self.model)
        self.engine = Engine(self.model, settings.batch_size, cpu_fallback=settings.cpu_fallback)

    def stream(
        self,
        recordings: Source | Iterable[Source],
        queries: Queries,
        plan: WindowPlan = CARD_PLAN,
        *,
        options: Sequence[str] = (),
        input_sample_rate: int = 16_000,
    ) -> Iterator[RecordingResult]:
        """Answer recordings piece by piece, in their order, as answers come.

        Decoding runs ahead in a thread of its own, windows of many recordings share batches, every window is encoded once
        for all its queries. A recording that cannot be read is a piece with its ``error_code``; the others go on.

        Args:
            recordings: Paths, encoded bytes, arrays, tensors or open recordings; one of them or many, an endless stream too.
            queries: One query, several that are all asked of every recording, or a sequence of queries per recording.
            plan: How recordings are cut into windows.
            options: The labels of a closed question; the answer is then the most probable one.
            input_sample_rate: Rate of arrays and tensors.

        Raises:
            PromptError: A query is empty, or there is not one sequence of queries per recording.
            WindowError: The window is longer than the model can hear.
        """
        pieces = self._answered(recordings, queries, plan, tuple(options), input_sample_rate)
        return (piece for _, piece in pieces)

    def ask(
        self,
        recordings: Source | Iterable[Source],
        queries: Queries,
        plan: WindowPlan = CARD_PLAN,
        *,
        options: Sequence[str] = (),
        input_sample_rate: int = 16_000,
    ) -> Iterator[RecordingResult]:
        """Answer recordings one by one, in their order: ``stream`` with the pieces of each joined.

        Arguments and errors are those of ``stream``.
        """
        pieces = self._answered(recordings, queries, plan, tuple(options), input_sample_rate)
        by_recording = groupby(pieces, key=lambda placed: placed[0])
        return (joined([piece for _, piece in group]) for _, group in by_recording)

    def choose(
        self,
        recordings: Source | Iterable[Source],
        query: str,
        options: Sequence[str],
        plan: WindowPlan = CARD_PLAN,
        *,
        none: bool = True,
        input_sample_rate: int = 16_000,
    ) -> Iterator[RecordingResult]:
        """Answer a closed question with a probability for every option.

        Args:
            recordings: As for ``stream``.
            query: The question.
            options: The labels to choose from.
            plan: How recordings are cut into windows.
            none: Offer "None" as well.
            input_sample_rate: Rate of arrays and tensors.
        """
        offered = [*options, NONE] if none and NONE not in options else options
        return self.ask(
            recordings, query, plan, options=offered, input_sample_rate=input_sample_rate
        )

    def __call__(
        self,
        audios: Source | Iterable[Source],
        queries: str | Sequence[str],
        window_length_seconds: float = 10.0,
        hop_length_seconds: float = 10.0,
        input_sample_rate: int = 16_000,
        verbose: bool = False,
    ) -> list[str]:
        """Answer as the model card shows: one string per recording, one line per window.

        Args:
            audios: A path or array, or a list of them; an array of two dimensions is one recording with channels.
            queries: One query for all recordings, or one for each.
            window_length_seconds: Length of a window.
            hop_length_seconds: Seconds between two window starts.
            input_sample_rate: Rate of arrays.
            verbose: Log every recording's answers at level INFO.

        Returns:
            ``#0.00s - 10.00s#: Green Treefrog`` and a newline for every window, joined per recording.

        Raises:
            RecordingError: A recording cannot be read; ``ask`` and ``stream`` go on with the others instead.
            PromptError: A query is empty, or there are neither one nor as many queries as recordings.
            WindowError: The windows make no sense or are longer than the model can hear.
        """
        recordings = list(several(audios))
        each = one_each(queries, len(recordings))
        if not recordings:
            return []
        tail: Literal["keep", "drop"] = "drop" if self.settings.parity == "published" else "keep"
        plan = WindowPlan(window_length_seconds, hop_length_seconds, tail)
        texts = []
        for result in self.ask(recordings, each, plan, input_sample_rate=input_sample_rate):
            if result.error_code:
                raise RecordingError(result.error or result.recording, code=result.error_code)
            texts.append(result.as_text())
            if verbose:
                _LOG.info("%s\n%s", result.recording, texts[-1])
        return texts

    def _answered(
        self,
        recordings: Source | Iterable[Source],
        queries: Queries,
        plan: WindowPlan,
        options: tuple[str, ...],
        array_rate_hz: int,
    ) -> Iterator[tuple[int, RecordingResult]]:
        """Refuse what can be refused now, and begin when the first piece is asked for."""
        settings, model = self.settings, self.model
        if settings.parity == "default":
            _refuse_long(plan, model)
        pairs = paired(several(recordings), queries)
        reading = Reading(
            plan,
            rate_hz=model.sample_rate,
            array_rate_hz=array_rate_hz,
            mode=settings.parity,
            skip_short=settings.skip_short,
            ask_silence=settings.ask_silence or bool(options and NONE not in options),
            model=model.name,
            revision=model.revision,
            options=ReadOptions(force_rate_hz=settings.force_rate_hz, slow_down=settings.slow_down),
        )
        return self._pieces(pairs, reading, replace(self.asking, options=options))

    def _pieces(
        self, pairs: Iterable[tuple[Source, tuple[str, ...]]], reading: Reading, asking: Asking
    ) -> Iterator[tuple[int, RecordingResult]]:
        """The story: decode ahead, gather windows into batches, answer them, hand on in order."""
        engine = self.engine
        with closing(read_ahead(read(pairs, reading), engine.batch_size)) as items:
            for batch in gather(items, engine.sizes()):
                waiting = [item for item in batch if isinstance(item, Waiting)]
                answers = iter(engine.answer(waiting, asking))
                for item in batch:
                    fresh = next(answers) if isinstance(item, Waiting) else item.piece.answers
                    yield item.place, replace(item.piece, answers=fresh)


def _asking(settings: PipelineSettings, config: GenerateConfig | None, model: NatureLM) -> Asking:
    """Decide how the model is asked: by the settings, else the published file, else the defaults."""
    published = settings.parity == "published"
    generation = settings.generation or (config.generation() if config else None)
    generation = generation or (PUBLISHED_GENERATION if published else Generation())
    alpha = settings.merging_alpha
    if alpha is None:
        alpha = config.merging_alpha if config else 1.0
    if not 0 <= alpha <= 1:
        raise ConfigError(
            f"merging_alpha is {alpha}; it must be from 0 (base LLM) to 1 (fine-tuned)"
        )
    if not published:
        return Asking(generation, alpha)
    return Asking(
        replace(generation, stop_rule="published"),
        alpha,
        padded_samples=int(PUBLISHED_WINDOW_S * model.sample_rate),
    )


def _refuse_long(plan: WindowPlan, model: NatureLM) -> None:
    longest_s = float(getattr(model, "longest_window_s", PUBLISHED_WINDOW_S))
    if plan.window_s > longest_s:
        raise WindowError(
            f"windows of {plan.window_s:g} s: {model.name or 'the model'} hears at most {longest_s:g} s "
            "at once; take shorter windows"
        )
