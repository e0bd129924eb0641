# SPDX-License-Identifier: GPL-3.0-or-later
"""What a board decides on: the first screen of the report, and what belongs to it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reporting import build, html, verdict_text
from tests.unit.conftest import parsed
from tests.unit.test_report import facts, gate
from tests.unit.test_report_rendering import DIFFERENCE, PAIR, whole

Told = dict[str, Any]

RENAMED = {**DIFFERENCE, "object": "orders.region", "component": "column orders.region",
           "expected": "region (text)", "found": "regions (text)", "by_phase": True}  # fmt: skip

SLOW = {**PAIR, "time_ratio": 0.15, "time_interval": [0.14, 0.2]}


def decided(kind: str = "run", **changes: Any) -> Told:
    found: Told = build(whole(**changes), kind)["decision"]
    return found


def state(told: Told) -> dict[str, str]:
    return {fact["what"]: fact["how"] for fact in told["state"]}


def levels(told: Told) -> list[tuple[str, str]]:
    return [(risk["when"], risk["level"]) for risk in told["risk_levels"]]


def commands(told: Told) -> list[str]:
    return [option["command"] for option in told["options"]]


REFUSED: Told = {"approvals": [], "history": {"events": []}, "canary_gates": {}}
PLAYBOOK = "ansible-playbook -i inventories/here playbooks/"


def test_a_run_that_went_well_says_what_to_do_with_it() -> None:
    told = decided(drift={"differences": [RENAMED]})
    assert told["reason"] == "Every enforced gate passed."
    assert told["recommendation"].startswith("Keep the change")
    assert levels(told) == [("before the run", "high"), ("now", "low")]
    assert commands(told) == [
        f"{PLAYBOOK}validate.yml -e phase_file=vars/phase9.yml",
        f"{PLAYBOOK}rollback.yml -e run=phase9-1",
        f"{PLAYBOOK}forget.yml -e run=phase9-1",
    ]
    assert [option["recommended"] for option in told["options"]] == [True, False, False]
    assert told["options"][1]["takes"] == "about 2.5 s of work, as long as the filling"
    assert "models" in told["options"][1]["effect"], "the application goes back as well"
    assert state(told)["Rows"] == "96 of 96 filled"
    assert state(told)["Column"] == "region; no more regions"
    assert all(each.get("met", True) for each in told["prerequisites"])


def test_missed_gates_that_are_not_enforced_are_in_the_reason() -> None:
    checks = [gate("coverage", 3, passed=False, enforce=False)]
    told = decided(validation={**facts()["validation"], "checks": checks})
    assert told["reason"].endswith("1 gate that the phase does not enforce was missed.")


def test_a_run_that_broke_off_says_what_is_missing_now_and_how_to_go_on() -> None:
    facts_ = whole(error="The backfill: no lock", validation={}, backfill=None)
    facts_["record"]["missing"] = ["ix_a", "ix_b"]
    renamed = {"at": "2026-01-31T04:01:02.500Z", "kind": "rename"}
    detail = {"old": "regions", "new": "region"}
    facts_["record"]["history"]["events"] = [{**renamed, "detail": detail}]
    told = build(facts_)["decision"]
    assert told["reason"] == "The backfill: no lock"
    assert state(told)["Changes"] == "half-done; nothing is at work any more"
    assert state(told)["Indexes"] == "MISSING: ix_a, ix_b"
    assert state(told)["Rows"] == "10 of 96 filled"
    assert state(told)["Column"] == "region; no more regions", "the ledger has the rename"
    assert "name region" in state(told)["Application"]
    first = told["options"][0]
    assert first["command"] == f"{PLAYBOOK}phase9.yml" and first["recommended"]
    assert first["takes"] == (
        "about 8.6 s for 86 rows, at the rate so far, and the build of 2 indexes"
    )
    facts_["record"]["missing"] = []
    undone = {**renamed, "kind": "rename_undone", "detail": detail}
    facts_["record"]["history"]["events"].append(undone)
    assert state(build(facts_)["decision"])["Column"] == "regions, not yet region"
    assert "all that the run dropped are there again" in state(build(facts_)["decision"])["Indexes"]


def test_a_query_that_became_slower_is_told_in_words_and_with_the_index_that_helps() -> None:
    advice = {"name": "ix_r", "columns": ["region"], "include": [], "sql": "CREATE",
              "undo": "DROP", "bytes": 1, "seconds": 0.1}  # fmt: skip
    pair = {**SLOW, "proposal": advice}
    missed = gate("query:of a region", 5, passed=False, title="Query speed-up: of a region",
                  evidence=pair)  # fmt: skip
    told = build(whole(queries={"pairs": [SLOW], "checks": [missed]}))
    assert told["decision"]["reason"] == (
        "Query speed-up: of a region: wanted ≥ 5 × faster, or as much less work from a warm cache, "
        "found 6.7 × slower, 20 × fewer buffers."
    )
    (row,) = (row for row in told["readiness"] if row["criterion"] == "Query performance")
    assert (
        row["current"] == "of a region: 6.7 × slower, 20 × fewer buffers"
        and row["status"] == "FAIL"
    )
    assert "{name: ix_r, columns: [region]}" in told["decision"]["options"][0]["effect"]
    risk = next(r for r in told["risks"] if r["risk"].startswith("Query speed-up"))
    assert "{name: ix_r" in risk["mitigation"] and "0.15" not in risk["risk"]
    met = {each["text"]: each.get("met") for each in told["decision"]["prerequisites"]}
    assert met["Queries on the filled columns are fast enough, with equal results"] is False


def test_before_a_run_the_page_says_what_happens_without_it_and_after_it() -> None:
    told = decided("plan", drift={"differences": [RENAMED]}, **REFUSED)
    assert levels(told) == [("if nothing is done", "high"), ("after the run", "low")]
    assert commands(told) == [f"{PLAYBOOK}phase9.yml", ""]
    assert told["options"][0]["takes"] == "known once the canary's rows are filled"
    assert state(told)["Changes"] == "nothing was changed"
    met = [each.get("met") for each in told["prerequisites"]]
    assert met == [True, True, None, None, None, None, None, None, None]


def test_before_a_run_the_time_has_its_range() -> None:
    given = whole(**REFUSED)
    given["plan"] |= {
        "filling": {"seconds": 120.0, "least": 60.0, "most": 240.0, "measured_on": "x"},
        "estimates": {"backfill": 120.0, "index_build": 6.0, "index_trial": 0.0},
        "counts": given["plan"]["baseline"]["counts"],
    }
    told = build(given, "plan")["decision"]
    assert told["options"][0]["takes"] == "about 2.1 min (66 s to 4.1 min) of work"


def test_what_this_phase_leaves_is_a_risk_after_it() -> None:
    left = {"by_phase": False, "severity": "warning", "breaks": False}
    other = {**RENAMED, **left, "object": "orders.zone"}
    told = decided("plan", drift={"differences": [RENAMED, other]}, **REFUSED)
    assert levels(told)[1] == ("after the run", "medium")


@pytest.mark.parametrize("broken", [{"error": "The preflight: no privileges"}, {}])
def test_before_a_run_that_would_fail_the_risk_of_it_is_high(broken: Told) -> None:
    left = {**RENAMED, "by_phase": False}
    told = decided("plan", drift={"differences": [left]}, **REFUSED, **broken)
    assert levels(told) == [("of a run now", "high")]
    assert commands(told) == [f"{PLAYBOOK}phase9.yml --check"]
    assert told["recommendation"].startswith("Do not proceed")
    assert False in [each.get("met") for each in told["prerequisites"]]


def test_the_mismatch_says_what_was_expected_found_and_is_now() -> None:
    dependents = [
        {"column": "regions", "object": "view v", "follows": True},
        {"column": "regions", "object": "function f()", "follows": False},
    ]
    schema = {"columns": {"regions": "text", "id": "integer", "zone": "text"}, "indexes": {}}
    plan_is = {"dependents": dependents, "schema": schema}
    given = {"drift": {"differences": [RENAMED]}, "plan_is": plan_is}
    told = build(whole(**given))["mismatch"]
    assert told["inconsistencies"] == [
        {
            "component": "column orders.region",
            "expected": "region (text)",
            "found": "regions (text)",
            "now": "as the models have it",
        }
    ]
    assert "models have region (text), the database has regions (text)" in told["cause"]
    assert any("function f()" in each for each in told["affected"])
    assert any("view v" in each for each in told["not_affected"])
    assert any(each.startswith("2 other columns") for each in told["not_affected"])
    still = gate("schema", 2, passed=False, evidence=[RENAMED])
    left = build(whole(**given, schema={"checks": [still]}))["mismatch"]
    assert left["mended"] == [] and left["inconsistencies"][0]["now"].startswith("as found")


def test_what_was_planned_stands_beside_what_happened() -> None:
    rows = {row["what"]: (row["planned"], row["happened"]) for row in build(whole())["foreseen"]}
    assert rows["Rows to fill"] == ("96 of 100", "96")
    assert rows["A batch"] == ("20 ms aimed at", "the longest 400 ms")
    assert rows["Rename the column"] == ("1 statement", "1 change recorded")
    assert build(whole(**REFUSED), "plan")["foreseen"] == []
    assert not {"Start", "End"} & rows.keys()
    times = {"window_start": "2026-01-31T04:00:00Z", "window_end": "2026-01-31T06:00:00Z"}
    plan = {"spec": parsed(**times).as_dict()}
    told = build(whole(plan_is=plan))
    rows = {row["what"]: (row["planned"], row["happened"]) for row in told["foreseen"]}
    assert rows["Start"] == (f"not before {times['window_start']}", told["started_at"])
    assert rows["End"] == (f"before {times['window_end']}", told["finished_at"])


def test_a_rollback_says_that_the_models_have_to_follow() -> None:
    undone = build(whole(column={"schema": {"columns": {}, "indexes": {}}}), "rollback")
    told = undone["decision"]
    assert "ROLLED BACK  Phase nine" in verdict_text(undone), "no permission to begin anything"
    assert "<strong>ROLLED BACK</strong>" in html(undone, {})
    assert "old names" in told["options"][0]["effect"] and told["options"][0]["recommended"]
    assert decided("rollback")["options"][0]["command"] == f"{PLAYBOOK}rollback.yml -e run=phase9-1"
