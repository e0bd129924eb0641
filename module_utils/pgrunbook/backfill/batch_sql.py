# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of a batch of the backfill: each fills what is NULL and nothing else, and records
the rows that it changed.

The patient one locks the eligible rows of its place that nobody else holds, and fills these. The
direct one is cheaper: it fills the rows that have no value yet, without looking at them first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import ledger
from ..catalog import TableInfo
from ..catalog.conversion import Held
from ..core.spec import Spec, Table
from ..core.sql import comma, literal, name, render, table, text
from . import refused_rows
from .eligibility import any_of, eligible, joined, matches, of_source, source_query, values

RANGE = SQL(
    "t.ctid >= format('(%%s,0)', %(first)s::int8)::tid\n"
    "    AND t.ctid < format('(%%s,0)', %(last)s::int8)::tid"
)
PAGES = RANGE + SQL(
    "\n    AND (get_byte(tidsend(t.ctid), 4) * 256 + get_byte(tidsend(t.ctid), 5) - 1)"
    " %% %(passes)s = %(pass)s"
)
"""Every passes-th row of the pages from first to last, counted by line pointer, which is 1 for the
first row of a page: the last two of the six bytes of a ctid (tidsend() in
src/backend/utils/adt/tid.c)."""
IN_PASS = SQL("(get_byte(tidsend(t.ctid), 5) + 255) %% %(passes)s = %(pass)s")
"""The same rows where passes divides 256: then the last byte of a ctid tells them."""


def statement(spec: Spec, held: Mapping[str, Held], leaf: Table, place: Composable) -> Composed:
    """The statement of a patient batch; its parameters are those of the place, most (rows), run,
    sweep, aside (whether the run has set rows aside), first and last (pages, or null), and it
    returns row_count, size and hot unless nothing was changed.

    The rows to be changed are picked and locked first, and then found again by their ctid: they
    are locked, so it cannot change in between. A journal entry is an array of texts: the key's
    values and, for each column of the phase, the value as it was stored, or null where none was
    filled. Where the rollback is waived it has
    only the table and the place of the row, which is what the canary compares.
    """
    names = {c.name: c.name for c in spec.columns}
    free = _free(spec, held, leaf, place) + _not_aside(spec)
    return _filling(spec, held, leaf, names, {}, free) + ledger.insert_batch(_hot(leaf))


def direct_statement(spec: Spec, leaf: Table, by_key: Composable | None) -> Composed:
    """The statement of a direct batch, for a phase that converts no column. by_key is its place
    between two keys; without one that is pages, in a pass of a number that divides 256.

    It fills rows without any of the values only: what RETURNING gives of others does not tell which
    values were there. Of a row that somebody changes meanwhile PostgreSQL looks at the new version,
    as it does in every UPDATE, and a value that has come is kept.
    """
    columns = [SQL("t.{}").format(name(c.name)) for c in spec.columns]
    given = [of_source(n) for n in range(len(columns))]
    filled = SQL(
        "WITH filled AS (\n"
        "  UPDATE {table} t SET {sets}\n"
        "  FROM ({source}) s\n"
        "  WHERE {matches}\n"
        "    AND {where}\n"
        "    AND {some}{not_aside}\n"
        "  RETURNING {entry} AS entry\n"
        ")\n"
    ).format(
        table=table(leaf),
        sets=comma(
            SQL("{} = coalesce({}, {})").format(name(c.name), column, value)
            for c, column, value in zip(spec.columns, columns, given, strict=True)
        ),
        source=source_query(spec),
        matches=matches(spec),
        where=_empty(columns, by_key),
        some=any_of(SQL("{} IS DISTINCT FROM NULL").format(value) for value in given),
        not_aside=_not_aside(spec),
        entry=_entry(spec, [c.name for c in spec.columns], given),
    )
    return filled + ledger.insert_batch(_hot(leaf))


def _empty(columns: Sequence[Composable], by_key: Composable | None) -> Composed:
    """Where rows are that have none of the values.

    Of two conditions the server tries the cheaper first. CASE has it tell the pass first, and read
    most rows no further than that.
    """
    empty = SQL(" AND ").join(SQL("{} IS NOT DISTINCT FROM NULL").format(c) for c in columns)
    if by_key is not None:
        return SQL("{}\n    AND {}").format(by_key, empty)
    return SQL("{range}\n    AND {ours}\n    AND CASE WHEN {ours} THEN {empty} END").format(
        range=RANGE, ours=IN_PASS, empty=empty
    )


def foreseen(
    spec: Spec,
    held: Mapping[str, Held],
    leaf: Table,
    place: Composable,
    names: Mapping[str, str],
    put_aside: Mapping[str, str],
) -> Composed:
    """What is nearest to statement() before columns have their right names and types: without the
    ledger, which may not be there, and on the present names. In put_aside, by the phase's names,
    are those that are still to be made: in their place the old ones get the value that they have.
    """
    return SQL("{}SELECT count(*), jsonb_agg(entry) FROM filled").format(
        _filling(spec, held, leaf, names, put_aside, _free(spec, held, leaf, place))
    )


def _filling(
    spec: Spec,
    held: Mapping[str, Held],
    leaf: Table,
    names: Mapping[str, str],
    put_aside: Mapping[str, str],
    free: Composable,
) -> Composed:
    there = {**names, **put_aside}
    news = comma(
        SQL("CASE WHEN {} IS NOT DISTINCT FROM NULL THEN {} END AS {}").format(
            held[c.name].filled, value, name(f"v{n}")
        )
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    )
    given = [SQL("p.{}").format(name(f"v{n}")) for n in range(len(spec.columns))]
    sets = comma(
        SQL("{c} = t.{c}").format(c=name(there[c.name]))
        if c.name in put_aside
        else SQL("{c} = coalesce(t.{c}, p.{v})").format(c=name(there[c.name]), v=name(f"v{n}"))
        for n, c in enumerate(spec.columns)
    )
    return SQL(
        "WITH picked AS MATERIALIZED (\n"
        "  SELECT t.ctid AS tid, {news}\n"
        "  {free}\n"
        "  LIMIT %(most)s FOR NO KEY UPDATE OF t SKIP LOCKED\n"
        "), filled AS (\n"
        "  UPDATE {table} t SET {sets}\n"
        "  FROM picked p WHERE t.ctid = ANY (ARRAY(SELECT tid FROM picked)) AND t.ctid = p.tid\n"
        "  RETURNING {entry} AS entry\n"
        ")\n"
    ).format(
        news=news,
        table=table(leaf),
        free=free,
        sets=sets,
        entry=_entry(spec, [there[c.name] for c in spec.columns], given),
    )


def pick(spec: Spec, held: Mapping[str, Held], leaf: Table, place: Composable) -> Composed:
    """The query that locks one row that a batch of the same place would fill. It returns the row's
    key as JSON, its tid, and the key's values as texts."""
    texts = [SQL("t.{}::text").format(name(k)) for k in spec.key]
    return SQL(
        "SELECT {key}::text AS key, t.ctid::text AS tid, ARRAY[{texts}]::text[] AS texts\n"
        "{free}\nLIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED"
    ).format(
        key=refused_rows.key(spec),
        texts=comma(texts),
        free=_free(spec, held, leaf, place) + _not_aside(spec),
    )


def _free(spec: Spec, held: Mapping[str, Held], leaf: Table, place: Composable) -> Composed:
    """Where rows are that a batch would fill."""
    return SQL(
        "FROM {table} t\n"
        "  {join} ({source}) s ON {matches}\n"
        "  WHERE {place}\n"
        "    AND {some_null}\n"
        "    AND {eligible}"
    ).format(
        table=table(leaf),
        join=joined(held),
        source=source_query(spec),
        matches=matches(spec),
        place=place,
        some_null=any_of(SQL("{} IS NULL").format(held[c.name].filled) for c in spec.columns),
        eligible=eligible(spec, held),
    )


def _not_aside(spec: Spec) -> Composed:
    """The condition that a row is not set aside, which the server drops where none is."""
    return SQL("\n    AND (NOT %(aside)s::boolean OR {})").format(
        refused_rows.not_aside(spec, SQL("%(run)s"))
    )


def _hot(leaf: Table) -> Composed:
    return SQL("pg_stat_get_xact_tuples_hot_updated({}::regclass) AS hot").format(
        literal(render(table(leaf)))
    )


def keys(spec: Spec, info: TableInfo) -> Composed:
    """The place between two keys, both included; their values are first_key and last_key."""
    ours = comma(SQL("t.{}").format(name(k)) for k in spec.key)
    return SQL("ROW({}) >= ROW({})\n    AND ROW({}) <= ROW({})").format(
        ours,
        key_values(spec, info, "first_key"),
        ours,
        key_values(spec, info, "last_key"),
    )


def key_values(spec: Spec, info: TableInfo, parameter: str) -> Composed:
    """A key's values out of a parameter that is an array of texts."""
    return comma(
        SQL("(%({})s::text[])[{}]::{}").format(
            SQL(parameter), Literal(n), text(info.columns[k].type)
        )
        for n, k in enumerate(spec.key, 1)
    )


def _entry(spec: Spec, columns: Sequence[str], given: Sequence[Composable]) -> Composable:
    """An entry of the journal; given has what each column was given, NULL where it has a value of
    its own."""
    if spec.waive_rollback:
        return SQL("jsonb_build_array(t.tableoid::text, t.ctid::text)")
    parts = [
        *(SQL("t.{}::text").format(name(k)) for k in spec.key),
        *(
            SQL("CASE WHEN {} IS DISTINCT FROM NULL THEN t.{}::text END").format(value, name(c))
            for c, value in zip(columns, given, strict=True)
        ),
    ]
    return SQL("jsonb_build_array({})").format(comma(parts))
