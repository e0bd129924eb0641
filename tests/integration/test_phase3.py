# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole runbook, as its user runs it: dry run, run, rollback; and its reports, whose figures
are those of the database. That a second run changes nothing, the scenario default shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.conftest import Database, Played, plan_hash
from tests.integration.reports import last_event, read, sql_of
from tests.integration.steps import Module

Playbook = Callable[..., Played]
Told = dict[str, Any]

WRONG = """
SELECT count(*) FILTER (WHERE s.snapshot_asn IS DISTINCT FROM i.current_asn
                        OR s.snapshot_country IS DISTINCT FROM i.geo_country
                        OR s.snapshot_ip_type IS DISTINCT FROM i.ip_type) AS wrong, count(*) AS n
FROM session_summaries s JOIN ip_inventory i ON i.ip_address = s.source_ip
"""


def test_dry_run_then_approved_run_then_rollback(
    database: Database,
    module: Module,
    playbook: Playbook,
    rolled_back: Playbook,
    phase: dict[str, Any],
    tmp_path: Path,
) -> None:
    phase["phase_queries"] = [{**query, "enforce": False} for query in phase["phase_queries"]]
    before = database.fingerprint()
    dry = playbook(database.login, "phase3", "--check", "--diff", phase=phase)
    assert dry.status == 0, dry.output
    assert database.fingerprint() == before
    assert "transaction id none" in dry.output
    assert_report_for_who_decides(read(tmp_path), tmp_path, plan_hash(dry.output))

    approval = f"approval={plan_hash(dry.output)}"
    done = playbook(database.login, "phase3", "-e", approval, phase=phase)
    assert done.status == 0, done.output
    told = read(tmp_path)
    assert told["verdict"] == "GO" and told["plan_hash"] == plan_hash(dry.output)
    (row,) = database.sql(WRONG)
    assert row["wrong"] == 0 and row["n"] > 2900
    assert_report_of_a_run(told, database)

    victim = "(SELECT session_id FROM session_summaries WHERE snapshot_asn IS NOT NULL LIMIT 1)"
    changed = database.sql(
        f"UPDATE session_summaries SET snapshot_asn = -1 WHERE session_id = {victim}"
        " RETURNING session_id"
    )
    played = rolled_back(database, told["run_id"], phase)
    assert played.status == 0, played.output
    undone = read(tmp_path)
    assert undone["backfill"]["left_alone"][0][0] == changed[0]["session_id"]
    assert_report_of_a_rollback(undone, told, database)
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


def assert_report_for_who_decides(told: Told, folder: Path, plan: str) -> None:
    assert told["kind"] == "plan" and told["verdict"] == "GO" and told["approvals"] == []
    assert told["title"] == "Before the run: ADR-007 phase 3, session snapshots"
    assert (folder / "reports/latest").resolve().name == f"{told['run_id']}-plan"
    assert told["plan_hash"] == plan and told["plan_hash"] in told["plan"]
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
        assert "What would be done" in (folder / "reports/latest" / name).read_text("utf-8")


def assert_report_of_a_run(told: Told, database: Database) -> None:
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


def assert_report_of_a_rollback(undone: Told, told: Told, database: Database) -> None:
    assert undone["kind"] == "rollback" and undone["run_id"] == told["run_id"]
    assert undone["title"] == f"Rollback of {told['run_id']}"
    assert undone["backfill"]["rows_changed"] == told["backfill"]["rows_changed"] - 1
    assert undone["backfill"]["rows_left_alone"] == 1
    assert {c["id"]: c["status"] for c in undone["checks"]} == {
        "given_back": "warn",
        "schema_before": "pass",
    }
    assert undone["schema"]["after"] == told["schema"]["before"]
    ended = last_event(database)
    assert ended["kind"] == "reverted" and ended["detail"]["report_sha256"] == undone["sha256"]
