# SPDX-License-Identifier: GPL-3.0-or-later
"""An interval of 95 % is wrong once in twenty times, also where what is rare stands together."""

from __future__ import annotations

from math import comb

import pytest

from ansible.module_utils.pgrunbook.backfill.count_estimate import Sampled, share
from ansible.module_utils.pgrunbook.catalog.page_ranges import PageRange
from ansible.module_utils.pgrunbook.core.spec import Table

PAGES, SAMPLED, ROWS = 65_536, 400, 14
OF = Sampled([PageRange(Table("public", "t"), n, n + 1) for n in range(SAMPLED)], PAGES)


@pytest.mark.parametrize("scattered", [0, 6, 60])
@pytest.mark.parametrize("pages", [0.001, 0.002, 0.005, 0.008, 0.011, 0.02, 0.05, 0.2, 0.5])
def test_the_share_of_rows_where_whole_pages_differ(pages: float, scattered: int) -> None:
    """That share of the pages differs as a whole, and of the others so many have a row that
    does."""
    wrong = 0.0
    for whole in range(SAMPLED - scattered + 1):
        right = [0] * whole + [ROWS - 1] * scattered + [ROWS] * (SAMPLED - whole - scattered)
        low, high = share(right, [ROWS] * SAMPLED, OF)
        truth = 100 * (1 - pages) * (1 - scattered / SAMPLED / ROWS)
        if not low <= truth <= high:
            wrong += comb(SAMPLED, whole) * pages**whole * (1 - pages) ** (SAMPLED - whole)
    assert wrong < 0.06
