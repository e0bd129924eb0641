# SPDX-License-Identifier: GPL-3.0-or-later
"""Through Debian's PgBouncer the runbook works by session, and never harms the application."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]
Noted = Callable[[str], Any]
Logged = Callable[[str], str]

RECEIVED = r"\[(\d+)\] (?:\S+ )?LOG:  connection received: host=(\S+)"
AUTHORIZED = r"\[(\d+)\] \S+ LOG:  connection authorized: user={}"


def test_the_pool_by_transaction_was_refused_and_all_else_went_through(
    noted: Noted, logged: Logged
) -> None:
    statuses = noted("statuses")
    assert statuses == {"by_transaction": 2, "dry_run": 0, "run": 0, "rollback": 0}
    assert "A connection pooler that pools by transaction" in logged("by_transaction")
    assert "beside the pooler" in logged("by_transaction")


@pytest.mark.parametrize("database", ["by_transaction", "cowrieprocessor"])
def test_no_transaction_of_the_application_failed(logged: Logged, database: str) -> None:
    """Nor did it get a session that had kept a setting, a lock or a prepared statement of ours."""
    transactions, failures = logged(f"application_{database}").split(" transactions", 1)
    assert int(transactions) >= 300
    assert failures == ""


def test_every_connection_of_the_runbook_came_through_the_pooler(server_log: str) -> None:
    received = dict(re.findall(RECEIVED, server_log))
    ours = re.findall(AUTHORIZED.format("pgrunbook"), server_log)
    assert len(ours) >= 8
    assert {received[pid] for pid in ours} == {"127.0.0.1"}
    others = re.findall(AUTHORIZED.format("postgres"), server_log)
    assert {received[pid] for pid in others} - {"127.0.0.1", "[local]"}, "others came from outside"


def test_the_run_filled_each_row_with_its_source(sql: Sql, noted: Noted) -> None:
    compared = noted("compared")
    assert compared["different"] == 0 and compared["equal"] > 4900
    assert sql("SELECT state FROM pgrunbook.run") == [{"state": "reverted"}]


def test_after_the_rollback_pg_dump_writes_what_it_wrote_before(
    state: dict[str, Any], noted: Noted
) -> None:
    assert state["dump"] == noted("before")["dump"]
