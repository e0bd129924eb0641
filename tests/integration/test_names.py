# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that need care, and source expressions of several kinds, all the way through and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from psycopg.sql import SQL, Identifier

from tests.integration.conftest import ROOT, Database, Played, approval_of
from tests.integration.steps import Module, Steps, content

Name = Callable[[str], str]

ROWS, ADDRESSES = 400, 40


def _of_63_bytes(role: str) -> str:
    name = f"{role} ключ "
    name += "é" * ((63 - len(name.encode())) // 2)
    return name + "x" * (63 - len(name.encode()))


NAMES: dict[str, Name] = {
    "quotes": lambda role: f'{role} "Quoted" it\'s \\ a;b--c',
    "percent": lambda role: f"{role} 100% %s %(x)s %%",
    "braces": lambda role: f"{role} {{0}} {{}} }}{{ $1",
    "63 bytes": _of_63_bytes,
}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _create(database: Database, name: Name) -> None:
    parts = {
        role: Identifier(name(role))
        for role in (
            *("schema", "other", "id", "at", "ref", "asn", "old type", "country"),
            *("pair", "old index", "address", "number", "types", "doc"),
        )
    }
    table = Identifier(name("schema"), name("table"))
    source = Identifier(name("other"), name("source"))
    for statement in (
        "CREATE SCHEMA {schema}",
        "CREATE SCHEMA {other}",
        "CREATE TABLE {source} ({address} text PRIMARY KEY, {number} integer, {types} text[],"
        " {doc} jsonb)",
        "CREATE TABLE {table} ({id} uuid, {at} timestamptz, {ref} text, {asn} integer,"
        " {old type} text, {country} varchar(2), CONSTRAINT {pair} PRIMARY KEY ({id}, {at}))",
        "CREATE INDEX {old index} ON {table} ({old type})",
        "INSERT INTO {source} SELECT 'a' || i, CASE WHEN i % 7 > 0 THEN i END,"
        " CASE WHEN i % 5 > 0 THEN ARRAY['VPN' || i % 3, 'TOR'] END,"
        " jsonb_build_object('a', jsonb_build_object('b', CASE WHEN i % 6 > 0 THEN 'DE' END))"
        f" FROM generate_series(1, {ADDRESSES}) i",
        "INSERT INTO {table} SELECT md5((i / 2)::text)::uuid,"
        " '2024-03-31T00:59:59.999999Z'::timestamptz + i * interval '1.000001 s',"
        f" 'a' || 1 + i % {ADDRESSES + 1}, CASE WHEN i % 10 = 0 THEN -1 END, NULL,"
        " CASE WHEN i % 11 = 0 THEN 'FR' END"
        f" FROM generate_series(1, {ROWS}) i",
    ):
        database.sql(SQL(statement).format(table=table, source=source, **parts))


def _spec(name: Name) -> dict[str, Any]:
    country = _quoted(name("country")).replace("{", "{{").replace("}", "}}")
    return {
        "phase": "names",
        "schema": name("schema"),
        "table": name("table"),
        "key": [name("id"), name("at")],
        "columns": [
            {"name": name("asn"), "type": "integer", "source": _quoted(name("number"))},
            {
                "name": name("type"),
                "type": "text",
                "renamed_from": name("old type"),
                "source": f"{_quoted(name('types'))}[1]",
            },
            {
                "name": name("country"),
                "type": "varchar(2)",
                "source": f"{_quoted(name('doc'))} #>> '{{a,b}}'",
            },
        ],
        "source_schema": name("other"),
        "source_table": name("source"),
        "source_key": {name("ref"): name("address")},
        "indexes": [
            {
                "name": name("index"),
                "columns": [name("type")],
                "renamed_from": name("old index"),
            },
            {"name": name("built"), "columns": [name("country"), name("type")]},
        ],
        "strategy": "interleaved",  # which drops the index, and builds it again
        "canary_rows": 50,
        "batch_rows": 70,
        "coverage_min": 50,
        "accuracy_min": 50,
        "speedup_min": 0.001,
        "repetitions": 1,
        "queries": [
            {
                "name": "filled, 100 %",
                "snapshot": f"SELECT count({country}) FROM {{table}} WHERE {country} LIKE 'D%'",
                "baseline": f"SELECT count({country}) FROM {{table}} WHERE {country} = 'DE'",
            }
        ],
    }


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_through_and_back(database: Database, module: Module, name: Name) -> None:
    _create(database, name)
    tables = [(name("schema"), name("table")), (name("other"), name("source"))]
    before = content(database, *tables)
    steps = Steps(module, database.login, _spec(name))

    steps.forward()
    left = database.sql(
        SQL(
            "SELECT count(*) AS n FROM {} t JOIN {} s ON t.{} = s.{} WHERE"
            " t.{} IS NULL AND s.{} IS NOT NULL OR t.{} IS DISTINCT FROM s.{}[1]"
            " OR t.{} IS NULL AND s.{} #>> '{{a,b}}' IS NOT NULL"
        ).format(
            *(Identifier(*table) for table in tables),
            *(
                Identifier(name(role))
                for role in (
                    *("ref", "address", "asn", "number", "type", "types", "country", "doc"),
                )
            ),
        )
    )
    assert left == [{"n": 0}]
    assert steps.deferred and steps.do("run_info")["runs"][0]["missing"] == []
    assert content(database, *tables) != before
    assert steps.do("column")["changed"] is steps.do("index")["changed"] is False

    assert steps.back()["rows_left_alone"] == 0
    assert content(database, *tables) == before


def test_another_phase_is_only_another_variables_file(
    database: Database, module: Module, playbook: Callable[..., Played], phase: dict[str, Any]
) -> None:
    """Whatever the names are, Ansible hands them on as they stand in the file."""
    name = NAMES["quotes"]
    _create(database, name)
    variables = {f"phase_{key}": value for key, value in _spec(name).items()}
    variables |= {"phase_name": variables.pop("phase_phase"), "phase_models": ""}
    changed = {**phase, **variables}
    played = playbook(database.login, "phase3", "--check", phase=changed)
    assert played.status == 0, played.output
    assert approval_of(module, database, changed) in played.output


SMALL = ROOT / "tests/fixtures/orders.yml"


def test_a_phase_file_of_a_few_lines_is_enough(
    database: Database, module: Module, playbook: Callable[..., Played]
) -> None:
    """What it does not say has its default; -e phase_file names it."""
    database.sql(
        "CREATE TABLE customers (id int PRIMARY KEY, region text);"
        "CREATE TABLE orders (id int PRIMARY KEY, customer int, regions text);"
        "INSERT INTO customers SELECT i, 'r' || i FROM generate_series(1, 9) i;"
        "INSERT INTO orders SELECT i, 1 + i % 9 FROM generate_series(1, 900) i;"
    )
    text = SMALL.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 15
    approval = approval_of(module, database, yaml.safe_load(text))
    played = playbook(database.login, "phase3", "-e", f"phase_file={SMALL}", "-e", approval)
    assert played.status == 0, played.output
    assert database.sql("SELECT count(region) AS filled FROM orders") == [{"filled": 900}]
    assert "orders_region" in str(database.sql("SELECT indexname FROM pg_indexes"))
