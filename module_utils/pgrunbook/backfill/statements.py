# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of the backfill of a table: those of a batch for each partition, and what follows
the last batch."""

from __future__ import annotations

from psycopg.sql import SQL, Composable, Composed

from ..catalog import TableInfo, conversion
from ..core.spec import Spec
from ..core.sql import render, table
from . import batch
from .strategy import Strategy

LOCK = "ROW EXCLUSIVE on the table, FOR NO KEY UPDATE SKIP LOCKED on the rows of one batch"


def statements(spec: Spec, info: TableInfo, strategy: Strategy) -> list[str]:
    """The statements that an approval of the backfill covers."""
    batches = batch_statements(spec, info, strategy).values()
    return [*(render(s) for s in batches), render(vacuum_statement(spec))]


def batch_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The statement of a batch for each leaf, by the leaf's oid, on columns that have their right
    names and types by then."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch.statement(spec, held, leaf.table, place) for leaf in info.leaves}


def pick_statements(spec: Spec, info: TableInfo, strategy: Strategy) -> dict[int, Composed]:
    """The query that finds one row of a batch, for each leaf, by the leaf's oid."""
    place, held = _place(spec, info, strategy), _held_then(spec, info)
    return {leaf.oid: batch.pick(spec, held, leaf.table, place) for leaf in info.leaves}


def vacuum_statement(spec: Spec) -> Composed:
    """What follows the last batch: it sets the visibility map and renews the statistics."""
    return SQL("VACUUM (ANALYZE, TRUNCATE FALSE) {}").format(table(spec.table))


def _place(spec: Spec, info: TableInfo, strategy: Strategy) -> Composable:
    """The condition that a row is in the place of a batch."""
    return batch.keys(spec, info) if strategy.name == "keyset" else batch.PAGES


def _held_then(spec: Spec, info: TableInfo) -> dict[str, conversion.Held]:
    """What rows hold once the columns have their right names and types."""
    renamed = {c.name: c.type for c in spec.columns}
    return conversion.held(spec, {**renamed, **conversion.foreseen(spec, info).types})
