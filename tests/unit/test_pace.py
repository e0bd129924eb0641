# SPDX-License-Identifier: GPL-3.0-or-later
"""How the backfill slows down where others feel too much, and gets faster again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill import pace as module
from ansible.module_utils.pgrunbook.backfill.pace import WINDOW, Pace

MOST = 20.0
looks = st.lists(st.booleans(), max_size=400)


def felt(pace: Pace, *slow: bool) -> list[bool]:
    return [pace.felt(too_slow=each) for each in slow]


def test_one_slow_look_in_a_window_is_tolerated() -> None:
    pace = Pace(MOST)
    assert not any(felt(pace, True, *[False] * (WINDOW - 1), True, *[False] * (WINDOW - 1)))
    assert (pace.target_ms, pace.duty) == (MOST, 1.0)


def test_two_slow_looks_halve_the_batches_at_once() -> None:
    pace = Pace(MOST)
    assert felt(pace, True, False, True) == [False, False, True]
    assert (pace.target_ms, pace.duty) == (MOST / 2, 1.0)


def test_at_their_shortest_workers_rest_and_a_little_work_is_always_done() -> None:
    pace = Pace(MOST)
    seen = [(pace.target_ms, pace.duty)]
    for _ in range(40):
        felt(pace, True)
        seen.append((pace.target_ms, pace.duty))
    assert seen[-1] == (module.LEAST_TARGET_MS, module.LEAST_DUTY)
    assert all(duty == 1.0 for target, duty in seen if target > module.LEAST_TARGET_MS)
    assert pace.rest_seconds(10) > 0


def test_what_was_done_last_is_taken_back_first_and_little_by_little() -> None:
    pace = Pace(MOST, target_ms=module.LEAST_TARGET_MS, duty=0.5)
    seen = [(pace.target_ms, pace.duty)]
    for _ in range(40 * WINDOW):
        if felt(pace, False) == [True]:
            seen.append((pace.target_ms, pace.duty))
    assert seen[-1] == (MOST, 1.0) and pace.rest_seconds(10) == 0
    assert all(target == module.LEAST_TARGET_MS for target, duty in seen if duty < 1.0)
    steps = [after - before for (before, _), (after, _) in pairwise(seen)]
    assert 0 < max(steps) <= MOST * module.INCREASE + 1e-9


@given(looks, st.floats(0.5, 1000), st.floats(0, 2000), st.floats(0, 2))
def test_the_pace_never_leaves_its_bounds(
    slow: list[bool], most: float, target: float, duty: float
) -> None:
    pace = Pace(most, target, duty)
    for each in [None, *slow]:
        if each is not None:
            felt(pace, each)
        assert min(module.LEAST_TARGET_MS, most) <= pace.target_ms <= most
        assert module.LEAST_DUTY <= pace.duty <= 1.0
