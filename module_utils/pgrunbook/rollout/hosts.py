# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a rollout as planning left them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import RunbookError
from ..ledger.rollouts import Member

SHOWN = (
    "counts",
    "estimates",
    "filling",
    "index_changes",
    "needed",
    "resumes",
    "server_started",
    "why_strategy",
)
"""What of a planning's result plan.json keeps besides the plan."""


@dataclass(frozen=True)
class Planned:
    """A host and the plan for it, as the module pgrunbook_plan returned it. seconds is about how
    long the plan takes, None where no run has been measured; started is since when its server runs;
    over is whether there is nothing to do and the latest run was GO; text is the plan as a person
    reads it; refused says why there is no plan; shown is what the plan's short text tells besides
    it."""

    host: str
    address: str = ""
    database: str = ""
    system_identifier: str = ""
    started: str = ""
    phase: str = ""
    title: str = ""
    plan: Mapping[str, Any] = field(default_factory=dict)
    plan_hash: str = ""
    run_id: str = ""
    needed: bool = True
    over: bool = False
    resumes: bool = False
    rows_total: int = 0
    rows_eligible: int = 0
    seconds: float | None = None
    foreseen: tuple[str, ...] = ()
    proof: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    refused: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def member(self) -> Member:
        """What an approval names of it."""
        return Member(self.host, self.system_identifier, self.database, self.plan_hash)


def planned(
    host: str,
    result: Mapping[str, Any],
    foreseen: Iterable[str],
    refused: str,
    *,
    left_out: bool = False,
) -> Planned:
    """What there is of a host's plan: result is what pgrunbook_plan returned for it, empty where it
    was not planned; foreseen are the gates that it can only miss; left_out is whether a rollback
    has nothing to do with it."""
    if left_out:
        return Planned(host, over=True, needed=False)
    if refused or "plan" not in result:
        return Planned(host, refused=refused or "It was not planned.")
    plan, counts = result["plan"], result["counts"]
    server = plan["server"]
    return Planned(
        host=host,
        address=f"{server['address']}:{server['port']}",
        database=server["database"],
        system_identifier=server["system_identifier"],
        started=result["server_started"],
        phase=plan["spec"]["phase"],
        title=plan["spec"]["title"],
        plan=plan,
        plan_hash=result["plan_hash"],
        run_id=result["run"]["id"],
        needed=result["needed"],
        over=not result["needed"] and result.get("verdict_before", "GO") == "GO",
        resumes=result.get("resumes", False),
        rows_total=counts["rows_total"],
        rows_eligible=counts["rows_eligible"],
        seconds=seconds(result.get("estimates"), counts["rows_eligible"]),
        foreseen=tuple(foreseen),
        proof=result["proof"],
        text=result["text"],
        shown={key: result[key] for key in SHOWN if key in result},
    )


def seconds(
    estimates: Mapping[str, float | None] | None, rows: int, of_a_row: float | None = None
) -> float | None:
    """About how long all steps take: estimates has the seconds of each, rows are those to be filled
    and of_a_row is how long one took on another host, for where none has been measured on this one.
    None where nobody knows how fast rows are filled."""
    if estimates is None:
        return None
    known = sum(each or 0.0 for each in estimates.values())
    if not rows or estimates.get("backfill") is not None:
        return known
    return None if of_a_row is None else known + rows * of_a_row


def proof(hosts: Sequence[Planned]) -> str:
    """What the servers say of a dry run."""
    told = [
        f"transaction_read_only {'on' if host.proof.get('read_only') else 'OFF'}, "
        f"transaction id {host.proof.get('xid') or 'none'}"
        for host in hosts
        if host.proof
    ]
    if len(told) == 1:
        return f"The server says:\n{told[0]}."
    numbers = Counter(told)
    return "The servers say:\n" + "\n".join(f"{n} × {each}." for each, n in numbers.items())


def require_each_once(hosts: Iterable[Planned]) -> None:
    """Raise RunbookError where two hosts lead to the same database: it would be changed twice. A
    copy of a server has its system identifier, but does not run since the same microsecond."""
    seen: dict[tuple[str, str, str], list[str]] = {}
    for each in hosts:
        if each.plan:
            key = (each.database, each.system_identifier, each.started)
            seen.setdefault(key, []).append(each.host)
    for (database, *_), names in seen.items():
        if len(names) > 1:
            raise RunbookError(
                f"{', '.join(names)} are the same database: {database} of one server. Nothing was "
                "changed. Next step: take all but one of them out of the inventory, or leave them "
                f"out with --limit '!{names[-1]}'."
            )
