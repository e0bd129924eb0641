# SPDX-License-Identifier: GPL-3.0-or-later
"""How each host of a rollout ended, or stands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core import printable

GO, NO_GO, FAILED, STOPPED = "GO", "NO-GO", "failed", "stopped"
DONE, LEFT, OPEN, UNDONE = "done before", "not started", "open", "undone"
AT_WORK, NO_RUN, REVERTED, NO_ANSWER = "at work", "no run", "reverted", "no answer"
OK, BREACHED = "OK", "BREACHED"
STATES = (
    *(GO, OK, UNDONE, DONE, AT_WORK, REVERTED, NO_RUN),
    *(NO_GO, BREACHED, FAILED, STOPPED, LEFT, OPEN, NO_ANSWER),
)
CALM = (GO, OK, UNDONE, DONE)
WIDTH = 98
LISTED = 20  # hosts


@dataclass(frozen=True)
class Point:
    """How many rows a host had filled at a time, in ISO 8601."""

    at: str
    rows: int


@dataclass(frozen=True)
class Ended:
    """How a host ended: its state, of those above; why, where it is not GO; its rows and the
    seconds that they took; the path of its report; the gates that it missed; how its rows were
    filled; and how long 95 % of its batches took at most, in milliseconds."""

    host: str
    state: str
    why: str = ""
    rows: int = 0
    seconds: float = 0.0
    report: str = ""
    missed: tuple[str, ...] = ()
    slices: tuple[Point, ...] = ()
    batch_ms: float | None = None

    @property
    def is_failure(self) -> bool:
        """Whether it counts for runbook_failures_max."""
        return self.state in (NO_GO, FAILED, STOPPED)

    @property
    def seconds_a_row(self) -> float | None:
        """How long a row took to fill; None where none was filled."""
        return self.seconds / self.rows if self.rows else None


def all_hosts(to_do: Iterable[str], done: Iterable[str], told: Iterable[Ended]) -> list[Ended]:
    """How every host ended, in the order in which they go. One that told nothing did not get so
    far: its steps were left out by their tags, or Ansible could not reach it."""
    found = {each.host: each for each in told}
    return [
        *(Ended(host, DONE) for host in done),
        *(found.get(host, Ended(host, OPEN)) for host in to_do),
    ]


def verdict(hosts: Sequence[Ended]) -> str:
    """GO only where every host is; empty where none of them got to its end."""
    if all(host.state in (DONE, OPEN) for host in hosts) and any(
        host.state == OPEN for host in hosts
    ):
        return ""
    return GO if all(host.state in (GO, DONE, UNDONE) for host in hosts) else NO_GO


def why(hosts: Sequence[Ended], declined: str) -> str:
    """Why the verdict is not GO: of one host in its own words, of several with how to go on."""
    if len(hosts) == 1:
        (host,) = hosts
        told = f"NO-GO: {host.why} The report has the details."
        return told if host.state == NO_GO else host.why
    return (
        f"NO-GO: {counted(hosts)}. {declined + ' ' if declined else ''}"
        "Next step: see above why, mend that, then run the playbook again; what is done is left "
        "out."
    )


def table(hosts: Sequence[Ended]) -> str:
    """A line for each host, and below it why it is not GO; of many, for those that are not."""
    shown = [printable.every(host, printable.line) for host in hosts]
    if len(shown) > LISTED:
        shown = [host for host in shown if host.state not in CALM]
    widest = max((len(host.host) for host in shown), default=0)
    lines = []
    for host in shown:
        rate = f"{host.rows / host.seconds:>9,.0f} rows/s" if host.seconds else ""
        rows = f"{host.rows:>12,} rows {rate}" if host.rows else ""
        lines.append(f"{host.state:<11}  {host.host:<{widest}}  {rows}".rstrip())
        if host.why and host.state not in CALM:
            lines += textwrap.wrap(
                host.why,
                WIDTH,
                initial_indent=" " * 13,
                subsequent_indent=" " * 13,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def counted(hosts: Sequence[Ended]) -> str:
    """How many hosts ended how: 5 GO, 1 failed, 2 not started."""
    numbers = {state: sum(host.state == state for host in hosts) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)
