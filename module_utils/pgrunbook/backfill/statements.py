# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of the backfill of a table: those of a batch for each partition, and what follows
the last batch."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed

from ..catalog import TableInfo, conversion
from ..core.spec import Spec
from ..core.sql import render, table
from . import batch_sql
from .batch import DIRECT_LOCK_MS
from .strategy import Strategy

LOCK = (
    "ROW EXCLUSIVE on the table; NO KEY UPDATE on the rows of one batch, for whose locks it waits "
    f"{DIRECT_LOCK_MS} ms, or not at all (SKIP LOCKED)"
)


def statements(spec: Spec, info: TableInfo, strategy: Strategy) -> list[str]:
    """The statements that an approval of the backfill covers."""
    direct = direct_statements(spec, info, strategy).values()
    patient = batch_statements(spec, info, strategy).values()
    return [*(render(s) for s in (*direct, *patient)), render(vacuum_statement(spec))]


def direct_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The statement of a direct batch for each leaf, by the leaf's oid; none where a column is
    converted."""
    if any(h.moved is not None for h in _held_then(spec, info).values()):
        return {}
    by_key = batch_sql.keys(spec, info) if strategy.name == "keyset" else None
    return {leaf.oid: batch_sql.direct_statement(spec, leaf.table, by_key) for leaf in info.leaves}


def batch_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The statement of a patient batch for each leaf, by the leaf's oid, on columns that have their
    right names and types by then."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch_sql.statement(spec, held, leaf.table, place) for leaf in info.leaves}


def pick_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The query that finds one row of a batch, for each leaf, by the leaf's oid."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch_sql.pick(spec, held, leaf.table, place) for leaf in info.leaves}


def vacuum_statement(spec: Spec) -> Composed:
    """What follows the last batch: it sets the visibility map and renews the statistics."""
    return SQL("VACUUM (ANALYZE, TRUNCATE FALSE) {}").format(table(spec.table))


def _place(spec: Spec, info: TableInfo, strategy: Strategy) -> Composable:
    """The condition that a row is in the place of a batch."""
    return batch_sql.keys(spec, info) if strategy.name == "keyset" else batch_sql.PAGES


def _held_then(spec: Spec, info: TableInfo) -> dict[str, conversion.Held]:
    """What rows hold once the columns have their right names and types."""
    renamed = {c.name: c.type for c in spec.columns}
    return conversion.held(spec, {**renamed, **conversion.foreseen(spec, info).types})
