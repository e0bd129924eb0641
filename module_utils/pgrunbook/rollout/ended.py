# SPDX-License-Identifier: GPL-3.0-or-later
"""How each host of a rollout ended, or stands."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..core import printable

GO, NO_GO, FAILED, STOPPED = "GO", "NO-GO", "failed", "stopped"
DONE, LEFT, OPEN, UNDONE = "done before", "not started", "open", "undone"
AT_WORK, NO_RUN, REVERTED, NO_ANSWER = "at work", "no run", "reverted", "no answer"
WAITING, GONE = "waits", "not seen"
OK, BREACHED = "OK", "BREACHED"
STATES = (
    *(GO, OK, UNDONE, DONE, AT_WORK, WAITING, REVERTED, NO_RUN),
    *(GONE, NO_GO, BREACHED, FAILED, STOPPED, LEFT, OPEN, NO_ANSWER),
)
CALM = (GO, OK, UNDONE, DONE)
WIDTH, MARGIN = 98, 13
LISTED = 20  # hosts
NO_GO_ALONE = (
    "NO-GO: the reasons, and what to type, are above and in the report. What was done is kept. "
    "Next step: mend them and run the playbook again, or go back."
)


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
        return NO_GO_ALONE if host.state == NO_GO else host.why
    return (
        f"NO-GO: {counted(hosts)}. {declined + ' ' if declined else ''}"
        "Next step: see above why, mend that, then run the playbook again; what is done is left "
        "out."
    )


def table(hosts: Sequence[Ended]) -> str:
    """A line for each host, and below it why it is not GO; of many, for those that are not. Hosts
    that follow each other and have the same to say are one line."""
    shown = [printable.every(host, printable.line) for host in hosts]
    if len(shown) > LISTED:
        shown = [host for host in shown if host.state not in CALM]
    widest = max((len(host.host) for host in shown if host.rows), default=0)
    alike = groupby(shown, lambda host: (host.state, host.why, host.rows and host.host))
    return "\n".join(line for _, group in alike for line in _told(list(group), widest))


def _told(alike: Sequence[Ended], widest: int) -> list[str]:
    """The lines of hosts that have the same to say; one that has filled rows is alone."""
    first = alike[0]
    names = first.host
    if first.rows:
        rate = f"{first.rows / first.seconds:>9,.0f} rows/s" if first.seconds else ""
        names = f"{first.host:<{widest}}  {first.rows:>12,} rows {rate}".rstrip()
    elif len(alike) > 1:
        names = f"{len(alike)} hosts: {', '.join(host.host for host in alike)}"
    told = [names, first.why] if first.why and first.state not in CALM else [names]
    head, *rest = (
        line
        for text in told
        for line in textwrap.wrap(text, WIDTH - MARGIN, break_on_hyphens=False)
    )
    return [f"{first.state:<{MARGIN}}{head}", *(f"{'':{MARGIN}}{line}" for line in rest)]


def counted(hosts: Sequence[Ended]) -> str:
    """How many hosts ended how: 5 GO, 1 failed, 2 not started."""
    numbers = {state: sum(host.state == state for host in hosts) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in numbers.items() if number)
