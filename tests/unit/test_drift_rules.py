# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no database of the drift: names that are near each other, types that hold others,
and what is said of a difference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.core.spec_checks import MOST_NAME_BYTES
from ansible.module_utils.pgrunbook.drift import differences, kinds
from ansible.module_utils.pgrunbook.drift.differences import NEAR, nearness, renames
from ansible.module_utils.pgrunbook.drift.kinds import (
    CRITICAL,
    NOTE,
    WARNING,
    Conversion,
    cut,
    fits,
)
from tests.unit.conftest import parsed

ORDERS = Table("public", "orders")
INTEGER = Conversion("integer")


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
    ("how", "severity", "recommended"),
    [
        ("", CRITICAL, "convert"),
        ("narrower", CRITICAL, "convert"),
        ("wider", WARNING, "say"),
        ("alike", WARNING, "say"),
        ("all", NOTE, "say"),
    ],
)
def test_how_bad_another_type_is(how: str, severity: str, recommended: str) -> None:
    told = kinds.other_type(ORDERS, "a", "text", "integer", INTEGER, fits=how)
    assert told["severity"] == severity and told["breaks"] is (severity == CRITICAL)
    assert [o["option"].split()[0] for o in told["resolutions"] if o["recommended"]] == [
        recommended
    ]


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
    known = Conversion(expected)
    told = kinds.other_type(ORDERS, "a b", found, expected, known, fits="")
    assert told["resolutions"][0]["sql"] == [
        [f'ALTER TABLE "public"."orders" ALTER COLUMN "a b" TYPE {expected} USING {using}']
    ]


EVERY: dict[str, Callable[[], dict[str, Any]]] = {
    "missing_table": lambda: kinds.missing_table(ORDERS),
    "unmodelled_table": lambda: kinds.unmodelled_table(ORDERS),
    "missing_column": lambda: kinds.missing_column(ORDERS, "a", "text", "text"),
    "surplus_column": lambda: kinds.surplus_column(ORDERS, "a", "text", required=False),
    "renamed_column": lambda: kinds.renamed_column(
        ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=False
    ),
    "type": lambda: kinds.other_type(ORDERS, "a", "text[]", "text", Conversion("text"), fits=""),
    "nullability": lambda: kinds.nullability(ORDERS, "a", not_null=True),
    "missing_index": lambda: kinds.missing_index(
        ORDERS, "i", "(a)", "CREATE", by_phase=False, unique=False
    ),
    "changed_index": lambda: kinds.changed_index(
        ORDERS, "i", "(b)", "(a)", ["DROP", "CREATE"], unique=False
    ),
    "renamed_index": lambda: kinds.renamed_index(ORDERS, "i", "j", by_phase=False),
    "surplus_index": lambda: kinds.surplus_index(ORDERS, "i", "(a)", by_phase=False),
    "invalid_index": lambda: kinds.invalid_index(ORDERS, "i", modelled=True, by_phase=False),
    "missing_foreign_key": lambda: kinds.missing_foreign_key(
        ORDERS, "k", ["a"], (ORDERS, ["b"]), "public.orders (b)", []
    ),
    "surplus_foreign_key": lambda: kinds.surplus_foreign_key(ORDERS, "k", ["a"], "t (b)"),
    "changed_foreign_key": lambda: kinds.changed_foreign_key(ORDERS, "k", ["a"], "x", "y"),
    "missing_unique": lambda: kinds.missing_unique(ORDERS, "u", ["a"]),
    "surplus_unique": lambda: kinds.surplus_unique(ORDERS, "u", ["a"]),
    "renamed_unique": lambda: kinds.renamed_unique(ORDERS, ["a"], "index i", "constraint u"),
    "primary_key": lambda: kinds.primary_key(ORDERS, [], ["a"]),
    "unmatched_acknowledgement": lambda: kinds.unmatched("orders.a"),
}


@pytest.mark.parametrize("kind", EVERY)
def test_every_difference_names_both_sides_and_one_way_out(kind: str) -> None:
    told = EVERY[kind]()
    of = "" if kind == "unmatched_acknowledgement" else "public.orders"
    assert told["kind"] == kind and told["table"] == of
    assert told["severity"] in kinds.SEVERITIES
    assert told["breaks"] is (told["severity"] == CRITICAL)
    assert "database" in told["text"] and ("models" in told["text"] or "phase" in told["text"])
    assert told["text"].count(". ") == 0 and told["impact"]
    assert [o["recommended"] for o in told["resolutions"]].count(True) == 1
    assert all(o["option"] for o in told["resolutions"])
    assert kind == "missing_table" or all(o["costs"] for o in told["resolutions"])


def test_every_kind_of_difference_is_tried() -> None:
    public = {n for n, f in vars(kinds).items() if callable(f) and not n.startswith("_")}
    made_here = {n for n in public if vars(kinds)[n].__module__ == kinds.__name__}
    tried = (EVERY.keys() - {"type", "unmatched_acknowledgement"}) | {"other_type", "unmatched"}
    assert made_here - {"fits", "cut", "converted", "Conversion"} == tried


def test_the_phase_says_what_it_does_itself() -> None:
    told = kinds.renamed_column(ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=True)
    assert told["text"].endswith("this phase renames it")
    best = next(o for o in told["resolutions"] if o["recommended"])
    assert "this phase does it" in best["option"]
    assert best["sql"] == [['ALTER TABLE "public"."orders" RENAME COLUMN "b" TO "a"']]
    other = kinds.renamed_column(
        ORDERS, ("a", "text"), ("b", "text"), spelled="text", by_phase=False
    )
    assert "probably" in other["text"] and "this phase" not in str(other)


@given(st.text(min_size=1, max_size=80))
def test_a_name_with_a_suffix_is_one_that_postgresql_keeps(long: str) -> None:
    name = cut(long.encode("utf-8", "ignore").decode(), "_key")
    assert len(name.encode()) <= MOST_NAME_BYTES and name.endswith("_key")


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
    assert differences.reads(phase, "email") is read
    assert differences.reads(phase, "id"), "the key"


@pytest.mark.parametrize(
    "models", ["", "nosuch.module:Base", "/nosuch.py:Base", "json:nosuch", "json:loads", "json"]
)
def test_models_that_cannot_be_loaded(models: str) -> None:
    with pytest.raises(RunbookError, match=r"Cannot load the models .* phase_models"):
        differences.load_metadata(models)


@pytest.mark.parametrize("program", ["class (", "Base = nosuch", "1 / 0"])
def test_models_with_a_mistake(tmp_path: Path, program: str) -> None:
    models = tmp_path / "broken_models.py"
    models.write_text(program, encoding="utf-8")
    with pytest.raises(
        RunbookError, match=r"(?s)Cannot load the models .*Error: .*, line 1\..*phase_models"
    ):
        differences.load_metadata(f"{models}:Base")
