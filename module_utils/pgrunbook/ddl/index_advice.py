# SPDX-License-Identifier: GPL-3.0-or-later
"""Which index would serve a query that misses its speed-up: its SQL, its size, how long it takes.

Here it is estimated. What it does for the query only a measurement tells: trial.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Composed

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Query, Spec, Table
from ..core.spec_checks import MOST_NAME_BYTES
from ..core.sql import comma, name, placeholder, render, table
from .build_time import index_seconds

TUPLE_HEADER, LINE_POINTER, ALIGNMENT = 8, 4, 8  # bytes; PostgreSQL, "Database Page Layout"
_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
FILL_FACTOR = 0.9  # of leaf pages, the default of B-tree


def proposals(
    conn: Connection, spec: Spec, info: TableInfo, names: Mapping[str, str]
) -> list[dict[str, Any] | None]:
    """For each query of the phase, in their order, what propose() says, and the seconds that the
    build takes. Where the index of an earlier query holds all that a later one reads, that one has
    the same."""
    taken = {*info.indexes, *_names_of_others(conn, spec.table, info)}
    present = catalog.present_names(spec, catalog.inspect(conn, spec.table))
    found: list[dict[str, Any] | None] = []
    for query in spec.queries:
        by, include = index_columns(query.snapshot, names, info.columns)
        shared = (
            p for p in found if p and by and _serves(p["columns"], _all_columns(p), by, include)
        )
        proposal = next(shared, None) or propose(conn, spec, info, names, query, taken)
        if proposal and "seconds" not in proposal:
            taken |= {proposal["name"]}
            by, include = (
                [present.get(c, c) for c in proposal[part]] for part in ("columns", "include")
            )
            seconds = index_seconds(conn, spec.table, info.pages, by, include)
            proposal = {**proposal, "seconds": round(seconds, 1)}
        found.append(proposal)
    return found


def propose(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    names: Mapping[str, str],
    query: Query,
    taken: Collection[str],
) -> dict[str, Any] | None:
    """An index that holds all that the query on the filled columns reads, or None where the table
    has such an index already or the query names no column of the phase.

    Returns name, which is none of those taken, columns and include (names of columns), sql, undo,
    and bytes (an upper bound: B-tree stores equal keys once).
    """
    by, include = index_columns(query.snapshot, names, info.columns)
    usable = (
        index
        for index in info.indexes.values()
        if index.valid and index.method == "btree" and not index.predicate
    )
    if not by or any(_serves(index.key, index.columns, by, include) for index in usable):
        return None
    index = _free_name(spec.table, by, taken)
    widths = _widths(conn, spec.table, [*by, *include])
    parts = {"name": index, "columns": by, "include": include}
    sql, undo = render(_create(spec.table, index, by, include)), drop(spec, index)
    if info.partitioned:
        sql = f"-- {entry(parts)} in phase_indexes builds it on each partition"
        undo = undo.replace("CONCURRENTLY ", "", 1)
    return {
        **parts,
        "sql": sql,
        "undo": undo,
        "bytes": index_bytes(info.rows_estimate, widths),
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


def drop(spec: Spec, index: str) -> str:
    """The statement that drops an index of the phase's table."""
    return render(SQL("DROP INDEX CONCURRENTLY {}").format(name(spec.table.schema, index)))


def described(proposal: Mapping[str, Any]) -> str:
    """The proposal in a sentence."""
    why = f": {proposal['not_tried']}" if proposal.get("not_tried") else ""
    return (
        f"An index {on_columns(proposal)} would hold all that it reads: "
        f"at most about {megabytes(proposal['bytes'])}, built in about "
        f"{proposal['seconds']:g} s (estimated, not tried{why})"
    )


def entry(proposal: Mapping[str, Any]) -> str:
    """The proposal as an entry of phase_indexes, in YAML."""
    parts = [f"name: {_yaml(proposal['name'])}"]
    for part in ("columns", "include"):
        if proposal[part]:
            parts.append(f"{part}: [{', '.join(_yaml(c) for c in proposal[part])}]")
    return f"{{{', '.join(parts)}}}"


def _yaml(of: str) -> str:
    """A name in YAML, in quotes where it would be read as something else."""
    word = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", of)
    return of if word and of.lower() not in _YAML_WORDS else json.dumps(of, ensure_ascii=False)


def on_columns(proposal: Mapping[str, Any]) -> str:
    """What the index is on: "on (a, b) including c"."""
    include = f" including {', '.join(proposal['include'])}" if proposal["include"] else ""
    return f"on ({', '.join(proposal['columns'])}){include}"


def megabytes(size: int) -> str:
    """Bytes for a person, in MB of 1,000,000 bytes."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e6:,.3f} MB"


def _all_columns(proposal: Mapping[str, Any]) -> list[str]:
    return [*proposal["columns"], *proposal["include"]]


def _serves(
    key: Sequence[str], columns: Sequence[str], by: Sequence[str], include: Sequence[str]
) -> bool:
    """Whether an index that is ordered by key and holds these columns is the one that is asked for,
    or more."""
    return list(key[: len(by)]) == list(by) and set(include) <= set(columns)


def _create(on: Table, index: str, by: Sequence[str], include: Sequence[str]) -> Composed:
    also = SQL(" INCLUDE ({})").format(comma(name(c) for c in include)) if include else SQL("")
    return SQL("CREATE INDEX CONCURRENTLY {} ON {} ({}){}").format(
        name(index), table(on), comma(name(c) for c in by), also
    )


def _free_name(on: Table, by: Sequence[str], taken: Collection[str]) -> str:
    """A name in the manner of the others that nothing in the schema bears."""
    stem = f"ix_{on.name}_{'_'.join(by)}"
    for suffix in ("", *(f"_{n}" for n in range(1, len(taken) + 2))):
        room = stem.encode()[: MOST_NAME_BYTES - len(suffix)].decode(errors="ignore")
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
