# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the ledger is to be trusted: who owns it, who may write to it, and what is attached to
its tables. Code of others there would run as our role, or could change what the ledger says. Only
reads."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.sql import SQL

from ..core.connection import Connection, looking_in, rows_as
from ..core.errors import require_none
from ..core.spec import Spec
from ..core.sql import name, render
from .owners import Owned, acting

_LEDGER = """
SELECT role, (array_agg(what ORDER BY n, what))[1] AS what, count(*) AS number FROM (
    SELECT 'Schema pgrunbook' AS what, n.nspowner AS owner, 0 AS n,
           pg_has_role(current_user, n.nspowner, %(acting)s) AS trusted
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

# A function in the ledger's own schema was put there by somebody who may.
_ATTACHED = """
SELECT c.relname AS table, g.tgname AS name, 'trigger' AS kind
FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = g.tgfoid
WHERE n.nspname = 'pgrunbook' AND NOT g.tgisinternal
AND NOT (p.pronamespace = n.oid AND pg_has_role(p.proowner, n.nspowner, %(acting)s))
UNION ALL
SELECT c.relname, w.rulename, 'rule'
FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'pgrunbook' AND c.relkind IN ('r', 'p')
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
    """A trigger or a rule of a table of the ledger."""

    table: str
    name: str
    kind: str


def require_own_ledger(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError where a role that is not trusted owns the ledger or a part of it, may
    write to it, or has attached code to it, which would run as our role.

    The schema is trusted if our role is a member of its owner, a table if its owner is a member of
    the schema's owner; both, if a superuser or a role that the phase names owns them.
    """
    given = {"trusted": list(spec.trusted_roles), "acting": acting(conn)}
    with looking_in(conn, ()):
        parts = rows_as(conn, Owned, _LEDGER, given)
        writers = rows_as(conn, _Writer, _WRITERS, given)
    require_none(
        [
            *map(_belongs, parts),
            *(_may_write(conn, writer) for writer in writers),
            *_attached(conn),
        ]
    )


def require_plain_ledger(conn: Connection) -> None:
    """Raise RunbookError where a table of the ledger has a rule, or a trigger whose function is in
    another schema or belongs to another role: its code would run as our role."""
    require_none(_attached(conn))


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


def _attached(conn: Connection) -> list[str]:
    with looking_in(conn, ()):
        attached = rows_as(conn, _Attached, _ATTACHED, {"acting": acting(conn)})
    return [
        f"Table pgrunbook.{each.table} has a {each.kind}, {each.name!r}, which is none of "
        f"the ledger's: what it does would run as {conn.info.user!r}. Nothing was changed. Next "
        f"step: find out who made it, then {_drop(each)}."
        for each in attached
    ]


def _drop(attached: _Attached) -> str:
    statement = SQL("DROP " + attached.kind.upper() + " {} ON {}")
    return render(statement.format(name(attached.name), name("pgrunbook", attached.table)))
