# SPDX-License-Identifier: GPL-3.0-or-later
"""How many updates find room on their page, pass by pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.page_space import Row, passes_over

FREE = 8192 - 24  # bytes for line pointers and rows


def page(rows: int, now: int, filled: int | None) -> list[Row]:
    return [Row(pointer, now, filled) for pointer in range(1, rows + 1)]


@pytest.mark.parametrize(
    ("rows", "passes", "stayed"),
    [
        # 80 rows of 96 bytes fill a page but for 168: one more row of 96 + 4, and no more
        (page(80, 96, 96), 1, 1),
        # in 16 passes, 5 rows of each give 480 bytes back, of 100 that the next ones need
        (page(80, 96, 96), 16, 1 + sum([5, 5, 5, 4, 5] * 3)),
        # each grows by half, so that the next ones need 148
        (page(80, 96, 144), 16, 1 + sum([3, 3, 3, 4, 3, 3, 3, 4, 3, 3, 3, 4, 3, 3, 3])),
        # room for every row at once
        (page(40, 96, 96), 1, 40),
        # four rows of 2,000 bytes: each makes room for the next, but the first has none
        (page(4, 2000, 2000), 4, 3),
        (page(4, 2000, 2008), 4, 3),
        # 1,588 bytes are free after the second one, so that the third does not prune, nor fit
        (page(4, 1640, 1640), 4, 2),
        # those that gain nothing take their room and need none
        ([Row(1, 96, 96), *[Row(n, 96, None) for n in range(2, 81)]], 2, 1),
        ([], 4, 0),
    ],
)
def test_a_page_is_taken_through_its_passes(rows: list[Row], passes: int, stayed: int) -> None:
    assert passes_over(rows, passes) == stayed


def test_a_page_has_no_more_than_291_line_pointers() -> None:
    assert passes_over(page(190, 24, 24), 16) == 291 - 190


rows_of_a_page = st.lists(
    st.tuples(st.integers(3, 60), st.one_of(st.none(), st.integers(0, 20))), max_size=15
).map(
    lambda sizes: [
        Row(n, now * 8, None if more is None else (now + more) * 8)
        for n, (now, more) in enumerate(sizes, 1)
    ]
)


@given(rows_of_a_page, st.integers(1, 16))
def test_no_more_rows_stay_than_are_filled_and_nothing_else_counts(
    rows: list[Row], passes: int
) -> None:
    assert 0 <= passes_over(rows, passes) <= sum(row.filled is not None for row in rows)


def test_a_fillfactor_has_pages_pruned_that_are_far_from_full() -> None:
    assert passes_over(page(4, 1640, 1640), 4, kept_free=8192 * 30 // 100) == 3
