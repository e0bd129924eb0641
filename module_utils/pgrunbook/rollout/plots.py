# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of a rollout."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..report.drawing import FIRST, HEIGHT, drawn
from .ended import Ended

NAMED = 8  # hosts that the legend of a plot has room for


def draw(hosts: Sequence[Ended]) -> dict[str, str]:
    """The plots that there are figures for, by their caption."""
    filled = [host for host in hosts if host.slices]
    timed = [host for host in hosts if host.batch_ms is not None]
    return drawn(
        [
            (
                "Rows over time, host upon host",
                bool(filled),
                HEIGHT,
                lambda axes: _stacked(axes, filled),
            ),
            (
                "Duration of batches by host",
                bool(timed),
                HEIGHT,
                lambda axes: _latency(axes, timed),
            ),
            (
                "Verdicts",
                bool(hosts),
                HEIGHT,
                lambda axes: _verdicts(axes, hosts),
            ),
        ]
    )


def _stacked(axes: Axes, hosts: Sequence[Ended]) -> None:
    """What each host had filled, from the first slice of any on."""
    series = {
        host.host: [(datetime.fromisoformat(p.at).timestamp(), p.rows) for p in host.slices]
        for host in hosts
    }
    times = sorted({at for points in series.values() for at, _ in points})
    heights = [[_at(points, at) for at in times] for points in series.values()]
    labels = list(series) if len(series) <= NAMED else []
    seconds = [at - times[0] for at in times]
    axes.stackplot(seconds, heights, labels=labels, linewidth=0, step="post")
    axes.set_ylabel("rows")
    axes.set_xlabel("seconds")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if labels:
        axes.legend(loc="upper left", fontsize=8)


def _at(points: Sequence[tuple[float, int]], when: float) -> int:
    """How many rows there were at a time: those of the last slice until then."""
    before = bisect_right([at for at, _ in points], when)
    return points[before - 1][1] if before else 0


def _latency(axes: Axes, hosts: Sequence[Ended]) -> None:
    axes.bar(range(1, len(hosts) + 1), [host.batch_ms or 0.0 for host in hosts], color=FIRST)
    axes.set_ylabel("ms, 95 % of the batches at most")
    axes.set_xlabel("hosts, in the order in which they went")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _verdicts(axes: Axes, hosts: Sequence[Ended]) -> None:
    states = list(dict.fromkeys(host.state for host in hosts))
    numbers = [sum(host.state == state for host in hosts) for state in states]
    axes.barh(range(len(states)), numbers, height=0.4, color=FIRST)
    axes.set_ylim(len(states) - 0.4, -0.6)
    axes.set_yticks(range(len(states)), states)
    axes.set_xlabel("hosts")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.grid(False)
