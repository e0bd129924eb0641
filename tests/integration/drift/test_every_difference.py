# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which a database can drift from the models is found, once, and told exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.drift.shop import (
    MODELS,
    TABLES,
    Compare,
    kinds,
    run,
    try_every_way,
)

Phase = dict[str, Any]


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


def test_no_drift_of_indexes_on_one_column_conditions_and_collations(
    any_database: Database, compare: Compare
) -> None:
    any_database.sql(TABLES)
    any_database.sql(
        'ALTER TABLE orders ADD spelled text COLLATE "C", ADD words text[] COLLATE "C";'
        "CREATE INDEX ix_orders_kind ON orders (kind); CREATE INDEX ix_low ON orders (lower(kind));"
        "CREATE INDEX ix_like ON orders (kind text_pattern_ops);"
        "CREATE INDEX ix_some ON orders (kind) WHERE region IS NULL;"
        "CREATE INDEX ix_others ON orders (code) WHERE region = 'x'"
    )
    more = """
    Column("spelled", Text(collation="C")), Column("words", ARRAY(Text(collation="C"))),
    Index("ix_low", func.lower(column("kind"))),
    Index("ix_like", "kind", postgresql_ops={"kind": "text_pattern_ops"}),
    Index("ix_some", "kind", postgresql_where=column("region").is_(None)),
    Index("ix_others", "code", postgresql_where=text("region = 'x'")),
)
"""
    models = MODELS.replace('Column("kind", Text)', 'Column("kind", Text, index=True)')
    assert compare(any_database, models.rstrip().removesuffix(")") + more) == []


def test_a_missing_index_is_built_with_all_its_options(
    database: Database, compare: Compare
) -> None:
    database.sql(TABLES)
    more = """
    Index("ix_like", "kind", postgresql_ops={"kind": "text_pattern_ops"}),
    Index("ix_once", "kind", unique=True, postgresql_nulls_not_distinct=True),
)
"""
    found = compare(database, MODELS.rstrip().removesuffix(")") + more)
    assert [told["object"] for told in found] == ["ix_like", "ix_once"]
    for told in found:
        run(database, told["resolutions"][0]["sql"])
    built = database.sql(
        "SELECT pg_get_indexdef(indexrelid) AS sql FROM pg_index"
        " WHERE indexrelid IN ('ix_like'::regclass, 'ix_once'::regclass) ORDER BY 1"
    )
    assert "kind text_pattern_ops" in built[0]["sql"]
    assert "NULLS NOT DISTINCT" in built[1]["sql"]


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


@pytest.mark.parametrize("case", DRIFTS.values(), ids=DRIFTS.keys())
def test_every_way_out_is_sql_that_runs(database: Database, compare: Compare, case: Drift) -> None:
    database.sql(TABLES + case.sql)
    models = MODELS.replace(*case.models) if case.models[0] else MODELS
    try_every_way(database, compare(database, models))


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
