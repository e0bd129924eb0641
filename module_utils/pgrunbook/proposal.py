# SPDX-License-Identifier: GPL-3.0-or-later
"""Which index would serve a query that misses its speed-up: its SQL, its size, how long it takes.

It is estimated, not tried. What it would do for the query only a measurement tells.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Composed

from .catalog import TableInfo
from .connection import Connection
from .estimate import index_seconds
from .spec import MOST_NAME_BYTES, Query, Spec, Table
from .sql import comma, name, render, table

TUPLE_HEADER, LINE_POINTER, ALIGNMENT = 8, 4, 8  # bytes; PostgreSQL, "Database Page Layout"
FILL_FACTOR = 0.9  # of leaf pages, the default of B-tree


def propose(
    conn: Connection, spec: Spec, info: TableInfo, names: Mapping[str, str], query: Query
) -> dict[str, Any] | None:
    """An index that holds all that the query on the filled columns reads, or None where the table
    has such an index already or the query names no column of the phase.

    Returns columns and include (names of columns), sql, undo, bytes (an upper bound: B-tree stores
    equal keys once) and seconds.
    """
    by, include = index_columns(query.snapshot, names, info.columns)
    if not by or any(_serves(index.columns, by, include) for index in info.indexes.values()):
        return None
    index = _free_name(spec.table, by, info.indexes)
    widths = _widths(conn, spec.table, [*by, *include])
    return {
        "columns": by,
        "include": include,
        "sql": render(_create(spec.table, index, by, include)),
        "undo": render(SQL("DROP INDEX CONCURRENTLY {}").format(name(spec.table.schema, index))),
        "bytes": index_bytes(info.rows_estimate, widths),
        "seconds": round(index_seconds(conn, spec.table, info.pages, by, include), 1),
    }


def index_columns(
    query: str, names: Mapping[str, str], columns: Collection[str]
) -> tuple[list[str], list[str]]:
    """The columns to index by, and those to include, so that the query needs the index only.

    It is indexed by the phase's columns that the query names: first those that it compares with
    "=", then the others, each in the query's order. names has their present names. Included are
    the table's other columns that the query mentions as a word.
    """
    bare = re.sub(r"'(?:[^']|'')*'", "''", query)
    named = list(dict.fromkeys(n for n in re.findall(r"\{([^{}]+)\}", bare) if n in names))
    equal = [n for n in named if re.search(rf"\{{{re.escape(n)}\}}\s*=", bare)]
    by = [names[n] for n in [*equal, *(n for n in named if n not in equal)]]
    words = set(re.findall(r"\w+", re.sub(r"\{[^{}]+\}", " ", bare)))
    return by, [c for c in columns if c in words and c not in by]


def index_bytes(rows: int, widths: Sequence[float]) -> int:
    """About how many bytes a B-tree takes; widths are the average bytes of its columns in a row,
    NULL counted as 0."""
    data = TUPLE_HEADER + sum(widths)
    aligned = -(-data // ALIGNMENT) * ALIGNMENT
    return round(rows * (aligned + LINE_POINTER) / FILL_FACTOR)


def described(proposal: Mapping[str, Any]) -> str:
    """The proposal in a sentence."""
    include = f" including {', '.join(proposal['include'])}" if proposal["include"] else ""
    return (
        f"An index on ({', '.join(proposal['columns'])}){include} would hold all that it reads: "
        f"at most about {proposal['bytes'] / 1e6:,.1f} MB, built in about "
        f"{proposal['seconds']:g} s (estimated, not tried)"
    )


def _serves(columns: Sequence[str], by: Sequence[str], include: Sequence[str]) -> bool:
    return list(columns[: len(by)]) == list(by) and set(include) <= set(columns)


def _create(on: Table, index: str, by: Sequence[str], include: Sequence[str]) -> Composed:
    also = SQL(" INCLUDE ({})").format(comma(name(c) for c in include)) if include else SQL("")
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} ({}){}").format(
        name(index), table(on), comma(name(c) for c in by), also
    )


def _free_name(on: Table, by: Sequence[str], taken: Collection[str]) -> str:
    """A name in the manner of the others that no index of the table has."""
    stem = f"ix_{on.name}_{'_'.join(by)}"
    for suffix in ("", *(f"_{n}" for n in range(1, len(taken) + 2))):
        room = stem.encode()[: MOST_NAME_BYTES - len(suffix)].decode(errors="ignore")
        if room + suffix not in taken:
            return room + suffix
    raise AssertionError("there are more suffixes than names taken")


def _widths(conn: Connection, on: Table, columns: Sequence[str]) -> list[float]:
    """Average bytes of each column in a row; 8 where there are no statistics yet."""
    found = conn.execute(
        "SELECT attname, avg_width * (1 - null_frac) AS width FROM pg_stats"
        " WHERE schemaname = %s AND tablename = %s",
        (on.schema, on.name),
    )
    known = {row["attname"]: float(row["width"]) for row in found}
    return [known.get(column, 8.0) for column in columns]
