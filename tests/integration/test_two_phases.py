# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs on one table do not take turns: the second one is refused, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.steps import Steps

Module = Callable[..., dict[str, Any]]
Phase = dict[str, Any]


@pytest.fixture
def first(database: Database, module: Module, phase: Phase) -> Steps:
    """Phase 3, planned and not yet approved."""
    steps = Steps.of(module, database, {**phase, "phase_queries": []})
    steps.plan()
    return steps


@pytest.fixture
def second(database: Database, module: Module, phase: Phase) -> Steps:
    """Another phase on the same table, which fills one of its columns."""
    columns = [c for c in phase["phase_columns"] if c["name"] == "snapshot_asn"]
    changed = {"phase_name": "phase9", "phase_columns": columns, "phase_indexes": []}
    return Steps.of(module, database, {**phase, **changed, "phase_queries": []})


def begin(first: Steps) -> str:
    first.approve("plan")
    run: str = first.planned["run"]["id"]
    return f"Run {run} of alice is at work on public.session_summaries, for phase phase3"


@pytest.mark.representative
def test_the_second_one_is_refused_at_its_plan_and_at_its_approval(
    database: Database, first: Steps, second: Steps
) -> None:
    second.plan()
    at_work = begin(first)
    before = database.fingerprint()
    assert at_work in second.refused("approval", **second.approval("plan"))
    assert at_work in second.refused("plan")
    assert database.fingerprint() == before
    first.do("run", state="failed")
    second.plan()
    second.approve("plan")


def test_a_rollback_of_another_phase_is_refused(
    database: Database, first: Steps, second: Steps
) -> None:
    second.plan()
    second.approve("plan")
    second.backfill(canary=True)
    second.do("run", state="failed")
    of = {"rollback_of": second.planned["run"]["id"]}
    second.plan(**of)
    at_work = begin(first)
    assert at_work in second.refused("approval", **second.approval("rollback"))
    assert at_work in second.refused("plan", **of)


def test_one_that_stood_at_a_question_for_too_long_does_not_go_on_beside_the_other(
    database: Database, first: Steps, second: Steps
) -> None:
    begin(first)
    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '61 s'")
    second.plan()
    second.approve("plan")
    message = first.refused("approval", **first.approval("backfill"))
    assert "for phase phase9" in message
