# SPDX-License-Identifier: GPL-3.0-or-later
"""One line for all hosts of a rollout, beside those of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..backfill.progress import to_go
from .ended import GO, Ended
from .tally import ended, keep, kept

EVERY_SECONDS = 10.0
NAMED = 5


@dataclass(frozen=True)
class Working:
    """How far a host is: the rows that it has filled, how many a second, and why it is held."""

    host: str
    rows: int
    rate: float
    held: str = ""


def note(folder: Path, working: Working) -> None:
    """Keep how far a host is."""
    keep(folder, working.host, "working", working)


def line_if_due(folder: Path, planned: Mapping[str, int]) -> str:
    """The line for all hosts, empty where one was shown within EVERY_SECONDS. planned has the rows
    that each host has to fill."""
    stamp = folder / "shown"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < EVERY_SECONDS:
        return ""
    stamp.touch()
    return line(planned, ended(folder), kept(folder, "working", Working))


def line(planned: Mapping[str, int], over: Sequence[Ended], working: Sequence[Working]) -> str:
    """Databases done, rows done, per cent, rows a second, time to go, and who is throttled. Of a
    host that has ended, the rows are those that it filled."""
    gone = {host.host for host in over}
    at_work = [host for host in working if host.host not in gone]
    rows = sum(host.rows for host in over) + sum(host.rows for host in at_work)
    wanted = sum(planned.values())
    rate = sum(host.rate for host in at_work)
    parts = [
        f"all hosts: {sum(host.state == GO for host in over)} of {len(planned)} done",
        f"{rows:,} of {wanted:,} rows  {min(rows / wanted, 1.0) if wanted else 1.0:6.1%}",
        f"{rate:,.0f} rows/s",
        to_go(max(wanted - rows, 0), rate),
    ]
    held = [host.host for host in at_work if host.held]
    if held:
        more = f" and {len(held) - NAMED} more" if len(held) > NAMED else ""
        parts.append(f"throttled: {', '.join(held[:NAMED])}{more}")
    return "  ".join(parts)
