# SPDX-License-Identifier: GPL-3.0-or-later
"""A step of a plan: what of it is hashed, and which of its statements a person reads."""

from __future__ import annotations

from dataclasses import replace

from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.ddl.step import Statement, Step, alike

STEP = Step("backfill", "Fill", ("a1", "a2", "a3", "z"), ("undo a", "", ""), lock="L", needed=True)


def test_what_is_not_there_is_not_hashed() -> None:
    assert STEP.as_json() == {
        "id": "backfill",
        "title": "Fill",
        "statements": ["a1", "a2", "a3", "z"],
        "undo": ["undo a", "", ""],
        "lock": "L",
        "needed": True,
    }
    whole = replace(STEP, needed=False, note="", alike=(3, 1))
    assert {"needed": False, "note": "", "alike": [3, 1]}.items() <= whole.as_json().items()
    assert read(Step, whole.as_json()) == whole, "as the ledger has it"


def test_of_statements_that_differ_in_the_partition_only_the_first_is_read() -> None:
    assert replace(STEP, alike=(3, 1)).distinct() == [Statement("a1", "undo a", 2), Statement("z")]
    assert [each.sql for each in STEP.distinct()] == ["a1", "a2", "a3", "z"]
    assert Step("rename", "Rename", (), (), lock="").distinct() == []


def test_an_earlier_version_counted_partitions_where_there_are_none() -> None:
    assert replace(STEP, statements=("z",), undo=(), alike=(0, 1)).distinct() == [Statement("z")]


def test_alike_says_nothing_where_each_statement_is_another_one() -> None:
    assert alike([1, 1]) is None and alike([]) is None and alike([0, 1]) is None
    assert alike([1, 3]) == (1, 3)
