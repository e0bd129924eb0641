# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds the backfill, and what a person can tell it while it is at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import phase as phase_module
from demo import data
from demo import server as demo_server
from tests.integration.conftest import Database, Played
from tests.integration.pooler import pgbouncer
from tests.integration.servers import started
from tests.integration.standby import streaming
from tests.integration.steps import Module, Result, Steps

Phase = dict[str, Any]

APPLIED = "SELECT count(*) AS n FROM pgrunbook.batch"
EVENTS = "SELECT body -> 'detail' AS detail FROM pgrunbook.event WHERE body ->> 'kind' = %s"


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A run whose backfill is approved, in batches of about 20 rows."""
    return begun(Steps.of(module, database, {**phase, "phase_batch_rows": 20}))


def begun(steps: Steps) -> Steps:
    steps.begin()
    steps.approve("backfill")
    return steps


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for a condition to hold; what it gives."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)
    return found


@contextmanager
def slow_batches(database: Database, seconds: float) -> Iterator[None]:
    """Every batch takes that long, its row locks held."""
    database.sql(
        "CREATE FUNCTION pgrunbook.dawdle() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;"
        "CREATE TRIGGER dawdle AFTER INSERT ON pgrunbook.batch"
        " EXECUTE FUNCTION pgrunbook.dawdle()"
    )
    yield
    database.sql("DROP FUNCTION pgrunbook.dawdle CASCADE")


@contextmanager
def at_work(database: Database, steps: Steps) -> Iterator[list[Result]]:
    """The backfill, one slice after the other in a process of its own; the results, once the
    block is over."""
    results: list[Result] = []

    def work() -> None:
        while not results or not (results[-1]["done"] or results[-1]["stopped"]):
            results.append(_slice(steps))

    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: database.sql(APPLIED)[0]["n"] or not thread.is_alive())
    yield results
    thread.join(60)
    assert not thread.is_alive()


def _slice(steps: Steps) -> Result:
    """One slice, without capturing output, which other threads need."""
    from ansible.module_utils.pgrunbook import ledger
    from ansible.module_utils.pgrunbook.backfill import backfill
    from ansible.module_utils.pgrunbook.core.connection import connect
    from ansible.module_utils.pgrunbook.core.values import plain

    with connect(steps.login, name="test", read_only=False, schemas=["public"]) as conn:
        run = ledger.Run(**steps.planned["run"])
        done = backfill.run_slice(conn, phase_module.parse(steps.spec), run, canary=False)
        result: Result = plain(done)
        return result


def tell(steps: Steps, action: str, **more: Any) -> Result:
    return steps.do("control", action=action, by="bob", **more)


@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "through a pool by session"])
def test_pause_holds_within_a_batch_and_resume_goes_on(
    database: Database, steps: Steps, pooled: bool
) -> None:
    with ExitStack() as stack:
        if pooled:
            steps.login = stack.enter_context(pgbouncer(database, "session"))
        stack.enter_context(slow_batches(database, 0.02))
        results = stack.enter_context(at_work(database, steps))
        assert tell(steps, "pause")["changed"]
        time.sleep(0.2)
        applied = database.sql(APPLIED)
        time.sleep(1.5)
        assert database.sql(APPLIED) == applied
        assert not results or not results[-1]["done"]
        assert "told to pause by bob" in steps.do("run_info")["text"]
        tell(steps, "resume")
    assert results[-1]["done"]
    assert any("paused by bob" in result["held"] for result in results)
    assert any("paused by bob for" in result["progress"] for result in results)
    assert database.sql(EVENTS, ("pause",))[0]["detail"]["by"] == "bob"


def test_abort_ends_the_slice_and_keeps_what_is_done(
    database: Database, module: Module, steps: Steps
) -> None:
    with slow_batches(database, 0.02), at_work(database, steps) as results:
        tell(steps, "abort")
    last = results[-1]
    assert (last["stopped"], last["stopped_by"], last["done"]) == ("abort", "bob", False)
    assert 0 < last["rows_done"] < steps.planned["counts"]["rows_eligible"]
    assert "aborted by bob" in last["progress"]
    steps.do("run", state="failed")
    again = begun(Steps(module, database.login, steps.spec))
    assert again.planned["run"]["id"] == steps.planned["run"]["id"]
    assert again.backfill()["rows_done"] == steps.planned["counts"]["rows_eligible"]


def test_throttle_keeps_below_the_rate(database: Database, steps: Steps) -> None:
    tell(steps, "throttle", rows_per_second=1500)
    started = time.monotonic()
    rows = steps.backfill()["rows_done"]
    assert time.monotonic() - started > 0.8 * rows / 1500
    assert "kept below 1,500 rows/s" in steps.do("run_info")["text"]


def test_a_limit_is_lifted_at_once(database: Database, steps: Steps) -> None:
    """No batch takes on more than a second's worth, so that none has to be waited out."""
    tell(steps, "throttle", rows_per_second=10)
    with at_work(database, steps) as results:
        tell(steps, "throttle", rows_per_second=0)
    assert results[-1]["done"]
    assert database.sql("SELECT min(row_count) AS n FROM pgrunbook.batch")[0]["n"] <= 10


def test_throttle_leaves_a_pause_to_who_said_it(database: Database, steps: Steps) -> None:
    tell(steps, "pause")
    steps.do("control", action="throttle", rows_per_second=5, by="carol")
    assert "told to pause by bob" in steps.do("run_info")["text"]


def test_a_rollback_is_controlled_alike(database: Database, steps: Steps) -> None:
    steps.backfill()
    steps.do("run", state="finished")
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    tell(steps, "abort")
    result = steps.do("backfill", state="reverted")
    assert result["stopped"] == "abort" and not result["done"]
    tell(steps, "resume")
    assert steps.backfill(state="reverted")["rows_done"] == 0


def test_control_in_check_mode_only_tells(database: Database, steps: Steps) -> None:
    result = tell(steps, "pause", check=True)
    assert result["changed"] and result["proof"] == {"read_only": True, "xid": None}
    assert result["diff"]["after"] == "control: pause\nrows_per_second: none\n"
    assert steps.backfill()["held"] == []


def test_control_needs_a_run_at_work(database: Database, module: Module, phase: Phase) -> None:
    steps = Steps.of(module, database, phase)
    assert "None is" in steps.refused("control", action="pause", by="bob")
    begun(steps)
    steps.do("run", state="finished")
    run = steps.planned["run"]["id"]
    assert "not at work" in steps.refused("control", action="pause", by="bob", run_id=run)
    assert "no run" in steps.refused("control", action="pause", by="bob", run_id="x")


def test_control_and_status_playbooks(
    database: Database, playbook: Callable[..., Played], steps: Steps, tmp_path: Path
) -> None:
    played = playbook(database.login, "control", "-e", "do=throttle", "-e", "rows_per_second=9")
    assert played.status == 0 and "at most 9 rows/s" in played.output
    assert "-e do=pause" in playbook(database.login, "control", "-e", "do=stop").output
    status = playbook(database.login, "status")
    assert status.status == 0 and "kept below 9 rows/s" in status.output
    metrics = (tmp_path / "reports" / "pgrunbook.prom").read_text()
    eligible = steps.planned["counts"]["rows_eligible"]
    table = 'table="public.session_summaries"}'
    assert f'pgrunbook_rows_eligible{{host="test",phase="phase3",{table} {eligible}.0' in metrics
    assert f'pgrunbook_state{{host="test",phase="phase3",state="running",{table} 1.0' in metrics


def test_metrics_follow_the_slices(database: Database, steps: Steps, tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    result = steps.backfill(metrics_file=str(path))
    labels = '{host="",phase="phase3",table="public.session_summaries"}'
    assert f"pgrunbook_rows_filled{labels} {result['rows_done']}.0" in path.read_text()
    unwritable = steps.do("backfill", metrics_file=str(path / "is a file.prom"))
    assert "cannot be written" in str(unwritable["warnings"])


def test_waiters_behind_our_locks_hold_it(database: Database, steps: Steps) -> None:
    def update(key: str) -> None:
        database.sql("UPDATE session_summaries SET risk_score = 5 WHERE session_id = %s", (key,))

    first = database.sql(
        "SELECT min(ctid)::text, session_id FROM session_summaries"
        " GROUP BY session_id, ctid ORDER BY ctid LIMIT 200"
    )
    with slow_batches(database, 1.5), at_work_until_held(database, steps) as held:
        time.sleep(0.3)
        threads = [
            threading.Thread(target=update, args=(row["session_id"],)) for row in first[:200:10]
        ]
        for thread in threads:
            thread.start()
        held("waiting for our locks > 0")
    for thread in threads:
        thread.join(30)


@contextmanager
def at_work_until_held(database: Database, steps: Steps) -> Iterator[Callable[[str], None]]:
    """A slice in a thread; held(text) waits for an event or result that names that reason."""
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(_slice(steps)))
    thread.start()

    def held(text: str) -> None:
        thread.join(60)
        assert any(text in reason for reason in results[-1]["held"]), results[-1]["progress"]

    yield held
    thread.join(60)


def test_active_sessions_above_the_start_hold_it(
    database: Database, module: Module, phase: Phase
) -> None:
    few = {"phase_max_active_sessions": 1, "phase_batch_rows": 20, "phase_slice_seconds": 3}
    steps = begun(Steps.of(module, database, {**phase, **few}))
    with slow_batches(database, 0.02), at_work_until_held(database, steps) as held:
        until(lambda: database.sql(APPLIED)[0]["n"])
        with ExitStack() as stack:
            sleepers = []
            for _ in range(3):
                conn = stack.enter_context(database.connect())
                sleepers.append(threading.Thread(target=conn.execute, args=("SELECT pg_sleep(2)",)))
                sleepers[-1].start()
            for sleeper in sleepers:
                sleeper.join()
        held("more active sessions than at the start > 1")


def test_wal_rate_holds_it(database: Database, module: Module, phase: Phase) -> None:
    steps = begun(
        Steps.of(
            module,
            database,
            phase,
            phase_max_wal_mb_per_second=0,
            phase_batch_rows=20,
            phase_slice_seconds=2,
        )
    )
    with slow_batches(database, 0.02):
        results = [steps.do("backfill")]
        while not results[-1]["done"] and not results[-1]["held"]:
            results.append(steps.do("backfill"))
    assert any("MB/s > 0 MB/s" in reason for result in results for reason in result["held"])


@pytest.fixture
def archiving() -> Iterator[demo_server.Server]:
    """A server whose archive command fails, with the demo's database."""
    archives = {"archive_mode": "on", "archive_command": "false", "wal_level": "replica"}
    with started("archiving", settings=archives, sessions=1000) as (server, _):
        yield server


def test_wal_that_is_not_archived_holds_it(
    archiving: demo_server.Server, module: Module, phase: Phase
) -> None:
    database = Database(archiving, data.DATABASE)
    few = {"phase_max_unarchived_wal_mb": 20, "phase_slice_seconds": 1}
    steps = begun(Steps.of(module, database, {**phase, **few}))
    for _ in range(3):
        database.superuser("SELECT pg_switch_wal(), pg_create_restore_point('x')")
    until(lambda: database.sql("SELECT last_failed_wal AS w FROM pg_stat_archiver")[0]["w"])
    result = steps.do("backfill")
    assert result["rows_changed"] == 0 and not result["done"]
    (reason,) = result["held"]
    assert "MB of WAL not archived > 20 MB" in reason
    database.superuser("ALTER SYSTEM SET archive_command = 'true'")
    database.superuser("SELECT pg_reload_conf()")
    assert steps.backfill()["done"]


@pytest.fixture
def standby(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection to a streaming standby of the test's server."""
    with streaming(database) as made:
        login = {**made.login, "user": database.server.user}
        try:
            with psycopg.connect(**login, autocommit=True) as conn:
                yield conn
        finally:
            database.superuser("REVOKE pg_monitor FROM cowrieprocessor")


def test_replica_lag_holds_it(
    database: Database, standby: psycopg.Connection[Any], module: Module, phase: Phase
) -> None:
    database.superuser("GRANT pg_monitor TO cowrieprocessor")
    few = {"phase_max_replay_lag_seconds": 1, "phase_batch_rows": 20, "phase_slice_seconds": 4}
    steps = begun(Steps.of(module, database, {**phase, **few}))
    until(lambda: database.superuser("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
    standby.execute("SELECT pg_wal_replay_pause()")
    with slow_batches(database, 0.05):
        result = steps.do("backfill")
    assert not result["done"]
    (reason,) = result["held"]
    assert "replica lag" in reason and "> 1 s" in reason
    assert result["replay_lag"] > 1 and " lag " in result["progress"]
    standby.execute("SELECT pg_wal_replay_resume()")
    assert steps.backfill()["done"]
