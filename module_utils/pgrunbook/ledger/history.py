# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger tells of a run: its events, slices, batches and rates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..core.connection import Connection, one
from .refusals import RefusedRow, refused
from .schema import exists

MAX_POINTS = 300  # of a history's slices, and of its batches: as many as a plot shows apart


_UTC = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS at"""

_EVENTS = f"""
SELECT {_UTC.format("(body ->> 'at')::timestamptz")}, body ->> 'kind' AS kind,
       (body -> 'detail') - 'journal' AS detail
FROM pgrunbook.event WHERE body ->> 'run' = %s AND body ->> 'kind' <> 'progress' ORDER BY id
"""

_SLICES = f"""
SELECT {_UTC.format("max(at)")}, sum(seconds)::float8 AS seconds,
       (array_agg(rows_done ORDER BY id DESC))[1] AS rows_done, sum(rows_changed)::int8 AS rows,
       max(sweep) AS sweep, max(replay_lag) AS replay_lag, sum(held_seconds) AS held_seconds,
       round((sum(hot_percent * rows_changed)
              / nullif(sum(rows_changed) FILTER (WHERE hot_percent IS NOT NULL), 0))::numeric, 1
       )::float8 AS hot_percent,
       coalesce(max(held), '') AS held, coalesce(max(fallback), '') AS fallback,
       max(commit_ms) AS commit_ms, max(probe_ms) AS probe_ms,
       min(least_target_ms) AS least_target_ms
FROM (SELECT ntile({MAX_POINTS}) OVER (ORDER BY id) AS part, id,
             (body ->> 'at')::timestamptz AS at, detail ->> 'fallback' AS fallback,
             detail -> 'held' ->> 0 AS held, d.*, g.*
      FROM pgrunbook.event, jsonb_extract_path(body, 'detail') detail,
           jsonb_to_record(jsonb_set(detail, '{{seconds}}', detail -> 'slice_seconds')) AS d (
               seconds float8, rows_done int8, rows_changed int8, sweep int,
               hot_percent float8, replay_lag float8, held_seconds float8),
           jsonb_to_record(coalesce(detail -> 'gentle', '{{}}')) AS g (
               commit_ms float8, probe_ms float8, least_target_ms float8)
      WHERE body ->> 'run' = %s AND body ->> 'kind' = 'progress') s
GROUP BY part ORDER BY part
"""

_BATCHES = f"""
SELECT {_UTC.format("max(applied_at)")}, count(*)::int AS batches,
       sum(row_count)::int8 AS rows, round(sum(milliseconds)::numeric / 1000, 3)::float8 AS seconds,
       round(percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds)::numeric, 1)::float8
         AS p50_ms,
       round(percentile_cont(0.95) WITHIN GROUP (ORDER BY milliseconds)::numeric, 1)::float8
         AS p95_ms,
       round(max(milliseconds)::numeric, 1)::float8 AS max_ms
FROM (SELECT ntile({MAX_POINTS}) OVER (ORDER BY id) AS part, row_count, milliseconds, applied_at
      FROM pgrunbook.batch WHERE run_id = %s) b
GROUP BY part ORDER BY part
"""

_HEAP_ONLY = """
SELECT round((sum(hot_percent * rows_changed) / sum(rows_changed))::numeric, 1)::float8 AS percent
FROM pgrunbook.event e, jsonb_extract_path(e.body, 'detail') detail,
     jsonb_to_record(detail) AS d (hot_percent float8, rows_changed int8)
WHERE e.body ->> 'run' = %(run)s AND e.body ->> 'kind' = 'progress'
  AND hot_percent IS NOT NULL AND rows_changed > 0
  AND e.id > (SELECT min(b.id) FROM pgrunbook.event b
              WHERE b.body ->> 'run' = %(run)s AND b.body ->> 'kind' = 'approved'
                AND b.body -> 'detail' ->> 'scope' = 'backfill')
"""

_RATE = """
SELECT run_id, rows, CASE WHEN rows > 0 AND seconds > 0 THEN rows / seconds END AS rows_per_second,
       throttled_rows, slow, fast,
       a.plan -> 'strategy' ->> 'name' AS strategy, (a.plan -> 'spec' ->> 'workers')::int AS workers
FROM (SELECT r.id AS run_id, r.started_at,
             coalesce(sum(rows_changed) FILTER (WHERE free), 0)::int8 AS rows,
             coalesce(sum(rows_changed) FILTER (WHERE NOT free), 0)::int8 AS throttled_rows,
             sum(slice_seconds - held_seconds) FILTER (WHERE free) AS seconds,
             percentile_cont(0.1) WITHIN GROUP (ORDER BY rate) FILTER (WHERE free) AS slow,
             percentile_cont(0.9) WITHIN GROUP (ORDER BY rate) FILTER (WHERE free) AS fast
      FROM pgrunbook.run r JOIN pgrunbook.event e ON e.body ->> 'run' = r.id,
           jsonb_extract_path(e.body, 'detail') detail,
           jsonb_to_record(detail) AS d (rows_changed int8, slice_seconds float8,
                                         held_seconds float8, throttle int),
           LATERAL (SELECT coalesce(throttle, 0) = 0 AS free,
               CASE WHEN rows_changed > 0 AND slice_seconds > held_seconds
                    THEN rows_changed / (slice_seconds - held_seconds) END AS rate) f
      WHERE r.phase = %(phase)s AND r.table_name = %(table)s
        AND (%(run)s::text IS NULL OR r.id = %(run)s) AND e.body ->> 'kind' = 'progress'
        AND NOT EXISTS (SELECT FROM pgrunbook.event b
                        WHERE b.body ->> 'run' = r.id AND b.body ->> 'kind' = 'approved'
                          AND b.body -> 'detail' ->> 'scope' = 'rollback' AND b.id < e.id)
      GROUP BY r.id) m,
     LATERAL (SELECT plan FROM pgrunbook.approval
              WHERE run_id = m.run_id AND scope = 'plan' ORDER BY id DESC LIMIT 1) a
WHERE (rows > 0 AND seconds > 0) OR throttled_rows > 0
ORDER BY (rows > 0 AND seconds > 0) IS TRUE DESC, started_at DESC LIMIT 1
"""


_CHAIN = """
SELECT count(*) AS events, coalesce((array_agg(hash ORDER BY id DESC))[1], '') AS head
FROM pgrunbook.event
"""


@dataclass(frozen=True)
class Event:
    """An event of a run: when it was, in ISO 8601, UTC; its kind; and its detail, as JSON."""

    at: str
    kind: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class SlicePoint:
    """What a slice did, or neighbouring slices did together: when it ended; its seconds; the rows
    that the run had filled by then; the rows that it filled; the pass over the table; the largest
    replay lag; the seconds in which it was throttled or paused, and one of the reasons; the share
    of heap-only updates; why it made single passes, if it did; and in milliseconds, where they were
    measured, how long a commit and the probe query took beside it (95th percentiles, the most of
    them), and what a batch was to take at least."""

    at: str
    seconds: float | None
    rows_done: int | None
    rows: int | None
    sweep: int | None
    replay_lag: float | None
    held_seconds: float | None
    hot_percent: float | None
    held: str
    fallback: str
    commit_ms: float | None = None
    probe_ms: float | None = None
    least_target_ms: float | None = None


@dataclass(frozen=True)
class BatchPoint:
    """What a batch did, or neighbouring batches did together: when it ended, how many there are,
    their rows and seconds, which are those of their workers, and how long they took."""

    at: str
    batches: int
    rows: int
    seconds: float | None
    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None


@dataclass(frozen=True)
class Chain:
    """How many events the whole ledger has, and the last one's hash."""

    events: int = 0
    head: str = ""


@dataclass(frozen=True)
class History:
    """What the report tells of a run; times are in ISO 8601, UTC.

    events leaves the progress of slices out. slices and batches have at most MAX_POINTS each.
    heap_only_percent is of the updates that followed the canary, None where there were none. steps
    has those of each plan that was approved, the first one first, and before the schema that the
    first plan saw, both as JSON.
    """

    events: tuple[Event, ...] = ()
    slices: tuple[SlicePoint, ...] = ()
    batches: tuple[BatchPoint, ...] = ()
    rows_refused: int = 0
    refused: tuple[RefusedRow, ...] = ()
    heap_only_percent: float | None = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    chain: Chain = Chain()


@dataclass(frozen=True)
class MeasuredRate:
    """How fast a run filled rows: the rows, and how many a second, None where a person's rate kept
    it below all the time. throttled_rows were filled at such a rate, and are not among the rows.
    slow and fast are the rates that a tenth of the slices stayed below, and above."""

    run_id: str
    rows: int
    rows_per_second: float | None
    throttled_rows: int
    slow: float | None
    fast: float | None
    strategy: str
    workers: int


def read_history(conn: Connection, run_id: str) -> History | None:
    """The history of a run, which is empty where the ledger does not have it; None without a
    ledger."""
    if not exists(conn):
        return None
    plans = conn.execute(
        "SELECT plan -> 'steps' AS steps FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id",
        (run_id,),
    ).fetchall()
    before = conn.execute(
        "SELECT baseline -> 'schema' AS schema FROM pgrunbook.run WHERE id = %s", (run_id,)
    ).fetchone()
    aside = refused(conn, run_id)
    return History(
        events=tuple(Event(**row) for row in conn.execute(_EVENTS, (run_id,))),
        slices=tuple(SlicePoint(**row) for row in conn.execute(_SLICES, (run_id,))),
        batches=tuple(BatchPoint(**row) for row in conn.execute(_BATCHES, (run_id,))),
        rows_refused=aside.rows_refused,
        refused=aside.refused,
        heap_only_percent=one(conn, _HEAP_ONLY, {"run": run_id})["percent"],
        steps=[step for plan in plans for step in plan["steps"]],
        before=(before or {}).get("schema") or {},
        chain=Chain(**one(conn, _CHAIN)),
    )


def measured_rate(
    conn: Connection, phase: str, table: str, run_id: str | None = None
) -> MeasuredRate | None:
    """How fast the newest run of the phase on the table, or that run of it, filled rows. None where
    no slice has filled any.

    The seconds are those of its slices, the final VACUUM included, but not those in which it was
    throttled or paused. What a rollback did later is left out.
    """
    if not exists(conn):
        return None
    given = {"phase": phase, "table": table, "run": run_id}
    row = conn.execute(_RATE, given).fetchone()
    return MeasuredRate(**row) if row else None
