# SPDX-License-Identifier: GPL-3.0-or-later
"""How batches find the size that takes the target duration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.batch_size import BatchSizes

TARGET = 100.0
ENOUGH = 40  # batches, for any of the costs below

costs = st.floats(min_value=0.02, max_value=500)
durations = st.floats(min_value=0, max_value=1e5)


def worked(pace: BatchSizes, cost: float, batches: int = ENOUGH, kind: str = "only pass") -> None:
    """So many batches of that cost, in milliseconds a unit."""
    for _ in range(batches):
        units = pace.size(kind)
        pace.took(kind, units, units * cost)


@given(costs)
def test_batches_of_one_cost_come_to_take_the_target(cost: float) -> None:
    pace = BatchSizes(TARGET)
    worked(pace, cost)
    assert pace.size("only pass") == pytest.approx(max(TARGET / cost, 1), rel=0.01, abs=1)


@given(costs)
def test_another_target_is_followed(cost: float) -> None:
    pace = BatchSizes(TARGET)
    worked(pace, cost)
    pace.aim(TARGET / 4)
    worked(pace, cost)
    assert pace.size("only pass") == pytest.approx(max(TARGET / 4 / cost, 1), rel=0.01, abs=1)


@given(costs, costs)
def test_a_cost_that_changes_is_followed(before: float, after: float) -> None:
    pace = BatchSizes(TARGET)
    worked(pace, before)
    worked(pace, after, batches=100)
    assert pace.size("only pass") == pytest.approx(max(TARGET / after, 1), rel=0.01, abs=1)


@given(st.lists(st.tuples(st.integers(0, 10_000), durations), min_size=1, max_size=20))
def test_no_step_more_than_doubles_or_halves_and_none_falls_below_one(
    batches: list[tuple[int, float]],
) -> None:
    pace = BatchSizes(TARGET)
    before = float(pace.size("only pass"))
    for units, milliseconds in batches:
        pace.took("only pass", units, milliseconds)
        after = pace.learned()["only pass"]
        assert max(before / 2, 1) <= after <= before * 2
        assert pace.size("only pass") >= 1
        before = after


@given(st.integers(1, 12))
def test_a_batch_that_took_too_long_is_halved_down_to_one(times: int) -> None:
    pace = BatchSizes(TARGET)
    first = pace.size("only pass")
    for _ in range(times):
        pace.too_long("only pass")
    assert pace.learned()["only pass"] == max(first / 2**times, 1)


def test_after_a_timeout_what_was_cheap_before_does_not_count() -> None:
    pace = BatchSizes(TARGET)
    worked(pace, 0.1)
    pace.too_long("only pass")
    assert pace.size("only pass") == 500
    pace.took("only pass", 500, 500 * 0.25)
    assert pace.size("only pass") == 400


@given(costs, costs)
def test_what_was_learned_is_where_another_one_starts(first: float, second: float) -> None:
    pace = BatchSizes(TARGET)
    worked(pace, first, kind="pass 0")
    worked(pace, second, kind="pass 1")
    resumed = BatchSizes(TARGET, json.loads(json.dumps(pace.learned())))
    assert resumed.learned() == pace.learned()
    for kind in ("pass 0", "pass 1"):
        assert resumed.size(kind) == pace.size(kind)


def test_kinds_do_not_learn_from_each_other() -> None:
    pace = BatchSizes(TARGET)
    fresh = pace.size("closing sweep")
    worked(pace, 5, kind="pass 0")
    worked(pace, 0.5, kind="pass 1")
    pace.too_long("pass 2")
    assert (pace.size("pass 0"), pace.size("pass 1")) == (20, 200)
    assert pace.size("pass 2") == fresh // 2 and pace.size("closing sweep") == fresh


def test_what_is_told_of_it_is_a_copy() -> None:
    given_sizes = {"pass 0": 7.0}
    pace = BatchSizes(TARGET, given_sizes)
    pace.learned()["pass 0"] = 99
    given_sizes["pass 0"] = 99
    assert pace.size("pass 0") == 7
