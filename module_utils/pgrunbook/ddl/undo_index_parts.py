# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollback of an index in parts: what is left to do for single partitions once the whole index
is dropped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from psycopg.sql import SQL, Composed

from .. import ledger
from ..core.connection import Connection
from ..core.locks import run_patiently
from ..core.sql import text
from . import index_parts
from .index_sql import concurrently


def undone(conn: Connection, run_id: str) -> None:
    """Record which of the run's indexes of partitions are gone, dropped with the one above them."""
    built = [change.new for change in ledger.list_changes(conn, run_id, ledger.INDEX_PART)]
    for index in {*built} - index_parts.part_indexes(conn, built).keys():
        ledger.part_undone(conn, run_id, ledger.INDEX_PART, new=index)


@dataclass(frozen=True)
class Leftover:
    """A change to the index of one partition that dropping the whole index does not take back, and
    the statements that do: they drop an index that the run built and did not attach, or build one
    again that the run found and attached."""

    change: ledger.Change
    statements: tuple[SQL | Composed, ...]


def leftovers(conn: Connection, run_id: str) -> list[Leftover]:
    """What is left of a run's changes to the indexes of single partitions."""
    built = ledger.list_changes(conn, run_id, ledger.INDEX_PART)
    found = ledger.list_changes(conn, run_id, ledger.INDEX_ATTACHED)
    there = index_parts.part_indexes(conn, [change.new for change in (*built, *found)])
    drops = [
        Leftover(change, (there[change.new].drop,))
        for change in built
        if change.new in there and not there[change.new].above
    ]
    again = []
    for change in found:
        now = there.get(change.new)
        if now and not now.above and now.valid:
            continue
        broken = [now.drop] if now and not now.above else []
        again.append(Leftover(change, (*broken, text(concurrently(change.old)))))
    return [*drops, *again]


def take_back(conn: Connection, run_id: str, left: Leftover) -> None:
    """Run the statements, and record that the change is taken back."""
    run_patiently(conn, *left.statements)
    ledger.part_undone(conn, run_id, left.change.kind, new=left.change.new)


def alike(left: Iterable[Leftover]) -> list[int]:
    """How many statements in a row differ in the partition only: those that drop, and those that
    build again."""
    return [
        sum(len(each.statements) for each in group)
        for _, group in groupby(left, key=lambda each: each.change.kind)
    ]
