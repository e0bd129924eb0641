# SPDX-License-Identifier: GPL-3.0-or-later
"""What is compared: with an uncut run after the run, with the beginning after the rollback."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.ledger import evidence
from demo import data
from tests.integration.conftest import Database, rows_of
from tests.integration.steps import content

PATIENCE_S = 30.0
TABLES = (("public", "visits"), ("public", "places"))
State = dict[str, Any]

_LEFT = """
SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'pgrunbook/%') AS sessions,
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
        (SELECT oid FROM pg_database WHERE datname = current_database())) AS locks
"""

# Times, and what differs from run to run without a meaning, are left out.
_LEDGER = {
    "run": "SELECT to_jsonb(r) - '{started_at,seen_at,finished_at,seconds,pace,active_sessions}'"
    "::text[] AS row FROM pgrunbook.run r ORDER BY id",
    "approval": "SELECT to_jsonb(a) - '{id,approved_at,plan}'::text[] AS row"
    " FROM pgrunbook.approval a ORDER BY id",
    "change": "SELECT jsonb_build_array(run_id, kind, old, new, undone_at IS NULL) AS row"
    " FROM pgrunbook.change ORDER BY id",
    "batch": "SELECT jsonb_build_array(run_id, sweep, journal, merged, given_back, put_back,"
    " rewritten, left_alone, reverted_at IS NULL) AS row FROM pgrunbook.batch ORDER BY 1",
    "event": "SELECT jsonb_build_array(body ->> 'run', body ->> 'kind') AS row"
    " FROM pgrunbook.event ORDER BY id",
    "unfillable": "SELECT to_jsonb(u) AS row FROM pgrunbook.unfillable u ORDER BY id",
}

_ENTRIES = """
SELECT e AS entry, b.row_count, jsonb_array_length(b.journal) AS length, b.reverted_at IS NULL
    AS stands FROM pgrunbook.batch b, jsonb_array_elements(b.journal) e ORDER BY e
"""
_WRONG_COUNTS = """
SELECT id FROM pgrunbook.batch WHERE row_count <> jsonb_array_length(journal)
    OR reverted_at IS NOT NULL AND (given_back <> jsonb_array_length(coalesce(merged, journal))
                                    OR left_alone <> '[]' OR rewritten > 0)
"""
_CHANGES = """
SELECT DISTINCT kind, old, new FROM pgrunbook.change WHERE undone_at IS NULL ORDER BY 1, 2, 3
"""
# Each change has its event, and each that was taken back the event that says so.
_UNTOLD = """
SELECT run_id, kind, old, new FROM pgrunbook.change c
WHERE NOT EXISTS (SELECT FROM pgrunbook.event e WHERE e.body ->> 'run' = c.run_id
    AND e.body ->> 'kind' = c.kind || CASE WHEN undone_at IS NULL THEN '' ELSE '_undone' END
    AND e.body -> 'detail' ->> 'new' = c.new)
"""
_RUNS = """
SELECT state, verdict, control FROM pgrunbook.run r
WHERE EXISTS (SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id)
"""
# A run that failed and kept nothing is left behind.
_OPEN_RUNS = """
SELECT state FROM pgrunbook.run r WHERE state = 'running' OR state = 'failed' AND (
    EXISTS (SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id)
    OR EXISTS (SELECT FROM pgrunbook.change c WHERE c.run_id = r.id AND c.undone_at IS NULL))
"""


@dataclass(frozen=True)
class _Session(Database):
    """A database whose queries all go through one connection of the application's role."""

    conn: Any = None

    def sql(self, query: Any, parameters: Any = None, *, user: str = data.ROLE) -> list[Any]:
        return rows_of(self.conn.execute(query, parameters))


@contextmanager
def one_session(database: Database) -> Iterator[Database]:
    """The database, with one connection for all queries: they are many and short."""
    with closing(database.connect()) as conn:
        yield _Session(database.server, database.name, conn)


def wait_until_nobody_is_left(database: Database) -> None:
    """The server notices that a client is gone when it next reads from it, or writes to it."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := database.sql(_LEFT)[0]) != {"sessions": 0, "locks": 0}:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.002)


def has_ledger(database: Database) -> bool:
    found = database.sql("SELECT to_regclass('pgrunbook.event') IS NOT NULL AS there")
    return bool(found[0]["there"])


def everything(database: Database) -> State:
    """All that the rest of a run depends on, without times."""
    found = content(database, *TABLES)
    if has_ledger(database):
        found["ledger"] = {
            name: [row["row"] for row in database.sql(query)] for name, query in _LEDGER.items()
        }
    return found


def finished(database: Database) -> State:
    """What has to be as after an uncut run: rows, column names, indexes, journal and ledger."""
    return {**_schema_and_rows(database), **_ledger(database)}


def given_back(database: Database) -> State:
    """What has to be as before the run, and what the ledger has to say of the rollback."""
    ledger = _ledger(database)
    return {**content(database, *TABLES), **ledger, "entries taken back": _entries(database, False)}


def differences(found: State, expected: State) -> list[str]:
    """What differs, in a line each; of a list what is missing and what is too much."""
    lines = []
    for key, wanted in expected.items():
        here = found.get(key)
        if here == wanted:
            continue
        if isinstance(here, list) and isinstance(wanted, list):
            missing, more = _texts(wanted) - _texts(here), _texts(here) - _texts(wanted)
            lines.append(
                f"{key}: missing {_some(missing)}; too much {_some(more)}"
                if missing or more
                else f"{key}: in another order"
            )
        elif isinstance(here, dict) and isinstance(wanted, dict):
            lines += [f"{key}: {line}" for line in differences(here, wanted)]
        else:
            lines.append(f"{key}: {here!r}, expected {wanted!r}")
    return lines


def _schema_and_rows(database: Database) -> State:
    """Like content(), but a column may have been made twice, so that its number differs."""
    found = content(database, *TABLES)
    for entry in found["catalog"]:
        entry["columns"] = [column[:-1] for column in entry["columns"] or []]
    return found


def _ledger(database: Database) -> State:
    standing = _entries(database, True)
    keys = Counter(entry[0] for entry in standing)
    with connect(database.login, name="compared", read_only=True) as conn:
        altered = evidence.compare(conn, [])
    return {
        "journal": standing,
        "in the journal twice": sorted(key for key, times in keys.items() if times > 1),
        "batches with wrong counts": database.sql(_WRONG_COUNTS),
        "changes of the schema that stand": database.sql(_CHANGES),
        "changes without their event": database.sql(_UNTOLD),
        "runs with rows": database.sql(_RUNS),
        "runs that did not end": database.sql(_OPEN_RUNS),
        "evidence": altered,
    }


def _entries(database: Database, stands: bool) -> list[Any]:
    return [row["entry"] for row in database.sql(_ENTRIES) if row["stands"] is stands]


def _texts(entries: list[Any]) -> Counter[str]:
    return Counter(map(repr, entries))


def _some(entries: Counter[str]) -> str:
    listed = [e.replace("x" * 1800, "…") for e in entries.elements()]
    return (
        "; ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "") or "-"
    )
