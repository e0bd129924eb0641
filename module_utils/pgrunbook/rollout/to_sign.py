# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a rollout is signed, and by how many. A rollback is signed by nobody: going back waits
for no colleague."""

from __future__ import annotations

from dataclasses import dataclass

from .. import ledger
from ..signing.statement import SignedHost, of_plan
from .rollout import Rollout


@dataclass(frozen=True)
class ToSign:
    """How many signatures the plans want together, whether one may be the operator's, and what the
    text says of each host, in the order of their names."""

    wanted: int = 0
    operator_may_sign: bool = False
    hosts: tuple[SignedHost, ...] = ()


def to_sign(rollout: Rollout) -> ToSign:
    """What is to be signed: the strictest phase counts. Nothing where nothing can be approved."""
    if not rollout.hash or is_rollback(rollout):
        return ToSign()
    return ToSign(
        wanted=max(ledger.signatures_wanted(host.plan, "plan") for host in rollout.to_do),
        operator_may_sign=all(
            host.plan["spec"].get("operator_may_sign", False) for host in rollout.to_do
        ),
        hosts=tuple(
            of_plan(host.host, host.plan, host.plan_hash, host.rows_eligible)
            for host in sorted(rollout.to_do, key=lambda host: host.host)
        ),
    )


def is_rollback(rollout: Rollout) -> bool:
    """Whether the plans undo runs."""
    return any("undoes" in host.plan for host in rollout.to_do)
