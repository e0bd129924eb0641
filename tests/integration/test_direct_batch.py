# SPDX-License-Identifier: GPL-3.0-or-later
"""A direct batch fills rows without locking them first, and takes nothing from anybody."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill import batch
from tests.integration.conftest import Database
from tests.integration.small_table import Table
from tests.integration.steps import Module, Steps
from tests.integration.test_kill import until
from tests.integration.test_meanwhile import PARTS

ROOMY = Table(
    rows=400,
    options="WITH (fillfactor = 50)",  # a row that is changed meanwhile stays in the batch's place
    spec={"strategy": "ranges", "canary_rows": 20, "batch_rows": 1000},
)
EMPTY = "SELECT id FROM t WHERE value IS NULL AND ref BETWEEN 1 AND 50"
WAITED_FOR = (
    "SELECT count(*) AS n FROM pg_stat_activity"
    " WHERE datname = current_database() AND %s = ANY (pg_blocking_pids(pid))"
)


@pytest.fixture
def steps(database: Database, module: Module) -> Steps:
    return begun(ROOMY.make(database, module))


def begun(steps: Steps) -> Steps:
    """A run up to its backfill."""
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    return steps


def until_it_waits(database: Database, pid: int, filled: Future[dict[str, Any]]) -> None:
    """Until a batch waits for the session of this pid."""
    until(
        lambda: database.sql(WAITED_FOR, (pid,)) != [{"n": 0}] or filled.done(),
        "no batch waits for the row",
    )
    assert not filled.done()


def test_what_comes_while_it_waits_is_kept_and_is_not_in_the_journal(
    database: Database, steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "DIRECT_LOCK_MS", 60_000)  # as long as the statement's timeout
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            theirs = other.execute(
                f"UPDATE t SET value = 'theirs' WHERE id = ({EMPTY} ORDER BY id DESC LIMIT 1)"
                " RETURNING id"
            ).fetchone()
            filled = pool.submit(steps.backfill)
            until_it_waits(database, other.info.backend_pid, filled)
        filled.result()
    steps.do("run", state="finished")
    assert steps.back()["rows_left_alone"] == 0
    left = "SELECT id FROM t WHERE value IS NOT NULL AND value <> 'kept'"
    assert database.sql(left) == [theirs]
    assert database.sql("SELECT count(*) AS n FROM t WHERE value = 'kept'") == [{"n": 16}]


def test_it_gives_up_on_a_row_that_moves_to_another_partition(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server refuses the whole statement then."""
    parted = replace(PARTS, spec={**PARTS.spec, "batch_rows": 1000})
    steps = begun(parted.make(database, module))
    monkeypatch.setattr(batch, "DIRECT_LOCK_MS", 60_000)
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            first = f"{EMPTY} AND id BETWEEN 400 AND 599 ORDER BY id LIMIT 1"
            other.execute(f"UPDATE t SET id = 0 WHERE id = ({first})")
            filled = pool.submit(steps.backfill)
            until_it_waits(database, other.info.backend_pid, filled)
        filled.result()
    assert database.sql(EMPTY) == []


def test_it_gives_up_on_a_row_that_is_held_and_the_others_are_filled(
    database: Database, steps: Steps
) -> None:
    with database.connect() as other, other.transaction():
        row = other.execute(f"{EMPTY} LIMIT 1 FOR UPDATE").fetchone()
        while steps.do("backfill")["sweep"] < 2:
            pass
        assert database.sql(EMPTY) == [row]
    steps.backfill()
    assert database.sql(EMPTY) == []


def test_it_keeps_to_batch_rows_in_a_table_that_was_never_analysed(
    database: Database, module: Module
) -> None:
    steps = replace(ROOMY, rows=4000, spec={**ROOMY.spec, "batch_rows": 100}).make(database, module)
    database.superuser("UPDATE pg_class SET reltuples = -1 WHERE oid = 't'::regclass")
    begun(steps).backfill()
    assert 20 < max(sizes(database)) <= 100


def test_it_learns_that_pages_have_more_rows_than_others(
    database: Database, module: Module
) -> None:
    """From the first batches that come to them on."""
    steps = Table(rows=16_000, spec={**ROOMY.spec, "batch_rows": 200}).make(database, module)
    database.sql("DELETE FROM t WHERE id <= 8000 AND id % 20 <> 1")
    database.superuser("VACUUM (ANALYZE) t")
    begun(steps).backfill()
    assert len([rows for rows in sizes(database) if rows > 200]) <= 2


def sizes(database: Database) -> list[int]:
    """How many rows each batch has filled."""
    return [row["rows"] for row in database.sql("SELECT row_count AS rows FROM pgrunbook.batch")]
