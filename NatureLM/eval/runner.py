"""A benchmark run: examples through the model, answers into a journal, a journal into the prediction file.

Knows order, batches and what is already answered; nothing of file layouts or scores. The surprise: an answer is recognised twice,
by row (data revision and settings, so that its audio need not be read again) and by content (what was heard and asked), so that
a changed copy of the data keeps every answer that it can.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from math import exp
from pathlib import Path
from typing import Any

from NatureLM.config import Generation
from NatureLM.errors import RecordingError
from NatureLM.eval.prepare import Parity, Prepared, prepare
from NatureLM.eval.store import JOURNAL, Journal, fingerprint, write_jsonl
from NatureLM.eval.task import Example, Outline, Task
from NatureLM.infer.batching import chunks
from NatureLM.infer.engine import GREEDY, Asking
from NatureLM.infer.items import Item, ItemEngine
from NatureLM.models.model import Answer

PREDICTIONS, UNMERGED = "predictions.jsonl", "windows.jsonl"
PUBLISHED_GENERATION = Generation(max_new_tokens=300, num_beams=2, stop_rule="published")
PUBLISHED_BATCH = 16
"""Published inference on BEANS-Zero (MODEL specification, section 10)."""
EARLY_ROWS = 64
"""Rows that need no model are stored together, so many at a time."""
SORTED_BATCHES = 8
"""Batches that are sorted by length together, so that little padding is computed."""

Alter = Callable[[Prepared], Prepared]
Merge = Callable[[Sequence[dict[str, Any]]], list[dict[str, Any]]]


@dataclass(frozen=True)
class RunSettings:
    """How a benchmark is run; what changes answers is part of every answer's key.

    Attributes:
        generation: How answers are decoded.
        merging_alpha: Scale of the adapter.
        parity: Whose way of preparing audio and batches.
        batch_size: Items in a batch; never changes an answer of ours.
        workers: Threads that decode and resample ahead.
        arm: What is done to the audio or the query; ``real`` for nothing.
    """

    generation: Generation = GREEDY
    merging_alpha: float = 1.0
    parity: Parity = "ours"
    batch_size: int = 16
    workers: int = 2
    arm: str = "real"

    @property
    def asking(self) -> Asking:
        """How the engine is asked."""
        return Asking(self.generation, self.merging_alpha)

    def identity(self) -> dict[str, Any]:
        """Give what changes answers."""
        return {
            "generation": asdict(self.generation),
            "merging_alpha": self.merging_alpha,
            "parity": self.parity,
            "arm": self.arm,
        }


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        task: The benchmark.
        outlines: The examples to answer; their queries and references hold, whatever the task's own say.
        engine: What answers them.
        settings: How.
        folder: Where the journal and the predictions go.
        alter: Done to every example before it is asked; the identity when left out.
        merge: Joins rows before they are judged, such as those of one recording; the unjoined ones go into a file of their own.
    """

    task: Task
    outlines: Sequence[Outline]
    engine: ItemEngine
    settings: RunSettings
    folder: Path
    alter: Alter | None = None
    merge: Merge | None = None


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: Examples with a row, those of an earlier run included.
        total: Examples in all.
        failed: Rows that carry an error.
        reused: Rows of an earlier run.
    """

    done: int
    total: int
    failed: int
    reused: int


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        rows: One a example, in the data's order.
        progress: The final counts.
        failures: Error code to count.
        repaired_bytes: Cut off the journal's damaged end when it was opened.
        model_s: Seconds in the model.
        total_s: Seconds in all.
    """

    rows: tuple[dict[str, Any], ...]
    progress: Progress
    failures: dict[str, int]
    repaired_bytes: int
    model_s: float
    total_s: float


Watch = Callable[[Progress], None]


def run(job: Job, watch: Watch = lambda _: None) -> Outcome:
    """Answer every example of a job, going on where an earlier run with the same settings stopped.

    A fault of one example is its row's ``error``; the journal is synced after every batch, so the run may be killed at any time.

    Raises:
        StoreError: Answers could not be stored, or another run writes to the folder.
    """
    began, model_s = time.monotonic(), 0.0
    with closing(Journal(job.folder / JOURNAL)) as journal:
        book = _Book(job, journal)
        watch(book.progress)
        for batch in _batches(_prepared(job, book), job.settings):
            before = time.monotonic()
            answers = _answers(job, batch)
            model_s += time.monotonic() - before
            book.enter(batch, answers)
            watch(book.progress)
        rows = book.rows()
        if job.merge is not None:
            write_jsonl(job.folder / UNMERGED, rows)
            rows = job.merge(rows)
        write_jsonl(job.folder / PREDICTIONS, rows)
        failures: dict[str, int] = {}
        for row in rows:
            if row["error_code"]:
                failures[row["error_code"]] = failures.get(row["error_code"], 0) + 1
        return Outcome(
            tuple(rows), book.progress, failures, journal.repaired_bytes, model_s,
            time.monotonic() - began,
        )  # fmt: skip


@dataclass
class _Book:
    """Which examples have an answer, and under which keys."""

    job: Job
    journal: Journal
    by_content: dict[str, dict[str, Any]] = field(default_factory=dict)
    by_row: dict[str, dict[str, Any]] = field(default_factory=dict)
    done: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    reused: int = 0

    def __post_init__(self) -> None:
        model = self.job.engine.model
        self._base = fingerprint(
            model.name, model.revision, model.sample_rate, self.job.settings.identity()
        )
        self._data = f"{self.job.task.name}|{self.job.task.revision}"
        for row in self.journal.rows:
            self._index(row)
        for outline in self.job.outlines:
            found = self.by_row.get(self.row_key(outline))
            if found is not None and not found["error_code"]:
                self.done[outline.name] = found
        self.reused = len(self.done)

    @property
    def progress(self) -> Progress:
        failed = sum(bool(row["error_code"]) for row in self.done.values())
        return Progress(len(self.done), len(self.job.outlines), failed, self.reused)

    def row_key(self, outline: Outline) -> str:
        return fingerprint(self._base, self._data, outline.component, outline.id, outline.query)

    def content_key(self, prepared: Prepared) -> str:
        query, most_s = prepared.outline.query, prepared.outline.max_duration_s
        return fingerprint(self._base, query, most_s, prepared.digest)

    def known(self, prepared: Prepared) -> Answer | None:
        """Find the answer to the same question about the same sound."""
        row = None if prepared.error else self.by_content.get(self.content_key(prepared))
        if row is None or row["error_code"]:
            return None
        return Answer(row["prediction"], (), row["log_probability"], row["finish"])

    def enter(self, batch: Sequence[Prepared], answers: Sequence[Answer | Exception]) -> None:
        rows = [self._row(p, a) for p, a in zip(batch, answers, strict=True)]
        self.journal.append(rows)
        for prepared, row in zip(batch, rows, strict=True):
            self._index(row)
            self.done[prepared.outline.name] = row

    def enter_early(self, pairs: list[tuple[Prepared, Answer | Exception]]) -> None:
        """Enter what needed no model, and forget it."""
        if pairs:
            self.enter([p for p, _ in pairs], [a for _, a in pairs])
            self.reused += sum(isinstance(a, Answer) for _, a in pairs)
            pairs.clear()

    def rows(self) -> list[dict[str, Any]]:
        """Give the rows of the prediction file: the data's order and the truth as the data say now."""
        hidden = ("row_key", "key")
        found = [(o, self.done[o.name]) for o in self.job.outlines if o.name in self.done]
        return [
            {k: v for k, v in (row | _truth(outline)).items() if k not in hidden}
            for outline, row in found
        ]

    def _index(self, row: dict[str, Any]) -> None:
        if row.get("key"):
            self.by_content[row["key"]] = row
        if row.get("row_key"):
            self.by_row[row["row_key"]] = row

    def _row(self, prepared: Prepared, answer: Answer | Exception) -> dict[str, Any]:
        said = answer if isinstance(answer, Answer) else None
        error = None if said else answer
        return {
            "prediction": said.text if said else "",
            **_truth(prepared.outline),
            "query": prepared.outline.query,
            "confidence": exp(min(0.0, said.log_probability)) if said else None,
            "log_probability": said.log_probability if said else None,
            "finish": said.finish if said else None,
            "flags": list(prepared.flags),
            "error_code": _code(error),
            "error": str(error) if error else None,
            "key": None if prepared.error else self.content_key(prepared),
            "row_key": self.row_key(prepared.outline),
        }


def _truth(outline: Outline) -> dict[str, Any]:
    return {
        "label": outline.reference,
        "id": outline.id,
        "dataset_name": outline.component,
        "recording": outline.recording,
    }


def _code(error: object) -> str | None:
    if error is None:
        return None
    return error.code if isinstance(error, RecordingError) else type(error).__name__


def _prepared(job: Job, book: _Book) -> Iterator[Prepared]:
    """Give the examples that still need an answer, decoded ahead; faults and known answers are entered on the way."""
    pending = {o.name: o for o in job.outlines if o.name not in book.done}
    if not pending:
        return
    alter = job.alter or (lambda prepared: prepared)
    rate_hz, settings = job.engine.model.sample_rate, job.settings

    def ready(example: Example) -> Prepared:
        asked = Example(pending[example.outline.name], example.audio)
        return alter(prepare(asked, rate_hz, settings.parity))

    examples = job.task.examples(lambda outline: outline.name in pending)
    depth = settings.workers * 4 + settings.batch_size
    early: list[tuple[Prepared, Answer | Exception]] = []
    for prepared in _ahead(ready, examples, settings.workers, depth):
        answer = prepared.error or book.known(prepared)
        if answer is None:
            yield prepared
            continue
        early.append((prepared, answer))
        if len(early) >= EARLY_ROWS:
            book.enter_early(early)
    book.enter_early(early)


def _ahead(
    work: Callable[[Example], Prepared], examples: Iterable[Example], workers: int, depth: int
) -> Iterator[Prepared]:
    """Map in threads, in order, at most ``depth`` ahead of the reader."""
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="prepare") as pool:
        waiting: deque[Future[Prepared]] = deque()
        try:
            for example in examples:
                waiting.append(pool.submit(work, example))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batches(stream: Iterable[Prepared], settings: RunSettings) -> Iterator[Sequence[Prepared]]:
    """Cut a stream into batches: the published way in order and by component, ours by length."""
    if settings.parity == "published":
        yield from _in_order(stream, settings.batch_size)
        return
    for block in _blocks(stream, settings.batch_size * SORTED_BATCHES):
        ranked = sorted(block, key=lambda p: (p.samples, len(p.outline.query)))
        yield from chunks(ranked, settings.batch_size)


def _in_order(stream: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    batch: list[Prepared] = []
    for prepared in stream:
        full = len(batch) == size
        if batch and (full or batch[0].outline.component != prepared.outline.component):
            yield batch
            batch = []
        batch.append(prepared)
    if batch:
        yield batch


def _blocks(stream: Iterable[Prepared], size: int) -> Iterator[list[Prepared]]:
    block: list[Prepared] = []
    for prepared in stream:
        block.append(prepared)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def _answers(job: Job, batch: Sequence[Prepared]) -> list[Answer | Exception]:
    items = [Item(prepared.outline.query, prepared.waveforms) for prepared in batch]
    return job.engine.answer_items(items, job.settings.asking)
