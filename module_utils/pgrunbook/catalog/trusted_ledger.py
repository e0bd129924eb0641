# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the ledger is to be trusted: who owns it, who may write to it, and what is attached to
its tables. Code of others there would run as our role, or could change what the ledger says. Only
reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL

from ..core.connection import Connection, looking_in, rows_as
from ..core.errors import require_none
from ..core.spec import Spec
from ..core.sql import name, render
from .dependents import FIRST_OID_OF_USERS
from .owners import Owned, acting

# Of a superuser pg_has_role() says that it may act as anybody, which says nothing of its trust.
_TRUSTED_OWNER = """(
    SELECT r.rolsuper OR r.rolname = current_user OR r.rolname = ANY (%(trusted)s)
        OR current_setting('is_superuser') <> 'on' AND pg_has_role(current_user, r.oid, %(acting)s)
        OR EXISTS (SELECT FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace
                   WHERE s.nspname = %(schema)s AND t.relname = %(table)s
                   AND pg_has_role(r.oid, t.relowner, %(acting)s))
    FROM pg_roles r WHERE r.oid = n.nspowner)"""

_LEDGER = f"""
SELECT role, (array_agg(what ORDER BY n, what))[1] AS what, count(*) AS number FROM (
    SELECT 'Schema pgrunbook' AS what, n.nspowner AS owner, 0 AS n,
           {_TRUSTED_OWNER} AS trusted
    FROM pg_namespace n WHERE n.nspname = 'pgrunbook'
    UNION ALL
    SELECT format('pgrunbook.%%s', c.relname), c.relowner, 1,
           pg_has_role(c.relowner, n.nspowner, %(acting)s)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'pgrunbook'
) part CROSS JOIN LATERAL (SELECT pg_get_userbyid(owner) AS role) r
WHERE NOT trusted
AND NOT EXISTS (SELECT FROM pg_roles
                WHERE oid = owner AND (rolsuper OR rolname = ANY (%(trusted)s)))
GROUP BY role ORDER BY min(n), what
"""

# Whoever may change the ledger's tables, or make something that runs when they are changed.
_WRITERS = """
SELECT kind, role, string_agg(DISTINCT privilege, ', ' ORDER BY privilege) AS rights,
    min(name) AS name, count(DISTINCT name) AS number
FROM (
    SELECT 'schema' AS kind, nspname AS name, nspowner AS owner, a.grantee,
        a.privilege_type AS privilege
    FROM pg_namespace, aclexplode(nspacl) a
    WHERE nspname = 'pgrunbook' AND a.privilege_type = 'CREATE'
    UNION ALL
    SELECT 'table', c.relname, c.relowner, a.grantee, a.privilege_type
    FROM pg_class c LEFT JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL,
    LATERAL (SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT * FROM aclexplode(t.attacl)) a
    WHERE c.relnamespace = to_regnamespace('pgrunbook') AND c.relkind IN ('r', 'p')
    AND a.privilege_type = ANY ('{INSERT,UPDATE,DELETE,TRUNCATE,TRIGGER,MAINTAIN}')
) held
CROSS JOIN pg_namespace n
LEFT JOIN LATERAL (SELECT rolname AS role FROM pg_roles WHERE oid = grantee) r ON true
WHERE n.nspname = 'pgrunbook' AND grantee <> owner AND (grantee = 0 OR NOT (
    pg_has_role(grantee, n.nspowner, %(acting)s) OR role = current_user
    OR role = ANY (%(trusted)s)))
GROUP BY kind, role ORDER BY kind, role
"""

TABLES = ("approval", "batch", "change", "event", "ledger", "run", "unfillable")
"""Those of the ledger."""

# What runs code where a table of the ledger is read, planned or written. A function in the ledger's
# own schema was put there by somebody who may, where whoever owns the schema is to be trusted.
_ATTACHED = f"""
WITH ledger AS (
    SELECT n.oid, n.nspowner AS owner, {_TRUSTED_OWNER} AS trusted
    FROM pg_namespace n WHERE n.nspname = 'pgrunbook'
), relation AS (
    SELECT c.oid, c.relname AS table, c.relkind AS kind, l.trusted, l.owner, l.oid AS namespace
    FROM pg_class c JOIN ledger l ON l.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') OR c.relname = ANY (%(tables)s)
), part AS (
    SELECT r.*, 'index' AS is, c.relname AS name, c.tableoid AS class, c.oid AS part
    FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class c ON c.oid = i.indexrelid
    UNION ALL
    SELECT r.*, 'constraint', k.conname, k.tableoid, k.oid
    FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
    UNION ALL
    SELECT r.*, 'default', a.attname, d.tableoid, d.oid
    FROM relation r JOIN pg_attrdef d ON d.adrelid = r.oid
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
), called AS (
    SELECT r.*, 'trigger' AS is, g.tgname AS name, g.tgfoid AS function
    FROM relation r JOIN pg_trigger g ON g.tgrelid = r.oid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT t.oid, t.table, t.kind, t.trusted, t.owner, t.namespace, t.is, t.name,
        coalesce(o.oprcode, d.refobjid)
    FROM part t JOIN pg_depend d ON d.classid = t.class AND d.objid = t.part
    LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
    WHERE d.refobjid >= %(first)s::oid
    AND (d.refclassid = 'pg_proc'::regclass OR o.oid IS NOT NULL)
)
SELECT c.table, c.name, c.is AS kind FROM called c JOIN pg_proc p ON p.oid = c.function
WHERE NOT (c.trusted AND p.pronamespace = c.namespace
    AND pg_has_role(p.proowner, c.owner, %(acting)s))
UNION
SELECT r.table, w.rulename, 'rule' FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid
WHERE r.kind IN ('r', 'p')
UNION
SELECT r.table, a.attname, 'column' FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
WHERE r.kind IN ('r', 'p') AND a.attnum > 0 AND a.atttypid >= %(first)s::oid
UNION
SELECT r.table, h.inhrelid::regclass::text, 'child'
FROM relation r JOIN pg_inherits h ON h.inhparent = r.oid
UNION
SELECT r.table, r.table, 'relation' FROM relation r WHERE r.kind NOT IN ('r', 'i')
ORDER BY 1, 2
"""


@dataclass(frozen=True)
class _Writer:
    """A role that may write to the ledger, None for PUBLIC. kind is "schema" or "table"; name is
    the first table, number how many tables there are; rights are as GRANT spells them."""

    kind: str
    role: str | None
    rights: str
    name: str
    number: int


@dataclass(frozen=True)
class _Attached:
    """What is attached to a table of the ledger. kind is "trigger", "rule", "index", "constraint",
    "default" (name is the column's), "column" (its type is somebody's), "child" (a table that
    inherits from it), or "relation" where it is no table at all."""

    table: str
    name: str
    kind: str


def require_own_ledger(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError where a role that is not trusted owns the ledger or a part of it, may
    write to it, or has attached code to it, which would run as our role.

    The schema is trusted if its owner is our role, one whose rights we have, or one that may act as
    the owner of the phase's table; a table if its owner is a member of the schema's owner; both, if
    a superuser or a role that the phase names owns them.
    """
    given = _given(conn, spec)
    with looking_in(conn, ()):
        parts = rows_as(conn, Owned, _LEDGER, given)
        writers = rows_as(conn, _Writer, _WRITERS, given)
    require_none(
        [
            *map(_belongs, parts),
            *(_may_write(conn, writer) for writer in writers),
            *_attached(conn, given),
        ]
    )


def require_plain_ledger(conn: Connection) -> None:
    """Raise RunbookError where code of others would run as our role when the ledger is read or
    written, whoever owns it: where something of theirs is in the place of a table, or attached to
    one. To be asked before anything is read from a ledger of which no phase says whom to trust."""
    require_none(_attached(conn, _given(conn)))


def _given(conn: Connection, spec: Spec | None = None) -> dict[str, Any]:
    return {
        "trusted": list(spec.trusted_roles) if spec else [],
        "acting": acting(conn),
        "schema": spec.table.schema if spec else "",
        "table": spec.table.name if spec else "",
        "tables": list(TABLES),
        "first": FIRST_OID_OF_USERS,
    }


def _belongs(part: Owned) -> str:
    return (
        f"{part} belongs to role {part.role!r}, which is not trusted: what it "
        "does when it is written to would run with our rights. Nothing was changed. Next "
        "step: find out who made it; make it over to the owner of the phase's table, list the "
        "role in phase_trusted_roles if you trust it, or drop what is no ledger of yours."
    )


def _may_write(conn: Connection, writer: _Writer) -> str:
    role, rights = writer.role, writer.rights
    who = f"Role {role!r}" if role else "Every role (PUBLIC)"
    where, revoke_on = "in schema pgrunbook", "SCHEMA"
    if writer.kind == "table":
        more = f" (and {writer.number - 1} more tables)" if writer.number > 1 else ""
        where, revoke_on = f"on pgrunbook.{writer.name}{more}", "ALL TABLES IN SCHEMA"
    revoke = SQL("REVOKE " + rights + " ON " + revoke_on + " {} FROM {}").format(
        name("pgrunbook"), name(role) if role else SQL("PUBLIC")
    )
    listed = f", or list {role} in phase_trusted_roles if you trust it" if role else ""
    return (
        f"{who} may {rights} {where}, and so change what the ledger says, or have code run as "
        f"{conn.info.user!r} that writes to it. Nothing was changed. Next step: "
        f"{render(revoke)}{listed}."
    )


def _attached(conn: Connection, given: Mapping[str, Any]) -> list[str]:
    with looking_in(conn, ()):
        attached = rows_as(conn, _Attached, _ATTACHED, given)
    return [
        f"Table pgrunbook.{each.table} {_KINDS[each.kind].format(repr(each.name))}, which is none "
        f"of the ledger's: what it does would run as {conn.info.user!r}. Nothing was changed. Next "
        f"step: find out who made it, then {_mended(each)}."
        for each in attached
    ]


_KINDS = {
    "trigger": "has a trigger, {}",
    "rule": "has a rule, {}",
    "index": "has an index with a function, {}",
    "constraint": "has a constraint with a function, {}",
    "default": "has a default with a function for column {}",
    "column": "has a column of a type that somebody made, {}",
    "child": "has a table that inherits from it, {}",
    "relation": "is no table, and {} can call a function",
}
_MENDED = {
    "trigger": "DROP TRIGGER {name} ON {table}",
    "rule": "DROP RULE {name} ON {table}",
    "index": "DROP INDEX {of_schema}",
    "constraint": "ALTER TABLE {table} DROP CONSTRAINT {name}",
    "default": "ALTER TABLE {table} ALTER {name} DROP DEFAULT",
}


def _mended(attached: _Attached) -> str:
    if attached.kind not in _MENDED:
        return "drop it, or the whole schema if it is no ledger of yours"
    return render(
        SQL(_MENDED[attached.kind]).format(
            name=name(attached.name),
            table=name("pgrunbook", attached.table),
            of_schema=name("pgrunbook", attached.name),
        )
    )
