# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures in a report are those of the database, and the ledger vouches for the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.report.store import verify
from tests.integration.conftest import Database, Played
from tests.integration.reports import last_event, read
from tests.integration.steps import Module, Steps

Playbook = Callable[..., Played]


def test_a_dry_run_is_no_go_where_the_phase_leaves_a_difference_that_breaks_something(
    database: Database, module: Module, phase: dict[str, Any], tmp_path: Path
) -> None:
    database.sql("ALTER TABLE session_summaries DROP COLUMN matcher")
    steps = Steps.of(module, database, phase)
    steps.dry_report(tmp_path / "reports", models=phase["phase_models"])
    told = read(tmp_path)
    assert told["verdict"] == "NO-GO" and told["error"] == ""
    (reason,) = told["reasons"]
    assert "the models have column session_summaries.matcher" in reason
    assert "snapshot_ip_type" not in reason


def test_a_run_that_is_refused_has_a_report_that_says_why(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    database.sql("ALTER TABLE session_summaries ADD snapshot_ip_type text")
    before = database.fingerprint()
    played = playbook(database.login, "phase3", phase=phase)
    assert played.status != 0 and "has both" in played.output
    told = read(tmp_path)
    assert told["kind"] == "plan" and told["verdict"] == "NO-GO"
    assert "has both 'snapshot_ip_types' and 'snapshot_ip_type'" in told["reasons"][0]
    assert "nothing was changed" in " ".join(told["summary"])
    assert not any("half-done" in risk["risk"] for risk in told["risks"])
    assert database.fingerprint() == before


def test_a_database_out_of_reach_has_a_report_too(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    login = {**database.login, "dbname": "nowhere"}
    played = playbook(login, "phase3", "--check", phase=phase)
    assert played.status != 0
    told = read(tmp_path)
    assert told["verdict"] == "NO-GO" and "Cannot connect" in told["reasons"][0]
    assert {test["status"] for test in told["tests"]} == {"NOT RUN"}


def test_a_rollback_that_fails_has_a_report_that_says_so(
    database: Database, module: Module, rolled_back: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    phase["phase_queries"] = []
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.backfill(canary=True)
    steps.do("run", state="failed", verdict="NO-GO")
    database.sql(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'no row goes back today'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON session_summaries"
        " FOR EACH ROW EXECUTE FUNCTION public.refuse()"
    )
    played = rolled_back(database, steps.planned["run"]["id"], phase, acknowledged=["refuse"])
    assert played.status != 0 and "The rollback stopped: " in played.output
    told = json.loads((tmp_path / "reports/latest/report.json").read_text("utf-8"))
    assert verify(told) and told["kind"] == "rollback" and told["verdict"] == "NO-GO"
    assert "no row goes back today" in told["reasons"][0]
    assert told["checks"] == [] and told["backfill"]["rows_changed"] == 0
    ended = last_event(database)
    assert ended["kind"] == "failed" and ended["detail"]["report_sha256"] == told["sha256"]


def test_a_long_history_is_taken_together_and_loses_no_row(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    run = steps.planned["run"]["id"]
    database.sql(
        "INSERT INTO pgrunbook.batch (run_id, sweep, row_count, journal, milliseconds, applied_at)"
        " SELECT %s, 0, n, '[]', n, '2026-01-31 04:00+00'::timestamptz + n * interval '1 s'"
        " FROM generate_series(1, 1000) n",
        (run,),
    )
    progress = {
        "slice_seconds": 5.0,
        "rows_changed": 10,
        "rows_done": 0,
        "sweep": 0,
        "hot_percent": 50.0,
        "replay_lag": None,
        "held": ["paused by bob"],
        "held_seconds": 0.5,
        "fallback": "",
    }
    with database.connect() as conn:
        for number in range(1, 1001):
            detail = {**progress, "rows_done": 10 * number}
            conn.execute(
                "INSERT INTO pgrunbook.event (body, previous, hash) VALUES (jsonb_build_object("
                "'at', clock_timestamp(), 'run', %s::text, 'kind', 'progress', 'detail', %s), '',"
                " '')",
                (run, Jsonb(detail)),
            )
        history: dict[str, Any] = plain(ledger.read_history(conn, run))
    batches, slices = history["batches"], history["slices"]
    assert len(batches) == len(slices) == ledger.MAX_POINTS
    assert sum(point["batches"] for point in batches) == 1000
    assert sum(point["rows"] for point in batches) == 500_500
    assert abs(sum(point["seconds"] for point in batches) - 500.5) < 1e-6
    assert batches[0]["at"] == "2026-01-31T04:00:04.000Z"
    assert (batches[0]["p50_ms"], batches[0]["p95_ms"], batches[0]["max_ms"]) == (2.5, 3.9, 4.0)
    assert sum(point["rows"] for point in slices) == 10_000
    assert sum(point["seconds"] for point in slices) == 5000
    assert sum(point["held_seconds"] for point in slices) == 500
    assert slices[-1]["rows_done"] == 10_000
    assert {(s["hot_percent"], s["replay_lag"], s["held"]) for s in slices} == {
        (50.0, None, "paused by bob")
    }
    assert [event["kind"] for event in history["events"]] == ["approved", "rename", "index_rename"]
    assert len(json.dumps(history, indent=2)) < 300_000, "it is plain JSON, and small"


def test_a_database_without_a_ledger_has_no_history(database: Database) -> None:
    with database.connect() as conn:
        assert ledger.read_history(conn, "phase3-nothing") is None


def test_a_run_that_the_ledger_does_not_have_has_an_empty_history(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    Steps.of(module, database, phase).begin()
    with database.connect() as conn:
        history: dict[str, Any] = plain(ledger.read_history(conn, "phase3-nothing"))
    assert history["events"] == history["slices"] == history["batches"] == history["steps"] == []
    assert history["before"] == {} and history["chain"]["events"] > 0
