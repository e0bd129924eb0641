# SPDX-License-Identifier: GPL-3.0-or-later
"""Relations by their names: tables, and what else can have a name in a schema. Only reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from ..core.connection import Connection, rows_as
from ..core.errors import RunbookError
from ..core.spec import Table

FILLABLE, VIEWS = "rp", "vmf"
READABLE = FILLABLE + VIEWS
"""Kinds of relations, as pg_class.relkind has them: what can be filled, and what can fill."""

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}


@dataclass(frozen=True)
class Relation:
    """What bears a name in a schema: a table, a view, an index, a sequence and so on. kind is
    pg_class.relkind. owned says whether our role has the owner's rights."""

    oid: int
    kind: str
    owner: str
    owned: bool


def find_relation(conn: Connection, table: Table) -> Relation | None:
    """The relation of that name, None where there is none."""
    rows = rows_as(
        conn,
        Relation,
        "SELECT c.oid::int8 AS oid, c.relkind::text AS kind, r.rolname AS owner,"
        " pg_has_role(c.relowner, 'USAGE') AS owned"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_roles r ON r.oid = c.relowner"
        " WHERE n.nspname = %s AND c.relname = %s",
        (table.schema, table.name),
    )
    return rows[0] if rows else None


def require_relation(conn: Connection, table: Table, kinds: str) -> Relation:
    """The relation of that name. Raises RunbookError where there is none, or it is of another
    kind."""
    found = find_relation(conn, table)
    if found is None:
        raise RunbookError(_no_table(conn, table))
    if found.kind not in kinds:
        raise RunbookError(
            f"{table} is {in_words(found.kind)}, and the runbook works on tables. "
            "Next step: name the table itself in the variables file."
        )
    return found


def in_words(kind: str) -> str:
    """A kind of relation that is no table, such as "a view"."""
    return _KINDS.get(kind, "no table")


def near_names(name: str, names: Iterable[str]) -> str:
    """Names that are near to this one, as a sentence of a message; empty where there are none."""
    close = difflib.get_close_matches(name, list(names), n=3)
    return f" Near names: {', '.join(repr(n) for n in close)}." if close else ""


def _no_table(conn: Connection, table: Table) -> str:
    rows = conn.execute(
        "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    near = near_names(str(table), [r["name"] for r in rows])
    return (
        f"There is no table {table}.{near} Next step: correct the name in the variables file; or, "
        "if it was there before, find out who has dropped or renamed it."
    )
