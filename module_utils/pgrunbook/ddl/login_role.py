# SPDX-License-Identifier: GPL-3.0-or-later
"""The role that a phase logs in as: what it lacks for the phase is granted, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg.sql import SQL, Composed

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.printable import line
from ..core.spec import Spec, Table
from ..core.spec_checks import MAX_NAME_BYTES
from ..core.sql import literal, name, render, table
from .schema_change import Diff

MASK = "********"
STATISTICS = "pg_read_all_stats"


@dataclass(frozen=True)
class Need:
    """One thing that the role has to have: what it may do then (may), whether it may already (met),
    and the statement that grants it. hidden is the part of the statement that must not be shown."""

    may: str
    met: bool
    statement: Composed
    hidden: str = ""

    @property
    def query(self) -> str:
        """The statement as it may be shown."""
        query = render(self.statement)
        return query.replace(self.hidden, MASK) if self.hidden else query


@dataclass(frozen=True)
class RoleChange:
    """What the role was granted, or in a dry run would be: the SQL, also as a text with a statement
    in a line, and what the phase needs that the role may do afterwards."""

    changed: bool
    queries: list[str]
    text: str
    may: list[str]
    diff: Diff


@dataclass(frozen=True)
class _Known:
    """A role that is there. attributes are those that a phase does not need; superuser is one that
    it is, or is a member of."""

    oid: int
    can_login: bool
    inherits: bool
    attributes: list[str]
    superuser: str | None


def apply(
    conn: Connection, spec: Spec, role: str, password: str | None, *, dry: bool
) -> RoleChange:
    """Make the role, and grant it what it lacks for the phase; when dry, only tell what would be
    done. Without a password none is touched.

    Raises RunbookError where the role, or an owner whose rights it would get, is more than a phase
    needs; where a table is missing; and where a grant had no effect.
    """
    _require_name(role)
    needs = _needs(conn, spec, role)
    if password:
        needs.append(_password(conn, role, password))
    missing = [need for need in needs if not need.met]
    if missing and not dry:
        with conn.transaction():
            for need in missing:
                conn.execute(need.statement, ())
            _require_met(_needs(conn, spec, role), role)
    met = [need for need in needs if need.met]
    return RoleChange(
        changed=bool(missing),
        queries=[need.query for need in missing],
        text="\n".join(line(need.query) for need in missing),
        may=sorted(need.may for need in needs),
        diff=Diff.of(f"role {role}", _listing(met), _listing(needs)),
    )


def matches(verifier: str | None, password: str) -> bool:
    """Whether a verifier as pg_authid has it is the SCRAM verifier of a password.

    False for what it cannot tell: an md5 hash, and a password that is not ASCII, because that would
    have to be normalised first.
    """
    if not verifier or not verifier.startswith("SCRAM-SHA-256$") or not password.isascii():
        return False
    _, parameters, keys = verifier.split("$")
    iterations, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac(
        "sha256", password.encode(), base64.b64decode(salt), int(iterations)
    )
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = base64.b64decode(keys.split(":")[0])
    return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)


def membership(owner: str, role: str, server_version: int) -> Composed:
    """The GRANT of a role's rights. From PostgreSQL 16 on it comes without the right to SET ROLE,
    and the rights are inherited whatever the member was made with."""
    options = " WITH INHERIT TRUE, SET FALSE" if server_version >= 160000 else ""
    return SQL("GRANT {} TO {}" + options).format(name(owner), name(role))


def _needs(conn: Connection, spec: Spec, role: str) -> list[Need]:
    """What the phase needs, in the order in which it can be granted."""
    target = catalog.inspect(conn, spec.table)
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    owners = _owners(conn, target)
    for owner in owners:
        _require_harmless_owner(conn, spec.table, owner)
    known = _role(conn, role)
    if known:
        _require_modest(known, role)
    itself = [known.oid] if known else []
    holders = [*owners.values(), *itself]
    return [
        _login(known, role),
        *(
            Need(
                f"do with {spec.table} what its owner {owner} may",
                _held(conn, itself, "pg_has_role(h, %s::oid, 'USAGE')", oid),
                membership(owner, role, conn.info.server_version),
            )
            for owner, oid in owners.items()
        ),
        Need(
            f"see replay lag and other sessions ({STATISTICS})",
            _held(conn, holders, "pg_has_role(h, %s::name, 'USAGE')", STATISTICS),
            membership(STATISTICS, role, conn.info.server_version),
        ),
        _ledger(conn, role, holders),
        *_schemas(conn, spec, target, role, holders),
        Need(
            f"read {spec.source}",
            _held(conn, holders, "has_table_privilege(h, %s::oid, 'SELECT')", source.oid),
            SQL("GRANT SELECT ON {} TO {}").format(table(spec.source), name(role)),
        ),
    ]


def _login(known: _Known | None, role: str) -> Need:
    may = "log in"
    if known:
        statement = SQL("ALTER ROLE {} LOGIN INHERIT").format(name(role))
        return Need(may, known.can_login and known.inherits, statement)
    statement = SQL(
        "CREATE ROLE {} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
    ).format(name(role))
    return Need(may, False, statement)


def _ledger(conn: Connection, role: str, holders: list[int]) -> Need:
    """Raises RunbookError where the ledger is there and the role could not write to it."""
    database = one(conn, "SELECT current_database() AS name")["name"]
    ledger = conn.execute(
        "SELECT n.nspowner::int8 AS oid, pg_get_userbyid(n.nspowner) AS owner, EXISTS (SELECT"
        "   FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'event') AS made"
        " FROM pg_namespace n WHERE n.nspname = 'pgrunbook'"
    ).fetchone()
    if ledger and not _held(conn, holders, "pg_has_role(h, %s::oid, 'USAGE')", ledger["oid"]):
        raise RunbookError(
            f"The ledger, schema pgrunbook, belongs to role {ledger['owner']!r}, and {role!r} "
            f"could not write to it. Next step: name {ledger['owner']!r} as the login role of this "
            "phase too, or make the schema and its tables over to the owner of the phase's table."
        )
    return Need(
        f"make the ledger in database {database}",
        (ledger is not None and ledger["made"])
        or _held(conn, holders, "has_database_privilege(h, current_database(), 'CREATE')"),
        SQL("GRANT CREATE ON DATABASE {} TO {}").format(name(database), name(role)),
    )


def _schemas(
    conn: Connection, spec: Spec, target: TableInfo, role: str, holders: list[int]
) -> list[Need]:
    tables = [spec.table, spec.source, *(leaf.table for leaf in target.leaves)]
    wanted = {(of.schema, "USAGE") for of in tables}
    if spec.indexes:
        parts = [leaf.table for leaf in target.leaves] if target.partitioned else []
        wanted |= {(of.schema, "CREATE") for of in (spec.table, *parts)}
    may = {"USAGE": "use schema {}", "CREATE": "build and rename indexes in schema {}"}
    return [
        Need(
            may[privilege].format(schema),
            _held(conn, holders, "has_schema_privilege(h, %s, %s)", schema, privilege),
            SQL("GRANT " + privilege + " ON SCHEMA {} TO {}").format(name(schema), name(role)),
        )
        for schema, privilege in sorted(wanted)
    ]


def _password(conn: Connection, role: str, password: str) -> Need:
    """The server gets a verifier, made here, so that neither it nor its log sees the password."""
    readable = one(
        conn, "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS readable"
    )["readable"]
    present = (
        conn.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,)).fetchone()
        if readable
        else None
    )
    verifier = conn.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    return Need(
        "prove who it is with the given password",
        present is not None and matches(present["rolpassword"], password),
        SQL("ALTER ROLE {} PASSWORD {}").format(name(role), literal(verifier)),
        hidden=verifier,
    )


def _owners(conn: Connection, target: TableInfo) -> dict[str, int]:
    """The owners of the table and of its partitions, by name."""
    rows = conn.execute(
        "SELECT DISTINCT r.rolname, r.oid::int8 AS oid FROM pg_class c"
        " JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = ANY (%s::oid[]) ORDER BY 1",
        ([target.oid, *(leaf.oid for leaf in target.leaves)],),
    )
    return {row["rolname"]: row["oid"] for row in rows}


def _role(conn: Connection, role: str) -> _Known | None:
    """What a role is, or None where there is none."""
    row = conn.execute(
        "SELECT r.oid::int8 AS oid, r.rolcanlogin AS can_login, r.rolinherit AS inherits,"
        " array_remove(ARRAY["
        "   CASE WHEN r.rolsuper THEN 'SUPERUSER' END,"
        "   CASE WHEN r.rolcreatedb THEN 'CREATEDB' END,"
        "   CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END,"
        "   CASE WHEN r.rolreplication THEN 'REPLICATION' END,"
        "   CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END], NULL) AS attributes,"
        " (SELECT min(s.rolname) FROM pg_roles s"
        "  WHERE s.rolsuper AND pg_has_role(r.oid, s.oid, 'MEMBER')) AS superuser"
        " FROM pg_roles r WHERE r.rolname = %s",
        (role,),
    ).fetchone()
    return _Known(**row) if row else None


def _held(conn: Connection, holders: list[int], test: str, *parameters: object) -> bool:
    """Whether the test is true of one of the holders, whose oid it calls h."""
    query = f"SELECT coalesce(bool_or({test}), false) AS held FROM unnest(%s::oid[]) h"
    return bool(one(conn, query, (*parameters, holders))["held"])


def _require_name(role: str) -> None:
    size = len(role.encode())
    if not 1 <= size <= MAX_NAME_BYTES or role in ("public", "none") or role.startswith("pg_"):
        raise RunbookError(
            f"{role!r} can be no login role's name: PostgreSQL's names have 1 to {MAX_NAME_BYTES} "
            "bytes, and public, none and pg_… are its own. Next step: choose another name."
        )


def _require_modest(known: _Known, role: str) -> None:
    excess = [
        *known.attributes,
        *([f"membership in superuser {known.superuser!r}"] if known.superuser else []),
    ]
    if excess:
        raise RunbookError(
            f"Role {role!r} has more than a phase needs: {', '.join(excess)}. Next step: name a "
            "role of its own for the runbook; it is made if it is not there."
        )


def _require_harmless_owner(conn: Connection, of: Table, owner: str) -> None:
    known = _role(conn, owner)
    if known and known.superuser:
        raise RunbookError(
            f"{of} or a partition of it belongs to {owner!r}, which is, or is a member of, "
            f"superuser {known.superuser!r}. Whoever renames its columns needs its owner's "
            "rights. Next step: give it an owner that is not a superuser first: "
            "ALTER TABLE … OWNER TO …"
        )


def _require_met(needs: list[Need], role: str) -> None:
    unmet = [need.query for need in needs if not need.met]
    if unmet:
        raise RunbookError(
            f"The server took these without granting anything to {role!r}: {'; '.join(unmet)}. "
            "Nothing was changed. Next step: connect as somebody who may grant that, such as the "
            "owner of the object or a superuser."
        )


def _listing(needs: Iterable[Need]) -> str:
    return "".join(f"may {may}\n" for may in sorted(need.may for need in needs))
