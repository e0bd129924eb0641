# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a plan, as a value: what is done, what undoes it, and what it locks.

The class is in ddl/, the lowest room that plans something, because every operation makes its own
step: a change of the schema, the backfill, the trial of an index. plan/ only puts them in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ..core.values import plain


@dataclass(frozen=True)
class Statement:
    """One statement of a step and what undoes it, which is empty where another statement's undo
    does. more is how many others there are that differ from it in the partition only."""

    sql: str
    undo: str = ""
    more: int = 0


@dataclass(frozen=True)
class Step:
    """A part of a plan. undo has what takes the statements back, in their order.

    needed is whether a run has to do it; a rollback's plan has None. note is what else a person
    should know. alike groups the statements: how many in a row differ in the partition only. It is
    None where none do.
    """

    id: str
    title: str
    statements: tuple[str, ...]
    undo: tuple[str, ...]
    lock: str
    needed: bool | None = None
    note: str | None = None
    alike: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The step as the plan's hash and the ledger hold it: without what is None."""
        return {key: value for key, value in plain(self).items() if value is not None}

    def distinct(self) -> list[Statement]:
        """The statements, and of those that differ in the partition only the first."""
        pairs = list(zip_longest(self.statements, self.undo, fillvalue=""))
        found, at = [], 0
        for number in self.alike or [1] * len(pairs):
            if number:
                found.append(Statement(*pairs[at], more=number - 1))
            at += number
        return found


def alike(numbers: Iterable[int]) -> tuple[int, ...] | None:
    """The field of that name: None where no statement has another one like it."""
    found = tuple(numbers)
    return found if any(number > 1 for number in found) else None
