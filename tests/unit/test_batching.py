"""Batches are the stream cut in pieces; decoding ahead changes nothing but the time."""

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from NatureLM.audio.recording import WindowAudio
from NatureLM.audio.windows import Window
from NatureLM.infer.batching import Ready, Waiting, chunks, gather, read_ahead
from NatureLM.results import RecordingResult

PIECE = RecordingResult("a")
AUDIO = WindowAudio(Window(0, 0.0, 1.0), np.zeros(1, np.float32), ())

items = st.lists(
    st.builds(Waiting, st.integers(0, 9), st.just(PIECE), st.just(AUDIO), st.just(("q",)))
    | st.builds(Ready, st.integers(0, 9), st.just(PIECE)),
    max_size=40,
)


@given(items, st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_batches_are_the_stream_in_order_with_no_more_windows_than_asked_for(stream, sizes) -> None:
    batches = list(gather(iter(stream), itertools.cycle(sizes)))
    assert list(itertools.chain.from_iterable(batches)) == stream
    waiting = [sum(isinstance(item, Waiting) for item in batch) for batch in batches]
    full = [count for count in waiting if count]
    wanted = itertools.cycle(sizes)
    assert all(count == next(wanted) for count in full[:-1])
    assert not full or full[-1] <= next(wanted)
    assert all(batches)


def test_what_waits_for_nobody_is_passed_on_at_once() -> None:
    def stream():
        yield Ready(0, PIECE)
        pytest.fail("asked for more before passing the first on")

    assert next(gather(stream(), itertools.repeat(8))) == [Ready(0, PIECE)]


@given(st.lists(st.integers()), st.integers(1, 5))
def test_chunks_are_the_list(things: list[int], size: int) -> None:
    parts = list(chunks(things, size))
    assert list(itertools.chain.from_iterable(parts)) == things
    assert all(len(part) == size for part in parts[:-1])


@given(st.lists(st.integers(), max_size=20), st.integers(1, 5))
def test_reading_ahead_keeps_the_order(things: list[int], limit: int) -> None:
    assert list(read_ahead(iter(things), limit)) == things


def test_an_error_comes_in_its_turn() -> None:
    def failing():
        yield 1
        yield 2
        raise LookupError("gone")

    ahead = read_ahead(failing(), 5)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(LookupError, match="gone"):
        next(ahead)


def test_it_reads_ahead_but_no_further_than_the_limit() -> None:
    drawn: list[int] = []

    def counted():
        for number in range(100):
            drawn.append(number)
            yield number

    ahead = read_ahead(counted(), 3)
    next(ahead)
    deadline = time.monotonic() + 5
    while len(drawn) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(drawn) == 5  # one given, three in the queue, one in the thread's hand
    ahead.close()
    assert not [t for t in threading.enumerate() if t.name == "read-ahead"]


def test_stopping_early_ends_the_thread_and_closes_what_it_read() -> None:
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    ahead = read_ahead(endless(), 2)
    assert next(ahead) == 0
    ahead.close()
    assert closed.wait(5)
