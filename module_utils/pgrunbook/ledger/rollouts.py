# SPDX-License-Identifier: GPL-3.0-or-later
"""Rollouts: one approval for the plans of several databases. Each ledger keeps the whole list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core import values
from ..core.errors import RunbookError
from ..core.options import option


@dataclass(frozen=True)
class Member:
    """A database of a rollout: the inventory's name of its host, which server and database that
    is, and the plan for it."""

    host: str = option("The inventory's name of the host.")
    system_identifier: str = option("The system identifier of its server.")
    database: str = option("The database's name.")
    plan_hash: str = option("SHA-256 of the plan for it, in hexadecimal.")


@dataclass(frozen=True)
class Rollout:
    """What a person approves: the hash of its members' list. host is the member that a ledger
    is of."""

    id: str = option("The rollout's id.")
    hash: str = option("SHA-256 of the list of its members; of a rollout of one, that of its plan.")
    host: str = option("Which of the members this host is.")
    members: tuple[Member, ...] = option("Every member.")


def rollout_hash(members: Iterable[Member]) -> str:
    """What an approval of a rollout names, SHA-256 in hexadecimal: of the members, in the order of
    their hosts' names, as canonical JSON. A rollout of one is approved as its plan."""
    ordered = sorted(members, key=lambda member: member.host)
    if len(ordered) == 1:
        return ordered[0].plan_hash
    return values.sha256(values.plain(ordered))


def require_member(rollout: Rollout, system_identifier: str, plan_hash: str) -> None:
    """Raise RunbookError unless the plan for this server is one of those that were approved."""
    if rollout_hash(rollout.members) != rollout.hash:
        raise RunbookError(
            f"The list of the members of rollout {rollout.id} does not have the hash "
            f"{rollout.hash[:8]} that was approved: somebody has changed it since. Nothing was "
            "changed by this call. Next step: run the playbook again and read the new plans."
        )
    for member in rollout.members:
        if member.host == rollout.host:
            if (member.system_identifier, member.plan_hash) == (system_identifier, plan_hash):
                return
            raise RunbookError(
                f"Rollout {rollout.id} was approved with plan {member.plan_hash[:8]} for "
                f"{member.host}, on the server with system identifier {member.system_identifier}; "
                f"this is plan {plan_hash[:8]}, for that with {system_identifier}. Nothing was "
                "changed by this call. Next step: run the playbook again and read the new plans."
            )
    raise RunbookError(
        f"Rollout {rollout.id} was approved without {rollout.host}. Nothing was changed on it. "
        "Next step: run the playbook again and read the new plans."
    )


def read_rollout(stored: Mapping[str, Any]) -> Rollout:
    """A rollout, as a ledger has it."""
    return values.read(Rollout, stored)
