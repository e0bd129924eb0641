# SPDX-License-Identifier: GPL-3.0-or-later
"""Two failed runs said so, and left the schema and every row as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]
Noted = Callable[[str], Any]
Logged = Callable[[str], str]


def test_both_runs_failed_and_the_rollback_did_not(noted: Noted) -> None:
    statuses = noted("statuses")
    assert statuses == {"failed_rename": 2, "failed_backfill": 2, "rollback": 0}


def test_the_first_failed_after_the_rename_for_the_reason_it_gives(
    logged: Logged, sql: Sql
) -> None:
    assert "no index is renamed today" in logged("failed_rename")
    assert "The schema is as it was before the run" in logged("failed_rename")
    first = sql(
        "SELECT kind, undone_at IS NOT NULL AS undone FROM pgrunbook.change ORDER BY id LIMIT 1"
    )
    assert first == [{"kind": "rename", "undone": True}]


def test_it_took_the_rename_back(noted: Noted) -> None:
    assert noted("after_rename")["dump"] == noted("before_rename")["dump"]


def test_the_second_failed_in_the_midst_of_the_backfill(
    logged: Logged, noted: Noted, sql: Sql
) -> None:
    assert "snapshot_country_iso" in logged("failed_backfill")
    assert "playbooks/rollback.yml -e run=" in logged("failed_backfill")
    assert noted("half_way")["dump"] != noted("before_backfill")["dump"]
    filled = sql("SELECT coalesce(sum(row_count), 0) AS rows FROM pgrunbook.batch")[0]["rows"]
    assert 1000 < filled < 19000


def test_the_rollback_gave_back_schema_and_rows(state: dict[str, Any], noted: Noted) -> None:
    assert state["dump"] == noted("before_backfill")["dump"]
    assert state["settings"] == noted("before")["settings"]


def test_the_column_has_its_old_name_and_only_its_old_values(sql: Sql) -> None:
    columns = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'session_summaries'::regclass"
        " AND attname LIKE 'snapshot%type%'"
    )
    assert columns == [{"attname": "snapshot_ip_types"}]
    kept = sql(
        "SELECT 1 FROM session_summaries, pgrunbook.batch, jsonb_array_elements(journal) e"
        " WHERE session_id = e ->> 0 AND num_nonnulls(snapshot_asn, snapshot_country,"
        " snapshot_ip_types) = 3"
    )
    assert kept == []


def test_the_ledger_says_so(sql: Sql) -> None:
    runs = sql("SELECT state FROM pgrunbook.run ORDER BY started_at")
    assert [run["state"] for run in runs][-1] == "reverted"
