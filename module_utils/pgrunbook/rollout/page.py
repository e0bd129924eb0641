# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads before they approve a rollout: one page, however many hosts there are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from ..backfill.progress import about
from ..core import printable
from . import groups
from .hosts import Planned
from .rollout import Rollout

WIDTH = 98
SHOWN_HOSTS = 8


def page(rollout: Rollout) -> str:
    """The page: how much, in which waves, which plans, what is in the way, and the hash."""
    shown = printable.every(rollout, printable.line)
    if any("undoes" in host.plan for host in shown.to_do):
        return _rollback(shown)
    lines = [
        *_wrapped(f"{shown.title}: {_counted(shown)}", indent="  "),
        f"Rollout {shown.id}",
        "",
        *_waves(shown),
        *_plans(shown),
        *_extremes(shown.to_do),
        *_listed("Done already, and left out", shown.done),
        *(line for host in shown.refused for line in _refused(host)),
    ]
    ending = ["", f"Rollout hash: {shown.hash}"] if shown.hash else []
    return "\n".join([*lines, *ending])


def _rollback(rollout: Rollout) -> str:
    """The page of a rollback: the last wave goes first."""
    rows = sum(host.rows_eligible for host in rollout.to_do)
    databases = f"{len(rollout.to_do):,} databases"
    lines = [f"ROLLBACK of {rollout.title} on {databases}: {rows:,} rows to give back", ""]
    for number, hosts in enumerate(reversed(rollout.waves), 1):
        given = sum(host.rows_eligible for host in hosts)
        lines += _wrapped(f"{number}. {_names(hosts)}; {given:,} rows", indent="   ")
    for host in rollout.to_do:
        lines += _wrapped(f"{host.host}: run {host.plan['undoes']}", indent="   ")
        for note in (*host.plan["journal_altered"], *host.plan["notes"]):
            lines += _wrapped(note, indent="   ", first="   ")
    lines += _listed("Nothing to undo, and left out", rollout.done)
    lines += [line for host in rollout.refused for line in _refused(host)]
    ending = ["", f"Rollout hash: {rollout.hash}"] if rollout.hash else []
    return "\n".join([*lines, *ending])


def _counted(rollout: Rollout) -> str:
    rows = sum(host.rows_eligible for host in rollout.to_do)
    total = sum(host.rows_total for host in rollout.to_do)
    hosts = len(rollout.to_do)
    databases = "1 database" if hosts == 1 else f"{hosts:,} databases"
    return f"{databases}, {rows:,} of {total:,} rows to fill, {_time(rollout.seconds)}"


def _time(seconds: Iterable[float | None]) -> str:
    found = list(seconds)
    if any(each is None for each in found):
        return "how long that takes is known once the canary host has ended"
    return f"{about(sum(each or 0.0 for each in found))} in all"


def _waves(rollout: Rollout) -> list[str]:
    lines = []
    found = zip(rollout.waves, rollout.seconds, strict=True)
    for number, (hosts, seconds) in enumerate(found, 1):
        rows = sum(host.rows_eligible for host in hosts)
        time = "" if seconds is None else f", {about(seconds)}"
        name = "canary host" if number == 1 else f"{len(hosts)} host{'s' * (len(hosts) > 1)}"
        lines += _wrapped(f"{number}. {name}: {_names(hosts)}; {rows:,} rows{time}", indent="   ")
    return [*lines, ""]


def _plans(rollout: Rollout) -> list[str]:
    found = groups.alike(rollout.to_do)
    if len(found) == 1:
        return ["All of them have the same plan."]
    lines = [f"{len(found)} different plans:"]
    for group in found:
        lines += _wrapped(f"{len(group.hosts)} × {_names(group.hosts)}", indent="     ", first="  ")
        lines += [
            line
            for difference in group.differences
            for line in _wrapped(difference, indent="       ", first="     ")
        ]
    return lines


def _extremes(hosts: Sequence[Planned]) -> list[str]:
    lines = []
    if len({host.rows_total for host in hosts}) > 1:
        largest = max(hosts, key=lambda host: host.rows_total)
        lines.append(f"Largest: {largest.host}, {largest.rows_total:,} rows.")
    if len({host.seconds for host in hosts}) > 1:
        slowest = max(hosts, key=lambda host: host.seconds or 0.0)
        lines.append(f"Slowest: {slowest.host}, {about(slowest.seconds or 0.0)}.")
    return lines


def _listed(what: str, hosts: Sequence[Planned]) -> list[str]:
    return _wrapped(f"{what}: {_names(hosts)}", indent="  ") if hosts else []


def _refused(host: Planned) -> list[str]:
    return _wrapped(f"REFUSED  {host.host}: {host.refused}", indent="         ")


def _names(hosts: Sequence[Planned]) -> str:
    """The hosts' names, or the first of them and how many more there are."""
    names = [host.host for host in hosts[:SHOWN_HOSTS]]
    more = len(hosts) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _wrapped(of: str, *, indent: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        of, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )
