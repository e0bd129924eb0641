# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs: which there are, which is at work, and which execution owns it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.connection import Connection
from ..core.errors import RunbookError
from ..core.options import option
from ..core.values import plain, read
from . import journal
from .events import event
from .forgotten import Forgotten, list_forgotten
from .schema import exists, knows_refused

STALE_AFTER_SECONDS = 60
NONE_AT_WORK = "none_at_work"  # the code of the error that playbooks/control.yml looks for
TAKEN_OVER = "taken_over"  # the code of the error that roles/runbook/tasks/remember.yml looks for


@dataclass(frozen=True)
class Run:
    """A run as its writing steps refer to it: its id, the plan's hash, which execution of the
    playbook owns it now, which server it was planned on, or is on since a failover, as
    identity.identity() has it, and for how long to wait for a primary."""

    id: str = option("The run's id.")
    plan_hash: str = option("SHA-256 of the plan, in hexadecimal.")
    execution: str = option("Which execution of the playbook owns the run.")
    server: Mapping[str, Any] = option(
        "Which server and history of it the run was planned on, or after a failover is on now.",
        {},
        compare=False,
    )
    reconnect_seconds: int = option(
        "For how many seconds a module waits for a primary, and goes on there, where its "
        "connection is lost.",
        0,
        least=0,
        compare=False,
    )


@dataclass(frozen=True)
class RunRow:
    """A run as its row in the ledger has it. idle is for how many seconds it has not been at work;
    filled is what filled.note() recorded of its table and columns, None where an older version, or
    nobody, recorded that."""

    id: str
    phase: str
    table_name: str
    plan_hash: str
    execution: str
    operator: str
    state: str
    verdict: str | None
    control: str
    control_by: str
    rows_per_second: int
    idle: float
    playbook: str
    filled: dict[str, Any] | None = None


@dataclass(frozen=True)
class Unfinished:
    """A run that is neither finished nor reverted, and kept something. idle is for how many seconds
    it has not been at work; baseline is the state before its first plan, as JSON."""

    id: str
    operator: str
    state: str
    idle: float
    rolling_back: bool
    baseline: dict[str, Any]


@dataclass(frozen=True)
class Latest:
    """The newest run of a phase on a table. finished_at is in ISO 8601, UTC; None before it
    ended."""

    id: str
    state: str
    finished_at: str | None
    verdict: str | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run with its progress. progress is the detail of its latest slice's event, as JSON, empty
    before the first one; claimed is whether nobody but the approver says who approved it, None
    where an older version did not record it; rollouts are those that its plans were
    approved in; missing has the indexes that it dropped and that are not there now; forgotten is
    what was dropped of its journal; playbook is what ran it, as ansible-playbook takes it."""

    id: str
    phase: str
    table_name: str
    state: str
    verdict: str | None
    operator: str
    plan_hash: str
    rows_eligible: int
    started_at: str
    seen_at: str
    finished_at: str | None
    control: str
    control_by: str
    rows_per_second: int
    progress: dict[str, Any]
    rows_changed: int
    rows_refused: int
    claimed: bool | None
    rollouts: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    forgotten: Forgotten | None = None
    playbook: str = ""


OF_TABLE = """(SELECT t.oid FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace
    WHERE s.nspname || '.' || t.relname = r.table_name AND t.relkind IN ('r', 'p'))"""
"""The table of run r, whose name is as it is stored, without quotes, so dots may make it two."""

MISSING = f"""ARRAY(SELECT DISTINCT c.new FROM pgrunbook.change c
    WHERE c.run_id = r.id AND c.kind = 'index_defer' AND c.undone_at IS NULL
      AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid
        WHERE i.indrelid IN {OF_TABLE} AND n.relname = c.new AND i.indisvalid)
    ORDER BY 1)"""
"""The indexes that run r dropped and that are not there now."""

_PLAYBOOK = "coalesce(r.baseline ->> 'playbook', 'playbooks/' || r.phase || '.yml')"
"""What ran run r. An earlier version did not record it; the playbook is called like the phase."""


def has_run(conn: Connection, run_id: str) -> bool:
    """Whether the ledger is there and has this run."""
    return exists(conn) and bool(
        conn.execute("SELECT FROM pgrunbook.run WHERE id = %s", (run_id,)).rowcount
    )


def coverage_before(conn: Connection, run_id: str) -> dict[str, float]:
    """For each column of the phase, how many per cent of the rows had a value before the run's
    first plan."""
    rows = conn.execute(
        "SELECT c.key AS column, (c.value ->> 'before')::float8 AS before FROM pgrunbook.run r,"
        " jsonb_each(r.baseline #> '{counts,coverage}') c WHERE r.id = %s",
        (run_id,),
    )
    return {row["column"]: row["before"] for row in rows}


def unfinished(conn: Connection, phase: str, table: str) -> Unfinished | None:
    """The newest run of a phase on a table if it was neither finished nor reverted, else None.

    A run that failed and kept nothing is left behind: there is nothing to resume.
    """
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT r.id, r.state, r.operator,"
        " extract(epoch FROM clock_timestamp() - r.seen_at)::float8 AS idle,"
        " EXISTS (SELECT FROM pgrunbook.approval a WHERE a.run_id = r.id"
        "         AND a.scope = 'rollback') AS rolling_back,"
        " r.baseline,"
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
    return read(Unfinished, row)


def latest(conn: Connection, phase: str, table: str) -> Latest | None:
    """The newest run of a phase on a table; None where there is none."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT id, state, verdict,"
        """ to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS finished_at"""
        " FROM pgrunbook.run WHERE phase = %s AND table_name = %s"
        " ORDER BY started_at DESC LIMIT 1",
        (phase, table),
    ).fetchone()
    return Latest(**row) if row else None


def require_no_rollback(run: Unfinished | None) -> None:
    """Raise RunbookError when the unfinished run is one whose rollback was begun."""
    if run and run.rolling_back:
        raise RunbookError(
            f"The rollback of run {run.id} was begun and is not finished. Nothing was changed. "
            f"Next step: finish it with playbooks/rollback.yml -e run={run.id}"
        )


def require_idle(run: RunRow | Unfinished | None) -> None:
    """Raise RunbookError when the unfinished run was at work within STALE_AFTER_SECONDS."""
    if run and run.state == "running" and run.idle < STALE_AFTER_SECONDS:
        raise RunbookError(
            f"Run {run.id} of {run.operator} is at work (last seen {run.idle:.0f} s ago). "
            "Nothing was changed. Next step: let it end; if it is dead, try again in "
            f"{STALE_AFTER_SECONDS - run.idle:.0f} s, and its work goes on where it stopped."
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
            f"The ledger has no run {run.id}: nobody approved a plan, or somebody has dropped or "
            "emptied schema pgrunbook since. This call stops here. Next step: run the whole "
            "playbook, without --tags or --start-at-task; if the run has filled rows already, "
            "restore schema pgrunbook from a backup first, because no rollback knows them without."
        )
    if row["execution"] != run.execution:
        raise RunbookError(
            f"Run {run.id} was taken over by another execution, of {row['operator']}. This one "
            "stops here. Next step: see playbooks/status.yml.",
            code=TAKEN_OVER,
        )


def get_run(conn: Connection, run_id: str) -> RunRow:
    """A run's row. Raises RunbookError, naming the latest runs, where there is none."""
    if exists(conn):
        row = conn.execute(
            "SELECT r.*, extract(epoch FROM clock_timestamp() - seen_at)::float8 AS idle,"
            f" {_PLAYBOOK} AS playbook"
            " FROM pgrunbook.run r WHERE id = %s",
            (run_id,),
        ).fetchone()
        if row is not None:
            return read(RunRow, row)
        rows = conn.execute("SELECT id FROM pgrunbook.run ORDER BY started_at DESC LIMIT 5")
        known = ", ".join(r["id"] for r in rows) or "none"
    else:
        known = "none"
    raise RunbookError(
        f"The ledger has no run {run_id!r}. The latest runs: {known}. "
        "Next step: pass one of them with -e run=<id>.",
        code=NONE_AT_WORK,
    )


def runs_with_rows(conn: Connection, table: str) -> list[str]:
    """The runs that have filled rows of a table, and have not given them all back."""
    rows = conn.execute(
        "SELECT id FROM pgrunbook.run r WHERE table_name = %s AND EXISTS (SELECT"
        " FROM pgrunbook.batch b WHERE b.run_id = r.id AND b.reverted_at IS NULL) ORDER BY id",
        (table,),
    )
    return [row["id"] for row in rows]


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


def finish(conn: Connection, run: Run, state: str, verdict: str | None, **detail: Any) -> None:
    """Set the state that a run ends in, and record it as an event."""
    require_owner(conn, run)
    with conn.transaction():
        conn.execute(
            "UPDATE pgrunbook.run SET state = %s, verdict = %s, finished_at = clock_timestamp()"
            " WHERE id = %s",
            (state, verdict, run.id),
        )
        covered = plain(journal.cover(conn, run.id))
        event(conn, run.id, state, verdict=verdict, journal=covered, **detail)


def list_runs(conn: Connection) -> list[RunStatus]:
    """Every run, the newest first, with the rows that it changed and how far it is."""
    if not exists(conn):
        return []
    refused = "0::int8"
    if knows_refused(conn):
        refused = (
            "(SELECT count(*) FROM pgrunbook.unfillable u WHERE u.run_id = r.id"
            " AND u.tried_again_at IS NULL)"
        )
    rows = conn.execute(
        "SELECT r.id, r.phase, r.table_name, r.state, r.verdict, r.operator, r.plan_hash,"
        " r.rows_eligible, r.started_at::text, r.seen_at::text, r.finished_at::text,"
        " r.control, r.control_by, r.rows_per_second,"
        " coalesce((SELECT e.body -> 'detail' FROM pgrunbook.event e WHERE e.body ->> 'run' = r.id"
        "   AND e.body ->> 'kind' = 'progress' ORDER BY e.id DESC LIMIT 1), '{}') AS progress,"
        " coalesce((SELECT sum(b.row_count) FROM pgrunbook.batch b"
        "   WHERE b.run_id = r.id AND b.reverted_at IS NULL), 0)::int8 AS rows_changed,"
        f" {refused} AS rows_refused,"
        " (SELECT to_jsonb(a) -> 'claimed' FROM pgrunbook.approval a WHERE a.run_id = r.id"
        "   ORDER BY a.id DESC LIMIT 1) AS claimed,"
        " ARRAY(SELECT to_jsonb(a) #>> '{rollout,id}' FROM pgrunbook.approval a"
        "   WHERE a.run_id = r.id AND a.scope = 'plan' AND to_jsonb(a) -> 'rollout' <> 'null'"
        f"   ORDER BY a.id) AS rollouts, {MISSING} AS missing, {_PLAYBOOK} AS playbook"
        " FROM pgrunbook.run r ORDER BY r.started_at DESC"
    )
    forgotten = list_forgotten(conn)
    return [
        RunStatus(
            **{**row, "rollouts": tuple(row["rollouts"]), "missing": tuple(row["missing"])},
            forgotten=forgotten.get(row["id"]),
        )
        for row in rows
    ]


def running(conn: Connection) -> str:
    """The id of the one run that is at work. Raises RunbookError where there is none, or several
    to choose from."""
    ids = [run.id for run in list_runs(conn) if run.state == "running"]
    if len(ids) != 1:
        found = f"Several are: {', '.join(ids)}." if ids else "None is."
        raise RunbookError(
            f"Which run is at work? {found} Next step: pass one with -e run=<id>; "
            "playbooks/status.yml lists them all.",
            code="" if ids else NONE_AT_WORK,
        )
    return ids[0]
