# SPDX-License-Identifier: GPL-3.0-or-later
"""The server plans each statement that will read or write rows, so that none fails later for a
reason that is there now. Only reads.

It is asked for the statement as it will run, or for the nearest one where columns have not got
their right names and types yet. EXPLAIN executes nothing, not even an UPDATE. It checks names,
types, operators and privileges. Changes of the schema cannot be planned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
from psycopg.sql import SQL, Composed

from .. import catalog
from ..backfill import batch_sql, rollback
from ..backfill.equality import Rules
from ..catalog import TableInfo, conversion
from ..core.connection import Connection
from ..core.errors import detail, reason, require_none
from ..core.reconnect import raise_if_lost
from ..core.spec import Spec
from ..gates import row_comparison
from ..ledger import schema

Asked = tuple[str, Composed]
"""A statement, after what a person calls it."""


def require_run(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> None:
    """Raise RunbookError with the statements of a run that the server cannot plan."""
    has_ledger = schema.known_version(conn) > schema.NONE
    found = [
        *_batches(spec, info, catalog.present_names(spec, info)),
        *(
            (f"the query of the gate {gate}", query)
            for gate, query in row_comparison.statements(spec, info, by, has_ledger=has_ledger)
        ),
    ]
    none = [None] * len(spec.key)
    place = {"first": 0, "last": 1, "first_key": none, "last_key": none}
    _require(conn, spec, found, {**place, "passes": 1, "pass": 0, "most": 1})


def require_rollback(
    conn: Connection, spec: Spec, info: TableInfo, names: Mapping[str, str]
) -> None:
    """The same for a rollback; names has the columns that are still there. With an older ledger
    nothing is asked: it lacks columns that the approval adds."""
    if schema.version(conn) == schema.VERSION:
        found = rollback.statements(spec, names, info)
        _require(
            conn, spec, [("the statement that gives rows back", s) for s in found], {"batch": 0}
        )


def _batches(spec: Spec, info: TableInfo, names: Mapping[str, str]) -> Iterator[Asked]:
    held = conversion.held(spec, info.types)
    put_aside = {each.column.name: each.old for each in conversion.pending(spec, info)}
    by_key = spec.strategy == "keyset" and spec.key  # without a key the strategy is refused
    place = batch_sql.keys(spec, info) if by_key else batch_sql.PAGES
    for leaf in info.leaves:
        yield (
            f"the statement of a batch of {leaf.table}",
            batch_sql.foreseen(spec, held, leaf.table, place, names, put_aside),
        )


def _require(
    conn: Connection, spec: Spec, found: list[Asked], parameters: Mapping[str, object]
) -> None:
    require_none(
        f"The server cannot plan {what}, which a run on {spec.table} needs: {why}"
        for what, statement in found
        if (why := _refusal(conn, statement, parameters))
    )


def _refusal(conn: Connection, statement: Composed, parameters: Mapping[str, object]) -> str:
    """Why the server cannot plan it, with the next step; empty where it can. The locks that
    planning takes are given back at once."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(SQL("EXPLAIN {}").format(statement), parameters)
    except psycopg.Error as error:
        raise_if_lost(error)
        more = f" {detail(error)}" if detail(error) else ""
        mend = _MEND.get(error.sqlstate or "", _MEND[""])
        return f"{reason(error)} (SQLSTATE {error.sqlstate}).{more} Next step: {mend}."
    return ""


_MEND = {
    "": "correct the types and expressions in phase_columns, or what the message names",
    "42501": "grant that to the role of runbook_login; playbooks/login_role.yml grants all that is "
    "needed",
    "55P03": "see who holds a lock on the table, such as an index build that is not concurrent, "
    "then plan again",
}
