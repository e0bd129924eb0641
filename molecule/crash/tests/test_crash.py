# SPDX-License-Identifier: GPL-3.0-or-later
"""A run on a server that was killed goes on where it stopped, and does nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]
Noted = Callable[[str], Any]
Logged = Callable[[str], str]


def test_the_first_run_failed_and_the_second_did_not(noted: Noted) -> None:
    statuses = noted("statuses")
    assert statuses["killed"] != 0
    assert statuses["repeated"] == 0


def test_the_server_was_killed_in_the_midst_of_the_backfill(
    server_log: str, noted: Noted, sql: Sql
) -> None:
    batches = sql("SELECT count(*) AS n FROM pgrunbook.batch")[0]["n"]
    assert 100 < noted("committed") < batches
    assert "database system was not properly shut down" in server_log


def test_the_failure_says_what_to_do(logged: Logged) -> None:
    assert "there was no primary to go on with for 5 s" in logged("killed")
    assert "Next step: see which server is the primary" in logged("killed")
    assert "Every batch that the ledger on this server has is kept" in logged("killed")


def test_no_row_was_updated_twice(sql: Sql) -> None:
    """As the table's own trigger counted, in the transaction of each update."""
    counted = sql("SELECT count(*) AS updates, count(DISTINCT session_id) AS rows FROM updates")[0]
    assert 19000 < counted["updates"] == counted["rows"]


def test_the_journal_has_each_of_them_once(sql: Sql) -> None:
    journal = sql(
        "SELECT count(*) AS entries, count(DISTINCT e ->> 0) AS rows,"
        " count(*) FILTER (WHERE NOT EXISTS (SELECT FROM updates WHERE session_id = e ->> 0))"
        " AS never_updated FROM pgrunbook.batch, jsonb_array_elements(journal) e"
    )[0]
    updates = sql("SELECT count(*) AS n FROM updates")[0]["n"]
    assert journal == {"entries": updates, "rows": updates, "never_updated": 0}


def test_it_was_one_run_that_went_on(sql: Sql, logged: Logged) -> None:
    assert sql("SELECT state, verdict FROM pgrunbook.run") == [
        {"state": "finished", "verdict": "GO"}
    ]
    assert "which goes on where it stopped" in logged("repeated")


def test_every_row_equals_its_source(sql: Sql) -> None:
    different = sql(
        "SELECT session_id FROM session_summaries s JOIN ip_inventory i ON ip_address = source_ip"
        " WHERE (snapshot_asn, snapshot_country, snapshot_ip_type)"
        " IS DISTINCT FROM (current_asn, geo_country, ip_type) LIMIT 5"
    )
    assert different == []


def test_every_index_is_there_and_valid(sql: Sql) -> None:
    indexes = sql(
        "SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
        " WHERE indrelid = 'session_summaries'::regclass AND indisvalid"
        " AND relname LIKE 'ix_session_summaries_snapshot_%'"
    )
    assert len(indexes) == 4
    assert sql("SELECT 1 FROM pg_index WHERE NOT indisvalid") == []
