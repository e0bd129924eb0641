# SPDX-License-Identifier: GPL-3.0-or-later
"""Which strategy a plan gets, and the hashes of the same plan with the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..backfill.counting import Counts
from ..backfill.strategy import Other, Strategy, choose, kept, others, words
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec
from .plan import Alternative, Plan


@dataclass(frozen=True)
class Approved:
    """What was approved before: the strategy of the run that goes on, if one does, and the hash of
    a plan that somebody approves without a question."""

    strategy: Strategy | None
    plan_hash: str


@dataclass(frozen=True)
class Chosen:
    """The plan with its strategy, why it is that one, and the same plan with the others."""

    plan: Plan
    why: str
    alternatives: list[Alternative]


def choose_plan(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    counts: Counts,
    approved: Approved,
    planned: Callable[[Strategy], Plan],
) -> Chosen:
    """The plan with the strategy that was approved before, if the table still allows it, else with
    the one that suits the table now. planned() makes the plan with a strategy."""
    chosen, why = choose(conn, spec, info, counts)
    found = [Other(chosen), *others(conn, spec, info, counts, chosen)]
    plans = {other.strategy: planned(other.strategy) for other in found}
    hashes = {strategy: plan.hash for strategy, plan in plans.items()}
    taken = kept(approved.strategy, found) if approved.strategy else None
    taken = taken or chosen
    same = (o.strategy for o in found if not o.why_not and hashes[o.strategy] == approved.plan_hash)
    taken = next(same, taken)
    if taken != chosen:
        why = f"as approved; chosen anew it would be {words(chosen)}: {why}"
    alternatives = [
        Alternative(hashes[other.strategy], _told(other, taken, why))
        for other in found
        if other.strategy != taken
    ]
    return Chosen(plans[taken], why, alternatives)


def _told(other: Other, taken: Strategy, why: str) -> str:
    gone = f" The other one is not possible any more: {other.why_not}." if other.why_not else ""
    return (
        f"The strategy has changed since: then {words(other.strategy)}, now {words(taken)}, "
        f"because {why}.{gone}"
    )
