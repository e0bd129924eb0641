# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures and tables as the benchmark's pages show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.results import Figure

NOT_MEASURED = "–"

MEGABYTE = 1e6


def figure_text(
    found: Figure | None, show: Callable[[float], str], extrapolated: bool = False
) -> str:
    """The median as show writes it, with the least and the most where they differ from it."""
    if found is None:
        return NOT_MEASURED
    text = f"{'≈ ' if extrapolated else ''}{show(found.median)}"
    least, most = show(found.least), show(found.most)
    return text if least == most else f"{text} ({least}–{most})"


def whole(value: float) -> str:
    """12,345"""
    return f"{value:,.0f}"


def one_decimal(value: float) -> str:
    """12,345.6"""
    return f"{value:,.1f}"


def milliseconds(value: float) -> str:
    """12.3, but 123"""
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def megabytes(value: float) -> str:
    """Bytes in whole megabytes of 1,000,000 bytes each."""
    return whole(value / MEGABYTE)


def cell(text: str) -> str:
    """The first line of a text, as it may stand in a cell of a table."""
    return text.strip().partition("\n")[0].replace("|", "\\|")


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: Sequence[int]
) -> str:
    """A Markdown table that reads well as plain text too."""
    widths = [max(3, *(len(row[n]) for row in [head, *rows])) for n in range(len(head))]
    lines = [head, *rows]
    text = []
    for line in lines:
        cells = [
            value.ljust(width) if n in text_columns else value.rjust(width)
            for n, (value, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append(f"| {' | '.join(cells)} |")
    rule = [
        "-" * width if n in text_columns else "-" * (width - 1) + ":"
        for n, width in enumerate(widths)
    ]
    return "\n".join([text[0], f"| {' | '.join(rule)} |", *text[1:]])
