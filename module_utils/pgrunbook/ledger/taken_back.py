# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollback reads of a run's batches, and writes to them.

The statement that takes a batch back changes the table and the ledger at once. The ledger gives the
parts that are on its own tables; backfill/rollback.py composes the whole. A batch's entries are in
its journal, and from another run's or another batch's point of view in merged where that is set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from ..core.connection import Connection, one
from ..core.sql import comma
from . import schema
from .batches import ASYNCHRONOUS
from .controls import CONTROL, Control, control_of
from .runs import Run, require_owner

MAX_LEFT_ALONE = 100  # rows that are listed
MAX_SHOWN = 200  # characters of a value of a row that was left alone

ENTRIES = SQL(
    "SELECT o.n, o.e, b.xid FROM pgrunbook.batch b,"
    " jsonb_array_elements(coalesce(b.merged, b.journal)) WITH ORDINALITY o(e, n)"
    " WHERE b.id = %(batch)s"
)
"""The entries e of a batch with their numbers n, and the id of the transaction that wrote it."""

TAKE_BACK = SQL(
    "UPDATE pgrunbook.batch SET reverted_at = clock_timestamp(),"
    " given_back = (SELECT count(*) FROM reverted WHERE back),"
    " put_back = (SELECT count(*) FROM reverted WHERE NOT back),"
    " rewritten = (SELECT rows FROM rewritten), left_alone = ("
    " SELECT jsonb_agg(e ORDER BY n) FROM entry"
    " WHERE n NOT IN (SELECT n FROM reverted WHERE back))"
    " WHERE id = %(batch)s"
)
"""Record a batch as taken back. The statement's queries are entry, which is ENTRIES; reverted(n,
back), the rows that were updated, and whether each gave its value back; and rewritten(rows)."""

ENTRIES_GIVEN_BACK = SQL(
    "SELECT o.e FROM pgrunbook.batch b,"
    " jsonb_array_elements(coalesce(b.merged, b.journal)) o(e) WHERE b.id = %(batch)s"
    " AND o.e NOT IN (SELECT jsonb_array_elements(b.left_alone))"
)
"""The entries e of a batch that TAKE_BACK counted as given back."""

COUNT_AS_PUT_BACK = SQL(
    "UPDATE pgrunbook.batch b SET given_back = b.given_back - k.rows,"
    " put_back = b.put_back + k.rows,"
    " left_alone = coalesce(b.left_alone, '[]') || k.entries"
    " FROM kept k WHERE b.id = %(batch)s AND k.rows > 0"
)
"""Correct the figures of a batch. The statement's query kept(rows, entries) has those of the rows
that were given back and hold a value all the same."""


@dataclass(frozen=True)
class LockedBatch:
    """A batch that is to be taken back, and what a person told the run to do."""

    id: int
    rows: int
    control: Control


@dataclass(frozen=True)
class Totals:
    """How many rows of a run were given back, had a value put back by a trigger, and had been
    rewritten by somebody."""

    given_back: int = 0
    put_back: int = 0
    rewritten: int = 0


@dataclass(frozen=True)
class LeftAlone:
    """How many rows a rollback did not give back, and the journal's entries of the first
    MAX_LEFT_ALONE, each value cut to MAX_SHOWN characters."""

    rows: int
    entries: tuple[Any, ...]


def lock_latest(conn: Connection, run: Run) -> LockedBatch | None:
    """Lock the latest batch of the run that is not taken back, and that nobody else is at; None
    where there is none. Raises RunbookError where the run belongs to another execution."""
    row = conn.execute(
        f"SELECT b.id, b.row_count, r.execution, {CONTROL}, {ASYNCHRONOUS}"
        " FROM pgrunbook.batch b JOIN pgrunbook.run r ON r.id = b.run_id"
        " WHERE b.run_id = %s AND b.reverted_at IS NULL"
        " ORDER BY b.id DESC LIMIT 1 FOR UPDATE OF b SKIP LOCKED",
        (run.id,),
    ).fetchone()
    if row is None:
        return None
    if row["execution"] != run.execution:
        require_owner(conn, run)
    return LockedBatch(row["id"], row["row_count"], control_of(row))


def totals(conn: Connection, run_id: str) -> Totals:
    """The figures of what was taken back of a run so far."""
    if not _has_figures(conn):
        return Totals()
    return Totals(
        **one(
            conn,
            "SELECT coalesce(sum(given_back), 0)::int8 AS given_back,"
            " coalesce(sum(put_back), 0)::int8 AS put_back,"
            " coalesce(sum(rewritten), 0)::int8 AS rewritten"
            " FROM pgrunbook.batch WHERE run_id = %s",
            (run_id,),
        )
    )


def left_alone(conn: Connection, run_id: str) -> LeftAlone:
    """The rows of a run that its rollback did not give back."""
    row = one(
        conn,
        "SELECT count(*)::int8 AS rows, coalesce(jsonb_agg((SELECT jsonb_agg("
        "   CASE WHEN length(v) > %(shown)s THEN left(v, %(shown)s) || '...' ELSE v END ORDER BY i)"
        "   FROM jsonb_array_elements_text(e) WITH ORDINALITY x(v, i)))"
        "  FILTER (WHERE n <= %(most)s), '[]') AS entries"
        " FROM (SELECT e, row_number() OVER () AS n FROM pgrunbook.batch b,"
        "       jsonb_array_elements(b.left_alone) e WHERE b.run_id = %(run)s) l",
        {"shown": MAX_SHOWN, "most": MAX_LEFT_ALONE, "run": run_id},
    )
    return LeftAlone(row["rows"], tuple(row["entries"]))


def rows_to_give_back(conn: Connection, run_id: str, key_columns: int) -> int:
    """How many rows the journal of a run lists that were not taken back. A row that was filled
    twice counts once. A row's key is the first key_columns values of its entry."""
    merged = SQL("coalesce(b.merged, b.journal)") if _has_figures(conn) else SQL("b.journal")
    query = SQL(
        "SELECT count(*)::int8 AS rows FROM (SELECT FROM pgrunbook.batch b,"
        " jsonb_array_elements({}) o(e) WHERE b.run_id = %s AND b.reverted_at IS NULL"
        " GROUP BY {}) k"
    ).format(merged, _key(range(key_columns)))
    rows: int = one(conn, query, (run_id,))["rows"]
    return rows


def merge_entries(conn: Connection, run_id: str, key_columns: int, values: int) -> None:
    """Before anything is taken back: where the run filled a row more than once, because somebody
    took the value away in between, keep one entry of it, the latest, with the latest value of each
    column. The journal stays as it was written; a batch that it differs in has the rest in merged.

    An entry has the values of the key's columns first, and then so many others.
    """
    parts = {"key": _key(range(key_columns)), "run": Literal(run_id)}
    if not one(conn, SQL(_TWICE).format(**parts), ())["any"]:
        return
    kept = _kept_entries(run_id, key_columns, values)
    update = " UPDATE pgrunbook.batch b SET merged = k.entries FROM kept k WHERE k.id = b.id"
    conn.execute(kept + SQL(update), ())


def merged_wrongly(conn: Connection, run_id: str, key_columns: int, values: int) -> int:
    """How many batches of a run have something in merged that merge_entries() would not write."""
    query = _kept_entries(run_id, key_columns, values) + SQL(
        " SELECT count(*)::int8 AS batches FROM pgrunbook.batch b LEFT JOIN kept k ON k.id = b.id"
        " WHERE b.run_id = {} AND b.merged IS NOT NULL AND b.merged IS DISTINCT FROM k.entries"
    ).format(Literal(run_id))
    batches: int = one(conn, query, ())["batches"]
    return batches


def _kept_entries(run_id: str, key_columns: int, values: int) -> Composed:
    """The query kept(id, entries): what merge_entries() keeps of each batch that it changes."""
    latest = [
        SQL(
            "(array_agg(o.e ->> {n} ORDER BY o.id DESC) FILTER (WHERE o.e ->> {n} IS NOT NULL))[1]"
        ).format(n=Literal(n))
        for n in range(key_columns + values)
    ]
    key = _key(range(key_columns))
    return SQL(_KEPT).format(key=key, run=Literal(run_id), latest=comma(latest))


_TWICE = """
SELECT NOT EXISTS (SELECT FROM pgrunbook.batch WHERE run_id = {run} AND reverted_at IS NOT NULL)
   AND EXISTS (SELECT FROM pgrunbook.batch b, jsonb_array_elements(b.journal) o(e)
               WHERE b.run_id = {run} GROUP BY {key} HAVING count(*) > 1) AS any
"""

_KEPT = """
WITH entry AS (
    SELECT b.id, o.n, o.e, {key} AS key
    FROM pgrunbook.batch b, jsonb_array_elements(b.journal) WITH ORDINALITY o(e, n)
    WHERE b.run_id = {run}
), twice AS (
    SELECT key, max(o.id) AS id, jsonb_build_array({latest}) AS e
    FROM entry o WHERE key IN (SELECT key FROM entry GROUP BY key HAVING count(*) > 1)
    GROUP BY key
), kept AS (
    SELECT o.id, coalesce(jsonb_agg(coalesce(w.e, o.e) ORDER BY o.n)
                          FILTER (WHERE w.key IS NULL OR w.id = o.id), '[]') AS entries
    FROM entry o LEFT JOIN twice w ON w.key = o.key
    WHERE o.id IN (SELECT x.id FROM entry x JOIN twice USING (key)) GROUP BY o.id
)"""


@dataclass(frozen=True)
class Entries:
    """Where the journal of a run has what is looked for: its id, the places of the key's values in
    an entry, and those of the columns'."""

    run_id: str
    key: tuple[int, ...]
    columns: tuple[int, ...]


def rows_filled_again(conn: Connection, ours: Entries, theirs: Entries) -> int:
    """How many rows another run has filled after ours had, in the same column; both name the same
    columns in the same order."""
    shared = SQL(" OR ").join(
        SQL("(x.e ->> {} IS NOT NULL AND y.e ->> {} IS NOT NULL)").format(*map(Literal, places))
        for places in zip(ours.columns, theirs.columns, strict=True)
    )
    query = _FILLED_AGAIN.format(_key(ours.key), _key(theirs.key), shared)
    rows: int = one(conn, query, {"ours": ours.run_id, "theirs": theirs.run_id})["rows"]
    return rows


_FILLED_AGAIN = SQL("""
SELECT count(DISTINCT x.key)::int8 AS rows FROM
    (SELECT b.id, o.e, {} AS key FROM pgrunbook.batch b, jsonb_array_elements(b.journal) o(e)
     WHERE b.run_id = %(ours)s AND b.reverted_at IS NULL) x
JOIN
    (SELECT b.id, o.e, {} AS key FROM pgrunbook.batch b, jsonb_array_elements(b.journal) o(e)
     WHERE b.run_id = %(theirs)s AND b.reverted_at IS NULL) y
ON y.key = x.key WHERE y.id > x.id AND ({})
""")


def _key(places: Iterable[int]) -> Composable:
    """The key in an entry o.e of the journal, as jsonb."""
    parts: list[Composed] = [SQL("o.e -> {}").format(Literal(n)) for n in places]
    return parts[0] if len(parts) == 1 else SQL("jsonb_build_array({})").format(comma(parts))


def _has_figures(conn: Connection) -> bool:
    """Whether the ledger has the figures of batches that were taken back: an older one gets them
    with the next approval."""
    return schema.version(conn) >= 2
