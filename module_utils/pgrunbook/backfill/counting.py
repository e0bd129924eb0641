# SPDX-License-Identifier: GPL-3.0-or-later
"""How many rows the backfill would fill, and why it leaves the others. Only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from psycopg.sql import SQL, Composable, Composed

from ..catalog import TableInfo, conversion, page_ranges
from ..catalog.conversion import Held
from ..core.connection import Connection
from ..core.spec import Column, Spec
from ..core.sql import comma, name
from ..core.values import IF_ANY
from ..ddl import convert
from .eligibility import any_of, eligible, matches, of_source, percentage, source_query, values
from .equality import Rules, differs

REASONS = ("already_complete", "no_source_key", "no_source_row", "source_has_no_value")


@dataclass(frozen=True)
class Coverage:
    """The share of rows that have a value of a column now, and would have one afterwards, in per
    cent; and how many rows would have none, by reason."""

    before: float
    after: float
    lacking: dict[str, int]


Interval = tuple[float, float]
"""What a figure is between, with 95 % confidence."""


@dataclass(frozen=True)
class Estimated:
    """That counts are estimated, from pages_read of so many pages, and the intervals of the figures
    by which something is decided: rows, and by column the coverage before and after, in per
    cent."""

    pages_read: int
    pages: int
    rows_total: Interval
    rows_eligible: Interval
    before: dict[str, Interval]
    after: dict[str, Interval]


@dataclass(frozen=True)
class Counts:
    """The rows of the table by what the backfill would do with them: those that it skips by reason,
    and the coverage by column. estimated is None where each row was counted."""

    rows_total: int
    rows_eligible: int
    rows_skipped: dict[str, int]
    coverage: dict[str, Coverage]
    estimated: Estimated | None = field(default=None, metadata=IF_ANY)


def count(conn: Connection, spec: Spec, info: TableInfo) -> Counts:
    """Count the rows by what the backfill would do with them."""
    query = partial(sums, spec, conversion.held(spec, info.types))
    return of_sums(spec, page_ranges.summed(conn, spec.table, info, query, spec.workers))


def sums(spec: Spec, held: Mapping[str, Held], rows: Composable) -> Composed:
    """The query that counts rows t, for of_sums()."""
    return SQL("SELECT {}, {} FROM {} t LEFT JOIN ({}) s ON {}").format(
        _by_reason(spec, held), _by_column(spec, held), rows, source_query(spec), matches(spec)
    )


def of_sums(spec: Spec, row: Mapping[str, Any]) -> Counts:
    """The counts that sums() gives."""
    total = row["total"]
    return Counts(
        total,
        row["eligible"],
        {reason: row[reason] for reason in REASONS},
        {
            c.name: Coverage(
                percentage(row[f"now{n}"], total),
                percentage(row[f"after{n}"], total),
                row[f"lacking{n}"],
            )
            for n, c in enumerate(spec.columns)
        },
    )


def without(counts: Counts, left: Mapping[str, int]) -> Counts:
    """The counts where the server refuses rows: left has, by column, how many get no value."""
    return replace(
        counts,
        coverage={
            column: _less(share, left.get(column, 0), counts.rows_total)
            for column, share in counts.coverage.items()
        },
    )


def _less(share: Coverage, rows: int, total: int) -> Coverage:
    if not rows:
        return share
    lacking = {**share.lacking, "refused": rows}
    return replace(share, after=percentage(total - sum(lacking.values()), total), lacking=lacking)


def _by_reason(spec: Spec, held: Mapping[str, Held]) -> Composed:
    """The counts of rows that are eligible, and by REASONS of those that are not."""
    return SQL(
        "count(*) AS total,"
        " count(*) FILTER (WHERE {eligible}) AS eligible,"
        " count(*) FILTER (WHERE {complete}) AS already_complete,"
        " count(*) FILTER (WHERE NOT ({complete}) AND ({no_key}) AND NOT ({eligible}))"
        "   AS no_source_key,"
        " count(*) FILTER (WHERE NOT ({complete}) AND NOT ({no_key}) AND s.k0 IS NULL"
        "   AND NOT ({eligible})) AS no_source_row,"
        " count(*) FILTER (WHERE NOT ({complete}) AND s.k0 IS NOT NULL AND NOT ({eligible}))"
        "   AS source_has_no_value"
    ).format(
        eligible=eligible(spec, held),
        complete=SQL(" AND ").join(
            SQL("{} IS DISTINCT FROM NULL").format(held[c.name].filled) for c in spec.columns
        ),
        no_key=_no_key(spec),
    )


def _by_column(spec: Spec, held: Mapping[str, Held]) -> Composed:
    """For each column by its number, how many rows have a value now, would have one afterwards, and
    lack one by reason."""
    return comma(
        SQL(
            "count({now}) AS {n}, count(coalesce({filled}, {value})) AS {a}, jsonb_build_object("
            "'no_source_key', count(*) FILTER (WHERE {lacks} AND {no_key}), "
            "'no_source_row', count(*) FILTER (WHERE {lacks} AND NOT {no_key} AND s.k0 IS NULL), "
            "'source_has_no_value', count(*) FILTER (WHERE {lacks} AND s.k0 IS NOT NULL)) AS {l}"
        ).format(
            now=held[c.name].now,
            filled=held[c.name].filled,
            value=value,
            lacks=SQL("coalesce({}, {}) IS NOT DISTINCT FROM NULL").format(
                held[c.name].filled, value
            ),
            no_key=_no_key(spec),
            n=name(f"now{n}"),
            a=name(f"after{n}"),
            l=name(f"lacking{n}"),
        )
        for n, (c, value) in enumerate(zip(spec.columns, values(spec, held), strict=True))
    )


def _no_key(spec: Spec) -> Composed:
    return any_of(SQL("t.{} IS NULL").format(name(c)) for c in spec.source_key)


def fates(conn: Connection, spec: Spec, info: TableInfo, by: Rules) -> dict[str, convert.Fate]:
    """What becomes of the values of each column that has still to be converted."""
    held = conversion.held(spec, info.types)
    old = {each.column.name: each.old for each in conversion.pending(spec, info)}
    return {
        c.name: convert.Fate(
            **page_ranges.summed(
                conn,
                spec.table,
                info,
                partial(_fate, spec, c, n, name(old[c.name]), held[c.name], by),
                spec.workers,
            )
        )
        for n, c in enumerate(spec.columns)
        if c.name in old
    }


def _fate(
    spec: Spec,
    column: Column,
    number: int,
    old: Composable,
    held: Held,
    by: Rules,
    rows: Composable,
) -> Composed:
    return SQL(
        "SELECT count(t.{old}) AS values,"
        " count(*) FILTER (WHERE {lost} AND {value} IS DISTINCT FROM NULL) AS from_source,"
        " count(*) FILTER (WHERE {lost} AND {value} IS NOT DISTINCT FROM NULL) AS become_null,"
        " count(*) FILTER (WHERE {differs}) AS differ"
        " FROM {rows} t LEFT JOIN ({source}) s ON {matches}"
    ).format(
        old=old,
        lost=SQL("t.{} IS DISTINCT FROM NULL AND {} IS NOT DISTINCT FROM NULL").format(
            old, held.now
        ),
        value=of_source(number),
        differs=differs(column, held.now, of_source(number), by),
        rows=rows,
        source=source_query(spec),
        matches=matches(spec),
    )
