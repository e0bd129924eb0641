# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run that is not over stands at this moment: what somebody wants to know who did not start
it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..core.connection import Connection, one
from .runs import STALE_AFTER_SECONDS, RunStatus


@dataclass(frozen=True)
class Moment:
    """age is for how many seconds the run has been begun, idle since when it has not been seen at
    work. decided is whether all rows after the canary's were approved; missing has the indexes that
    it dropped and that are not there now; error is why it last stopped."""

    age: float
    idle: float
    decided: bool
    missing: tuple[str, ...]
    error: str

    @property
    def is_seen(self) -> bool:
        """Whether the run was at work just now."""
        return self.idle < STALE_AFTER_SECONDS


_MOMENT = """
SELECT extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age,
  extract(epoch FROM clock_timestamp() - r.seen_at)::float8 AS idle,
  EXISTS (SELECT FROM pgrunbook.approval a
    WHERE a.run_id = r.id AND a.plan_hash = r.plan_hash AND a.scope <> 'plan') AS decided,
  ARRAY(SELECT DISTINCT c.new FROM pgrunbook.change c
    WHERE c.run_id = r.id AND c.kind = 'index_defer' AND c.undone_at IS NULL
      AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid
        WHERE i.indrelid = to_regclass(r.table_name) AND n.relname = c.new AND i.indisvalid)
    ORDER BY 1) AS missing,
  coalesce((SELECT e.body #>> '{detail,detail}' FROM pgrunbook.event e
    WHERE e.body ->> 'run' = r.id AND e.body ->> 'kind' = 'failed'
    ORDER BY e.id DESC LIMIT 1), '') AS error
FROM pgrunbook.run r WHERE r.id = %s
"""


def moments_of(conn: Connection, runs: Iterable[RunStatus]) -> dict[str, Moment]:
    """How each of the runs stands that is not over, by its id."""
    found = {}
    for run in runs:
        if run.state not in ("finished", "reverted"):
            row = one(conn, _MOMENT, (run.id,))
            found[run.id] = Moment(**{**row, "missing": tuple(row["missing"])})
    return found


def missing_of(conn: Connection, run_id: str) -> list[str]:
    """The indexes that a run dropped and that are not there now."""
    missing: list[str] = one(conn, _MOMENT, (run_id,))["missing"]
    return missing
