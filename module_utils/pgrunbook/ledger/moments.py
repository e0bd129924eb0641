# SPDX-License-Identifier: GPL-3.0-or-later
"""How a run that is not over stands at this moment: what somebody wants to know who did not start
it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.connection import Connection, one
from ..core.spec import STEERING, THRESHOLDS
from .runs import MISSING, OF_TABLE, STALE_AFTER_SECONDS, RunStatus


@dataclass(frozen=True)
class Moment:
    """age is for how many seconds the run has been begun, idle since when it has not been seen at
    work. decided is whether all rows after the canary's were approved; missing has the indexes that
    it dropped and that are not there now; error is why it last stopped. blocked_by has the pids of
    the sessions for whose locks its own wait, and blocks those that wait for its own; renamed
    has the columns that it has renamed, and limits the thresholds of its phase, both in words."""

    age: float
    idle: float
    decided: bool
    missing: tuple[str, ...]
    error: str
    blocked_by: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()
    renamed: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()

    @property
    def is_seen(self) -> bool:
        """Whether the run was at work just now."""
        return self.idle < STALE_AFTER_SECONDS


_MOMENT = """
SELECT extract(epoch FROM clock_timestamp() - r.started_at)::float8 AS age,
  extract(epoch FROM clock_timestamp() - r.seen_at)::float8 AS idle,
  EXISTS (SELECT FROM pgrunbook.approval a
    WHERE a.run_id = r.id AND a.plan_hash = r.plan_hash AND a.scope <> 'plan') AS decided,
  coalesce((SELECT e.body #>> '{detail,detail}' FROM pgrunbook.event e
    WHERE e.body ->> 'run' = r.id AND e.body ->> 'kind' = 'failed'
    ORDER BY e.id DESC LIMIT 1), '') AS error,
  ARRAY(SELECT DISTINCT b FROM unnest(o.pids) p, unnest(pg_blocking_pids(p)) b ORDER BY b)
    AS blocked_by,
  ARRAY(SELECT DISTINCT l.pid FROM pg_locks l
    WHERE NOT l.granted AND pg_blocking_pids(l.pid) && o.pids ORDER BY 1) AS blocks,
  ARRAY(SELECT c.old || ' to ' || c.new FROM pgrunbook.change c
    WHERE c.run_id = r.id AND c.kind = 'rename' AND c.undone_at IS NULL ORDER BY c.id) AS renamed,
  (SELECT a.plan -> 'spec' FROM pgrunbook.approval a WHERE a.run_id = r.id AND a.scope = 'plan'
    ORDER BY a.id DESC LIMIT 1) AS spec
FROM pgrunbook.run r, LATERAL (
  SELECT ARRAY(SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_stat_activity s USING (pid)
    WHERE l.relation IN OF_TABLE AND s.application_name LIKE 'pgrunbook/%%'
      AND l.pid <> pg_backend_pid()) AS pids) o
WHERE r.id = %s
""".replace("OF_TABLE", OF_TABLE)


def moments_of(conn: Connection, runs: Iterable[RunStatus]) -> dict[str, Moment]:
    """How each of the runs stands that is not over, by its id."""
    found = {}
    for run in runs:
        if run.state not in ("finished", "reverted"):
            row = one(conn, _MOMENT, (run.id,))
            limits = tuple(_limits(row.pop("spec") or {}))
            lists = {name: tuple(of) for name, of in row.items() if isinstance(of, list)}
            found[run.id] = Moment(**{**row, **lists}, missing=run.missing, limits=limits)
    return found


def _limits(spec: Mapping[str, Any]) -> Iterator[str]:
    """The thresholds of a phase that are set, and the times of its window."""
    for name in (*THRESHOLDS, *STEERING):
        if spec.get(name):
            yield f"{name} {spec[name]:g}"
    for name in ("window_start", "window_end"):
        if spec.get(name):
            yield f"{name} {spec[name]}"


def missing_of(conn: Connection, run_id: str) -> list[str]:
    """The indexes that a run dropped and that are not there now."""
    query = f"SELECT {MISSING} AS missing FROM pgrunbook.run r WHERE r.id = %s"
    missing: list[str] = one(conn, query, (run_id,))["missing"]
    return missing
