# SPDX-License-Identifier: GPL-3.0-or-later
"""A large table, read a page range at a time: no statement reads all of it, and no transaction is
older than one range. Only reads.

A transaction that reads for minutes keeps the server from removing dead rows anywhere in the
database, and a schema change of the table waits for it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from random import Random
from typing import Any

from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Composable, Composed, Literal

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.read_only import short_transaction
from ..core.sibling import sibling
from ..core.spec import Table
from ..core.sql import comma, name, table
from .tables import Leaf, TableInfo

LARGE_PAGES = 65_536  # 512 MiB, which a disk of 100 MB a second gives in 5 seconds
RANGE_PAGES = 32_768  # 256 MiB: 0.3 s in memory, and smaller ones take longer together
MAX_READERS = 2  # one is half as fast as a statement that the server runs in parallel
LONGEST_IDLE = 20.0  # seconds; the server ends a transaction that idles for a minute
MAX_READINGS = 3  # of a table that is written anew meanwhile

Row = dict[str, Any]
Query = Callable[[Composable], Composed]
"""A query of the rows t that stand behind its FROM."""
Merge = Callable[[Sequence[Row]], list[Row]]
NUMBER = "pgrunbook_page"
"""The column of rows_of() that numbers the ranges."""


@dataclass(frozen=True)
class PageRange:
    """The pages of a leaf from first to before last; without last, to wherever it ends by then."""

    leaf: Table
    first: int
    last: int | None


def summed(conn: Connection, of: Table, info: TableInfo, query: Query, workers: int = 1) -> Row:
    """The row of sums that a query gives of the whole table: numbers, or objects of numbers. Of a
    large table it is put together from those of its ranges, and with two workers two connections
    read, if a second one is to be had.

    Rows that are written meanwhile can be moved from a range that is still to be read to one that
    was read, or the other way round: they are missing then, or counted twice. A connection that
    only reads ends its transaction, so it must be in no savepoint.
    """
    (row,) = _read(conn, of, info, query, workers, lambda rows: [reduce(added, rows)])
    return row


def first(
    conn: Connection, of: Table, info: TableInfo, query: Query, by: str, most: int, workers: int = 1
) -> list[Row]:
    """The first rows of the whole table in the order of a column, by, of a query that gives so many
    at most, in that order. Of a large table it is asked range by range, as by summed()."""

    def kept(rows: Sequence[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: row[by])[:most]

    return _read(conn, of, info, query, workers, kept)


def of_pages(conn: Connection, info: TableInfo, ranges: Sequence[PageRange], query: Query) -> Row:
    """The row of sums that a query gives of these pages, in a transaction of its own."""
    (row,) = _in_a_range(conn, query(rows_of(info, ranges)))
    return row


def some(conn: Connection, of: Table, info: TableInfo, query: Query, most: int) -> list[Row]:
    """Any rows of a query that gives so many at most. Of a large table it is asked range by range,
    until there are so many. For summed()'s connections."""
    if not is_large(conn, info):
        return _in_a_savepoint(conn, query(table(of)))

    def reading() -> list[Row]:
        found: list[Row] = []
        for ranges in groups(info.leaves):
            found += _in_a_range(conn, query(rows_of(info, ranges)))
            if len(found) >= most:
                break
        return found[:most]

    return _undisturbed(conn, of, info, reading)


def is_large(conn: Connection, info: TableInfo) -> bool:
    """Whether the table is read by ranges: it has many pages, and each leaf is a heap that our role
    may read by its own name."""
    if info.pages < LARGE_PAGES:
        return False
    query = (
        "SELECT bool_and(m.amname IS NOT DISTINCT FROM 'heap' AND c.relkind IN ('r', 'm')"
        " AND has_table_privilege(c.oid, 'SELECT')) AS all"
        " FROM pg_class c LEFT JOIN pg_am m ON m.oid = c.relam WHERE c.oid = ANY (%s::oid[])"
    )
    return bool(one(conn, query, ([leaf.oid for leaf in info.leaves],))["all"])


def groups(leaves: Sequence[Leaf]) -> Iterator[list[PageRange]]:
    """The ranges that cover the leaves, in groups of RANGE_PAGES together: small leaves share a
    group. The last range of each leaf is open, for rows that are appended meanwhile."""
    group: list[PageRange] = []
    room = RANGE_PAGES
    for leaf in leaves:
        first = 0
        while leaf.pages - first > room:
            yield [*group, PageRange(leaf.table, first, first + room)]
            first += room
            group, room = [], RANGE_PAGES
        group.append(PageRange(leaf.table, first, None))
        room -= leaf.pages - first
    if group:
        yield group


def _read(
    conn: Connection, of: Table, info: TableInfo, query: Query, workers: int, merge: Merge
) -> list[Row]:
    """The rows that a query gives of the table, or those of its ranges, merged."""
    if not is_large(conn, info):
        return _in_a_savepoint(conn, query(table(of)))

    def reading() -> list[Row]:
        waiting = deque(query(rows_of(info, ranges)) for ranges in groups(info.leaves))
        readers = min(workers, MAX_READERS, len(waiting))
        with _readers(conn, readers) as conns, ThreadPoolExecutor(len(conns)) as pool:
            found = [pool.submit(_merged, each, waiting, merge) for each in conns]
            _wait_for(conn, found)
        return merge([row for each in found for row in each.result()])

    return _undisturbed(conn, of, info, reading)


def _undisturbed(
    conn: Connection, of: Table, info: TableInfo, reading: Callable[[], list[Row]]
) -> list[Row]:
    """What reading() gives. Where somebody has written the table anew meanwhile, as pg_repack does,
    each row has another place: one may have been read twice, or not at all. Then it reads again.
    Raises RunbookError where that happens each time."""
    for _ in range(MAX_READINGS):
        before = _files(conn, info)
        rows = reading()
        if _files(conn, info) == before:
            return rows
    raise RunbookError(
        f"{of} was written anew, as pg_repack, VACUUM FULL, CLUSTER and TRUNCATE do, while it was "
        f"read, {MAX_READINGS} times, so its rows cannot be counted. Nothing was changed by that. "
        "Next step: wait until that is over, then run again."
    )


def _files(conn: Connection, info: TableInfo) -> Any:
    """The files that hold the rows of each leaf: others once the leaf was written anew."""
    query = (
        "SELECT array_agg(pg_relation_filenode(oid)::int8 ORDER BY oid) AS files"
        " FROM unnest(%s::oid[]) oid"
    )
    return one(conn, query, ([leaf.oid for leaf in info.leaves],))["files"]


@contextmanager
def _readers(conn: Connection, number: int) -> Iterator[list[Connection]]:
    """So many connections to read with, the given one among them; fewer where there are none
    left."""
    with ExitStack() as stack:
        conns = [conn]
        with suppress(RunbookError):
            conns += [stack.enter_context(sibling(conn)) for _ in range(number - 1)]
        yield conns


def _merged(conn: Connection, waiting: deque[Composed], merge: Merge) -> list[Row]:
    """What the queries give that this reader takes, until none is waiting, or one fails."""
    rows: list[Row] = []
    try:
        while (query := _next(waiting)) is not None:
            rows = merge([*rows, *_in_a_range(conn, query)])
    except BaseException:
        waiting.clear()
        raise
    return rows


_CAN_ANSWER = (TransactionStatus.IDLE, TransactionStatus.INTRANS)


def _wait_for(conn: Connection, readers: Sequence[Future[list[Row]]]) -> None:
    """Wait until all readers have ended. The given connection, which the first of them reads with,
    is not idle so long that the server ends its transaction."""
    mine, *others = readers
    wait([mine])
    while wait(others, LONGEST_IDLE).not_done:
        if conn.info.transaction_status in _CAN_ANSWER:
            conn.execute("SELECT")


def _next(waiting: deque[Composed]) -> Composed | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _in_a_savepoint(conn: Connection, query: Composed) -> list[Row]:
    """What a query of the whole table gives; where it fails, the caller may go on."""
    with conn.transaction():
        return conn.execute(query, ()).fetchall()


def _in_a_range(conn: Connection, query: Composed) -> list[Row]:
    """What a query of a range gives, in a transaction of its own."""
    with short_transaction(conn):
        # JIT would be compiled for every range again.
        conn.execute("SELECT pg_catalog.set_config('jit', 'off', true)")
        return conn.execute(query, ()).fetchall()


def added(total: Mapping[str, Any], more: Mapping[str, Any]) -> Row:
    """Two rows of sums, added up."""
    return {key: _sum(total.get(key), more.get(key)) for key in {**total, **more}}


def _sum(total: Any, more: Any) -> Any:
    if total is None or more is None:
        return more if total is None else total
    return added(total, more) if isinstance(more, Mapping) else total + more


def random_pages(info: TableInfo, most: int, seed: int) -> list[PageRange]:
    """So many pages of the table at random, each alone, in their order on the disk; all of them
    where it has no more. The same seed gives the same pages."""
    numbers = sorted(Random(seed).sample(range(info.pages), min(most, info.pages)))
    starts = list(accumulate((leaf.pages for leaf in info.leaves), initial=0))
    found = []
    for number in numbers:
        of = bisect_right(starts, number) - 1
        page = number - starts[of]
        found.append(PageRange(info.leaves[of].table, page, page + 1))
    return found


def rows_of(info: TableInfo, ranges: Sequence[PageRange]) -> Composed:
    """The rows of ranges as a subquery, with their places, and the number of their range from 0 on:
    partitions may have their columns in another order."""
    columns = comma(map(name, ("tableoid", "ctid", *info.columns)))
    return SQL("({})").format(
        SQL(" UNION ALL ").join(
            SQL("SELECT {} AS {}, {} FROM {} WHERE {}").format(
                Literal(number), name(NUMBER), columns, table(pages.leaf), _within(pages)
            )
            for number, pages in enumerate(ranges)
        )
    )


def _within(pages: PageRange) -> Composed:
    first = SQL("ctid >= {}::tid").format(Literal(f"({pages.first},0)"))
    if pages.last is None:
        return first
    return SQL("{} AND ctid < {}::tid").format(first, Literal(f"({pages.last},0)"))
