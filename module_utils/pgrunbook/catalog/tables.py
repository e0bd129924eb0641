# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables as the database has them: columns, partitions, triggers, with their indexes. Only
reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Table
from .indexes import MENTIONS, IndexInfo, indexes_of
from .relations import FILLABLE, VIEWS, in_words, require_relation

BLOCK_BYTES = 8192


@dataclass(frozen=True)
class ColumnInfo:
    """A column as the catalog has it; type is format_type()'s spelling."""

    type: str
    type_oid: int
    not_null: bool
    generated: bool


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
    partitioned table, all its leaves together. partitions has every level, the upper ones first; it
    is empty until with_partitions() looks them up. view says that it is a view, a materialized view
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
        """What a report shows as before and after: the columns' types, and the indexes'
        definitions."""
        return {
            "columns": {name: column.type for name, column in sorted(self.columns.items())},
            "indexes": {
                name: index.definition + ("" if index.valid else " -- INVALID")
                for name, index in sorted(self.indexes.items())
            },
        }


def inspect(conn: Connection, table: Table, kinds: str = FILLABLE) -> TableInfo:
    """Everything the runbook needs to know of a table.

    Raises RunbookError when there is no such table, or it or a partition is of another kind.
    """
    found = require_relation(conn, table, kinds)
    leaves = _leaves(conn, found.oid)
    _require_kinds(table, leaves, kinds)
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
        indexes=indexes_of(conn, [found.oid]).get(found.oid, {}),
        view=found.kind in VIEWS,
    )


def with_partitions(conn: Connection, info: TableInfo) -> TableInfo:
    """The table with its partitions, which inspect() leaves out."""
    below = _below(conn, info.oid) if info.partitioned else []
    found = indexes_of(conn, [partition.oid for partition in below]) if below else {}
    return replace(info, partitions=tuple(replace(p, indexes=found.get(p.oid, {})) for p in below))


ENFORCED = "coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true)"
"""SQL of pg_constraint k: false only of a constraint NOT ENFORCED, from PostgreSQL 18 on."""


def indexes_on(conn: Connection, info: TableInfo, columns: Iterable[str]) -> list[str]:
    """The names of the indexes that mention one of the columns, those of single partitions too. A
    part of an index on the whole table counts under the name of the whole.

    BRIN is left out: it does not stand in the way of a heap-only update.
    """
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
    """The names of the triggers of users that an UPDATE of these columns fires. One on a generated
    column may be computed from them."""
    rows = conn.execute(
        "SELECT DISTINCT g.tgname FROM pg_trigger g WHERE g.tgrelid = ANY (%s::oid[])"
        " AND NOT g.tgisinternal AND g.tgenabled IN ('O', 'A') AND g.tgtype & 16 <> 0"
        " AND (g.tgattr = '' OR EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = g.tgrelid"
        "      AND a.attnum = ANY (g.tgattr::int2[]) AND (a.attname = ANY (%s)"
        "           OR a.attgenerated <> '')))"
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


def _require_kinds(table: Table, leaves: Iterable[Leaf], kinds: str) -> None:
    for leaf in leaves:
        if leaf.kind not in kinds:
            raise RunbookError(
                f"{leaf.table}, a partition of {table}, is {in_words(leaf.kind)}, which cannot be "
                "filled in batches. Next step: detach it, or fill it where its rows are."
            )


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
