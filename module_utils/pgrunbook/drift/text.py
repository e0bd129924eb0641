# SPDX-License-Identifier: GPL-3.0-or-later
"""How the differences are shown in the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from ..core import printable
from .difference import NOTE, Difference
from .resolution import Resolution

WIDTH, MARGIN = 96, 10


def listing(differences: Iterable[Difference]) -> str:
    """The differences as a person reads them; SQL is not wrapped. What the phase does about one of
    them is in its plan."""
    return "\n".join(line for difference in differences for line in _listed(difference))


def label_of(difference: Difference) -> str:
    """The severity, in capitals where the gate fails for it; "planned" where the phase itself mends
    what it is about."""
    if difference.by_phase:
        return "planned"
    return difference.severity.upper() if difference.breaks else difference.severity


def _listed(difference: Difference) -> list[str]:
    label = label_of(difference)
    known = " (acknowledged)" if difference.acknowledged else ""
    lines = _labelled(label, f"{difference.text}{known}")
    if difference.severity == NOTE:
        return lines
    if difference.by_phase:
        return lines + _labelled("", f"until then: {difference.impact}")
    lines += _labelled("", difference.impact)
    lines += [line for way in difference.resolutions if way.recommended for line in _best(way)]
    if not difference.acknowledged:
        entry = f"phase_acknowledged_drift: [{printable.yaml(difference.object)}]"
        lines += [f"{' ' * MARGIN}to accept it: {entry}"]
    return lines


def _best(way: Resolution) -> list[str]:
    lines = _labelled("", f"best: {way.option}")
    if way.sql:
        lines += [f"{' ' * MARGIN}SQL:"]
        lines += [f"{' ' * (MARGIN + 2)}{line}" for line in way.sql.splitlines()]
    return lines + (_labelled("", f"cost: {way.costs}") if way.costs else [])


def _labelled(label: str, told: str) -> list[str]:
    wrapped = textwrap.wrap(
        printable.line(told), WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False
    )
    return [f"{label if n == 0 else '':{MARGIN}}{line}" for n, line in enumerate(wrapped)]
