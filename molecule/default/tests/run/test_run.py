# SPDX-License-Identifier: GPL-3.0-or-later
"""After the run, and after a second one, the database is what the change board was promised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rows = list[dict[str, Any]]
Sql = Callable[[str], Rows]
Noted = Callable[[str], Any]

COLUMNS = ("snapshot_asn", "snapshot_country", "snapshot_ip_type")


def test_the_server_is_published_on_this_machine_only(host: Any, noted: Noted) -> None:
    container = noted("container")
    published = host.backend.run_local(f"{container['engine']} port {container['name']}").stdout
    assert published.split() == ["5432/tcp", "->", f"127.0.0.1:{container['port']}"]


def test_the_column_has_its_right_name_and_type(sql: Sql) -> None:
    columns = sql(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'session_summaries'::regclass AND attname ~ '^snapshot_'"
        " ORDER BY attname"
    )
    types = ("integer", "character varying(2)", "text")
    assert [(c["attname"], c["type"]) for c in columns] == list(zip(COLUMNS, types, strict=True))


def test_the_indexes_are_valid_and_named_right(sql: Sql) -> None:
    indexes = sql(
        "SELECT c.relname AS name, i.indisvalid AND i.indisready AS usable,"
        " pg_get_indexdef(i.indexrelid, 1, false) AS first"
        " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = 'session_summaries'::regclass AND c.relname LIKE '%snapshot%'"
        " ORDER BY 1"
    )
    assert [(i["name"], i["first"]) for i in indexes] == [
        ("ix_session_summaries_snapshot_asn", "snapshot_asn"),
        ("ix_session_summaries_snapshot_country", "snapshot_country"),
        ("ix_session_summaries_snapshot_country_ip_type", "snapshot_country"),
        ("ix_session_summaries_snapshot_ip_type", "snapshot_ip_type"),
    ]
    assert all(index["usable"] for index in indexes)
    assert sql("SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


def test_the_old_names_are_gone(sql: Sql) -> None:
    """PostgreSQL itself keeps a column's old name inside an index."""
    assert sql("SELECT relname FROM pg_class WHERE relname LIKE '%snapshot_ip_types%'") == []
    columns = sql(
        "SELECT attrelid::regclass FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " WHERE relkind = 'r' AND attname = 'snapshot_ip_types'"
    )
    assert columns == []


def test_at_least_95_per_cent_of_all_rows_have_each_value(sql: Sql) -> None:
    filled = ", ".join(f"count({column}) AS {column}" for column in COLUMNS)
    found = sql(f"SELECT count(*) AS rows, {filled} FROM session_summaries")[0]
    assert found["rows"] == 5000
    assert all(found[column] >= 0.95 * found["rows"] for column in COLUMNS), found


def test_a_random_sample_equals_its_source(sql: Sql) -> None:
    sample = sql(
        "SELECT s.snapshot_asn, s.snapshot_country, s.snapshot_ip_type,"
        " i.current_asn, i.geo_country, i.ip_type"
        " FROM session_summaries s JOIN ip_inventory i ON i.ip_address = s.source_ip"
        " ORDER BY random() LIMIT 1000"
    )
    assert len(sample) == 1000
    wrong = [row for row in sample if [*row.values()][:3] != [*row.values()][3:]]
    assert wrong == []


def test_rows_without_an_address_stay_empty(sql: Sql) -> None:
    rows = sql(
        "SELECT count(*) AS rows, count(snapshot_asn) + count(snapshot_country)"
        " + count(snapshot_ip_type) AS filled FROM session_summaries WHERE source_ip IS NULL"
    )
    assert rows == [{"rows": 15, "filled": 0}]


def test_the_ledger_has_one_finished_run_and_every_row_once(sql: Sql) -> None:
    """The second run had nothing to do, and so is not in the ledger."""
    runs = sql("SELECT state, verdict FROM pgrunbook.run")
    assert runs == [{"state": "finished", "verdict": "GO"}]
    journal = sql(
        "SELECT count(*) AS entries, count(DISTINCT e ->> 0) AS rows"
        " FROM pgrunbook.batch, jsonb_array_elements(journal) e"
    )[0]
    filled = sql(
        "SELECT count(*) AS n FROM session_summaries"
        " WHERE num_nonnulls(snapshot_asn, snapshot_country, snapshot_ip_type) > 0"
    )[0]
    assert 0 < journal["entries"] == journal["rows"] <= filled["n"]
    scopes = sql("SELECT scope, method FROM pgrunbook.approval ORDER BY approved_at")
    assert [s["scope"] for s in scopes] == ["plan", "backfill"]


def test_no_lock_and_no_open_transaction_is_left(sql: Sql) -> None:
    assert sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
    assert sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgrunbook/%'") == []
    assert sql("SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'") == []
    assert sql("SELECT gid FROM pg_prepared_xacts") == []


def test_no_setting_was_touched(state: dict[str, Any], noted: Noted) -> None:
    before = noted("before")
    assert len(state["settings"]) > 300
    assert state["settings"] == before["settings"]
    assert state["role_settings"] == before["role_settings"]


def test_nothing_else_in_the_database_changed(state: dict[str, Any], noted: Noted) -> None:
    """Neither the source table, nor what belongs to the whole cluster."""
    before = noted("before")["places"]
    for name in ("ip_inventory", "pg_authid", "pg_auth_members", "pg_proc"):
        assert state["places"][name] == before[name], name
