# SPDX-License-Identifier: GPL-3.0-or-later
"""Who owns what a phase reads: an owner decides which code runs as our role. Only reads.

The owner of a relation can attach rules, constraints and indexes on expressions to it; PostgreSQL
evaluates the last even to plan a query. The owner of a type can attach casts and constraints. So
every relation that a phase leads to is looked at: its table, its source, and what it names; their
partitions on each level, and the tables that they are partitions of; what views read. So is every
type of their columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.connection import Connection, rows_as
from ..core.spec import Spec
from ..core.sql import words
from .dependents import FIRST_OID_OF_USERS

_NAMED_IN = "(n.nspname = ANY (%(schemas)s) OR n.nspname = ANY (%(names)s))"
_ELSEWHERE = "n.nspname = ANY (%(names)s) AND n.nspname <> ALL (%(schemas)s)"

_UNTRUSTED = f"""
WITH RECURSIVE root AS (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (n.nspname = %(schema)s AND c.relname = %(table)s
        OR %(with_source)s AND n.nspname = %(source_schema)s AND c.relname = %(source_table)s
        OR c.relname = ANY (%(names)s) AND {_NAMED_IN})
), reached AS (
    SELECT oid FROM root
    UNION
    SELECT below.oid FROM reached r, LATERAL (
        SELECT h.inhrelid AS oid FROM pg_inherits h WHERE h.inhparent = r.oid
        UNION ALL
        SELECT d.refobjid FROM pg_class v
        JOIN pg_rewrite w ON w.ev_class = v.oid AND w.rulename = '_RETURN'
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid >= %(first)s::oid
        WHERE v.oid = r.oid AND v.relkind = 'v'
    ) below
), relation AS (
    SELECT oid FROM reached
    UNION SELECT above.relid FROM reached r, LATERAL pg_partition_ancestors(r.oid) above
), type AS (
    SELECT a.atttypid AS oid FROM pg_attribute a JOIN relation r ON r.oid = a.attrelid
    WHERE a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= %(first)s::oid
    UNION
    SELECT t.oid FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    LEFT JOIN pg_class c ON c.oid = t.typrelid
    WHERE (t.typelem = 0 OR t.typcategory <> 'A') AND coalesce(c.relkind, 'c') = 'c'
    AND (n.nspname = ANY (%(schemas)s) OR t.typname = ANY (%(names)s) AND {_NAMED_IN})
    UNION
    SELECT part.oid FROM type JOIN pg_type t ON t.oid = type.oid, LATERAL (
        SELECT unnest(ARRAY[t.typelem, t.typbasetype]) AS oid
        UNION ALL SELECT g.rngsubtype FROM pg_range g WHERE g.rngtypid = t.oid
        UNION ALL SELECT a.atttypid FROM pg_attribute a
            WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    ) part WHERE part.oid >= %(first)s::oid
), owned AS (
    SELECT 1 AS n, c.tableoid AS class, c.oid, c.relowner AS owner
    FROM pg_class c JOIN relation USING (oid)
    UNION ALL
    SELECT 2, t.tableoid, t.oid, t.typowner FROM pg_type t JOIN type USING (oid)
    UNION ALL
    SELECT 3, p.tableoid, p.oid, p.proowner
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.oid >= %(first)s::oid AND p.proname = ANY (%(names)s) AND {_ELSEWHERE}
    UNION ALL
    SELECT 3, o.tableoid, o.oid, o.oprowner
    FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
    WHERE o.oid >= %(first)s::oid AND {_ELSEWHERE}
), untrusted AS (
    SELECT r.oid FROM pg_roles r WHERE r.oid IN (SELECT owner FROM owned)
    AND r.rolname <> current_user AND r.rolname <> ALL (%(trusted)s)
    AND NOT EXISTS (SELECT FROM pg_namespace n WHERE n.nspname = ANY (%(schemas)s)
                    AND pg_has_role(r.oid, n.nspowner, %(acting)s))
    AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                    WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relowner = r.oid)
)
SELECT DISTINCT ON (role) pg_get_userbyid(owner) AS role, i.type AS kind,
    i.identity AS object, count(*) OVER (PARTITION BY owner) AS number
FROM owned JOIN untrusted u ON u.oid = owner, LATERAL pg_identify_object(class, owned.oid, 0) i
ORDER BY role, n, i.type, i.identity
"""


@dataclass(frozen=True)
class Owned:
    """What a role owns: the first object in words, and how many there are."""

    role: str
    what: str
    number: int

    def __str__(self) -> str:
        return f"{self.what} (and {self.number - 1} more)" if self.number > 1 else self.what


@dataclass(frozen=True)
class _Untrusted:
    """An untrusted role, the first object that it owns, as PostgreSQL identifies it, and how many
    there are."""

    role: str
    kind: str
    object: str
    number: int


def acting(conn: Connection) -> str:
    """What a role needs to have of another one to act as that one, as pg_has_role() takes it: its
    rights, or SET ROLE to it, or the right to grant itself that. Before PostgreSQL 16 every member
    may."""
    if conn.info.server_version < 160000:
        return "MEMBER"
    return "USAGE, SET, MEMBER WITH ADMIN OPTION"


def untrusted(
    conn: Connection, spec: Spec, schemas: Sequence[str], *, with_source: bool = True
) -> list[str]:
    """A message for each untrusted role that owns something that the phase reads or names. schemas
    are those where names are looked up; who owns functions and operators there is asked elsewhere.
    The connection must look names up in pg_catalog only.

    A name counts wherever it stands in the phase's expressions, types and queries, if the object is
    in one of these schemas, or in a schema whose name stands there too. Without the source, no name
    counts.
    """
    found = rows_as(
        conn,
        _Untrusted,
        _UNTRUSTED,
        {
            "schemas": list(schemas),
            "schema": spec.table.schema,
            "table": spec.table.name,
            "source_schema": spec.source.schema,
            "source_table": spec.source.name,
            "with_source": with_source,
            "names": sorted(words(_supplied(spec))) if with_source else [],
            "trusted": list(spec.trusted_roles),
            "acting": acting(conn),
            "first": FIRST_OID_OF_USERS,
        },
    )
    return [_message(conn, each) for each in found]


def _supplied(spec: Spec) -> Iterator[str]:
    """Every text of the phase that can be SQL."""
    given = spec.as_dict()
    yield from _strings([given["columns"], given["indexes"]])
    for query in spec.queries:
        yield from (query.snapshot, query.baseline)


def _strings(of: Any) -> Iterator[str]:
    if isinstance(of, str):
        yield of
    elif isinstance(of, dict):
        yield from _strings(list(of.values()))
    elif isinstance(of, Iterable):
        for each in of:
            yield from _strings(each)


def _message(conn: Connection, found: _Untrusted) -> str:
    more = found.number - 1
    objects = "object" if more == 1 else "objects"
    belongs = f"(and {more} more {objects}) belongs" if more else "belongs"
    return (
        f"{found.kind} {found.object} {belongs} to role {found.role!r}, which is not trusted, and "
        "the phase reads or names it: what its owner attaches to it, such as a rule, an index on "
        f"an expression, a constraint or a cast, would run as {conn.info.user!r}. Nothing was "
        "changed. Next step: find out who that is; list the role in phase_trusted_roles if you "
        f"trust it, or ALTER {found.kind.upper()} {found.object} OWNER TO a role that you trust."
    )
