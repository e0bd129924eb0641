# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows that the server refuses to fill: a run sets them aside, and fills all others.

The ledger keeps the key of each, and what the server said. The next execution of the run tries them
again.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL, Composable, Composed

from ..core.connection import Connection, one
from ..core.values import read
from .runs import Run, require_owner
from .schema import knows_refused

MAX_LISTED = 100  # rows that the server refused, of a run


@dataclass(frozen=True)
class RefusedRow:
    """A row that the server refuses to fill: its key, as JSON, and what the server said."""

    key: str
    sqlstate: str
    message: str


@dataclass(frozen=True)
class Refused:
    """How many rows a run has set aside, and the first MAX_LISTED of them."""

    rows_refused: int = 0
    refused: tuple[RefusedRow, ...] = ()


def refused(conn: Connection, run_id: str) -> Refused:
    """The rows that the run has set aside, and that are not tried again."""
    if not knows_refused(conn):
        return Refused()
    return read(
        Refused,
        one(
            conn,
            "SELECT count(*)::int8 AS rows_refused, coalesce(jsonb_agg(jsonb_build_object("
            "   'key', key::text, 'sqlstate', sqlstate, 'message', message) ORDER BY n)"
            "  FILTER (WHERE n <= %s), '[]') AS refused"
            " FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM pgrunbook.unfillable"
            "       WHERE run_id = %s AND tried_again_at IS NULL) u",
            (MAX_LISTED, run_id),
        ),
    )


def is_aside(key: Composable, run: Composable) -> Composed:
    """The condition that a run has set aside the row that has this key, a jsonb array."""
    return SQL(
        "{key} IN (SELECT key FROM pgrunbook.unfillable\n"
        "      WHERE run_id = {run} AND tried_again_at IS NULL)"
    ).format(key=key, run=run)


def set_aside(conn: Connection, run: Run, row: RefusedRow) -> None:
    """Set a row aside. Raises RunbookError where the run belongs to another execution."""
    with conn.transaction():
        added = conn.execute(
            "INSERT INTO pgrunbook.unfillable (run_id, key, sqlstate, message)"
            " SELECT id, %s::jsonb, %s, %s FROM pgrunbook.run WHERE id = %s AND execution = %s",
            (row.key, row.sqlstate, row.message, run.id, run.execution),
        )
        if not added.rowcount:
            require_owner(conn, run)


def try_again(conn: Connection, run_id: str) -> None:
    """Have the rows that the run has set aside tried again from now on."""
    conn.execute(
        "UPDATE pgrunbook.unfillable SET tried_again_at = clock_timestamp()"
        " WHERE run_id = %s AND tried_again_at IS NULL",
        (run_id,),
    )


def newest_with_rows_aside(conn: Connection, phase: str, table: str) -> str | None:
    """The id of the newest run of a phase on a table, if it has rows set aside, else None."""
    if not knows_refused(conn):
        return None
    row = conn.execute(
        "SELECT r.id, EXISTS (SELECT FROM pgrunbook.unfillable u WHERE u.run_id = r.id"
        "   AND u.tried_again_at IS NULL) AS any"
        " FROM pgrunbook.run r WHERE r.phase = %s AND r.table_name = %s"
        " ORDER BY r.started_at DESC LIMIT 1",
        (phase, table),
    ).fetchone()
    return row["id"] if row and row["any"] else None
