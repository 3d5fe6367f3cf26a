"""Windows: the published enumeration, the tail, ten hours without drift, plans that make no sense."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from NatureLM.audio.windows import Window, WindowPlan, plan_windows, published_windows
from NatureLM.errors import WindowError

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden/audio/published.json").read_text(encoding="utf-8")
)
CASES = [case for case in GOLDEN["windows"] if case["output"] != "ValueError"]


def _lines(starts: list[float], window_s: float) -> str:
    return "".join(f"#{start:.2f}s - {start + window_s:.2f}s#: X\n" for start in starts)


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['duration']}s-{case['window']}-{case['hop']}"
)
def test_published_enumeration(case: dict) -> None:
    plan = WindowPlan(case["window"], case["hop"], tail="drop")
    samples = round(case["duration"] * case["sr"])
    published = [window.start_s for window, _, _ in published_windows(samples, case["sr"], plan)]
    planned = [window.start_s for window in plan_windows(case["duration"], plan)]
    assert _lines(published, case["window"]) == case["output"]
    assert _lines(planned, case["window"]) == case["output"]


def test_the_tail_has_its_true_end() -> None:
    assert list(plan_windows(25.0, WindowPlan())) == [
        Window(0, 0, 10),
        Window(1, 10, 20),
        Window(2, 20, 25),
    ]
    assert list(plan_windows(3.0, WindowPlan(tail="drop"))) == [Window(0, 0.0, 3.0)]


@pytest.mark.parametrize(
    ("duration_s", "window_s", "hop_s", "count"),
    [
        (20.0, 10, 10, 2),
        (20.0, 10, 5, 3),
        (22.0, 10, 5, 4),
        (10.0, 10, 3, 1),
        (0.0, 10, 10, 0),
        (24.9, 5, 10, 3),
        (27.0, 5, 10, 3),
    ],
)
def test_a_tail_window_only_where_something_is_uncovered(
    duration_s: float, window_s: float, hop_s: float, count: int
) -> None:
    assert len(list(plan_windows(duration_s, WindowPlan(window_s, hop_s)))) == count


def test_ten_hours_do_not_drift() -> None:
    plan = WindowPlan(0.3, 0.1)
    windows = list(plan_windows(36_000.0, plan))
    assert len(windows) == 359_998
    assert all(math.isclose(w.start_s, w.index / 10, abs_tol=1e-9) for w in windows)
    assert windows[-1].end_s == 36_000.0
    assert all(after.start_s > before.start_s for before, after in pairwise(windows))


@pytest.mark.parametrize(
    "wrong",
    [
        {"window_s": 0},
        {"hop_s": 0},
        {"hop_s": -1},
        {"window_s": math.nan},
        {"hop_s": math.inf},
        {"tail": "pad"},
    ],
)
def test_plans_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(WindowError, match="expected"):
        WindowPlan(**wrong)


@pytest.mark.parametrize("duration_s", [-1.0, math.nan, math.inf])
def test_durations_that_make_no_sense(duration_s: float) -> None:
    with pytest.raises(WindowError):
        list(plan_windows(duration_s, WindowPlan()))
