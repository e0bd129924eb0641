# SPDX-License-Identifier: GPL-3.0-or-later
"""The query of the application that a phase names, to be timed while rows are filled. It only
reads."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.sql import SQL, Composed

from ..catalog import TableInfo, conversion, volatile
from ..core.connection import Connection
from ..core.errors import RunbookError, reason
from ..core.reconnect import raise_if_lost
from ..core.spec import Spec
from ..core.sql import filled_in, table

TIMEOUT_MS = 1000
"""After which the server cancels the query: the thread that times it has others to look after."""

_BOUNDED = (
    "SELECT pg_catalog.set_config('transaction_read_only', 'on', true),"
    f" pg_catalog.set_config('statement_timeout', '{TIMEOUT_MS}ms', true)"
)
_NEXT = "Next step: correct phase_probe_query"


def compiled(spec: Spec, info: TableInfo) -> Composed | None:
    """The query, with {table}, {source} and the phase's {column}s filled in; None where the phase
    has none. Raises RunbookError where a placeholder is none of these."""
    if not spec.probe_query:
        return None
    values = {
        "table": table(spec.table),
        "source": table(spec.source),
        **conversion.readable(spec, info.types),
    }
    try:
        return filled_in(spec.probe_query.rstrip("; \n"), values)
    except ValueError as error:
        raise RunbookError(
            f"phase_probe_query has a placeholder that cannot be filled ({error}). {_NEXT}: it "
            f"takes {', '.join(f'{{{v}}}' for v in values)}; double any other brace."
        ) from None


def require_sound(conn: Connection, spec: Spec, info: TableInfo) -> set[str]:
    """Have the server plan the query, and run it once. Returns the volatile functions that it
    calls, all of which are acknowledged.

    Raises RunbookError where it is wrong, writes, takes longer than TIMEOUT_MS, or calls a volatile
    function that is not acknowledged.
    """
    query = compiled(spec, info)
    if query is None:
        return set()
    try:
        with conn.transaction():
            explain = SQL("EXPLAIN (FORMAT JSON) {}").format(query)
            plan = json.dumps(conn.execute(explain, (), binary=True).fetchall())
        if '"ModifyTable"' in plan:
            raise RunbookError(
                f"phase_probe_query would write: {spec.probe_query} {_NEXT}: it is repeated ten "
                "times a second, and may only read."
            )
        found = volatile.acknowledged(conn, spec, query, "phase_probe_query cannot be timed")
        milliseconds(conn, query)
    except psycopg.errors.QueryCanceled:
        raise RunbookError(
            f"phase_probe_query takes more than {TIMEOUT_MS / 1000:g} s: {spec.probe_query} "
            f"{_NEXT}: one that the application does often, and that takes some milliseconds."
        ) from None
    except psycopg.Error as error:
        raise_if_lost(error)
        raise RunbookError(f"phase_probe_query is wrong: {reason(error)}. {_NEXT}.") from None
    return found


def milliseconds(conn: Connection, query: Composed) -> float:
    """How long the query takes, as its client feels it, in a READ ONLY transaction, which is rolled
    back. Raises psycopg.Error where it fails, QueryCanceled after TIMEOUT_MS."""
    with _bounded(conn):
        started = time.perf_counter()
        conn.execute(query, (), binary=True).fetchall()
        return (time.perf_counter() - started) * 1000


@contextmanager
def _bounded(conn: Connection) -> Iterator[None]:
    with conn.transaction(force_rollback=True):
        conn.execute(_BOUNDED)
        yield
