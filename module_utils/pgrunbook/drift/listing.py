# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a difference by what its table is and what the phase says of it; and how the
differences are shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from ..core import printable
from ..core.sql import is_alone, script
from .kinds import NOTE


def unread(difference: dict[str, Any]) -> dict[str, Any]:
    """A difference of the source in what the phase does not read."""
    told = f"{difference['impact']}; this phase does not read it, so for the phase it is a note"
    return {**difference, "severity": NOTE, "breaks": False, "impact": told}


def accepted(difference: dict[str, Any]) -> dict[str, Any]:
    """A difference that the phase acknowledges: it is told, and the gate lets it pass."""
    return {**difference, "acknowledged": True, "breaks": False}


def of_view(difference: dict[str, Any]) -> dict[str, Any]:
    """A difference of a view, which has no columns of its own to alter."""
    ways = [
        {
            **way,
            "option": f"{way['option']}, in the view's definition",
            "sql": [],
            "costs": "no lock on the tables that it reads; whatever else reads the view sees it",
        }
        if way["sql"]
        else way
        for way in difference["resolutions"]
    ]
    return {**difference, "resolutions": ways}


def of_partitioned(difference: dict[str, Any]) -> dict[str, Any]:
    """A difference of a partitioned table, where PostgreSQL does nothing to an index CONCURRENTLY,
    and before 18 validates no foreign key later."""
    return {**difference, "resolutions": [_partitioned(way) for way in difference["resolutions"]]}


def _partitioned(way: dict[str, Any]) -> dict[str, Any]:
    statements = [statement for each in way["sql"] for statement in each]
    if any(is_alone(s) and not s.startswith("DROP") for s in statements):
        steps = (
            ": CREATE INDEX … ON ONLY the table, CREATE INDEX CONCURRENTLY on each partition, "
            "ALTER INDEX … ATTACH PARTITION each"
        )
        return {**way, "option": f"{way['option']}{steps}", "sql": []}
    if any(map(is_alone, statements)):
        dropped = [s.replace(" CONCURRENTLY", "", 1) for s in statements]
        costs = "ACCESS EXCLUSIVE on the table and its partitions: milliseconds"
        return {**way, "sql": [dropped], "costs": costs}
    if any(" FOREIGN KEY " in s for s in statements):
        added = statements[0].removesuffix(" NOT VALID")
        costs = "SHARE ROW EXCLUSIVE on both tables while all rows are read: writers wait"
        return {**way, "sql": [[added]], "costs": costs}
    return way


def of_other_owner(difference: dict[str, Any], owner: str) -> dict[str, Any]:
    """A difference of a table that the login role may not alter."""
    ways = [
        {**way, "costs": f"{way['costs']}; its owner {owner} has to do it"} if way["sql"] else way
        for way in difference["resolutions"]
    ]
    return {**difference, "resolutions": ways}


def scripted(difference: dict[str, Any], lock_timeout_ms: int) -> dict[str, Any]:
    """The difference with the SQL of each way out as a text that can be copied."""
    ways = [
        {**way, "sql": script([[printable.sql(s) for s in t] for t in way["sql"]], lock_timeout_ms)}
        for way in difference["resolutions"]
    ]
    return {**difference, "resolutions": ways}


def listing(differences: Iterable[dict[str, Any]]) -> str:
    """The differences as a person reads them in the terminal; SQL is not wrapped."""
    return "\n".join(line for difference in differences for line in _listed(difference))


WIDTH, MARGIN = 96, 10


def _listed(difference: dict[str, Any]) -> list[str]:
    severity = difference["severity"]
    label = severity.upper() if difference["breaks"] else severity
    known = " (acknowledged)" if difference["acknowledged"] else ""
    lines = _labelled(label, f"{difference['text']}{known}")
    if severity == NOTE:
        return lines
    lines += _labelled("", difference["impact"])
    for way in difference["resolutions"]:
        if way["recommended"]:
            lines += _labelled("", f"best: {way['option']}")
            if way["sql"]:
                lines += [f"{' ' * MARGIN}SQL:"]
                lines += [f"{' ' * (MARGIN + 2)}{line}" for line in way["sql"].splitlines()]
            if way["costs"]:
                lines += _labelled("", f"cost: {way['costs']}")
    if not (difference["acknowledged"] or difference["by_phase"]):
        entry = f"phase_acknowledged_drift: [{printable.yaml(difference['object'])}]"
        lines += [f"{' ' * MARGIN}to accept it: {entry}"]
    return lines


def _labelled(label: str, told: str) -> list[str]:
    wrapped = textwrap.wrap(
        printable.line(told), WIDTH - MARGIN, break_long_words=False, break_on_hyphens=False
    )
    return [f"{label if n == 0 else '':{MARGIN}}{line}" for n, line in enumerate(wrapped)]
