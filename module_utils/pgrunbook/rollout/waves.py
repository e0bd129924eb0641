# SPDX-License-Identifier: GPL-3.0-or-later
"""In which waves the hosts of a rollout go, and how long each takes."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from ..core.errors import RunbookError

Host = TypeVar("Host")


def waves(wanted: Sequence[int | str], hosts: int) -> list[int]:
    """How many hosts go in each wave. wanted is as Ansible's serial: numbers, or per cent of all
    hosts as "25%"; the last one is repeated until no host is left.

    Raises RunbookError where the first wave is not one host, or a wave has none.
    """
    if not wanted or _size(wanted[0], hosts) != 1:
        raise RunbookError(
            "runbook_waves has to begin with 1: the first host goes alone, so that the others are "
            "protected by what it shows. Next step: correct it in the inventory."
        )
    sizes: list[int] = []
    for size in _repeated(wanted, hosts):
        sizes.append(min(size, hosts - sum(sizes)))
        if sum(sizes) >= hosts:
            return sizes
    return sizes


def in_order(hosts: Sequence[str], canary: str) -> list[str]:
    """The hosts as they go: the canary host, then the others in the inventory's order.

    Raises RunbookError where the canary host is none of them.
    """
    if not canary:
        return list(hosts)
    if canary not in hosts:
        raise RunbookError(
            f"runbook_canary_host is {canary}, which is none of the hosts that have anything to "
            f"do: {', '.join(hosts)}. Next step: name one of them, or none to take the first."
        )
    return [canary, *(host for host in hosts if host != canary)]


def split(hosts: Sequence[Host], sizes: Iterable[int]) -> list[Sequence[Host]]:
    """The hosts of each wave; there are as many as the sizes add up to."""
    remaining = iter(hosts)
    return [list(itertools.islice(remaining, size)) for size in sizes]


def seconds(of_hosts: Iterable[float | None], forks: int) -> float | None:
    """About how long the hosts of a wave take, of which so many work at a time, each as soon as one
    before it has ended; None where that of one of them is not known."""
    busy = [0.0] * max(forks, 1)
    for each in of_hosts:
        if each is None:
            return None
        heapq.heappush(busy, heapq.heappop(busy) + each)
    return max(busy)


def _repeated(wanted: Sequence[int | str], hosts: int) -> Iterator[int]:
    for each in wanted:
        yield _size(each, hosts)
    while True:
        yield _size(wanted[-1], hosts)


def _size(wanted: int | str, hosts: int) -> int:
    """A wave's number of hosts; of per cent at least one."""
    told = str(wanted).strip()
    number = told.removesuffix("%")
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise RunbookError(
            f"runbook_waves has {told!r}, which is neither a number of hosts nor per cent as in "
            '"25%". Next step: correct it in the inventory.'
        )
    if told.endswith("%"):
        return max(1, math.floor(hosts * int(number) / 100))
    return int(number)
