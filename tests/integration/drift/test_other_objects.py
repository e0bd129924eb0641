# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that are missing, views and partitions, indexes that are INVALID."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import phase as phase_module
from tests.integration.conftest import Database
from tests.integration.drift.shop import (
    MODELS,
    PHASE,
    TABLES,
    Compare,
    kinds,
    run,
    try_every_way,
)
from tests.unit.conftest import options as smallest

Phase = dict[str, Any]


def test_only_the_index_that_the_models_have_is_the_phases_own(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    database.sql("DROP INDEX ix_region")
    models = MODELS.replace('"region"),', '"region", postgresql_include=["code"]),')
    for include, own in (([], False), (["code"], True)):
        index = {"name": "ix_region", "columns": ["region"], "include": include}
        phase = phase_module.parse({**PHASE.as_dict(), "indexes": [index]})
        (found,) = compare(database, models, phase)
        assert (found["kind"], found["by_phase"]) == ("missing_index", own)


def test_ways_out_for_a_view_and_a_partitioned_table(
    any_database: Database, compare: Compare
) -> None:
    """No SQL where PostgreSQL would refuse it, and SQL that runs where it would not."""
    any_database.sql(TABLES)
    any_database.sql(
        "CREATE VIEW current AS SELECT id::bigint, geo::text, email AS e_mail FROM customers;"
        "DROP TABLE orders;"
        "CREATE TABLE orders (id int, customer int, region text) PARTITION BY RANGE (id);"
        "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (9);"
        "CREATE INDEX x ON orders (region, id)"
    )
    given = smallest(
        source_table="current", columns=[{"name": "region", "type": "text", "source": "geo"}]
    )
    models = MODELS + (
        'Table("current", Base.metadata, Column("id", Integer, primary_key=True),'
        ' Column("geo", JSONB), Column("email", Text), Column("more", Text))'
    )
    found = compare(any_database, models, phase_module.parse(given))
    assert {d["table"] for d in found} == {"public.current", "public.orders"}
    of_view = [d for d in found if d["table"] == "public.current"]
    assert not any(way["sql"] for told in of_view for way in told["resolutions"])
    scripts = try_every_way(any_database, found)
    assert any('DROP INDEX "public"."x"' in script for script in scripts)
    assert any("FOREIGN KEY" in script for script in scripts)
    (index,) = [d for d in found if d["object"] == "ix_region"]
    assert "ATTACH PARTITION" in index["resolutions"][0]["option"]


@pytest.mark.parametrize("in_models", [True, False])
def test_invalid_index(database: Database, compare: Compare, in_models: bool) -> None:
    database.sql(TABLES)
    index = "ix_pair" if in_models else "ix_pair_ccnew"
    database.sql(
        "ALTER TABLE orders DROP CONSTRAINT k, DROP CONSTRAINT u; DROP INDEX ix_pair;"
        "INSERT INTO orders VALUES (1, 1, 'a', 'a', 'a'), (2, 1, 'a', 'a', 'a')"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.sql(f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON orders (customer, code)")
    database.sql("DELETE FROM orders")
    found = {d["object"]: d for d in compare(database) if "index" in d["kind"]}
    told = found.pop(index)
    assert (told["kind"], told["severity"]) == ("invalid_index", "warning")
    assert f"index {index} of orders is INVALID in the database" in told["text"]
    assert ("the models rely on it" in told["text"]) is in_models
    assert [d["kind"] for d in found.values()] == ([] if in_models else ["missing_index"])
    (best,) = [option for option in told["resolutions"] if option["recommended"]]
    run(database, best["sql"])
    assert "invalid_index" not in [d["kind"] for d in compare(database)]


def test_invalid_index_of_a_partition(database: Database, compare: Compare) -> None:
    database.sql(TABLES)
    database.sql(
        "DROP TABLE orders; CREATE TABLE orders (id int, a int) PARTITION BY RANGE (id);"
        "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (9);"
        "INSERT INTO orders VALUES (1, 1), (2, 1)"
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.sql("CREATE UNIQUE INDEX CONCURRENTLY x ON orders_1 (a)")
    models = 'orders(Column("id", Integer), Column("a", Integer))'
    found = compare(database, MODELS.partition("orders(")[0] + models)
    assert kinds(found) == [("invalid_index", "x", "warning")]
    assert found[0]["table"] == "public.orders_1"


def test_missing_table(database: Database, compare: Compare) -> None:
    database.sql(TABLES)
    database.sql("DROP TABLE customers CASCADE")
    found = compare(database)
    assert ("missing_table", "customers", "critical") in kinds(found)
    assert ("missing_foreign_key", "k", "warning") in kinds(found) and len(found) == 2


def test_table_that_the_models_lack(database: Database, compare: Compare) -> None:
    database.sql(TABLES)
    models = 'customers(Column("id", Integer, primary_key=True))'
    found = compare(database, models)
    assert ("unmodelled_table", "orders", "warning") in kinds(found)
    assert {d["table"] for d in found} == {"public.orders", "public.customers"}


def test_source_that_is_a_view(database: Database, compare: Compare) -> None:
    database.sql(TABLES)
    database.sql(
        "CREATE VIEW current AS SELECT id, geo, email AS e_mail, geo::text AS more FROM customers"
    )
    given = smallest(
        source_table="current", columns=[{"name": "region", "type": "text", "source": "geo"}]
    )
    models = MODELS + (
        'Table("current", Base.metadata, Column("id", BigInteger, primary_key=True),'
        ' Column("geo", JSONB), Column("email", Text))'
    )
    assert kinds(compare(database, models, phase_module.parse(given))) == [
        ("type", "current.id", "critical"),
        ("renamed_column", "current.email", "note"),
        ("surplus_column", "current.more", "note"),
    ]
