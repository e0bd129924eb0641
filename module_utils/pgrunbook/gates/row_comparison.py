# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of the table against their source, compared in SQL: which rows, when they match, how many.

In the SQL, t is the table, s the source, and j the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Literal

from .. import catalog, ledger
from ..backfill import eligibility
from ..backfill.equality import Rules, differs, rules, same
from ..catalog import TableInfo, conversion, page_ranges
from ..catalog.page_ranges import PageRange
from ..core.connection import Connection, one
from ..core.read_only import short_transaction
from ..core.spec import APART, DIFFER, EQUAL, Spec
from ..core.sql import comma, literals, name, table, text
from ..core.values import IF_ANY
from ..ledger import forgotten
from ..ledger.filled import places_in_journal

JOURNAL_ROWS = 200_000  # entries of the journals that one statement looks up


@dataclass(frozen=True)
class Compared:
    """How many rows were compared with their source, and what came of it.

    A row matches when each value that it is to have is there. missing counts rows that lack one,
    different those that have another one. kept counts rows that are right and keep, in a column
    that was converted, an old value that differs from the source; kept_alone those that keep one
    and have no source row; both are None where no column was converted. Whether these are
    compared, and match, is as phase_kept_values says. refused counts rows that lack a value and are
    set aside, because the server refuses to fill them; they are not compared.
    """

    compared: int
    matched: int
    missing: int
    different: int
    refused: int
    kept: int | None = field(default=None, metadata=IF_ANY)
    kept_alone: int | None = field(default=None, metadata=IF_ANY)

    @property
    def share(self) -> float:
        """Of the rows that were compared, those that match, in per cent."""
        return eligibility.percentage(self.matched, self.compared)


def compare_all(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, aside: Composable | None
) -> Compared:
    """Compare every row; aside is the condition that a row is set aside. by is what
    equality.rules() gives."""
    held = conversion.held(spec, info.types)

    def comparing(rows: Composable) -> Composed:
        return _comparing(spec, held, _all_of(rows), by, aside)

    return _compared(held, page_ranges.summed(conn, spec.table, info, comparing, spec.workers))


def compare_pages(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, pages: Sequence[PageRange]
) -> list[Compared]:
    """Compare the rows of some pages, each page that has rows for itself."""
    held = conversion.held(spec, info.types)
    rows = _all_of(page_ranges.rows_of(info, pages))
    query = _comparing(spec, held, rows, by, group=name(page_ranges.NUMBER))
    return [_compared(held, row) for row in conn.execute(query, ())]


def compare_sample(
    conn: Connection, spec: Spec, info: TableInfo, by: Rules, aside: Composable | None
) -> Compared:
    """Compare the phase's random sample. In a large table its keys are found first, and then the
    rows that have them."""
    rows = _random_rows(spec)
    if page_ranges.is_large(conn, info):
        rows = _found_again(spec, info, _random_keys(conn, spec, info))
    return _compare(conn, spec, info, by, rows, aside)


@dataclass(frozen=True)
class ComparedRun:
    """What came of comparing the rows that a run has changed; gone are those of them that were not
    found again."""

    compared: Compared
    gone: int


def compare_run(conn: Connection, spec: Spec, run_id: str) -> ComparedRun:
    """Compare every row that a run has changed. Raises RunbookError where its journal was
    forgotten."""
    forgotten.require_remembered(conn, run_id)
    info = catalog.inspect(conn, spec.table)
    catalog.present_names(spec, info)
    standing = ledger.rows_standing(conn, run_id)
    rows, found = _found_rows(conn, spec, info, run_id, standing)
    compared = _compare(conn, spec, info, rules(conn, spec, info), rows)
    return ComparedRun(compared, max(standing - found, 0))


def count_drifted(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> int:
    """Rows that differ from the source but still hold what a run wrote: the source has changed.
    The journals are read in parts, each in a transaction of its own."""
    if not ledger.exists(conn) or spec.waive_rollback:
        return 0
    count = 0
    for run_id in ledger.runs_with_rows(conn, str(spec.table)):
        places = places_in_journal(conn, spec, info, run_id)
        for part in ledger.batch_ranges(conn, run_id, JOURNAL_ROWS) if places else ():
            journal = ledger.standing_entries(Literal(run_id), part)
            with short_transaction(conn):
                count += one(conn, _drifting(spec, info, journal, by, places), ())["n"]
    return count


def undated(conn: Connection, spec: Spec) -> str:
    """What is to be said of the rows of the table that count_drifted() cannot know, because the
    journals of their runs were forgotten; else nothing."""
    if not ledger.exists(conn):
        return ""
    ours = [
        run.id
        for run in ledger.list_runs(conn)
        if run.forgotten and run.rows_changed and run.table_name == str(spec.table)
    ]
    if not ours:
        return ""
    return f", apart from those that run {', '.join(ours)} filled, whose journal was forgotten"


def comparing_all(spec: Spec, held: Mapping[str, conversion.Held], by: Rules) -> Composed:
    """The query that compares every row."""
    return _comparing(spec, held, _all_of(table(spec.table)), by)


def statements(
    spec: Spec, info: TableInfo, by: Rules, *, has_ledger: bool
) -> list[tuple[str, Composed]]:
    """The queries by which the gates compare rows, each after what it is for. Without a ledger
    they are those of an empty journal."""
    held = conversion.held(spec, info.types)
    journal = ledger.standing_entries(Literal("")) if has_ledger else ledger.NO_ENTRIES
    places = {c.name: len(spec.key) + n for n, c in enumerate(spec.columns)}
    rows = {
        "canary": _rows_of_run(spec, info, journal),
        "accuracy": _random_rows(spec),
        "comparison": _all_of(table(spec.table)),
    }
    found = [(gate, _comparing(spec, held, of, by)) for gate, of in rows.items()]
    if spec.waive_rollback:
        return found
    return [*found, ("comparison", _drifting(spec, info, journal, by, places))]


def _compare(
    conn: Connection,
    spec: Spec,
    info: TableInfo,
    by: Rules,
    rows: Composable,
    aside: Composable | None = None,
) -> Compared:
    held = conversion.held(spec, info.types)
    return _compared(held, one(conn, _comparing(spec, held, rows, by, aside), ()))


def _compared(held: Mapping[str, conversion.Held], found: Mapping[str, Any]) -> Compared:
    if all(h.moved is None for h in held.values()):
        found = {**found, "kept": None, "kept_alone": None}
    return Compared(**found)


def _comparing(
    spec: Spec,
    held: Mapping[str, conversion.Held],
    rows: Composable,
    by: Rules,
    aside: Composable | None = None,
    group: Composable | None = None,
) -> Composed:
    """The query that compares rows, and counts them as Compared has it: all together, or those that
    are alike in the column group."""
    return SQL(
        "SELECT count(*) FILTER (WHERE {compared} AND NOT refused) AS compared,\n"
        "  count(*) FILTER (WHERE {matched}) AS matched,\n"
        "  count(*) FILTER (WHERE missing AND NOT refused) AS missing,\n"
        "  count(*) FILTER (WHERE ({different}) AND NOT refused) AS different,\n"
        "  count(*) FILTER (WHERE kept) AS kept, count(*) FILTER (WHERE alone) AS kept_alone,\n"
        "  count(*) FILTER (WHERE refused) AS refused\n"
        "FROM (SELECT {group}missing, different, missing AND aside AS refused,\n"
        "  kept AND NOT (missing OR different) AS kept,\n"
        "  alone AND NOT (missing OR different) AS alone\n"
        "  FROM (SELECT {group}coalesce({is_missing}, false) AS missing,\n"
        "    coalesce({is_different}, false) AS different,\n"
        "    coalesce({is_kept}, false) AS kept, s.k0 IS NULL AS alone, {aside} AS aside\n"
        "    FROM ({rows}) t {join} ({source}) s ON {matches}\n"
        "    WHERE {has_origin}) r) c{by_group}"
    ).format(
        group=SQL("{}, ").format(group) if group else SQL(""),
        by_group=SQL(" GROUP BY {}").format(group) if group else SQL(""),
        **{which: SQL(condition) for which, condition in _COUNTED[spec.kept_values].items()},
        is_missing=eligibility.eligible(spec, held),
        is_different=_different(spec, held, by),
        is_kept=_kept(spec, held, by),
        aside=aside or SQL("false"),
        rows=rows,
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        has_origin=eligibility.has_origin(held),
    )


_COUNTED = {
    APART: {
        "compared": "NOT kept AND NOT alone",
        "matched": "NOT missing AND NOT different AND NOT kept AND NOT alone",
        "different": "different",
    },
    EQUAL: {
        "compared": "true",
        "matched": "NOT missing AND NOT different",
        "different": "different",
    },
    DIFFER: {
        "compared": "NOT alone",
        "matched": "NOT missing AND NOT different AND NOT kept AND NOT alone",
        "different": "different OR kept",
    },
}
"""By phase_kept_values, which rows are compared, which of these match and which differ."""


def _drifting(
    spec: Spec, info: TableInfo, journal: Composable, by: Rules, places: Mapping[str, int]
) -> Composed:
    held = conversion.held(spec, info.types)
    ours = SQL(" AND ").join(
        SQL("({value} IS NOT DISTINCT FROM NULL OR {is_as_now} OR {c}::text = j.e ->> {n})").format(
            value=value,
            is_as_now=same(c, held[c.name].now, value, by),
            c=held[c.name].now,
            n=Literal(places.get(c.name)),  # NULL where the run did not fill the column
        )
        for c, value in zip(spec.columns, eligibility.values(spec, held), strict=True)
    )
    excused = SQL("NOT coalesce({}, false)").format(_kept(spec, held, by))
    return SQL(
        "SELECT count(*) AS n FROM ({journal}) j JOIN {table} t ON {keys}"
        " {join} ({source}) s ON {matches} WHERE {different} AND {excused} AND {ours}"
    ).format(
        journal=journal,
        table=table(spec.table),
        keys=_journal_keys(spec, info),
        join=eligibility.joined(held),
        source=eligibility.source_query(spec),
        matches=eligibility.matches(spec),
        different=_different(spec, held, by),
        excused=excused if spec.kept_values == DIFFER else SQL("true"),
        ours=ours,
    )


def _all_of(rows: Composable) -> Composed:
    return SQL("SELECT * FROM {} t").format(rows)


def _random_rows(spec: Spec) -> Composed:
    return SQL("SELECT t.* FROM {} t ORDER BY {} LIMIT {}").format(
        table(spec.table), eligibility.random_order(spec), Literal(spec.sample_rows)
    )


def _random_keys(conn: Connection, spec: Spec, info: TableInfo) -> list[str]:
    """The keys of the random rows, as entries of a journal have them."""
    parts = eligibility.key_parts(spec) if spec.key else [SQL("t.tableoid"), SQL("t.ctid")]
    keys = comma(SQL("({})::text").format(part) for part in parts)

    def sampling(rows: Composable) -> Composed:
        return SQL(
            "SELECT jsonb_build_array({})::text AS entry, {} AS place FROM {} t"
            " ORDER BY place LIMIT {}"
        ).format(keys, eligibility.random_order(spec), rows, Literal(spec.sample_rows))

    found = page_ranges.first(
        conn, spec.table, info, sampling, "place", spec.sample_rows, spec.workers
    )
    return [row["entry"] for row in found]


def _found_again(spec: Spec, info: TableInfo, entries: Sequence[str]) -> Composed:
    """The rows that have these keys, or are at these places where they have none."""
    journal = SQL("SELECT e::jsonb AS e, NULL::int8 AS xid FROM unnest({}::text[]) e").format(
        literals(entries)
    )
    if not spec.key:
        return _rows_by_place(spec, journal)
    return _rows_by_key(spec, info, journal)


def _rows_of_run(spec: Spec, info: TableInfo, journal: Composable) -> Composed:
    """The rows that the journal lists, by their place where the rollback is waived."""
    if spec.waive_rollback:
        return _rows_by_place(spec, ledger.NO_ENTRIES)
    return _rows_by_key(spec, info, journal)


def _found_rows(
    conn: Connection, spec: Spec, info: TableInfo, run_id: str, standing: int
) -> tuple[Composed, int]:
    """The rows that a run has changed, and how many are found of so many that are standing.

    Where the rollback is waived the journal has their places only. VACUUM FULL and CLUSTER give
    each row another place and leave it its transaction, so that is what they go by then.
    """
    if not spec.waive_rollback:
        rows = _rows_of_run(spec, info, ledger.standing_entries(Literal(run_id)))
        return rows, _number_of(conn, rows)
    writers = ledger.standing_writers(Literal(run_id))
    rows = _rows_by_place(spec, writers)
    found = _number_of(conn, rows)
    if found < standing:
        rows = SQL(
            "SELECT t.* FROM {} t WHERE t.xmin::text::int8 IN (SELECT j.xid FROM ({}) j)"
        ).format(table(spec.table), writers)
        found = _number_of(conn, rows)
    return rows, found


def _rows_by_key(spec: Spec, info: TableInfo, journal: Composable) -> Composed:
    """The rows that have the keys of a journal's entries. They are found before they are joined to
    anything (OFFSET 0): the planner takes every batch for 100 rows, and might join the whole source
    to the whole table once for each batch."""
    return SQL("SELECT t.* FROM ({}) j JOIN {} t ON {} OFFSET 0").format(
        journal, table(spec.table), _journal_keys(spec, info)
    )


def _rows_by_place(spec: Spec, writers: Composable) -> Composed:
    """The rows at the places of a journal's entries, without those that others have written there
    since."""
    return SQL(
        "SELECT t.* FROM ({}) j JOIN {} t ON t.tableoid = (j.e ->> 0)::oid"
        " AND t.ctid = (j.e ->> 1)::tid AND (j.xid IS NULL OR t.xmin::text::int8 = j.xid)"
    ).format(writers, table(spec.table))


def _number_of(conn: Connection, rows: Composable) -> int:
    count: int = one(conn, SQL("SELECT count(*) AS n FROM ({}) t").format(rows), ())["n"]
    return count


def _journal_keys(spec: Spec, info: TableInfo) -> Composed:
    return SQL(" AND ").join(
        SQL("t.{} = (j.e ->> {})::{}").format(name(k), Literal(n), text(info.columns[k].type))
        for n, k in enumerate(spec.key)
    )


def _different(spec: Spec, held: Mapping[str, conversion.Held], by: Rules) -> Composed:
    """The condition on t and s that a row has another value than it is to have.

    Where a value of the other type is kept, the source's value is right as well.
    """
    return eligibility.any_of(
        differs(c, held[c.name].now, value, by)
        if held[c.name].moved is None
        else SQL("({} AND coalesce({}, true))").format(
            differs(c, held[c.name].now, value, by),
            differs(c, held[c.name].now, eligibility.of_source(n), by),
        )
        for n, (c, value) in enumerate(
            zip(spec.columns, eligibility.values(spec, held), strict=True)
        )
    )


def _kept(spec: Spec, held: Mapping[str, conversion.Held], by: Rules) -> Composable:
    """The condition on t and s that a row keeps a value of the other type, in a column that was
    converted, and the source has another value."""
    kept = [
        SQL("({} AND {})").format(
            same(c, held[c.name].now, moved, by),
            differs(c, held[c.name].now, eligibility.of_source(n), by),
        )
        for n, c in enumerate(spec.columns)
        if (moved := held[c.name].moved) is not None
    ]
    return eligibility.any_of(kept) if kept else SQL("false")
