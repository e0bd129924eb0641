# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way through every shape of table fills the same, ends, or is refused."""

from __future__ import annotations

import threading

import psycopg
import pytest

from ansible.module_utils.pgrunbook.backfill import backfill, workers
from tests.integration.conftest import Database
from tests.integration.small_table import (
    RIGHT,
    Phase,
    Table,
    all_right,
    fill,
    one_slice,
)
from tests.integration.steps import TABLES, Module, Steps, content

WAYS = [("interleaved", 1), ("interleaved", 3), ("ranges", 2), ("keyset", 1), ("keyset", 3)]


@pytest.mark.parametrize(("strategy", "workers"), WAYS)
def test_every_way_gives_the_same(
    any_database: Database, module: Module, phase: Phase, strategy: str, workers: int
) -> None:
    """As one UPDATE, each row once in the journal; and back again."""
    before = content(any_database, *TABLES)
    expected = any_database.sql(
        "SELECT session_id, coalesce(snapshot_asn, current_asn) AS asn,"
        " coalesce(snapshot_country, geo_country) AS country,"
        " coalesce(snapshot_ip_types, ip_type) AS type"
        " FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip ORDER BY 1"
    )
    steps = Steps.of(
        module,
        any_database,
        {**phase, "phase_strategy": strategy, "phase_workers": workers, "phase_speedup_min": 0.001},
    )
    steps.forward()
    assert steps.planned["plan"]["strategy"]["name"] == strategy
    assert expected == any_database.sql(
        "SELECT session_id, snapshot_asn AS asn, snapshot_country AS country,"
        " snapshot_ip_type AS type FROM session_summaries ORDER BY 1"
    )
    journal = any_database.sql(
        "SELECT count(*) AS n, count(DISTINCT e ->> 0) AS keys"
        " FROM pgrunbook.batch, jsonb_array_elements(journal) e"
    )
    rows = steps.planned["counts"]["rows_eligible"]
    assert journal == [{"n": rows, "keys": rows}]
    steps.back()
    assert content(any_database, *TABLES) == before


SHAPES = {
    "generated column": Table(columns=", loud text GENERATED ALWAYS AS (upper(value)) STORED"),
    "partitioned by list, two levels": Table(
        options="PARTITION BY LIST (ref)",
        key=("id", "ref"),
        after=(
            "CREATE TABLE t_one PARTITION OF t FOR VALUES IN (1, 2, 3)",
            "CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY HASH (id)",
            *(
                f"CREATE TABLE t_rest_{n} PARTITION OF t_rest"
                f" FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
                for n in range(3)
            ),
            "ALTER TABLE t ADD PRIMARY KEY (id, ref)",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            " CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 500) i",
        ),
        rows=0,
    ),
    "partitioned, interleaved, two workers": Table(
        options="PARTITION BY HASH (id)",
        after=(
            *(
                f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
                for n in range(2)
            ),
            "ALTER TABLE t ADD PRIMARY KEY (id)",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            " CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 500) i",
        ),
        rows=0,
        spec={"strategy": "interleaved", "workers": 2},
    ),
    "empty": Table(rows=0),
}


@pytest.mark.parametrize("table", SHAPES.values(), ids=SHAPES.keys())
def test_shapes_of_tables(database: Database, module: Module, table: Table) -> None:
    steps = table.make(database, module)
    before = content(database, ("public", "t"))["rows"]
    fill(steps)
    all_right(database)
    if "loud" in table.columns:
        loud = "SELECT count(*) AS n FROM t WHERE loud IS DISTINCT FROM upper(value)"
        assert database.sql(loud) == [{"n": 0}]
    if steps.planned["counts"]["rows_eligible"]:
        steps.back()
        assert content(database, ("public", "t"))["rows"] == before


def test_without_a_key_and_without_rollback(database: Database, module: Module) -> None:
    steps = Table(key=(), after=(), spec={"waive_rollback": True}).make(database, module)
    steps.begin()
    steps.backfill(canary=True)
    steps.gates("data_gates", canary_of=steps.planned["run"]["id"])
    steps.approve("backfill")
    steps.backfill()
    steps.do("run", state="finished")
    all_right(database)
    message = steps.refused("plan", rollback_of=steps.planned["run"]["id"])
    assert "waived its rollback" in message


TRIGGER = (
    "ALTER TABLE t ADD PRIMARY KEY (id)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.other = 7; RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
)


def test_a_trigger_is_acknowledged_and_fires(database: Database, module: Module) -> None:
    table = Table(after=TRIGGER)
    steps = table.make(database, module)
    assert "Trigger 'touch'" in steps.refused("plan")
    steps.spec["acknowledged"] = ["touch"]
    assert "Trigger touch fires" in steps.plan()["text"]
    fill(steps)
    all_right(database)
    touched = "SELECT count(*) AS n FROM t WHERE other = 7"
    assert database.sql(touched)[0]["n"] == steps.planned["counts"]["rows_eligible"]


def test_a_trigger_on_what_is_generated_from_a_filled_column_fires_too(
    any_database: Database, module: Module
) -> None:
    table = Table(columns=", loud text GENERATED ALWAYS AS (upper(value)) STORED")
    steps = table.make(any_database, module)
    any_database.sql(TRIGGER[1].replace("NEW.other = 7;", "RAISE 'it fires';"))
    any_database.sql(
        "CREATE TRIGGER touch AFTER UPDATE OF loud ON t FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    with pytest.raises(psycopg.errors.RaiseException, match="it fires"):
        any_database.sql("UPDATE t SET value = 'x'")
    assert "Trigger 'touch'" in steps.refused("plan")


@pytest.mark.parametrize(
    "trigger",
    [
        "BEFORE UPDATE OF other ON t FOR EACH ROW",
        "AFTER INSERT ON t FOR EACH ROW",
        "AFTER DELETE OR TRUNCATE ON t FOR EACH STATEMENT",
    ],
)
def test_other_triggers_do_not_matter(database: Database, module: Module, trigger: str) -> None:
    steps = Table(after=(*TRIGGER[:2],)).make(database, module)
    database.sql(f"CREATE TRIGGER other {trigger} EXECUTE FUNCTION touch()")
    assert steps.plan()["plan"]["triggers"] == []


def test_a_batch_that_takes_too_long_is_halved(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "LEAST_TIMEOUT_MS", 150)
    slow = TRIGGER[1].replace("NEW.other = 7", "PERFORM pg_sleep(0.002)")
    steps = Table(
        after=(TRIGGER[0], slow, TRIGGER[2]),
        spec={"acknowledged": ["touch"], "batch_target_ms": 5, "batch_rows": 500},
    ).make(database, module)
    fill(steps)
    all_right(database)
    largest = database.sql("SELECT max(row_count) AS n FROM pgrunbook.batch")[0]["n"]
    assert largest <= 75


REFUSED = {
    "view": (("ALTER TABLE t RENAME TO base", "CREATE VIEW t AS SELECT * FROM base"), {}, "a view"),
    "foreign table": (
        (
            "DROP TABLE t",
            "CREATE FOREIGN DATA WRAPPER dummy",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy",
            "CREATE FOREIGN TABLE t (id int, ref int, value text) SERVER elsewhere",
        ),
        {},
        "a foreign table",
    ),
    "foreign partition": (
        (
            "DROP TABLE t",
            "CREATE TABLE t (id int, ref int, value text) PARTITION BY LIST (ref)",
            "CREATE FOREIGN DATA WRAPPER dummy",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy",
            "CREATE FOREIGN TABLE t_far PARTITION OF t DEFAULT SERVER elsewhere",
        ),
        {},
        "public.t_far, a partition of public.t, is a foreign table",
    ),
    "inheritance": (("CREATE TABLE child () INHERITS (t)",), {}, "inherit from public.t"),
    "filling the partition key": (
        (
            "DROP TABLE t",
            "CREATE TABLE t (id int, ref int, value text) PARTITION BY LIST (value)",
            "CREATE TABLE t_all PARTITION OF t DEFAULT",
        ),
        {},
        "partitioned by value",
    ),
    "no key": (("ALTER TABLE t DROP CONSTRAINT t_pkey",), {}, "no unique index on (id)"),
    "keyset without a key": (
        ("ALTER TABLE t DROP CONSTRAINT t_pkey",),
        {"key": [], "waive_rollback": True, "strategy": "keyset"},
        "has no key",
    ),
    "interleaved under a unique index": (
        ("CREATE UNIQUE INDEX u ON t (value, id)",),
        {"strategy": "interleaved"},
        "u cannot be dropped",
    ),
}


@pytest.mark.parametrize(("statements", "spec", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    database: Database, module: Module, statements: tuple[str, ...], spec: Phase, why: str
) -> None:
    steps = Table().make(database, module)
    steps.spec.update(spec)
    for statement in statements:
        database.sql(statement, user=database.server.user)
    for name in ("t", "s"):
        database.superuser(f"GRANT ALL ON {name} TO cowrieprocessor")
    before = database.superuser("SELECT oid FROM pg_class ORDER BY 1")
    assert why in steps.refused("plan")
    assert database.superuser("SELECT oid FROM pg_class ORDER BY 1") == before


def test_ends_although_rows_arrive_all_the_time(database: Database, module: Module) -> None:
    """Each sweep has an end that is fixed when it begins, and so has their number."""
    steps = Table(rows=2000, spec={"batch_rows": 20}).make(database, module)
    steps.begin()
    steps.approve("backfill")
    over = threading.Event()

    def arrive() -> None:
        with database.connect() as conn:
            number = 10_000
            while not over.wait(0.002):
                number += 1
                conn.execute("INSERT INTO t (id, ref) VALUES (%s, %s)", (number, number % 50 + 1))

    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        result = steps.backfill()
    finally:
        over.set()
        thread.join()
    assert result["sweep"] <= backfill.MAX_ROUNDS
    assert database.sql(f"{RIGHT} AND id < 10000") == [{"n": 0}]


def test_the_end_of_a_sweep_does_not_move(database: Database, module: Module) -> None:
    steps = Table(rows=3000, spec={"batch_rows": 20}).make(database, module)
    steps.begin()
    steps.approve("backfill")
    end = "SELECT end_page, sweep FROM pgrunbook.run"
    one_slice(steps, seconds=0)
    first = database.sql(end)
    database.sql("INSERT INTO t (id, ref) SELECT i, 7 FROM generate_series(5001, 9000) i")
    one_slice(steps, seconds=0)
    assert database.sql(end) == first and first[0]["sweep"] == 0
    steps.backfill()
    assert (
        database.sql("SELECT count(*) AS n FROM t WHERE id > 5000 AND value IS NULL")[0]["n"] == 0
    )


def test_a_value_that_is_taken_away_again_ends_the_run(database: Database, module: Module) -> None:
    contrary = TRIGGER[1].replace("NEW.other = 7", "NEW.value = NULL")
    steps = Table(
        after=(TRIGGER[0], contrary, TRIGGER[2]), spec={"acknowledged": ["touch"], "batch_rows": 5}
    ).make(database, module)
    steps.begin()
    steps.approve("backfill")
    assert "takes the value away" in steps.refused("backfill")


def test_rows_move_to_another_partition_under_a_batch(database: Database, module: Module) -> None:
    """PostgreSQL reports that as a serialization failure; the batch is tried again."""
    slow = (
        "CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.004); RETURN v; END $$"
    )
    parts = [f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES IN ({n})" for n in range(2)]
    steps = Table(
        rows=0,
        columns=", part int",
        options="PARTITION BY LIST (part)",
        key=("part", "id"),
        after=(
            *parts,
            "ALTER TABLE t ADD PRIMARY KEY (part, id)",
            "INSERT INTO t (part, id, ref) SELECT 0, i, i % 50 + 1 FROM generate_series(1, 200) i",
            slow,
        ),
        spec={"batch_rows": 500},
    ).make(database, module)
    steps.spec["columns"][0]["source"] = "public.slow(value)"
    steps.spec["acknowledged"] = ["slow()"]
    steps.plan()
    steps.approve("plan")
    steps.approve("backfill")

    def move() -> None:
        at_work = (
            "SELECT FROM pg_stat_activity WHERE query LIKE 'WITH picked%' AND state = 'active'"
        )
        with database.connect() as conn:
            while not conn.execute(at_work).rowcount:
                pass
            conn.execute("UPDATE t SET part = 1 WHERE id > 190")

    mover = threading.Thread(target=move)
    mover.start()
    steps.backfill()
    mover.join()
    moved = database.sql("SELECT count(*) AS n, count(value) AS filled FROM t WHERE part = 1")
    assert moved == [{"n": 10, "filled": 10}]
    assert database.sql("SELECT count(*) AS n FROM t WHERE value IS NULL") == [{"n": 0}]
