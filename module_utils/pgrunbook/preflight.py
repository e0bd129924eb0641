# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the run start at all? Health, privileges and counts, all read."""

from __future__ import annotations

from typing import Any

from psycopg.sql import SQL

from . import catalog, eligibility
from .catalog import TableInfo
from .checks import check, orphans
from .connection import Connection, one, require_connections
from .errors import RunbookError
from .shown import line
from .spec import Spec, require_open_window
from .sql import name, table


def examine(conn: Connection, spec: Spec) -> dict[str, Any]:
    """Facts about the server and both tables, and the checks of the report's test 1.

    Raises RunbookError where a run could not succeed: a standby, a missing table or column, a
    missing privilege, a window that is over.
    """
    require_open_window(spec)
    server = catalog.server(conn)
    _require_primary(conn, server)
    target = catalog.inspect(conn, spec.table)
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    catalog.require_columns(spec.table, target, [*spec.key, *spec.source_key])
    catalog.require_columns(spec.source, source, spec.source_key.values())
    _require_privileges(conn, spec, target, source)
    eligibility.require_joinable(conn, spec, target, source)
    eligibility.acknowledged_of_source(conn, spec)
    counts = _counts(conn, spec)
    health = {
        "rows": counts["rows"],
        "source_rows": counts["source_rows"],
        "orphans": counts["orphans"],
        "version": server["version"],
        "table_bytes": target.size,
        "oldest_transaction_seconds": _oldest_transaction(conn),
    }
    require_connections(conn, spec.workers + 1)
    return {
        "changed": False,
        "server": server,
        "health": health,
        "schema": target.schema(),
        "text": _text(server, health),
        "checks": [
            check(
                "connectivity",
                "Database connectivity",
                test=1,
                target="a writable primary, PostgreSQL 14 or newer",
                measured=f"PostgreSQL {server['version']}, {counts['rows']:,} rows, "
                f"{counts['source_rows']:,} source rows",
                passed=True,
            ),
            orphans(counts["orphans"]),
            _role(conn, spec),
        ],
    }


def _role(conn: Connection, spec: Spec) -> dict[str, Any]:
    """The gate on a login role that may do more than the phase needs. Raises RunbookError where
    the phase refuses a superuser."""
    user = conn.info.user
    is_superuser = one(conn, "SELECT current_setting('is_superuser') = 'on' AS it")["it"]
    if is_superuser and spec.superuser == "refuse":
        raise RunbookError(
            f"Role {user!r} is a superuser, which this phase refuses (phase_superuser). Nothing "
            "was changed. Next step: playbooks/login_role.yml makes a role that may do what the "
            "phase needs, and no more."
        )
    return check(
        "superuser",
        "Privileges of the login role",
        test=1,
        target="no superuser",
        measured=f"{user} is {'a' if is_superuser else 'no'} superuser",
        passed=not is_superuser,
        enforce=False,
    )


def _text(server: dict[str, Any], health: dict[str, Any]) -> str:
    return "\n".join(
        [
            line(f"PostgreSQL {server['version']}, database {server['database']}"),
            f"{health['rows']:,} rows, {health['source_rows']:,} source rows, "
            f"{health['orphans']:,} orphans",
            f"Oldest transaction: {health['oldest_transaction_seconds']} s",
        ]
    )


def _require_primary(conn: Connection, server: dict[str, Any]) -> None:
    where = f"Database {server['database']!r}"
    if server["standby"]:
        raise RunbookError(
            f"{where} is on a standby, which is read-only. "
            "Next step: point runbook_login at the primary."
        )
    configured = one(
        conn,
        "SELECT reset_val AS value FROM pg_settings WHERE name = 'default_transaction_read_only'",
    )["value"]
    if configured == "on":
        raise RunbookError(
            f"{where} has default_transaction_read_only = on. Next step: find out who set it and "
            "why, before you change anything."
        )


def _require_privileges(conn: Connection, spec: Spec, target: TableInfo, source: TableInfo) -> None:
    user = conn.info.user
    if not target.owned:
        raise RunbookError(
            f"Role {user!r} may not alter {spec.table}: its owner is {target.owner!r}. "
            f"Next step: connect as the owner, or GRANT {target.owner} TO {user}; "
            "playbooks/login_role.yml grants all that is needed."
        )
    row = one(
        conn,
        "SELECT has_table_privilege(%s::oid, 'SELECT') AS source,"
        " coalesce(has_table_privilege(to_regclass('pgrunbook.event'), 'INSERT'),"
        "          has_database_privilege(current_database(), 'CREATE')) AS ledger",
        (source.oid,),
    )
    if not row["source"]:
        raise RunbookError(
            f"Role {user!r} may not read {spec.source}. "
            f"Next step: GRANT SELECT ON {spec.source} TO {user}; "
            "playbooks/login_role.yml grants all that is needed."
        )
    if not row["ledger"]:
        raise RunbookError(
            f"Role {user!r} may not make the ledger, schema pgrunbook, in this database, or may "
            f"not write to it. Next step: GRANT CREATE ON DATABASE {conn.info.dbname} TO {user} "
            "where there is none yet; playbooks/login_role.yml grants all that is needed."
        )


def _counts(conn: Connection, spec: Spec) -> dict[str, Any]:
    joined = SQL(" AND ").join(
        SQL("s.{} = t.{}").format(name(theirs), name(ours))
        for ours, theirs in spec.source_key.items()
    )
    known = SQL(" AND ").join(SQL("t.{} IS NOT NULL").format(name(c)) for c in spec.source_key)
    query = SQL(
        "SELECT count(*) AS rows, (SELECT count(*) FROM {source}) AS source_rows,"
        " count(*) FILTER (WHERE {known} AND NOT EXISTS (SELECT FROM {source} s WHERE {joined}))"
        " AS orphans FROM {table} t"
    ).format(source=table(spec.source), known=known, joined=joined, table=table(spec.table))
    return one(conn, query, ())


def _oldest_transaction(conn: Connection) -> float:
    age: float = one(
        conn,
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 AS age"
        " FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )["age"]
    return round(age, 1)
