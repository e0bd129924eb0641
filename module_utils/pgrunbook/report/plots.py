# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's plots as SVG, the same bytes for the same report.

They stand on a ground of their own, so that a dark page leaves them readable. One plot has one
panel, small enough that its text can be read on a telephone.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..gates import QueryPair
from ..ledger import BatchPoint, SlicePoint
from .value import Report
from .work_time import Work

GROUND, INK, FAINT = "#ffffff", "#1f2328", "#d0d7de"
FIRST, SECOND, THIRD, GREY = "#0550ae", "#bc4c00", "#1a7f37", "#8c959f"
WIDTH, HEIGHT = 4.4, 2.9  # inches: text of 10 points is 10 pixels high where 320 are left
ROW_HEIGHT = 0.55  # inches of a plot with horizontal bars, for each column or query

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "pgrunbook",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


Panel = tuple[str, bool, float, Callable[[Axes], None]]
"""A plot: its caption, whether there are figures for it, its height in inches, what draws it."""


def draw(report: Report) -> dict[str, str]:
    """The plots that the report has figures for, by their caption."""
    pairs = report.queries
    found: list[Panel] = [
        *_of_the_run(report),
        (
            "Coverage by column",
            bool(report.coverage),
            _height(len(report.coverage)),
            lambda axes: _coverage(axes, report),
        ),
        (
            "Speed-up by query",
            bool(pairs),
            _height(len(pairs)),
            lambda axes: _speed_up(axes, pairs, report.targets.get("speedup_min")),
        ),
    ]
    return drawn(found)


def drawn(panels: Sequence[Panel]) -> dict[str, str]:
    """Those of the panels that there are figures for, each as an SVG element by its caption."""
    return {
        caption: _svg(panel, height, f"plot{number}")
        for number, (caption, there, height, panel) in enumerate(panels)
        if there
    }


def _of_the_run(report: Report) -> list[Panel]:
    """The plots over the seconds of work."""
    slices, batches = report.history.slices, report.history.batches
    work = Work(slices, batches)
    return [
        (
            "Rows filled over the run",
            bool(slices),
            HEIGHT,
            lambda axes: _filled(axes, report, work),
        ),
        ("Rows a second", bool(slices), HEIGHT, lambda axes: _rate(axes, slices, work)),
        ("Duration of batches", bool(batches), HEIGHT, lambda axes: _latency(axes, batches, work)),
        (
            "Heap-only updates, and the standby's lag",
            any(point.hot_percent is not None for point in slices),
            HEIGHT,
            lambda axes: _hot(axes, slices, work),
        ),
        (
            "What others felt, and what batches were to take",
            any(point.commit_ms is not None for point in slices),
            HEIGHT,
            lambda axes: _felt(axes, slices, work),
        ),
    ]


def _filled(axes: Axes, report: Report, work: Work) -> None:
    slices = report.history.slices
    wanted = report.backfill.rows_eligible
    scale = 100 / wanted if wanted else 1.0
    axes.plot(
        [0.0, *(work.at(point.at) for point in slices)],
        [0.0, *((point.rows_done or 0) * scale for point in slices)],
        color=FIRST,
        marker=_marker(slices),
        markersize=3,
    )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of the rows to be filled" if wanted else "rows")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _over_time(axes, work)


def _rate(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    ends = [work.at(point.at) for point in slices]
    begin = max(ends[0] - (slices[0].seconds or 0.0), 0.0)
    rates = [(point.rows or 0) / max(point.seconds or 0.0, 0.001) for point in slices]
    axes.stairs(rates, [begin, *ends], color=FIRST, linewidth=1.5)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("rows/s, mean of a slice")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _over_time(axes, work)


def _latency(axes: Axes, batches: Sequence[BatchPoint], work: Work) -> None:
    at = [work.at(point.at) for point in batches]
    alone = all(point.batches == 1 for point in batches)
    for key, label, colour in (
        (("max_ms", "each batch", FIRST),)
        if alone
        else (
            ("max_ms", "longest", GREY),
            ("p95_ms", "95 %", SECOND),
            ("p50_ms", "median", FIRST),
        )
    ):
        axes.plot(
            at,
            [getattr(point, key) for point in batches],
            color=colour,
            label=label,
            linewidth=1.2,
            marker=_marker(batches),
            markersize=3,
        )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms")
    _legend(axes)
    _over_time(axes, work)


def _hot(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    shares = [(s.at, s.hot_percent) for s in slices if s.hot_percent is not None]
    axes.plot(
        [work.at(at) for at, _ in shares],
        [share for _, share in shares],
        color=FIRST,
        marker=_marker(shares),
        markersize=3,
        label="heap-only, %",
    )
    axes.set_ylim(0, 105)
    axes.set_ylabel("% of the updates")
    lagging = [(s.at, s.replay_lag) for s in slices if s.replay_lag is not None]
    handles, labels = axes.get_legend_handles_labels()
    if lagging:
        right = axes.twinx()
        right.grid(False)
        right.plot(
            [work.at(at) for at, _ in lagging],
            [lag for _, lag in lagging],
            color=SECOND,
            linestyle="--",
            marker=_marker(lagging),
            markersize=3,
            label="lag of the slowest standby, s",
        )
        right.set_ylim(0, max(1.0, right.get_ylim()[1]))
        right.set_ylabel("s")
        more = right.get_legend_handles_labels()
        handles, labels = [*handles, *more[0]], [*labels, *more[1]]
    else:
        axes.plot([], [], " ", label="no standby seen")
        handles, labels = axes.get_legend_handles_labels()
    _legend(axes, handles, labels)
    _over_time(axes, work)


def _felt(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    """Latencies and the batches' target, all in milliseconds."""
    for key, label, colour, style in (
        ("commit_ms", "commit", FIRST, "-"),
        ("probe_ms", "probe query", THIRD, "-"),
        ("least_target_ms", "batch's target", SECOND, "--"),
    ):
        there = [point for point in slices if getattr(point, key) is not None]
        if there:
            axes.plot(
                [work.at(point.at) for point in there],
                [getattr(point, key) for point in there],
                color=colour,
                linestyle=style,
                marker=_marker(there),
                markersize=3,
                label=label,
            )
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms; latencies: 95 %")
    _legend(axes)
    _over_time(axes, work)


def _coverage(axes: Axes, report: Report) -> None:
    shares = report.coverage
    for key, colour, offset in (("before", GREY, -0.2), ("after", FIRST, 0.2)):
        found = [getattr(share, key) for share in shares.values()]
        there = [(row, share) for row, share in enumerate(found) if share is not None]
        _bars(axes, there, offset, colour, key, "{:g} %")
    target = report.targets.get("coverage_min")
    if target is not None:
        _target(axes, target, f"target {target:g} %")
    axes.set_xlim(0, 118)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("% of all rows")
    _categories(axes, list(shares))


def _speed_up(axes: Axes, pairs: Sequence[QueryPair], target: float | None) -> None:
    """The ratios, each with its interval where it has one."""
    longest = target or 0.0
    kinds = (
        ("time", "time", FIRST, -0.28),
        ("processor", "processor", GREY, 0.0),
        ("buffer", "buffers", THIRD, 0.28),
    )
    for kind, label, colour, offset in kinds:
        there = [(row, getattr(pair, f"{kind}_ratio")) for row, pair in enumerate(pairs)]
        spans = [getattr(pair, f"{kind}_interval") for pair in pairs]
        ends = [high for _, high in spans]
        _bars(axes, there, offset, colour, label, "{:g} ×", height=0.26, ends=ends)
        for (row, _), span in zip(there, spans, strict=True):
            axes.plot(span, [row + offset] * 2, color=INK, linewidth=1.5)
        longest = max(longest, *ends)
    if target is not None:
        _target(axes, target, f"target {target:g} ×")
    axes.set_xlim(0, longest * 1.25)
    axes.set_xlabel("times better; lines: 95 % intervals")
    _categories(axes, [pair.name for pair in pairs])


def _bars(
    axes: Axes,
    values: Sequence[tuple[int, float]],
    offset: float,
    colour: str,
    label: str,
    figure: str,
    height: float = 0.36,
    ends: Sequence[float] = (),
) -> None:
    """Horizontal bars, each with its figure behind its end, or behind what ends says."""
    if not values:
        return
    rows = [row + offset for row, _ in values]
    axes.barh(rows, [value for _, value in values], height=height, color=colour, label=label)
    at = ends or [value for _, value in values]
    for row, end, (_, value) in zip(rows, at, values, strict=True):
        axes.annotate(
            figure.format(value),
            (end, row),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.8},
        )


def _target(axes: Axes, value: float, label: str) -> None:
    axes.axvline(value, color=SECOND, linestyle="--", linewidth=1.2, label=label, zorder=0.5)


def _categories(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_broken(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.grid(False)
    _legend(axes, side="right")


def _broken(name: str) -> str:
    """A long name in two lines, cut where it is longer than two."""
    short = name if len(name) <= 40 else f"{name[:39]}…"
    if len(short) <= 20:
        return short
    cut = max(short.rfind(" ", 0, 21), short.rfind("_", 0, 21) + 1)
    cut = cut if cut > 5 else 20
    return f"{short[:cut].strip()}\n{short[cut:].strip()}"


def _over_time(axes: Axes, work: Work) -> None:
    for pause in work.pauses():
        axes.axvline(pause, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlim(left=0)
    label = "seconds of work"
    axes.set_xlabel(f"{label}; dotted: a pause" if work.pauses() else label)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _legend(axes: Axes, *entries: Any, side: str = "left") -> None:
    """A line above the panel, where it hides nothing, that begins or ends with the panel's side."""
    corner: Any = f"lower {side}"
    axes.legend(
        *entries,
        loc=corner,
        bbox_to_anchor=(float(side == "right"), 1.0),
        ncols=3,
        borderpad=0,
        borderaxespad=0.3,
        columnspacing=1.2,
    )


def _marker(points: Sequence[object]) -> str:
    return "o" if len(points) <= 40 else ""


def _height(rows: int) -> float:
    return max(HEIGHT, 1.3 + ROW_HEIGHT * rows)


def _svg(panel: Callable[[Axes], None], height: float, prefix: str) -> str:
    """A plot as an SVG element whose ids begin with the prefix, so that several fit on a page."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        panel(figure.subplots())
        written = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings(action="ignore", category=UserWarning):
            # A letter that its own font lacks: the reader's font has it.
            figure.savefig(written, format="svg", metadata=nothing)
    element = written.getvalue()
    element = element[element.index("<svg") :]
    element = re.sub(r'\b(id="|xlink:href="#|url\(#)', rf"\g<1>{prefix}-", element)
    return element
