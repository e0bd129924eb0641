# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks are waited for briefly, and one writer of pgrunbook at a time works on a table."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.sql import SQL, Composed

from .connection import PATIENT_LOCK_TIMEOUT, Connection, one
from .errors import AT_WORK, RunbookError
from .printable import statement
from .sibling import sibling

TRANSIENT = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,  # a row has moved to another partition meanwhile
)
"""What another transaction was in the way of, so that it may well do a moment later."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between tries for a lock


Result = TypeVar("Result")


@contextlib.contextmanager
def patient(conn: Connection) -> Iterator[Connection]:
    """Another connection, which may wait: for CREATE INDEX CONCURRENTLY, which must outwait older
    snapshots, and for VACUUM. Both leave readers and writers alone while they wait, and an
    autovacuum gives way only to a wait longer than deadlock_timeout.

    The server goes on with such a statement when its client is gone. So this session has a lock of
    its own on whatever table the first one has, and no writer of pgrunbook begins while it lives.
    Raises RunbookError where an earlier statement is under way.
    """
    with sibling(conn, lock_timeout=PATIENT_LOCK_TIMEOUT, statement_timeout="0") as other:
        tables = locked_tables(conn)
        for oid in tables:
            if not try_lock(other, STATEMENT_CLASS, oid):
                table = one(conn, "SELECT %s::oid::regclass::text AS name", (oid,))["name"]
                require_unlocked(conn, oid, table)
                raise RunbookError(at_work("another session", table), code=AT_WORK)
        # Where this still answers, nobody else got the table's lock before ours was there to see.
        one(conn, "SELECT 1 AS alive")
        try:
            yield other
        finally:
            if other.info.transaction_status == TransactionStatus.IDLE:
                for oid in tables:
                    unlock(other, STATEMENT_CLASS, oid)


def run_patiently(conn: Connection, *statements: SQL | Composed) -> None:
    """Run statements on a connection as patient() gives it."""
    with patient(conn) as other:
        for each in statements:
            other.execute(each, ())


def with_lock_retries(
    conn: Connection,
    work: Callable[[], Result],
    *,
    table_oid: int,
    what: str,
    tries: int,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Do work(), again after a wait that doubles (with jitter) when a lock is not to be had.

    sleep waits for that many seconds, or less when nobody wants the work any more.

    Raises RunbookError after the last try, naming the sessions that hold locks on the table.
    """
    wait = FIRST_WAIT
    for attempt in range(1, tries + 1):
        try:
            return work()
        except TRANSIENT as error:
            if attempt == tries:
                raise RunbookError(
                    f"{what}: no lock after {tries} tries (SQLSTATE {error.sqlstate}). "
                    f"{blockers(conn, table_oid)} Next step: wait for them to end, then run again."
                ) from None
            sleep(wait * random.uniform(0.5, 1.0))
            wait = min(wait * 2, LONGEST_WAIT)
    raise AssertionError("tries is at least 1")


def blockers(conn: Connection, table_oid: int) -> str:
    """One sentence on the sessions that hold a lock on a table or a partition of it, ours left
    out."""
    rows = conn.execute(
        "SELECT DISTINCT a.pid, a.usename, a.state, left(a.query, 10000) AS query"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE (l.relation = %(table)s::oid"
        "   OR l.relation IN (SELECT relid FROM pg_partition_tree(%(table)s::oid)))"
        " AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        {"table": table_oid},
    ).fetchall()
    if not rows:
        return "No session holds a lock on it any more."
    held = "; ".join(
        f"pid {r['pid']} ({r['usename']}, {r['state']}): {statement(r['query'])}" for r in rows
    )
    return f"It is held by {held}."


@contextlib.contextmanager
def table_lock(conn: Connection, table_oid: int, table: str) -> Iterator[None]:
    """Hold the advisory lock that lets one writer of pgrunbook at a time work on a table.

    Raises RunbookError, naming the holder, when another one has it, or left a statement under way.
    """
    if not try_lock(conn, _LOCK_CLASS, table_oid):
        require_unlocked(conn, table_oid, table)
        raise RunbookError(at_work("another session", table), code=AT_WORK)
    try:
        require_unlocked(conn, table_oid, table)
        yield
    finally:
        if not conn.closed:
            unlock(conn, _LOCK_CLASS, table_oid)


def require_unlocked(conn: Connection, table_oid: int, table: str) -> None:
    """Raise RunbookError, naming the holder, when a writer of pgrunbook is at work on a table, or
    one that is gone left a statement under way."""
    holder = conn.execute(
        "SELECT a.pid, a.application_name, a.query, l.classid::int8 AS class"
        " FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.pid <> pg_backend_pid()"
        " AND l.classid::int8 IN (%s, %s) AND l.objid::int8 = %s"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " ORDER BY class LIMIT 1",
        (_LOCK_CLASS, STATEMENT_CLASS, table_oid),
    ).fetchone()
    if holder is None:
        return
    who = f"{holder['application_name']} (pid {holder['pid']})"
    if holder["class"] == _LOCK_CLASS:
        raise RunbookError(at_work(who, table), code=AT_WORK)
    raise RunbookError(
        f"A statement of {who} is under way on {table}, and does not end with the module that sent "
        f"it: {statement(holder['query'])}. Nothing was changed. Next step: wait for it to end, or "
        f"end it with SELECT pg_terminate_backend({holder['pid']}), then run again.",
        code=AT_WORK,
    )


def at_work(who: str, table: str) -> str:
    return (
        f"{who} is at work on {table}. Nothing was changed. "
        "Next step: wait for it to end; playbooks/status.yml shows how far it is."
    )


def try_lock(conn: Connection, lock_class: int, oid: int) -> bool:
    query = "SELECT pg_try_advisory_lock(%s, %s) AS got"
    return bool(one(conn, query, (lock_class, _signed(oid)))["got"])


def unlock(conn: Connection, lock_class: int, oid: int) -> None:
    conn.execute("SELECT pg_advisory_unlock(%s, %s)", (lock_class, _signed(oid)))


def _signed(oid: int) -> int:
    return oid if oid < 2**31 else oid - 2**32


def locked_tables(conn: Connection) -> list[int]:
    """The oids of the tables whose lock this session has."""
    rows = conn.execute(
        "SELECT objid::int8 AS oid FROM pg_locks"
        " WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
        " AND classid::int8 = %s"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (_LOCK_CLASS,),
    )
    return [row["oid"] for row in rows]


_LOCK_CLASS, STATEMENT_CLASS = 0x70677262, 0x70677273  # "pgrb", "pgrs"
