# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes as the database has them. Only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.connection import Connection

MENTIONS = """ARRAY(
    SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0
    AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
        AND d.refobjsubid = a.attnum)))"""
"""SQL of pg_index i: every column that an index depends on, also through an expression or a
predicate."""


@dataclass(frozen=True)
class IndexInfo:
    """An index as the catalog has it. columns is empty where it is on expressions; as many of the
    last ones as included says are only included. predicate is the server's spelling. mentions has
    all columns that the index depends on. parent is the index of the partitioned table above that
    it is a part of, by oid, or 0.

    plain: it is a whole B-tree on columns in their usual order. usual: it is on columns only, each
    with its own order, operator class and collation. replaceable: DROP INDEX, and CREATE INDEX with
    the same columns, method and predicate, give the same index again.
    """

    columns: tuple[str, ...]
    valid: bool
    unique: bool
    plain: bool
    replaceable: bool
    definition: str
    included: int = 0
    method: str = "btree"
    predicate: str = ""
    usual: bool = True
    mentions: tuple[str, ...] = ()
    oid: int = 0
    parent: int = 0

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that it is ordered or searched by."""
        return self.columns[: len(self.columns) - self.included]

    @property
    def include(self) -> tuple[str, ...]:
        """The columns that it only holds."""
        return self.columns[len(self.columns) - self.included :]


# The columns of an index, and its definition, as CREATE INDEX spells them where all is as usual.
_USUAL_COLUMNS = """(SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
    FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE k.n {} i.indnkeyatts)"""
_USUAL_DEFINITION = f"""concat(format('CREATE INDEX %%I ON %%I.%%I USING %%I (%%s)', c.relname,
    (SELECT nspname FROM pg_namespace WHERE oid = t.relnamespace), t.relname, m.amname,
    {_USUAL_COLUMNS.format("<=")}),
    ' INCLUDE (' || {_USUAL_COLUMNS.format(">")} || ')',
    ' WHERE ' || pg_get_expr(i.indpred, i.indrelid))"""
_INDEXES = f"""
SELECT i.indrelid::int8 AS on, c.oid::int8 AS oid, c.relname, m.amname AS method,
    i.indisvalid AND i.indisready AS valid, i.indisunique,
    i.indpred IS NULL AND i.indexprs IS NULL AND m.amname = 'btree'
      AND i.indoption::text ~ '^[0 ]*$' AND i.indnatts = i.indnkeyatts AS plain,
    i.indexprs IS NULL AND i.indoption::text ~ '^[0 ]*$' AND NOT EXISTS (
      SELECT FROM unnest(i.indclass::oid[], i.indcollation::oid[], i.indkey::int2[])
        WITH ORDINALITY k(class, own, attnum, n)
      LEFT JOIN pg_opclass o ON o.oid = k.class
      LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      WHERE k.n <= i.indnkeyatts AND NOT (o.opcdefault AND k.own = a.attcollation)) AS usual,
    pg_get_indexdef(c.oid) AS definition,
    c.relkind = 'i'
      AND NOT (i.indisunique OR i.indisexclusion OR i.indisreplident OR i.indisclustered)
      AND c.reloptions IS NULL AND c.reltablespace = 0
      AND obj_description(c.oid, 'pg_class') IS NULL
      AND pg_get_indexdef(c.oid) = {_USUAL_DEFINITION} AS replaceable,
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      ORDER BY k.n) AS columns,
    i.indnatts - i.indnkeyatts AS included, pg_get_expr(i.indpred, i.indrelid) AS predicate,
    {MENTIONS} AS mentions,
    coalesce((SELECT h.inhparent::int8 FROM pg_inherits h WHERE h.inhrelid = c.oid), 0) AS parent
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
JOIN pg_class t ON t.oid = i.indrelid
WHERE i.indrelid = ANY (%s::oid[])
"""


def indexes_of(conn: Connection, oids: Sequence[int]) -> dict[int, dict[str, IndexInfo]]:
    """The indexes of each of these tables, by their names."""
    found: dict[int, dict[str, IndexInfo]] = {}
    for r in conn.execute(_INDEXES, (list(oids),)):
        found.setdefault(r["on"], {})[r["relname"]] = IndexInfo(
            tuple(r["columns"]),
            r["valid"],
            r["indisunique"],
            r["plain"],
            bool(r["replaceable"]),
            r["definition"],
            included=r["included"],
            method=r["method"],
            predicate=r["predicate"] or "",
            usual=r["usual"],
            mentions=tuple(r["mentions"]),
            oid=r["oid"],
            parent=r["parent"],
        )
    return found
