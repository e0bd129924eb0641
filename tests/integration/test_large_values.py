# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of hundreds of kilobytes: a batch of as many rows as usual fits into no journal."""

from __future__ import annotations

from ansible.module_utils.pgrunbook.backfill import batch_size
from tests.integration.conftest import Database
from tests.integration.small_table import RIGHT, Table, all_right, fill
from tests.integration.steps import Module, Steps

BYTES = 200_000


def large(database: Database, module: Module, strategy: str, rows: int, from_row: int = 0) -> Steps:
    """Rows of two columns t of the small table, of which those from from_row on get large values,
    which are stored compressed."""
    table = Table(rows=rows, spec={"batch_rows": 5000, "canary_rows": 10, "strategy": strategy})
    steps = table.make(database, module)
    database.sql(
        "UPDATE t SET ref = CASE WHEN id < %s THEN 1 ELSE 2 + id %% 40 END, value = NULL",
        (from_row,),
    )
    database.sql(
        f"UPDATE s SET value = left(repeat(md5(ref::text), {BYTES} / 32 + 1), {BYTES})"
        " WHERE ref > 1"
    )
    database.sql("VACUUM FULL ANALYZE t")
    return steps


def test_rows_of_large_values_are_filled_and_given_back(database: Database, module: Module) -> None:
    """Together they are more than the 256 MB that a journal can hold."""
    steps = large(database, module, "ranges", 1500)
    assert fill(steps)["rows_done"] == 1500
    wrong = RIGHT.replace("CASE WHEN id % 25 = 0 THEN 'kept' ELSE s.value END", "s.value")
    assert database.sql(wrong) == [{"n": 0}]
    most = database.sql("SELECT max(row_count) AS n FROM pgrunbook.batch")[0]["n"]
    assert most <= max(2 * batch_size.MAX_BYTES / BYTES, batch_size.FIRST_ROWS)

    database.sql("UPDATE t SET value = 'theirs' WHERE id = 7")
    result = steps.back()
    assert (result["rows_left_alone"], result["rows_done"]) == (1, 0)
    assert len(result["left_alone"][0][1]) == 203, "a value is shown cut"
    assert database.sql("SELECT count(value) AS n FROM t") == [{"n": 1}]


def test_large_values_behind_small_ones_halve_the_batch(database: Database, module: Module) -> None:
    """What was learned from the small ones lets a batch grow beyond what a journal can hold."""
    steps = large(database, module, "keyset", 4000, from_row=2500)
    steps.spec["batch_target_ms"] = 2000
    assert fill(steps)["rows_done"] == 4000
    assert steps.back()["rows_done"] == 0


def test_a_value_that_no_journal_can_hold_stops_the_run_and_its_row_is_named(
    database: Database, module: Module
) -> None:
    steps = Table(rows=50, spec={"columns": [{"name": "value", "type": "text", "source": "value"}]})
    run = steps.make(database, module)
    run.begin()
    run.approve("backfill")
    database.sql("UPDATE s SET value = repeat('x', 270000000) WHERE ref = 3")
    while "rows_done" in (result := run.attempt("backfill")):
        assert not result["done"]
    assert "refuses to fill 1 row" in result["msg"] and "Next step" in result["msg"]
    assert "By key: [3]: " in result["msg"]
    run.do("run", state="failed")
    database.sql("UPDATE s SET value = 'v3' WHERE ref = 3")
    run.begin()
    run.approve("backfill")
    run.backfill()
    all_right(database)
