# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of benchmarks in docs/, on a ground that light and dark pages leave alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator

from benchmarks.results import UNLOADED, Figure, Results, figure, of_size, records, sizes
from benchmarks.ways import label

GROUND, INK, FAINT = "#f6f8fa", "#1f2328", "#d0d7de"
OURS, OTHERS, SECOND = "#0550ae", "#8c959f", "#bc4c00"

_PERCENTILES = (("p50_ms", OURS, "o", "right"), ("p99_ms", SECOND, "D", "left"))
"""With the marker, and which end of its label is at the marker, so that labels part."""

_STEPS = {
    "dry run": (OTHERS, "s"),
    "backfill": (OURS, "o"),
    "validation": (INK, "^"),
    "rollback": (SECOND, "D"),
}

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "pgrunbook",
    "svg.fonttype": "path",
    "font.size": 10,
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
    "grid.color": FAINT,
}


def write(results: Results, path: Path) -> None:
    """Draw the figure; the kind of file is that of the path's suffix."""
    with pyplot.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.06, hspace=0.06)
        drawn, panels = pyplot.subplots(2, 2, figsize=(12, 8.4), layout=layout)
        _wall(panels[0][0], results)
        _rate(panels[0][1], results)
        _rate_by_size(panels[1][0], results)
        _latency(panels[1][1], results)
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        drawn.savefig(path, metadata=metadata)
        pyplot.close(drawn)


def write_fleet(found: Mapping[int, Mapping[str, Mapping[str, float]]], path: Path) -> None:
    """Draw what a rollout costs the controller a host, by the number of hosts and step."""
    with pyplot.rc_context(_STYLE):
        drawn, panels = pyplot.subplots(1, 2, figsize=(12, 4.0), layout="constrained")
        hosts = sorted(found)
        for step, colour in (("run", OURS), ("dry run", OTHERS)):
            seconds = [found[n][step]["processor"] / n for n in hosts]
            panels[0].plot(hosts, seconds, "o-", color=colour, label=step)
            panels[1].plot(
                hosts, [found[n][step]["peak_bytes"] / 1e6 for n in hosts], "o-", color=colour
            )
        panels[0].set_title("Seconds of the controller's processors a host")
        panels[1].set_title("Memory of ansible-playbook in MB, at most")
        for axes in panels:
            axes.set_xscale("log")
            axes.set_xticks(hosts, [str(n) for n in hosts])
            axes.minorticks_off()
            axes.set_xlabel("hosts")
            axes.set_ylim(bottom=0)
            axes.grid(axis="y")
        panels[0].legend(frameon=False)
        drawn.savefig(path, metadata={"Date": None})
        pyplot.close(drawn)


def write_sizes(results: Results, path: Path) -> None:
    """Draw seconds and peak memory of each step by size, both axes logarithmic."""
    with pyplot.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.06, hspace=0.06)
        drawn, panels = pyplot.subplots(1, 2, figsize=(12, 4.4), layout=layout)
        _steps_by_size(panels[0], results, "seconds", 1.0)
        panels[0].set_title("Seconds by size (less is better)")
        _steps_by_size(panels[1], results, "peak_bytes", 1e6)
        panels[1].set_title("Peak memory of the step's process in MB")
        shown = panels[0].get_legend_handles_labels()
        drawn.legend(*shown, frameon=False, ncols=len(_STEPS), loc="outside lower center")
        metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {}
        drawn.savefig(path, metadata=metadata)
        pyplot.close(drawn)


def _steps_by_size(axes: Axes, results: Results, name: str, unit: float) -> None:
    """A line a step; a size that failed is marked at its place."""
    measured = results["measurements"]
    values: list[float] = []
    for step, (colour, marker) in _STEPS.items():
        points = [
            (record["sessions"], record["steps"][step][name] / unit)
            for record in measured
            if step in record["steps"]
        ]
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=step)
        values += [value for _, value in points]
    for record in measured:
        if record["failed"]:
            axes.axvline(record["sessions"], color=SECOND, linestyle=":")
            axes.annotate(
                "failed",
                (record["sessions"], 0.95),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1.0},
            )
    rows = [record["sessions"] for record in measured]
    axes.set_xscale("log")
    if values:
        axes.set_yscale("log")
        axes.set_ylim(*_decades(values))
    axes.set_xticks(rows, [_short(each) for each in rows])
    axes.minorticks_off()
    axes.margins(x=0.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel("rows of the table (both axes logarithmic)")
    axes.grid(True)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around them: what differs by little is not to look as if by much."""
    return 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))


def _wall(axes: Axes, results: Results) -> None:
    _bars(axes, results, "wall_seconds", "s")
    axes.set_title("Wall time in seconds (less is better)")


def _rate(axes: Axes, results: Results) -> None:
    _bars(axes, results, "rows_per_second", "rows/s")
    axes.set_title("Rows a second (more is better)")


def _bars(axes: Axes, results: Results, name: str, unit: str) -> None:
    """A bar a way; an extrapolated one is hatched, and cut where it would dwarf the others."""
    found = [
        (way, value, records(results, "alone", way)[0]["extrapolated"])
        for way in results["settings"]["ways"]
        if (value := figure(records(results, "alone", way), name))
    ]
    longest = max((value.most for _, value, partly in found if not partly), default=1.0)
    for row, (way, value, partly) in enumerate(found):
        cut = partly and value.median > longest * 1.1
        length = longest * 1.1 if cut else value.median
        axes.barh(
            row,
            length,
            color=GROUND if partly else _colour(way),
            edgecolor=_colour(way),
            hatch="///" if partly else None,
            height=0.62,
        )
        _range(axes, value, row)
        text = f"{'≈ ' if partly else ''}{_number(value.median)} {unit}"
        text += " (extrapolated" + (", bar cut)" if cut else ")") if partly else ""
        end = length if cut else value.most
        _label_bar(axes, text, row, end, inside=cut, limit=longest)
    axes.set_yticks(range(len(found)), [label(way) for way, _, _ in found])
    axes.invert_yaxis()
    axes.set_xlim(0, longest * 1.4)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.grid(True)
    axes.set_axisbelow(True)


def _label_bar(axes: Axes, text: str, row: int, end: float, *, inside: bool, limit: float) -> None:
    """Behind the bar's end, or on a bar that reaches to the panel's edge."""
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 2.0}
    if inside:
        axes.text(end - limit * 0.03, row, text, va="center", ha="right", bbox=ground)
    else:
        axes.text(end + limit * 0.02, row, text, va="center", ha="left")


def _range(axes: Axes, value: Figure, row: int) -> None:
    if value.least < value.most:
        axes.plot([value.least, value.most], [row, row], color=INK, linewidth=1.2)


def _rate_by_size(axes: Axes, results: Results) -> None:
    for way, colour, marker in (("engine-1", OURS, "o"), ("one-update", OTHERS, "s")):
        points = [
            (rows, value)
            for rows in sizes(results)
            if (value := figure(of_size(results, way, rows), "rows_per_second"))
        ]
        if points:
            rows = [rows for rows, _ in points]
            axes.plot(
                rows,
                [value.median for _, value in points],
                color=colour,
                marker=marker,
                label=label(way),
            )
            for at, value in points:
                axes.plot([at, at], [value.least, value.most], color=colour, linewidth=1.2)
    axes.set_xscale("log")
    axes.set_xticks(sizes(results), [_short(rows) for rows in sizes(results)])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.margins(x=0.08)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("rows of the table (logarithmic)")
    axes.set_title("Rows a second by size")
    axes.grid(True)
    _legend(axes)


def _latency(axes: Axes, results: Results) -> None:
    ways = [UNLOADED, *results["settings"]["ways"]]
    found = [(way, records(results, "load", way)) for way in ways]
    found = [(way, each) for way, each in found if each]
    for name, colour, marker, side in _PERCENTILES:
        points = [
            (row, value)
            for row, (_, each) in enumerate(found)
            if (value := figure(each, "application", name))
        ]
        at = [value.median for _, value in points], [row for row, _ in points]
        which = name.removesuffix("_ms")
        axes.scatter(*at, color=colour, marker=marker, s=46, label=which, zorder=3)
        for row, value in points:
            _range(axes, value, row)
            axes.annotate(
                _duration(value.median),
                (value.least if side == "right" else value.most, row),
                (-8 if side == "right" else 8, 0),
                textcoords="offset points",
                va="center",
                ha=side,
                fontsize=9,
                bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 1.0},
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.set_xlim(*_room(axes.get_xlim()))
    names = ["nothing else" if way == UNLOADED else label(way) for way, _ in found]
    axes.set_yticks(range(len(found)), names)
    axes.set_ylim(len(found) - 0.4, -0.7)
    axes.xaxis.set_major_formatter(lambda value, _: _short_duration(value))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("from when it was due to its end (logarithmic)")
    axes.set_title("Latency of the application's transactions")
    axes.grid(True)
    axes.set_axisbelow(True)
    _legend(axes)


def _room(limits: tuple[float, float]) -> tuple[float, float]:
    """Some room on both ends of a logarithmic axis, for the labels."""
    decades = math.log10(limits[1] / limits[0])
    return limits[0] / 10 ** (0.2 * decades), limits[1] * 10 ** (0.25 * decades)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.0, -0.24), borderpad=0
        )


def _colour(way: str) -> str:
    return OURS if way.startswith("engine") else OTHERS


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}"


def _duration(ms: float) -> str:
    return f"{_number(ms)} ms" if ms < 10_000 else f"{_number(ms / 1000)} s"


def _short_duration(ms: float) -> str:
    return f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:,g} s"


def _short(rows: int) -> str:
    return f"{rows / 1e6:.2f} M" if rows >= 1_000_000 else f"{rows / 1000:g} k"
