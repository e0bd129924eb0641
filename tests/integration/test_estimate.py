# SPDX-License-Identifier: GPL-3.0-or-later
"""Estimates are from what was measured on this database, and void no approval."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import backfill
from ansible.module_utils.pgrunbook.catalog import inspect
from ansible.module_utils.pgrunbook.core.connection import Connection, connect, proof
from ansible.module_utils.pgrunbook.core.phase import parse
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ddl import build_time
from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]
Playbook = Callable[..., Played]

ELIGIBLE = """
SELECT count(*)::int AS n FROM session_summaries s JOIN ip_inventory i ON i.ip_address = s.source_ip
WHERE (s.snapshot_asn IS NULL AND i.current_asn IS NOT NULL)
   OR (s.snapshot_country IS NULL AND i.geo_country IS NOT NULL)
   OR (s.snapshot_ip_type IS NULL AND i.ip_type IS NOT NULL)
"""


@pytest.fixture
def phase(phase: Phase) -> Phase:
    """With one query, whose gate only warns: it is too short to be timed well."""
    query = {**phase["phase_queries"][0], "enforce": False}
    return {**phase, "phase_queries": [query], "phase_repetitions": 1}


@pytest.fixture
def reading(any_database: Database) -> Iterator[Connection]:
    """A connection that may only read, as a plan has it."""
    with psycopg.connect(any_database.conninfo(), row_factory=dict_row) as conn:
        conn.read_only = True
        yield conn


def add_slice(database: Database, run: str, **measured: float) -> None:
    """Record a slice of the run that was as slow as that."""
    database.sql(
        "INSERT INTO pgrunbook.event (body, previous, hash) VALUES (jsonb_build_object("
        "'run', %s::text, 'kind', 'progress', 'detail', %s::text::jsonb), '', '')",
        (run, str(measured).replace("'", '"')),
    )


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")


def gates(steps: Steps) -> dict[str, Any]:
    checks = steps.do("data_gates", canary_of=steps.planned["run"]["id"])["checks"]
    return {check["id"]: check for check in checks}


def test_a_plan_knows_the_rate_of_the_latest_run_also_one_that_was_rolled_back(
    any_database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, any_database, phase)
    first = steps.plan()
    assert first["estimates"]["backfill"] is None and first["filling"]["measured_on"] == ""
    assert "time  not known yet: no run of this phase has filled this table" in first["text"]
    assert first["estimates"]["index_build"] >= 0 and first["proof"]["xid"] is None

    steps.forward()
    run = steps.planned["run"]["id"]
    add_slice(any_database, run, rows_changed=0, slice_seconds=50.0, held_seconds=50.0)
    filled = any_database.sql(
        "SELECT sum((d ->> 'rows_changed')::int)::int AS rows,"
        " sum((d ->> 'slice_seconds')::float8) - 50 AS seconds"
        " FROM pgrunbook.event, jsonb_extract_path(body, 'detail') d"
        " WHERE body ->> 'kind' = 'progress'"
    )[0]
    steps.back()
    second = steps.plan()
    first["plan"]["server"]["token"] = second["plan"]["server"]["token"]  # of the ledger made since
    assert second["plan"] == first["plan"], "an estimate voids no approval"
    rows = second["counts"]["rows_eligible"]
    assert filled["rows"] == rows
    assert second["estimates"]["backfill"] == round(filled["seconds"], 1)
    rate = f"at the {rows / filled['seconds']:,.0f} rows/s of run {run} ({rows:,} rows, "
    filling = second["filling"]
    assert filling["measured_on"] == f"{rate}ranges, 1 worker)"
    assert filling["least"] <= filling["seconds"] <= filling["most"]
    assert rate in " ".join(second["text"].split())


@pytest.mark.representative
def test_after_the_canary_it_says_what_is_left_and_for_how_long(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.backfill(canary=True)
    found = gates(steps)["estimate"]
    left = found["evidence"]
    assert left["rows"] == database.sql(ELIGIBLE)[0]["n"] > 2000
    canary = database.sql(
        "SELECT count(*)::int AS batches, sum(row_count)::int AS rows FROM pgrunbook.batch"
    )[0]
    assert left["rows_measured"] == canary["rows"] == 100
    assert abs(left["batches"] - left["rows"] * canary["batches"] / 100) < 1 + left["rows"] / 100
    assert abs(left["seconds"] - left["rows"] / left["rows_per_second"]) < 0.2
    assert left["window_seconds"] is None
    worked = database.sql("SELECT seconds FROM pgrunbook.run")[0]["seconds"]
    assert left["seconds_worked"] == round(worked, 3) > 0
    assert (found["status"], found["target"]) == ("pass", "measured")
    assert found["measured"].startswith(f"{left['rows']:,} rows in about {left['batches']:,} batch")
    assert found["measured"].endswith("100 rows, with one worker and all indexes in place)")

    steps.approve("backfill")
    steps.defer()
    steps.backfill()
    after = gates(steps)["estimate"]
    assert after["evidence"]["rows"] == 0 and after["measured"].startswith("0 rows in about 0 ")
    assert "one worker" not in after["measured"], "the rate is no longer the canary's"


def test_a_window_that_is_too_short_is_a_warning_unless_it_is_enforced(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_window_end": in_an_hour()})
    steps.begin()
    steps.backfill(canary=True)
    found = gates(steps)["estimate"]
    assert found["status"] == "pass" and found["target"].startswith("done before 2")
    assert re.search(r"; the window ends in about (59\.\d|60) min$", found["measured"])
    run = steps.planned["run"]["id"]
    add_slice(database, run, rows_changed=1, slice_seconds=9e5, held_seconds=0.0)
    assert gates(steps)["estimate"]["status"] == "warn"
    steps.spec["gates"] = {"estimate": "enforce"}
    found = gates(steps)
    assert found["estimate"]["status"] == "fail" and found["canary"]["status"] == "pass"


def test_an_enforced_window_stops_the_run_before_all_other_rows(
    database: Database, module: Module, approved: Playbook, phase: Phase
) -> None:
    phase = {**phase, "phase_window_end": in_an_hour(), "phase_gates": {"estimate": "enforce"}}
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.backfill(canary=True)
    run = steps.planned["run"]["id"]
    add_slice(database, run, rows_changed=1, slice_seconds=9e5, held_seconds=0.0)
    steps.do("run", state="failed", verdict="NO-GO")
    played = approved(database, phase)
    assert played.status == 2, played.output
    words = " ".join(played.output.split())
    assert f"rows/s of run {run} (101 rows, ranges, 1 worker)" in words
    assert "The canary failed: Rows, batches and time that are left: wanted done before 2" in words
    assert "the window ends in about" in words and "Canary rows equal" not in words.split("{")[-1]
    assert database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"] == 100


def one_slice(steps: Steps, **changes: Any) -> dict[str, Any]:
    """A slice of the backfill that lasts a second at most."""
    spec = replace(parse(steps.spec), slice_seconds=1, **changes)
    with connect(steps.login, name="test", read_only=False, schemas=["public"]) as conn:
        run = ledger.Run(**steps.planned["run"])
        result: dict[str, Any] = plain(backfill.run_slice(conn, spec, run, canary=False))
        return result


def tell(steps: Steps, action: str, rows_per_second: int = 0) -> None:
    steps.do("control", action=action, by="bob", rows_per_second=rows_per_second)


def worked(database: Database) -> float:
    """The seconds of work that the ledger has counted."""
    return float(database.sql("SELECT seconds FROM pgrunbook.run")[0]["seconds"])


def test_a_rate_that_somebody_set_is_not_taken_for_the_tables(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_workers": 2})
    steps.begin()
    tell(steps, "throttle", 400)
    steps.backfill(canary=True)
    steps.approve("backfill")
    steps.defer()
    before, started = worked(database), time.monotonic()
    slow = one_slice(steps)
    lasted = time.monotonic() - started
    assert (slow["throttle"], slow["done"]) == (400, False)
    assert 0.5 < slow["throttled_seconds"] < lasted
    # While one worker rests the other may work, so that both figures together may exceed the time.
    assert worked(database) - before < lasted - slow["throttled_seconds"] / 2, "it rested"
    run = steps.planned["run"]["id"]
    left = gates(steps)["estimate"]
    assert left["status"] == "pass" and left["evidence"]["seconds"] is None
    assert "nobody knows for how long: all that was filled was kept below" in left["measured"]
    steps.spec["window_end"] = in_an_hour()
    assert gates(steps)["estimate"]["status"] == "warn", "it may be too late"
    steps.spec["window_end"] = ""
    steps.do("run", state="failed")
    dry = Steps(module, database.login, steps.spec).plan()
    assert dry["estimates"]["backfill"] is None
    assert (
        "not known yet: the runs of this phase were kept below a rate that somebody set. The"
        in (" ".join(dry["text"].split()))
    )

    again = Steps(module, database.login, steps.spec)
    again.begin()
    again.approve("backfill")
    fast = again.backfill()
    assert (fast["throttle"], fast["throttled_seconds"]) == (0, 0.0)
    rows = fast["rows_done"] - slow["rows_done"]
    again.do("run", state="finished")
    add_to_fill(database)
    found = Steps(module, database.login, steps.spec).plan()
    assert found["estimates"]["backfill"] is not None
    left_out = f"; {slow['rows_done']:,} rows at a rate that somebody set are left out)"
    assert f" of run {run} ({rows:,} rows, " in found["filling"]["measured_on"]
    assert found["filling"]["measured_on"].endswith(f"2 workers{left_out}")


def add_to_fill(database: Database) -> None:
    """One more row that a run could fill."""
    database.sql(
        "INSERT INTO session_summaries (session_id, source_ip, matcher)"
        " SELECT 'late', ip_address, 'm' FROM ip_inventory WHERE ip_type IS NOT NULL LIMIT 1"
    )


def test_a_pause_is_no_work(database: Database, module: Module, phase: Phase) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    before = gates(steps)["estimate"]["evidence"]
    tell(steps, "pause")
    for _ in range(2):
        paused = one_slice(steps)
        assert paused["held_seconds"] > 0.8 and not paused["done"]
    tell(steps, "resume")
    after = gates(steps)["estimate"]["evidence"]
    assert after["seconds_worked"] - before["seconds_worked"] < 0.4, "two seconds were none"
    done = steps.backfill()
    slices = database.sql(
        "SELECT sum((d ->> 'slice_seconds')::float8 - (d ->> 'held_seconds')::float8) AS seconds"
        " FROM pgrunbook.event, jsonb_extract_path(body, 'detail') d"
        " WHERE body ->> 'kind' = 'progress'"
    )
    assert done["seconds"] <= slices[0]["seconds"] + 0.1


def measured(conn: Connection, on: Table, *columns: str, include: tuple[str, ...] = ()) -> float:
    return build_time.index_seconds(conn, on, inspect(conn, on).pages, columns, include)


NAMED = Table("public", 'Größe "%s" {}')


def test_an_index_build_is_measured_on_any_table_and_writes_nothing(
    any_database: Database, reading: Connection
) -> None:
    odd = Identifier(NAMED.schema, NAMED.name)
    any_database.sql(
        SQL(
            "CREATE TABLE {odd} (k int, {odd_column} text, j json) PARTITION BY RANGE (k);"
            "CREATE TABLE one PARTITION OF {odd} FOR VALUES FROM (0) TO (500);"
            "CREATE TABLE two PARTITION OF {odd} FOR VALUES FROM (500) TO (1000);"
            "INSERT INTO {odd} SELECT n % 1000, repeat('x', 900), '1'"
            " FROM generate_series(1, 9000) n;"
            "CREATE TABLE none (k int)"
        ).format(odd=odd, odd_column=Identifier(NAMED.name))
    )
    assert measured(reading, NAMED, "k", NAMED.name) > 0
    assert measured(reading, NAMED, "k", include=("j",)) > 0
    assert measured(reading, NAMED, "j") > 0, "no order, so no index, but no failure either"
    assert measured(reading, Table("public", "session_summaries"), "source_ip") > 0
    assert measured(reading, Table("public", "none"), "k") == 0
    assert proof(reading) == {"read_only": True, "xid": None}


@pytest.mark.parametrize(
    ("pages", "took", "samples", "expected"),
    [
        (10_000, 0.01, 2, 0.1),
        (10_000, 1.0, 1, 40.0),
        (1_000, 0.01, 2, 0.02),
        (500, 0.01, 1, 0.02),
        (1, 0.01, 1, 0.02),
    ],
)
def test_a_sample_grows_only_while_it_is_quick_and_stands_for_all_pages(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    pages: int,
    took: float,
    samples: int,
    expected: float,
) -> None:
    asked = []
    monkeypatch.setattr(build_time, "_server_seconds", lambda _, query: asked.append(query) or took)
    with database.connect() as conn:
        found = build_time.index_seconds(conn, Table("public", "none"), pages, ["k"])
    assert found == pytest.approx(expected)
    assert len(asked) == 2 * samples
    sorted_ones = [query.as_string(None).endswith('ORDER BY "k"') for query in asked]
    assert sorted_ones == [False, True] * samples
