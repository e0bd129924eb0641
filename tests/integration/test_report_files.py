# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures in a report are those of the database, and the ledger vouches for the report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from psycopg.types.json import Jsonb

from ansible.module_utils.pgrunbook import ledger, report
from tests.integration.conftest import Database, Played, plan_hash
from tests.integration.steps import Module, Steps

Playbook = Callable[..., Played]


def read(folder: Path) -> dict[str, Any]:
    """The newest report; all its files have to be there, and it has to vouch for itself."""
    latest = folder / "reports/latest"
    told: dict[str, Any] = json.loads((latest / "report.json").read_text("utf-8"))
    assert report.verify(told)
    assert {path.name for path in latest.iterdir()} == {
        "report.html",
        "report.md",
        "report.json",
        "junit.xml",
    }
    for name in ("report.html", "report.md"):
        page = (latest / name).read_text("utf-8")
        assert told["title"] in page and told["sha256"] in page
    if told["kind"] != "plan" or told["coverage"]:
        assert "<svg" in (latest / "report.html").read_text("utf-8")
    suite = ElementTree.parse(latest / "junit.xml").getroot()
    broken_off = 1 if told["error"] else 0
    assert suite.get("tests") == str(len(told["checks"]) + broken_off)
    return told


def last_event(database: Database) -> dict[str, Any]:
    query = "SELECT body ->> 'kind' AS kind, body -> 'detail' AS detail, previous FROM {} {}"
    rows = database.sql(query.format("pgrunbook.event", "ORDER BY id DESC LIMIT 1"))
    found: dict[str, Any] = rows[0]
    return found


def sql_of(told: dict[str, Any], test: int) -> list[str]:
    """The statements that a person is told to type into psql for a test."""
    commands = [s["command"] for t in told["tests"] if t["test"] == test for s in t["repeat"]]
    typed = [c.splitlines()[1:-1] for c in commands if c.startswith("psql")]
    return [s for lines in typed for s in "\n".join(lines).split(";\n") if s.strip()]


def test_a_runs_report_and_its_rollbacks_are_what_the_database_says(
    database: Database,
    module: Module,
    approved: Playbook,
    rolled_back: Playbook,
    phase: dict[str, Any],
    tmp_path: Path,
) -> None:
    phase["phase_queries"] = [{**query, "enforce": False} for query in phase["phase_queries"]]
    played = approved(database, phase)
    assert played.status == 0, played.output
    told = read(tmp_path)
    rows = database.sql(
        "SELECT sum(row_count)::int AS rows, count(*)::int AS batches, max(milliseconds) AS longest"
        " FROM pgrunbook.batch"
    )[0]
    assert told["backfill"]["rows_changed"] == rows["rows"]
    assert told["backfill"]["rows_eligible"] == rows["rows"]
    assert told["backfill"]["batches"] == rows["batches"]
    assert told["backfill"]["longest_batch_ms"] == round(rows["longest"], 1)
    history = told["history"]
    assert sum(point["rows"] for point in history["batches"]) == rows["rows"]
    assert sum(point["rows"] for point in history["slices"]) == rows["rows"]
    assert history["slices"][-1]["rows_done"] == rows["rows"]

    ended = last_event(database)
    assert ended["kind"] == "finished"
    assert ended["detail"]["report_sha256"] == told["sha256"]
    assert ended["previous"] == told["chain"]["head"]
    events = database.sql("SELECT count(*)::int AS n FROM pgrunbook.event")[0]["n"]
    assert told["chain"]["events"] == events - 1
    happened = [moment["event"] for moment in told["timeline"]]
    assert happened[0] == "This execution began" and happened[-1] == "Report written"
    made = database.sql("SELECT kind FROM pgrunbook.change ORDER BY id")
    titles = {"Column renamed": "rename", "Index renamed": "index_rename"}
    builds = {"Index build begun": "index_build"}
    recorded = [{**titles, **builds}[event] for event in happened if event in {**titles, **builds}]
    assert recorded == [change["kind"] for change in made]
    assert {c["step"]: c["recorded"] for c in told["changes"] if c["step"] != "backfill"} == {
        kind: [change["kind"] for change in made].count(kind) for kind in recorded
    }

    for test in (1, 2, 5):
        assert [database.sql(statement) for statement in sql_of(told, test)]
    by_hand = database.sql(sql_of(told, 3)[0])[0]
    measured = {c["id"]: c["evidence"] for c in told["checks"]}
    assert {column: float(by_hand[column]) for column in measured["coverage"]} == (
        measured["coverage"]
    )
    assert {column: share["after"] for column, share in told["coverage"].items()} == (
        measured["coverage"]
    )
    compared = database.sql(sql_of(told, 6)[0])[0]
    assert {k: compared[k] for k in measured["comparison"] if k != "drifted"} == {
        k: n for k, n in measured["comparison"].items() if k != "drifted"
    }

    victim = "(SELECT session_id FROM session_summaries WHERE snapshot_asn IS NOT NULL LIMIT 1)"
    changed = database.sql(
        f"UPDATE session_summaries SET snapshot_asn = -1 WHERE session_id = {victim}"
        " RETURNING session_id"
    )
    played = rolled_back(database, told["run_id"], phase)
    assert played.status == 0, played.output
    undone = read(tmp_path)
    assert undone["kind"] == "rollback" and undone["run_id"] == told["run_id"]
    assert undone["title"] == f"Rollback of {told['run_id']}"
    assert undone["backfill"]["rows_changed"] == rows["rows"] - 1
    assert undone["backfill"]["rows_left_alone"] == 1
    assert undone["backfill"]["left_alone"][0][0] == changed[0]["session_id"]
    assert {c["id"]: c["status"] for c in undone["checks"]} == {
        "given_back": "warn",
        "schema_before": "pass",
    }
    assert undone["schema"]["after"] == told["schema"]["before"]
    ended = last_event(database)
    assert ended["kind"] == "reverted" and ended["detail"]["report_sha256"] == undone["sha256"]
    kept = json.loads((tmp_path / f"reports/{told['run_id']}/report.json").read_text("utf-8"))
    assert kept == told, "the rollback leaves the run's report alone"

    def altered() -> list[str]:
        reports = module("pgrunbook_report_info", folder=str(tmp_path / "reports"))["reports"]
        found: list[str] = module("pgrunbook_run_info", login=database.login, reports=reports)[
            "altered"
        ]
        return found

    assert altered() == []
    path = (tmp_path / "reports/latest/report.json").resolve()
    path.write_text(json.dumps({**undone, "verdict": "NO-GO"}), encoding="utf-8")
    assert altered() == [f"{path} was changed since it was written."]


def test_a_dry_run_has_a_report_for_who_decides_on_the_run(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    before = database.fingerprint()
    dry = playbook(database.login, "phase3", "--check", phase=phase)
    assert dry.status == 0, dry.output
    told = read(tmp_path)
    assert told["kind"] == "plan" and told["verdict"] == "GO" and told["approvals"] == []
    assert told["title"] == "Before the run: ADR-007 phase 3, session snapshots"
    assert (tmp_path / "reports/latest").resolve().name == f"{told['run_id']}-plan"
    assert told["plan_hash"] == plan_hash(dry.output) and told["plan_hash"] in told["plan"]
    statuses = {test["title"]: test["status"] for test in told["tests"]}
    assert statuses == {
        "Database connectivity": "PASS",
        "Schema compatibility": "PASS",
        "Coverage": "PASS",
        "Dry-run safety": "PASS",
        "Query performance": "NOT RUN",
        "Data quality": "NOT RUN",
    }
    (schema,) = [check for check in told["checks"] if check["id"] == "schema"]
    assert schema["measured"] == "1 that the phase mends"
    assert any(d["by_phase"] and d["kind"] == "renamed_column" for d in told["drift"])
    assert told["changes"] == [] and told["undo"]["statements"] == []
    for name in ("report.html", "report.md"):
        assert "What would be done" in (tmp_path / "reports/latest" / name).read_text("utf-8")
    assert database.fingerprint() == before


def test_a_dry_run_is_no_go_where_the_phase_leaves_a_difference_that_breaks_something(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    database.sql("ALTER TABLE session_summaries DROP COLUMN matcher")
    dry = playbook(database.login, "phase3", "--check", phase=phase)
    assert dry.status != 0
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
    assert played.status != 0 and "The rollback failed" in played.output
    told = json.loads((tmp_path / "reports/latest/report.json").read_text("utf-8"))
    assert report.verify(told) and told["kind"] == "rollback" and told["verdict"] == "NO-GO"
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
        history = ledger.history(conn, run)
    batches, slices = history["batches"], history["slices"]
    assert len(batches) == len(slices) == ledger.MOST_POINTS
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
        assert ledger.history(conn, "phase3-nothing") == {}


def test_a_run_that_the_ledger_does_not_have_has_an_empty_history(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    Steps.of(module, database, phase).begin()
    with database.connect() as conn:
        history = ledger.history(conn, "phase3-nothing")
    assert history["events"] == history["slices"] == history["batches"] == history["steps"] == []
    assert history["before"] == {} and history["chain"]["events"] > 0
