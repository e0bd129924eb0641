# SPDX-License-Identifier: GPL-3.0-or-later
"""A difference between the models and the database as a person reads it: both sides, what it
breaks, and the ways out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..core.values import read
from .resolution import Resolution, Subject, Way, resolution

CRITICAL, WARNING, NOTE = "critical", "warning", "note"
SEVERITIES = (CRITICAL, WARNING, NOTE)
"""Breaks the application or the backfill; makes it slow or lets wrong data in; neither."""


@dataclass(frozen=True)
class Difference:
    """A difference as docs/report.md describes it. object is its name, a column's after that of its
    table; table has the schema before its name. breaks: the gate fails for it, because it is
    critical and not acknowledged. by_phase: the phase itself mends it. component says what differs,
    expected how the models have it, and found how the database has it."""

    kind: str
    object: str
    table: str
    severity: str
    breaks: bool
    by_phase: bool
    acknowledged: bool
    text: str
    impact: str
    resolutions: tuple[Resolution, ...]
    component: str = ""
    expected: str = ""
    found: str = ""


@dataclass(frozen=True)
class Sides:
    """The component that differs, such as "column orders.region", as the models have it, and as the
    database has it."""

    component: str
    expected: str
    found: str


def difference(
    kind: str,
    severity: str,
    on: Subject,
    object_: str,
    sides: Sides,
    told: str,
    impact: str,
    *ways: Way,
    by_phase: bool = False,
) -> Difference:
    """A difference that is not acknowledged, with the ways out as they are for its table."""
    return Difference(
        kind=kind,
        object=object_,
        table=str(on.table),
        severity=severity,
        breaks=severity == CRITICAL,
        by_phase=by_phase,
        acknowledged=False,
        text=told,
        impact=impact,
        resolutions=tuple(resolution(on, way) for way in ways),
        **vars(sides),
    )


def acknowledged(found: Difference) -> Difference:
    """The difference once the phase acknowledges it: it is told all the same, and the gate lets it
    pass."""
    return replace(found, acknowledged=True, breaks=False)


def unread(found: Difference) -> Difference:
    """A difference of the source in what the phase does not read: for the phase it is a note."""
    impact = f"{found.impact}; this phase does not read it, so for the phase it is a note"
    return replace(found, severity=NOTE, breaks=False, impact=impact)


def read_differences(given: Iterable[Mapping[str, Any]]) -> list[Difference]:
    """The differences from their JSON, as core.values.plain() makes it."""
    return [read(Difference, each) for each in given]
