# SPDX-License-Identifier: GPL-3.0-or-later
"""The way through the pages: everything is handed out, and nothing is lost by an interruption."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.scan import Chunk, PageRoute
from ansible.module_utils.pgrunbook.catalog import Leaf
from ansible.module_utils.pgrunbook.core.spec import Table
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ledger import Checkpoint

page_counts = st.lists(st.integers(0, 12), min_size=1, max_size=4)
sizes = st.integers(1, 9)
NO_CONNECTION: Any = None  # pages are counted, not looked up


def leaves(*pages: int) -> tuple[Leaf, ...]:
    return tuple(Leaf(n, Table("public", f"t{n}"), count) for n, count in enumerate(pages, 1))


def route(*pages: int, start: int = 0, end: int | None = None) -> PageRoute:
    return PageRoute(leaves(*pages), start, sum(pages) if end is None else end, [])


def everything(*pages: int) -> list[tuple[int, int]]:
    """Every page of every leaf, as (leaf, page)."""
    return [(leaf.oid, page) for leaf in leaves(*pages) for page in range(leaf.pages)]


def pages_of(chunk: Chunk) -> list[tuple[int, int]]:
    return [(chunk.leaf.oid, page) for page in range(chunk.first, chunk.last)]


def rest(way: PageRoute, size: int = 5, passes: int = 1) -> list[tuple[int, int]]:
    """Take all that is left, and finish every chunk. The pages, in the order of the way."""
    found = []
    while chunk := way.next(NO_CONNECTION, size, passes):
        found += pages_of(chunk)
        for number in range(chunk.next_pass, chunk.passes):
            way.passed(chunk, number)
    return found


@given(page_counts, st.data())
def test_every_page_is_handed_out_once_whatever_the_sizes(
    counts: list[int], data: st.DataObject
) -> None:
    way, found = route(*counts), []
    while chunk := way.next(NO_CONNECTION, data.draw(sizes), 1):
        assert 0 <= chunk.first < chunk.last <= chunk.leaf.pages
        found += pages_of(chunk)
        way.passed(chunk, 0)
    assert found == everything(*counts)
    assert way.exhausted()


@given(page_counts, sizes, st.data())
def test_it_stops_at_the_end_that_was_fixed_when_it_began(
    counts: list[int], size: int, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, sum(counts)))
    end = data.draw(st.integers(start, sum(counts)))
    way = route(*counts, start=start, end=end)
    assert rest(way, size) == everything(*counts)[start:end]
    assert way.exhausted()


def test_threads_share_it() -> None:
    way = route(300, 0, 500, 40)

    def work(size: int) -> list[tuple[int, int]]:
        return rest(way, size, passes=3)

    with ThreadPoolExecutor(8) as pool:
        found = [page for part in pool.map(work, range(1, 9)) for page in part]
    assert Counter(found) == Counter(everything(300, 0, 500, 40))
    assert way.exhausted()


@given(page_counts, st.data())
def test_an_interruption_loses_no_pass_and_repeats_none_that_was_finished(
    counts: list[int], data: st.DataObject
) -> None:
    """Several chunks are under way at once, and the run is broken off several times."""
    finished: Counter[tuple[tuple[int, int], int]] = Counter()
    wanted: dict[tuple[int, int], int] = {}
    left: dict[str, Any] = {"next_page": 0, "unfinished": []}
    for _ in range(data.draw(st.integers(1, 3))):
        way = PageRoute(leaves(*counts), left["next_page"], sum(counts), left["unfinished"])
        finished += worked(way, wanted, data)
        left = json.loads(json.dumps(plain(way.checkpoint())))
    way = PageRoute(leaves(*counts), left["next_page"], sum(counts), left["unfinished"])
    assert way.exhausted() == (
        sum(finished.values()) == sum(wanted.values()) and set(wanted) == set(everything(*counts))
    )
    while chunk := way.next(NO_CONNECTION, 3, 2):
        note(chunk, wanted)
        for number in range(chunk.next_pass, chunk.passes):
            finished.update((page, number) for page in pages_of(chunk))
            way.passed(chunk, number)
    assert way.exhausted()
    assert set(wanted) == set(everything(*counts))
    assert finished == Counter((page, n) for page, passes in wanted.items() for n in range(passes))


def note(chunk: Chunk, wanted: dict[tuple[int, int], int]) -> None:
    """Keep how many passes each page is to have; that does not change on the way."""
    for page in pages_of(chunk):
        assert wanted.setdefault(page, chunk.passes) == chunk.passes


def worked(
    way: PageRoute, wanted: dict[tuple[int, int], int], data: st.DataObject
) -> Counter[tuple[tuple[int, int], int]]:
    """Some steps of several workers in any order, and then a break. The passes that were done."""
    finished: Counter[tuple[tuple[int, int], int]] = Counter()
    under_way: list[tuple[Chunk, int]] = []
    for _ in range(data.draw(st.integers(0, 12))):
        if under_way and data.draw(st.booleans()):
            chunk, number = under_way.pop(data.draw(st.integers(0, len(under_way) - 1)))
            way.passed(chunk, number)
            finished.update((page, number) for page in pages_of(chunk))
            if number + 1 < chunk.passes:
                under_way.append((chunk, number + 1))
        elif taken := way.next(NO_CONNECTION, data.draw(sizes), data.draw(st.integers(1, 4))):
            note(taken, wanted)
            under_way.append((taken, taken.next_pass))
    return finished


def test_the_checkpoint_names_what_is_under_way_and_at_which_pass() -> None:
    way = route(10, 10)
    first, second = way.next(NO_CONNECTION, 4, 3), way.next(NO_CONNECTION, 9, 2)
    assert first and second and second.last == 10, "no chunk goes beyond its leaf"
    way.passed(first, 0)
    way.passed(first, 1)
    assert way.checkpoint() == Checkpoint(next_page=10, unfinished=[[0, 4, 3, 2], [4, 6, 2, 0]])
    way.passed(first, 2)
    assert way.checkpoint().unfinished == [[4, 6, 2, 0]]


def test_it_is_not_exhausted_while_a_pass_is_under_way() -> None:
    way = route(4)
    chunk = way.next(NO_CONNECTION, 9, 2)
    assert chunk and way.next(NO_CONNECTION, 9, 2) is None
    assert not way.exhausted()
    way.passed(chunk, 0)
    assert not way.exhausted()
    way.passed(chunk, 1)
    assert way.exhausted()


def test_what_was_left_unfinished_comes_first() -> None:
    way = PageRoute(leaves(10), 8, 10, [[2, 3, 4, 1]])
    chunk = way.next(NO_CONNECTION, 9, 1)
    assert chunk and (chunk.first, chunk.last) == (2, 5)
    assert (chunk.passes, chunk.next_pass) == (4, 1)


@pytest.mark.parametrize("start", [0, 3, 5, 8, 20])
def test_a_table_that_shrank_is_exhausted_at_its_new_end(start: int) -> None:
    way = route(2, 3, start=start, end=20)
    assert way.exhausted() == (start >= 5)
    assert rest(way) == everything(2, 3)[start:]
    assert way.exhausted()


def test_an_unfinished_chunk_behind_the_new_end_is_dropped() -> None:
    way = PageRoute(leaves(5), 20, 20, [[3, 9, 2, 1], [12, 4, 2, 0]])
    assert rest(way) == [(1, 3), (1, 4)]
    assert way.exhausted()


def test_an_empty_table_is_exhausted_from_the_start() -> None:
    assert route(0).exhausted() and route(0, 0).next(NO_CONNECTION, 5, 1) is None
