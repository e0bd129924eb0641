# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose code may run as our role, and which rows may be hidden from it. Only reads.

What a phase supplies (source, using, queries, types) is looked up in the schemas of its two tables.
Whoever may create a function or an operator there, or has, could have it run as our role
(CVE-2018-1058). Trusted are the owners of the schema and of the phase's table, who may act as the
former, superusers, our own role, and those that the phase names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from psycopg.sql import SQL

from ..core.connection import Connection, looking_in, search_path
from ..core.errors import RunbookError, reason, require_none
from ..core.obstacles import Obstacles
from ..core.spec import Spec, Table
from ..core.sql import name, render, table
from . import owners

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
    """Raise RunbookError with all that keeps this role from trusting the phase's schemas and the
    ledger, or from seeing all rows, and with what first() finds, which may call nothing of the
    phase's. What could run code of others is asked only once they are trusted."""
    obstacles = Obstacles(conn)
    obstacles.checked(require_own_ledger, conn, spec)
    trusted = obstacles.checked(_trusted, conn, spec, with_source=with_source)
    obstacles.checked(_require_no_policies, conn, spec)
    if trusted and with_source:
        obstacles.checked(_require_readable_view, conn, spec.source)
    if first:
        obstacles.checked(first, conn, spec)
    obstacles.require_none()


def _trusted(conn: Connection, spec: Spec, *, with_source: bool) -> bool:
    require_trusted(conn, spec, with_source=with_source)
    return True


def require_trusted(conn: Connection, spec: Spec, *, with_source: bool = True) -> None:
    """Raise RunbookError with each untrusted role that may make code in a schema of the phase, of
    which some is there, or who owns what the phase reads. A rollback reads nothing of the source,
    and executes no expression of the phase."""
    given = {
        "schemas": schemas(spec),
        "schema": spec.table.schema,
        "table": spec.table.name,
        "trusted": list(spec.trusted_roles),
        "acting": owners.acting(conn),
    }
    with looking_in(conn, ()):
        owned = owners.untrusted(conn, spec, schemas(spec), with_source=with_source)
        creators = conn.execute(_CREATORS, given).fetchall()
        made = conn.execute(_MADE, given).fetchall()
    require_none(
        [
            *(_may_create(conn, creator["schema"], creator["role"]) for creator in creators),
            *(_was_made(conn, found) for found in made),
            *owned,
        ]
    )


def _was_made(conn: Connection, found: dict[str, Any]) -> str:
    return (
        f"{_and_more(found)} was made by role {found['role']!r}, which is not trusted, in a schema "
        f"where the phase's expressions are looked up: it could run as {conn.info.user!r}. "
        "Nothing was changed. Next step: see what it does; drop it, give it to the schema's "
        "owner, or list the role in phase_trusted_roles."
    )


def _and_more(found: dict[str, Any]) -> str:
    more = found["number"] - 1
    return f"{found['what']} (and {more} more)" if more else str(found["what"])


def require_own_ledger(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError where the ledger, or part of it, belongs to roles that are not trusted:
    the schema to one that we are no member of, a table to one that is no member of the schema's
    owner, and neither to one that the phase names. Its triggers would run as our role. Or where
    another role may write to its tables, or they have triggers."""
    given = {"trusted": list(spec.trusted_roles), "acting": owners.acting(conn)}
    with looking_in(conn, ()):
        found = conn.execute(_LEDGER, given).fetchall()
        writers = conn.execute(_WRITERS, given).fetchall()
    require_none(
        [
            *(_belongs(part) for part in found),
            *(_may_write(conn, writer) for writer in writers),
            *_attached(conn),
        ]
    )


def _belongs(part: dict[str, Any]) -> str:
    return (
        f"{_and_more(part)} belongs to role {part['role']!r}, which is not trusted: what it "
        "does when it is written to would run with our rights. Nothing was changed. Next "
        "step: find out who made it; make it over to the owner of the phase's table, list the "
        "role in phase_trusted_roles if you trust it, or drop what is no ledger of yours."
    )


def require_plain_ledger(conn: Connection) -> None:
    """Raise RunbookError where a table of the ledger has a rule, or a trigger whose function is
    elsewhere or another's: it would run as our role."""
    require_none(_attached(conn))


def _attached(conn: Connection) -> list[str]:
    with looking_in(conn, ()):
        attached = conn.execute(_ATTACHED, {"acting": owners.acting(conn)}).fetchall()
    return [
        f"Table pgrunbook.{row['table']} has a {row['kind']}, {row['name']!r}, which is none of "
        f"the ledger's: what it does would run as {conn.info.user!r}. Nothing was changed. Next "
        f"step: find out who made it, then {_drop(row)}."
        for row in attached
    ]


def look_up(conn: Connection, spec: Spec) -> None:
    """From now on, in this transaction, which is a rollback's, look names up in the phase's schemas
    too. Raises RunbookError where these, or the ledger, are not to be trusted."""
    require_own_ledger(conn, spec)
    require_trusted(conn, spec, with_source=False)
    conn.execute(SQL("SET LOCAL search_path = {}").format(SQL(search_path(schemas(spec)))))


def require_all_rows(conn: Connection, spec: Spec, *, with_source: bool = True) -> None:
    """Raise RunbookError where policies hide rows of the table or the source from this role.
    Without the source, none is planned to be read."""
    _require_no_policies(conn, spec)
    if with_source:
        _require_readable_view(conn, spec.source)


def _require_no_policies(conn: Connection, spec: Spec) -> None:
    found = {
        of: conn.execute(_POLICIES, {"schema": of.schema, "name": of.name}).fetchall()
        for of in dict.fromkeys((spec.table, spec.source))
    }
    require_none(
        f"Row-level security would hide rows from role {conn.info.user!r}: "
        f"{_named(rows)}. What is hidden can be "
        f"neither filled nor counted. Nothing was changed. {_SEE_ALL}"
        for rows in found.values()
        if rows
    )


def _named(rows: Iterable[dict[str, Any]]) -> str:
    return "; ".join(f"{row['table']} ({_listed(row)})" for row in rows)


def _require_readable_view(conn: Connection, source: Table) -> None:
    """Have the server plan a read of a view, whose tables may have policies of their own."""
    kind = conn.execute(
        "SELECT c.relkind = 'v' AND has_table_privilege(c.oid, 'SELECT') AS view FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
        (source.schema, source.name),
    ).fetchone()
    if not (kind and kind["view"]):
        return
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(SQL("EXPLAIN SELECT FROM {}").format(table(source)), ())
    except psycopg.errors.InsufficientPrivilege as error:
        raise RunbookError(
            f"Role {conn.info.user!r} cannot read all rows of {source}: "
            f"{reason(error)}. Nothing was changed. {_SEE_ALL}"
        ) from None


def _listed(row: dict[str, Any]) -> str:
    policies = row["policies"]
    return f"policies {', '.join(policies)}" if policies else "no policy lets anybody in"


def _may_write(conn: Connection, writer: dict[str, Any]) -> str:
    role, rights = writer["role"], writer["rights"]
    who = f"Role {role!r}" if role else "Every role (PUBLIC)"
    grantee = name(role) if role else SQL("PUBLIC")
    more = f" (and {writer['number'] - 1} more tables)" if writer["number"] > 1 else ""
    where = "in schema pgrunbook"
    revoke_on = "SCHEMA"
    if writer["kind"] == "table":
        where, revoke_on = f"on pgrunbook.{writer['name']}{more}", "ALL TABLES IN SCHEMA"
    revoke = SQL("REVOKE " + rights + " ON " + revoke_on + " {} FROM {}").format(
        name("pgrunbook"), grantee
    )
    listed = f", or list {role} in phase_trusted_roles if you trust it" if role else ""
    return (
        f"{who} may {rights} {where}, and so change what the ledger says, or have code run as "
        f"{conn.info.user!r} that writes to it. Nothing was changed. Next step: "
        f"{render(revoke)}{listed}."
    )


def _drop(row: dict[str, Any]) -> str:
    statement = SQL("DROP " + row["kind"].upper() + " {} ON {}")
    return render(statement.format(name(row["name"]), name("pgrunbook", row["table"])))


def _may_create(conn: Connection, schema: str, role: str | None) -> str:
    who = f"Role {role!r}" if role else "Every role (PUBLIC)"
    grantee = name(role) if role else SQL("PUBLIC")
    revoke = SQL("REVOKE CREATE ON SCHEMA {} FROM {}").format(name(schema), grantee)
    listed = f", or list {role} in phase_trusted_roles if you trust it" if role else ""
    return (
        f"{who} may create functions and operators in schema {schema!r}, where the phase's "
        f"expressions are looked up: they could run as {conn.info.user!r}. Nothing was changed. "
        f"Next step: {render(revoke)}{listed}."
    )
