# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows whose source key is in no source row: how many there are, and the gate on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from psycopg.sql import SQL, Composable, Composed

from .. import catalog
from ..catalog import page_ranges
from ..core.connection import Connection
from ..core.spec import Spec
from ..core.sql import name, table
from . import registry
from .gate import Gate, judge


@dataclass(frozen=True)
class RowCounts:
    """The rows of the table and of the source, and the table's orphans."""

    rows: int
    source_rows: int
    orphans: int


def count_rows(conn: Connection, spec: Spec) -> RowCounts:
    """Count the rows of both tables."""
    target = catalog.inspect(conn, spec.table)
    source = catalog.inspect(conn, spec.source, catalog.READABLE)
    rows = page_ranges.summed(
        conn, spec.table, target, partial(_counting, orphaned(spec)), spec.workers
    )
    counting = SQL("SELECT count(*) AS source_rows FROM {} s").format
    return RowCounts(
        **rows, **page_ranges.summed(conn, spec.source, source, counting, spec.workers)
    )


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
    return judge(
        spec,
        registry.ORPHANS,
        target="0",
        measured=counts.orphans,
        passed=counts.orphans == 0,
    )
