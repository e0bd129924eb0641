# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: schema pgrunbook in the database itself, which records runs, approvals, batches,
schema changes and a hash-chained list of events."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from . import journal, ledger_schema
from .connection import Connection, one
from .errors import RunbookError

STALE_AFTER_SECONDS = 60
INDEX_TRIAL, INDEX_KEPT = "index_trial", "index_kept"
"""Kinds of change: an index that is tried, and one that was tried and kept."""
INDEX_PART, INDEX_ATTACHED = "index_part", "index_attached"
"""Kinds of change: an index of one partition that a run made, or that it found and attached; of
the latter, old has the definition."""
MOST_LISTED = 100  # rows that the server refused, of a run
MIGRATED = "migrated"  # the kind of event that a new version of the ledger is

MOST_POINTS = 300  # of a history's slices, and of its batches: as many as a plot shows apart

_ADD_EVENT = """
INSERT INTO pgrunbook.event (body, previous, hash)
SELECT b.body, p.hash, encode(sha256(convert_to(p.hash || b.body::text, 'UTF8')), 'hex')
FROM (SELECT jsonb_build_object('at', clock_timestamp(), 'run', %s::text, 'kind', %s::text,
                                'detail', %s::jsonb) AS body) b,
     (SELECT coalesce((SELECT hash FROM pgrunbook.event ORDER BY id DESC LIMIT 1), '') AS hash) p
"""

_BROKEN_LINKS = """
SELECT id FROM (
    SELECT id, body, previous, hash, coalesce(lag(hash) OVER (ORDER BY id), '') AS expected
    FROM pgrunbook.event) e
WHERE previous <> expected
   OR hash <> encode(sha256(convert_to(previous || body::text, 'UTF8')), 'hex')
ORDER BY id
"""

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
       coalesce(max(held), '') AS held, coalesce(max(fallback), '') AS fallback
FROM (SELECT ntile({MOST_POINTS}) OVER (ORDER BY id) AS part, id,
             (body ->> 'at')::timestamptz AS at, detail ->> 'fallback' AS fallback,
             detail -> 'held' ->> 0 AS held, d.*
      FROM pgrunbook.event, jsonb_extract_path(body, 'detail') detail,
           jsonb_to_record(jsonb_set(detail, '{{seconds}}', detail -> 'slice_seconds')) AS d (
               seconds float8, rows_done int8, rows_changed int8, sweep int,
               hot_percent float8, replay_lag float8, held_seconds float8)
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
FROM (SELECT ntile({MOST_POINTS}) OVER (ORDER BY id) AS part, row_count, milliseconds, applied_at
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
       throttled_rows,
       a.plan -> 'strategy' ->> 'name' AS strategy, (a.plan -> 'spec' ->> 'workers')::int AS workers
FROM (SELECT r.id AS run_id, r.started_at,
             coalesce(sum(rows_changed) FILTER (WHERE free), 0)::int8 AS rows,
             coalesce(sum(rows_changed) FILTER (WHERE NOT free), 0)::int8 AS throttled_rows,
             sum(slice_seconds - held_seconds) FILTER (WHERE free) AS seconds
      FROM pgrunbook.run r JOIN pgrunbook.event e ON e.body ->> 'run' = r.id,
           jsonb_extract_path(e.body, 'detail') detail,
           jsonb_to_record(detail) AS d (rows_changed int8, slice_seconds float8,
                                         held_seconds float8, throttle int),
           LATERAL (SELECT coalesce(throttle, 0) = 0 AS free) f
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


@dataclass(frozen=True)
class Run:
    """A run as its writing steps refer to it: its id, the plan's hash, which execution of the
    playbook owns it now, and which server it was planned on, as identity.identity() has it."""

    id: str
    plan_hash: str
    execution: str
    server: Mapping[str, Any] = field(default_factory=dict, compare=False)


def exists(conn: Connection) -> bool:
    """Whether this database has a ledger, of this version or an earlier one. Raises RunbookError
    where it is of a newer one."""
    return ledger_schema.known_version(conn) > ledger_schema.NONE


def has_run(conn: Connection, run_id: str) -> bool:
    """Whether the ledger is there and has this run."""
    return exists(conn) and bool(
        conn.execute("SELECT FROM pgrunbook.run WHERE id = %s", (run_id,)).rowcount
    )


def unfinished(conn: Connection, phase: str, table: str) -> dict[str, Any] | None:
    """The newest run of a phase on a table if it was neither finished nor reverted, else None.

    A run that failed and kept nothing is left behind: there is nothing to resume. idle is the
    number of seconds since the run was last at work.
    """
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT r.id, r.state, r.operator, r.execution, r.rows_eligible,"
        " extract(epoch FROM clock_timestamp() - r.seen_at)::float8 AS idle,"
        " EXISTS (SELECT FROM pgrunbook.approval a WHERE a.run_id = r.id"
        "         AND a.scope = 'rollback') AS rolling_back,"
        " r.baseline, r.started_at::text,"
        " r.state = 'running'"
        "   OR EXISTS (SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id"
        "              AND b.reverted_at IS NULL)"
        "   OR EXISTS (SELECT FROM pgrunbook.change c WHERE c.run_id = r.id"
        "              AND c.undone_at IS NULL) AS kept"
        " FROM pgrunbook.run r WHERE r.phase = %s AND r.table_name = %s"
        " ORDER BY r.started_at DESC LIMIT 1",
        (phase, table),
    ).fetchone()
    if row is None or row["state"] in ("finished", "reverted") or not row["kept"]:
        return None
    return row


def latest(conn: Connection, phase: str, table: str) -> dict[str, Any]:
    """The newest run of a phase on a table: id, state, and finished_at (ISO 8601, UTC; None before
    it ended). Empty where there is none."""
    if not exists(conn):
        return {}
    row = conn.execute(
        "SELECT id, state,"
        """ to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS finished_at"""
        " FROM pgrunbook.run WHERE phase = %s AND table_name = %s"
        " ORDER BY started_at DESC LIMIT 1",
        (phase, table),
    ).fetchone()
    return row or {}


def require_no_rollback(run: dict[str, Any] | None) -> None:
    """Raise RunbookError when the unfinished run is one whose rollback was begun."""
    if run and run["rolling_back"]:
        raise RunbookError(
            f"The rollback of run {run['id']} was begun and is not finished. Nothing was changed. "
            f"Next step: finish it with playbooks/rollback.yml -e run={run['id']}"
        )


def require_idle(run: dict[str, Any] | None) -> None:
    """Raise RunbookError when the unfinished run was at work within STALE_AFTER_SECONDS."""
    if run and run["state"] == "running" and run["idle"] < STALE_AFTER_SECONDS:
        raise RunbookError(
            f"Run {run['id']} of {run['operator']} is at work (last seen {run['idle']:.0f} s ago). "
            "Nothing was changed. Next step: let it end; if it is dead, try again in "
            f"{STALE_AFTER_SECONDS - run['idle']:.0f} s, and its work goes on where it stopped."
        )


def require_table_idle(conn: Connection, table: str, besides: str = "") -> None:
    """Raise RunbookError when a run of whatever phase, apart from the one besides, was at work on
    the table within STALE_AFTER_SECONDS."""
    if not exists(conn):
        return
    row = conn.execute(
        "SELECT id, phase, operator,"
        " extract(epoch FROM clock_timestamp() - seen_at)::float8 AS idle FROM pgrunbook.run"
        " WHERE table_name = %s AND id <> %s AND state = 'running'"
        " AND seen_at > clock_timestamp() - make_interval(secs => %s)"
        " ORDER BY seen_at DESC LIMIT 1",
        (table, besides, STALE_AFTER_SECONDS),
    ).fetchone()
    if row:
        raise RunbookError(
            f"Run {row['id']} of {row['operator']} is at work on {table}, for phase "
            f"{row['phase']} (last seen {row['idle']:.0f} s ago). Two runs on one table would fail "
            "at random. Nothing was changed. Next step: let it end; if it is dead, try again in "
            f"{STALE_AFTER_SECONDS - row['idle']:.0f} s."
        )


def approve(
    conn: Connection,
    run: Run,
    *,
    scope: str,
    plan: dict[str, Any],
    baseline: dict[str, Any],
    approved_by: str,
    approved_from: str,
    method: str,
    claimed: bool,
    controller_user: str,
) -> None:
    """Make the ledger where there is none, or bring an earlier one to this version; record the run
    or take it over, and the approval. All of it is one transaction.

    claimed is whether nobody but the approver says that they are approved_by; controller_user is
    the account of the operating system that the playbook runs under.

    Raises RunbookError where the plan is not the one that the run's hash names, another run is at
    work, or the role may not change the ledger's tables.
    """
    if plan_hash(plan) != run.plan_hash:
        _require_unmasked(plan)
        raise RunbookError(
            f"The plan does not have the hash {run.plan_hash[:8]} that was approved. "
            "Next step: run the playbook again and read the new plan."
        )
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('pgrunbook.ledger', 0))")
        if scope != "backfill":
            _migrate(conn, run)
        if scope == "plan":
            _claim(conn, run, plan["spec"], baseline, approved_by)
        elif scope == "rollback":
            _take_over(conn, run, approved_by)
        else:
            require_owner(conn, run)
            require_table_idle(conn, get_run(conn, run.id)["table_name"], besides=run.id)
        row = one(
            conn,
            "INSERT INTO pgrunbook.approval"
            " (run_id, scope, plan_hash, plan, approved_by, approved_from, method, claimed,"
            "  controller_user, execution, database_user)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, session_user)"
            " RETURNING database_user",
            (
                run.id,
                scope,
                run.plan_hash,
                Jsonb(plan),
                approved_by,
                approved_from,
                method,
                claimed,
                controller_user,
                run.execution,
            ),
        )
        event(
            conn,
            run.id,
            "approved",
            scope=scope,
            plan_hash=run.plan_hash,
            by=approved_by,
            origin=approved_from,
            method=method,
            claimed=claimed,
            database_user=row["database_user"],
            controller_user=controller_user,
            execution=run.execution,
        )


def is_approved(conn: Connection, run: Run, scope: str, approved_by: str) -> bool:
    """Whether this execution of the run is at work with just this approval."""
    return exists(conn) and bool(
        conn.execute(
            "SELECT FROM pgrunbook.run r JOIN pgrunbook.approval a ON a.run_id = r.id"
            " WHERE r.id = %s AND r.execution = %s AND r.state = 'running'"
            " AND to_jsonb(a) ->> 'execution' = r.execution"
            " AND a.plan_hash = %s AND a.scope = %s AND a.approved_by = %s",
            (run.id, run.execution, run.plan_hash, scope, approved_by),
        ).rowcount
    )


def plan_at_work(conn: Connection, run: Run) -> dict[str, Any] | None:
    """The plan that this execution of the run was approved with, in whatever scope; None where it
    was not approved, or the run is another execution's. Raises RunbookError where somebody has
    changed the plan since. Only reads."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT a.plan FROM pgrunbook.run r JOIN pgrunbook.approval a ON a.run_id = r.id"
        " WHERE r.id = %s AND r.execution = %s AND a.plan_hash = %s ORDER BY a.id DESC LIMIT 1",
        (run.id, run.execution, run.plan_hash),
    ).fetchone()
    if row is None:
        return None
    plan: dict[str, Any] = row["plan"]
    if plan_hash(plan) != run.plan_hash:
        raise RunbookError(
            f"The plan that was approved for run {run.id} no longer has the hash "
            f"{run.plan_hash[:8]}: somebody has changed it in the ledger. Next step: find out who "
            "may write to schema pgrunbook, then run the playbook again and read the new plan."
        )
    return plan


def approved_strategy(conn: Connection, run_id: str) -> dict[str, Any] | None:
    """The strategy of the plan that a run was approved with last; None where there is none."""
    row = conn.execute(
        "SELECT plan -> 'strategy' AS strategy FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    return row["strategy"] if row else None


def approved_plan(conn: Connection, run: Run, scope: str) -> dict[str, Any]:
    """The plan that a person approved in this scope, for this execution. Raises RunbookError where
    nobody did, or this execution does not own the run."""
    require_owner(conn, run)
    row = conn.execute(
        "SELECT plan FROM pgrunbook.approval a"
        " WHERE run_id = %s AND plan_hash = %s AND scope = %s"
        " AND to_jsonb(a) ->> 'execution' = %s ORDER BY id DESC LIMIT 1",
        (run.id, run.plan_hash, scope, run.execution),
    ).fetchone()
    if row is None:
        raise RunbookError(
            f"Nobody approved the {scope} of plan {run.plan_hash[:8]} for this execution of run "
            f"{run.id}. Nothing was changed. Next step: run the whole playbook, without --tags or "
            "--start-at-task."
        )
    plan: dict[str, Any] = row["plan"]
    return plan


def require_approval(conn: Connection, run: Run, scope: str, statements: Sequence[str]) -> None:
    """Raise RunbookError unless this execution owns the run and a person approved, in this scope,
    a plan of this hash that holds every one of the statements."""
    require_statements(approved_plan(conn, run, scope), run, statements)


def require_statements(plan: dict[str, Any], run: Run, statements: Sequence[str]) -> None:
    """Raise RunbookError unless the plan, which a person approved, holds every one of the
    statements."""
    approved = {s for step in plan["steps"] for s in step["statements"]}
    for statement in statements:
        if statement not in approved:
            raise RunbookError(
                f"The approved plan {run.plan_hash[:8]} does not hold this statement: {statement} "
                "The database has changed since. Next step: run the playbook again and read the "
                "new plan."
            )


def require_owner(conn: Connection, run: Run) -> None:
    """Raise RunbookError unless the run is there and belongs to this execution."""
    row = None
    if exists(conn):
        row = conn.execute(
            "UPDATE pgrunbook.run SET seen_at = clock_timestamp() WHERE id = %s"
            " RETURNING execution, operator",
            (run.id,),
        ).fetchone()
    if row is None:
        raise RunbookError(
            f"The ledger has no run {run.id}: nobody approved a plan. Nothing was changed. "
            "Next step: run the whole playbook, without --tags or --start-at-task."
        )
    if row["execution"] != run.execution:
        raise RunbookError(
            f"Run {run.id} was taken over by another execution, of {row['operator']}. This one "
            "stops here. Next step: see playbooks/status.yml."
        )


def get_run(conn: Connection, run_id: str) -> dict[str, Any]:
    """A run's row. Raises RunbookError, naming the latest runs, where there is none."""
    if exists(conn):
        row = conn.execute("SELECT * FROM pgrunbook.run WHERE id = %s", (run_id,)).fetchone()
        if row is not None:
            return row
        rows = conn.execute("SELECT id FROM pgrunbook.run ORDER BY started_at DESC LIMIT 5")
        known = ", ".join(r["id"] for r in rows) or "none"
    else:
        known = "none"
    raise RunbookError(
        f"The ledger has no run {run_id!r}. The latest runs: {known}. "
        "Next step: pass one of them with -e run=<id>."
    )


def later_runs(conn: Connection, run_id: str, table: str) -> list[str]:
    """The other runs that have filled rows of the table after this one had begun to, and have not
    given them all back, the latest first."""
    rows = conn.execute(
        "SELECT b.run_id AS id FROM pgrunbook.batch b JOIN pgrunbook.run r ON r.id = b.run_id"
        " WHERE r.table_name = %(table)s AND r.id <> %(run)s AND b.reverted_at IS NULL"
        " AND b.id > (SELECT min(id) FROM pgrunbook.batch WHERE run_id = %(run)s)"
        " GROUP BY 1 ORDER BY max(b.id) DESC",
        {"table": table, "run": run_id},
    )
    return [row["id"] for row in rows]


def approved_spec(conn: Connection, run_id: str) -> dict[str, Any]:
    """The specification in the plan that was approved last for a run, as Spec.as_dict() gave it."""
    get_run(conn, run_id)
    row = one(
        conn,
        "SELECT plan -> 'spec' AS spec FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id DESC LIMIT 1",
        (run_id,),
    )
    spec: dict[str, Any] = row["spec"]
    return spec


def control(
    conn: Connection, run_id: str, *, action: str, rows_per_second: int, by: str, dry: bool
) -> dict[str, Any]:
    """Tell a run that is at work to pause, resume, abort, or keep below a rate (0 lifts it).

    Raises RunbookError where the run is not at work, or the rate makes no sense.
    """
    row = get_run(conn, run_id)
    if row["state"] != "running":
        raise RunbookError(
            f"Run {run_id} is not at work: it is {row['state']}. Nothing was changed. "
            "Next step: see playbooks/status.yml for one that is."
        )
    if rows_per_second < 0:
        raise RunbookError(
            f"rows_per_second is {rows_per_second}. Next step: pass 0 for no limit, or more."
        )
    before = {"control": row["control"], "rows_per_second": row["rows_per_second"]}
    told = {"rows_per_second": rows_per_second} if action == "throttle" else {"control": action}
    after = {**before, **told, **({"control": ""} if action == "resume" else {})}
    if after != before and not dry:
        with conn.transaction():
            conn.execute(
                "UPDATE pgrunbook.run SET control = %s, control_by = %s, rows_per_second = %s"
                " WHERE id = %s",
                (
                    after["control"],
                    row["control_by"] if action == "throttle" else by,
                    after["rows_per_second"],
                    run_id,
                ),
            )
            event(conn, run_id, action, by=by, rows_per_second=after["rows_per_second"])
    limit = after["rows_per_second"]
    return {
        "changed": after != before,
        "text": f"Run {run_id}: {after['control'] or 'go on'}, "
        f"{f'at most {limit:,} rows/s' if limit else 'at full rate'}.",
        "diff": {"before": _listing(before), "after": _listing(after)},
    }


def finish(conn: Connection, run: Run, state: str, verdict: str | None, **detail: Any) -> None:
    """Set the state that a run ends in, and record it as an event."""
    require_owner(conn, run)
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.run SET state = %s, verdict = %s, finished_at = clock_timestamp()"
            " WHERE id = %s",
            (state, verdict, run.id),
        )
        covered = journal.cover(conn, run.id)
        event(conn, run.id, state, verdict=verdict, journal=covered, **detail)


def note_filled(
    conn: Connection, run_id: str, table_oid: int, columns: Mapping[str, int]
) -> dict[str, Any]:
    """Record which table, by its oid, and which columns, by their numbers, a run fills, unless it
    has filled some already. Returns what is recorded."""
    row = one(
        conn,
        "UPDATE pgrunbook.run r SET filled = CASE WHEN filled IS NULL OR NOT EXISTS ("
        " SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id AND b.reverted_at IS NULL)"
        " THEN %s ELSE filled END WHERE id = %s RETURNING filled",
        (Jsonb({"table": table_oid, "columns": columns}), run_id),
    )
    recorded: dict[str, Any] = row["filled"]
    return recorded


def filled(conn: Connection, run_id: str) -> dict[str, Any] | None:
    """What note_filled() recorded: table and columns. None where nothing was, or by an earlier
    version."""
    found: dict[str, Any] | None = get_run(conn, run_id).get("filled")
    return found


def change_made(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record a schema change, in the transaction that makes it where it has one."""
    conn.execute(
        "INSERT INTO pgrunbook.change (run_id, kind, old, new) VALUES (%s, %s, %s, %s)",
        (run_id, kind, old, new),
    )
    event(conn, run_id, kind, old=old, new=new)


def change_left(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record that there is nothing any more of which a schema change could be taken back."""
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
            " WHERE run_id = %s AND kind = %s AND old = %s AND new = %s AND undone_at IS NULL",
            (run_id, kind, old, new),
        )
        event(conn, run_id, f"{kind}_left", old=old, new=new)


def change_undone(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record that a schema change was taken back."""
    conn.execute(
        "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
        " WHERE run_id = %s AND kind = %s AND old = %s AND new = %s AND undone_at IS NULL",
        (run_id, kind, old, new),
    )
    event(conn, run_id, f"{kind}_undone", old=old, new=new)


def part_made(conn: Connection, run_id: str, kind: str, *, old: str, new: str) -> None:
    """Record what was done to the index of one partition. It is a part of a change that has its
    event already, so it has none."""
    conn.execute(
        "INSERT INTO pgrunbook.change (run_id, kind, old, new) VALUES (%s, %s, %s, %s)",
        (run_id, kind, old, new),
    )


def part_undone(conn: Connection, run_id: str, kind: str, *, new: str) -> None:
    """Record that it was taken back."""
    conn.execute(
        "UPDATE pgrunbook.change SET undone_at = clock_timestamp()"
        " WHERE run_id = %s AND kind = %s AND new = %s AND undone_at IS NULL",
        (run_id, kind, new),
    )


def parts_made(conn: Connection, table: str) -> set[str]:
    """The indexes of single partitions that a run of any phase made on a table, as part_made() has
    their names, and did not take back."""
    if not exists(conn):
        return set()
    found = conn.execute(
        "SELECT DISTINCT c.new FROM pgrunbook.change c JOIN pgrunbook.run r ON r.id = c.run_id"
        " WHERE r.table_name = %s AND c.kind = %s AND c.undone_at IS NULL",
        (table, INDEX_PART),
    )
    return {row["new"] for row in found}


def trial_kept(conn: Connection, run_id: str, index: str) -> None:
    """Record that an index that was tried stays: from now on it is a change like any other."""
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.change SET kind = %s"
            " WHERE run_id = %s AND kind = %s AND new = %s AND undone_at IS NULL",
            (INDEX_KEPT, run_id, INDEX_TRIAL, index),
        )
        event(conn, run_id, INDEX_KEPT, old="", new=index)


def open_trials(conn: Connection, table: str) -> list[dict[str, Any]]:
    """The trials of indexes of a table, in any run, that neither dropped nor kept theirs: run_id
    and new, the index. Where none is at work they were broken off."""
    if not exists(conn):
        return []
    return conn.execute(
        "SELECT DISTINCT c.run_id, c.new FROM pgrunbook.change c"
        " JOIN pgrunbook.run r ON r.id = c.run_id"
        " WHERE r.table_name = %s AND c.kind = %s AND c.undone_at IS NULL ORDER BY 1, 2",
        (table, INDEX_TRIAL),
    ).fetchall()


def changes(conn: Connection, run_id: str, kind: str) -> list[dict[str, Any]]:
    """The schema changes of a run that still stand, the latest first. What was begun twice, such
    as an index build that a crash broke off, is there once."""
    if not exists(conn):
        return []
    return conn.execute(
        "SELECT kind, old, new FROM pgrunbook.change"
        " WHERE run_id = %s AND kind = %s AND undone_at IS NULL"
        " GROUP BY kind, old, new ORDER BY max(id) DESC",
        (run_id, kind),
    ).fetchall()


def standing(conn: Connection, run_id: str) -> list[dict[str, Any]]:
    """All schema changes of a run that still stand, apart from parts of them, the latest first:
    kind, old and new."""
    return conn.execute(
        "SELECT kind, old, new FROM pgrunbook.change WHERE run_id = %s AND undone_at IS NULL"
        " AND kind NOT IN (%s, %s) GROUP BY kind, old, new ORDER BY max(id) DESC",
        (run_id, INDEX_PART, INDEX_ATTACHED),
    ).fetchall()


def rows_standing(conn: Connection, run_id: str) -> int:
    """How many rows the run has changed, as often as it did, and nobody has taken back."""
    rows: int = one(
        conn,
        "SELECT coalesce(sum(row_count), 0)::int8 AS rows FROM pgrunbook.batch"
        " WHERE run_id = %s AND reverted_at IS NULL",
        (run_id,),
    )["rows"]
    return rows


def event(conn: Connection, run_id: str, kind: str, **detail: Any) -> None:
    """Append an event to the chain: its hash covers its body and the hash before it."""
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('pgrunbook.event', 0))")
        conn.execute(_ADD_EVENT, (run_id, kind, _storable(conn, detail)))


def _storable(conn: Connection, detail: dict[str, Any]) -> Jsonb:
    """The detail, with the escapes of JSON as text where the database has not every character."""
    if conn.info.parameter_status("server_encoding") == "UTF8":
        return Jsonb(detail)
    return Jsonb(detail, dumps=lambda given: json.dumps(given).replace("\\u", "\\\\u"))


def broken_links(conn: Connection) -> list[int]:
    """The ids of events that do not follow from the one before: changed, removed or inserted."""
    return [row["id"] for row in conn.execute(_BROKEN_LINKS)]


def plan_hash(plan: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of a plan as canonical JSON: what an approval names."""
    canonical = json.dumps(plan, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def approvals(conn: Connection, run_id: str) -> list[dict[str, Any]]:
    """The approvals of a run, the first one first. claimed, database_user and controller_user are
    None where an older version recorded it."""
    return conn.execute(
        "SELECT scope, plan_hash, approved_by, approved_from, method, approved_at::text,"
        " to_jsonb(a) -> 'claimed' AS claimed, to_jsonb(a) ->> 'database_user' AS database_user,"
        " to_jsonb(a) ->> 'controller_user' AS controller_user"
        " FROM pgrunbook.approval a WHERE run_id = %s ORDER BY id",
        (run_id,),
    ).fetchall()


def history(conn: Connection, run_id: str) -> dict[str, Any]:
    """What the report tells of a run, in JSON's types; times are ISO 8601, UTC.

    Returns what refused() does; events (the progress of slices apart); slices and batches (at most
    MOST_POINTS of each, neighbours taken together; seconds of a batch are those of its worker);
    heap_only_percent (of the updates that followed the canary, None where there were none); steps
    (of each plan that was approved, the first one first); before (the schema that the first plan
    saw); and chain (how many events the whole ledger has, and the last one's hash). Without a
    ledger all is empty.
    """
    if not exists(conn):
        return {}
    plans = conn.execute(
        "SELECT plan -> 'steps' AS steps FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id",
        (run_id,),
    ).fetchall()
    before = conn.execute(
        "SELECT baseline -> 'schema' AS schema FROM pgrunbook.run WHERE id = %s", (run_id,)
    ).fetchone()
    return {
        "events": conn.execute(_EVENTS, (run_id,)).fetchall(),
        "slices": conn.execute(_SLICES, (run_id,)).fetchall(),
        "batches": conn.execute(_BATCHES, (run_id,)).fetchall(),
        **refused(conn, run_id),
        "heap_only_percent": one(conn, _HEAP_ONLY, {"run": run_id})["percent"],
        "steps": [step for plan in plans for step in plan["steps"]],
        "before": (before or {}).get("schema") or {},
        "chain": one(
            conn,
            "SELECT count(*) AS events, coalesce((array_agg(hash ORDER BY id DESC))[1], '') AS head"
            " FROM pgrunbook.event",
        ),
    }


def measured_rate(
    conn: Connection, phase: str, table: str, run_id: str | None = None
) -> dict[str, Any] | None:
    """How fast the newest run of the phase on the table, or that run of it, filled rows: run_id,
    rows, rows_per_second, strategy, workers and throttled_rows. None where no slice has filled any.

    The seconds are those of its slices, the final VACUUM included, but not those in which it was
    held. Slices in which somebody kept it below a rate are left out, and throttled_rows are theirs:
    where the runs have no other ones rows_per_second is None. What a rollback did later
    is left out too.
    """
    if not exists(conn):
        return None
    given = {"phase": phase, "table": table, "run": run_id}
    return conn.execute(_RATE, given).fetchone()


def refused(conn: Connection, run_id: str) -> dict[str, Any]:
    """The rows that the run has set aside, because the server refuses what they would get:
    rows_refused, how many, and refused, the first MOST_LISTED with key (JSON as text), sqlstate and
    message."""
    if not _knows_refused(conn):
        return {"rows_refused": 0, "refused": []}
    return one(
        conn,
        "SELECT count(*)::int8 AS rows_refused, coalesce(jsonb_agg(jsonb_build_object("
        "   'key', key::text, 'sqlstate', sqlstate, 'message', message) ORDER BY n)"
        "  FILTER (WHERE n <= %s), '[]') AS refused"
        " FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM pgrunbook.unfillable"
        "       WHERE run_id = %s AND tried_again_at IS NULL) u",
        (MOST_LISTED, run_id),
    )


def info(conn: Connection, altered: list[str], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Every run, the newest first, what evidence.altered() found, and notes on what is gone or
    cannot be known."""
    found = runs(conn)
    lines = [line for run in found for line in _status(run)] or ["No run yet."]
    holds = "Events, approvals, journals and reports are as they were written."
    return {
        "changed": False,
        "runs": found,
        "altered": altered,
        "notes": list(notes),
        "text": "\n".join(
            [
                *lines,
                *([f"ALTERED  {sentence}" for sentence in altered] or [holds]),
                *(f"NOTE  {sentence}" for sentence in notes),
            ]
        ),
    }


def runs(conn: Connection) -> list[dict[str, Any]]:
    """Every run, the newest first, with the rows that it changed and its latest progress event,
    which is empty before the first one."""
    if not exists(conn):
        return []
    refused = "0::int8"
    if _knows_refused(conn):
        refused = (
            "(SELECT count(*) FROM pgrunbook.unfillable u WHERE u.run_id = r.id"
            " AND u.tried_again_at IS NULL)"
        )
    return conn.execute(
        "SELECT r.id, r.phase, r.table_name, r.state, r.verdict, r.operator, r.plan_hash,"
        " r.rows_eligible, r.started_at::text, r.seen_at::text, r.finished_at::text,"
        " r.control, r.control_by, r.rows_per_second,"
        " coalesce((SELECT e.body -> 'detail' FROM pgrunbook.event e WHERE e.body ->> 'run' = r.id"
        "   AND e.body ->> 'kind' = 'progress' ORDER BY e.id DESC LIMIT 1), '{}') AS progress,"
        " coalesce((SELECT sum(b.row_count) FROM pgrunbook.batch b"
        "   WHERE b.run_id = r.id AND b.reverted_at IS NULL), 0)::int8 AS rows_changed,"
        f" {refused} AS rows_refused,"
        " (SELECT to_jsonb(a) -> 'claimed' FROM pgrunbook.approval a WHERE a.run_id = r.id"
        "   ORDER BY a.id DESC LIMIT 1) AS claimed"
        " FROM pgrunbook.run r ORDER BY r.started_at DESC"
    ).fetchall()


def running(conn: Connection) -> str:
    """The id of the one run that is at work. Raises RunbookError where there is none, or several
    to choose from."""
    ids = [run["id"] for run in runs(conn) if run["state"] == "running"]
    if len(ids) != 1:
        found = f"Several are: {', '.join(ids)}." if ids else "None is."
        raise RunbookError(
            f"Which run is at work? {found} Next step: pass one with -e run=<id>; "
            "playbooks/status.yml lists them all."
        )
    return str(ids[0])


def _require_unmasked(plan: dict[str, Any]) -> None:
    """Raise RunbookError where Ansible has put its mask for secrets into a plan."""
    if any(mask in json.dumps(plan) for mask in ("********", "VALUE_SPECIFIED_IN_NO_LOG")):
        raise RunbookError(
            "Ansible has masked a part of the plan on its way here, because a task with a no_log "
            "value that is also in the plan has handed it on. Nothing was changed. Next step: take "
            "that task out of the play, or keep the secret in a passfile."
        )


def _listing(told: dict[str, Any]) -> str:
    return "".join(f"{key}: {value or 'none'}\n" for key, value in told.items())


def _status(run: dict[str, Any]) -> list[str]:
    """A run in a line, and while it is at work its progress and what it was told in another."""
    verdict = f" {run['verdict']}" if run["verdict"] else ""
    claimed = " (claimed)" if run.get("claimed") else ""
    refused = f" ({run['rows_refused']:,} refused)" if run.get("rows_refused") else ""
    lines = [
        f"{run['id']}  {run['state']}{verdict}, {run['rows_changed']:,} of "
        f"{run['rows_eligible']:,} rows{refused}, by {run['operator']}{claimed}, last seen "
        f"{run['seen_at']}"
    ]
    if run["state"] != "running":
        return lines
    told = [f"told to {run['control']} by {run['control_by']}"] if run["control"] else []
    if run["rows_per_second"]:
        told.append(f"kept below {run['rows_per_second']:,} rows/s")
    shown = [*([run["progress"]["progress"]] if run["progress"] else []), *told]
    return [*lines, *(f"  {text}" for text in shown)]


def _knows_refused(conn: Connection) -> bool:
    """Whether the ledger can hold rows that were refused; an older one gets that with the next
    approval."""
    return ledger_schema.version(conn) >= 2


def _migrate(conn: Connection, run: Run) -> None:
    """Bring the ledger to this version, and record it as an event of the run that needs it."""
    before = ledger_schema.migrate(conn)
    if ledger_schema.NONE < before < ledger_schema.VERSION:
        event(conn, run.id, MIGRATED, **{"from": before, "to": ledger_schema.VERSION})


def _claim(
    conn: Connection,
    run: Run,
    spec: dict[str, Any],
    baseline: dict[str, Any],
    operator: str,
) -> None:
    phase, table = spec["phase"], f"{spec['schema']}.{spec['table']}"
    begun = unfinished(conn, phase, table)
    require_idle(begun)
    require_table_idle(conn, table)
    _require_still_planned(conn, run, begun)
    conn.execute(
        "INSERT INTO pgrunbook.run"
        " (id, phase, table_name, plan_hash, execution, operator, state, rows_eligible, baseline)"
        " VALUES (%s, %s, %s, %s, %s, %s, 'running', %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET plan_hash = excluded.plan_hash,"
        " execution = excluded.execution, operator = excluded.operator, state = 'running',"
        " sweep = 0, end_page = NULL, control = '', control_by = '', rows_per_second = 0,"
        " active_sessions = NULL, seen_at = clock_timestamp()",
        (
            run.id,
            phase,
            table,
            run.plan_hash,
            run.execution,
            operator,
            baseline.get("counts", {}).get("rows_eligible", 0),
            Jsonb(baseline),
        ),
    )
    conn.execute(
        "UPDATE pgrunbook.unfillable SET tried_again_at = clock_timestamp()"
        " WHERE run_id = %s AND tried_again_at IS NULL",
        (run.id,),
    )


def _require_still_planned(conn: Connection, run: Run, begun: dict[str, Any] | None) -> None:
    """Raise RunbookError where the plan of this run is out of date: begun, the unfinished run of
    the phase, is another one, this one has ended, or its rollback was begun."""
    if begun and begun["id"] != run.id:
        raise RunbookError(
            f"Run {begun['id']} of {begun['operator']} on this table was begun after this plan was "
            "made, and is not finished. Nothing was changed. Next step: run the playbook again; it "
            "goes on with that run."
        )
    require_no_rollback(begun)
    ended = conn.execute(
        "SELECT state FROM pgrunbook.run WHERE id = %s AND state IN ('finished', 'reverted')",
        (run.id,),
    ).fetchone()
    if ended:
        raise RunbookError(
            f"Run {run.id}, with which this plan was to go on, is {ended['state']} meanwhile. "
            "Nothing was changed. Next step: run the playbook again and read the new plan."
        )


def _take_over(conn: Connection, run: Run, operator: str) -> None:
    row = get_run(conn, run.id)
    if row["state"] == "running":
        idle = one(
            conn,
            "SELECT extract(epoch FROM clock_timestamp() - seen_at)::float8 AS idle"
            " FROM pgrunbook.run WHERE id = %s",
            (run.id,),
        )["idle"]
        require_idle({**row, "idle": idle})
    require_table_idle(conn, row["table_name"])
    conn.execute(
        "UPDATE pgrunbook.run SET execution = %s, operator = %s, state = 'running',"
        " control = '', control_by = '', rows_per_second = 0, active_sessions = NULL,"
        " seen_at = clock_timestamp()"
        " WHERE id = %s",
        (run.execution, operator, run.id),
    )
