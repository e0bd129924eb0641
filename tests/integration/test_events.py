# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module says of the events that it has appended to the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.connection import connect
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

EVENTS = "SELECT body FROM pgrunbook.event ORDER BY id"


def test_events_of_a_call_are_those_that_the_ledger_has(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, phase)
    assert steps.plan()["events"] == []
    told = steps.approve("plan")["events"] + steps.do("column")["events"]
    assert [event["kind"] for event in told] == ["approved", "rename"]
    assert told == [row["body"] for row in database.sql(EVENTS)]
    assert steps.do("column", check=True)["events"] == []
    failed = steps.attempt("backfill")
    assert failed["failed"] and failed["events"] == []


def test_events_that_were_rolled_back_are_not_told(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    steps.approve("plan")
    with connect(database.login, name="test", read_only=False) as conn:
        ledger.event(conn, "r", "first", n=1)
        with pytest.raises(ZeroDivisionError), conn.transaction():
            ledger.event(conn, "r", "second", n=1 // 1)
            raise ZeroDivisionError
        ledger.event(conn, "r", "third")
        assert [event["kind"] for event in ledger.appended(conn)] == ["first", "third"]
        assert ledger.appended(conn) == [], "each is told once"
