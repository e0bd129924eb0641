# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the server session behind a connection ours alone, or does a pooler hand it to others too?

A pooler gives each client a made-up process id, so a session whose own pid is another one is behind
a pooler. Where that pools by session, nobody else gets ours until we leave. Where it pools by
transaction or statement, whatever is set in the session stays there for the application.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg

from .errors import LOST, RunbookError
from .heartbeat import cut

ASKED, ROUNDS, MAX_BETWEEN = 3, 10, 3
ANSWER_SECONDS = 10.0  # a pool that is used up lets a client wait for two minutes (PgBouncer)

_SHARED = (
    "A connection pooler that pools by transaction or by statement is between here and {where}: "
    "what one session sets or locks, the application would get. Nothing was changed. Next step: "
    "point runbook_login at the server itself, beside the pooler (its own host and port), or at a "
    "pool with pool_mode = session."
)
_NO_ANSWER = (
    "{where} took the connection and gave no answer within {seconds:g} s: the server is frozen, or "
    "a connection pool has no session left. Nothing was changed by this call. Next step: point "
    "runbook_login at the server itself, or give the pool room for phase_workers and two more "
    "sessions."
)

Connection = psycopg.Connection[dict[str, Any]]


def require_own_session(
    conn: Connection, another: Callable[[], Connection], *, doubtful: bool
) -> None:
    """Raise RunbookError where others may get the server session behind the connection, which is
    in autocommit mode. Nothing is set.

    another opens one more connection of the same kind. doubtful is whether the right process id is
    not proof enough, because something on the way took away what the startup packet had.
    """
    if not doubtful and all(_pid(conn) == conn.info.backend_pid for _ in range(ASKED)):
        return
    with contextlib.closing(another()) as other:
        if _shared(conn, other):
            raise RunbookError(_SHARED.format(where=_where(conn)))


def _shared(conn: Connection, other: Connection) -> bool:
    """Whether two connections are seen to share sessions: each must have one of its own, whoever
    asks next.

    A pool that hands out its sessions in turn would look the same to questions in turn, so chance
    decides. With two sessions it passes a round once in four times, with more of them less often.
    """
    ours, theirs = _pid(conn), _pid(other)
    if ours == theirs:
        return True
    for _ in range(ROUNDS):
        if any(_pid(other) != theirs for _ in range(random.randint(0, MAX_BETWEEN))):
            return True
        if random.random() < 0.5:
            if _pid(conn) != ours:
                return True
        elif not _kept(conn, ours, other, theirs):
            return True
    return False


def _kept(conn: Connection, ours: int, other: Connection, theirs: int) -> bool:
    """Whether both connections have their sessions while the other one's transaction is open."""
    try:
        with answering(other):
            other.execute("BEGIN READ ONLY")
    except psycopg.Error:  # statement pooling allows no transaction
        return False
    try:
        return _pid(other) == theirs and _pid(conn) == ours
    finally:
        if not other.closed:
            other.execute("ROLLBACK")


def _pid(conn: Connection) -> int:
    with answering(conn):
        row = conn.execute("SELECT pg_catalog.pg_backend_pid() AS pid").fetchone()
    if row is None:
        raise AssertionError("the query gives one row")
    return int(row["pid"])


@contextlib.contextmanager
def answering(conn: Connection) -> Iterator[None]:
    """Cut the connection off where it has not answered within ANSWER_SECONDS, and say so."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        cut(conn)

    timer = threading.Timer(ANSWER_SECONDS, give_up)
    timer.start()
    try:
        yield
    except psycopg.Error:
        if late.is_set():
            raise RunbookError(
                _NO_ANSWER.format(where=_where(conn), seconds=ANSWER_SECONDS), code=LOST
            ) from None
        raise
    finally:
        timer.cancel()


def _where(conn: Connection) -> str:
    return f"{conn.info.host or 'the default host'}:{conn.info.port}"
