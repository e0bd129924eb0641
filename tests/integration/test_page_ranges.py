# SPDX-License-Identifier: GPL-3.0-or-later
"""A large table is read in short transactions, and the answers are those of one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Composable, Composed

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.backfill import constraints, counting, eligibility
from ansible.module_utils.pgrunbook.backfill.equality import rules
from ansible.module_utils.pgrunbook.backfill.sample import sample
from ansible.module_utils.pgrunbook.catalog import page_ranges
from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core.connection import Connection, connect
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Spec
from ansible.module_utils.pgrunbook.gates import orphans, row_comparison
from tests.integration.conftest import Database
from tests.integration.small_table import Table, all_right, fill
from tests.integration.steps import Module, Steps
from tests.integration.test_exact import finished
from tests.integration.test_meanwhile import REWRITES, SWAP
from tests.integration.test_partitions import partitioned

RANGE_PAGES = 2


@pytest.fixture
def by_ranges(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, a table of one page is a large one."""

    def begin() -> None:
        monkeypatch.setattr(page_ranges, "LARGE_PAGES", 1)
        monkeypatch.setattr(page_ranges, "RANGE_PAGES", RANGE_PAGES)

    return begin


@pytest.fixture
def steps(database: Database, module: Module) -> Steps:
    """A table of some pages, and its source."""
    return Table(rows=2000).make(database, module)


@pytest.fixture
def reading(steps: Steps) -> Iterator[Connection]:
    """What a module that only reads has."""
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        yield conn


def answers(steps: Steps, workers: int, *, read_only: bool = True) -> list[Any]:
    """Everything that is counted in a whole table."""
    spec = phase_module.parse({**steps.spec, "workers": workers, "sample_rows": 150})
    with connect(steps.login, name="test", read_only=read_only, schemas=["public"]) as conn:
        info = catalog.inspect(conn, spec.table)
        by = rules(conn, spec, info)
        return [
            counting.count(conn, spec, info),
            orphans.count_rows(conn, spec),
            row_comparison.compare_all(conn, spec, info, by, SQL("t.id < 100")),
            row_comparison.compare_sample(conn, spec, info, by, None),
            sample(conn, spec, info, by, 20),
            eligibility.any_left(conn, spec, info, SQL("t.id > 1900")),
            eligibility.any_left(conn, spec, info, SQL("t.id > 1000000")),
        ]


@pytest.mark.parametrize("rows", [0, 2000])
@pytest.mark.parametrize("table", [Table(), partitioned()], ids=["plain", "partitioned"])
def test_ranges_give_the_answers_of_one_statement(
    any_database: Database, module: Module, table: Table, rows: int, by_ranges: Callable[[], None]
) -> None:
    steps = table.make(any_database, module)
    any_database.sql("TRUNCATE t")
    any_database.sql(
        "INSERT INTO t (id, ref, value) SELECT i, i % 60, CASE WHEN i % 25 = 0 THEN"
        f" 'kept' END FROM generate_series(1, {rows}) i"
    )
    any_database.sql("UPDATE t SET value = 'v' || ref WHERE id > 1000 AND id % 7 = 0")
    expected = answers(steps, workers=1)
    assert (expected[0].rows_total, expected[1].rows, expected[5]) == (rows, rows, rows > 0)
    by_ranges()
    assert answers(steps, workers=1) == expected
    assert answers(steps, workers=2) == expected
    assert answers(steps, workers=2, read_only=False) == expected


PRIMARY = "ALTER TABLE t ADD PRIMARY KEY (id)"
REFUSING = (
    PRIMARY,
    "CREATE TABLE f (value text PRIMARY KEY); INSERT INTO f SELECT value FROM s WHERE ref <> 7",
    "ALTER TABLE t ADD FOREIGN KEY (value) REFERENCES f NOT VALID",
    "ALTER TABLE t ADD given int NOT NULL GENERATED ALWAYS AS"
    " (CASE WHEN value = 'v8' THEN NULL ELSE 1 END) STORED",
    "ALTER TABLE t ADD CONSTRAINT small CHECK (value <> 'v10')",
    "ALTER TABLE t ADD CONSTRAINT whole CHECK (to_jsonb(t) ->> 'value' <> 'v9')",
    "CREATE UNIQUE INDEX single ON t (value) WHERE value = 'v12'",
)
"""Each rule refuses the rows of another source row."""
FAILS = "ALTER TABLE t ADD CONSTRAINT fails CHECK (value <> 'v11' OR 1 / (id - 1811) < 2) NOT VALID"


@pytest.mark.parametrize("more", [(), (FAILS,)], ids=["all evaluated", "one fails"])
def test_rows_that_would_be_refused_are_those_of_one_statement(
    database: Database, module: Module, more: tuple[str, ...], by_ranges: Callable[[], None]
) -> None:
    steps = Table(rows=2000, after=(*REFUSING, *more)).make(database, module)

    def found(workers: int) -> constraints.Foreseen:
        with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
            spec, info = _table(conn, steps, workers=workers)
            return constraints.foresee(conn, spec, info)

    expected = found(1)
    assert {each.what: each.rows for each in expected.refused} == {
        "NOT NULL of column 'given' of public.t": 34,
        "CHECK constraint 'small' of public.t": 28,
        "CHECK constraint 'whole' of public.t": 34,
        "Foreign key 't_value_fkey' of public.t": 34,
        "Unique index 'single'": 33,
    }
    assert all(len(each.keys) == 5 for each in expected.refused)
    assert len(expected.unforeseen) == len(more)
    by_ranges()
    assert found(1) == expected
    assert found(2) == expected


def test_rules_of_one_row_leave_no_lock_behind(
    database: Database, module: Module, by_ranges: Callable[[], None]
) -> None:
    steps = Table(after=(PRIMARY, "ALTER TABLE t ADD CHECK (value <> 'bad')")).make(
        database, module
    )
    by_ranges()
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        spec, info = _table(conn, steps)
        assert constraints.foresee(conn, spec, info).refused == []
        database.sql("SET lock_timeout = '1s'; ALTER TABLE t ADD COLUMN more int")


OTHER_TABLE = (
    "CREATE TABLE u AS SELECT id, ref, NULL::text AS value FROM t",
    "ALTER TABLE u ADD PRIMARY KEY (id)",
    "CREATE TABLE s2 AS SELECT ref, 'kept' AS value FROM s",
)


def test_drifted_rows_are_counted_in_parts_of_the_journals(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = partitioned().make(database, module)
    fill(steps)
    database.sql("UPDATE s SET value = 'later' WHERE ref % 2 = 0")
    (drifted,) = database.sql("SELECT count(*) FROM t WHERE value = 'v' || ref AND ref % 2 = 0")
    assert drifted["count"] > 100
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        spec, info = _table(conn, steps)
        by = rules(conn, spec, info)
        for rows in (60, 10**6):
            monkeypatch.setattr(row_comparison, "JOURNAL_ROWS", rows)
            assert row_comparison.count_drifted(conn, spec, info, by) == drifted["count"]
            database.sql("SET lock_timeout = '1s'; ALTER TABLE t ALTER pad SET DEFAULT 'p'")


def test_rows_that_runs_on_other_tables_filled_are_none_that_drifted(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    """One has keys of another type, and one the same keys, with values that are wrong here."""
    finished(Steps.of(module, database, {**phase, "phase_queries": []}))
    steps = Table().make(database, module)
    fill(steps)
    for statement in OTHER_TABLE:
        database.sql(statement)
    other = {"phase": "other", "table": "u", "source_table": "s2"}
    fill(Steps(module, steps.login, {**steps.spec, **other}))
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        spec, info = _table(conn, steps)
        by = rules(conn, spec, info)
        assert row_comparison.compare_all(conn, spec, info, by, None).different == 17
        assert row_comparison.count_drifted(conn, spec, info, by) == 0


def test_rows_that_a_smaller_phase_filled_drift_like_others(
    database: Database, module: Module
) -> None:
    steps = Table().make(database, module)
    fill(steps)
    database.sql("UPDATE s SET value = 'later' WHERE ref = 1; UPDATE t SET other = ref")
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        other = {"name": "other", "type": "integer", "source": "ref"}
        spec, info = _table(conn, steps, columns=[other, *steps.spec["columns"]])
        by = rules(conn, spec, info)
        assert row_comparison.count_drifted(conn, spec, info, by) == 9


def test_a_later_day_is_judged_by_ranges_too(
    database: Database, module: Module, by_ranges: Callable[[], None]
) -> None:
    steps = Table(
        columns=", code text",
        key=("code",),
        after=("UPDATE t SET code = '% %s ' || id; ALTER TABLE t ADD PRIMARY KEY (code)",),
        spec={"workers": 2, "sample_rows": 50},
    ).make(database, module)
    database.sql("UPDATE t SET value = 'v' || ref WHERE value IS NULL AND id > 9")

    def checks() -> Any:
        return steps.do("data_gates", unfilled_max=0, grace_seconds=0.1)["checks"]

    expected = checks()
    (left,) = [check for check in expected if check["id"] == "remaining"]
    assert left["evidence"]["unfilled"] == 9
    by_ranges()
    assert checks() == expected


def test_every_range_is_a_transaction_of_its_own(
    database: Database, steps: Steps, reading: Connection, by_ranges: Callable[[], None]
) -> None:
    spec, info = _table(reading, steps)
    reading.execute("SET LOCAL statement_timeout = '77s'")
    by_ranges()

    def begun(rows: Composable) -> Composed:
        query = "SELECT jsonb_build_object(now()::text, count(*)) AS begun FROM {} t"
        return SQL(query).format(rows)

    for workers in (1, 2):
        found = page_ranges.summed(reading, spec.table, info, begun, workers)["begun"]
        assert len(found) == -(-info.pages // RANGE_PAGES) > 10
        assert sum(found.values()) == 2000
    (row,) = reading.execute("SHOW statement_timeout")
    assert row["statement_timeout"] == "77s"
    database.sql("SET lock_timeout = '1s'; ALTER TABLE t ADD COLUMN more int")


def test_a_connection_that_waits_for_the_other_one_is_not_ended(
    steps: Steps, reading: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own range is read, and the other one takes longer than the server lets it idle."""
    spec, info = _table(reading, steps)
    reading.execute("SET LOCAL idle_in_transaction_session_timeout = '500ms'")
    monkeypatch.setattr(page_ranges, "LARGE_PAGES", 1)
    monkeypatch.setattr(page_ranges, "RANGE_PAGES", info.pages - 1)
    monkeypatch.setattr(page_ranges, "LONGEST_IDLE", 0.1)

    def counting_slowly(rows: Composable) -> Composed:
        open_end = "ctid <" not in rows.as_string(None)
        wait = "WHERE (SELECT pg_sleep(1.5)) IS NOT NULL" if open_end else ""
        return SQL(f"SELECT count(*) AS n FROM {{}} t {wait}").format(rows)

    assert page_ranges.summed(reading, spec.table, info, counting_slowly, 2) == {"n": 2000}
    assert reading.execute("SELECT 1 AS n").fetchall() == [{"n": 1}]


def test_rows_behind_the_last_known_page_are_counted(
    database: Database, steps: Steps, reading: Connection, by_ranges: Callable[[], None]
) -> None:
    spec, info = _table(reading, steps)
    database.sql("INSERT INTO t (id, ref) SELECT i, 1 FROM generate_series(2001, 4000) i")
    by_ranges()
    assert counting.count(reading, spec, info).rows_total == 4000


Swapping = Callable[[Callable[[int], bool]], None]


@pytest.fixture
def swapping(database: Database, steps: Steps, monkeypatch: pytest.MonkeyPatch) -> Swapping:
    """From when it is called, all rows get other places before each range that is due, which are
    counted from 1."""
    database.superuser(SWAP)

    def begin(due: Callable[[int], bool]) -> None:
        in_a_range, begun = page_ranges._in_a_range, [0]

        def reading(*arguments: Any) -> Any:
            begun[0] += 1
            if due(begun[0]):
                database.superuser(REWRITES["swap"])
            return in_a_range(*arguments)

        monkeypatch.setattr(page_ranges, "_in_a_range", reading)

    return begin


def test_a_table_that_is_written_anew_meanwhile_is_read_again(
    steps: Steps, reading: Connection, by_ranges: Callable[[], None], swapping: Swapping
) -> None:
    """The rows of the ranges that were read go to those that are to be read, and the others the
    other way."""
    spec, info = _table(reading, steps)
    by_ranges()
    swapping(lambda begun: begun == info.pages // RANGE_PAGES // 2)
    summing = SQL("SELECT sum(t.id)::int8 AS n FROM {} t").format
    found = page_ranges.summed(reading, spec.table, info, summing)
    assert found == {"n": sum(range(2001))}


def test_a_row_that_is_left_is_found_in_a_table_that_is_written_anew(
    steps: Steps, reading: Connection, by_ranges: Callable[[], None], swapping: Swapping
) -> None:
    spec, info = _table(reading, steps)
    by_ranges()
    swapping(lambda begun: begun == 2)
    assert eligibility.any_left(reading, spec, info, SQL("t.id > 1950"))


def test_a_table_that_is_written_anew_again_and_again_is_not_counted(
    steps: Steps, reading: Connection, by_ranges: Callable[[], None], swapping: Swapping
) -> None:
    spec, info = _table(reading, steps)
    by_ranges()
    swapping(lambda begun: begun % 5 == 0)
    with pytest.raises(RunbookError, match="written anew"):
        counting.count(reading, spec, info)


def test_a_range_in_which_something_got_a_transaction_id_is_refused(
    steps: Steps, reading: Connection, by_ranges: Callable[[], None]
) -> None:
    spec, info = _table(reading, steps)
    by_ranges()
    query = SQL("SELECT count(pg_current_xact_id()) AS n FROM {} t").format
    for workers in (1, 2):
        with pytest.raises(RunbookError, match="This was to write nothing"):
            page_ranges.summed(reading, spec.table, info, query, workers)


def test_a_range_that_fails_ends_the_count(
    steps: Steps, reading: Connection, by_ranges: Callable[[], None]
) -> None:
    spec, info = _table(reading, steps)
    by_ranges()
    query = SQL("SELECT sum(1 / (t.id - 700)) AS n FROM {} t").format
    with pytest.raises(psycopg.errors.DivisionByZero):
        page_ranges.summed(reading, spec.table, info, query, 2)


def test_a_leaf_that_cannot_be_read_by_its_name_is_read_as_part_of_the_table(
    database: Database, module: Module, by_ranges: Callable[[], None]
) -> None:
    steps = partitioned().make(database, module)
    by_ranges()
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        spec, info = _table(conn, steps)
        assert page_ranges.is_large(conn, info)
        conn.rollback()
        database.superuser("ALTER TABLE t_one OWNER TO postgres")
        assert not page_ranges.is_large(conn, info)
        assert counting.count(conn, spec, info).rows_total == 340


def test_a_run_goes_its_way_by_ranges(
    database: Database, module: Module, by_ranges: Callable[[], None]
) -> None:
    steps = partitioned(workers=2, counts="exact").make(database, module)
    whole = steps.do("plan", check=True)
    by_ranges()
    ranged = steps.do("plan", check=True)
    assert ranged["counts"] == whole["counts"] and ranged["plan_hash"] == whole["plan_hash"]
    assert ranged["proof"] == {"read_only": True, "xid": None}
    fill(steps)
    all_right(database)
    counts = steps.do("data_gates")["counts"]
    assert (counts["rows_total"], counts["rows_eligible"]) == (340, 0)


def _table(conn: Connection, steps: Steps, **options: Any) -> tuple[Spec, catalog.TableInfo]:
    spec = phase_module.parse({**steps.spec, **options})
    return spec, catalog.inspect(conn, spec.table)
