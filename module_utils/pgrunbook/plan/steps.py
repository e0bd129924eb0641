# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a run, in order. What a step does, the room of its operation knows."""

from __future__ import annotations

from ..backfill.statements import LOCK, statements
from ..backfill.strategy import Strategy
from ..catalog import TableInfo
from ..core.connection import Connection
from ..core.spec import Spec
from ..ddl import convert, index_plan, indexes, rename
from ..ddl.step import Step, alike


def steps(conn: Connection, spec: Spec, info: TableInfo, strategy: Strategy) -> list[Step]:
    """The steps from the first rename to the last index, without trials of indexes."""
    actions = index_plan.plan(conn, spec, info, strategy.deferred)
    return [
        rename.step(spec, info),
        convert.step(spec, info),
        *indexes.steps_before(actions),
        _backfill(spec, info, strategy),
        indexes.step_after(actions, info),
    ]


def _backfill(spec: Spec, info: TableInfo, strategy: Strategy) -> Step:
    """needed stays false: whether rows are to be filled depends on traffic, which must not change
    the plan."""
    found = statements(spec, info, strategy)
    batches = (len(found) - 1) // len(info.leaves)
    return Step(
        "backfill",
        "Fill the columns",
        statements=tuple(found),
        undo=("playbooks/rollback.yml gives back just the rows in the journal",),
        lock=LOCK,
        needed=False,
        alike=alike([*[len(info.leaves)] * batches, 1]),
    )
