# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts have the same plan, and what makes the others different.

Hosts differ in more than names where their phases, schemas, steps or strategies do. That their
servers and the numbers that these give to objects differ says nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import values
from .hosts import Planned

COMPARED = (
    "spec",
    "schema",
    "source_columns",
    "triggers",
    "volatile",
    "dependents",
    "strategy",
    "surroundings",
)
"""Parts of a plan from which its statements follow. The steps come last: see below."""

SHOWN = 6  # differences of a group


@dataclass(frozen=True)
class Group:
    """Hosts with the same plan, and in what it differs from that of the largest group."""

    hosts: tuple[Planned, ...]
    differences: tuple[str, ...] = ()


def alike(hosts: Iterable[Planned]) -> list[Group]:
    """The groups of hosts whose plans are alike, the largest first."""
    found: dict[str, list[Planned]] = {}
    for host in hosts:
        found.setdefault(values.sha256(compared(host.plan)), []).append(host)
    largest, *others = sorted(found.values(), key=len, reverse=True) or [[]]
    if not largest:
        return []
    usual = compared(largest[0].plan)
    return [
        Group(tuple(largest)),
        *(Group(tuple(g), tuple(differences(usual, compared(g[0].plan)))) for g in others),
    ]


def differences(usual: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """In what the compared parts of a plan differ from the usual ones, a line each. The statements
    follow from the other parts, and are named only where nothing else differs."""
    found = [
        _line(path, here, there)
        for part in COMPARED
        for path, there, here in _walk(part, usual.get(part), plan.get(part))
    ]
    if not found and usual["steps"] != plan["steps"]:
        found = ["the statements of its steps"]
    more = len(found) - SHOWN
    return found[:SHOWN] + ([f"and {more} more"] if more > 0 else [])


def compared(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """What counts of a plan. Of what decides which values are stored it is the names: their hashes
    are of numbers that each server gives anew."""
    parts = {part: values.plain(plan.get(part)) for part in (*COMPARED, "steps")}
    return {**parts, "surroundings": sorted(plan.get("surroundings") or {})}


def _walk(path: str, usual: Any, here: Any) -> Iterator[tuple[str, Any, Any]]:
    """Where two values of JSON differ: the path, and what each has there, None where nothing."""
    if usual == here:
        return
    if isinstance(usual, Mapping) and isinstance(here, Mapping):
        for key in [*usual, *(key for key in here if key not in usual)]:
            yield from _walk(f"{path}.{key}", usual.get(key), here.get(key))
    elif _names(usual) and _names(here):
        yield from ((path, name, None) for name in usual if name not in here)
        yield from ((path, None, name) for name in here if name not in usual)
    else:
        yield path, usual, here


def _names(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and all(isinstance(each, str) for each in value)
    )


def _line(path: str, here: Any, there: Any) -> str:
    what = path.replace("spec.", "phase_", 1).replace("schema.columns.", "column ", 1)
    what = what.replace("schema.indexes.", "index ", 1)
    if here is None:
        return f"{what}: lacks {_shown(there)}"
    if there is None:
        return f"{what}: has {_shown(here)}"
    return f"{what}: {_shown(here)}, not {_shown(there)}"


def _shown(value: Any) -> str:
    told = value if isinstance(value, str) else str(values.plain(value))
    return told if len(told) <= 120 else f"{told[:117]}..."
