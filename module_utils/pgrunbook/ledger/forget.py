# SPDX-License-Identifier: GPL-3.0-or-later
"""Forget the journal of a run that has ended: drop the entries of its batches, and keep the batches
themselves, the run, its approvals and its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from ..core.connection import Connection, one
from ..core.errors import RunbookError, reason
from ..core.sibling import sibling
from ..core.sql import comma, render
from . import journal
from .events import event
from .forgotten import APPROVED, DROPPED, FORGOTTEN, list_forgotten
from .runs import Run, get_run, require_idle

ENDED = ("finished", "reverted")
COVERED = ("batches", "rows", "sha256")  # of Left, by an approval
PART = 100  # batches that are dropped at once where no event tells them from others

_DROPPED = {"journal": "'[]'", "merged": "NULL"}
"""The columns of a batch that hold entries of the journal, and what is left in them."""

VACUUM = SQL("VACUUM pgrunbook.batch")

# A part is what one event covers, so that each event can be compared as long as its part is there.
_BOUNDS = """
WITH covered AS (
    SELECT (body #>> '{detail,journal,upto}')::int8 AS upto FROM pgrunbook.event
    WHERE body ->> 'run' = %(run)s AND body -> 'detail' ? 'journal'
), batch AS (
    SELECT id, max(id) OVER () AS last, row_number() OVER (
        PARTITION BY id > coalesce((SELECT max(upto) FROM covered), 0) ORDER BY id) AS n
    FROM pgrunbook.batch WHERE run_id = %(run)s AND id > %(after)s
)
SELECT id AS upto FROM batch
WHERE id = last OR id IN (SELECT upto FROM covered)
   OR n %% %(part)s = 0 AND id > coalesce((SELECT max(upto) FROM covered), 0)
ORDER BY 1
"""

_APPROVAL = f"""
SELECT body -> 'detail' AS detail FROM pgrunbook.event
WHERE body ->> 'run' = %s AND body ->> 'kind' = '{APPROVED}' ORDER BY id DESC LIMIT 1
"""

# Who forgot a part had an approval of the journal as it was then.
_AS_IT_WAS = f"""
SELECT a.body #> '{{detail,plan}}' AS plan,
       sum((d.body #>> '{{detail,bytes}}')::int8)::int8 AS bytes
FROM pgrunbook.event d, LATERAL (
    SELECT body FROM pgrunbook.event a
    WHERE a.body ->> 'run' = d.body ->> 'run' AND a.body ->> 'kind' = '{APPROVED}'
      AND a.id < (SELECT min(id) FROM pgrunbook.event
                  WHERE body ->> 'run' = d.body ->> 'run' AND body ->> 'kind' = '{DROPPED}')
    ORDER BY a.id DESC LIMIT 1) a
WHERE d.body ->> 'run' = %s AND d.body ->> 'kind' = '{DROPPED}' GROUP BY 1
"""


@dataclass(frozen=True)
class Left:
    """What is there of a run's journal: batches and their rows, how many of these were not given
    back, the bytes of the entries as they are stored, and the journal's SHA-256. In batches that
    were forgotten already there is nothing."""

    batches: int
    rows: int
    standing: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Dropped:
    """What was dropped of a run's journal by this call, and whether the server gave the space back
    to the table, or why not."""

    batches: int
    rows: int
    bytes: int
    not_vacuumed: str


def require_ended(conn: Connection, run_id: str) -> None:
    """Raise RunbookError where the ledger does not have the run, or it has not ended: then its
    journal is what it goes on with, or is rolled back by."""
    run = get_run(conn, run_id)
    require_idle(run)
    if run.state in ENDED:
        return
    rolled_back = conn.execute(
        "SELECT FROM pgrunbook.approval WHERE run_id = %s AND scope = 'rollback'", (run_id,)
    ).rowcount
    told, finish = "it has not ended", "run the phase again to finish it, or roll it back with"
    if rolled_back:
        told, finish = "its rollback was begun and is not finished", "finish it with"
    raise RunbookError(
        f"Run {run_id} is {run.state}: {told}, and needs its journal. Nothing was changed. Next "
        f"step: {finish} playbooks/rollback.yml -e run={run_id}; then forget it."
    )


def left(conn: Connection, run_id: str) -> Left:
    """What is there of a run's journal. Reads every entry."""
    after = _dropped_upto(conn, run_id)
    found = journal.fingerprint(conn, run_id, after=after)
    query = SQL(
        "SELECT coalesce(sum({bytes}), 0)::int8 AS bytes,"
        " coalesce(sum(row_count) FILTER (WHERE reverted_at IS NULL), 0)::int8 AS standing"
        " FROM pgrunbook.batch WHERE run_id = %s AND id > %s"
    ).format(bytes=_stored(_columns(conn)))
    sizes = one(conn, query, (run_id, after))
    return Left(batches=found.batches, rows=found.rows, sha256=found.sha256, **sizes)


def statements(conn: Connection) -> list[str]:
    """The statements that drop a journal; the first one is repeated for each part."""
    return [render(_statement(_columns(conn))), render(VACUUM)]


def drop(conn: Connection, run: Run) -> Dropped:
    """Drop what is left of the run's journal, a part in each transaction, the oldest batches first.

    Raises RunbookError where nobody approved that for this execution, the journal is not the one
    that was approved, or the run is at work.
    """
    before, after = left(conn, run.id), _dropped_upto(conn, run.id)
    plan = _require_approved(conn, run)["plan"]
    if any(plan[name] != getattr(before, name) for name in COVERED):
        raise RunbookError(
            f"The journal of run {run.id} is not the one that was approved to be forgotten: it was "
            "changed since. Nothing was changed by this call. Next step: run "
            f"playbooks/forget.yml -e run={run.id} again, and read the new plan."
        )
    bounds = conn.execute(_BOUNDS, {"run": run.id, "after": after, "part": PART}).fetchall()
    for upto in (row["upto"] for row in bounds):
        with conn.transaction():
            _drop_part(conn, run, after, upto)
            if upto == bounds[-1]["upto"]:
                _record_end(conn, run)
        after = upto
    return Dropped(before.batches, before.rows, before.bytes, _vacuum(conn))


def _require_approved(conn: Connection, run: Run) -> dict[str, Any]:
    """The latest approval to forget the run, with its row locked where a transaction is open.
    Raises RunbookError where it is not this execution's, or the run has been taken up since."""
    conn.execute("SELECT FROM pgrunbook.run WHERE id = %s FOR UPDATE", (run.id,))
    require_ended(conn, run.id)
    row = conn.execute(_APPROVAL, (run.id,)).fetchone()
    found: dict[str, Any] = row["detail"] if row else {}
    if (found.get("execution"), found.get("plan_hash")) != (run.execution, run.plan_hash):
        raise RunbookError(
            f"Nobody approved for this execution that run {run.id} is forgotten, or another one "
            "has been approved since. This call stops here. Next step: run the whole of "
            f"playbooks/forget.yml -e run={run.id}"
        )
    return found


def _drop_part(conn: Connection, run: Run, after: int, upto: int) -> None:
    """Drop the entries of the batches with an id above after, up to upto, and record that."""
    approval = _require_approved(conn, run)
    part = {"run": run.id, "after": after, "upto": upto}
    columns = _columns(conn)
    was = journal.fingerprint(conn, run.id, after=after, upto=upto)
    size = one(
        conn,
        SQL(
            "SELECT coalesce(sum({}), 0)::int8 AS bytes FROM pgrunbook.batch"
            " WHERE run_id = %(run)s AND id > %(after)s AND id <= %(upto)s"
        ).format(_stored(columns)),
        part,
    )
    conn.execute("SET LOCAL statement_timeout = 0")
    conn.execute(_statement(columns), part)
    event(
        conn,
        run.id,
        DROPPED,
        by=approval["by"],
        after=after,
        upto=upto,
        batches=was.batches,
        rows=was.rows,
        bytes=size["bytes"],
        sha256=was.sha256,
        sha256_left=journal.fingerprint(conn, run.id, after=after, upto=upto).sha256,
    )


def _record_end(conn: Connection, run: Run) -> None:
    """Record that the journal is forgotten, and what it was before the first part was dropped."""
    by = _require_approved(conn, run)["by"]
    was = one(conn, _AS_IT_WAS, (run.id,))
    plan = was["plan"]
    told = {name: plan[name] for name in COVERED}
    event(conn, run.id, FORGOTTEN, by=by, plan_hash=run.plan_hash, bytes=was["bytes"], **told)


def _dropped_upto(conn: Connection, run_id: str) -> int:
    found = list_forgotten(conn, run_id).get(run_id)
    return found.upto if found else 0


def _columns(conn: Connection) -> list[str]:
    """The columns of _DROPPED that this ledger has: an older one lacks some."""
    rows = conn.execute(
        "SELECT attname AS name FROM pg_attribute WHERE attrelid = 'pgrunbook.batch'::regclass"
        " AND attname = ANY (%s) AND NOT attisdropped ORDER BY attnum",
        (list(_DROPPED),),
    )
    return [row["name"] for row in rows]


def _stored(columns: list[str]) -> Composed:
    """The bytes of the entries of a batch, as they are stored."""
    return SQL(" + ").join(
        SQL("coalesce(pg_column_size({}), 0)").format(Identifier(c)) for c in columns
    )


def _statement(columns: list[str]) -> Composed:
    sets = comma(SQL("{} = " + _DROPPED[c]).format(Identifier(c)) for c in columns)
    return SQL(
        "UPDATE pgrunbook.batch SET {} WHERE run_id = %(run)s AND id > %(after)s AND id <= %(upto)s"
    ).format(sets)


def _vacuum(conn: Connection) -> str:
    """Give the space back to the table. Returns why that was not done, empty where it was."""
    told: list[str] = []
    try:
        with sibling(conn, lock_timeout="1s", statement_timeout="0") as other:
            other.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
            other.execute(VACUUM)
    except psycopg.Error as error:
        told.append(reason(error))
    except RunbookError as error:
        told.append(str(error))
    return "; ".join(told)
