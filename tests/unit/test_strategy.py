# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the choice of a strategy needs no database."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill import strategy
from ansible.module_utils.pgrunbook.backfill.counting import Counts, Coverage
from ansible.module_utils.pgrunbook.backfill.strategy import WORTH_ROWS, Strategy, choose
from ansible.module_utils.pgrunbook.catalog import TableInfo
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.spec import SPEC_OPTIONS
from ansible.module_utils.pgrunbook.core.values import plain, read
from tests.unit.conftest import parsed, table_info

NO_CONNECTION: Any = None  # what the phase asks for needs no look at the database
COUNTS = Counts(WORTH_ROWS, WORTH_ROWS, {}, {"region": Coverage(9.99, 100.0, {})})


def info(rows: int = 2000, pages: int = 100, *, partitioned: bool = False) -> TableInfo:
    known = table_info("id", "region")
    return replace(known, rows_estimate=rows, pages=pages, partitioned=partitioned)


names = st.sampled_from(["interleaved", "ranges", "keyset"])
strategies = st.builds(Strategy, names, st.integers(1, 16), st.lists(st.text()).map(tuple))


@given(strategies)
def test_the_plan_gives_back_the_strategy_that_was_put_into_it(chosen: Strategy) -> None:
    stored = json.loads(json.dumps(plain(chosen)))
    assert stored == plain(chosen), "JSON types only, for the hash"
    assert read(Strategy, stored) == chosen


def test_every_strategy_has_a_way_to_be_asked_for() -> None:
    assert SPEC_OPTIONS["strategy"]["choices"] == ["auto", "interleaved", "ranges", "keyset"]


@pytest.mark.parametrize("name", ["ranges", "keyset"])
def test_what_the_phase_asks_for_is_taken(name: str) -> None:
    chosen = choose(NO_CONNECTION, parsed(strategy=name), info(), COUNTS)
    assert chosen == (Strategy(name), "the phase asks for it")


def test_a_keyset_needs_one_table_and_a_key() -> None:
    with pytest.raises(RunbookError, match=r"public\.orders is partitioned.* Next step:"):
        choose(NO_CONNECTION, parsed(strategy="keyset"), info(partitioned=True), COUNTS)
    keyless = parsed(strategy="keyset", key=[], waive_rollback=True)
    with pytest.raises(RunbookError, match=r"public\.orders has no key.* Next step:"):
        choose(NO_CONNECTION, keyless, info(), COUNTS)


def why_not(
    counts: Counts = COUNTS,
    table: TableInfo | None = None,
    passes: int = 8,
    blocking: tuple[str, ...] = ("ix_region",),
) -> str:
    return strategy._why_not(table or info(), counts, parsed(), passes, list(blocking))


def test_enough_rows_on_full_pages_and_hardly_a_value_are_worth_passes() -> None:
    assert why_not() == ""


def test_few_rows_are_not_worth_passes() -> None:
    counts = replace(COUNTS, rows_eligible=WORTH_ROWS - 1)
    assert why_not(counts) == "fewer than 20,000 rows are to be filled"


def test_an_index_that_queries_may_use_stays() -> None:
    covered = {"region": Coverage(10.0, 100.0, {}), "zone": Coverage(0.0, 100.0, {})}
    counts = replace(COUNTS, coverage=covered)
    assert why_not(counts) == (
        "10.0 % of the values are there, so queries may use ix_region, which would have to go"
    )
    assert why_not(counts, blocking=()) == "", "there is none"


def test_a_single_pass_says_whether_pages_are_too_short_or_have_room() -> None:
    assert "fewer than two rows a page" in why_not(table=info(rows=199), passes=1)
    assert "room for every new row version" in why_not(table=info(rows=200), passes=1)


def test_so_many_rows_a_page_that_line_pointers_run_short_are_not_worth_passes() -> None:
    assert why_not(table=info(rows=19_400), passes=16) == ""
    assert why_not(table=info(rows=19_500), passes=16).startswith("195 rows a page leave too few")


def test_rows_per_page_of_an_empty_table() -> None:
    assert strategy._rows_per_page(info(rows=0, pages=0)) == 0
    assert strategy._rows_per_page(info(rows=250, pages=100)) == 2.5


def test_the_indexes_that_are_built_again_are_named() -> None:
    assert strategy.naming([]) == ""
    assert strategy.naming(["ix_a"]) == "; ix_a is built again after it"
    assert strategy.naming(["ix_a", "ix_b"]) == "; ix_a, ix_b are built again after it"
