# SPDX-License-Identifier: GPL-3.0-or-later
"""Before the maintenance window opens everything is planned, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]


@pytest.fixture
def ahead() -> Phase:
    now = datetime.now(UTC)
    opens, ends = now + timedelta(hours=3), now + timedelta(hours=4)
    return {"phase_window_start": opens.isoformat(), "phase_window_end": ends.isoformat()}


def test_before_the_window_a_plan_is_made_and_no_module_writes(
    database: Database, module: Module, phase: Phase, ahead: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, **ahead})
    steps.do("preflight")
    planned = steps.plan()
    told = " ".join(planned["brief"].split())
    assert f"opens at {ahead['phase_window_start']}, in about 3 h; until then nothing" in told
    steps.approve("plan")
    before = database.fingerprint()
    for name, arguments in [
        ("column", {}),
        ("index", {"actions": ["rename"]}),
        ("backfill", {"canary": True}),
    ]:
        refusal = steps.refused(name, **arguments)
        assert f"window opens at {ahead['phase_window_start']}. Nothing was changed" in refusal
    assert database.fingerprint() == before


def test_a_rollback_does_not_wait_for_the_window(
    database: Database, module: Module, phase: Phase, ahead: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    before = database.state()
    steps.begin()
    steps.backfill(canary=True)
    steps.do("run", state="failed")
    steps.approved_with(database, window_start=ahead["phase_window_start"])
    steps.back()
    assert database.state() == before


def test_an_approval_before_the_window_begins_nothing(
    database: Database, approved: Callable[..., Played], phase: Phase, ahead: Phase
) -> None:
    before = database.fingerprint()
    played = approved(database, {**phase, **ahead})
    told = " ".join(played.output.split())
    assert played.status != 0
    assert f"The maintenance window opens at {ahead['phase_window_start']}. Nothing" in told, told
    assert database.fingerprint() == before
