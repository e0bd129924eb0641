# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate on the schema says of the phase and of what somebody has acknowledged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Database, Played
from tests.integration.drift.shop import (
    kinds,
)
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]


def test_an_acknowledged_difference_is_told_and_does_not_break_the_gate(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(
        "ALTER TABLE session_summaries ALTER matcher TYPE varchar(4) USING NULL;"
        "ALTER TABLE ip_inventory ALTER geo_country TYPE varchar(1) USING NULL"
    )
    steps = Steps.of(module, database, phase)
    first = steps.do("drift", models=phase["phase_models"])
    broken = {d["object"] for d in first["differences"] if d["breaks"]}
    one, other = "session_summaries.matcher", "ip_inventory.geo_country"
    assert broken >= {one, other}
    assert f'to accept it: phase_acknowledged_drift: ["{one}"]' in first["text"]
    some = {**phase, "phase_acknowledged_drift": [one, "session.typo"]}
    second = Steps.of(module, database, some).do("drift", models=phase["phase_models"])
    assert {d["object"] for d in second["differences"] if d["breaks"]} == broken - {one}
    told = {d["object"]: d for d in second["differences"]}
    assert (told[one]["acknowledged"], told[one]["severity"]) == (True, "critical")
    assert "as character varying(4) (acknowledged)" in " ".join(second["text"].split())
    typo = told["session.typo"]
    assert (typo["kind"], typo["severity"]) == ("unmatched_acknowledgement", "note")
    assert "session.typo" in second["text"]
    assert second["checks"][0]["status"] == "fail"
    every = {**phase, "phase_acknowledged_drift": sorted(broken)}
    third = Steps.of(module, database, every).do("drift", models=phase["phase_models"])
    assert third["checks"][0]["status"] == "pass"
    assert "apart from what is acknowledged" in third["checks"][0]["measured"]


@pytest.mark.representative
def test_the_phases_own_drift_is_seen_before_the_rename_and_gone_after(
    any_database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, any_database, phase)
    before = steps.do("drift", models=phase["phase_models"])
    assert kinds(before["differences"]) == [
        ("renamed_column", "session_summaries.snapshot_ip_type", "critical"),
        ("renamed_index", "ix_session_summaries_snapshot_ip_type", "note"),
    ]
    first = before["differences"][0]
    assert first["text"] == (
        "the models have column session_summaries.snapshot_ip_type (text), the database has"
        " snapshot_ip_types (text) in its place: this phase renames it"
    )
    assert [option["recommended"] for option in first["resolutions"]] == [True, False, False]
    (statement,) = [q for q in steps.plan()["queries"] if q in first["resolutions"][0]["sql"]]
    assert "RENAME COLUMN" in statement
    assert before["checks"][0]["status"] == "fail"
    steps.approve("plan")
    steps.do("column")
    steps.do("index", actions=["rename"])
    after = steps.do("drift", models=phase["phase_models"])
    assert after["differences"] == [] and after["checks"][0]["status"] == "pass"
    steps.do("index")
    (covering,) = steps.do("drift", models=phase["phase_models"])["differences"]
    assert covering["kind"] == "surplus_index" and "this phase wants it" in covering["text"]


def test_the_first_screen_tells_it(
    database: Database, playbook: Callable[..., Played], phase: Phase
) -> None:
    played = playbook(database.login, "phase3", "--check", "--tags", "preflight", phase=phase)
    assert played.status == 0, played.output
    shown = " ".join(played.output.split())
    assert "planned the models have column session_summaries.snapshot_ip_type (text)" in shown
    assert '"snapshot_ip_type" does not exist' in shown
    assert "planned the models have index ix_session_summaries_snapshot_ip_type" in shown
