# SPDX-License-Identifier: GPL-3.0-or-later
"""What an odd type, name or expression makes of a phase is told by the plan, or goes through."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.small_table import Table, fill
from tests.integration.steps import Module

PRIMARY = "ALTER TABLE t ADD PRIMARY KEY (id)"
LONG = "l" * 60
ON_ITS_TYPE = {"name": "value", "source": "value", "converted_from": "text[]"}


def converted(name: str, type: str) -> dict[str, Any]:
    return {**ON_ITS_TYPE, "name": name, "type": type, "using": f"{{{name}}}[1]"}


def filled(name: str, type: str, source: str = "value") -> dict[str, Any]:
    return {"name": name, "type": type, "source": source}


REFUSED = {
    "names that are kept under one": (
        [f"ALTER TABLE t ADD {LONG}a text[], ADD {LONG}b text[]"],
        {"columns": [converted(f"{LONG}a", "text"), converted(f"{LONG}b", "text")]},
        [f"Columns '{LONG}a' and '{LONG}b' of public.t would both be kept as", "in two phases"],
    ),
    "a domain for which the table would be written anew": (
        ["CREATE DOMAIN word AS text CHECK (VALUE <> '')", "ALTER TABLE t ADD old text[]"],
        {"columns": [converted("old", "word")]},
        ["is to become word", "write the whole table anew"],
    ),
    "a domain of a domain that forbids NULL": (
        [
            "CREATE DOMAIN never AS text NOT NULL; CREATE DOMAIN word AS never",
            "ALTER TABLE t ADD old text[]",
        ],
        {"columns": [converted("old", "word")]},
        ["the domain never forbids NULL", "ALTER DOMAIN never DROP NOT NULL"],
    ),
    "a type that is no spelling of one": (
        [],
        {"columns": [filled("value", 'text COLLATE "C"')]},
        ["'text COLLATE \"C\"' is no type that this server knows", "correct the type of 'value'"],
    ),
    "a length that the type has not": (
        [],
        {"columns": [filled("value", "text(5)")]},
        ["'text(5)' is no type that this server knows"],
    ),
    "an expression on a name that the source has not": (
        [],
        {"columns": [filled("value", "text", "t.value")]},
        ["The source expression of column 'value', 't.value', cannot be used"],
    ),
    "a B-tree of an array of json": (
        ["ALTER TABLE t ADD doc json[]"],
        {
            "columns": [filled("doc", "json[]", "ARRAY[to_json(value)]")],
            "indexes": [{"name": "docs", "columns": ["doc"]}],
        },
        ["column 'doc' is json[], which has no usual operator class"],
    ),
    "a hash of a domain of a domain of json": (
        ["CREATE DOMAIN d AS json; CREATE DOMAIN e AS d; ALTER TABLE t ADD doc e"],
        {
            "columns": [filled("doc", "e", "to_json(value)")],
            "indexes": [{"name": "docs", "columns": ["doc"], "method": "hash"}],
        },
        ["column 'doc' is e, which has no usual operator class"],
    ),
}


@pytest.mark.parametrize(("prepare", "changes", "said"), REFUSED.values(), ids=REFUSED)
def test_the_plan_refuses(
    database: Database,
    module: Module,
    prepare: list[str],
    changes: dict[str, Any],
    said: list[str],
) -> None:
    steps = Table(after=(PRIMARY, *prepare), spec=changes).make(database, module)
    message = steps.refused("plan", check=True)
    assert [words for words in said if words not in message] == [], message
    assert "SQLSTATE" not in message and "There are" not in message


GO_THROUGH = {
    "an expression that names its source": ([], {"columns": [filled("value", "text", "s.value")]}),
    "a domain of a domain in a B-tree": (
        ["CREATE DOMAIN d AS text; CREATE DOMAIN e AS d; ALTER TABLE t ADD word e"],
        {
            "columns": [filled("word", "e")],
            "indexes": [{"name": "words", "columns": ["word"]}],
        },
    ),
}


@pytest.mark.parametrize(("prepare", "changes"), GO_THROUGH.values(), ids=GO_THROUGH)
def test_these_go_through(
    database: Database, module: Module, prepare: list[str], changes: dict[str, Any]
) -> None:
    steps = Table(after=(PRIMARY, *prepare), spec=changes).make(database, module)
    fill(steps)
    assert not steps.plan()["needed"]
