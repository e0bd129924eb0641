# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of any type are compared as what they are, shown as they will be stored, and every
statement that a run needs is planned in the dry run."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL, Identifier, Literal

from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps, content

Spec = dict[str, Any]

ROWS, SOURCES = 120, 30
ODD = "100% sure {x}"


def create(database: Database, column: str, type: str, values: str, *, before: str = "") -> None:
    """A table of ROWS rows with an empty column, and a source of SOURCES, whose value is an
    expression on their number i."""
    parts = {"column": Identifier(column), "type": SQL(type), "values": SQL(values)}
    for statement in (
        before or "SELECT",
        "CREATE TABLE origin (ref text PRIMARY KEY, value {type})",
        "INSERT INTO origin SELECT 'r' || i, {values} FROM generate_series(1, {sources}) i",
        "CREATE TABLE items (id numeric PRIMARY KEY, ref text, {column} {type})",
        "INSERT INTO items SELECT i, 'r' || 1 + i % {sources} FROM generate_series(1, {rows}) i",
        "ANALYZE items",
    ):
        database.sql(SQL(statement).format(**parts, sources=Literal(SOURCES), rows=Literal(ROWS)))


def phase(column: str, type: str, **changes: Any) -> Spec:
    return {
        "phase": "values",
        "table": "items",
        "key": ["id"],
        "columns": [{"name": column, "type": type, "source": "value"}],
        "source_table": "origin",
        "source_key": {"ref": "ref"},
        "canary_rows": 20,
        "batch_rows": 50,
        "queries": [],
        **changes,
    }


def gate(steps: Steps, id: str, **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = {c["id"]: c for c in steps.do("data_gates", **arguments)["checks"]}[id]
    return found


WITHOUT_EQUALITY = {
    "json": ("json", "json_build_object('n', i)", "'{}'", ""),
    "array": ("json[]", "ARRAY[json_build_object('n', i)]", "'{}'", ""),
    "point": ("point", "point(i, 0.1)", "point(0, 0)", ""),
    "box, of which = compares the areas": (
        "box",
        "box(point(i, 0), point(i + 1, 1))",
        "box(point(-2, -2), point(-1, -1))",
        "",
    ),
    "domain": ("document", "json_build_object('n', i)", "'{}'", "CREATE DOMAIN document AS json"),
    "composite": (
        "place",
        "ROW(i, point(i, 1))::place",
        "ROW(0, point(0, 0))::place",
        "CREATE TYPE place AS (n int, p point)",
    ),
}


@pytest.mark.representative
@pytest.mark.parametrize(
    ("type", "values", "other", "before"), WITHOUT_EQUALITY.values(), ids=WITHOUT_EQUALITY
)
def test_a_type_without_an_equality_goes_through_and_back(
    database: Database, module: Module, type: str, values: str, other: str, before: str
) -> None:
    create(database, "doc", type, values, before=before)
    steps = Steps(module, database.login, phase("doc", type))
    steps.forward()
    database.sql(f"UPDATE origin SET value = {other} WHERE ref = 'r1'")
    database.sql(f"UPDATE items SET doc = {other} WHERE ref = 'r2'")
    each = ROWS // SOURCES
    found = gate(steps, "comparison")["evidence"]
    assert (found["different"], found["drifted"]) == (2 * each, each)
    database.sql(
        "UPDATE items SET doc = o.value FROM origin o WHERE o.ref = 'r2' AND items.ref = 'r2'"
    )
    assert steps.back()["rows_left_alone"] == 0
    assert database.sql("SELECT count(doc) AS n FROM items") == [{"n": 0}]


def test_a_composite_value_with_nulls_in_it_is_filled_and_given_back(
    database: Database, module: Module
) -> None:
    """IS NOT NULL does not hold of it."""
    values = "(ARRAY[ROW(i, NULL), ROW(NULL, NULL), ROW(i, i)]::pair[])[1 + i % 3]"
    create(database, "doc", "pair", values, before="CREATE TYPE pair AS (a int, b int)")
    database.sql("ALTER TABLE items ADD other text")
    spec = phase("doc", "pair")
    spec["columns"].append({"name": "other", "type": "text", "source": "ref"})
    before = content(database, ("public", "items"))
    steps = Steps(module, database.login, spec)
    steps.forward()
    unlike = "SELECT FROM items t JOIN origin o USING (ref) WHERE t.doc::text <> o.value::text"
    assert database.sql(f"{unlike} OR t.doc IS NOT DISTINCT FROM NULL") == []
    assert steps.do("plan")["counts"]["rows_skipped"]["already_complete"] == ROWS
    steps.back()
    assert content(database, ("public", "items")) == before


def test_what_is_spelled_otherwise_in_the_source_and_stored_alike_is_the_same(
    database: Database, module: Module
) -> None:
    create(database, "doc", "json", "json_build_object('n', i)")
    database.sql("ALTER TABLE origin ALTER value TYPE text USING value::jsonb || '{\"a\": 1}'")
    steps = Steps(module, database.login, phase("doc", "json"))
    steps.spec["columns"][0]["source"] = "value::jsonb::json"
    steps.forward()
    assert gate(steps, "comparison")["evidence"]["matched"] == ROWS


def test_a_statement_that_could_not_run_is_found_by_the_dry_run(
    database: Database, module: Module
) -> None:
    create(database, "doc", "text", "'v' || i")
    steps = Steps(module, database.login, phase("doc", "text"))
    assert steps.plan()["proof"] == {"read_only": True, "xid": None}
    database.sql(
        "CREATE TABLE seen (id numeric);"
        "CREATE RULE also AS ON UPDATE TO items DO ALSO INSERT INTO seen VALUES (new.id)"
    )
    said = steps.refused("plan", check=True)
    assert "The server cannot plan the statement of a batch of public.items" in said
    assert "rules are not supported" in said
    database.sql("DROP RULE also ON items")
    steps.forward()
    database.sql("CREATE RULE also AS ON UPDATE TO items DO ALSO INSERT INTO seen VALUES (new.id)")
    said = steps.refused("plan", rollback_of=steps.planned["run"]["id"])
    assert "The server cannot plan the statement that gives rows back" in said


def test_a_value_that_the_column_would_cut_is_another_one(
    database: Database, module: Module
) -> None:
    create(database, "doc", "text", "'longer' || i")
    database.sql("ALTER TABLE items ALTER doc TYPE varchar(4)")
    database.sql("UPDATE items SET doc = 'long'")
    steps = Steps(module, database.login, phase("doc", "varchar(4)"))
    assert gate(steps, "comparison")["evidence"]["different"] == ROWS


@pytest.mark.parametrize("strategy", ["ranges", "keyset"])
def test_the_statements_are_planned_before_and_after_names_and_types_are_right(
    any_database: Database, module: Module, strategy: str
) -> None:
    """Also where no ledger is there, and in a transaction that writes nothing."""
    create(any_database, "old", "text[]", "ARRAY['v' || i]")
    any_database.sql("ALTER TABLE items ADD other integer")
    spec = phase("new", "text", strategy=strategy)
    spec["columns"] = [
        {
            "name": "new",
            "type": "text",
            "renamed_from": "old",
            "converted_from": "text[]",
            "using": "{new}[1]",
            "source": "value[1]",
        },
        {"name": "another", "renamed_from": "other", "type": "integer", "source": "1"},
    ]
    steps = Steps(module, any_database.login, spec)
    steps.forward()
    steps.plan()
    assert steps.planned["proof"] == {"read_only": True, "xid": None}
    assert not steps.planned["needed"]


def test_a_lock_that_a_batch_would_wait_for_is_told(database: Database, module: Module) -> None:
    create(database, "doc", "text", "'v' || i")
    steps = Steps(module, database.login, phase("doc", "text", lock_timeout_ms=100))
    with database.connect() as other, other.transaction():
        other.execute("LOCK TABLE items IN SHARE MODE")
        said = steps.refused("plan")
    assert "lock timeout" in said and "see who holds a lock on the table" in said


def test_what_is_shown_is_what_will_be_stored(database: Database, module: Module) -> None:
    create(database, "n", "numeric", "i + 0.12345")
    database.sql("ALTER TABLE items ALTER n TYPE numeric(10,2), ADD flag boolean, ADD doc jsonb")
    database.sql("ALTER TABLE items ADD each numeric(9,1)[]")
    spec = phase("n", "numeric(10,2)", strategy="ranges")
    spec["columns"] += [
        {"name": "flag", "type": "boolean", "source": "value > 0"},
        {"name": "each", "type": "numeric(9,1)[]", "source": "ARRAY[value, NULL]"},
        {"name": "doc", "type": "jsonb", "source": "jsonb_build_object('b', true, 'n', NULL)"},
    ]
    steps = Steps(module, database.login, spec)
    text = steps.plan()["text"]
    shown = {row["key"][0]: row["after"] for row in steps.planned["sample"]}
    steps.forward()
    stored = database.sql("SELECT id::text, n::text, flag::text, doc::text, each::text FROM items")
    assert shown and all(
        shown[row["id"]] == {c: row[c] for c in ("n", "flag", "doc", "each")}
        for row in stored
        if row["id"] in shown
    )
    assert 'doc={"b": true, "n": null}' in text and ".12 " in text


def test_a_column_with_signs_of_formats_in_its_name_is_found_by_its_placeholder(
    database: Database, module: Module
) -> None:
    create(database, "old % {y}", "text[]", "ARRAY['v' || i % 3]")
    database.sql('CREATE INDEX "on % {y}" ON items ("old % {y}")')
    spec = phase(ODD, "text", speedup_min=0.001, repetitions=1)
    spec["columns"][0] |= {
        "renamed_from": "old % {y}",
        "converted_from": "text[]",
        "using": f"{{{ODD}}}[1]",
        "source": "value[1]",
    }
    spec["indexes"] = [{"name": "on % {y}", "columns": [ODD]}]
    spec["queries"] = [
        {
            "name": "100 %",
            "snapshot": f"SELECT count(*) FROM {{table}} WHERE {{{ODD}}} LIKE 'v%' AND '{{{{' > ''",
            "baseline": "SELECT count(*) FROM {table} t JOIN {source} s USING (ref)"
            " WHERE s.value[1] LIKE 'v%'",
        }
    ]
    steps = Steps(module, database.login, spec)
    steps.forward()
    filled = database.sql(SQL("SELECT count({}) AS n FROM items").format(Identifier(ODD)))
    assert filled == [{"n": ROWS}]
    assert steps.back()["rows_left_alone"] == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ("inet", "varchar", "Column 'ref' of public.items is inet, and 'ref' of public.origin"),
        ("json", "json", "Columns 'ref' of public.items and 'ref' of public.origin"),
        ("json[]", "json[]", "json[], and PostgreSQL has no = for that type"),
    ],
)
def test_a_source_key_that_cannot_be_compared_is_named_with_both_types(
    database: Database, module: Module, ours: str, theirs: str, said: str
) -> None:
    database.sql(
        f"CREATE TABLE origin (ref {theirs}, value text);"
        f"CREATE TABLE items (id int PRIMARY KEY, ref {ours}, doc text)"
    )
    steps = Steps(module, database.login, phase("doc", "text"))
    for step in ("preflight", "plan"):
        message = steps.refused(step)
        assert said in message and "phase_source_table" in message, message
        assert "operator does not exist" not in message
    assert ours != "inet" or "is character varying" in message


def test_a_source_key_of_a_collation_that_conflicts_is_named_with_both(
    database: Database, module: Module
) -> None:
    database.sql(
        'CREATE TABLE origin (ref text COLLATE "C" PRIMARY KEY, value text);'
        'CREATE TABLE items (id int PRIMARY KEY, ref text COLLATE "POSIX", doc text)'
    )
    steps = Steps(module, database.login, phase("doc", "text"))
    for step in ("preflight", "plan"):
        message = steps.refused(step)
        assert 'have the collations "POSIX" and "C"' in message and "SQLSTATE" not in message
    database.sql('CREATE VIEW fitting AS SELECT ref COLLATE "POSIX" AS ref, value FROM origin')
    steps.spec["source_table"] = "fitting"
    steps.plan()


def test_source_keys_that_only_the_source_tells_apart_are_refused(
    database: Database, module: Module
) -> None:
    create(database, "doc", "text", "'v' || i")
    database.sql("ALTER TABLE items ALTER ref TYPE char(5)")
    steps = Steps(module, database.login, phase("doc", "text"))
    assert steps.plan()["counts"]["rows_total"] == ROWS
    database.sql("ALTER TABLE origin ALTER ref TYPE varchar")
    database.sql("INSERT INTO origin VALUES ('r1  ', 'another')")
    twice = "SELECT id FROM items JOIN origin USING (ref) GROUP BY 1 HAVING count(*) > 1"
    assert len(database.sql(twice)) == ROWS // SOURCES
    message = steps.refused("plan")
    assert 'has 2 rows whose keys are all equal to the key ["r1' in message


def test_what_only_a_collation_takes_for_equal(icu_database: Database, module: Module) -> None:
    """That of the source does not count, that of an index does."""
    icu_database.sql(
        "CREATE COLLATION ignores_case (provider = icu, locale = 'und-u-ks-level2',"
        " deterministic = false)"
    )
    create(icu_database, "doc", "text COLLATE ignores_case", "'v' || i")
    icu_database.sql("ALTER TABLE items ALTER doc TYPE text; UPDATE items SET doc = upper(ref)")
    icu_database.sql("UPDATE items SET doc = 'V' || substr(ref, 2)")
    steps = Steps(module, icu_database.login, phase("doc", "text"))
    assert gate(steps, "comparison")["evidence"]["different"] == ROWS
    icu_database.sql(
        f"DELETE FROM items WHERE id > {SOURCES}; UPDATE items SET doc = NULL;"
        "UPDATE origin SET value = 'V2' WHERE ref = 'r1';"
        "CREATE UNIQUE INDEX once ON items (doc COLLATE ignores_case)"
    )
    assert "Unique index 'once' would refuse 1 of" in steps.refused("plan")


def test_columns_of_different_collations_are_compared_by_that_of_the_table(
    database: Database, module: Module
) -> None:
    create(database, "doc", 'text COLLATE "POSIX"', "'v' || i")
    database.sql('ALTER TABLE items ALTER doc TYPE text COLLATE "C"')
    steps = Steps(module, database.login, phase("doc", "text"))
    steps.forward()
    database.sql("UPDATE items SET doc = 'V1' WHERE ref = 'r1'")
    assert gate(steps, "comparison")["evidence"]["different"] == ROWS // SOURCES
