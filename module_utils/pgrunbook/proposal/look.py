# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at two tables: in the catalog, in the planner's statistics and in the models. It reads no
row, and calls nothing that somebody has made in their schemas."""

from __future__ import annotations

from psycopg.sql import SQL

from .. import catalog
from ..catalog import TableInfo
from ..core import printable
from ..core.connection import Connection, one, rows_as
from ..core.errors import RunbookError, require_none
from ..core.spec import METHODS, Spec, Table
from ..core.sql import name, render, table
from ..drift.expected import Expected, expected
from .seen import ForeignKey, Seen, SeenColumn, SeenIndex, SeenTable

_COLUMNS = """
SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
    format_type(a.atttypid, NULL) AS base, a.atttypid::int8 AS oid,
    quote_ident(a.attname) AS quoted, a.attnotnull AS not_null, a.attgenerated = '' AS fillable,
    s.null_frac::float8 AS nulls,
    CASE WHEN s.n_distinct >= 0 THEN s.n_distinct::float8
         ELSE -s.n_distinct::float8 * %(rows)s END AS distinct
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
    AND s.attname = a.attname AND s.inherited = %(partitioned)s
WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_FOREIGN_KEYS = """
SELECT k.conname AS name, json_object_agg(o.attname, t.attname ORDER BY u.n) AS pairs
FROM pg_constraint k
CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY u(ours, theirs, n)
JOIN pg_attribute o ON o.attrelid = k.conrelid AND o.attnum = u.ours
JOIN pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = u.theirs
WHERE k.contype = 'f' AND k.conrelid = %s::oid AND k.confrelid = %s::oid
GROUP BY k.oid, k.conname ORDER BY k.conname
"""
_PRIMARY = "SELECT indexrelid::int8 AS oid FROM pg_index WHERE indrelid = %s::oid AND indisprimary"
_CASTS = """
SELECT castsource::int8 AS source, casttarget::int8 AS target FROM pg_cast
WHERE castcontext = 'i' AND castsource = ANY (%(oids)s::oid[])
AND casttarget = ANY (%(oids)s::oid[])
"""


def look(conn: Connection, on: Table, source: Table, models: str) -> Seen:
    """Both tables as they are.

    Raises RunbookError where one of them is of a kind that a phase cannot have there, where this
    role may not read them, and where the models cannot be loaded or compared.
    """
    target = catalog.inspect(conn, on)
    other = catalog.inspect(conn, source, catalog.READABLE)
    _require_readable(conn, {on: target, source: other})
    spec = Spec(phase="new", table=on, key=(), columns=(), source=source, source_key={})
    ours, theirs = _table(conn, on, target), _table(conn, source, other)
    oids = [c.oid for of in (ours, theirs) for c in of.columns.values()]
    return Seen(
        table=ours,
        source=theirs,
        foreign_keys=tuple(rows_as(conn, ForeignKey, _FOREIGN_KEYS, (target.oid, other.oid))),
        casts=frozenset(
            (row["source"], row["target"]) for row in conn.execute(_CASTS, {"oids": oids})
        ),
        expected=_expected(conn, spec, models) if models else None,
        triggers=tuple(catalog.update_triggers(conn, target, ours.columns)),
        children=catalog.has_children(conn, target),
        partition_keys=frozenset(catalog.partition_keys(conn, target)),
    )


def _expected(conn: Connection, spec: Spec, models: str) -> Expected:
    found = expected(conn, spec, models)
    if found is None:
        raise RunbookError(
            f"The models {models!r} have no table {spec.table}. Next step: name the base of the "
            "models that have it, or leave models out."
        )
    return found


def _table(conn: Connection, on: Table, info: TableInfo) -> SeenTable:
    rows = -1 if all(leaf.rows_estimate < 0 for leaf in info.leaves) else info.rows_estimate
    given = {"oid": info.oid, "rows": max(rows, 0), "partitioned": info.partitioned}
    primary = {row["oid"] for row in conn.execute(_PRIMARY, (info.oid,))}
    return SeenTable(
        on,
        rows,
        {c.name: c for c in rows_as(conn, SeenColumn, _COLUMNS, given)},
        tuple(_indexes(info, primary)),
        info.view,
    )


def _indexes(info: TableInfo, primary: set[int]) -> list[SeenIndex]:
    return [
        SeenIndex(
            found,
            index.key,
            unique=index.unique and not index.predicate,
            primary=index.oid in primary,
            not_null=all(info.columns[c].not_null for c in index.key),
            plain=index.plain,
            replaceable=index.replaceable and index.usual and index.method in METHODS,
            include=index.include,
            where=index.predicate,
            method=index.method,
        )
        for found, index in sorted(info.indexes.items())
        if index.valid and index.columns and index.usual
    ]


def _require_readable(conn: Connection, tables: dict[Table, TableInfo]) -> None:
    """Raise RunbookError with each table that this role may not read: without that it sees no
    statistics either."""
    lacks = []
    for on, info in tables.items():
        asked = "SELECT has_schema_privilege(%s, 'USAGE') AS usage,"
        held = one(
            conn, f"{asked} has_table_privilege(%s::oid, 'SELECT') AS read", (on.schema, info.oid)
        )
        user = name(conn.info.user)
        grants = {
            "read": SQL("GRANT SELECT ON {} TO {}").format(table(on), user),
            "usage": SQL("GRANT USAGE ON SCHEMA {} TO {}").format(name(on.schema), user),
        }
        missing = [render(grant) for right, grant in grants.items() if not held[right]]
        if missing:
            lacks.append(
                f"Role {conn.info.user!r} may not read {on}. Next step: have its owner do this: "
                f"{printable.sql('; '.join(missing))};"
            )
    require_none(lacks)
