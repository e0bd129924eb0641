# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows whose source key is in no source row: how many there are, and the gate on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from psycopg.sql import SQL, Composable, Composed

from .. import catalog
from ..backfill import count_estimate
from ..catalog import TableInfo, page_ranges
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import name, table
from ..core.values import IF_ANY
from . import registry
from .gate import Gate, judge


@dataclass(frozen=True)
class RowCounts:
    """The rows of the table and of the source, and the table's orphans. Where the first number is
    estimated, estimated_from says from how many of how many pages, and no orphan is on these."""

    rows: int
    source_rows: int
    orphans: int
    estimated_from: tuple[int, int] | None = field(default=None, kw_only=True, metadata=IF_ANY)


def count_rows(conn: Connection, spec: Spec, *, check: bool = False) -> RowCounts:
    """Count the rows of both tables; check is whether that is for a dry run."""
    target = catalog.inspect(conn, spec.table)
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    counting = SQL("SELECT count(*) AS source_rows FROM {} s").format
    source_rows = page_ranges.summed(conn, spec.source, source, counting, spec.workers)
    estimated = _estimated(conn, spec, target, check=check)
    rows = estimated or page_ranges.summed(
        conn, spec.table, target, partial(_counting, orphaned(spec)), spec.workers
    )
    return RowCounts(**rows, **source_rows)


def _estimated(
    conn: Connection, spec: Spec, target: TableInfo, *, check: bool
) -> page_ranges.Row | None:
    """The rows of the table from some of its pages; None where it is counted, because it is not
    large, or an orphan is on one of them."""
    pages = count_estimate.sampled_for(conn, spec, target, check=check)
    if pages is None:
        return None
    counting = partial(_counting, orphaned(spec))
    found = page_ranges.of_pages(conn, target, pages.ranges, counting)
    if found["orphans"]:
        return None
    rows = round(found["rows"] * pages.pages / len(pages.ranges))
    return {"rows": rows, "orphans": 0, "estimated_from": (len(pages.ranges), pages.pages)}


def _counting(orphan: Composed, rows: Composable) -> Composed:
    counts = SQL("SELECT count(*) AS rows, count(*) FILTER (WHERE {}) AS orphans FROM {} t")
    return counts.format(orphan, rows)


def orphaned(spec: Spec) -> Composed:
    """The condition that a row t is an orphan."""
    known = SQL(" AND ").join(SQL("t.{} IS NOT NULL").format(name(c)) for c in spec.source_key)
    joined = SQL(" AND ").join(
        SQL("s.{} = t.{}").format(name(theirs), name(ours))
        for ours, theirs in spec.source_key.items()
    )
    return SQL("{} AND NOT EXISTS (SELECT FROM {} s WHERE {})").format(
        known, table(spec.source), joined
    )


def orphans_gate(spec: Spec, counts: RowCounts) -> Gate:
    """The gate on orphans."""
    read = counts.estimated_from
    return judge(
        spec,
        registry.ORPHANS,
        target="0",
        measured=f"none on {read[0]:,} of {read[1]:,} pages" if read else counts.orphans,
        passed=counts.orphans == 0,
    )
