# SPDX-License-Identifier: GPL-3.0-or-later
"""Indexes of a phase that are more than a B-tree on columns: INCLUDE, WHERE and other methods."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.integration.conftest import Database
from tests.integration.small_table import INDEX, Table, all_right, fill
from tests.integration.steps import Module, Steps, content

Phase = dict[str, Any]

PRIMARY = "ALTER TABLE t ADD PRIMARY KEY (id)"
DEFINITION = "SELECT pg_get_indexdef(%s::regclass) AS is"
T = (("public", "t"),)

KINDS = {
    "include": (
        {"columns": ["value"], "include": ["ref", "other"]},
        "(value) INCLUDE (ref, other)",
    ),
    "where": ({"where": "value like 'v%' and other IS null"}, None),
    "hash": ({"method": "hash"}, "USING hash (value)"),
    "spgist": ({"method": "spgist"}, "USING spgist (value)"),
    "brin": ({"columns": ["id", "value"], "method": "brin"}, "USING brin (id, value)"),
    "gin": ({"columns": ["tags"], "method": "gin"}, "USING gin (tags)"),
    "gist": (
        {"columns": ["span"], "include": ["value"], "method": "gist"},
        "USING gist (span) INCLUDE (value)",
    ),
    "hash with a condition": (
        {"method": "hash", "where": "length(value) > 1 + 1 -- long ones"},
        "USING hash (value) WHERE (length(value) > (1 + 1))",
    ),
}
MORE = ", tags text[], span int4range, at timestamptz"


def indexed(**index: Any) -> dict[str, Any]:
    return {"indexes": [{**INDEX, **index}]}


def flat(text: str) -> str:
    return " ".join(text.split())


def index_gate(steps: Steps) -> str:
    """What the gate of the indexes measured, which has to pass."""
    (check,) = [c for c in steps.do("data_gates")["checks"] if c["id"] == "indexes"]
    assert check["status"] == "pass"
    measured: str = check["measured"]
    return measured


@pytest.mark.representative
@pytest.mark.parametrize(("index", "ends"), KINDS.values(), ids=KINDS.keys())
def test_built_found_again_and_taken_back(
    any_database: Database, module: Module, index: Phase, ends: str | None
) -> None:
    steps = Table(columns=MORE, spec=indexed(**index)).make(any_database, module)
    before = content(any_database, *T)
    fill(steps)
    definition = any_database.sql(DEFINITION, ("t_value",))[0]["is"]
    assert ends is None or definition.endswith(ends)
    (build,) = [s for s in steps.planned["plan"]["steps"] if s["id"] == "index_build"]
    assert flat(build["statements"][0]) in flat(steps.planned["text"])
    assert not Steps(module, any_database.login, steps.spec).plan()["needed"]
    assert index_gate(steps) == "all there and valid"
    steps.back()
    assert content(any_database, *T) == before


BLOCKING = {
    "included": ("(ref) INCLUDE (value)", {"columns": ["ref"], "include": ["value"]}),
    "in the condition": (
        "(ref) WHERE value IS NULL",
        {"columns": ["ref"], "where": "value IS NULL"},
    ),
    "by another method": ("USING hash (value)", {"method": "hash"}),
}


@pytest.mark.parametrize(("there", "index"), BLOCKING.values(), ids=BLOCKING.keys())
def test_deferred_where_it_would_block_and_built_again_the_same(
    database: Database, module: Module, there: str, index: Phase
) -> None:
    steps = Table(
        after=(PRIMARY, f"CREATE INDEX t_value ON t {there}"),
        spec={**indexed(**index), "strategy": "interleaved"},
    ).make(database, module)
    before = content(database, *T)
    steps.begin()
    assert steps.deferred == ["t_value"]
    steps.approve("backfill")
    steps.defer()
    assert "t_value" not in steps.do("index", check=True)["diff"]["before"]
    steps.backfill()
    steps.do("run", state="failed")
    steps.back()
    assert content(database, *T) == before


@pytest.mark.parametrize("broken", ["t_value", "old"], ids=["its name", "its old name"])
def test_the_invalid_rest_of_a_build_is_dropped_and_the_index_built(
    database: Database, module: Module, broken: str
) -> None:
    steps = Table(
        after=(PRIMARY, f"CREATE INDEX {broken} ON t (value)"), spec=indexed(renamed_from="old")
    ).make(database, module)
    database.superuser(
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.{broken}'::regclass"
    )
    fill(steps)
    assert f'DROP INDEX CONCURRENTLY "public"."{broken}"' in flat(steps.planned["text"])
    assert database.sql(DEFINITION, ("t_value",))[0]["is"].endswith("USING btree (value)")
    assert database.sql("SELECT to_regclass('old') AS old") == [{"old": None}]
    assert index_gate(steps) == "all there and valid"


def test_renamed_under_the_columns_new_name(database: Database, module: Module) -> None:
    """The condition is written for the table after the rename, and the index there has the old
    name in it."""
    steps = Table(
        after=(
            PRIMARY,
            "ALTER TABLE t RENAME value TO valeu",
            "CREATE INDEX t_valeu ON t (ref) INCLUDE (valeu) WHERE valeu = ANY ('{a,b}')",
        ),
        spec=indexed(
            renamed_from="t_valeu",
            columns=["ref"],
            include=["value"],
            where="value = any (array['a', 'b'])",
        ),
    ).make(database, module)
    steps.spec["columns"][0]["renamed_from"] = "valeu"
    before = content(database, *T)
    steps.plan()
    kinds = {s["id"]: len(s["statements"]) for s in steps.planned["plan"]["steps"]}
    assert (kinds["index_rename"], kinds["index_build"]) == (1, 0)
    fill(steps)
    all_right(database)
    steps.back()
    assert content(database, *T) == before


def test_put_aside_with_the_column_that_its_condition_is_on(
    database: Database, module: Module
) -> None:
    steps = Table(
        after=(
            PRIMARY,
            "ALTER TABLE t ALTER value TYPE text[] USING NULL",
            "CREATE INDEX t_value ON t (ref) WHERE value IS NOT NULL",
        ),
        spec=indexed(columns=["ref"], where="value IS NOT NULL"),
    ).make(database, module)
    steps.spec["columns"][0] |= {"converted_from": "text[]", "using": "{value}[1]"}
    before = content(database, *T)
    fill(steps)
    named = "SELECT indexdef FROM pg_indexes WHERE tablename = 't' ORDER BY indexname"
    defined = [row["indexdef"].split("ON ")[1] for row in database.sql(named)]
    assert "public.t USING btree (ref) WHERE (value IS NOT NULL)" in defined
    assert "public.t USING btree (ref) WHERE (value_before_small IS NOT NULL)" in defined
    steps.back()
    assert content(database, *T) == before


REFUSED = {
    "clock": ({"where": "at < now()"}, "may give another value at another time"),
    "setting": ({"where": "at::date = '2026-01-01'"}, "may give another value at another time"),
    "volatile": ({"where": "random() < 0.5"}, "may give another value at another time"),
    "transaction id": ({"where": "txid_current() > 1"}, "assigns a transaction id"),
    "subquery": ({"where": "ref IN (SELECT ref FROM s)"}, "it has a subquery"),
    "old name": ({"where": "old IS NULL"}, 'column "old" does not exist'),
    "no condition": ({"where": "value"}, "must be type boolean"),
    "aggregate": ({"where": "count(*) > 1"}, "aggregate functions are not allowed"),
    "two statements": ({"where": "true); DROP TABLE t; --"}, "syntax error"),
    "two expressions": ({"where": "true), (false"}, "syntax error"),
    "parts of a CASE": ({"where": "true) THEN true WHEN (false"}, "syntax error"),
    "hash includes": ({"method": "hash", "include": ["ref"]}, "includes no other columns"),
    "hash of two": ({"method": "hash", "columns": ["ref", "value"]}, "takes one column only"),
    "gin of text": ({"method": "gin"}, "'value' is text, which has no usual operator class"),
    "btree of json": ({"columns": ["doc"]}, "'doc' is json, which has no usual operator class"),
}


def test_what_cannot_be_built_is_refused_beforehand(database: Database, module: Module) -> None:
    """All of it at once, by index."""
    wrong = [{**INDEX, "name": called, **index} for called, (index, _) in REFUSED.items()]
    fine = {**INDEX, "name": "fine", "where": "at > '2026-01-01 00:00+00'::timestamptz"}
    steps = Table(columns=", at timestamptz, doc json", spec={"indexes": [*wrong, fine]}).make(
        database, module
    )
    obstacles = steps.refused("plan").splitlines()[1:]
    assert len(obstacles) == len(REFUSED)
    for said, (called, (_, why)) in zip(obstacles, REFUSED.items(), strict=True):
        assert why in said and f"{called!r}" in said and "Next step: " in said, said


def test_a_column_to_be_included_has_to_be_there(database: Database, module: Module) -> None:
    steps = Table(spec=indexed(include=["ref", "nowhere"])).make(database, module)
    assert "to be on 'nowhere', which public.t does not have" in steps.refused("plan")


OF_ANY_TYPE = (
    *("int[]", "varchar(3)", "char(2)", "name", "kind", "dom", "cidr", "int4range", "uuid"),
    *("numeric(5,1)", "interval", "pair", "datemultirange", "bit(3)", "money", "tsvector"),
)


def test_every_type_that_a_btree_takes_is_taken(any_database: Database, module: Module) -> None:
    columns = {f"c{n}": of for n, of in enumerate(OF_ANY_TYPE)}
    steps = Table(
        rows=0,
        after=(
            PRIMARY,
            "CREATE TYPE kind AS ENUM ('a')",
            "CREATE DOMAIN dom AS varchar(5) CHECK (VALUE <> '')",
            "CREATE TYPE pair AS (a int, b text)",
            *(f"ALTER TABLE t ADD {column} {of}" for column, of in columns.items()),
            "INSERT INTO t (id, ref) VALUES (1, 1)",
        ),
        spec={"indexes": [{"name": f"t_{c}", "columns": [c]} for c in columns]},
    ).make(any_database, module)
    fill(steps)
    assert index_gate(steps) == "all there and valid"


OTHERS = {
    "without include": ("(value)", {"include": ["ref"]}),
    "with more included": ("(value) INCLUDE (ref, other)", {"include": ["ref"]}),
    "with the included as a key": ("(value, ref)", {"include": ["ref"]}),
    "on another column": ("(ref)", {}),
    "in another order": ("(ref, value)", {"columns": ["value", "ref"]}),
    "without a condition": ("(value)", {"where": "ref > 1"}),
    "with a condition": ("(value) WHERE ref > 1", {}),
    "with another condition": ("(value) WHERE ref > 1", {"where": "ref > 2"}),
    "by another method": ("USING hash (value)", {}),
    "with another class": ("(value text_pattern_ops)", {}),
    "in another collation": ('(value COLLATE "POSIX")', {}),
}


@pytest.mark.parametrize(("there", "index"), OTHERS.values(), ids=OTHERS.keys())
def test_an_index_of_that_name_that_is_another_one(
    database: Database, module: Module, there: str, index: Phase
) -> None:
    steps = Table(
        after=(PRIMARY, f"CREATE INDEX t_value ON t {there}"), spec=indexed(**index)
    ).make(database, module)
    assert "Index 't_value' of public.t is there, but as: CREATE INDEX" in steps.refused("plan")


SAME = {
    "a constant that is computed": ("other > 2", "other > 1 + 1"),
    "other spelling": (
        "value IN ('a', 'b') AND NOT other = 3",
        "(VALUE in ('a','b')) and other<>3",
    ),
    "of the table": ("value IS NULL", "t.value IS NULL"),
    "texts with signs": ("value = '10 % {of} \"it\"'", "value = '10 % {of} \"it\"'::text"),
}


@pytest.mark.parametrize(("there", "wanted"), SAME.values(), ids=SAME.keys())
def test_a_condition_is_compared_as_the_server_reads_it(
    any_database: Database, module: Module, there: str, wanted: str
) -> None:
    steps = Table(
        after=(PRIMARY, f"CREATE INDEX t_value ON t (ref) WHERE {there}"),
        spec=indexed(columns=["ref"], where=wanted),
    ).make(any_database, module)
    (build,) = [s for s in steps.plan()["plan"]["steps"] if s["id"] == "index_build"]
    assert build["statements"] == []


def test_another_condition_is_another_plan(database: Database, module: Module) -> None:
    steps = Table(spec=indexed(where="value IS NULL")).make(database, module)
    first = steps.plan()["plan_hash"]
    steps.spec["indexes"][0]["where"] = "value IS NOT NULL"
    assert steps.plan()["plan_hash"] != first


def test_odd_names(database: Database, module: Module) -> None:
    odd = 'Größe "100 %" {a}'
    long = "é" * 31 + "x"
    steps = Table(
        columns=f', "{odd.replace(chr(34), 2 * chr(34))}" int, "{long}" int',
        spec=indexed(
            name=long,
            columns=["value"],
            include=[odd, long],
            where=f'"{odd.replace(chr(34), 2 * chr(34))}" % 7 = 1 OR "{long}" IS NULL',
        ),
    ).make(database, module)
    before = content(database, *T)
    fill(steps)
    assert index_gate(steps) == "all there and valid"
    steps.back()
    assert content(database, *T) == before


def test_a_proposal_is_an_entry_that_the_phase_takes(
    database: Database, module: Module, phase: Phase
) -> None:
    """With it the query has its index: nothing more is proposed."""
    kept = [i for i in phase["phase_indexes"] if len(i["columns"]) == 1]
    query = phase["phase_queries"][0]
    counted = {**query, "snapshot": query["snapshot"].replace("count(*)", "count(session_id)")}
    changed = {"phase_indexes": kept, "phase_queries": [counted], "phase_speedup_min": 1e6}
    phase = {**phase, **changed, "phase_repetitions": 1}
    steps = Steps.of(module, database, phase)
    fill(steps)
    (check,) = steps.do("query_gates")["checks"]
    entry = yaml.safe_load(check["measured"].split("In phase_indexes: ")[1])
    assert entry["columns"] == ["snapshot_country", "snapshot_ip_type"]
    assert entry["include"] == ["session_id"]

    with_it = Steps.of(module, database, {**phase, "phase_indexes": [*kept, entry]})
    fill(with_it)
    (pair,) = with_it.do("query_gates")["pairs"]
    assert pair["proposal"] is None
    assert pair["snapshot"]["plan"]["Plans"][0]["Node Type"].startswith("Index Only Scan")
