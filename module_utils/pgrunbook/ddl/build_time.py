# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an index build will take, from a sample of the table's pages. Only reads."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg.sql import SQL, Composable, Literal

from ..core.connection import Connection, one
from ..core.spec import Table
from ..core.sql import comma, name, table

FIRST_PAGES, MAX_PAGES = 500, 2000  # of a sample; all pages of a table that has fewer
QUICK_SECONDS = 0.2  # for the first sample; a slower one is the only one


def index_seconds(
    conn: Connection, on: Table, pages: int, by: Sequence[str], include: Sequence[str] = ()
) -> float:
    """About how many seconds CREATE INDEX CONCURRENTLY takes on these columns, which go by their
    present names, not counting waits for other transactions. pages is the size of the table.

    A sample of the pages is read, then read again and sorted, because the server scans the table
    twice and sorts once. Both times are measured on the server, and scaled to the whole table.
    Writing the index is not included.
    """
    if not pages:
        return 0.0
    columns = comma(name(c) for c in [*by, *include])
    order = SQL(" ORDER BY {}").format(comma(name(c) for c in by))
    seconds = _sampled(conn, on, columns, order, FIRST_PAGES / pages)
    if pages > FIRST_PAGES and seconds < QUICK_SECONDS * pages / FIRST_PAGES:
        return _sampled(conn, on, columns, order, MAX_PAGES / pages)
    return seconds


def _sampled(
    conn: Connection, on: Table, columns: Composable, order: Composable, share: float
) -> float:
    """Seconds for the whole table, from two reads of a share (0 to 1) of its pages."""
    share = min(share, 1.0)
    read = SQL("SELECT {} FROM {} TABLESAMPLE SYSTEM ({})").format(
        columns, table(on), Literal(100 * share)
    )
    once = _server_seconds(conn, read)
    try:
        with conn.transaction():
            again = _server_seconds(conn, read + order)
    except psycopg.errors.UndefinedFunction:  # a type without an order, such as json
        again = once
    return (once + again) / share


def _server_seconds(conn: Connection, query: Composable) -> float:
    """How long the server takes to run a query whose rows it throws away."""
    explain = SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {}").format(query)
    milliseconds: float = one(conn, explain, ())["QUERY PLAN"][0]["Execution Time"]
    return milliseconds / 1000
