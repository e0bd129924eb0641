# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes that the backfill does without are dropped as approved, and come back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.small_table import INDEXES, Phase
from tests.integration.steps import TABLES, Module, Steps, content
from tests.integration.test_backfill import die


@pytest.mark.parametrize("end", ["built again", "broken off before that", "broken off half-way"])
def test_deferred_indexes_come_back(
    database: Database, module: Module, phase: Phase, end: str
) -> None:
    before = content(database, *TABLES)
    names = {i["name"] for i in phase["phase_indexes"]}
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.begin()
    assert set(steps.deferred) == names - {"ix_session_summaries_snapshot_country_ip_type"}
    steps.approve("backfill")
    steps.defer()
    left = {row["name"] for row in database.sql(INDEXES, ("session_summaries",))}
    assert not left & names and len(left) == 9
    if end == "broken off half-way":
        die(database, "INSERT", "(SELECT sum(row_count) FROM pgrunbook.batch) > 1000")
        assert "terminat" in steps.refused("backfill")
        database.sql("DROP TRIGGER die ON pgrunbook.batch")
        filled = database.sql("SELECT sum(row_count) AS n FROM pgrunbook.batch")[0]["n"]
        assert 0 < filled < steps.planned["counts"]["rows_eligible"]
    else:
        assert steps.backfill()["hot_percent"] is not None
    if end == "built again":
        steps.build()
        left = {row["name"] for row in database.sql(INDEXES, ("session_summaries",))}
        assert names <= left
    steps.do("run", state="failed")
    dry = Steps(module, database.login, steps.spec, steps.planned)
    dry.plan(rollback_of=steps.planned["run"]["id"])
    foreseen = dry.do("index", state="reverted", check=True)
    steps.back()
    after = content(database, *TABLES)
    assert after == before
    assert set(foreseen["schema"]["indexes"]) == {
        row["name"] for row in database.sql(INDEXES, ("session_summaries",))
    }


@pytest.mark.representative
def test_a_run_broken_off_without_its_indexes_goes_on(
    database: Database, module: Module, phase: Phase
) -> None:
    """The next plan builds what is missing, and needs to drop nothing. Meanwhile the status says
    what is missing, why, and what to type."""
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.begin()
    run = steps.planned["run"]["id"]

    def now() -> dict[str, Any]:
        moment: dict[str, Any] = steps.do("run_info")["moments"][run]
        return moment

    assert not now()["decided"] and now()["missing"] == [] and now()["idle"] < 60
    steps.approve("backfill")
    steps.defer()
    assert now()["decided"] and now()["missing"] == sorted(steps.deferred) and now()["error"] == ""
    steps.do("run", state="failed", detail="No room is left.")
    told = steps.do("run_info")["text"]
    assert "stopped: No room is left." in told and f"missing now: index {steps.deferred[0]}" in told
    assert f"To go back: ansible-playbook playbooks/rollback.yml -e run={run}" in told
    again = Steps(module, database.login, steps.spec)
    again.plan()
    assert again.deferred == []
    again.approve("plan")
    again.approve("backfill")
    again.backfill()
    again.build()
    assert now()["missing"] == []
    again.gates("data_gates")
    again.do("run", state="finished")
    assert steps.do("run_info")["moments"] == {}
    again.back()
    assert len(database.sql(INDEXES, ("session_summaries",))) == 12


def test_an_index_is_dropped_only_as_approved(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_strategy": "ranges"})
    steps.begin()
    name = phase["phase_indexes"][0]["name"]
    assert "does not hold this statement" in steps.refused(
        "index", actions=["defer"], deferred=[name]
    )
