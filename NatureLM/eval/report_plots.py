"""The plots of a report, as SVG for light and for dark screens.

Knows evaluations and matplotlib. Drawing never touches matplotlib's global state: no window, no style, no current figure.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from NatureLM.errors import DependencyError
from NatureLM.eval.report_document import Figure
from NatureLM.eval.score import Evaluation
from NatureLM.scoring.calibration import Calibration
from NatureLM.scoring.statistics import Interval

WIDTH_IN = 8.6
FEW = 10
"""Rows below which a point is noise and is left out of a plot."""


@dataclass(frozen=True)
class Ink:
    """Colours that read on one kind of screen."""

    text: str
    line: str
    first: str
    second: str
    third: str


LIGHT = Ink(text="#3d444c", line="#dfe3e8", first="#1a6b4a", second="#b4582a", third="#3a5fa8")
DARK = Ink(text="#c3c9cf", line="#363d44", first="#6fc79f", second="#e39a6b", third="#8fb0ef")

Draw = Callable[[Any, Ink], None]
"""(matplotlib figure, colours) -> drawn."""


def plot(draw: Draw, caption: str, height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Draw a plot twice.

    Args:
        draw: Draws on an empty matplotlib figure.
        caption: What the plot shows.
        height_in: Height in inches.
        width_in: Width in inches.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    return Figure(
        _svg(draw, LIGHT, (width_in, height_in)), _svg(draw, DARK, (width_in, height_in)), caption
    )


def _svg(draw: Draw, ink: Ink, size: tuple[float, float]) -> bytes:
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise DependencyError("reports need matplotlib; install naturelm-audio[eval]") from error
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "naturelm",
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
    }
    with mpl.rc_context(settings):
        canvas = Canvas(figsize=size, layout="constrained")
        canvas.patch.set_alpha(0)
        draw(canvas, ink)
        target = io.BytesIO()
        FigureCanvasSVG(canvas).print_svg(target, metadata={"Date": None})
    return target.getvalue()


def dress(axes: Any, ink: Ink) -> None:
    """Give axes the colours of the screen and no more frame than needed."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom")
        axes.spines[side].set_color(ink.line)
    axes.tick_params(colors=ink.text, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label, axes.title):
        label.set_color(ink.text)
    axes.grid(visible=True, axis="x", color=ink.line, linewidth=0.7)
    axes.set_axisbelow(True)


def legend(axes: Any, ink: Ink, **where: Any) -> None:
    """Write a legend in the colours of the screen."""
    axes.legend(frameon=False, labelcolor=ink.text, **where)


@dataclass(frozen=True)
class _Line:
    name: str
    strict: float
    value: float
    nearest: float
    official: float | None
    interval: Interval | None


_KEYS = {
    "classification": ("accuracy_strict", "accuracy_normalised", "accuracy_nearest", "Accuracy"),
    "detection": ("f1_macro_strict", "f1_macro", "f1_macro_nearest", "F1"),
}


def matching_plot(evaluation: Evaluation) -> Figure | None:
    """Show for each component what strict, normalised, nearest and official matching give."""
    lines = _lines(evaluation)
    if not lines:
        return None

    def draw(canvas: Any, ink: Ink) -> None:
        axes = canvas.add_subplot()
        dress(axes, ink)
        places = range(len(lines), 0, -1)
        _dots(axes, ink, lines, places)
        axes.set_yticks(list(places), [line.name for line in lines])
        axes.set_xlim(-2, 102)
        axes.set_ylim(0.4, len(lines) + 0.6)
        axes.set_xlabel("accuracy (classification) or macro F1 (detection), %")
        legend(axes, ink, loc="upper center", bbox_to_anchor=(0.45, 0), ncols=4, borderaxespad=3.6)

    caption = (
        "Score by way of matching. Filled dot: spelling forgiven, with its interval. A diamond to the right of it is credit for "
        "forcing answers onto the nearest label. Strict F1 can be the highest: misspelt wrong labels go unseen."
    )
    return plot(draw, caption, 1.3 + 0.27 * len(lines))


def _lines(evaluation: Evaluation) -> list[_Line]:
    scores = evaluation.corrected.components if evaluation.corrected else {}
    official = evaluation.official.metrics if evaluation.official else {}
    found = []
    for name, score in scores.items():
        keys = _KEYS.get(score.component.task)
        if keys:
            strict, value, nearest = (score.metrics[key] for key in keys[:3])
            interval = evaluation.intervals.get(name, {}).get(keys[1])
            found.append(
                _Line(name, strict, value, nearest, official.get(name, {}).get(keys[3]), interval)
            )
    return found


def _dots(axes: Any, ink: Ink, lines: Sequence[_Line], places: Sequence[int]) -> None:
    for line, place in zip(lines, places, strict=True):
        if line.interval:
            ends = [100 * line.interval.low, 100 * line.interval.high]
            axes.plot(ends, [place, place], color=ink.first, alpha=0.45, lw=4)
    hollow = {"s": 30, "facecolors": "none"}
    marks: tuple[tuple[str, list[float | None], dict[str, Any]], ...] = (
        ("strict", [x.strict for x in lines], {"edgecolors": ink.first, **hollow}),
        ("normalised", [x.value for x in lines], {"color": ink.first, "s": 34, "zorder": 3}),
        ("nearest", [x.nearest for x in lines], {"edgecolors": ink.third, "marker": "D", **hollow}),
        (
            "official",
            [x.official for x in lines],
            {"color": ink.second, "marker": "x", "zorder": 3},
        ),
    )
    for name, values, look in marks:
        shown = [(100 * v, place) for v, place in zip(values, places, strict=True) if v is not None]
        if shown:
            axes.scatter(*zip(*shown, strict=True), label=name, **look)


def calibration_plot(calibrations: Mapping[str, Calibration]) -> Figure | None:
    """Show reliability and risk against coverage of every component that has confidences."""
    if not calibrations:
        return None

    def draw(canvas: Any, ink: Ink) -> None:
        left, right = canvas.subplots(1, 2)
        left.plot([0, 100], [0, 100], color=ink.text, lw=0.8, ls=":")
        for place, (name, found) in enumerate(calibrations.items()):
            _curves(left, right, f"{name}, ECE {found.ece:.3f}", found, _look(ink, place))
        words = (
            (left, "confidence, %", "right, %"),
            (right, "rows answered, %", "wrong among them, %"),
        )
        for axes, across, up in words:
            dress(axes, ink)
            axes.grid(visible=True, color=ink.line, linewidth=0.7)
            axes.set(xlabel=across, ylabel=up, xlim=(-2, 102), ylim=(-2, 102))
        canvas.legend(
            loc="outside lower center", ncols=3, frameon=False, labelcolor=ink.text, fontsize=8
        )

    caption = (
        "Left: how often the model is right when it is that sure. Right: errors left when the least sure rows are not answered. "
        f"Points that stand for fewer than {FEW} rows are not drawn."
    )
    return plot(draw, caption, 3.5 + 0.2 * -(-len(calibrations) // 3))


def _look(ink: Ink, place: int) -> dict[str, Any]:
    return {
        "color": (ink.first, ink.second, ink.third)[place % 3],
        "ls": ("-", "--", ":")[place // 3 % 3],
    }


def _curves(left: Any, right: Any, name: str, found: Calibration, look: dict[str, Any]) -> None:
    bins = [each for each in found.bins if each.rows >= FEW]
    sure, hits = [100 * each.confidence for each in bins], [100 * each.accuracy for each in bins]
    left.plot(sure, hits, marker="o", ms=4, label=name, **look)
    pairs = zip(found.coverage, found.risk, strict=True)
    points = [
        (100 * covered, 100 * wrong) for covered, wrong in pairs if covered * found.rows >= FEW
    ]
    right.plot([x for x, _ in points], [y for _, y in points], **look)
