# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout: the plans of all hosts put together, and the order in which they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ledger.rollouts import Member, rollout_hash
from ..plan.run_plan import new_run_id
from . import waves
from .hosts import Planned, require_each_once


@dataclass(frozen=True)
class Rollout:
    """The hosts that have something to do in the order in which they go, those that are done, those
    that are refused, and the waves' sizes. forks is how many hosts work at a time; title is the
    phase's."""

    id: str
    title: str
    to_do: tuple[Planned, ...]
    done: tuple[Planned, ...]
    refused: tuple[Planned, ...]
    sizes: tuple[int, ...]
    forks: int

    @property
    def members(self) -> list[Member]:
        """What is approved."""
        return [host.member for host in self.to_do]

    @property
    def hash(self) -> str:
        """What an approval names; empty where nothing can be approved."""
        return rollout_hash(self.members) if self.to_do and not self.refused else ""

    @property
    def waves(self) -> list[Sequence[Planned]]:
        """The hosts of each wave."""
        return waves.split(self.to_do, self.sizes)

    @property
    def seconds(self) -> list[float | None]:
        """About how long each wave takes; None where nobody knows."""
        return [waves.seconds((h.seconds for h in wave), self.forks) for wave in self.waves]


def put_together(
    hosts: Sequence[Planned], wanted: Sequence[int | str], canary: str, forks: int
) -> Rollout:
    """The rollout over hosts, given in the inventory's order; wanted are the waves as the inventory
    asks for them, canary is the host that goes first, empty for the first one.

    A single host that is done already is none to leave out: its run is validated again, and so is
    one whose latest run was not GO. A canary host that is done lets the next one go first. Raises
    RunbookError where two hosts are one database, or waves or the canary host make no sense.
    """
    require_each_once(hosts)
    refused = tuple(host for host in hosts if host.refused)
    planned = [host for host in hosts if not host.refused]
    done = tuple(host for host in planned if host.over and len(hosts) > 1)
    to_do = {host.host: host for host in planned if host not in done}
    wanted_first = "" if canary in {h.host for h in (*done, *refused)} else canary
    names = waves.in_order(list(to_do), wanted_first) if to_do else []
    first = next((host for host in planned if host.phase), None)
    return Rollout(
        id=new_run_id(f"rollout-{first.phase if first else 'none'}"),
        title=(first.title or first.phase) if first else "",
        to_do=tuple(to_do[name] for name in names),
        done=done,
        refused=refused,
        sizes=tuple(waves.waves(wanted, len(names)) if names else ()),
        forks=forks,
    )


def why_refused(rollout: Rollout) -> str:
    """Each host that cannot be planned, and why; empty where there is none. Nothing begins where
    there is one."""
    if not rollout.refused:
        return ""
    if len(rollout.refused) == 1 and not rollout.to_do and not rollout.done:
        return rollout.refused[0].refused
    names = ",".join(f"!{host.host}" for host in rollout.refused)
    why = " ".join(f"{host.host}: {host.refused}" for host in rollout.refused)
    return (
        f"{len(rollout.refused)} of the hosts cannot begin, so none does. {why} Nothing was "
        f"changed. Next step: mend that, or leave them out with --limit 'all,{names}'."
    )


def foreseen(rollout: Rollout) -> list[str]:
    """The gates that hosts can only miss, with the host's name where there are several."""
    several = len(rollout.to_do) > 1
    return [
        f"{host.host}: {gate}" if several else gate
        for host in rollout.to_do
        for gate in host.foreseen
    ]
