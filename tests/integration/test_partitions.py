# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of a phase on a partitioned table: built in parts, gone on with, taken back."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.ddl import index_parts
from tests.integration.conftest import Database
from tests.integration.small_table import INDEX, Table, all_right, fill
from tests.integration.steps import Module, Steps, content

Phase = dict[str, Any]

T = (("public", "t"),)
LONG = "t_" + "ä" * 29
ROWS = (
    "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
    " CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 500) i"
)
TWO_LEVELS = (
    "CREATE SCHEMA elsewhere",
    "CREATE TABLE t_one PARTITION OF t FOR VALUES IN (1, 2, 3)",
    "CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY HASH (id)",
    "CREATE TABLE elsewhere.t_one PARTITION OF t_rest FOR VALUES WITH (MODULUS 3, REMAINDER 0)",
    f'CREATE TABLE "{LONG}" (other int, pad text, value text, id int, ref int)',
    f'ALTER TABLE t_rest ATTACH PARTITION "{LONG}" FOR VALUES WITH (MODULUS 3, REMAINDER 1)',
    "CREATE TABLE t_empty PARTITION OF t_rest FOR VALUES WITH (MODULUS 3, REMAINDER 2)",
    "ALTER TABLE t ADD PRIMARY KEY (id, ref)",
    ROWS,
    "DELETE FROM t_empty",
)
STATE = (
    "SELECT i.indexrelid::regclass::text AS name, i.indisvalid AS valid, h.inhparent IS NOT NULL"
    " AS attached FROM pg_index i LEFT JOIN pg_inherits h ON h.inhrelid = i.indexrelid"
    " WHERE i.indrelid IN (SELECT relid FROM pg_partition_tree('t')) AND NOT i.indisprimary"
)


def partitioned(*after: str, **spec: Any) -> Table:
    """Two levels of partitions, one in another schema and one with its columns in another order."""
    return Table(
        rows=0,
        options="PARTITION BY LIST (ref)",
        key=("id", "ref"),
        after=(*TWO_LEVELS, *after),
        spec={"indexes": [INDEX], **spec},
    )


def flat(number: int, *after: str, **spec: Any) -> Table:
    """One level, so many partitions."""
    parts = (
        f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES WITH (MODULUS {number}, REMAINDER {n})"
        for n in range(number)
    )
    return Table(
        rows=0,
        options="PARTITION BY HASH (id)",
        after=(*parts, "ALTER TABLE t ADD PRIMARY KEY (id)", ROWS, *after),
        spec={"indexes": [INDEX], **spec},
    )


def state(database: Database) -> dict[str, tuple[bool, bool]]:
    """Whether each index, apart from those of the key, is valid, and attached."""
    return {row["name"]: (row["valid"], row["attached"]) for row in database.sql(STATE)}


def indexes_of(database: Database) -> Any:
    """What a rollback has to restore, apart from the rows."""
    return content(database)["catalog"]


def begun(steps: Steps) -> Steps:
    steps.begin()
    steps.approve("backfill")
    return steps


KINDS = {
    "plain": {},
    "include and condition": {"include": ["other"], "where": "value IS NOT NULL"},
    "gin": {"columns": ["tags"], "method": "gin"},
}


@pytest.mark.representative
@pytest.mark.parametrize("index", KINDS.values(), ids=KINDS.keys())
def test_built_on_each_partition_and_taken_back(
    any_database: Database, module: Module, index: Phase
) -> None:
    table = partitioned(indexes=[{**INDEX, **index}])
    if "tags" in index.get("columns", []):
        table.after = (*table.after, "ALTER TABLE t ADD tags text[]")
    steps = table.make(any_database, module)
    before = content(any_database, *T)
    fill(steps)
    all_right(any_database)
    found = state(any_database)
    assert found["t_value"] == (True, False) and len(found) == 6
    assert {n: s for n, s in found.items() if n != "t_value"} == dict.fromkeys(
        found.keys() - {"t_value"}, (True, True)
    )
    assert not Steps(module, any_database.login, steps.spec).plan()["needed"]
    steps.back()
    assert content(any_database, *T) == before
    left = "SELECT count(*) AS n FROM pgrunbook.change WHERE undone_at IS NULL"
    assert any_database.sql(left) == [{"n": 0}]


def test_parts_have_the_names_that_postgresql_gives(any_database: Database, module: Module) -> None:
    steps = partitioned(
        "CREATE TABLE t_one_value_idx ()",
        indexes=[{**INDEX, "include": ["ref"]}, INDEX | {"name": "two"}],
    ).make(any_database, module)
    fill(steps)
    ours = set(state(any_database))
    any_database.sql("DROP INDEX t_value; DROP INDEX two")
    any_database.sql("CREATE INDEX t_value ON t (value) INCLUDE (ref)")
    any_database.sql("CREATE INDEX two ON t (value)")
    assert set(state(any_database)) == ours
    assert {"t_one_value_idx1", "elsewhere.t_one_value_idx"} <= ours


def test_what_is_locked_is_what_the_plan_says(database: Database, module: Module) -> None:
    """A transaction that wrote to the table holds the first statement up, and no longer than its
    tries; one that read a partition holds up what attaches its index."""
    table = flat(2, "CREATE INDEX mine ON t_1 (value)", lock_timeout_ms=100)
    steps = begun(table.make(database, module))
    (step,) = [s for s in steps.planned["plan"]["steps"] if s["id"] == "index_build"]
    assert step["lock"].startswith("SHARE on the partitioned table")
    with database.connect() as holder:
        with holder.transaction():
            holder.execute("UPDATE t SET other = 1 WHERE id = 1")
            assert "no lock after 2 tries" in steps.refused("index", actions=["build"])
        assert "t_value" not in state(database)
        with holder.transaction():
            holder.execute("SELECT FROM t_1 WHERE value = 'v1'")
            message = steps.refused("index", actions=["build"])
            assert "ATTACH PARTITION" in message and "no lock after 2 tries" in message
            assert state(database)["t_value"] == (False, False)
            holder.execute("INSERT INTO t (id, ref) VALUES (-1, 1)")
    assert steps.do("index", actions=["build"])["queries"] == [
        'ALTER INDEX "public"."t_value" ATTACH PARTITION "public"."mine"'
    ]
    assert set(state(database).values()) == {(True, False), (True, True)}


def test_who_holds_a_partition_is_named_where_the_whole_index_is_to_be_dropped(
    database: Database, module: Module
) -> None:
    steps = begun(flat(2, lock_timeout_ms=100).make(database, module))
    steps.build()
    steps.do("run", state="finished")
    text = steps.plan(rollback_of=steps.planned["run"]["id"])["text"]
    assert "lock  ACCESS EXCLUSIVE on the partitioned table and all its partitions" in text
    steps.approve("rollback")
    with database.connect() as holder, holder.transaction():
        holder.execute("SELECT FROM t_1")
        message = steps.refused("index", state="reverted")
        assert f"It is held by pid {holder.info.backend_pid} " in message
    assert set(state(database).values()) == {(True, False), (True, True)}
    steps.do("index", state="reverted")
    assert state(database) == {}


def kill_while_building(database: Database, steps: Steps, partition: str) -> None:
    """End all sessions of the build while it waits, on this partition, for an older transaction."""
    at_work = (
        "SELECT count(*) FILTER (WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND query LIKE"
        f" '%{partition}%' AND wait_event_type = 'Lock') > 0 AS waits FROM pg_stat_activity"
        " WHERE application_name LIKE 'pgrunbook/%'"
    )

    def end() -> None:
        with database.connect() as conn:
            while not conn.execute(at_work).fetchone()["waits"]:  # type: ignore[index]
                time.sleep(0.02)
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'pgrunbook/%'"
            )

    ending = threading.Thread(target=end)
    with database.connect() as holder, holder.transaction():
        holder.execute(
            f"UPDATE {partition} SET other = 1 WHERE id = (SELECT min(id) FROM {partition})"
        )
        ending.start()
        assert steps.attempt("index", actions=["build"]).get("failed")
        ending.join()


def test_a_build_that_was_killed_goes_on(database: Database, module: Module) -> None:
    """What is there is kept, and what is INVALID is built again."""
    steps = flat(3, lock_tries=5).make(database, module)
    before = indexes_of(database)
    begun(steps)
    steps.backfill()
    kill_while_building(database, steps, "t_1")
    assert state(database) == {
        "t_value": (False, False),
        "t_0_value_idx": (True, False),
        "t_1_value_idx": (False, False),
    }
    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    again = Steps(module, database.login, steps.spec)
    assert again.plan()["run"]["id"] == steps.planned["run"]["id"]
    (step,) = [s for s in again.planned["plan"]["steps"] if s["id"] == "index_build"]
    kinds = [statement.split(" ")[0] for statement in step["statements"]]
    assert kinds == ["DROP", "CREATE", "CREATE", "ALTER", "ALTER", "ALTER"]
    again.approve("plan")
    again.approve("backfill")
    again.build()
    assert set(state(database).values()) == {(True, False), (True, True)}
    again.do("run", state="finished")
    again.back()
    assert indexes_of(database) == before


@pytest.mark.parametrize("when", ["before a part is attached", "after all of it"])
def test_a_build_that_was_killed_is_taken_back(
    database: Database, module: Module, when: str
) -> None:
    steps = partitioned().make(database, module)
    before = indexes_of(database)
    begun(steps)
    if when == "after all of it":
        steps.build()
    else:
        kill_while_building(database, steps, "t_empty")
        found = list(state(database).values())
        assert found.count((True, False)) == 2 and found.count((False, False)) == 3
        database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    steps.do("run", state="failed")
    steps.back()
    assert indexes_of(database) == before


def test_an_index_that_a_partition_has_is_attached_and_comes_back(
    database: Database, module: Module
) -> None:
    steps = flat(
        3,
        "CREATE INDEX mine ON t_0 (value)",
        "CREATE INDEX t_1_value_idx ON t_1 (value) WITH (fillfactor = 70)",
        "CREATE UNIQUE INDEX t_2_value_idx ON t_2 (value, id)",
    ).make(database, module)
    before = indexes_of(database)
    begun(steps)
    (step,) = [s for s in steps.planned["plan"]["steps"] if s["id"] == "index_build"]
    assert "CREATE INDEX CONCURRENTLY mine ON public.t_0" in " ".join(step["undo"])
    steps.build()
    found = state(database)
    assert found["mine"] == (True, True) and found["t_1_value_idx"] == (True, False)
    assert found["t_1_value_idx1"] == (True, True) and "t_0_value_idx" not in found
    steps.do("run", state="finished")
    steps.plan(rollback_of=steps.planned["run"]["id"])
    assert "CREATE INDEX CONCURRENTLY mine ON public.t_0" in steps.planned["text"]
    steps.back()
    assert indexes_of(database) == before


def test_an_index_begun_by_hand_is_completed_and_its_parts_come_back(
    database: Database, module: Module
) -> None:
    steps = flat(
        2,
        "CREATE INDEX t_value ON ONLY t (value)",
        "CREATE INDEX mine ON t_0 (value)",
        "ALTER INDEX t_value ATTACH PARTITION mine",
    ).make(database, module)
    begun(steps)
    steps.build()
    assert state(database)["t_value"] == (True, False)
    steps.do("run", state="finished")
    steps.back()
    assert state(database) == {"mine": (True, False)}


def test_renamed_with_its_parts_as_they_are(database: Database, module: Module) -> None:
    steps = partitioned(
        "CREATE INDEX old ON t (value)", indexes=[{**INDEX, "renamed_from": "old"}]
    ).make(database, module)
    before = indexes_of(database)
    begun(steps)
    assert "t_value" in state(database) and "old" not in state(database)
    assert not steps.build()["changed"]
    steps.do("run", state="finished")
    steps.back()
    assert indexes_of(database) == before


def by_list() -> Table:
    return Table(
        rows=0,
        options="PARTITION BY LIST (ref)",
        key=("id", "ref"),
        after=(
            "CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1)",
            "ALTER TABLE t ADD PRIMARY KEY (id, ref)",
            "INSERT INTO t (id, ref) VALUES (1, 1)",
        ),
        spec={"indexes": [INDEX]},
    )


def test_a_new_partition_is_not_in_the_approved_plan(database: Database, module: Module) -> None:
    steps = begun(by_list().make(database, module))
    database.sql("CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)")
    assert "does not hold this statement" in steps.refused("index", actions=["build"])
    assert state(database) == {}


def test_a_partition_that_is_made_during_the_build_has_its_part(
    database: Database, module: Module
) -> None:
    steps = begun(by_list().make(database, module))
    kill_while_building(database, steps, "t_1")
    database.sql("CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2)")
    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    again = begun(Steps(module, database.login, steps.spec))
    again.build()
    assert state(database) == {
        "t_value": (True, False),
        "t_1_value_idx": (True, True),
        "t_2_value_idx": (True, True),
    }
    again.do("run", state="finished")
    again.back()
    assert state(database) == {}


INVALID = {
    "the old one": (
        ["CREATE INDEX old ON ONLY t (value)"],
        {**INDEX, "renamed_from": "old"},
        "Index 'old' of public.t is INVALID",
    ),
    "another of that name": (
        ["CREATE INDEX t_value ON ONLY t (other)"],
        INDEX,
        "Index 't_value' of public.t is there, but as",
    ),
    "a part": (
        [
            "CREATE INDEX t_value ON ONLY t (value)",
            "CREATE INDEX mine ON t_0 (value)",
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'mine'::regclass",
            "ALTER INDEX t_value ATTACH PARTITION mine",
        ],
        INDEX,
        'REINDEX INDEX CONCURRENTLY "public"."mine"',
    ),
}


@pytest.mark.parametrize(("statements", "index", "why"), INVALID.values(), ids=INVALID.keys())
def test_what_is_invalid_and_not_to_be_replaced(
    database: Database, module: Module, statements: list[str], index: Phase, why: str
) -> None:
    steps = flat(2, indexes=[index]).make(database, module)
    for statement in statements:
        database.superuser(statement)
    assert why in steps.refused("plan")


@pytest.mark.parametrize("strategy", ["auto", "interleaved"])
def test_an_index_of_a_partitioned_table_is_not_deferred(
    database: Database, module: Module, strategy: str
) -> None:
    """It could only be dropped under ACCESS EXCLUSIVE on every partition."""
    steps = flat(3, "CREATE INDEX t_value ON t (value)", strategy=strategy).make(database, module)
    if strategy == "auto":
        said = steps.plan()["why_strategy"]
        assert steps.planned["plan"]["strategy"]["name"] == "ranges"
    else:
        said = steps.refused("plan")
    assert "t_value cannot be dropped for the backfill" in said
    assert "only under ACCESS EXCLUSIVE on all its partitions" in said
    assert "t_0" not in said


def test_the_plan_of_many_partitions_is_short_and_binds_every_statement(
    database: Database, module: Module
) -> None:
    """Fifty-five partitions, two indexes to be built, one of which is there on each of them."""
    there = (f"CREATE INDEX other_{n} ON t_{n} (other)" for n in range(55))
    wanted = [INDEX, {"name": "t_other", "columns": ["other"]}]
    steps = flat(55, *there, indexes=wanted).make(database, module)
    text = steps.plan()["text"]
    assert len(text.splitlines()) < 130, text
    assert text.count("and the same for 54 more of its partitions") == 5
    statements = {s["id"]: s["statements"] for s in steps.planned["plan"]["steps"]}
    assert len(statements["backfill"]) == 55 + 55 + 1
    assert len(statements["index_build"]) == 1 + 55 + 55 + 1 + 55
    begun(steps)
    steps.build()
    steps.do("run", state="finished")
    back = steps.plan(rollback_of=steps.planned["run"]["id"])
    assert len(back["text"].splitlines()) < 30, back["text"]
    assert len(back["queries"]) == 2 + 55


def test_a_query_on_a_partitioned_table_is_told_of_an_entry(
    database: Database, module: Module
) -> None:
    pair = {"snapshot": "SELECT ref FROM {table} WHERE {value} = 'v1'", "baseline": "SELECT 1"}
    query = {"name": "q", **pair, "enforce": False}
    wanted = {"queries": [query], "speedup_min": 1e6, "repetitions": 1}
    steps = flat(2, indexes=[], **wanted).make(database, module)
    ((found,), (check,)) = (steps.do("query_gates")[part] for part in ("pairs", "checks"))
    entry = "{name: ix_t_value, columns: [value], include: [ref]}"
    assert f"In phase_indexes: {entry}" in check["measured"]
    assert found["proposal"]["sql"].startswith(f"-- {entry}")
    assert found["proposal"]["undo"] == 'DROP INDEX "public"."ix_t_value"'


def test_odd_names_of_partitions_and_their_indexes(database: Database, module: Module) -> None:
    partition, index = '"P ""10 %"" {a} \'"', '"I ""5 %%"" \''
    steps = flat(
        2,
        f"ALTER TABLE t_0 RENAME TO {partition}",
        f"CREATE INDEX {index}\" ON {partition} (value) WHERE value <> '10 %'",
        f'ALTER TABLE t_1 RENAME TO {partition[:-1]}{"y" * 40}"',
        indexes=[{**INDEX, "where": "value <> '10 %'"}],
    ).make(database, module)
    before = content(database, *T)
    fill(steps)
    assert set(state(database).values()) == {(True, False), (True, True)}
    steps.back()
    assert content(database, *T) == before


def test_no_part_is_begun_after_the_end_of_the_window(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = begun(flat(3).make(database, module))
    asked = iter([False, False])
    monkeypatch.setattr(index_parts, "window_closed", lambda _: next(asked, True))
    message = steps.refused("index", actions=["build"])
    assert "with 2 of 7 statements for index 't_value' done" in message
    assert state(database) == {"t_value": (False, False), "t_0_value_idx": (True, False)}
    monkeypatch.undo()
    assert len(steps.build()["queries"]) == 5
