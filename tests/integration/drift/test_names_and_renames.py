# SPDX-License-Identifier: GPL-3.0-or-later
"""Which name is taken for which: near ones, those of the phase, those by convention or quoted."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.pgrunbook.core import phase as phase_module
from tests.integration.conftest import Database
from tests.integration.drift.shop import (
    MODELS,
    TABLES,
    Compare,
    kinds,
    run,
)
from tests.unit.conftest import options as smallest

Phase = dict[str, Any]


def test_another_type_beside_the_name(database: Database, compare: Compare) -> None:
    """Production was found to have an array under the plural."""
    database.sql(TABLES)
    database.sql(
        "DROP INDEX ix_region, ix_lower; ALTER TABLE orders ALTER region TYPE text[]"
        " USING ARRAY[region], ALTER region SET NOT NULL;"
        "ALTER TABLE orders RENAME region TO regions"
    )
    found = [d for d in compare(database) if not d["kind"].endswith("index")]
    assert kinds(found) == [
        ("renamed_column", "orders.region", "critical"),
        ("type", "orders.region", "critical"),
        ("nullability", "orders.region", "warning"),
    ]
    assert "has regions (text[]) in its place" in found[0]["text"]
    for told in found[:2]:
        assert told is found[0] or "after the rename" in told["resolutions"][0]["option"]
        run(database, told["resolutions"][0]["sql"])
    assert kinds([d for d in compare(database) if "column" in d["text"]]) == kinds(found[2:])


def test_a_near_name_of_quite_another_type_is_no_rename(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    database.sql("ALTER TABLE orders DROP kind; ALTER TABLE orders ADD kinds bytea")
    assert kinds(compare(database)) == [
        ("missing_column", "orders.kind", "critical"),
        ("surplus_column", "orders.kinds", "note"),
    ]


def test_the_phase_renames_what_it_says_however_far_the_names(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    database.sql("ALTER TABLE orders RENAME region TO what_it_was")
    column = {"name": "region", "type": "text", "renamed_from": "what_it_was", "source": "x"}
    (told,) = compare(database, phase=phase_module.parse(smallest(columns=[column])))
    assert told["kind"] == "renamed_column" and told["text"].endswith("this phase renames it")
    assert "this phase does it" in told["resolutions"][0]["option"]
    assert "missing_column" in [k for k, _, _ in kinds(compare(database))]


def test_an_index_under_the_name_of_another_that_is_missing(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    database.sql("DROP INDEX ix_region; CREATE INDEX ix_region ON orders (kind)")
    models = MODELS.replace(
        'Index("ix_region", "region"),', 'Index("ix_region", "region"), Index("ix_kind", "kind"),'
    )
    assert kinds(compare(database, models)) == [
        ("missing_index", "ix_region", "warning"),
        ("renamed_index", "ix_kind", "note"),
    ]


def test_names_by_convention(database: Database, compare: Compare) -> None:
    """The names that a naming convention gives are those of the tables as the models have them."""
    database.sql(TABLES)
    database.sql(
        "ALTER TABLE orders RENAME CONSTRAINT u TO uq_orders_code;"
        "ALTER TABLE orders ADD flagged text; CREATE INDEX ix_orders_flagged ON orders (flagged);"
        "ALTER TABLE orders ADD uni text CONSTRAINT uq_orders_uni UNIQUE"
    )
    convention = """
Base.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s", "uq": "uq_%(column_0_label)s", "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}
"""
    models = MODELS.replace(
        'UniqueConstraint("code", name="u"),',
        'Column("flagged", Text, index=True), Column("uni", Text, unique=True),'
        'UniqueConstraint("code"),',
    )
    assert compare(database, convention + models) == []
    database.sql("DROP INDEX ix_orders_flagged; ALTER TABLE orders DROP uni")
    found = kinds(compare(database, convention + models))
    assert found[1:] == [
        ("missing_index", "ix_orders_flagged", "warning"),
        ("missing_unique", "uq_orders_uni", "warning"),
    ]


QUOTED = 'T "1" %s'


def test_other_schemas_and_names_that_need_quotes(database: Database, compare: Compare) -> None:
    database.sql(
        'CREATE SCHEMA "S 1"; CREATE SCHEMA other; CREATE SCHEMA third;'
        "CREATE TABLE third.regions (name text PRIMARY KEY);"
        'CREATE TABLE other."Customers" ("Id" int PRIMARY KEY);'
        'CREATE TYPE "S 1"."Mood" AS ENUM (\'good\');'
        'CREATE TABLE "S 1"."T ""1"" %s" ("Id" int PRIMARY KEY, "Kunde" int'
        ' CONSTRAINT "K 1" REFERENCES other."Customers", region text REFERENCES third.regions,'
        ' "Mood" "S 1"."Mood", "a ""b"" %" text, "ix 1" int);'
        'CREATE INDEX "Ix ""1"" %" ON "S 1"."T ""1"" %s" ("a ""b"" %");'
    )
    given = smallest(
        schema="S 1",
        table=QUOTED,
        source_schema="other",
        source_table="Customers",
        columns=[{"name": "ix 1", "type": "int", "source": '"Id"'}],
    )
    models = """
    Table("Customers", Base.metadata, Column("Id", Integer, primary_key=True){schemas[1]})
    Table("regions", Base.metadata, Column("name", Text, primary_key=True){schemas[2]})
    Table('T "1" %s', Base.metadata, Column("Id", Integer, primary_key=True),
          Column("Kunde", ForeignKey("{prefixes[1]}Customers.Id")),
          Column("region", ForeignKey("{prefixes[2]}regions.name")),
          Column("Mood", Enum("good", name="Mood"{schemas[0]})),
          Column('a "b" %', Text), Column("ix 1", Integer),
          Index('Ix "1" %', 'a "b" %'){schemas[0]})
    """
    names = ("S 1", "other", "third")
    unnamed = models.format(schemas=("", "", ""), prefixes=("", "", ""))
    named = models.format(
        schemas=[f', schema="{n}"' for n in names], prefixes=[f"{n}." for n in names]
    )
    phase = phase_module.parse(given)
    assert compare(database, unnamed, phase) == []
    assert compare(database, named, phase) == []
    database.sql(
        'ALTER TABLE "S 1"."T ""1"" %s" RENAME "a ""b"" %" TO "a ""b"" %s";'
        'ALTER TABLE "S 1"."T ""1"" %s" DROP CONSTRAINT "K 1"'
    )
    for written in (unnamed, named):
        found = compare(database, written, phase)
        assert kinds(found)[0] == ("renamed_column", f'{QUOTED}.a "b" %', "critical")
        assert [d["kind"] for d in found] == ["renamed_column", "missing_foreign_key"]
        assert found[0]["table"] == f"S 1.{QUOTED}"
    for told in found:
        run(database, told["resolutions"][0]["sql"])
    assert compare(database, named, phase) == []
