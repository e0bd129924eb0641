# SPDX-License-Identifier: GPL-3.0-or-later
"""A column of another type: the conversion that is offered, or what is in its way."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.integration.conftest import Database
from tests.integration.drift.shop import (
    MODELS,
    TABLES,
    Compare,
    run,
    try_every_way,
)

Phase = dict[str, Any]


KIND = 'Column("kind", Text)'
CONVERSIONS: dict[str, tuple[str, tuple[str, str], str]] = {
    "default and index": (
        "ALTER TABLE orders ALTER kind SET DEFAULT 'x'; CREATE INDEX ix_kind ON orders (kind)",
        (KIND, 'Column("kind", ARRAY(Text), index=True)'),
        "",
    ),
    "default of an array": (
        "ALTER TABLE orders ALTER kind TYPE text[] USING ARRAY[kind],"
        " ALTER kind SET DEFAULT ARRAY['x', 'y']",
        ("", ""),
        "",
    ),
    "json with a default": (
        "ALTER TABLE customers ALTER geo TYPE json, ALTER geo SET DEFAULT '{}'",
        ("", ""),
        "",
    ),
    "json with an index on an expression": (
        "ALTER TABLE customers ALTER geo TYPE json; CREATE INDEX ix_a ON customers ((geo->>'a'))",
        ("", ""),
        "index ix_a",
    ),
    "jsonb with an index that json has not": (
        "CREATE INDEX ix_geo ON customers USING gin (geo)",
        ('Column("geo", JSONB)', 'Column("geo", JSON)'),
        "index ix_geo",
    ),
    "a view, a trigger and a policy": (
        "CREATE VIEW v AS SELECT kind FROM orders; CREATE FUNCTION f() RETURNS trigger LANGUAGE"
        " plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER t BEFORE UPDATE OF kind ON orders FOR"
        " EACH ROW EXECUTE FUNCTION f(); CREATE POLICY p ON orders USING (kind <> '')",
        (KIND, 'Column("kind", String(9))'),
        "policy p on table orders, trigger t on table orders, view v",
    ),
    "a foreign key": (
        "",
        (
            'Column("customer", Integer, ForeignKey("customers.id", name="k")',
            'Column("customer", Text',
        ),
        "constraint k on table orders",
    ),
    "a check": (
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (kind <> '')",
        (KIND, 'Column("kind", Integer)'),
        "constraint c on table orders",
    ),
    "no cast": (
        "ALTER TABLE orders ALTER kind TYPE date USING NULL",
        (KIND, 'Column("kind", Integer)'),
        "PostgreSQL knows no way",
    ),
    "a default that does not fit": (
        "ALTER TABLE orders ALTER kind SET DEFAULT 'x'",
        (KIND, 'Column("kind", Integer)'),
        "PostgreSQL knows no way",
    ),
    "a type that the server has not": (
        "",
        (KIND, 'Column("kind", Enum("a", name="nosuch"))'),
        "PostgreSQL knows no way",
    ),
    "a type that only the search_path finds": (
        "CREATE TYPE \"Mood\" AS ENUM ('a')",
        (KIND, 'Column("kind", Enum("a", name="Mood"))'),
        "",
    ),
    "generated": (
        "ALTER TABLE orders DROP kind, ADD kind text GENERATED ALWAYS AS (region) STORED",
        (KIND, 'Column("kind", Integer)'),
        "the expression that generates it",
    ),
}


@pytest.mark.parametrize("case", CONVERSIONS)
def test_a_conversion_is_one_statement_or_what_is_in_its_way(
    any_database: Database, compare: Compare, case: str
) -> None:
    sql, change, first = CONVERSIONS[case]
    any_database.sql(TABLES + sql)
    models = MODELS.replace(*change)
    found = compare(any_database, models)
    (told,) = [d for d in found if d["kind"] == "type"]
    (way,) = [w for w in told["resolutions"] if w["option"].startswith("convert")]
    assert first in way["option"] and bool(way["sql"]) is not bool(first), way
    if way["sql"]:
        run(any_database, f"SET search_path = '';\n{way['sql']}")
    assert (told["object"] in [d["object"] for d in compare(any_database, models)]) is bool(first)
    try_every_way(any_database, [d for d in found if d is not told])


@pytest.mark.parametrize(
    ("kind", "value", "models"),
    [
        ("text", "longer than nine", 'Column("kind", String(9))'),
        ("text[]", ["longer than nine"], 'Column("kind", String(9))'),
        ("text", "longer than nine", 'Column("kind", CHAR(9))'),
    ],
)
def test_a_conversion_cuts_no_value(
    database: Database, compare: Compare, kind: str, value: Any, models: str
) -> None:
    database.sql(TABLES)
    database.sql(f"ALTER TABLE orders DROP kind, ADD kind {kind}")
    database.sql(
        "INSERT INTO customers VALUES (1); INSERT INTO orders (id, customer) VALUES (1, 1)"
    )
    database.sql("UPDATE orders SET kind = %s", (value,))
    (told,) = compare(database, MODELS.replace(KIND, models))
    (script,) = [w["sql"] for w in told["resolutions"] if w["option"].startswith("convert")]
    with pytest.raises(psycopg.errors.StringDataRightTruncation):
        run(database, script)
    assert database.sql("SELECT kind FROM orders") == [{"kind": value}]


def test_a_longer_limit_rewrites_nothing(database: Database, compare: Compare) -> None:
    database.sql(f"{TABLES}; ALTER TABLE orders ALTER code TYPE varchar(2)")
    file = "SELECT pg_relation_filenode('orders') AS file"
    before = database.sql(file)
    (told,) = compare(database)
    run(database, told["resolutions"][0]["sql"])
    assert "only the limit grows" in told["resolutions"][0]["costs"]
    assert database.sql(file) == before and compare(database) == []
