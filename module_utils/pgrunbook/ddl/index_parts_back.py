# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback does for the indexes of single partitions, besides dropping the whole index."""

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
    """Record that the indexes of partitions are gone which went with the index above them."""
    built = [change.new for change in ledger.list_changes(conn, run_id, ledger.INDEX_PART)]
    for index in {*built} - index_parts.there(conn, built).keys():
        ledger.part_undone(conn, run_id, ledger.INDEX_PART, new=index)


@dataclass(frozen=True)
class Rest:
    """What a rollback does for the index of a partition that the drop of the whole one does not
    do: statements that drop what the run built and did not attach, or that build again what it
    found and attached."""

    change: ledger.Change
    statements: tuple[SQL | Composed, ...]


def rest(conn: Connection, run_id: str) -> list[Rest]:
    """What is left of a run's indexes of partitions, besides those that go with the whole one."""
    built = ledger.list_changes(conn, run_id, ledger.INDEX_PART)
    found = ledger.list_changes(conn, run_id, ledger.INDEX_ATTACHED)
    there = index_parts.there(conn, [change.new for change in (*built, *found)])
    drops = [
        Rest(change, (there[change.new].drop,))
        for change in built
        if change.new in there and not there[change.new].above
    ]
    again = []
    for change in found:
        now = there.get(change.new)
        if now and not now.above and now.valid:
            continue
        broken = [now.drop] if now and not now.above else []
        again.append(Rest(change, (*broken, text(concurrently(change.old)))))
    return [*drops, *again]


def take_back(conn: Connection, run_id: str, left: Rest) -> None:
    """Run the statements of rest(), and record that."""
    run_patiently(conn, *left.statements)
    ledger.part_undone(conn, run_id, left.change.kind, new=left.change.new)


def alike(left: Iterable[Rest]) -> list[int]:
    """How many statements in a row differ in the partition only: those that drop, and those that
    build again."""
    return [
        sum(len(each.statements) for each in group)
        for _, group in groupby(left, key=lambda each: each.change.kind)
    ]
