"""Questions of many callers through one model: a bounded queue, a thread that makes batches, answers back to whom they belong.

Knows order, time and numbers, nothing of audio or HTTP. The surprise: a caller who is gone costs nothing as long as the batch with
the question has not begun.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from NatureLM.errors import NatureLMError

T = TypeVar("T")
A = TypeVar("A")

LONGEST_RETRY_S = 60


class BusyError(NatureLMError, RuntimeError):
    """The queue is full.

    Attributes:
        retry_after_s: When to come again.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the server is busy; come again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class ClosedError(NatureLMError, RuntimeError):
    """The server is shutting down."""


@dataclass(frozen=True)
class _Waiting(Generic[T, A]):
    thing: T
    group: Hashable
    answer: Future[A] = field(default_factory=Future)


class BatchQueue(Generic[T, A]):
    """Gathers things into batches and works on one batch at a time, in a thread of its own.

    Args:
        work: Takes things of one group, gives as many answers.
        max_batch: Things in a batch at most.
        limit: Things that wait at most.
        wait_s: How long a batch waits for company.
    """

    def __init__(
        self,
        work: Callable[[Hashable, Sequence[T]], Sequence[A]],
        max_batch: int,
        limit: int,
        wait_s: float = 0.01,
    ) -> None:
        self._work, self._max_batch, self._limit, self._wait_s = work, max_batch, limit, wait_s
        self._waiting: deque[_Waiting[T, A]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._second_each = 0.1
        self.batches = 0
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether answers can be expected."""
        return self._thread.is_alive() and not self._closed

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, things: Sequence[T], groups: Sequence[Hashable]) -> list[Future[A]]:
        """Queue things, all of them or none.

        Args:
            things: What to work on.
            groups: Only things of equal groups share a batch.

        Raises:
            BusyError: There is no room.
            ClosedError: The queue was closed.
        """
        new = [_Waiting[T, A](thing, group) for thing, group in zip(things, groups, strict=True)]
        with self._changed:
            if self._closed:
                raise ClosedError("the server is shutting down")
            if len(self._waiting) + len(new) > self._limit:
                raise BusyError(self.retry_after_s())
            self._waiting.extend(new)
            self._changed.notify()
        return [each.answer for each in new]

    def retry_after_s(self) -> int:
        """Estimate when there is room again."""
        return min(LONGEST_RETRY_S, max(1, math.ceil(len(self._waiting) * self._second_each / 2)))

    def close(self) -> None:
        """Finish the batch at work, tell those who wait, and end."""
        with self._changed:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for each in left:
            if each.answer.set_running_or_notify_cancel():
                each.answer.set_exception(ClosedError("the server is shutting down"))
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            if batch:
                self._do(batch)

    def _next(self) -> list[_Waiting[T, A]] | None:
        """Wait for a first thing, then a moment for others; leave out those whose callers are gone."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            until = time.monotonic() + self._wait_s
            while not self._closed and len(self._waiting) < self._max_batch:
                left = until - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    break
            if self._closed:
                return None
            return self._taken()

    def _taken(self) -> list[_Waiting[T, A]]:
        group = self._waiting[0].group
        batch: list[_Waiting[T, A]] = []
        others: deque[_Waiting[T, A]] = deque()
        while self._waiting and len(batch) < self._max_batch:
            each = self._waiting.popleft()
            if each.group != group:
                others.append(each)
            elif each.answer.set_running_or_notify_cancel():
                batch.append(each)
        self._waiting.extendleft(reversed(others))
        return batch

    def _do(self, batch: Sequence[_Waiting[T, A]]) -> None:
        began = time.monotonic()
        try:
            answers = self._work(batch[0].group, [each.thing for each in batch])
        except Exception as error:  # noqa: BLE001 - handed to those who wait; the thread must live on
            for each in batch:
                each.answer.set_exception(error)
            return
        self.batches += 1
        self._second_each += 0.2 * ((time.monotonic() - began) / len(batch) - self._second_each)
        for each, answer in zip(batch, answers, strict=True):
            each.answer.set_result(answer)
