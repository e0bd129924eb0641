# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as the database has them: columns, indexes, partitions, triggers. Only reads."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Table

BLOCK_BYTES = 8192


@dataclass(frozen=True)
class ColumnInfo:
    """A column as the catalog has it; type is format_type()'s spelling."""

    type: str
    type_oid: int
    not_null: bool
    generated: bool


@dataclass(frozen=True)
class IndexInfo:
    """An index as the catalog has it; columns is empty where it is on expressions. The last ones,
    as many as included says, are only included.

    A plain one is a whole B-tree on columns in their usual order. A usual one is on columns only,
    with each one's own order, operator class and collation. A replaceable one is, after DROP INDEX
    and a CREATE INDEX that says no more than columns, method and predicate, the same again.
    predicate is the server's spelling of it, mentions has all columns that the index depends on.
    parent is the oid of the index of the partitioned table above that it is a part of, or 0.
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


@dataclass(frozen=True)
class Partition:
    """A partition of the table on any level, with its own indexes. above is the oid of the table
    that it is a partition of; pages counts its main fork, in blocks."""

    oid: int
    table: Table
    above: int
    partitioned: bool
    pages: int
    indexes: dict[str, IndexInfo]


@dataclass(frozen=True)
class Leaf:
    """A table that holds rows itself: an ordinary table, or a partition of one. pages counts its
    main fork, in blocks; kind is pg_class.relkind; rows_estimate is -1 before the first ANALYZE."""

    oid: int
    table: Table
    pages: int
    kind: str = "r"
    rows_estimate: int = -1


@dataclass(frozen=True)
class TableInfo:
    """A table as the catalog has it. size and pages count the main fork, in bytes and blocks; of a
    partitioned table, all its leaves together. partitions has those of every level, the upper ones
    first, where with_partitions() looked them up. view says that it is a view, a materialized view
    or a foreign table."""

    oid: int
    owner: str
    owned: bool
    size: int
    pages: int
    rows_estimate: int
    partitioned: bool
    leaves: tuple[Leaf, ...]
    columns: dict[str, ColumnInfo]
    indexes: dict[str, IndexInfo]
    partitions: tuple[Partition, ...] = ()
    view: bool = False

    @property
    def types(self) -> dict[str, str]:
        """The columns' types by their names."""
        return {name: column.type for name, column in self.columns.items()}

    def schema(self) -> dict[str, dict[str, str]]:
        """Columns and indexes as JSON types: what a report shows as before and after."""
        return {
            "columns": {name: column.type for name, column in sorted(self.columns.items())},
            "indexes": {
                name: index.definition + ("" if index.valid else " -- INVALID")
                for name, index in sorted(self.indexes.items())
            },
        }


FILLABLE, VIEWS = "rp", "vmf"
READABLE = FILLABLE + VIEWS
"""Kinds of relations, as pg_class.relkind has them: what can be filled, and what can fill."""

_KINDS = {
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
    "S": "a sequence",
}


@dataclass(frozen=True)
class Relation:
    """What bears a name in a schema: a table, view, index, sequence and so on. kind is
    pg_class.relkind; owned says whether this role has the rights of the owner."""

    oid: int
    kind: str
    owner: str
    owned: bool


def find_relation(conn: Connection, table: Table) -> Relation | None:
    """The relation of that name, None where there is none."""
    row = conn.execute(
        "SELECT c.oid::int8 AS oid, c.relkind::text AS kind, r.rolname AS owner,"
        " pg_has_role(c.relowner, 'USAGE') AS owned"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_roles r ON r.oid = c.relowner"
        " WHERE n.nspname = %s AND c.relname = %s",
        (table.schema, table.name),
    ).fetchone()
    return Relation(**row) if row else None


def inspect(conn: Connection, table: Table, kinds: str = FILLABLE) -> TableInfo:
    """Everything the runbook needs to know of a table.

    Raises RunbookError when there is no such table, or it or a partition is of another kind.
    """
    found = find_relation(conn, table)
    if found is None:
        raise RunbookError(_no_table(conn, table))
    leaves = _leaves(conn, found.oid)
    _require_kinds(table, found, leaves, kinds)
    pages = sum(leaf.pages for leaf in leaves)
    return TableInfo(
        oid=found.oid,
        owner=found.owner,
        owned=found.owned,
        size=pages * BLOCK_BYTES,
        pages=pages,
        rows_estimate=sum(max(leaf.rows_estimate, 0) for leaf in leaves),
        partitioned=found.kind == "p",
        leaves=leaves,
        columns=_columns(conn, found.oid),
        indexes=_indexes(conn, [found.oid]).get(found.oid, {}),
        view=found.kind in VIEWS,
    )


def _require_kinds(table: Table, found: Relation, leaves: Iterable[Leaf], kinds: str) -> None:
    if found.kind not in kinds:
        raise RunbookError(
            f"{table} is {_KINDS.get(found.kind, 'no table')}, and the runbook works on tables. "
            "Next step: name the table itself in the variables file."
        )
    for leaf in leaves:
        if leaf.kind not in kinds:
            raise RunbookError(
                f"{leaf.table}, a partition of {table}, is {_KINDS.get(leaf.kind, 'no table')}, "
                "which cannot be filled in batches. "
                "Next step: detach it, or fill it where its rows are."
            )


def with_partitions(conn: Connection, info: TableInfo) -> TableInfo:
    """The table with its partitions, which inspect() leaves out."""
    below = _below(conn, info.oid) if info.partitioned else []
    found = _indexes(conn, [partition.oid for partition in below]) if below else {}
    return replace(info, partitions=tuple(replace(p, indexes=found.get(p.oid, {})) for p in below))


ENFORCED = "coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)"
"""SQL of pg_constraint k: false only of a constraint NOT ENFORCED, from PostgreSQL 18 on."""

MENTIONS = """ARRAY(
    SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0
    AND (a.attnum = ANY (i.indkey::int2[]) OR EXISTS (
        SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid
        AND d.refobjsubid = a.attnum)))"""
"""SQL of pg_index i: every column that an index depends on, also through an expression or a
predicate."""


def indexes_on(conn: Connection, info: TableInfo, columns: Iterable[str]) -> list[str]:
    """The names of the indexes, also of single partitions, that mention one of the columns, apart
    from BRIN, which does not stand in the way of a heap-only update. Parts of an index on the whole
    table have its name."""
    rows = conn.execute(
        "SELECT DISTINCT coalesce(w.relname, c.relname) AS relname"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_am m ON m.oid = c.relam LEFT JOIN pg_class w ON c.relispartition"
        "   AND w.oid = pg_partition_root(c.oid)"
        f" WHERE i.indrelid = ANY (%s::oid[]) AND m.amname <> 'brin' AND {MENTIONS} && %s::text[]"
        " ORDER BY 1",
        ([leaf.oid for leaf in info.leaves], list(columns)),
    )
    return [row["relname"] for row in rows]


def update_triggers(conn: Connection, info: TableInfo, columns: Iterable[str]) -> list[str]:
    """The names of the users' triggers that an UPDATE of these columns fires."""
    rows = conn.execute(
        "SELECT DISTINCT g.tgname FROM pg_trigger g WHERE g.tgrelid = ANY (%s::oid[])"
        " AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 16 <> 0"
        " AND (g.tgattr = '' OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = g.tgrelid"
        "      AND a.attnum = ANY (g.tgattr::int2[]) AND a.attname = ANY (%s)))"
        " ORDER BY 1",
        ([info.oid, *(leaf.oid for leaf in info.leaves)], list(columns)),
    )
    return [row["tgname"] for row in rows]


def has_children(conn: Connection, info: TableInfo) -> bool:
    """Whether other tables inherit from this one, other than as partitions."""
    query = "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhparent = %s::oid) AS any"
    return not info.partitioned and bool(one(conn, query, (info.oid,))["any"])


def partition_keys(conn: Connection, info: TableInfo) -> set[str]:
    """The columns that decide which partition, on any level, a row belongs to."""
    rows = conn.execute(
        "SELECT DISTINCT a.attname FROM pg_partition_tree(%s::oid) t"
        " JOIN pg_partitioned_table p ON p.partrelid = t.relid"
        " JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])",
        (info.oid,),
    )
    return {row["attname"] for row in rows}


def _leaves(conn: Connection, oid: int) -> tuple[Leaf, ...]:
    rows = conn.execute(
        "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,"
        " coalesce(pg_relation_size(c.oid), 0) / %(block)s AS pages,"
        " c.relkind::text AS kind, c.reltuples::int8 AS rows_estimate"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid IN (SELECT %(oid)s::oid WHERE NOT EXISTS"
        "                   (SELECT FROM pg_partitioned_table WHERE partrelid = %(oid)s::oid)"
        "                 UNION ALL SELECT relid FROM pg_partition_tree(%(oid)s::oid)"
        "                   WHERE isleaf AND relid <> %(oid)s::oid)"
        " ORDER BY n.nspname, c.relname",
        {"oid": oid, "block": BLOCK_BYTES},
    )
    return tuple(
        Leaf(r["oid"], Table(r["schema"], r["name"]), r["pages"], r["kind"], r["rows_estimate"])
        for r in rows
    )


def _below(conn: Connection, oid: int) -> list[Partition]:
    """The partitions of every level, the upper ones first, without their indexes."""
    rows = conn.execute(
        "SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,"
        " c.relkind::text AS kind, t.parentrelid::oid::int8 AS above,"
        " coalesce(pg_relation_size(c.oid), 0) / %s AS pages"
        " FROM pg_partition_tree(%s::oid) t JOIN pg_class c ON c.oid = t.relid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE t.level > 0 ORDER BY t.level, n.nspname, c.relname",
        (BLOCK_BYTES, oid),
    )
    return [
        Partition(
            r["oid"], Table(r["schema"], r["name"]), r["above"], r["kind"] == "p", r["pages"], {}
        )
        for r in rows
    ]


def _columns(conn: Connection, oid: int) -> dict[str, ColumnInfo]:
    rows = conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod) AS type, atttypid::int8 AS type_oid,"
        " attnotnull, attgenerated <> '' AS generated FROM pg_attribute"
        " WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (oid,),
    )
    return {
        r["attname"]: ColumnInfo(r["type"], r["type_oid"], r["attnotnull"], r["generated"])
        for r in rows
    }


# A part of an index, or the whole of it, as CREATE INDEX spells it where all is as usual.
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
    c.relkind = 'i' AND NOT (i.indisunique OR i.indisreplident OR i.indisclustered)
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


def _indexes(conn: Connection, oids: list[int]) -> dict[int, dict[str, IndexInfo]]:
    """The indexes of each of these tables, by their names."""
    found: dict[int, dict[str, IndexInfo]] = {}
    for r in conn.execute(_INDEXES, (oids,)):
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


def _no_table(conn: Connection, table: Table) -> str:
    rows = conn.execute(
        "SELECT n.nspname || '.' || c.relname AS name FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
    )
    near = near_names(str(table), [r["name"] for r in rows])
    return f"There is no table {table}.{near} Next step: correct the name in the variables file."


def near_names(name: str, names: Iterable[str]) -> str:
    """The names that are near to one, as a sentence of a message; empty where none is."""
    close = difflib.get_close_matches(name, list(names), n=3)
    return f" Near names: {', '.join(repr(n) for n in close)}." if close else ""
