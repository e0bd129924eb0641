# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the engine takes on which table, and why."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Database
from tests.integration.small_table import (
    INDEX,
    ON_VALUE,
    Phase,
    Table,
)
from tests.integration.steps import Module, Steps

CHOICES = {
    "full pages": (Table(rows=30_000), "interleaved", "rows a page"),
    "few rows": (Table(rows=500), "ranges", "fewer than 20,000 rows"),
    "room on every page": (
        Table(rows=30_000, options="WITH (fillfactor = 40)"),
        "ranges",
        "room for every new row version",
    ),
    "too many rows a page": (
        Table(
            rows=30_000,
            key=(),
            spec={"waive_rollback": True},
            after=("ALTER TABLE t DROP pad", "VACUUM FULL t"),
        ),
        "ranges",
        "line pointers",
    ),
    "one row a page": (
        Table(
            rows=300,
            columns=", wide text DEFAULT repeat(md5(random()::text), 160)",
            after=(
                "ALTER TABLE t ALTER wide SET STORAGE PLAIN",
                "TRUNCATE t",
                "INSERT INTO t (id, ref) SELECT i, i % 60 FROM generate_series(1, 300) i",
                "ALTER TABLE t ADD PRIMARY KEY (id)",
            ),
        ),
        "ranges",
        "fewer than two rows a page",
    ),
    "an index of the phase": (
        Table(rows=30_000, after=ON_VALUE, spec={"indexes": [INDEX]}),
        "interleaved",
        "t_value is built again",
    ),
    "an index that queries use": (
        Table(
            rows=42_000,
            after=(*ON_VALUE, "UPDATE t SET value = 'x' WHERE id % 3 = 0", "VACUUM FULL t"),
            spec={"indexes": [INDEX]},
        ),
        "ranges",
        "queries may use t_value",
    ),
    "an index of somebody else": (Table(rows=30_000, after=ON_VALUE), "ranges", "t_value cannot"),
    "an index with an option": (
        Table(
            rows=30_000,
            after=(ON_VALUE[0], "CREATE INDEX t_value ON t (value) WITH (fillfactor = 70)"),
            spec={"indexes": [INDEX]},
        ),
        "ranges",
        "t_value cannot",
    ),
    "an index of a constraint": (
        Table(
            rows=30_000,
            after=(
                ON_VALUE[0],
                "UPDATE t SET value = NULL",
                "VACUUM FULL t",
                "ALTER TABLE t ADD CONSTRAINT t_value EXCLUDE USING btree (value WITH =)",
            ),
            spec={"indexes": [INDEX]},
        ),
        "ranges",
        "t_value cannot",
    ),
    "an index on an expression": (
        Table(rows=30_000, after=(ON_VALUE[0], "CREATE INDEX t_lower ON t (lower(value))")),
        "ranges",
        "t_lower cannot",
    ),
    "an index with a predicate": (
        Table(
            rows=30_000,
            after=(ON_VALUE[0], "CREATE INDEX t_part ON t (other) WHERE value IS NULL"),
        ),
        "ranges",
        "t_part cannot",
    ),
    "nothing to do": (
        Table(
            after=(*ON_VALUE, "UPDATE t SET value = 'x'"),
            spec={"strategy": "interleaved", "indexes": [INDEX]},
        ),
        "ranges",
        "no row is to be filled",
    ),
    "asked for keyset": (Table(spec={"strategy": "keyset"}), "keyset", "the phase asks"),
    "asked for ranges": (Table(rows=30_000, spec={"strategy": "ranges"}), "ranges", "asks"),
    "asked for interleaved": (Table(spec={"strategy": "interleaved"}), "interleaved", "asks"),
}


@pytest.mark.parametrize(("table", "name", "why"), CHOICES.values(), ids=CHOICES.keys())
def test_choice_and_its_reason(
    database: Database, module: Module, table: Table, name: str, why: str
) -> None:
    plan = table.make(database, module).plan()
    assert (plan["plan"]["strategy"]["name"], why in plan["why_strategy"]) == (name, True), plan[
        "why_strategy"
    ]
    assert not plan["counts"]["rows_eligible"] or plan["why_strategy"].split(",")[0] in " ".join(
        plan["text"].split()
    )


def test_dry_run_shows_the_deferred_indexes(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.plan()
    before = database.fingerprint()
    dropped = steps.do("index", check=True, actions=["defer"], deferred=steps.deferred)
    built = steps.do("index", check=True, actions=["build"], deferred=steps.deferred)
    assert len(dropped["queries"]) == 3 and len(built["queries"]) == 4
    assert all(query.startswith("DROP INDEX CONCURRENTLY") for query in dropped["queries"])
    assert database.fingerprint() == before


def test_a_table_that_was_never_analysed_is_counted(database: Database, module: Module) -> None:
    steps = Table(rows=0).make(database, module)
    database.sql("DROP TABLE t")
    database.sql("CREATE TABLE t (id int PRIMARY KEY, ref int, value text, pad text)")
    database.sql("ALTER TABLE t SET (autovacuum_enabled = off)")
    database.sql(
        "INSERT INTO t SELECT i, i % 50 + 1, NULL, repeat('x', 100)"
        " FROM generate_series(1, 30000) i"
    )
    assert database.sql("SELECT reltuples FROM pg_class WHERE relname = 't'")[0]["reltuples"] < 1
    assert steps.plan()["plan"]["strategy"]["name"] == "interleaved"
