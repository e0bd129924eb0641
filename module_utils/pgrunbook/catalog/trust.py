# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose code may run as our role. Only reads.

What a phase supplies (source, using, queries, types) is looked up in the schemas of its two tables.
Whoever may create a function or an operator there, or has created one, could have it run as our
role (CVE-2018-1058). Trusted are superusers, our own role, the roles that the phase names, the
owner of the phase's table, and the owner of the schema with every role that may act as that owner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from psycopg.sql import SQL

from ..core.connection import Connection, looking_in, rows_as, search_path
from ..core.errors import require_none
from ..core.obstacles import Obstacles
from ..core.spec import Spec
from ..core.sql import name, render
from . import owners
from .owners import Owned
from .row_security import require_no_policies, require_readable_view
from .trusted_ledger import require_own_ledger

_TRUSTED = """(pg_has_role({role}, n.nspowner, %(acting)s)
    OR {role} IN (SELECT oid FROM pg_roles
                  WHERE rolname = current_user OR rolname = ANY (%(trusted)s))
    OR {role} IN (SELECT t.relowner FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace
                  WHERE s.nspname = %(schema)s AND t.relname = %(table)s))"""

# A grantee of 0 is PUBLIC.
_CREATORS = f"""
SELECT n.nspname AS schema, r.rolname AS role
FROM pg_namespace n
CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname = ANY (%(schemas)s) AND a.privilege_type = 'CREATE'
AND (a.grantee = 0 OR NOT {_TRUSTED.format(role="a.grantee")})
GROUP BY 1, 2 ORDER BY 1, 2
"""

_MADE = f"""
SELECT role, min(pg_describe_object(made.class, made.oid, 0)) AS what, count(*) AS number FROM (
    SELECT 'pg_proc'::regclass AS class, p.oid, p.proowner AS owner, p.pronamespace AS namespace
    FROM pg_proc p
    UNION ALL
    SELECT 'pg_operator'::regclass, o.oid, o.oprowner, o.oprnamespace FROM pg_operator o
) made
JOIN pg_namespace n ON n.oid = made.namespace
CROSS JOIN LATERAL (SELECT pg_get_userbyid(made.owner) AS role) r
WHERE n.nspname = ANY (%(schemas)s) AND NOT {_TRUSTED.format(role="made.owner")}
GROUP BY role ORDER BY what
"""


@dataclass(frozen=True)
class _Creator:
    """A role that may make code in a schema, None for PUBLIC."""

    schema: str
    role: str | None


def schemas(spec: Spec) -> list[str]:
    """The schemas in which what the phase supplies is looked up."""
    return sorted({spec.table.schema, spec.source.schema})


def require_all(
    conn: Connection,
    spec: Spec,
    first: Callable[[Connection, Spec], None] | None = None,
    *,
    with_source: bool = True,
) -> None:
    """Raise RunbookError with everything for which our role cannot trust the phase's schemas or the
    ledger, or does not see all rows, and with what first() finds; first() may call nothing of the
    phase's. What could run other people's code is asked only once they are trusted."""
    obstacles = Obstacles(conn)
    obstacles.checked(require_own_ledger, conn, spec)
    trusted = obstacles.checked(_trusted, conn, spec, with_source=with_source)
    obstacles.checked(require_no_policies, conn, spec)
    if trusted and with_source:
        obstacles.checked(require_readable_view, conn, spec.source)
    if first:
        obstacles.checked(first, conn, spec)
    obstacles.require_none()


def _trusted(conn: Connection, spec: Spec, *, with_source: bool) -> bool:
    require_trusted(conn, spec, with_source=with_source)
    return True


def require_trusted(conn: Connection, spec: Spec, *, with_source: bool = True) -> None:
    """Raise RunbookError with each untrusted role that may make code in a schema of the phase, has
    made some there, or owns what the phase reads. A rollback reads nothing of the source, and
    executes no expression of the phase."""
    given = {
        "schemas": schemas(spec),
        "schema": spec.table.schema,
        "table": spec.table.name,
        "trusted": list(spec.trusted_roles),
        "acting": owners.acting(conn),
    }
    with looking_in(conn, ()):
        owned = owners.untrusted(conn, spec, schemas(spec), with_source=with_source)
        creators = rows_as(conn, _Creator, _CREATORS, given)
        made = rows_as(conn, Owned, _MADE, given)
    require_none(
        [
            *(_may_create(conn, creator) for creator in creators),
            *(_was_made(conn, each) for each in made),
            *owned,
        ]
    )


def look_up(conn: Connection, spec: Spec) -> None:
    """From now on, in this transaction of a rollback, look names up in the phase's schemas too.

    Raises RunbookError where these, or the ledger, are not to be trusted.
    """
    require_own_ledger(conn, spec)
    require_trusted(conn, spec, with_source=False)
    conn.execute(SQL("SET LOCAL search_path = {}").format(SQL(search_path(schemas(spec)))))


def _may_create(conn: Connection, creator: _Creator) -> str:
    schema, role = creator.schema, creator.role
    who = f"Role {role!r}" if role else "Every role (PUBLIC)"
    revoke = SQL("REVOKE CREATE ON SCHEMA {} FROM {}").format(
        name(schema), name(role) if role else SQL("PUBLIC")
    )
    listed = f", or list {role} in phase_trusted_roles if you trust it" if role else ""
    return (
        f"{who} may create functions and operators in schema {schema!r}, where the phase's "
        f"expressions are looked up: they could run as {conn.info.user!r}. Nothing was changed. "
        f"Next step: {render(revoke)}{listed}."
    )


def _was_made(conn: Connection, made: Owned) -> str:
    return (
        f"{made} was made by role {made.role!r}, which is not trusted, in a schema "
        f"where the phase's expressions are looked up: it could run as {conn.info.user!r}. "
        "Nothing was changed. Next step: see what it does; drop it, give it to the schema's "
        "owner, or list the role in phase_trusted_roles."
    )
