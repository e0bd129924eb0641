# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a database can drift from the models is found, once, and told exactly."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook import drift, spec
from ansible.module_utils.pgrunbook.connection import connect
from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps
from tests.unit.conftest import options as smallest

Phase = dict[str, Any]
Difference = dict[str, Any]
Compare = Callable[..., list[Difference]]

HEAD = """
from sqlalchemy import *
from sqlalchemy.dialects.postgresql import *
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
orders = lambda *a, **k: Table("orders", Base.metadata, *a, **k)
customers = lambda *a, **k: Table("customers", Base.metadata, *a, **k)
"""
MODELS = """
customers(Column("id", Integer, primary_key=True), Column("geo", JSONB), Column("email", Text))
orders(
    Column("id", Integer, primary_key=True),
    Column("customer", Integer, ForeignKey("customers.id", name="k"), nullable=False),
    Column("region", Text),
    Column("code", String(8)),
    Column("kind", Text),
    UniqueConstraint("code", name="u"),
    Index("ix_region", "region"),
    Index("ix_pair", "customer", "code", unique=True),
    Index("ix_lower", text("lower(region)")),
)
"""
TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, geo jsonb, email text);
CREATE TABLE orders (
    id int PRIMARY KEY,
    customer int NOT NULL CONSTRAINT k REFERENCES customers,
    region text,
    code varchar(8) CONSTRAINT u UNIQUE,
    kind text
);
CREATE INDEX ix_region ON orders (region);
CREATE UNIQUE INDEX ix_pair ON orders (customer, code);
CREATE INDEX ix_lower ON orders (lower(region));
"""
PHASE = spec.parse(
    smallest(columns=[{"name": "region", "type": "text", "source": "geo->>'region'"}])
)


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """Compare a database with models, Python on top of HEAD; none of it may change anything."""

    def run(database: Database, models: str = MODELS, phase: spec.Spec = PHASE) -> list[Difference]:
        path = tmp_path / "shop_models.py"
        path.write_text(HEAD + textwrap.dedent(models), encoding="utf-8")
        schemas = sorted({phase.table.schema, phase.source.schema})
        with connect(database.login, name="test", read_only=True, schemas=schemas) as conn:
            result = drift.compare(conn, phase, f"{path}:Base")
        (gate,) = result["checks"]
        found: list[Difference] = result["differences"]
        breaking = [d["text"] for d in found if d["breaks"]]
        assert gate["status"] == ("fail" if breaking else "pass")
        assert gate["measured"] == ("; ".join(breaking) or "none")
        return found

    return run


def kinds(found: list[Difference]) -> list[tuple[str, str, str]]:
    return [(d["kind"], d["object"], d["severity"]) for d in found]


@dataclass(frozen=True)
class Drift:
    """One difference: what is done to the database or replaced in the models, and what is told."""

    kind: str
    object: str
    severity: str
    text: str
    sql: str = ""
    models: tuple[str, str] = ("", "")
    repaired: bool = True


DRIFTS = {
    "missing column": Drift(
        "missing_column",
        "orders.kind",
        "critical",
        "the models have column orders.kind (text), the database has no such column and none of a"
        " similar name",
        "ALTER TABLE orders DROP kind",
    ),
    "missing column of the source, which the phase does not read": Drift(
        "missing_column",
        "customers.email",
        "note",
        "customers.email (text), the database has no such column",
        "ALTER TABLE customers DROP email",
    ),
    "surplus column": Drift(
        "surplus_column",
        "orders.price",
        "note",
        "the database has column orders.price (numeric(8,2)), the models have none",
        "ALTER TABLE orders ADD price numeric(8,2)",
        repaired=False,
    ),
    "surplus column that inserts have to name": Drift(
        "surplus_column",
        "orders.price",
        "warning",
        "orders.price (integer, NOT NULL and without a default), the models",
        "ALTER TABLE orders ADD price int NOT NULL",
        repaired=False,
    ),
    "column under a near name": Drift(
        "renamed_column",
        "orders.region",
        "critical",
        "the models have column orders.region (text), the database has regions (text) in its place:"
        " probably the same under another name",
        "ALTER TABLE orders RENAME region TO regions",
    ),
    "column of the source under a near name, which the phase does not read": Drift(
        "renamed_column",
        "customers.email",
        "note",
        "customers.email (text), the database has e_mails (text) in its place",
        "ALTER TABLE customers RENAME email TO e_mails",
    ),
    "key under a near name": Drift(
        "renamed_column",
        "customers.id",
        "critical",
        "customers.id (integer), the database has i_d (integer)",
        "ALTER TABLE customers RENAME id TO i_d",
    ),
    "constrained column under a near name": Drift(
        "renamed_column",
        "orders.customer",
        "critical",
        "orders.customer (integer), the database has customers (integer)",
        "ALTER TABLE orders RENAME customer TO customers",
    ),
    "array": Drift(
        "type",
        "orders.kind",
        "critical",
        "the models have column orders.kind as text, the database as text[]",
        "ALTER TABLE orders ALTER kind TYPE text[] USING ARRAY[kind]",
    ),
    "json": Drift(
        "type",
        "customers.geo",
        "warning",
        "customers.geo as jsonb, the database as json",
        "ALTER TABLE customers ALTER geo TYPE json",
        repaired=False,
    ),
    "shorter": Drift(
        "type",
        "orders.code",
        "critical",
        "orders.code as character varying(8), the database as character varying(2)",
        "ALTER TABLE orders ALTER code TYPE varchar(2)",
    ),
    "longer": Drift(
        "type",
        "orders.code",
        "warning",
        "orders.code as character varying(8), the database as character varying(64)",
        "ALTER TABLE orders ALTER code TYPE varchar(64)",
        repaired=False,
    ),
    "limited": Drift(
        "type",
        "orders.code",
        "critical",
        "orders.code as character varying, the database as character varying(8)",
        models=("String(8)", "String()"),
    ),
    "unlimited of another name": Drift(
        "type",
        "orders.kind",
        "note",
        "orders.kind as text, the database as character varying",
        "ALTER TABLE orders ALTER kind TYPE varchar",
        repaired=False,
    ),
    "not null": Drift(
        "nullability",
        "orders.region",
        "warning",
        "column orders.region is NOT NULL in the database, the models allow NULL in it",
        "ALTER TABLE orders ALTER region SET NOT NULL",
        repaired=False,
    ),
    "null": Drift(
        "nullability",
        "orders.customer",
        "warning",
        "column orders.customer is NOT NULL in the models, the database allows NULL in it",
        "ALTER TABLE orders ALTER customer DROP NOT NULL",
    ),
    "missing index": Drift(
        "missing_index",
        "ix_region",
        "warning",
        "the models have index ix_region on orders (region), the database has none like it",
        "DROP INDEX ix_region",
    ),
    "missing unique index": Drift(
        "missing_index",
        "ix_pair",
        "warning",
        "the models have index ix_pair on orders (customer, code), the database",
        "DROP INDEX ix_pair",
    ),
    "missing index on an expression": Drift(
        "missing_index",
        "ix_lower",
        "warning",
        "the models have index ix_lower on orders (lower(region)), the database",
        "DROP INDEX ix_lower",
    ),
    "surplus index": Drift(
        "surplus_index",
        "x",
        "note",
        "the database has index x on orders, the models have none like it: CREATE INDEX x ON"
        " public.orders USING btree (kind)",
        "CREATE INDEX x ON orders (kind)",
        repaired=False,
    ),
    "index on other columns": Drift(
        "changed_index",
        "ix_region",
        "warning",
        "the models have index ix_region on orders as (region), the database as: CREATE INDEX"
        " ix_region ON public.orders USING btree (kind)",
        "DROP INDEX ix_region; CREATE INDEX ix_region ON orders (kind)",
    ),
    "index that is not unique": Drift(
        "changed_index",
        "ix_pair",
        "warning",
        "the models have index ix_pair on orders as UNIQUE (customer, code), the database as:"
        " CREATE INDEX",
        "DROP INDEX ix_pair; CREATE INDEX ix_pair ON orders (customer, code)",
    ),
    "partial index": Drift(
        "changed_index",
        "ix_region",
        "warning",
        "as (region), the database as: CREATE INDEX ix_region ON public.orders USING btree (region)"
        " WHERE (region <> ''::text)",
        "DROP INDEX ix_region; CREATE INDEX ix_region ON orders (region) WHERE region <> ''",
    ),
    "index of another method": Drift(
        "changed_index",
        "ix_region",
        "warning",
        "as USING hash (region), the database as: CREATE INDEX ix_region ON public.orders USING"
        " btree (region)",
        models=('"region"),', '"region", postgresql_using="hash"),'),
    ),
    "index that includes other columns": Drift(
        "changed_index",
        "ix_region",
        "warning",
        "as (region) INCLUDE (code), the database as: CREATE INDEX ix_region ON public.orders USING"
        " btree (region) INCLUDE (kind)",
        "DROP INDEX ix_region; CREATE INDEX ix_region ON orders (region) INCLUDE (kind)",
        models=('"region"),', '"region", postgresql_include=["code"]),'),
    ),
    "index under another name": Drift(
        "renamed_index",
        "ix_region",
        "note",
        "the models have index ix_region on orders, the database has the same as completely_other",
        "ALTER INDEX ix_region RENAME TO completely_other",
    ),
    "missing foreign key": Drift(
        "missing_foreign_key",
        "k",
        "warning",
        "the models have a foreign key on orders (customer) to public.customers (id), the database"
        " has none",
        "ALTER TABLE orders DROP CONSTRAINT k",
    ),
    "surplus foreign key": Drift(
        "surplus_foreign_key",
        "k2",
        "note",
        "the database has foreign key k2 on orders (id) to public.customers (id), the models have"
        " none",
        "ALTER TABLE orders ADD CONSTRAINT k2 FOREIGN KEY (id) REFERENCES customers",
        repaired=False,
    ),
    "foreign key that deletes": Drift(
        "changed_foreign_key",
        "k",
        "warning",
        "the models have the foreign key on orders (customer) as public.customers (id), the"
        " database has k as public.customers (id) ON DELETE CASCADE",
        "ALTER TABLE orders DROP CONSTRAINT k, ADD CONSTRAINT k FOREIGN KEY (customer)"
        " REFERENCES customers ON DELETE CASCADE",
        repaired=False,
    ),
    "missing unique constraint": Drift(
        "missing_unique",
        "u",
        "warning",
        "the models have a unique constraint on orders (code), the database has none",
        "ALTER TABLE orders DROP CONSTRAINT u",
    ),
    "surplus unique constraint": Drift(
        "surplus_unique",
        "u2",
        "note",
        "the database has unique constraint u2 on orders (kind), the models have none",
        "ALTER TABLE orders ADD CONSTRAINT u2 UNIQUE (kind)",
        repaired=False,
    ),
    "unique constraint under another name": Drift(
        "renamed_unique",
        "u",
        "note",
        "orders (code) is unique in the database by constraint v, in the models by constraint u",
        "ALTER TABLE orders RENAME CONSTRAINT u TO v",
        repaired=False,
    ),
    "unique index for a constraint": Drift(
        "renamed_unique",
        "u",
        "note",
        "orders (code) is unique in the database by index v, in the models by constraint u",
        "ALTER TABLE orders DROP CONSTRAINT u; CREATE UNIQUE INDEX v ON orders (code)",
        repaired=False,
    ),
    "unique constraint for an index": Drift(
        "renamed_unique",
        "ix_pair",
        "note",
        "orders (customer, code) is unique in the database by constraint v, in the models by index"
        " ix_pair",
        "DROP INDEX ix_pair; ALTER TABLE orders ADD CONSTRAINT v UNIQUE (customer, code)",
        repaired=False,
    ),
    "index on an expression under another name": Drift(
        "renamed_index",
        "ix_lower",
        "note",
        "the models have index ix_lower on orders, the database has the same as completely_other",
        "ALTER INDEX ix_lower RENAME TO completely_other",
    ),
    "no primary key": Drift(
        "primary_key",
        "orders",
        "warning",
        "the models have the primary key (id) on orders, the database has none",
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey",
        repaired=False,
    ),
    "primary key on other columns": Drift(
        "primary_key",
        "orders",
        "warning",
        "the primary key (id) on orders, the database has (id, customer)",
        "ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id, customer)",
        repaired=False,
    ),
}


def test_no_drift(any_database: Database, compare: Compare) -> None:
    any_database.sql(TABLES)
    assert compare(any_database) == []


@pytest.mark.parametrize("case", DRIFTS.values(), ids=DRIFTS.keys())
def test_drift(database: Database, compare: Compare, case: Drift) -> None:
    """It is found, and nothing else is; where the way out that is recommended has SQL, that SQL
    leaves no difference behind."""
    database.sql(TABLES)
    if case.sql:
        database.sql(case.sql)
    models = MODELS.replace(*case.models) if case.models[0] else MODELS
    assert case.models[0] == "" or models != MODELS
    found = compare(database, models)
    assert kinds(found) == [(case.kind, case.object, case.severity)]
    (told,) = found
    assert case.text in told["text"]
    assert told["table"] == f"public.{'customers' if 'customers.' in case.object else 'orders'}"
    (best,) = [option for option in told["resolutions"] if option["recommended"]]
    assert bool(best["sql"]) is case.repaired
    if case.repaired:
        run(database, best["sql"])
        assert compare(database, models) == []


def test_only_the_index_that_the_models_have_is_the_phases_own(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    database.sql("DROP INDEX ix_region")
    models = MODELS.replace('"region"),', '"region", postgresql_include=["code"]),')
    for include, own in (([], False), (["code"], True)):
        index = {"name": "ix_region", "columns": ["region"], "include": include}
        phase = spec.parse({**PHASE.as_dict(), "indexes": [index]})
        (found,) = compare(database, models, phase)
        assert (found["kind"], found["by_phase"]) == ("missing_index", own)


def run(database: Database, script: str) -> None:
    """What psql does with a script that is pasted into it."""
    with database.connect() as conn:
        for statement in script.removesuffix(";").split(";\n"):
            conn.execute(statement)


def try_every_way(database: Database, found: list[Difference]) -> list[str]:
    """Run the SQL of every way out, and take it back; last what cannot stand in a transaction,
    which stays. Returns the scripts."""
    scripts = [way["sql"] for told in found for way in told["resolutions"] if way["sql"]]
    alone = [script for script in scripts if "CONCURRENTLY" in script]
    for script in [script for script in scripts if script not in alone]:
        assert script.startswith("BEGIN;\nSET LOCAL lock_timeout = '500ms';\n"), script
        assert script.endswith(";\nCOMMIT;"), script
        with database.connect() as conn, conn.transaction(force_rollback=True):
            for statement in script.split(";\n"):
                if statement.rstrip(";") not in ("BEGIN", "COMMIT"):
                    conn.execute(statement)
    for script in alone:
        assert script.startswith("SET lock_timeout = '30min';\n"), script
        run(database, script)
    return scripts


@pytest.mark.parametrize("case", DRIFTS.values(), ids=DRIFTS.keys())
def test_every_way_out_is_sql_that_runs(database: Database, compare: Compare, case: Drift) -> None:
    database.sql(TABLES + case.sql)
    models = MODELS.replace(*case.models) if case.models[0] else MODELS
    try_every_way(database, compare(database, models))


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
    found = compare(any_database, models, spec.parse(given))
    assert {d["table"] for d in found} == {"public.current", "public.orders"}
    of_view = [d for d in found if d["table"] == "public.current"]
    assert not any(way["sql"] for told in of_view for way in told["resolutions"])
    scripts = try_every_way(any_database, found)
    assert any('DROP INDEX "public"."x"' in script for script in scripts)
    assert any("FOREIGN KEY" in script for script in scripts)
    (index,) = [d for d in found if d["object"] == "ix_region"]
    assert "ATTACH PARTITION" in index["resolutions"][0]["option"]


def test_an_acknowledged_difference_is_told_and_does_not_break_the_gate(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(
        "ALTER TABLE session_summaries ALTER matcher TYPE varchar(4) USING NULL;"
        "ALTER TABLE ip_inventory ALTER geo_country TYPE varchar(1) USING NULL"
    )
    steps = Steps.of(module, database, phase)
    first = steps.do("schema", models=phase["phase_models"])
    broken = {d["object"] for d in first["differences"] if d["breaks"]}
    one, other = "session_summaries.matcher", "ip_inventory.geo_country"
    assert broken >= {one, other}
    assert f'to accept it: phase_acknowledged_drift: ["{one}"]' in first["text"]
    some = {**phase, "phase_acknowledged_drift": [one, "session.typo"]}
    second = Steps.of(module, database, some).do("schema", models=phase["phase_models"])
    assert {d["object"] for d in second["differences"] if d["breaks"]} == broken - {one}
    told = {d["object"]: d for d in second["differences"]}
    assert (told[one]["acknowledged"], told[one]["severity"]) == (True, "critical")
    assert "as character varying(4) (acknowledged)" in " ".join(second["text"].split())
    typo = told["session.typo"]
    assert (typo["kind"], typo["severity"]) == ("unmatched_acknowledgement", "note")
    assert "session.typo" in second["text"]
    assert second["checks"][0]["status"] == "fail"
    every = {**phase, "phase_acknowledged_drift": sorted(broken)}
    third = Steps.of(module, database, every).do("schema", models=phase["phase_models"])
    assert third["checks"][0]["status"] == "pass"
    assert "apart from what is acknowledged" in third["checks"][0]["measured"]


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
    (told,) = compare(database, phase=spec.parse(smallest(columns=[column])))
    assert told["kind"] == "renamed_column" and told["text"].endswith("this phase renames it")
    assert "this phase does it" in told["resolutions"][0]["option"]
    assert "missing_column" in [k for k, _, _ in kinds(compare(database))]


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


def test_what_is_no_drift(database: Database, compare: Compare) -> None:
    """CHECK and EXCLUDE constraints, defaults, comments, generated columns, other tables."""
    database.sql(TABLES)
    database.sql(
        "ALTER TABLE orders ADD CHECK (region <> ''), ALTER kind SET DEFAULT 'x',"
        " ADD up text GENERATED ALWAYS AS (upper(kind)) STORED, ADD at timestamptz DEFAULT now(),"
        " ADD mood text, ADD span int4range, ADD EXCLUDE USING gist (span WITH &&),"
        " ADD n bigint GENERATED ALWAYS AS IDENTITY, ADD f double precision, ADD i smallint[],"
        " ADD flagged text, ADD uni text UNIQUE;"
        "CREATE INDEX ix_orders_flagged ON orders (flagged);"
        "CREATE TYPE moods AS ENUM ('good', 'bad'); ALTER TABLE orders ALTER mood TYPE moods"
        " USING mood::moods; CREATE TABLE nobody_knows (id int);"
        "CREATE SCHEMA types; CREATE TYPE types.\"Hues\" AS ENUM ('red');"
        'ALTER TABLE orders ADD hue types."Hues";'
        "COMMENT ON TABLE orders IS 'here'; COMMENT ON COLUMN orders.kind IS 'here'"
    )
    more = """
    Column("up", Text, Computed("upper(kind)")), Column("at", DateTime(timezone=True)),
    Column("hue", Enum("red", name="Hues")),
    Column("mood", Enum("good", "bad", name="moods")), Column("span", INT4RANGE),
    Column("n", BigInteger, Identity(always=True)), Column("f", Float),
    Column("i", ARRAY(SmallInteger)), CheckConstraint("id > 0", name="c"),
    Column("flagged", Text, index=True), Column("uni", Text, unique=True, key="other_key"),
    comment="there",
)
Table("nobody_made", Base.metadata, Column("id", Integer, primary_key=True),
      Column("order", ForeignKey("orders.id"), index=True))
"""
    assert compare(database, MODELS.rstrip().removesuffix(")") + more) == []


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


def test_other_schemas_and_names_that_need_quotes(any_database: Database, compare: Compare) -> None:
    any_database.sql(
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
    phase = spec.parse(given)
    assert compare(any_database, unnamed, phase) == []
    assert compare(any_database, named, phase) == []
    any_database.sql(
        'ALTER TABLE "S 1"."T ""1"" %s" RENAME "a ""b"" %" TO "a ""b"" %s";'
        'ALTER TABLE "S 1"."T ""1"" %s" DROP CONSTRAINT "K 1"'
    )
    for written in (unnamed, named):
        found = compare(any_database, written, phase)
        assert kinds(found)[0] == ("renamed_column", f'{QUOTED}.a "b" %', "critical")
        assert [d["kind"] for d in found] == ["renamed_column", "missing_foreign_key"]
        assert found[0]["table"] == f"S 1.{QUOTED}"
    for told in found:
        run(any_database, told["resolutions"][0]["sql"])
    assert compare(any_database, named, phase) == []


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
    assert kinds(compare(database, models, spec.parse(given))) == [
        ("type", "current.id", "critical"),
        ("renamed_column", "current.email", "note"),
        ("surplus_column", "current.more", "note"),
    ]


def test_models_that_refer_to_nothing(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    path = tmp_path / "dangling.py"
    models = 'orders(Column("id", Integer, primary_key=True), Column("a", ForeignKey("gone.id")))'
    path.write_text(HEAD + models, encoding="utf-8")
    message = Steps.of(module, database, phase).refused("schema", models=f"{path}:Base")
    assert "'gone'" in message and "phase_models" in message


MISTAKES = {
    "syntax": ("class Order(\n", "SyntaxError: '(' was never closed", 1),
    "name": ("x = 1\nBase = nosuch\n", "NameError: name 'nosuch' is not defined", 2),
    "SQLAlchemy at the import": (
        HEAD + 'orders(Column("id", Integer, Integer, primary_key=True))',
        "ArgumentError: 'SchemaItem' object",
        HEAD.count("\n") + 1,
    ),
    "their own exit": ("import sys\nsys.exit(1)\n", "SystemExit: 1", 2),
    "SQLAlchemy while it compares": (
        HEAD
        + 'class Odd(types.UserDefinedType): pass\norders(Column("id", Odd, primary_key=True))',
        "AttributeError: 'Odd' object has no attribute 'get_col_spec', in the type of orders.id.",
        None,
    ),
    "their code while it compares": (
        HEAD + "class Odd(types.UserDefinedType):\n    def get_col_spec(self): return self.x\n"
        'orders(Column("id", Odd, primary_key=True))',
        "'Odd' object has no attribute 'x'",
        HEAD.count("\n") + 2,
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_models_is_told_with_its_place_and_the_interpreter(
    database: Database, module: Module, phase: Phase, tmp_path: Path, case: str
) -> None:
    program, said, line = MISTAKES[case]
    path = tmp_path / "mistaken_models.py"
    path.write_text(program, encoding="utf-8")
    database.sql("DROP TABLE session_summaries CASCADE; CREATE TABLE orders (id int)")
    given = {**phase, "phase_table": "orders", "phase_schema": "public"}
    message = Steps.of(module, database, given).refused("schema", models=f"{path}:Base")
    assert f"the models '{path}:Base'" in message and said in message, message
    assert line is None or f"in {path}, line {line}." in message, message
    assert sys.executable in message and "Traceback" not in message


def test_a_package_that_the_models_lack_is_told_with_what_installs_it(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    path = tmp_path / "lacking_models.py"
    path.write_text("import sys\nfrom nosuch_package.parts import Base\n", encoding="utf-8")
    message = Steps.of(module, database, phase).refused("schema", models=f"{path}:Base")
    assert f"there is no module 'nosuch_package', in {path}, line 2." in message, message
    assert f"{sys.executable} -m pip install nosuch_package" in message


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("nosuch_package.models:Base", "there is no module 'nosuch_package'. It was read by"),
        ("/nosuch.py:Base", "there is no file /nosuch.py"),
        ("json:nosuch", "json/__init__.py has no nosuch"),
        ("json:loads", "is no declarative base"),
    ],
)
def test_models_that_are_not_there(
    database: Database, module: Module, phase: Phase, models: str, said: str
) -> None:
    message = Steps.of(module, database, phase).refused("schema", models=models)
    assert f"Cannot load the models '{models}'" in message and said in message, message


def test_the_seeds_drift_is_seen_before_the_rename_and_gone_after(
    any_database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, any_database, phase)
    before = steps.do("schema", models=phase["phase_models"])
    assert kinds(before["differences"]) == [
        ("renamed_column", "session_summaries.snapshot_ip_type", "critical"),
        ("renamed_index", "ix_session_summaries_snapshot_ip_type", "note"),
    ]
    first = before["differences"][0]
    assert first["text"] == (
        "the models have column session_summaries.snapshot_ip_type (text), the database has"
        " snapshot_ip_types (text) in its place: this phase renames it"
    )
    assert [option["recommended"] for option in first["resolutions"]] == [True, False, False]
    (statement,) = [q for q in steps.plan()["queries"] if q in first["resolutions"][0]["sql"]]
    assert "RENAME COLUMN" in statement
    assert before["checks"][0]["status"] == "fail"
    steps.approve("plan")
    steps.do("column")
    steps.do("index", actions=["rename"])
    after = steps.do("schema", models=phase["phase_models"])
    assert after["differences"] == [] and after["checks"][0]["status"] == "pass"
    steps.do("index")
    (covering,) = steps.do("schema", models=phase["phase_models"])["differences"]
    assert covering["kind"] == "surplus_index" and "this phase wants it" in covering["text"]


def test_the_first_screen_tells_it(
    database: Database, playbook: Callable[..., Played], phase: Phase
) -> None:
    played = playbook(database.login, "phase3", "--check", "--tags", "preflight", phase=phase)
    assert played.status == 0, played.output
    shown = " ".join(played.output.split())
    assert "CRITICAL the models have column session_summaries.snapshot_ip_type (text)" in shown
    assert '"snapshot_ip_type" does not exist' in shown
    assert 'RENAME COLUMN "snapshot_ip_types" TO "snapshot_ip_type"' in shown
    assert "note the models have index ix_session_summaries_snapshot_ip_type" in shown
