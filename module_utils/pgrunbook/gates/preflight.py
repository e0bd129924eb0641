# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the run start at all? Health, privileges and counts, all read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg.sql import SQL, Composed

from .. import catalog, ledger
from ..backfill import eligibility, expressions
from ..backfill.count_estimate import rounded
from ..catalog import Server, TableInfo
from ..core import printable
from ..core.connection import Connection, one
from ..core.errors import RunbookError, require_none
from ..core.obstacles import Obstacles
from ..core.printable import line
from ..core.server import require_only_primary
from ..core.sibling import require_connections
from ..core.spec import Spec
from ..core.sql import name, render, table
from ..core.window import require_window_not_over
from . import registry
from .gate import Gate, judge
from .old_name import old_name
from .orphans import RowCounts, count_rows, orphans_gate


@dataclass(frozen=True)
class Health(RowCounts):
    """How both tables and the server are: the table's main fork in bytes, the age of the oldest
    transaction of another session, and how many standbys are connected."""

    version: str
    table_bytes: int
    oldest_transaction_seconds: float
    standbys: int


@dataclass(frozen=True)
class Preflight:
    """What the preflight found: the server, both tables, the table's columns and indexes, the
    gates, and how a person reads it."""

    server: Server
    health: Health
    schema: dict[str, dict[str, str]]
    text: str
    checks: tuple[Gate, ...]
    changed: bool = False


def require_startable(conn: Connection, spec: Spec) -> None:
    """Raise RunbookError with everything for which a run could not succeed: a window that is over,
    a standby, a missing table, column, privilege or connection, a superuser whom the phase refuses.
    It reads the catalog only."""
    obstacles = Obstacles(conn)
    obstacles.checked(require_window_not_over, spec)
    obstacles.checked(_require_primary, conn, catalog.inspect_server(conn))
    target = obstacles.checked(catalog.inspect, conn, spec.table)
    source = obstacles.checked(catalog.inspect, conn, spec.source, catalog.READABLE)
    if target:
        needed = [*spec.key, *spec.source_key]
        obstacles.checked(catalog.require_columns, spec.table, target, needed)
    if source:
        needed = list(spec.source_key.values())
        obstacles.checked(catalog.require_columns, spec.source, source, needed)
    obstacles.checked(_require_privileges, conn, spec, target, source)
    obstacles.checked(_require_no_superuser, conn, spec)
    obstacles.checked(require_connections, conn, spec.workers + 1)
    obstacles.require_none()


def examine(conn: Connection, login: Mapping[str, Any], spec: Spec, *, check: bool) -> Preflight:
    """Facts about the server and both tables, and the gates of the report's test 1 and on old
    names; check is whether this is for a dry run.

    Raises RunbookError as require_startable() does, where the login lists two primaries, where the
    keys cannot be compared, and where the source calls a volatile function.
    """
    require_only_primary(conn, login)
    require_startable(conn, spec)
    server = catalog.inspect_server(conn)
    target = catalog.inspect(conn, spec.table)
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    eligibility.require_joinable(conn, spec, target, source)
    expressions.acknowledged_of_source(conn, spec)
    counts = count_rows(conn, spec, check=check)
    health = Health(
        **vars(counts),
        version=server.version,
        table_bytes=target.size,
        oldest_transaction_seconds=_oldest_transaction(conn),
        standbys=_standbys(conn),
    )
    return Preflight(
        server=server,
        health=health,
        schema=target.schema(),
        text=_text(server, health),
        checks=(
            connectivity(spec, "a writable primary, PostgreSQL 14 or newer", server, counts),
            orphans_gate(spec, counts),
            superuser(spec, conn.info.user, is_superuser=_is_superuser(conn)),
            *old_name(conn, spec, target),
        ),
    )


def connectivity(spec: Spec, target: str, server: Server, counts: RowCounts) -> Gate:
    """The gate that passes wherever it can be measured."""
    standby = ", a standby" if server.standby else ""
    return judge(
        spec,
        registry.CONNECTIVITY,
        target=target,
        measured=f"PostgreSQL {server.version}{standby}, {_rows(counts)} rows, "
        f"{counts.source_rows:,} source rows",
        passed=True,
    )


def superuser(spec: Spec, user: str, *, is_superuser: bool) -> Gate:
    """The gate on a login role that may do more than the phase needs."""
    return judge(
        spec,
        registry.SUPERUSER,
        target="no superuser",
        measured=f"{user} is {'a' if is_superuser else 'no'} superuser",
        passed=not is_superuser,
    )


def _require_no_superuser(conn: Connection, spec: Spec) -> None:
    if spec.superuser == "refuse" and _is_superuser(conn):
        raise RunbookError(
            f"Role {conn.info.user!r} is a superuser, which this phase refuses (phase_superuser). "
            "Nothing was changed. Next step: playbooks/login_role.yml makes a role that may do "
            "what the phase needs, and no more."
        )


def _is_superuser(conn: Connection) -> bool:
    return bool(one(conn, "SELECT current_setting('is_superuser') = 'on' AS it")["it"])


def _standbys(conn: Connection) -> int:
    """A role without pg_monitor sees that they are there, and no more of them."""
    number: int = one(
        conn,
        "SELECT count(*) AS standbys FROM pg_stat_replication"
        " WHERE application_name IS DISTINCT FROM 'pg_basebackup'",
    )["standbys"]
    return number


def _text(server: Server, health: Health) -> str:
    return "\n".join(
        [
            line(f"PostgreSQL {server.version}, database {server.database}"),
            f"{_rows(health)} rows, {health.source_rows:,} source rows, {health.orphans:,} orphans"
            f"{_of_pages(health)}",
            f"Oldest transaction: {health.oldest_transaction_seconds} s",
        ]
    )


def _rows(counts: RowCounts) -> str:
    return f"about {rounded(counts.rows)}" if counts.estimated_from else f"{counts.rows:,}"


def _of_pages(counts: RowCounts) -> str:
    read = counts.estimated_from
    return f" on {read[0]:,} of {read[1]:,} pages" if read else ""


def _require_primary(conn: Connection, server: Server) -> None:
    where = f"Database {server.database!r}"
    if server.standby:
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


def _require_privileges(
    conn: Connection, spec: Spec, target: TableInfo | None, source: TableInfo | None
) -> None:
    """Raise RunbookError with each privilege that is missing, on those tables that are there."""
    user = name(conn.info.user)
    lacks = []
    if target and not target.owned:
        lacks.append(
            f"Role {conn.info.user!r} may not alter {spec.table}: its owner is {target.owner!r}. "
            "Next step: connect as the owner, or "
            + _given(SQL("GRANT {} TO {}").format(name(target.owner), user))
        )
    row = one(
        conn,
        "SELECT has_table_privilege(%s::oid, 'SELECT') AS source",
        (source.oid if source else None,),
    )
    if source and not row["source"]:
        lacks.append(
            f"Role {conn.info.user!r} may not read {spec.source}. Next step: "
            + _given(SQL("GRANT SELECT ON {} TO {}").format(table(spec.source), user))
        )
    if not ledger.may_write(conn):
        grant = SQL("GRANT CREATE ON DATABASE {} TO {}").format(name(conn.info.dbname), user)
        lacks.append(
            f"Role {conn.info.user!r} may not make the ledger, schema pgrunbook, in this database, "
            "or may not write to it. Next step: where there is none yet, " + _given(grant)
        )
    require_none(lacks)


def _given(grant: Composed) -> str:
    return f"{printable.sql(render(grant))}; playbooks/login_role.yml grants all that is needed."


def _oldest_transaction(conn: Connection) -> float:
    age: float = one(
        conn,
        "SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8 AS age"
        " FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )["age"]
    return round(age, 1)
