# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no database of the drift: names that are near each other, types that hold others,
and what is said of a difference."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.core.spec_checks import MAX_NAME_BYTES
from ansible.module_utils.pgrunbook.core.sql import cut
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.drift import (
    Difference,
    column_kinds,
    index_kinds,
    key_kinds,
    read_differences,
    table_kinds,
    type_kinds,
)
from ansible.module_utils.pgrunbook.drift.difference import CRITICAL, NOTE, SEVERITIES, WARNING
from ansible.module_utils.pgrunbook.drift.models import load_metadata
from ansible.module_utils.pgrunbook.drift.renames import NEAR, nearness, renames
from ansible.module_utils.pgrunbook.drift.resolution import Subject
from ansible.module_utils.pgrunbook.drift.source_columns import reads
from ansible.module_utils.pgrunbook.drift.type_change import TypeChange
from ansible.module_utils.pgrunbook.drift.types import fits
from tests.unit.conftest import parsed

ORDERS = Subject(Table("public", "orders"), 500)
BEGIN, COMMIT = "BEGIN;\nSET LOCAL lock_timeout = '500ms';\n", ";\nCOMMIT;"


def always(new: str, old: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("snapshot_ip_type", "snapshot_ip_types"),
        ("created", "created_at"),
        ("user_id", "userid"),
        ("userId", "user_id"),
        ("colour", "color"),
        ("recieved_at", "received_at"),
        ("address_line1", "adress_line1"),
    ],
)
def test_names_that_people_renamed_are_near(one: str, other: str) -> None:
    assert nearness(one, other) == nearness(other, one) >= NEAR + 0.05


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("first_seen", "last_seen"),
        ("created_at", "updated_at"),
        ("source_port", "source_ip"),
        ("vt_flagged", "dshield_flagged"),
        ("address_line1", "address_line2"),
        ("sha1", "sha256"),
        ("id", "price"),
    ],
)
def test_names_of_different_things_are_not_near(one: str, other: str) -> None:
    assert nearness(one, other) <= NEAR - 0.02


def test_a_rename_is_found_only_where_the_types_agree() -> None:
    asked = []

    def never(new: str, old: str) -> bool:
        asked.append((new, old))
        return False

    assert renames(["region"], ["regions", "total"], always) == {"regions": "region"}
    assert renames(["region"], ["regions", "total"], never) == {}
    assert asked == [("region", "regions")], "of near names only"


def test_the_nearest_of_several_names_is_taken() -> None:
    assert renames(["ip_type"], ["ip_typess", "ip_types"], always) == {"ip_types": "ip_type"}
    both = renames(["ip_type", "ip_typed"], ["ip_types", "ip_typess"], always)
    assert len(both) == 2 and both["ip_types"] == "ip_type"


names = st.lists(st.text("abcd_1", min_size=1, max_size=6), unique=True, max_size=6)


@given(names, names)
def test_every_name_is_taken_once(missing: list[str], surplus: list[str]) -> None:
    found = renames(missing, surplus, always)
    assert found.keys() <= set(surplus) and set(found.values()) <= set(missing)
    assert len(set(found.values())) == len(found)
    assert all(nearness(old, new) >= NEAR for old, new in found.items())
    left = [m for m in missing if m not in found.values()]
    for old in set(surplus) - found.keys():
        assert all(nearness(new, old) < NEAR for new in left), "a pair was left"
    assert found == renames(missing[::-1], surplus[::-1], always), "whatever the order"


@pytest.mark.parametrize(
    ("found", "expected", "how"),
    [
        ("text", "character varying", "all"),
        ("text", "character varying(2)", "wider"),
        ("character varying(64)", "character varying(2)", "wider"),
        ("character varying(2)", "character varying(64)", "narrower"),
        ("character varying(2)", "text", "narrower"),
        ("bigint", "integer", "wider"),
        ("smallint", "integer", "narrower"),
        ("text[]", "text", ""),
        ("json", "jsonb", "alike"),
        ("jsonb", "json", "alike"),
        ("character varying(2)[]", "character varying(3)[]", ""),
        ("integer", "text", ""),
    ],
)
def test_which_of_two_types_holds_more(found: str, expected: str, how: str) -> None:
    assert fits(found, expected) == how


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_the_longer_string_is_the_wider(there: int, wanted: int) -> None:
    how = fits(f"character varying({there})", f"character varying({wanted})")
    expected = "all" if there == wanted else "wider" if there > wanted else "narrower"
    assert how == expected


@pytest.mark.parametrize(
    ("found", "expected", "severity", "recommended"),
    [
        ("text", "integer", CRITICAL, "convert"),
        ("character varying(2)", "text", CRITICAL, "convert"),
        ("text", "character varying(2)", WARNING, "say"),
        ("json", "jsonb", WARNING, "say"),
        ("text", "character varying", NOTE, "say"),
    ],
)
def test_how_bad_another_type_is(
    found: str, expected: str, severity: str, recommended: str
) -> None:
    told = type_kinds.other_type(ORDERS, "a", TypeChange(found, expected, expected))
    assert told.severity == severity and told.breaks is (severity == CRITICAL)
    assert [way.option.split()[0] for way in told.resolutions if way.recommended] == [recommended]


@pytest.mark.parametrize(
    ("found", "expected", "using"),
    [
        ("text", "integer", '"a b"::integer'),
        ("text[]", "text", '"a b"[1]::text'),
        ("text", "text[]", 'ARRAY["a b"]::text[]'),
        ("text[]", "integer[]", '"a b"::integer[]'),
    ],
)
def test_how_a_column_is_converted(found: str, expected: str, using: str) -> None:
    told = type_kinds.other_type(ORDERS, "a b", TypeChange(found, expected, expected))
    alter = f'ALTER TABLE "public"."orders" ALTER COLUMN "a b" TYPE {expected} USING {using}'
    assert told.resolutions[0].sql == f"{BEGIN}{alter}{COMMIT}"


EVERY: dict[str, Callable[[], Difference]] = {
    "missing_table": lambda: table_kinds.missing_table(ORDERS),
    "unmodelled_table": lambda: table_kinds.unmodelled_table(ORDERS),
    "missing_column": lambda: column_kinds.missing_column(ORDERS, "a", "text", "text"),
    "surplus_column": lambda: column_kinds.surplus_column(ORDERS, "a", "text", required=False),
    "renamed_column": lambda: column_kinds.renamed_column(
        ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=False
    ),
    "other_type": lambda: type_kinds.other_type(ORDERS, "a", TypeChange("text[]", "text", "text")),
    "forbidden_null": lambda: column_kinds.forbidden_null(ORDERS, "a", renamed=False),
    "allowed_null": lambda: column_kinds.allowed_null(ORDERS, "a", renamed=False),
    "missing_index": lambda: index_kinds.missing_index(
        ORDERS, "i", "(a)", "CREATE", by_phase=False, unique=False
    ),
    "changed_index": lambda: index_kinds.changed_index(
        ORDERS, "i", "(b)", "(a)", "CREATE", unique=False
    ),
    "renamed_index": lambda: index_kinds.renamed_index(ORDERS, "i", "j", by_phase=False),
    "surplus_index": lambda: index_kinds.surplus_index(ORDERS, "i", "(a)", by_phase=False),
    "invalid_index": lambda: index_kinds.invalid_index(ORDERS, "i", modelled=True, by_phase=False),
    "missing_foreign_key": lambda: key_kinds.missing_foreign_key(
        ORDERS, "k", ["a"], (ORDERS.table, ["b"]), "public.orders (b)", []
    ),
    "surplus_foreign_key": lambda: key_kinds.surplus_foreign_key(ORDERS, "k", ["a"], "t (b)"),
    "changed_foreign_key": lambda: key_kinds.changed_foreign_key(ORDERS, "k", ["a"], "x", "y"),
    "missing_unique": lambda: key_kinds.missing_unique(ORDERS, "u", ["a"]),
    "surplus_unique": lambda: key_kinds.surplus_unique(ORDERS, "u", ["a"]),
    "renamed_unique": lambda: key_kinds.renamed_unique(
        ORDERS, ["a"], ("index", "i"), ("constraint", "u")
    ),
    "primary_key": lambda: key_kinds.primary_key(ORDERS, [], ["a"]),
    "unmatched_acknowledgement": lambda: table_kinds.unmatched_acknowledgement("orders.a"),
}


KINDS = {"other_type": "type", "forbidden_null": "nullability", "allowed_null": "nullability"}
"""Where a kind is not called as the function that tells it."""


@pytest.mark.parametrize("told_by", EVERY)
def test_every_difference_names_both_sides_and_one_way_out(told_by: str) -> None:
    told = EVERY[told_by]()
    of = "" if told_by == "unmatched_acknowledgement" else "public.orders"
    assert told.kind == KINDS.get(told_by, told_by) and told.table == of
    assert told.severity in SEVERITIES
    assert told.breaks is (told.severity == CRITICAL)
    assert "database" in told.text and ("models" in told.text or "phase" in told.text)
    assert told.text.count(". ") == 0 and told.impact
    assert [way.recommended for way in told.resolutions].count(True) == 1
    assert all(way.option for way in told.resolutions)
    assert told_by == "missing_table" or all(way.costs for way in told.resolutions)


@pytest.mark.parametrize("told_by", EVERY)
def test_a_difference_comes_back_from_json(told_by: str) -> None:
    told = EVERY[told_by]()
    assert read_differences([plain(told)]) == [told]


def test_every_kind_of_difference_is_tried() -> None:
    kinds = (table_kinds, column_kinds, type_kinds, index_kinds, key_kinds)
    telling = {
        name
        for module in kinds
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert telling == EVERY.keys()


def test_the_phase_says_what_it_does_itself() -> None:
    told = column_kinds.renamed_column(
        ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=True
    )
    assert told.text.endswith("this phase renames it")
    best = next(way for way in told.resolutions if way.recommended)
    assert "this phase does it" in best.option
    rename = 'ALTER TABLE "public"."orders" RENAME COLUMN "b" TO "a"'
    assert best.sql == f"{BEGIN}{rename}{COMMIT}"
    other = column_kinds.renamed_column(
        ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=False
    )
    assert "probably" in other.text and "this phase" not in str(other)


@pytest.mark.parametrize(
    ("on", "option", "sql", "costs"),
    [
        ({"owner": "ops"}, "drop it", "DROP INDEX CONCURRENTLY", "; its owner ops has to do it"),
        ({"view": True, "owner": "ops"}, "drop it, in the view's definition", "", "no lock on the"),
        ({"partitioned": True}, "drop it", "BEGIN;", "ACCESS EXCLUSIVE on the table and its part"),
        (
            {"partitioned": True, "owner": "ops"},
            "drop it",
            'DROP INDEX "public"."i"',
            "milliseconds; its owner ops has to do it",
        ),
    ],
)
def test_a_way_out_by_what_the_table_is(
    on: dict[str, Any], option: str, sql: str, costs: str
) -> None:
    subject = replace(ORDERS, **on)
    told = index_kinds.invalid_index(subject, "i", modelled=False, by_phase=False)
    drop = told.resolutions[1]
    assert drop.option == option and costs in drop.costs
    assert sql in drop.sql and bool(drop.sql) is bool(sql)


@given(st.text(min_size=1, max_size=80))
def test_a_name_with_a_suffix_is_one_that_postgresql_keeps(long: str) -> None:
    name = cut(long.encode("utf-8", "ignore").decode(), "_key")
    assert len(name.encode()) <= MAX_NAME_BYTES and name.endswith("_key")


@pytest.mark.parametrize(
    ("expression", "query", "read"),
    [
        ("geo->>'region'", "", False),
        ("geo->>'email'", "", False),
        ("lower(Email)", "", True),
        ('"email"', "", True),
        ("$$email$$", "", True),
        ("x -- it's\n || email || ''", "", True),
        ("customers.geo", "", False),
        ("to_jsonb(customers)", "", True),
        ("geo", "SELECT count(*) FROM {source} c WHERE c.emails = 'email'", False),
        ("geo", "SELECT count(*) FROM {source} c WHERE c.email IS NULL", True),
        ("geo", "SELECT c.* FROM {source} c", True),
        ("geo", "SELECT 1, * FROM {source} c", True),
    ],
)
def test_which_columns_of_the_source_the_phase_reads(
    expression: str, query: str, read: bool
) -> None:
    columns = [{"name": "region", "type": "text", "source": expression}]
    queries = [{"name": "q", "snapshot": query, "baseline": "SELECT 1"}] if query else []
    phase = parsed(columns=columns, queries=queries)
    assert reads(phase, "email") is read
    assert reads(phase, "id"), "the key"


@pytest.mark.parametrize(
    "models", ["", "nosuch.module:Base", "/nosuch.py:Base", "json:nosuch", "json:loads", "json"]
)
def test_models_that_cannot_be_loaded(models: str) -> None:
    with pytest.raises(RunbookError, match=r"Cannot load the models .* phase_models"):
        load_metadata(models)


@pytest.mark.parametrize("program", ["class (", "Base = nosuch", "1 / 0"])
def test_models_with_a_mistake(tmp_path: Path, program: str) -> None:
    models = tmp_path / "broken_models.py"
    models.write_text(program, encoding="utf-8")
    with pytest.raises(
        RunbookError, match=r"(?s)Cannot load the models .*Error: .*, line 1\..*phase_models"
    ):
        load_metadata(f"{models}:Base")
