# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's plots as SVG, the same bytes for the same report.

One plot has one panel, small enough that its text can be read on a telephone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ..backfill.progress import about
from ..gates import LEAST_RATIO, QueryPair, times
from ..ledger import BatchPoint, SlicePoint
from .drawing import (
    FAINT,
    FIRST,
    GREY,
    HEIGHT,
    INK,
    ROW_HEIGHT,
    SECOND,
    THIRD,
    Panel,
    beside,
    categories,
    drawn,
    joint_legend,
    legend,
    marker,
    second_axis,
    target_line,
)
from .value import Report
from .work_time import Work


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
    xs, ys = work.line(((p.at, (p.rows_done or 0) * scale) for p in slices), holds=True)
    axes.plot([0.0, *xs], [0.0, *ys], color=FIRST, marker=marker(slices), markersize=3)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% of the rows to be filled" if wanted else "rows")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _over_time(axes, work)


def _rate(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    """The rate while rows were filled; the share of the time that was held back has an axis of its
    own, where there is any."""
    _steps(axes, slices, work, [_free_rate(point) for point in slices], FIRST, "rows/s")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("rows/s, mean of a slice")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if any(point.held_seconds for point in slices):
        shares = [100 * (p.held_seconds or 0.0) / max(p.seconds or 0.0, 0.001) for p in slices]
        right = second_axis(axes, "% of the time")
        _steps(right, slices, work, shares, SECOND, "held back, %")
        right.set_ylim(0, 105)
        joint_legend(axes, right)
    _over_time(axes, work)


def _free_rate(point: SlicePoint) -> float:
    """Rows a second of the time in which a slice was not held back."""
    free = (point.seconds or 0.0) - (point.held_seconds or 0.0)
    return (point.rows or 0) / max(free, 0.001)


def _steps(
    axes: Axes,
    slices: Sequence[SlicePoint],
    work: Work,
    values: Sequence[float],
    colour: str,
    label: str,
) -> None:
    """A step for each slice, broken at each pause."""
    numbered = list(zip(slices, values, strict=True))
    for part, found in groupby(numbered, key=lambda each: work.part(each[0].at)):
        within = list(found)
        ends = [work.at(point.at) for point, _ in within]
        begin = max(ends[0] - (within[0][0].seconds or 0.0), 0.0)
        axes.stairs(
            [value for _, value in within],
            [begin, *ends],
            color=colour,
            linewidth=1.5,
            label=label if part == 0 else None,
        )


def _latency(axes: Axes, batches: Sequence[BatchPoint], work: Work) -> None:
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
        _line(axes, work, [(point.at, getattr(point, key)) for point in batches], colour, label)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms")
    legend(axes)
    _over_time(axes, work)


def _hot(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    shares = [(s.at, s.hot_percent) for s in slices if s.hot_percent is not None]
    _line(axes, work, shares, FIRST, "heap-only, %")
    axes.set_ylim(0, 105)
    axes.set_ylabel("% of the updates")
    lagging = [(s.at, s.replay_lag) for s in slices if s.replay_lag is not None]
    if lagging:
        right = second_axis(axes, "s")
        _line(right, work, lagging, SECOND, "lag of the slowest standby, s", "--")
        right.set_ylim(0, max(1.0, right.get_ylim()[1]))
        joint_legend(axes, right)
    else:
        axes.plot([], [], " ", label="no standby seen")
        legend(axes)
    _over_time(axes, work)


def _felt(axes: Axes, slices: Sequence[SlicePoint], work: Work) -> None:
    """Latencies and the batches' target, all in milliseconds."""
    for key, label, colour, style in (
        ("commit_ms", "commit", FIRST, "-"),
        ("probe_ms", "probe query", THIRD, "-"),
        ("least_target_ms", "batch's target", SECOND, "--"),
    ):
        there = [(p.at, getattr(p, key)) for p in slices if getattr(p, key) is not None]
        if there:
            _line(axes, work, there, colour, label, style)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms; latencies: 95 %")
    legend(axes)
    _over_time(axes, work)


def _line(
    axes: Axes,
    work: Work,
    points: Sequence[tuple[str, float | None]],
    colour: str,
    label: str,
    style: str = "-",
) -> None:
    xs, ys = work.line(points)
    axes.plot(
        xs,
        ys,
        color=colour,
        linestyle=style,
        linewidth=1.2,
        marker=marker(points),
        markersize=3,
        label=label,
    )


def _coverage(axes: Axes, report: Report) -> None:
    shares = report.coverage
    for key, colour, offset in (("before", GREY, -0.2), ("after", FIRST, 0.2)):
        found = [getattr(share, key) for share in shares.values()]
        there = [(row, share) for row, share in enumerate(found) if share is not None]
        _bars(axes, there, offset, colour, key)
    target = report.targets.get("coverage_min")
    if target is not None:
        target_line(axes, target, f"target {target:g} %")
    axes.set_xlim(0, 118)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("% of all rows")
    categories(axes, list(shares))


def _speed_up(axes: Axes, pairs: Sequence[QueryPair], target: float | None) -> None:
    """How many times better or worse, on a logarithmic axis: bars begin at 1 ×, where both queries
    are alike, and lines are the intervals."""
    ends = [1.0, target or 1.0]
    for kind, label, colour, offset in (
        ("time", "time", FIRST, -0.28),
        ("processor", "processor", GREY, 0.0),
        ("buffer", "buffers", THIRD, 0.28),
    ):
        rows = [row + offset for row in range(len(pairs))]
        ratios = [max(getattr(pair, f"{kind}_ratio"), LEAST_RATIO) for pair in pairs]
        spans = [
            [max(end, LEAST_RATIO) for end in getattr(pair, f"{kind}_interval")] for pair in pairs
        ]
        widths = [ratio - 1 for ratio in ratios]
        axes.barh(rows, widths, left=1.0, height=0.26, color=colour, label=label)
        for row, ratio, span in zip(rows, ratios, spans, strict=True):
            axes.plot(span, [row, row], color=INK, linewidth=1.5)
            better = times(ratio, "", "slower" if kind == "time" else "more").strip()
            beside(axes, better, max(span[1], 1.0), row)
        ends += [end for span in spans for end in span]
    axes.axvline(1.0, color=INK, linewidth=1.2)
    if target is not None:
        target_line(axes, target, f"target {target:g} ×")
    axes.set_xscale("log")
    axes.set_xlim(min(ends) / 1.2, max(ends) ** 1.3 * 1.8)
    few = max(ends) / min(ends) > 30
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if few else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} ×")
    axes.set_xlabel("worse ← 1 × → better")
    categories(axes, [pair.name for pair in pairs])


def _bars(
    axes: Axes, values: Sequence[tuple[int, float]], offset: float, colour: str, label: str
) -> None:
    """Horizontal bars of per cents, each with its figure behind its end."""
    if not values:
        return
    rows = [row + offset for row, _ in values]
    axes.barh(rows, [value for _, value in values], height=0.36, color=colour, label=label)
    for row, (_, value) in zip(rows, values, strict=True):
        beside(axes, f"{value:g} %", value, row)


def _over_time(axes: Axes, work: Work) -> None:
    """The axis that all plots over time have alike."""
    for pause in work.pauses:
        axes.axvspan(pause.begin, pause.end, color=FAINT, linewidth=0, gid="pause")
    axes.set_xlim(0, max(work.end, 0.001))
    ticks = [t for t in MaxNLocator(5).tick_values(0, work.seconds) if 0 <= t <= work.seconds]
    axes.set_xticks([work.place(tick) for tick in ticks], [f"{tick:,.10g}" for tick in ticks])
    waited = sum(pause.seconds for pause in work.pauses)
    axes.set_xlabel(
        f"seconds of work; grey: a pause, {about(waited)} in all" if waited else "seconds of work"
    )


def _height(rows: int) -> float:
    return max(HEIGHT, 1.3 + ROW_HEIGHT * rows)
