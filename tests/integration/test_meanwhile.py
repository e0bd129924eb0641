# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do to the table, its source and the ledger in the middle of a run, and between a run
and its rollback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.meanwhile import (
    KEYED,
    SMALL,
    before_batch,
    canary_filled,
    rollback_approved,
)
from tests.integration.small_table import Table, all_right, fill, one_slice
from tests.integration.steps import Module, Steps

Meanwhile = Callable[[int, Callable[[], object]], None]
UNKEYED = Table(rows=600, key=(), after=(), spec={**SMALL, "waive_rollback": True})
REWRITES = {
    "vacuum full": "VACUUM FULL t",
    "cluster": "CLUSTER t USING t_other",
    "swap": "BEGIN; SELECT swap(); COMMIT",
}
# What pg_repack does, in short: other rows in another file under the table's own oid.
SWAP = """
CREATE FUNCTION swap() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK t; CREATE TABLE copy AS SELECT * FROM t ORDER BY id DESC;
    TRUNCATE t; INSERT INTO t SELECT * FROM copy; DROP TABLE copy;
END $$
"""


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """meanwhile(4, work): another session does work() before the fourth batch begins."""

    def before(number: int, work: Callable[[], object]) -> None:
        before_batch(monkeypatch, lambda begun: begun == number, work)

    return before


def filling(steps: Steps) -> str:
    """A run that may fill all other rows; its id."""
    run = canary_filled(steps)
    steps.approve("backfill")
    return run


def canary_gate(steps: Steps) -> dict[str, Any]:
    checks = steps.do("data_gates", canary_of=steps.planned["run"]["id"])["checks"]
    gate: dict[str, Any] = next(check for check in checks if check["id"] == "canary")
    return gate


# --- Every row has another place ------------------------------------------------------------------


def rewriting(database: Database, which: str) -> Callable[[], object]:
    database.superuser("CREATE INDEX t_other ON t (other, id DESC)")
    database.sql(SWAP)
    return lambda: database.superuser(REWRITES[which])


@pytest.mark.parametrize(
    ("strategy", "which"),
    [("interleaved", which) for which in REWRITES] + [("ranges", "swap"), ("keyset", "cluster")],
)
def test_rows_with_other_places_are_all_filled_and_given_back(
    database: Database, module: Module, meanwhile: Meanwhile, which: str, strategy: str
) -> None:
    """After a slice that left a chunk half done, between two batches, and before the rollback."""
    table = Table(rows=2000, spec={**SMALL, "strategy": strategy})
    steps = table.make(database, module)
    rewrite = rewriting(database, which)
    before = database.sql("SELECT * FROM t ORDER BY id")
    filling(steps)
    one_slice(steps, seconds=0)  # the rest of the chunk that the canary began
    one_slice(steps, seconds=0)
    left = database.sql("SELECT jsonb_array_length(unfinished) AS n FROM pgrunbook.run")[0]["n"]
    assert left == (strategy == "interleaved")
    rewrite()
    meanwhile(5, rewrite)
    steps.backfill()
    steps.do("run", state="finished")
    all_right(database)
    rewrite()
    assert steps.back()["rows_left_alone"] == 0
    assert database.sql("SELECT * FROM t ORDER BY id") == before


@pytest.mark.parametrize("which", ["vacuum full", "cluster"])
def test_a_canary_without_a_journal_of_keys_is_judged_by_its_own_rows(
    database: Database, module: Module, which: str
) -> None:
    """Its journal has places only, and these are other rows' now: some that no one has filled, and
    some that are wrong."""
    steps = UNKEYED.make(database, module)
    rewrite = rewriting(database, which)
    canary_filled(steps)
    database.sql("DELETE FROM t WHERE id % 7 = 1 AND value IS NULL")
    database.sql("UPDATE t SET value = 'wrong' WHERE id > 200 AND ref BETWEEN 1 AND 50")
    rewrite()
    gate = canary_gate(steps)
    assert gate["status"] == "pass"
    assert gate["measured"] == "100.0 % of 60 rows"


def test_a_place_that_another_row_has_got_is_none_of_the_canarys(
    database: Database, module: Module
) -> None:
    steps = UNKEYED.make(database, module)
    canary_filled(steps)
    gone = database.sql("DELETE FROM t WHERE id BETWEEN 1 AND 20 AND id <> 5 RETURNING id")
    database.superuser("VACUUM t")
    database.sql(
        "INSERT INTO t (id, ref, value) SELECT 1000 + i, 1, 'new' FROM generate_series(1, 300) i"
    )
    gate = canary_gate(steps)
    assert gate["status"] == "pass"
    assert gate["measured"].startswith(f"100.0 % of {60 - len(gone)} rows; {len(gone)} more were")


def test_a_canary_of_which_no_row_is_found_again_fails_and_more_rows_go_on(
    database: Database, module: Module
) -> None:
    steps = UNKEYED.make(database, module)
    rewrite = rewriting(database, "swap")
    canary_filled(steps)
    rewrite()
    gate = canary_gate(steps)
    assert gate["status"] == "fail"
    assert "100.0 % of 0 rows; 60 more were not found again" in gate["measured"]
    steps.do("run", state="failed")
    steps.spec["canary_rows"] = 120
    canary_filled(steps)
    assert canary_gate(steps)["status"] == "pass"
    steps.approve("backfill")
    steps.backfill()
    all_right(database)


# --- The table is emptied -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 4], ids=["slices", "batches"])
def test_a_table_that_is_emptied_stops_the_run_which_goes_on_with_new_rows(
    database: Database, module: Module, meanwhile: Meanwhile, number: int
) -> None:
    steps = KEYED.make(database, module)
    run = filling(steps)
    database.sql("CREATE TABLE kept AS SELECT id, ref, other, pad FROM t WHERE id % 25 > 0")
    if number:
        meanwhile(number, lambda: database.sql("TRUNCATE t"))
    else:
        database.sql("TRUNCATE t")
    message = steps.refused("backfill")
    assert f"public.t is empty, although run {run} has filled" in message
    steps.do("run", state="failed")
    database.sql("INSERT INTO t (id, ref, other, pad) SELECT * FROM kept")
    fill(steps)
    assert steps.planned["run"]["id"] == run
    all_right(database)


def test_an_emptied_table_is_no_go_and_a_rollback_lists_its_rows(
    database: Database, module: Module
) -> None:
    steps = KEYED.make(database, module)
    run = filling(steps)
    steps.backfill()
    database.sql("TRUNCATE t")
    for after in ({}, {"unfilled_max": 0}):
        checks = steps.do("data_gates", **after)["checks"]
        coverage = next(check for check in checks if check["id"] == "coverage")
        assert coverage["status"] == "fail"
        assert f"the table is empty, although run {run} has filled 480 rows" in coverage["measured"]
    steps.do("run", state="failed")
    result = steps.back()
    assert (result["rows_left_alone"], result["rows_changed"]) == (480, 0)


def test_a_table_that_is_emptied_between_approval_and_run_stops_it(
    database: Database, module: Module
) -> None:
    steps = KEYED.make(database, module)
    steps.begin()
    database.sql("TRUNCATE t")
    assert "was to fill 480 rows of it" in steps.refused("backfill", canary=True)
    checks = steps.do("data_gates")["checks"]
    assert [check["id"] for check in checks if check["status"] == "fail"] == ["coverage"]


def test_a_table_that_was_always_empty_is_go(database: Database, module: Module) -> None:
    steps = Table(rows=0).make(database, module)
    steps.gates("data_gates")


# --- Columns, keys, types and tables --------------------------------------------------------------

CHANGES = {
    "column dropped": ("ALTER TABLE t DROP value", "column value of public.t is gone"),
    "column renamed": ("ALTER TABLE t RENAME value TO v", "column value of public.t is gone"),
    "column's type": ("ALTER TABLE t ALTER value TYPE varchar", "column value of public.t was"),
    "column not null": (
        "UPDATE t SET value = '' WHERE value IS NULL; ALTER TABLE t ALTER value SET NOT NULL",
        "column value of public.t was changed",
    ),
    "key dropped": ("ALTER TABLE t DROP CONSTRAINT t_pkey", "t_pkey on public.t is gone"),
    "source's column dropped": ("ALTER TABLE s DROP value", "column value of public.s is gone"),
    "source's column renamed": ("ALTER TABLE s RENAME value TO v", "value of public.s is gone"),
    "source's column's type": ("ALTER TABLE s ALTER value TYPE varchar", "value of public.s was"),
    "source's key dropped": ("ALTER TABLE s DROP ref", "column ref of public.s is gone"),
    "source dropped": ("DROP TABLE s", "There is no table public.s"),
    "table dropped": ("DROP TABLE t", "There is no table public.t"),
    "table renamed": ("ALTER TABLE t RENAME TO u", "There is no table public.t"),
    "row security": (
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY half ON t USING (id % 2 = 0)",
        "policy half on public.t is new",
    ),
    "row security of the source": (
        "ALTER TABLE s ENABLE ROW LEVEL SECURITY; ALTER TABLE s FORCE ROW LEVEL SECURITY;"
        " CREATE POLICY half ON s USING (ref % 2 = 0)",
        "policy half on public.s is new",
    ),
}


@pytest.mark.parametrize(("change", "named"), CHANGES.values(), ids=CHANGES.keys())
def test_what_is_changed_between_two_batches_is_named_before_the_run_can_end(
    database: Database, module: Module, meanwhile: Meanwhile, change: str, named: str
) -> None:
    """In the last slice, which no other one follows; the server refuses some of it, not all."""
    steps = KEYED.make(database, module)
    filling(steps)
    meanwhile(4, lambda: database.superuser(change))
    message = steps.refused("backfill")
    assert named in message
    assert ("batches that were committed are kept" in message) or named.startswith("There is no")
    rows = database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"]
    assert rows > 60


@pytest.mark.parametrize(
    "change", ["ALTER TABLE t DROP value", "ALTER TABLE s DROP ref", "ALTER TABLE t DROP ref"]
)
def test_the_gates_name_a_column_that_is_gone(
    database: Database, module: Module, change: str
) -> None:
    steps = KEYED.make(database, module)
    filling(steps)
    steps.backfill()
    database.sql(change)
    table, column = change.split()[2], change.split()[-1]
    assert f"Table public.{table} has no column '{column}'" in steps.refused("data_gates")


def test_a_column_that_is_renamed_after_the_approval_of_a_rollback_stops_it(
    database: Database, module: Module
) -> None:
    """It stopped nothing, gave no row back, and the run counted as taken back."""
    steps = KEYED.make(database, module)
    canary_filled(steps)
    rollback_approved(steps)
    database.sql("ALTER TABLE t RENAME value TO v")
    message = steps.refused("backfill", state="reverted")
    assert "column value of public.t is gone" in message
    database.sql("ALTER TABLE t RENAME v TO value")
    assert steps.backfill(state="reverted")["rows_changed"] == 60


@pytest.mark.parametrize("table", ["t", "s"])
def test_row_security_that_is_switched_on_before_a_rollback_stops_it(
    database: Database, module: Module, table: str
) -> None:
    """It would give back the rows that the role sees, and count the others as left alone."""
    steps = KEYED.make(database, module)
    canary_filled(steps)
    rollback_approved(steps)
    change, _ = CHANGES["row security" if table == "t" else "row security of the source"]
    database.sql(change)
    message = steps.refused("backfill", state="reverted")
    assert f"public.{table} (policies half)" in message


@pytest.mark.parametrize(
    ("index", "enough"),
    [
        ("CREATE INDEX ON t (id)", False),
        ("CREATE UNIQUE INDEX ON t (id, ref)", False),
        ("CREATE UNIQUE INDEX ON t (id) WHERE id > 0", False),
        ("CREATE UNIQUE INDEX ON t (id DESC) INCLUDE (ref)", True),
    ],
)
def test_a_rollback_needs_a_key_that_is_unique_still(
    database: Database, module: Module, index: str, enough: bool
) -> None:
    """Else it would empty another row of the same key that holds the same value."""
    steps = KEYED.make(database, module)
    run = canary_filled(steps)
    steps.do("run", state="failed")
    database.sql("ALTER TABLE t DROP CONSTRAINT t_pkey")
    database.sql(index)
    if enough:
        assert steps.back()["rows_left_alone"] == 0
        return
    message = steps.refused("plan", rollback_of=run)
    assert "no unique index on (id) any more" in message
    database.sql(message.split("Next step: ")[1].split(";")[0])
    assert steps.back()["rows_left_alone"] == 0


# --- Partitions -----------------------------------------------------------------------------------

PARTS = Table(
    rows=0,
    options="PARTITION BY RANGE (id)",
    after=(
        *(
            f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES FROM ({n * 200}) TO ({n * 200 + 200})"
            for n in range(3)
        ),
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "INSERT INTO t (id, ref, value)"
        " SELECT i, i % 60, CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 599) i",
    ),
    spec=SMALL,
)
ATTACH = (
    "CREATE TABLE t_00 (LIKE t INCLUDING ALL);"
    " INSERT INTO t_00 (id, ref) SELECT i, i % 60 FROM generate_series(601, 624) i;"
    " ALTER TABLE t ATTACH PARTITION t_00 FOR VALUES FROM (600) TO (900)"
)


def again(steps: Steps) -> None:
    """The run goes on with a new approval, to its end."""
    run = steps.planned["run"]["id"]
    steps.do("run", state="failed")
    filling(steps)
    assert steps.planned["run"]["id"] == run
    steps.backfill()
    steps.do("run", state="finished")


@pytest.mark.parametrize("number", [0, 5], ids=["slices", "batches"])
def test_a_partition_that_is_attached_is_filled_once_it_is_approved(
    database: Database, module: Module, meanwhile: Meanwhile, number: int
) -> None:
    """It comes before those that are filled already, whose pages count from another one then."""
    steps = PARTS.make(database, module)
    filling(steps)
    if number:
        meanwhile(number, lambda: database.sql(ATTACH))
    else:
        database.sql(ATTACH)
    assert "table public.t_00 is new" in steps.refused("backfill")
    again(steps)
    all_right(database)
    assert steps.back()["rows_left_alone"] == 0
    assert database.sql("SELECT count(value) AS n FROM t") == [{"n": 23}]


@pytest.mark.parametrize("number", [0, 5], ids=["slices", "batches"])
def test_a_partition_that_is_detached_is_attached_for_the_rollback(
    database: Database, module: Module, meanwhile: Meanwhile, number: int
) -> None:
    """One that was detached before its rows were filled stands in nobody's way."""
    steps = PARTS.make(database, module)
    run = filling(steps)
    detach = "ALTER TABLE t DETACH PARTITION t_0"
    if number:
        meanwhile(number, lambda: database.sql(detach))
    else:
        database.sql(f"{detach}; ALTER TABLE t DETACH PARTITION t_2")
    assert "t_0 on public.t_0 is gone" in steps.refused("backfill").replace("_pkey", "")
    again(steps)
    message = steps.refused("plan", rollback_of=run)
    assert "public.t_0 is no partition of public.t any more, and holds" in message
    assert "t_2" not in message
    text = steps.do("plan", rollback_of=run, acknowledged=["public.t_0"])["text"]
    assert "public.t_0 is no partition" in " ".join(text.split())
    database.sql("ALTER TABLE t ATTACH PARTITION t_0 FOR VALUES FROM (0) TO (200)")
    assert steps.back()["rows_left_alone"] == 0
    assert database.sql("SELECT count(value) AS n FROM t_0") == [{"n": 7}]


def test_a_partition_that_was_dropped_is_told_and_the_rest_given_back(
    database: Database, module: Module
) -> None:
    steps = PARTS.make(database, module)
    run = filling(steps)
    steps.backfill()
    steps.do("run", state="finished")
    database.sql("DROP TABLE t_0")
    assert "public.t_0 was dropped" in steps.do("plan", rollback_of=run)["text"]
    steps.back()
    assert database.sql("SELECT count(value) AS n FROM t") == [{"n": 16}]


# --- What the application does to keys and values -------------------------------------------------


@pytest.mark.parametrize("strategy", ["ranges", "keyset"])
def test_rows_with_other_keys_are_filled_and_left_alone_by_a_rollback(
    database: Database, module: Module, meanwhile: Meanwhile, strategy: str
) -> None:
    """Rows that are not filled yet get keys before those that are; filled ones get new keys."""
    steps = Table(rows=600, spec={**SMALL, "strategy": strategy}).make(database, module)
    filling(steps)
    others = (
        "SELECT id FROM t WHERE value IS NULL AND ref BETWEEN 1 AND 50 ORDER BY id DESC LIMIT 9"
    )
    ours = "SELECT id FROM t WHERE value LIKE 'v%' ORDER BY id LIMIT 4"
    meanwhile(
        4,
        lambda: database.sql(
            f"UPDATE t SET id = -id WHERE id IN ({others});"
            f" UPDATE t SET id = 10000 + id WHERE id IN ({ours})"
        ),
    )
    steps.backfill()
    steps.do("run", state="finished")
    assert database.sql("SELECT count(*) AS n FROM t WHERE value IS NULL AND ref IN (1, 50)") == [
        {"n": 0}
    ]
    result = steps.back()
    assert result["rows_left_alone"] == 4
    left = database.sql("SELECT id FROM t WHERE value LIKE 'v%' ORDER BY id")
    assert [row["id"] > 10000 for row in left] == [True] * 4


def test_a_value_that_the_application_fills_first_is_its_own(
    database: Database, module: Module, meanwhile: Meanwhile
) -> None:
    """Also where it is the run's; one that it writes again after the run is given back and told."""
    steps = KEYED.make(database, module)
    filling(steps)
    theirs = "UPDATE t SET value = 'v' || ref WHERE id IN (%s) RETURNING value"
    first = "SELECT id FROM t WHERE value IS NULL AND ref BETWEEN 1 AND 50 ORDER BY id DESC LIMIT 9"
    meanwhile(4, lambda: database.sql(theirs % first))
    steps.backfill()
    steps.do("run", state="finished")
    all_right(database)
    database.sql(theirs % "1, 2, 3")
    result = steps.back()
    assert (result["rows_left_alone"], result["rows_rewritten"]) == (0, 3)
    assert database.sql("SELECT count(*) AS n FROM t WHERE value LIKE 'v%'") == [{"n": 9}]


# --- A second phase on top ------------------------------------------------------------------------

CONVERTED = {
    "columns": [
        {
            "name": "value",
            "type": "varchar",
            "source": "value",
            "converted_from": "text",
            "using": "{value}::varchar",
        }
    ],
    "acknowledged": ["value"],
}
RENAMED = {
    "columns": [{"name": "worth", "type": "text", "source": "value", "renamed_from": "value"}]
}


@pytest.mark.parametrize(
    ("done", "spec"),
    [("converted", CONVERTED), ("renamed", RENAMED)],
    ids=["converted", "renamed"],
)
def test_a_later_phase_on_the_same_column_is_rolled_back_first(
    database: Database, module: Module, done: str, spec: dict[str, Any]
) -> None:
    """Else the first run would count as taken back, and its values come back with the second's."""
    first = KEYED.make(database, module)
    before = database.sql("SELECT * FROM t ORDER BY id")
    fill(first)
    second = Steps(module, database.login, {**first.spec, "phase": "second", **spec})
    fill(second)
    earlier, later = first.planned["run"]["id"], second.planned["run"]["id"]
    message = first.refused("plan", rollback_of=earlier)
    assert f"Run {later} has {done} column 'value' of public.t" in message
    text = first.do("plan", rollback_of=earlier, acknowledged=[later])["text"]
    assert "They stay (acknowledged)" in " ".join(text.split())
    second.back()
    assert first.back()["rows_left_alone"] == 0
    assert database.sql("SELECT * FROM t ORDER BY id") == before
