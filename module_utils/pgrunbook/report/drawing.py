# SPDX-License-Identifier: GPL-3.0-or-later
"""How plots are drawn: the style, the colours, the legend, and the SVG that a page can have.

Their colours are the page's, which has others for a dark screen and for paper.
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

GROUND, INK, FAINT = "#ffffff", "#1f2328", "#d0d7de"
FIRST, SECOND, THIRD, GREY = "#0550ae", "#bc4c00", "#1a7f37", "#8c959f"
COLOURS = {
    GROUND: "ground",
    INK: "ink",
    FAINT: "line",
    FIRST: "plot-1",
    SECOND: "plot-2",
    THIRD: "plot-3",
    GREY: "plot-4",
}
"""The variables of report.css that the page takes in place of a colour."""

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


def drawn(panels: Sequence[Panel]) -> dict[str, str]:
    """Those of the panels that there are figures for, each as an SVG element by its caption."""
    return {
        caption: _svg(panel, height, f"plot{number}")
        for number, (caption, there, height, panel) in enumerate(panels)
        if there
    }


def beside(axes: Axes, text: str, x: float, y: float) -> None:
    """A figure behind the end of a bar."""
    axes.annotate(
        text,
        (x, y),
        (4, 0),
        textcoords="offset points",
        va="center",
        fontsize=9,
        bbox={"facecolor": GROUND, "edgecolor": "none", "pad": 0.8},
    )


def target_line(axes: Axes, value: float, label: str) -> None:
    axes.axvline(value, color=SECOND, linestyle="--", linewidth=1.2, label=label, zorder=0.5)


def categories(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_broken(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.grid(False)
    legend(axes, side="right")


def _broken(name: str) -> str:
    """A long name in two lines, cut where it is longer than two."""
    short = name if len(name) <= 40 else f"{name[:39]}…"
    if len(short) <= 20:
        return short
    cut = max(short.rfind(" ", 0, 21), short.rfind("_", 0, 21) + 1)
    cut = cut if cut > 5 else 20
    return f"{short[:cut].strip()}\n{short[cut:].strip()}"


def second_axis(axes: Axes, label: str) -> Axes:
    right: Axes = axes.twinx()
    right.grid(False)
    right.set_ylabel(label)
    return right


def joint_legend(axes: Axes, right: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    more_handles, more_labels = right.get_legend_handles_labels()
    legend(axes, [*handles, *more_handles], [*labels, *more_labels])


def legend(axes: Axes, *entries: Any, side: str = "left") -> None:
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


def marker(points: Sequence[object]) -> str:
    return "o" if len(points) <= 40 else ""


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
    return re.sub("|".join(COLOURS), lambda found: _variable(found[0]), element)


def _variable(colour: str) -> str:
    return f"var(--{COLOURS[colour]}, {colour})"
