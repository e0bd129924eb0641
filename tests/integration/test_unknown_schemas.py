# SPDX-License-Identifier: GPL-3.0-or-later
"""Two databases that the runbook was not made for: dry run, run, second run and rollback.

One has a column of each type that people use. The other is partitioned, on two levels, and its
source has values that the table's constraints refuse.
"""

from __future__ import annotations

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps, content

ROWS, STATIONS = 1200, 60

TYPES = {
    "wet": ("boolean", "i % 2 = 0"),
    "small": ("smallint", "i"),
    "whole": ("integer", "-i * 1000"),
    "large": ("bigint", "i * 10000000000"),
    "exact": ("numeric(12,4)", "i / 7.0"),
    "any exact": ("numeric", "CASE i % 3 WHEN 0 THEN 'NaN'::numeric ELSE i / 3.0 END"),
    "single": ("real", "i / 3.0"),
    "double": ("double precision", "CASE i % 4 WHEN 0 THEN 'Infinity'::float8 ELSE i / 3.0 END"),
    "price": ("money", "i * 1.23"),
    "code": ("character(5)", "'c' || i % 9"),
    "short": ("character varying(40)", "repeat('é', i % 30) || ' 100 %'"),
    "long": ("text", "repeat('long text, ', 30) || i"),
    "raw": ("bytea", "decode(lpad(to_hex(i), 4, '0'), 'hex')"),
    "day": ("date", "DATE '0044-03-15 BC' + i"),
    "clock": ("time without time zone", "TIME '23:59:59.999999' - i * INTERVAL '1 s'"),
    "seen": (
        "timestamp with time zone",
        "TIMESTAMPTZ '2024-03-31 00:59:59.999999Z' + i * INTERVAL '1 h'",
    ),
    "span": ("interval", "make_interval(months => i, secs => 0.5)"),
    "id": ("uuid", "md5(i::text)::uuid"),
    "net": ("cidr", "('10.' || i || '.0.0/16')::cidr"),
    "mac": ("macaddr", "('08:00:2b:01:02:' || lpad(to_hex(i), 2, '0'))::macaddr"),
    "document": ("json", '(\'{"b": 1.50, "a":  \' || i || \', "a": null}\')::json'),
    "tree": ("jsonb", "jsonb_build_object('a', ARRAY[i, NULL], 'b', i / 7.0)"),
    "place": ("point", "point(i / 3.0, -i)"),
    "area": ("box", "box(point(0, 0), point(i, 1))"),
    "words": ("tsvector", "to_tsvector('simple', 'station ' || i)"),
    "flags": ("bit(8)", "i::bit(8)"),
    "months": ("int4range", "int4range(i, i + 12)"),
    "names": ("text[]", "ARRAY['a, b', NULL, '\"' || i]"),
    "documents": ("json[]", "ARRAY[to_json(i), NULL]"),
    "mood": (
        '"Plant Data"."Mood"',
        "(ARRAY['so-so', 'it''s \"fine\"'])[1 + i % 2]::\"Plant Data\".\"Mood\"",
    ),
    "percent": ('"Plant Data".percent', "i % 101"),
}
"""The columns to be filled: their types, and what the source has for its i-th station."""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def make_types(database: Database) -> None:
    columns = ", ".join(f"{_quoted(c)} {type_}" for c, (type_, _) in TYPES.items())
    values = ", ".join(
        f"CASE WHEN (i + {n}) % 8 > 0 THEN {value} END"
        for n, (c, (_, value)) in enumerate(TYPES.items())
    )
    kept = ("whole", "document", "names")
    database.sql(
        f"""
        CREATE SCHEMA "Plant Data";
        CREATE SCHEMA stations;
        CREATE TYPE "Plant Data"."Mood" AS ENUM ('so-so', 'it''s "fine"');
        CREATE DOMAIN "Plant Data".percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
        CREATE TABLE stations."the station" ("Nr" smallint PRIMARY KEY, {columns});
        CREATE TABLE "Plant Data"."Reading" (at timestamptz, "Nr" smallint, station integer,
            {columns}, note text, PRIMARY KEY (at, "Nr"));
        INSERT INTO stations."the station" SELECT i, {values} FROM generate_series(1, {STATIONS}) i;
        INSERT INTO "Plant Data"."Reading" (at, "Nr", station, {", ".join(kept)}, note)
        SELECT '2026-01-01'::timestamptz + i / 2 * interval '1.000001 s', i % 2,
            1 + i % {STATIONS + 3}, CASE WHEN i % 10 = 0 THEN -7 END,
            CASE WHEN i % 10 = 1 THEN '{{"kept":  true}}'::json END,
            CASE WHEN i % 10 = 2 THEN '{{}}'::text[] END, 'note ' || i
        FROM generate_series(1, {ROWS}) i;
        ALTER TABLE "Plant Data"."Reading" RENAME "whole" TO "hole";
        ANALYZE
        """
    )


TYPES_SPEC = {
    "phase": "readings",
    "schema": "Plant Data",
    "table": "Reading",
    "key": ["at", "Nr"],
    "columns": [
        {
            "name": column,
            "type": type_,
            "source": _quoted(column),
            **({"renamed_from": "hole"} if column == "whole" else {}),
        }
        for column, (type_, _) in TYPES.items()
    ],
    "source_schema": "stations",
    "source_table": "the station",
    "source_key": {"station": "Nr"},
    "indexes": [
        {"name": "Reading by mood, whole", "columns": ["mood", "whole"], "include": ["at"]},
        {"name": "Reading names", "columns": ["names"], "method": "gin"},
        {"name": "Reading wet", "columns": ["day"], "where": "wet"},
    ],
    "canary_rows": 100,
    "batch_rows": 150,
    "coverage_min": 75,
    "accuracy_min": 70,
    "speedup_min": 0.001,
    "repetitions": 3,
    "queries": [
        {
            "name": "documents, 100 %",
            "enforce": False,
            "snapshot": "SELECT count({document}), count({place}) FROM {table} WHERE {wet}",
            "baseline": "SELECT count({document}), count({place}) FROM {table} WHERE {wet} IS TRUE",
        }
    ],
}

READINGS = (("Plant Data", "Reading"), ("stations", "the station"))

LEFT = """
SELECT count(*) FILTER (WHERE t.{c}::text IS DISTINCT FROM s.{c}::text AND s.{c} IS NOT NULL) AS n
FROM "Plant Data"."Reading" t JOIN stations."the station" s ON s."Nr" = t.station
"""


def test_a_column_of_each_type(any_database: Database, module: Module) -> None:
    make_types(any_database)
    before = content(any_database, *READINGS)
    steps = Steps(module, any_database.login, TYPES_SPEC)
    steps.do("preflight", check=True)
    assert steps.plan(check=True)["needed"]
    assert content(any_database, *READINGS) == before

    steps.forward()
    kept = {"whole": ROWS // 10, "document": ROWS // 10, "names": ROWS // 10}
    for column in TYPES:
        (left,) = any_database.sql(LEFT.format(c=_quoted(column)))
        assert left["n"] <= kept.get(column, 0), column
    gates = {gate["id"]: gate for gate in steps.do("data_gates")["checks"]}
    assert gates["comparison"]["evidence"]["missing"] == 0

    after = content(any_database, *READINGS)
    run = steps.planned
    assert not steps.plan()["needed"]
    assert content(any_database, *READINGS) == after

    steps.planned = run
    steps.back()
    assert content(any_database, *READINGS) == before


REFUSED = {
    "a country that is not in the list": ("country", "'XX'", 4),
    "a longer country": ("country", "'DEU'", 2),
    "a share above 100 %": ("rate", "140", 3),
    "a negative amount": ("amount", "-1", 5),
    "an amount that the type cannot hold": ("amount", "1e9", 2),
    "a ticket that another order has": ("ticket", "'T-1001'", 1),
}
"""What the table refuses, the column, the value in the source, and in how many rows."""

OLD_BAD_ROWS = 3
SAID = (
    "varchar(2) of column 'country' would refuse 2 of",
    "'share_up_to_100' of domain share of column 'rate' would refuse 3 of",
    "numeric(8,2) of column 'amount' would refuse 2 of",
    "'no_bad_note' of sales.orders would refuse 3 of",
    "'positive_amount' of sales.orders would refuse 5 of",
    "'known_country' of sales.orders would refuse 4 of",
    "'orders_2026_ticket' would refuse 1 of",
)
NOT_FILLED = """
SELECT count(*) AS n FROM sales.orders t JOIN legacy."order import" s ON s.id = t.no
WHERE (t.country, t.rate, t.amount, t.ticket)
    IS DISTINCT FROM (s.cc, s.pct, round(s.total, 2), s.ticket)
"""


def make_orders(database: Database) -> None:
    database.sql(
        """
        CREATE SCHEMA sales;
        CREATE SCHEMA legacy;
        CREATE DOMAIN sales.share AS integer CONSTRAINT share_up_to_100 CHECK (VALUE <= 100);
        CREATE TABLE sales.countries (code varchar(2) PRIMARY KEY);
        INSERT INTO sales.countries VALUES ('DE'), ('FR'), ('CN');
        CREATE TABLE sales.orders (no bigint, placed date, channel text, country varchar(2)
            CONSTRAINT known_country REFERENCES sales.countries, rate sales.share,
            amount numeric(8,2) CONSTRAINT positive_amount CHECK (amount >= 0), ticket text,
            note text, PRIMARY KEY (no, placed, channel)) PARTITION BY RANGE (placed);
        CREATE TABLE sales.orders_2025 PARTITION OF sales.orders
            FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (channel);
        CREATE TABLE sales.orders_2025_web PARTITION OF sales.orders_2025 FOR VALUES IN ('web');
        CREATE TABLE sales.orders_2025_rest PARTITION OF sales.orders_2025 DEFAULT;
        CREATE TABLE sales.orders_2026 PARTITION OF sales.orders
            FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        CREATE TABLE sales.orders_rest PARTITION OF sales.orders DEFAULT;
        CREATE UNIQUE INDEX orders_2026_ticket ON sales.orders_2026 (ticket);
        INSERT INTO sales.orders (no, placed, channel, note)
        SELECT i, DATE '2024-12-01' + i % 600, (ARRAY['web', 'shop', 'phone'])[1 + i % 3],
            CASE WHEN i BETWEEN 1491 AND 1490 + {bad} THEN 'bad' ELSE 'note ' || i END
        FROM generate_series(1, 1500) i;
        ALTER TABLE sales.orders ADD CONSTRAINT no_bad_note CHECK (note <> 'bad') NOT VALID;
        CREATE TABLE legacy."order import" (id bigint PRIMARY KEY, cc text, pct integer,
            total numeric, ticket text);
        INSERT INTO legacy."order import" SELECT i, (ARRAY['DE', 'FR', 'CN'])[1 + i % 3], i % 100,
            i / 3.0, 'T-' || i FROM generate_series(1, 1500) i WHERE i % 10 > 0;
        """.replace("{bad}", str(OLD_BAD_ROWS))
    )
    names = {"country": "cc", "rate": "pct", "amount": "total", "ticket": "ticket"}
    first = 401
    for column, value, rows in REFUSED.values():
        database.sql(
            f'UPDATE legacy."order import" SET {names[column]} = {value}'
            f" WHERE id BETWEEN {first} AND {first + rows - 1}"
        )
        first += 20
    database.sql("ANALYZE")


ORDERS_SPEC = {
    "phase": "orders",
    "schema": "sales",
    "table": "orders",
    "key": ["no", "placed", "channel"],
    "columns": [
        {"name": "country", "type": "varchar(2)", "source": "cc"},
        {"name": "rate", "type": "sales.share", "source": "pct"},
        {"name": "amount", "type": "numeric(8,2)", "source": "total"},
        {"name": "ticket", "type": "text", "source": "ticket"},
    ],
    "source_schema": "legacy",
    "source_table": "order import",
    "source_key": {"no": "id"},
    "indexes": [
        {"name": "orders_country_amount", "columns": ["country"], "include": ["amount"]},
    ],
    "canary_rows": 50,
    "batch_rows": 100,
    "coverage_min": 80,
    "speedup_min": 0.001,
    "repetitions": 3,
    "queries": [],
}


ORDERS = (("sales", "orders"), ("sales", "countries"), ("legacy", "order import"))


def test_partitions_and_values_that_constraints_refuse(
    any_database: Database, module: Module
) -> None:
    make_orders(any_database)
    before = content(any_database, *ORDERS)
    steps = Steps(module, any_database.login, ORDERS_SPEC)
    message = steps.refused("plan", check=True)
    assert [what for what in SAID if what not in message] == []
    assert message.startswith(f"There are {len(SAID)} obstacles.")
    assert content(any_database, *ORDERS) == before

    refused = sum(rows for _, _, rows in REFUSED.values()) + OLD_BAD_ROWS
    steps.spec = {**ORDERS_SPEC, "unfillable_max": refused}
    told = steps.plan(check=True)
    assert sum(each["rows"] for each in told["refused"]) == refused
    steps.forward()
    assert any_database.sql(NOT_FILLED) == [{"n": refused}]
    aside = any_database.sql("SELECT key ->> 0 AS no FROM pgrunbook.unfillable ORDER BY 1")
    assert aside == any_database.sql(
        NOT_FILLED.replace("count(*) AS n", "no::text") + " ORDER BY 1"
    )

    after = content(any_database, *ORDERS)
    again = Steps(module, any_database.login, steps.spec)
    assert again.plan()["counts"]["rows_eligible"] == refused
    again.approve("plan")
    assert again.backfill(canary=True)["rows_changed"] == 0
    again.do("run", state="finished", verdict="NO-GO")
    assert content(any_database, *ORDERS) == after

    steps.back()
    assert content(any_database, *ORDERS) == before
