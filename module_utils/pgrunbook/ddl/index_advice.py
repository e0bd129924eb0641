# SPDX-License-Identifier: GPL-3.0-or-later
"""Index advice: which index would serve a query that misses its speed-up, and what it takes.

Here it is estimated. What it does for the query only a measurement tells: gates/index_trial.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .. import catalog
from ..catalog import TableInfo, type_limits
from ..core.connection import Connection
from ..core.spec import Index, Spec, Table
from ..core.spec_checks import MAX_NAME_BYTES
from ..core.sql import placeholder, render
from . import index_sql
from .build_time import index_seconds

TUPLE_HEADER, LINE_POINTER, ALIGNMENT = 8, 4, 8  # bytes; PostgreSQL, "Database Page Layout"
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
FILL_FACTOR = 0.9  # of leaf pages, the default of B-tree


@dataclass(frozen=True)
class IndexAdvice:
    """An index that would serve a query: its name, which nothing bears yet, the columns that it is
    on and includes, and its SQL. bytes is an upper bound, because a B-tree stores equal keys once;
    seconds is about how long the build takes."""

    name: str
    columns: tuple[str, ...]
    include: tuple[str, ...]
    sql: str
    undo: str
    bytes: int
    seconds: float

    @property
    def index(self) -> Index:
        """The index as the phase would have it."""
        return Index(self.name, self.columns, include=self.include)


def advise(
    conn: Connection, spec: Spec, info: TableInfo, names: Mapping[str, str]
) -> list[IndexAdvice | None]:
    """For each query of the phase, in their order, an index that holds all that the query on the
    filled columns reads; None where the table has such an index already, or the query names no
    column of the phase. names has the present names of the phase's columns.

    A column of a type without an order, such as json, is only included. Where the index of an
    earlier query holds all that a later one reads, that one has the same.
    """
    taken = {*info.indexes, *_names_of_others(conn, spec.table, info)}
    ordered = {c for c in names.values() if _has_order(conn, info, c)}
    found: list[IndexAdvice | None] = []
    for query in spec.queries:
        named, others = index_columns(query.snapshot, names, info.columns)
        by = [c for c in named if c in ordered]
        include = [*(c for c in named if c not in ordered), *others]
        shared = (
            advice
            for advice in found
            if advice and _serves(advice.columns, _all_columns(advice), by, include)
        )
        advice = next(shared, None) if by else None
        if by and not advice and not _served(info, by, include):
            index = Index(_free_name(spec.table, by, taken), tuple(by), include=tuple(include))
            advice = _advice(conn, spec, info, index)
            taken |= {advice.name}
        found.append(advice)
    return found


def _has_order(conn: Connection, info: TableInfo, column: str) -> bool:
    of = type_limits.base_type(conn, info.types[column])
    return type_limits.has_order(conn, of)


def _served(info: TableInfo, by: Sequence[str], include: Sequence[str]) -> bool:
    """Whether the table has such an index: a whole, valid B-tree."""
    return any(
        _serves(index.key, index.columns, by, include)
        for index in info.indexes.values()
        if index.valid and index.method == "btree" and not index.predicate
    )


def _advice(conn: Connection, spec: Spec, info: TableInfo, index: Index) -> IndexAdvice:
    sql = render(index_sql.create(spec.table, index))
    if info.partitioned:
        sql = f"-- {entry(index)} in phase_indexes builds it on each partition"
    present = catalog.present_names(spec, catalog.inspect(conn, spec.table))
    parts = ([present.get(c, c) for c in part] for part in (index.columns, index.include))
    widths = _widths(conn, spec.table, [*index.columns, *index.include])
    return IndexAdvice(
        name=index.name,
        columns=index.columns,
        include=index.include,
        sql=sql,
        undo=drop(spec, index.name, concurrently=not info.partitioned),
        bytes=index_bytes(info.rows_estimate, widths),
        seconds=round(index_seconds(conn, spec.table, info.pages, *parts), 1),
    )


def index_columns(
    query: str, names: Mapping[str, str], columns: Collection[str]
) -> tuple[list[str], list[str]]:
    """The columns to index by, and those to include, so that the query needs the index only.

    It is indexed by the phase's columns that the query names: first those that it compares with
    "=", then the others, each in the query's order. names has their present names. Included are
    the table's other columns that the query mentions as a word.
    """
    bare = re.sub(r"'(?:[^']|'')*'", "''", query)
    named = list(dict.fromkeys(re.findall(placeholder(names), bare)))
    equal = [n for n in named if re.search(rf"\{{{re.escape(n)}\}}\s*=", bare)]
    by = [names[n] for n in [*equal, *(n for n in named if n not in equal)]]
    words = set(re.findall(r"\w+", re.sub(rf"{placeholder(names)}|\{{\w+\}}", " ", bare)))
    return by, [c for c in columns if c in words and c not in by]


def index_bytes(rows: int, widths: Sequence[float]) -> int:
    """About how many bytes a B-tree takes; widths are the average bytes of its columns in a row,
    NULL counted as 0."""
    data = TUPLE_HEADER + sum(widths)
    aligned = -(-data // ALIGNMENT) * ALIGNMENT
    return round(rows * (aligned + LINE_POINTER) / FILL_FACTOR)


def drop(spec: Spec, index: str, *, concurrently: bool = True) -> str:
    """The statement that drops an index of the phase's table."""
    return render(index_sql.drop(spec.table, index, concurrently=concurrently))


def estimated(advice: IndexAdvice, why: str = "") -> str:
    """The advice in a sentence; why is why it was not tried."""
    return (
        f"An index {index_sql.described(advice.index)} would hold all that it reads: "
        f"at most about {megabytes(advice.bytes)}, built in about "
        f"{advice.seconds:g} s (estimated, not tried{f': {why}' if why else ''})"
    )


def entry(index: Index) -> str:
    """The index as an entry of phase_indexes, in YAML."""
    parts = [f"name: {_yaml(index.name)}"]
    for part, names in (("columns", index.columns), ("include", index.include)):
        if names:
            parts.append(f"{part}: [{', '.join(_yaml(column) for column in names)}]")
    return f"{{{', '.join(parts)}}}"


def _yaml(of: str) -> str:
    """A name in YAML, in quotes where it would be read as something else."""
    word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", of)
    return of if word and of.lower() not in _YAML_WORDS else json.dumps(of, ensure_ascii=False)


def megabytes(size: int) -> str:
    """Bytes for a person, in MB of 1,000,000 bytes."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e6:,.3f} MB"


def _all_columns(advice: IndexAdvice) -> list[str]:
    return [*advice.columns, *advice.include]


def _serves(
    key: Sequence[str], columns: Sequence[str], by: Sequence[str], include: Sequence[str]
) -> bool:
    """Whether an index that is ordered by key and holds these columns is the one that is asked for,
    or more."""
    return list(key[: len(by)]) == list(by) and set(include) <= set(columns)


def _free_name(on: Table, by: Sequence[str], taken: Collection[str]) -> str:
    """A name in the manner of the others that nothing in the schema bears."""
    stem = f"ix_{on.name}_{'_'.join(by)}"
    for suffix in ("", *(f"_{n}" for n in range(1, len(taken) + 2))):
        room = stem.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore")
        if room + suffix not in taken:
            return room + suffix
    raise AssertionError("there are more suffixes than names taken")


def _names_of_others(conn: Connection, on: Table, info: TableInfo) -> Iterable[str]:
    """What bears a name in the table's schema, its own indexes apart."""
    found = conn.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND NOT EXISTS (SELECT FROM pg_index i"
        "   WHERE i.indexrelid = c.oid AND i.indrelid = %s::oid)",
        (on.schema, info.oid),
    )
    return [row["relname"] for row in found]


def _widths(conn: Connection, on: Table, columns: Sequence[str]) -> list[float]:
    """Average bytes of each column in a row; 8 where there are no statistics yet."""
    found = conn.execute(
        "SELECT attname, avg_width * (1 - null_frac) AS width FROM pg_stats"
        " WHERE schemaname = %s AND tablename = %s",
        (on.schema, on.name),
    )
    known = {row["attname"]: float(row["width"]) for row in found}
    return [known.get(column, 8.0) for column in columns]
