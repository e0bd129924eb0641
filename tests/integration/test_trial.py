# SPDX-License-Identifier: GPL-3.0-or-later
"""An index that would serve a query is tried for real: approved, built, measured, dropped or kept;
and whatever dies meanwhile, none is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from ansible.module_utils.pgrunbook import catalog, ledger
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.ddl.index_advice import IndexAdvice
from ansible.module_utils.pgrunbook.gates import index_trial
from tests.integration.conftest import ROOT, Database, parsed
from tests.integration.steps import TABLES, Module, Steps, content
from tests.integration.test_index_advice import MISSED_BY_ALL, REFERENCE_INDEXES, reference_only
from tests.integration.test_modules import keys_that_differ_from_the_documentation

Phase = dict[str, Any]


NAME = "ix_session_summaries_snapshot_country_snapshot_ip_type"
QUERIES = yaml.safe_load((ROOT / "playbooks/vars/phase3.yml").read_text("utf-8"))["phase_queries"]
CHANGES = "SELECT kind, new, undone_at IS NOT NULL AS undone FROM pgrunbook.change ORDER BY id"
PATIENCE_S = 60.0

ON_SNAPSHOT = (
    "SELECT count(*) FROM {table} WHERE {snapshot_country} = 'CN'"
    " AND {snapshot_ip_type} = 'DATACENTER'"
)
ONE_JOIN = (
    "SELECT count(*) FROM {table} ss JOIN {source} ip ON ss.source_ip = ip.ip_address"
    " WHERE ip.geo_country = 'CN' AND ip.ip_type = 'DATACENTER'"
)
JOIN = f"SELECT max(count) FROM ({' UNION ALL '.join([ONE_JOIN] * 20)}) joins"
"""Twenty JOINs: about twenty times the work of one scan of the table, and some thousand times that
of the index. A wanted speed-up of 100 is far from both."""

MET_WITH_THE_INDEX = {
    "phase_queries": [{"name": "finding's", "snapshot": ON_SNAPSHOT, "baseline": JOIN}],
    "phase_speedup_min": 100,
    "phase_repetitions": 3,
}
# A shell ignores SIGINT for what it starts in the background, and so would this program.
PROGRAM = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
import tests.conftest
from ansible.module_utils.testing import patch_module_args
import pgrunbook_index_trial
with patch_module_args(json.loads(sys.argv[1])):
    pgrunbook_index_trial.main()
"""


def begun(module: Module, database: Database, phase: Phase, way: str) -> Steps:
    """A run of the phase with the reference finding's indexes only, up to its approval."""
    steps = Steps.of(
        module, database, {**reference_only(phase, database), **phase, "phase_index_advice": way}
    )
    steps.begin()
    return steps


def fill(steps: Steps) -> None:
    """A run up to its validation."""
    steps.begin()
    steps.approve("backfill")
    steps.defer()
    steps.backfill()
    steps.build()


def tried(steps: Steps, **arguments: Any) -> dict[str, Any]:
    return steps.do("index_trial", pairs=steps.do("query_gates")["pairs"], **arguments)


def indexes(database: Database) -> dict[str, bool]:
    """The table's indexes by name, and whether each is valid."""
    rows = database.sql(
        "SELECT indexrelid::regclass::text AS name, indisvalid AS valid FROM pg_index"
        " WHERE indrelid = 'session_summaries'::regclass"
    )
    return {row["name"]: row["valid"] for row in rows}


def trial_statements(planned: dict[str, Any]) -> list[str]:
    return [
        sql
        for step in planned["plan"]["steps"]
        if step["id"] == "index_trial"
        for sql in step["statements"]
    ]


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


@contextmanager
def somebody_writes(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has written to the table: CREATE INDEX CONCURRENTLY waits for its end."""
    with psycopg.connect(database.conninfo()) as conn:
        conn.execute("UPDATE session_summaries SET updated_at = now() WHERE risk_score = -1")
        yield conn


@pytest.fixture
def as_it_is(phase: Phase) -> Phase:
    """Phase 3 with its own queries."""
    return {**phase, "phase_queries": QUERIES}


@pytest.fixture
def phase(phase: Phase) -> Phase:
    return {**phase, **REFERENCE_INDEXES, **MET_WITH_THE_INDEX}


@pytest.mark.representative
def test_an_index_is_tried_measured_and_dropped_again(
    any_database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, any_database, phase, "try")
    before = indexes(any_database)
    measured = steps.do("query_gates")
    result = steps.do("index_trial", pairs=measured["pairs"])
    (pair,), (check,) = result["pairs"], result["checks"]
    found = pair["proposal"]["tried"]
    assert indexes(any_database) == before
    assert any_database.sql(CHANGES)[-1] == {"kind": "index_trial", "new": NAME, "undone": True}
    assert result["queries"] == [pair["proposal"]["sql"], pair["proposal"]["undo"]]
    assert result["changed"]

    assert found["met"] and not found["kept"]
    assert found["time_ratio"] >= 2 and found["buffer_ratio"] >= 100
    assert found["bytes"] > 0 and found["seconds"] > 0
    plan = found["snapshot"]["plan"]
    assert plan["Plans"][0]["Index Name"] == NAME, "the index was used"
    assert pair["time_ratio"] == measured["pairs"][0]["time_ratio"], "as without the index"
    assert check["status"] == "fail", "the indexes at hand miss the target"
    assert "With an index on (snapshot_country, snapshot_ip_type), built in" in check["measured"]
    assert "and dropped again" in check["measured"]
    assert f"it meets the target. In phase_indexes: {{name: {NAME}" in check["measured"]


def test_an_index_that_does_not_help_enough_says_so(
    database: Database, module: Module, as_it_is: Phase
) -> None:
    """Three queries miss; the first and the third are served by the same index."""
    steps = begun(module, database, {**as_it_is, **REFERENCE_INDEXES, **MISSED_BY_ALL}, "keep")
    before = indexes(database)
    result = tried(steps)
    assert indexes(database) == before, "none meets its target, so none is kept"
    assert [p["proposal"]["tried"]["met"] for p in result["pairs"]] == [False] * 3
    assert "it misses the target all the same" in result["checks"][0]["measured"]
    names = [pair["proposal"]["name"] for pair in result["pairs"]]
    assert names[0] == names[2] == NAME != names[1]
    assert [sql.split()[0] for sql in result["queries"]] == ["CREATE", "DROP"] * 2


def test_the_plan_holds_what_could_be_built_and_its_hash_says_so(
    database: Database, module: Module, phase: Phase
) -> None:
    """Before the rename and before the rows are filled; by the names that hold afterwards."""
    plans = {}
    for way in ("estimate", "try", "keep"):
        steps = Steps.of(module, database, {**phase, "phase_index_advice": way})
        plans[way] = steps.do("plan")
    assert trial_statements(plans["estimate"]) == []
    assert {step["id"] for step in plans["estimate"]["plan"]["steps"]} == {
        *("rename", "convert", "index_rename", "index_defer", "backfill", "index_build")
    }
    for way in ("try", "keep"):
        (statement,) = trial_statements(plans[way])
        assert statement == (
            f'CREATE INDEX CONCURRENTLY "{NAME}" ON "public"."session_summaries"'
            ' ("snapshot_country", "snapshot_ip_type")'
        )
        text = " ".join(plans[way]["text"].split())
        assert f'DROP INDEX CONCURRENTLY "public"."{NAME}"' in text
        assert "only if its query misses its speed-up" in text
    assert len({planned["plan_hash"] for planned in plans.values()}) == 3


def test_the_plan_holds_nothing_for_a_query_that_has_its_index(
    database: Database, module: Module, phase: Phase
) -> None:
    covering = {"name": "covering", "columns": ["snapshot_country", "snapshot_ip_type"]}
    with_it = {**phase, "phase_indexes": [*phase["phase_indexes"], covering]}
    steps = Steps.of(module, database, {**with_it, "phase_index_advice": "try"})
    assert trial_statements(steps.do("plan")) == []


def test_a_trial_that_nobody_approved_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, database, phase, "estimate")
    steps.spec["index_advice"] = "try"
    before = indexes(database)
    pairs = steps.do("query_gates")["pairs"]
    message = steps.refused("index_trial", pairs=pairs)
    assert "does not hold this statement: CREATE INDEX CONCURRENTLY" in message
    assert indexes(database) == before


def test_check_mode_writes_nothing(database: Database, module: Module, phase: Phase) -> None:
    steps = begun(module, database, phase, "try")
    pairs = steps.do("query_gates")["pairs"]
    before = database.fingerprint()
    result = steps.do("index_trial", pairs=pairs, check=True)
    assert result["proof"] == {"read_only": True, "xid": None}
    assert database.fingerprint() == before
    real = steps.do("index_trial", pairs=pairs)
    assert result["queries"] == real["queries"] and result["changed"] is real["changed"] is True
    assert result.keys() == real.keys()
    assert keys_that_differ_from_the_documentation("index_trial", real) == set()


def test_a_query_that_meets_its_target_gets_no_trial(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, database, {**phase, "phase_speedup_min": 0.001}, "try")
    assert trial_statements(steps.planned), "it could have missed"
    result = tried(steps)
    assert result["changed"] is False and result["queries"] == []
    assert result["checks"][0]["status"] == "pass"
    assert all(change["kind"] != "index_trial" for change in database.sql(CHANGES))


@pytest.mark.parametrize(
    ("times", "why"),
    [
        ({"window_end": "2026-01-31T04:00:00+00:00"}, "has ended"),
        ({"window_start": "2999-01-31T04:00:00+00:00"}, "has not opened yet"),
    ],
)
def test_nothing_is_built_outside_of_the_window(
    database: Database, module: Module, phase: Phase, times: Phase, why: str
) -> None:
    steps = begun(module, database, phase, "try")
    steps.approved_with(database, **times)
    result = tried(steps)
    assert result["queries"] == []
    assert f"not tried: the maintenance window {why}" in result["checks"][0]["measured"]


def test_an_index_that_meets_the_target_is_kept_and_rolled_back(
    database: Database, module: Module, phase: Phase
) -> None:
    before = content(database, *TABLES)
    steps = Steps.of(module, database, {**phase, "phase_index_advice": "keep"})
    fill(steps)
    result = tried(steps)
    (pair,), (check,) = result["pairs"], result["checks"]
    assert indexes(database)[NAME] is True
    assert NAME in result["schema"]["indexes"]
    assert check["status"] == "pass", check["measured"]
    assert "was kept. Without it: " in check["measured"]
    entry = f"Put it into phase_indexes: {{name: {NAME}, columns: [snapshot_country, "
    assert entry + "snapshot_ip_type]}" in check["measured"]
    assert pair["buffer_ratio"] == pair["proposal"]["tried"]["buffer_ratio"] >= 100
    steps.do("run", state="finished", verdict="GO")

    again = Steps.of(module, database, {**phase, "phase_index_advice": "keep"})
    assert not again.plan()["needed"], "a kept index is not what a broken trial left"
    assert again.do("query_gates")["pairs"][0]["proposal"] is None

    steps.back()
    assert content(database, *TABLES) == before
    assert [change for change in database.sql(CHANGES) if not change["undone"]] == []


def test_a_run_that_keeps_an_index_says_so_in_its_report(
    database: Database, module: Module, tmp_path: Path, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase, phase_index_advice="keep")
    report = steps.report(tmp_path, models=phase["phase_models"], trial=True)
    assert report["verdict"] == "GO"
    assert NAME in report["schema"]["after"]["indexes"]
    assert f'DROP INDEX CONCURRENTLY "public"."{NAME}"' in report["undo"]["statements"]
    assert "Index of a trial kept" in [moment["event"] for moment in report["timeline"]]
    text = (tmp_path / "latest/report.md").read_text(encoding="utf-8")
    assert "Meets the target; kept" in text and "Put it into phase_indexes: {name" in text


def started(steps: Steps) -> subprocess.Popen[str]:
    """The trial as a process of its own, which can be killed."""
    arguments = {
        "login": steps.login,
        "spec": steps.spec,
        "run": steps.planned["run"],
        "pairs": steps.do("query_gates")["pairs"],
    }
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def at_work(database: Database, statement: str) -> list[int]:
    """The sessions of a trial that are in the midst of a statement which begins so."""
    rows = database.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'pgrunbook/index_trial %%' AND state = 'active'"
        " AND query LIKE %s",
        (f"{statement}%",),
    )
    return [row["pid"] for row in rows]


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_a_build_that_fails_leaves_nothing(
    database: Database, module: Module, phase: Phase, how: str
) -> None:
    """The build waits for somebody's transaction; somebody cancels it, or types Ctrl-C."""
    steps = begun(module, database, phase, "try")
    before = indexes(database)
    with somebody_writes(database) as other:
        process = started(steps)
        until(lambda: at_work(database, "CREATE INDEX"), "it is not built")
        until(lambda: indexes(database).get(NAME) is False, "there is no index yet")
        if how == "cancel":
            (pid,) = at_work(database, "CREATE INDEX")
            database.sql("SELECT pg_cancel_backend(%s)", (pid,))
        else:
            process.send_signal(signal.SIGINT)
        until(lambda: at_work(database, "DROP INDEX"), "it is not dropped")
        other.rollback()
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    if how == "cancel":
        assert "canceling statement due to user request" in json.loads(out)["msg"]
    assert indexes(database) == before
    assert database.sql(CHANGES)[-1] == {"kind": "index_trial", "new": NAME, "undone": True}


def test_a_measurement_that_fails_leaves_nothing(
    database: Database, module: Module, phase: Phase
) -> None:
    """The second measurement waits for a lock until it is cancelled."""
    waits = f"{ON_SNAPSHOT} AND (SELECT pg_advisory_lock_shared(7) IS NOT NULL)"
    query = {"name": "finding's", "snapshot": waits, "baseline": JOIN}
    changed = {"phase_queries": [query], "phase_acknowledged": ["pg_advisory_lock_shared()"]}
    steps = begun(module, database, {**phase, **changed}, "try")
    before = indexes(database)
    pairs = steps.do("query_gates")["pairs"]
    assert pairs[0]["proposal"]["name"] == NAME
    with database.connect() as other:
        other.execute("SELECT pg_advisory_lock(7)")

        def cancel() -> None:
            until(lambda: at_work(database, "SELECT 0 AS side"), "it does not measure")
            (pid,) = at_work(database, "SELECT 0 AS side")
            database.sql("SELECT pg_cancel_backend(%s)", (pid,))

        thread = threading.Thread(target=cancel)
        thread.start()
        message = steps.refused("index_trial", pairs=pairs)
        thread.join()
    assert "SQLSTATE 57014" in message
    assert indexes(database) == before
    assert database.sql(CHANGES)[-1] == {"kind": "index_trial", "new": NAME, "undone": True}


def crashed(database: Database, steps: Steps) -> None:
    """Kill the trial's process while it builds; its session ends too, and leaves half an index."""
    with somebody_writes(database) as other:
        process = started(steps)
        until(lambda: indexes(database).get(NAME) is False, "there is no index yet")
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        (pid,) = at_work(database, "CREATE INDEX")
        database.sql("SELECT pg_terminate_backend(%s)", (pid,))
        until(lambda: not at_work(database, ""), "its session does not end")
        other.rollback()
    assert indexes(database)[NAME] is False
    assert database.sql(CHANGES)[-1] == {"kind": "index_trial", "new": NAME, "undone": False}
    an_hour_later(database)


def an_hour_later(database: Database) -> None:
    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")


@pytest.mark.parametrize("way", ["estimate", "try"])
def test_what_a_crash_left_is_dropped_when_the_run_goes_on(
    database: Database, module: Module, phase: Phase, way: str
) -> None:
    steps = begun(module, database, phase, "try")
    before = indexes(database)
    crashed(database, steps)
    run = steps.planned["run"]["id"]
    steps.spec["index_advice"] = way
    planned = steps.plan()
    assert planned["run"]["id"] == run and planned["needed"]
    drop = f'DROP INDEX CONCURRENTLY "public"."{NAME}"'
    assert planned["plan"]["steps"][0]["statements"] == [drop]
    assert "Drop indexes that a broken trial left behind" in planned["text"]
    assert len(trial_statements(planned)) == (way == "try")
    shown = steps.do("index_trial", state="absent", check=True)
    assert shown["queries"] == [drop]
    assert NAME in shown["diff"]["before"] and NAME not in shown["diff"]["after"]
    assert "was taken over by" in steps.refused("index_trial", state="absent"), "nobody approved it"
    an_hour_later(database)
    steps.approve("plan")
    assert steps.do("index_trial", state="absent")["queries"] == [drop]
    assert indexes(database) == before
    assert all(change["undone"] for change in database.sql(CHANGES) if change["new"] == NAME)
    assert steps.do("index_trial", state="absent")["changed"] is False
    if way == "try":
        assert tried(steps)["pairs"][0]["proposal"]["tried"]["met"]
        assert indexes(database) == before


def test_what_a_crash_left_is_dropped_by_the_run_of_another_phase(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = begun(module, database, phase, "try")
    before = indexes(database)
    crashed(database, steps)
    other = Steps.of(module, database, {**phase, "phase_name": "phase4"})
    planned = other.plan()
    assert planned["run"]["id"].startswith("phase4-")
    other.approve("plan")
    other.do("index_trial", state="absent")
    assert indexes(database) == before


def test_what_a_crash_left_is_dropped_by_the_rollback(
    database: Database, module: Module, phase: Phase
) -> None:
    before = content(database, *TABLES)
    steps = Steps.of(module, database, {**phase, "phase_index_advice": "try"})
    fill(steps)
    crashed(database, steps)
    steps.back()
    assert content(database, *TABLES) == before
    assert all(change["undone"] for change in database.sql(CHANGES))


def test_an_index_of_that_name_that_somebody_else_made_is_left_alone(
    database: Database, module: Module, phase: Phase
) -> None:
    """It came between the look at the catalog and the build."""
    steps = begun(module, database, phase, "try")
    (statement,) = trial_statements(steps.planned)
    spec, run = parsed(phase), ledger.Run(**steps.planned["run"])
    with connect(database.login, name="test", read_only=False) as conn:
        info = catalog.inspect(conn, spec.table)
        database.sql(f"CREATE INDEX {NAME} ON session_summaries (created_at)")
        with pytest.raises(psycopg.errors.DuplicateTable):
            advice = IndexAdvice(NAME, (), (), statement, "", bytes=0, seconds=0.0)
            index_trial._try(conn, spec, info, run, advice, [])
    assert indexes(database)[NAME] is True
    assert database.sql(CHANGES)[-1] == {"kind": "index_trial", "new": NAME, "undone": True}


def test_a_name_that_something_else_bears_is_not_advised(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(f"CREATE TABLE {NAME} ()")
    steps = begun(module, database, phase, "try")
    assert tried(steps)["pairs"][0]["proposal"]["name"] == f"{NAME}_1"
