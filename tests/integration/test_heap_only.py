# SPDX-License-Identifier: GPL-3.0-or-later
"""Updates are heap-only in passes, unless something holds the horizon; that is told."""

from __future__ import annotations

import re
import threading
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook.backfill import workers
from ansible.module_utils.pgrunbook.backfill.throttle import horizon_holder
from ansible.module_utils.pgrunbook.plan import run_plan
from demo import data
from tests.integration.conftest import Database
from tests.integration.small_table import (
    Table,
    all_right,
    fill,
    one_slice,
)
from tests.integration.steps import Module


def test_a_long_transaction_is_named_and_ends_the_passes(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps dead rows from being pruned, so that later passes find no room."""
    monkeypatch.setattr(workers, "SAMPLE_SECONDS", 0.02)
    steps = Table(rows=42_000, spec={"batch_rows": 2000}).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM s")
        pid = holder.info.backend_pid
        steps.plan()
        steps.approve("plan")
        steps.approve("backfill")
        results = [one_slice(steps)]
        while not results[-1]["done"]:
            results.append(one_slice(steps))
    named = [result for result in results if result["fallback"]]
    assert named and f"pid {pid}" in named[0]["fallback"]
    assert f"single passes, because of pid {pid}" in named[0]["progress"]
    all_right(database)


GROWING = Table(
    rows=42_000,
    after=(
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE t SET (autovacuum_enabled = off)",
        "ALTER TABLE t DROP pad",
        "VACUUM FULL t",
        "UPDATE s SET value = repeat('v', 400)",
    ),
    spec={"batch_rows": 2000, "strategy": "interleaved"},
)


@pytest.mark.parametrize("sees_all", [True, False])
def test_few_heap_only_updates_are_told_with_their_share_and_usual_causes(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch, sees_all: bool
) -> None:
    """Rows grow tenfold, so that later passes find no room, and nobody is in the way."""
    monkeypatch.setattr(workers, "SAMPLE_SECONDS", 0.02)
    steps = GROWING.make(database, module)
    if sees_all:
        database.superuser(f"GRANT pg_monitor TO {data.ROLE}")
    try:
        steps.plan()
        steps.approve("plan")
        steps.approve("backfill")
        results = [one_slice(steps)]
        while not results[-1]["done"]:
            results.append(one_slice(steps))
    finally:
        database.superuser(f"REVOKE pg_monitor FROM {data.ROLE}")
    assert steps.planned["heap_only_percent"] < 30
    told = next(result["fallback"] for result in results if result["fallback"])
    share = re.match(r"few heap-only updates \((\d+) % of ([\d,]+) in later passes\); usual ", told)
    assert share and int(share[1]) < 30 and int(share[2].replace(",", "")) >= 2000
    assert "rows that grow by more than their pages have room for" in told
    assert ("may not see" in told) is not sees_all


def test_whoever_has_written_and_waits_holds_the_horizon_too(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two statements a transaction at READ COMMITTED has no snapshot, only its id."""
    monkeypatch.setattr(run_plan, "OLD_TRANSACTION_SECONDS", 0.0)
    steps = Table(rows=30_000).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("INSERT INTO s VALUES (1000, 'x')")
        assert f"pid {holder.info.backend_pid} " in steps.plan()["horizon"]
    assert steps.plan()["horizon"] == ""


def test_a_vacuum_has_a_snapshot_but_does_not_hold_the_horizon(database: Database) -> None:
    shown = (
        "SELECT pid FROM pg_stat_activity a JOIN pg_stat_progress_vacuum v USING (pid)"
        " WHERE backend_xmin IS NOT NULL AND a.datname = current_database()"
    )
    with database.connect(database.server.user) as seen, database.connect() as slow:
        slow.execute("SET vacuum_cost_delay = 50")
        slow.execute("SET vacuum_cost_limit = 1")
        at_work = threading.Thread(target=_until_cancelled, args=(slow, "VACUUM session_summaries"))
        at_work.start()
        while not (found := seen.execute(shown).fetchall()):
            assert at_work.is_alive()
        assert horizon_holder(seen, [seen.info.backend_pid], 0.0) == ""
        for row in found:
            seen.execute("SELECT pg_cancel_backend(%s)", (row["pid"],))
        at_work.join(30)


def _until_cancelled(conn: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute(statement)


def test_the_plan_names_who_holds_the_horizon(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_plan, "OLD_TRANSACTION_SECONDS", 0.0)
    steps = Table(rows=30_000).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM s")
        text = " ".join(steps.plan()["text"].split())
        held = steps.planned["plan_hash"]
        assert f"but pid {holder.info.backend_pid}" in text
    assert "but pid" not in steps.plan()["text"]
    assert steps.planned["plan_hash"] == held


def test_passes_make_updates_heap_only(database: Database, module: Module) -> None:
    steps = Table(rows=42_000, spec={"batch_rows": 5000}).make(database, module)
    assert steps.plan()["plan"]["strategy"]["passes"] == 16
    assert fill(steps)["rows_done"] > 30_000
    hot = database.sql(
        "SELECT sum((body #>> '{detail,hot_percent}')::float8 * (body #>> '{detail,rows_changed}')"
        "::int8) / sum((body #>> '{detail,rows_changed}')::int8) AS percent"
        " FROM pgrunbook.event WHERE body ->> 'kind' = 'progress'"
    )
    assert hot[0]["percent"] > 60
    all_right(database)
