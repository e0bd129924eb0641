# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rows may be hidden from our role, by policies of row-level security. Only reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL

from ..core.connection import Connection, one, rows_as
from ..core.errors import RunbookError, reason, require_none
from ..core.spec import Spec, Table
from ..core.sql import table
from .relations import find_relation

_POLICIES = """
SELECT format('%%s.%%s', n.nspname, c.relname) AS table,
       ARRAY(SELECT polname::text FROM pg_policy WHERE polrelid = c.oid ORDER BY 1) AS policies
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND row_security_active(c.oid)
AND c.oid IN (SELECT f.oid FROM pg_class f JOIN pg_namespace m ON m.oid = f.relnamespace
              WHERE m.nspname = %(schema)s AND f.relname = %(name)s
              UNION
              SELECT t.relid FROM pg_class f JOIN pg_namespace m ON m.oid = f.relnamespace,
              LATERAL pg_partition_tree(f.oid) t
              WHERE m.nspname = %(schema)s AND f.relname = %(name)s)
ORDER BY 1
"""

_SEE_ALL = (
    "Next step: connect as the table's owner (and without FORCE ROW LEVEL SECURITY), as a role "
    "with BYPASSRLS, or fill each tenant's rows as a phase on a table of their own."
)


@dataclass(frozen=True)
class _Hidden:
    """A table, with its schema, and the policies that decide which rows our role sees: none at all
    where there is no policy."""

    table: str
    policies: list[str]

    def __str__(self) -> str:
        if not self.policies:
            return f"{self.table} (no policy lets anybody in)"
        return f"{self.table} (policies {', '.join(self.policies)})"


def require_all_rows(conn: Connection, spec: Spec, *, with_source: bool = True) -> None:
    """Raise RunbookError where policies hide rows of the table or the source from this role;
    with_source, also where the source is a view of which it cannot read all rows."""
    require_no_policies(conn, spec)
    if with_source:
        require_readable_view(conn, spec.source)


def require_no_policies(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError with the policies on the phase's two tables that this role is subject
    to."""
    found = [
        rows_as(conn, _Hidden, _POLICIES, {"schema": of.schema, "name": of.name})
        for of in dict.fromkeys((spec.table, spec.source))
    ]
    require_none(_refused(conn, tables) for tables in found if tables)


def _refused(conn: Connection, tables: Iterable[_Hidden]) -> str:
    return (
        f"Row-level security would hide rows from role {conn.info.user!r}: "
        f"{'; '.join(map(str, tables))}. What is hidden can be "
        f"neither filled nor counted. Nothing was changed. {_SEE_ALL}"
    )


def require_readable_view(conn: Connection, source: Table) -> None:
    """Raise RunbookError where this role cannot read all rows of a source that is a view. The
    server plans a read of it: the tables behind it may have policies of their own."""
    found = find_relation(conn, source)
    if found is None or found.kind != "v" or not _is_readable(conn, found.oid):
        return
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(SQL("EXPLAIN SELECT FROM {}").format(table(source)), ())
    except psycopg.errors.InsufficientPrivilege as error:
        raise RunbookError(
            f"Role {conn.info.user!r} cannot read all rows of {source}: "
            f"{reason(error)}. Nothing was changed. {_SEE_ALL}"
        ) from None


def _is_readable(conn: Connection, oid: int) -> bool:
    query = "SELECT has_table_privilege(%s::oid, 'SELECT') AS readable"
    return bool(one(conn, query, (oid,))["readable"])
