"""The queue gives every caller the right answer, shares batches, keeps its bound and survives faults."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.serve.batching import BatchQueue, BusyError, ClosedError


def doubled(_group, things):
    return [2 * thing for thing in things]


@given(st.lists(st.tuples(st.integers(), st.sampled_from("abc")), max_size=30), st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_everyone_gets_the_answer_to_the_own_question(asked, size):
    sizes, groups = [], []

    def work(group, things):
        sizes.append(len(things))
        groups.append((group, tuple(things)))
        return [(group, thing) for thing in things]

    queue = BatchQueue(work, size, 100, 0.001)
    futures = queue.submit([t for t, _ in asked], [g for _, g in asked])
    assert [future.result(5) for future in futures] == [(g, t) for t, g in asked]
    queue.close()
    assert all(n <= size for n in sizes)
    assert sum(sizes) == len(asked)


def test_callers_share_batches():
    queue = BatchQueue(doubled, 8, 100, 0.5)
    barrier = threading.Barrier(8)
    answers = {}

    def call(i):
        barrier.wait()
        (future,) = queue.submit([i], ["g"])
        answers[i] = future.result(10)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {i: 2 * i for i in range(8)}
    assert queue.batches <= 2
    queue.close()


def test_a_full_queue_takes_all_or_nothing_and_says_when_to_come_again():
    held = threading.Event()

    def work(_group, things):
        held.wait(10)
        return things

    queue = BatchQueue(work, 1, 3, 0.0)
    (first,) = queue.submit([0], ["g"])
    while len(queue):
        time.sleep(0.001)
    waiting = queue.submit([1, 2], ["g", "g"])
    with pytest.raises(BusyError) as caught:
        queue.submit([3, 4], ["g", "g"])
    assert 1 <= caught.value.retry_after_s <= 60
    assert len(queue) == 2
    held.set()
    assert [f.result(5) for f in [first, *waiting]] == [0, 1, 2]
    queue.close()


def test_a_caller_who_left_costs_nothing():
    held, worked = threading.Event(), []

    def work(_group, things):
        held.wait(10)
        worked.extend(things)
        return things

    queue = BatchQueue(work, 1, 10, 0.0)
    queue.submit(["first"], ["g"])
    while len(queue):
        time.sleep(0.001)
    gone, stays = queue.submit(["gone", "stays"], ["g", "g"])
    assert gone.cancel()
    held.set()
    assert stays.result(5) == "stays"
    assert worked == ["first", "stays"]
    queue.close()


def test_a_fault_is_its_batchs_only():
    def work(_group, things):
        if "bad" in things:
            raise ValueError("bad")
        return things

    queue = BatchQueue(work, 1, 10, 0.0)
    bad, good = queue.submit(["bad", "good"], ["g", "g"])
    with pytest.raises(ValueError, match="bad"):
        bad.result(5)
    assert good.result(5) == "good"
    assert queue.alive
    queue.close()


def test_closing_tells_those_who_wait():
    held = threading.Event()

    def work(_group, things):
        held.wait(10)
        return things

    queue = BatchQueue(work, 1, 10, 0.0)
    (first,) = queue.submit([1], ["g"])
    while len(queue):
        time.sleep(0.001)
    (second,) = queue.submit([2], ["g"])
    closing = threading.Thread(target=queue.close)
    closing.start()
    with pytest.raises(ClosedError):
        second.result(5)
    held.set()
    closing.join()
    assert first.result(0) == 1
    assert not queue.alive
    with pytest.raises(ClosedError):
        queue.submit([3], ["g"])


def test_those_who_wait_for_another_batch_keep_their_order():
    held, worked = threading.Event(), []

    def work(group, things):
        held.wait(10)
        worked.append((group, tuple(things)))
        return things

    queue = BatchQueue(work, 2, 20, 0.0)
    queue.submit(["first"], ["z"])
    while len(queue):
        time.sleep(0.001)
    futures = queue.submit(list("abcdef"), list("xyyyyx"))
    held.set()
    assert [future.result(5) for future in futures] == list("abcdef")
    queue.close()
    assert worked[1:] == [("x", ("a", "f")), ("y", ("b", "c")), ("y", ("d", "e"))]
