# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no database of the catalog: which name a column bears now."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.catalog import IndexInfo
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.ddl.schema_change import Diff, SchemaChange
from tests.unit.conftest import parsed, table_info

NEVER_RENAMED = [{"name": "region", "type": "text", "source": "geo"}]


@pytest.mark.parametrize(("there", "name"), [("regions", "regions"), ("region", "region")])
def test_one_of_the_two_names(there: str, name: str) -> None:
    assert catalog.present_names(parsed(), table_info("id", there)) == {"region": name}


def test_both_names_are_a_question_for_a_person() -> None:
    with pytest.raises(RunbookError) as refused:
        catalog.present_names(parsed(), table_info("id", "region", "regions"))
    text = str(refused.value)
    assert "public.orders has both 'regions' and 'region'" in text and "Next step:" in text
    assert '(SELECT count("regions"), count("region") FROM "public"."orders";)' in text


def test_neither_name_lists_near_ones() -> None:
    info = table_info("id", "Region", "regiom", "total")
    with pytest.raises(RunbookError) as refused:
        catalog.present_names(parsed(), info)
    text = str(refused.value)
    assert "public.orders has neither 'regions' nor 'region'" in text
    assert "'regiom'" in text and "'Region'" in text and "'total'" not in text
    assert "phase_columns" in text


def test_neither_name_and_nothing_near() -> None:
    with pytest.raises(RunbookError, match=r"neither 'regions' nor 'region'\. Next step"):
        catalog.present_names(parsed(), table_info("id", "total"))


def test_a_column_that_was_never_renamed() -> None:
    spec = parsed(columns=NEVER_RENAMED)
    assert catalog.present_names(spec, table_info("region")) == {"region": "region"}
    with pytest.raises(RunbookError, match=r"public\.orders has no column 'region'\."):
        catalog.present_names(spec, table_info("regions"))


def test_every_column_has_its_own_name() -> None:
    columns = [
        {"name": "a", "type": "text", "renamed_from": "old_a", "source": "x"},
        {"name": "b", "type": "text", "renamed_from": "old_b", "source": "x"},
    ]
    spec = parsed(columns=columns)
    names = catalog.present_names(spec, table_info("a", "old_b"))
    assert names == {"a": "a", "b": "old_b"}


def test_a_missing_column_is_named_with_near_ones() -> None:
    orders = Table("public", "orders")
    catalog.require_columns(orders, table_info("id", "customer"), ["id", "customer"])
    with pytest.raises(RunbookError, match=r"no column 'costumer'\. Near names: 'customer'\."):
        catalog.require_columns(orders, table_info("id", "customer"), ["costumer"])


def test_the_schema_is_sorted_and_tells_invalid_indexes() -> None:
    info = table_info("b", "a")
    info.indexes["ix_b"] = IndexInfo(("b",), False, False, True, True, "CREATE INDEX ix_b")
    info.indexes["ix_a"] = IndexInfo(("a",), True, False, True, True, "CREATE INDEX ix_a")
    schema = info.schema()
    assert list(schema["columns"]) == ["a", "b"]
    assert schema["indexes"] == {
        "ix_a": "CREATE INDEX ix_a",
        "ix_b": "CREATE INDEX ix_b -- INVALID",
    }
    assert list(schema["indexes"]) == ["ix_a", "ix_b"]


def test_a_schema_change_that_did_nothing() -> None:
    info = table_info("a")
    result = SchemaChange.of(Table("s", "t"), "columns", info, info.schema(), [])
    assert result.changed is False and result.queries == []
    assert result.diff.before == result.diff.after == "a: text\n"


def test_a_schema_change_shows_its_part_before_and_after() -> None:
    before, after = table_info("old"), table_info("new").schema()
    result = SchemaChange.of(Table("s", "t"), "columns", before, after, ["ALTER"])
    assert result.changed is True and result.schema == after
    both = "columns of s.t"
    assert result.diff == Diff(both, both, before="old: text\n", after="new: text\n")
