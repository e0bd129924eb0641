# SPDX-License-Identifier: GPL-3.0-or-later
"""phase_gates: what is enforced and what only warns, in a run and on a day after it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Database, Played
from tests.integration.reports import read
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]
Playbook = Callable[..., Played]


@pytest.fixture
def phase(phase: Phase) -> Phase:
    """Without queries, which have an enforce of their own."""
    return {**phase, "phase_queries": []}


def report(folder: Path) -> tuple[dict[str, Any], str]:
    """The newest report, as data and as Markdown."""
    return read(folder), (folder / "reports/latest/report.md").read_text("utf-8")


def gate(told: dict[str, Any], id: str) -> dict[str, Any]:
    found: dict[str, Any] = {check["id"]: check for check in told["checks"]}[id]
    return found


def test_coverage_that_only_warns_is_go_and_holds_on_a_later_day(
    database: Database, module: Module, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    warned = {**phase, "phase_coverage_min": 100, "phase_gates": {"coverage": "warn"}}
    steps = Steps.of(module, database, warned)
    steps.report(tmp_path / "reports", models=phase["phase_models"])
    told, page = report(tmp_path)
    assert told["verdict"] == "GO"
    assert gate(told, "coverage")["status"] == "warn"
    assert gate(told, "coverage")["target"] == "≥ 100 % of all rows (not enforced)"
    assert "Missed, but not enforced by the phase: " in page and "(not enforced)" in page
    assert gate(told, "accuracy")["target"] == "≥ 99 % of 1,000 rows"

    results = [steps.do("data_gates", unfilled_max=0), steps.do("query_gates")]
    judged = {"spec": steps.spec, "results": results, "previous": {}}
    later = module("pgrunbook_post_run", **judged, command="ansible-playbook")
    assert not later["breached"] and "WARN  Coverage of each column" in later["text"]
    enforced = playbook(database.login, "validate", phase={**warned, "phase_gates": {}})
    assert enforced.status == 2, enforced.output
    assert "BREACHED  phase3 on public.session_summaries, 1 of" in enforced.output
    assert "Coverage of each column: wanted ≥ 100 %" in enforced.output


def test_orphans_that_are_enforced_are_told_before_the_first_approval(
    database: Database, approved: Playbook, phase: Phase
) -> None:
    database.sql("ALTER TABLE session_summaries DROP CONSTRAINT fk_session_source_ip")
    database.sql("INSERT INTO session_summaries (session_id, source_ip) VALUES ('x', '192.0.2.1')")
    enforced = {**phase, "phase_gates": {"orphans": "enforce"}}
    missed = "Rows whose source key has no source row: wanted 0, measured 1"
    before = database.fingerprint()
    refused = approved(database, enforced)
    assert refused.status == 2, refused.output
    words = " ".join(refused.output.split())
    assert f"The run could only end NO-GO: {missed}. Nothing was changed." in words
    assert database.fingerprint() == before

    accepted = approved(database, enforced, "-e", "accept_no_go=true", "--tags", "approval")
    assert accepted.status == 0, accepted.output
    assert f"FAIL  {missed}" in accepted.output.split("2/5 Approval")[0]


def test_orphans_that_are_enforced_stop_nothing_and_end_in_no_go(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    database.sql("ALTER TABLE session_summaries DROP CONSTRAINT fk_session_source_ip")
    database.sql("INSERT INTO session_summaries (session_id, source_ip) VALUES ('x', '192.0.2.1')")
    steps = Steps.of(module, database, phase, phase_gates={"orphans": "enforce"})
    steps.report(tmp_path / "reports", models=phase["phase_models"])
    told, page = report(tmp_path)
    missed = "Rows whose source key has no source row: wanted 0, measured 1"
    assert told["verdict"] == "NO-GO" and told["reasons"] == [missed]
    assert gate(told, "orphans")["target"] == "0"
    assert "an enforced gate" in page
    assert told["backfill"]["rows_changed"] > 2000


@pytest.mark.representative
def test_the_models_and_the_canary_go_by_it_too(
    database: Database, module: Module, phase: Phase
) -> None:
    warning = {**phase, "phase_gates": {"schema": "warn", "canary": "warn"}}
    models = phase["phase_models"]
    enforced, warned = (Steps.of(module, database, p) for p in (phase, warning))
    assert enforced.do("drift", models=models)["checks"][0]["status"] == "fail"
    assert warned.do("drift", models=models)["checks"][0]["status"] == "warn"

    enforced.begin()
    enforced.backfill(canary=True)
    database.sql("UPDATE session_summaries SET snapshot_asn = -1 WHERE snapshot_asn IS NOT NULL")
    of = {"canary_of": enforced.planned["run"]["id"]}
    assert enforced.do("data_gates", **of)["checks"][0]["status"] == "fail"
    assert warned.do("data_gates", **of)["checks"][0]["status"] == "warn"


def planned(module: Module, database: Database, phase: Phase, **changes: Any) -> dict[str, Any]:
    """The plan's gate on the coverage that is to be had."""
    checks = Steps.of(module, database, {**phase, **changes}).plan()["checks"]
    return {check["id"]: check for check in checks}["requirement"]


def test_a_coverage_that_is_not_to_be_had_is_no_go_before_the_run(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql("ALTER TABLE session_summaries DROP CONSTRAINT fk_session_source_ip")
    database.sql(
        "UPDATE ip_inventory SET geo_country = NULL WHERE substr(md5(ip_address::text), 1, 1) < '4'"
    )
    found = planned(module, database, phase)
    assert found["status"] == "fail"
    (rows,) = database.sql(
        "SELECT count(*) AS n, count(coalesce(s.snapshot_country, i.geo_country)) AS has,"
        " count(*) FILTER (WHERE s.snapshot_country IS NULL AND i.ip_address IS NOT NULL"
        "   AND i.geo_country IS NULL) AS none FROM session_summaries s"
        " LEFT JOIN ip_inventory i ON i.ip_address = s.source_ip"
    )
    share = rows["has"] * 10000 // rows["n"] / 100
    said = str(found["measured"])
    assert f"snapshot_country can get no more than {share} %" in said
    assert f"{rows['none']:,} rows lack a value, and the source has none" in said
    assert "snapshot_asn can get" not in said
    for gates, status in (
        ({"requirement": "warn"}, "fail"),
        ({"coverage": "warn"}, "warn"),
        ({"coverage": "warn", "requirement": "enforce"}, "fail"),
    ):
        assert planned(module, database, phase, phase_gates=gates)["status"] == status

    asn, country, ip_type = phase["phase_columns"]
    columns = [asn, {**country, "coverage_min": 50}, ip_type]
    content_with_less = planned(module, database, phase, phase_columns=columns)
    assert content_with_less["status"] == "pass"
    assert content_with_less["target"] == "≥ 95 % (snapshot_country 50 %) afterwards"
    steps = Steps.of(module, database, {**phase, "phase_columns": columns})
    steps.forward()
    for own, status in ((50, "pass"), (99, "fail")):
        steps.spec["columns"][1]["coverage_min"] = own
        checks = {c["id"]: c for c in steps.do("data_gates")["checks"]}
        assert checks["coverage"]["status"] == status


def test_rows_whose_source_changed_later_are_not_wrong_and_others_are(
    database: Database, module: Module, phase: Phase
) -> None:
    """Also in rows for which the source lacks another value."""
    steps = Steps.of(module, database, {**phase, "phase_queries": []})
    steps.begin()
    steps.approve("backfill")
    steps.backfill()

    def comparison() -> dict[str, Any]:
        (found,) = [c for c in steps.do("data_gates")["checks"] if c["id"] == "comparison"]
        return dict(found)

    database.sql(
        "UPDATE ip_inventory SET geo_country = 'ZZ' WHERE ip_address IN"
        " (SELECT source_ip FROM session_summaries GROUP BY 1 HAVING bool_and(session_id IN"
        "  (SELECT e ->> 0 FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        "   WHERE e ->> 2 IS NOT NULL)))"
    )
    found = comparison()
    assert found["evidence"]["drifted"] == found["evidence"]["different"] > 1000
    assert found["status"] == "pass"
    database.sql("UPDATE session_summaries SET snapshot_country = 'YY' WHERE session_id < '1'")
    assert comparison()["status"] == "fail"


def test_the_gates_are_part_of_the_plan(database: Database, module: Module, phase: Phase) -> None:
    one, other = (
        Steps.of(module, database, {**phase, "phase_gates": gates}).plan()["plan_hash"]
        for gates in ({}, {"coverage": "warn"})
    )
    assert one != other


def test_a_gate_that_is_none_stops_the_playbook_before_it_reads(
    database: Database, playbook: Playbook, phase: Phase
) -> None:
    wrong = {**phase, "phase_gates": {"covrage": "warn"}}
    played = playbook(database.login, "validate", "--check", phase=wrong)
    words = " ".join(played.output.split())
    assert played.status == 2, played.output
    assert "phase_gates names 'covrage', which is no gate of a phase; these are:" in words
