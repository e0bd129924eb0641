# SPDX-License-Identifier: GPL-3.0-or-later
"""The version of the ledger, and what brings an earlier ledger to this version.

The first approval of a plan or of a rollback migrates. Until then an earlier ledger is only read:
a statement that reads what a migration adds has to do without it, by version().
"""

from __future__ import annotations

import psycopg
from psycopg.sql import SQL, Composed, Identifier

from ..core.connection import Connection, one
from ..core.errors import RunbookError, reason
from . import whole
from .migrations import MIGRATIONS

NONE = 0  # the version of a ledger that is not there
VERSION = max(MIGRATIONS)

_MINE = """
SELECT c.relname AS name FROM pg_class c
WHERE c.relnamespace = to_regnamespace('pgrunbook') AND c.relkind = 'r'
"""

_RELATIONS = """
SELECT oid::int8 AS oid FROM pg_class
WHERE relnamespace = to_regnamespace('pgrunbook') AND relkind IN ('r', 'S')
"""

# What ALTER DEFAULT PRIVILEGES gave to others.
_GIVEN = """
SELECT DISTINCT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
    c.relname AS name, g.grantee = 0 AS public, coalesce(pg_get_userbyid(g.grantee), '') AS role
FROM pg_class c, aclexplode(c.relacl) g
WHERE c.relnamespace = to_regnamespace('pgrunbook') AND c.relkind IN ('r', 'S')
AND c.oid <> ALL (%(before)s::oid[]) AND g.grantee <> c.relowner
UNION ALL
SELECT DISTINCT 'SCHEMA', n.nspname, g.grantee = 0, coalesce(pg_get_userbyid(g.grantee), '')
FROM pg_namespace n, aclexplode(n.nspacl) g
WHERE n.nspname = 'pgrunbook' AND %(made)s AND g.grantee <> n.nspowner
"""

_RIGHTS = """
SELECT g.grantee = 0 AS public, coalesce(pg_get_userbyid(g.grantee), '') AS role,
       string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) AS rights
FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) g
WHERE c.oid = 'pgrunbook.event'::regclass AND g.grantee <> current_user::regrole
GROUP BY g.grantee
"""


def version(conn: Connection) -> int:
    """The version of this database's ledger; NONE where there is none. Raises RunbookError where
    somebody has taken away what tells it."""
    found = _tables(conn) & {table for table, _ in whole.parts(VERSION)}
    if "ledger" in found:
        row = conn.execute("SELECT version FROM pgrunbook.ledger").fetchone()
        if row is None:
            raise whole.not_whole("the row of table ledger, which has its version")
        return int(row["version"])
    if found - {table for table, _ in whole.parts(1)}:
        raise whole.not_whole("table ledger, which has its version")
    return 1 if found else NONE


def known_version(conn: Connection) -> int:
    """The same. Raises RunbookError where a newer program made or migrated the ledger, and nobody
    knows here what it means by it; or where the ledger lacks a table or a column."""
    found = version(conn)
    if found > VERSION:
        raise RunbookError(
            f"The ledger, schema pgrunbook, is of version {found}, which a newer pgrunbook made; "
            f"this one knows versions up to {VERSION}. Nothing was read from it or changed. "
            "Next step: use the newer pgrunbook, also for status, control and rollback."
        )
    if found != NONE:
        whole.require_whole(conn, found)
    return found


def exists(conn: Connection) -> bool:
    """Whether this database has a ledger, of this version or an earlier one. Raises RunbookError
    where it is of a newer one."""
    return known_version(conn) > NONE


def knows_refused(conn: Connection) -> bool:
    """Whether the ledger can hold rows that were refused; an older one gets that with the next
    approval."""
    return known_version(conn) >= 2


def may_write(conn: Connection) -> bool:
    """Whether this role may write to the ledger, or make it where there is none."""
    query = (
        "SELECT coalesce(has_table_privilege(to_regclass('pgrunbook.event'), 'INSERT'),"
        " has_database_privilege(current_database(), 'CREATE')) AS may_write"
    )
    return bool(one(conn, query)["may_write"])


def migrate(conn: Connection) -> int:
    """Make the ledger, or bring it to VERSION, in the transaction that is open. Returns the version
    before.

    Raises RunbookError where the ledger is of a newer version, or the role may not change it.
    """
    before = known_version(conn)
    if before == VERSION:
        return before
    owner, tables, relations = _owner(conn), _tables(conn), _relations(conn)
    makes = one(conn, "SELECT to_regnamespace('pgrunbook') IS NULL AS makes")["makes"]
    try:
        for number in range(before + 1, VERSION + 1):
            conn.execute(MIGRATIONS[number])
        conn.execute("UPDATE pgrunbook.ledger SET version = %s", (VERSION,))
    except psycopg.errors.InsufficientPrivilege as error:
        raise RunbookError(_not_allowed(error, before, owner, conn.info.user)) from None
    for revoke in _revokes(conn, relations, makes):
        conn.execute(revoke)
    if before != NONE:
        for grant in _grants(conn, _tables(conn) - tables):
            conn.execute(grant)
    return before


def _owner(conn: Connection) -> str:
    """The role that the tables belong to; empty where there are none."""
    row = conn.execute(
        "SELECT pg_get_userbyid(relowner) AS owner FROM pg_class"
        " WHERE oid = to_regclass('pgrunbook.event')"
    ).fetchone()
    return str(row["owner"]) if row else ""


def _tables(conn: Connection) -> set[str]:
    return {row["name"] for row in conn.execute(_MINE)}


def _relations(conn: Connection) -> list[int]:
    return [row["oid"] for row in conn.execute(_RELATIONS)]


def _revokes(conn: Connection, before: list[int], made: bool) -> list[Composed]:
    """What takes from others the rights that default privileges gave them on relations that were
    not there before, and on the schema if it was made."""
    found = conn.execute(_GIVEN, {"before": before, "made": made}).fetchall()
    return [
        SQL("REVOKE ALL ON " + row["kind"] + " {} FROM {}").format(
            Identifier(*(["pgrunbook"] if row["kind"] != "SCHEMA" else []), row["name"]),
            SQL("PUBLIC") if row["public"] else Identifier(row["role"]),
        )
        for row in found
    ]


def _grants(conn: Connection, tables: set[str]) -> list[Composed]:
    """What gives everybody the rights on new tables that they have on the events, which may belong
    to another role than the one that migrates."""
    found = conn.execute(_RIGHTS).fetchall()
    return [
        SQL("GRANT {} ON {} TO {}").format(
            SQL(row["rights"]),
            Identifier("pgrunbook", table),
            SQL("PUBLIC") if row["public"] else Identifier(row["role"]),
        )
        for table in sorted(tables)
        for row in found
    ]


def _not_allowed(error: psycopg.Error, before: int, owner: str, role: str) -> str:
    why = f"(SQLSTATE {error.sqlstate}): {reason(error)}"
    if before == NONE:
        return (
            f"Cannot make the ledger, schema pgrunbook {why}. Next step: GRANT CREATE ON "
            "DATABASE to this role; playbooks/login_role.yml grants all that is needed."
        )
    return (
        f"The ledger, schema pgrunbook, is of version {before} and has to become version "
        f"{VERSION}. Its tables belong to role {owner!r}, and {role!r} may not change them "
        f"{why}. Nothing was changed, and what the ledger holds is as it was. Next step: "
        f"approve once as {owner!r}, or make the schema and its tables over to the owner of the "
        f"phase's table, whose rights {role!r} has."
    )
