# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether one statement can give a column the models' type, and what PostgreSQL does not carry
along. Only reads, and executes nothing that is attached to the column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection, looking_in, one
from ..core.reconnect import raise_if_lost
from ..core.spec import Table
from ..core.sql import name, table, text
from .types import Type, converted, fits, spelled


@dataclass(frozen=True)
class TypeChange:
    """What it takes to give a column of one type (found) another type (expected), both in
    format_type()'s spelling. spelled is the new type as SQL finds it, empty where PostgreSQL cannot
    convert to it; default is the column's, empty where there is none; blocked is what PostgreSQL
    does not carry along, so that it has to be dropped first."""

    found: str
    expected: str
    spelled: str
    default: str = ""
    blocked: tuple[str, ...] = ()


# What PostgreSQL refuses to carry along whatever the types are; the column's own default apart.
_USERS = """
SELECT DISTINCT coalesce(
    (SELECT pg_describe_object('pg_class'::regclass, ev_class, 0) FROM pg_rewrite
     WHERE d.classid = 'pg_rewrite'::regclass AND oid = d.objid),
    pg_describe_object(d.classid, d.objid, d.objsubid)) AS what
FROM pg_depend d
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s::oid
AND d.refobjsubid = %(number)s
AND d.classid = ANY (ARRAY['pg_rewrite', 'pg_trigger', 'pg_policy', 'pg_publication_rel', 'pg_proc',
                           'pg_attrdef']::regclass[]::oid[])
AND NOT (d.classid = 'pg_attrdef'::regclass AND EXISTS (
    SELECT FROM pg_attrdef a WHERE a.oid = d.objid AND a.adrelid = d.refobjid
    AND a.adnum = d.refobjsubid))
ORDER BY 1
"""

# Constraints, and indexes with expressions or predicates: their text may not suit the other type.
_TEXTS = """
SELECT pg_describe_object('pg_constraint'::regclass, k.oid, 0) AS what FROM pg_constraint k
WHERE k.contype IN ('c', 'f') AND (
    k.conrelid = %(oid)s::oid AND %(number)s = ANY (k.conkey)
    OR k.confrelid = %(oid)s::oid AND %(number)s = ANY (k.confkey))
UNION
SELECT pg_describe_object('pg_class'::regclass, i.indexrelid, 0) FROM pg_index i
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
WHERE i.indrelid = %(oid)s::oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
AND d.refobjsubid = %(number)s
ORDER BY 1
"""

# Indexes on the column whose method knows no such order, or no usual one, of the other type.
_INDEXES = """
SELECT DISTINCT pg_describe_object('pg_class'::regclass, i.indexrelid, 0) AS what
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) AS k (attribute, class)
JOIN pg_opclass o ON o.oid = k.class
WHERE i.indrelid = %(oid)s::oid AND k.attribute = %(number)s
AND NOT (o.opcdefault AND EXISTS (
    SELECT FROM pg_opclass w, pg_type t
    WHERE t.oid = %(type)s::oid AND w.opcmethod = c.relam AND w.opcdefault
    AND w.opcintype IN (t.oid, CASE
        WHEN t.oid = 'varchar'::regtype THEN 'text'::regtype::oid
        WHEN t.typcategory = 'A' THEN 'anyarray'::regtype::oid
        WHEN t.typtype = 'e' THEN 'anyenum'::regtype::oid
        WHEN t.typtype = 'r' THEN 'anyrange'::regtype::oid END)))
ORDER BY 1
"""

_COLUMN = """
SELECT a.attnum AS number, a.attgenerated <> '' AS generated, a.attidentity <> '' AS identity,
       pg_get_expr(d.adbin, d.adrelid) AS "default"
FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = %s::oid AND a.attname = %s
"""


def type_change(
    conn: Connection, on: Table, info: TableInfo, column: str, expected: Type
) -> TypeChange:
    """What it takes to give a column, under its present name, another type."""
    found = info.columns[column].type
    with looking_in(conn, ()):
        row = one(conn, _COLUMN, (info.oid, column))
    default = "" if row["generated"] else row["default"] or ""
    new = spelled(conn, expected)
    if new and not _casts(conn, on, column, found, new, default):
        new = ""
    given = {"oid": info.oid, "number": row["number"], "type": expected.oid}
    blocked = _objects(conn, given, fits(found, expected.spelling))
    if column in catalog.partition_keys(conn, info):
        blocked.append(f"the partitioning of {on}")
    if row["generated"]:
        blocked.append("the expression that generates it")
    if row["identity"] and expected.spelling not in ("smallint", "integer", "bigint"):
        blocked.append("its identity")
    return TypeChange(found, expected.spelling, new, default, tuple(dict.fromkeys(blocked)))


def _objects(conn: Connection, given: Mapping[str, int], how: str) -> list[str]:
    """The objects that PostgreSQL does not carry along, in words. how is what fits() says."""
    queries = [_USERS, *([_TEXTS] if how in ("", "alike") else []), _INDEXES]
    return [row["what"] for query in queries for row in conn.execute(query, given)]


def _casts(conn: Connection, on: Table, column: str, found: str, new: str, default: str) -> bool:
    """Whether PostgreSQL can convert the column's values, and its default. The server only plans
    it."""
    of = [converted(name(column), found, new)]
    of += [converted(SQL("({})").format(text(default)), found, new)] if default else []
    try:
        with looking_in(conn, ()):
            query = SQL("EXPLAIN SELECT {} FROM {}").format(SQL(", ").join(of), table(on))
            conn.execute(query, ())
    except psycopg.Error as error:
        raise_if_lost(error)
        return False
    return True
