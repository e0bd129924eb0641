# SPDX-License-Identifier: GPL-3.0-or-later
"""After the rollback the server holds what it held before the run, and the ledger says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Sql = Callable[[str], list[dict[str, Any]]]
Noted = Callable[[str], Any]


def test_pg_dump_writes_what_it_wrote_before_the_run(state: dict[str, Any], noted: Noted) -> None:
    assert state["dump"] == noted("before")["dump"]


def test_no_setting_was_touched(state: dict[str, Any], noted: Noted) -> None:
    assert state["settings"] == noted("before")["settings"]
    assert state["role_settings"] == noted("before")["role_settings"]


def test_the_column_has_its_old_name_again(sql: Sql) -> None:
    columns = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'session_summaries'::regclass"
        " AND attname LIKE 'snapshot%type%'"
    )
    assert columns == [{"attname": "snapshot_ip_types"}]


def test_the_ledger_has_the_run_as_taken_back_in_each_part(sql: Sql) -> None:
    assert sql("SELECT state FROM pgrunbook.run") == [{"state": "reverted"}]
    batches = sql("SELECT DISTINCT reverted_at IS NOT NULL AS reverted FROM pgrunbook.batch")
    assert batches == [{"reverted": True}]
    changes = sql("SELECT DISTINCT undone_at IS NOT NULL AS undone FROM pgrunbook.change")
    assert changes == [{"undone": True}]
    scopes = sql("SELECT scope FROM pgrunbook.approval ORDER BY approved_at")
    assert [s["scope"] for s in scopes] == ["plan", "backfill", "rollback"]
