# SPDX-License-Identifier: GPL-3.0-or-later
"""The dry run wrote nothing: not a row, not a catalog entry, not one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Sql = Callable[[str], list[dict[str, Any]]]
Noted = Callable[[str], Any]


def test_every_row_and_every_catalog_entry_is_where_it_was(
    state: dict[str, Any], noted: Noted
) -> None:
    before, places = noted("before"), state["places"]
    tables = {"session_summaries", "ip_inventory", "pg_attribute", "pg_class", "pg_index"}
    assert tables <= set(before["places"])
    changed = {name for name in places if before["places"].get(name) != places[name]}
    assert changed == set()
    assert places.keys() == before["places"].keys()
    assert state["dump"] == before["dump"]


def test_no_transaction_wrote_anything_at_all(state: dict[str, Any], noted: Noted) -> None:
    assert state["next_transaction"] == noted("before")["next_transaction"]


def test_the_dry_run_was_here(server_log: str) -> None:
    """Otherwise the tests above would pass for want of anything that happened."""
    assert "application_name=pgrunbook/plan" in server_log


def test_the_column_still_has_its_old_name(sql: Sql) -> None:
    columns = sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'session_summaries'::regclass"
        " AND attname LIKE 'snapshot%type%'"
    )
    assert columns == [{"attname": "snapshot_ip_types"}]


def test_there_is_no_ledger(sql: Sql) -> None:
    assert sql("SELECT nspname FROM pg_namespace WHERE nspname = 'pgrunbook'") == []
