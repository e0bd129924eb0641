# SPDX-License-Identifier: GPL-3.0-or-later
"""The state that workers share: when a batch may begin, and what was measured."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill.batch import BatchResult
from ansible.module_utils.pgrunbook.backfill.batch_size import BatchSizes
from ansible.module_utils.pgrunbook.backfill.slice import Slice
from ansible.module_utils.pgrunbook.backfill.workers import few_heap_only
from tests.unit.conftest import parsed


def new(seconds: float = 60.0, **changes: Any) -> Slice:
    run = ledger.Run("phase9-1", "ab", "cd")
    return Slice(parsed(**changes), run, BatchSizes(100), seconds=seconds, interleaved=True)


def done(*, rows_per_second: int = 0, **changes: Any) -> BatchResult:
    told = ledger.Control(rows_per_second=rows_per_second)
    return replace(BatchResult(rows=10, hot=6, milliseconds=5.0, control=told), **changes)


def test_a_batch_may_begin_until_the_time_is_over() -> None:
    assert new().may_go_on()
    assert not new(seconds=0).time_left()


def test_an_abort_stops_everything_for_good_and_names_who_said_so() -> None:
    current = new()
    current.obey(ledger.Control("abort", "alice", 0))
    current.begin()
    assert not current.may_go_on() and not current.time_left()
    assert (current.stopped, current.stopped_by) == ("abort", "alice")


def test_the_first_reason_to_stop_stands() -> None:
    current = new()
    current.stop("window")
    current.stop("abort", "alice")
    assert current.stopped == "window"


def test_a_pause_lasts_until_the_slice_is_over_and_is_told() -> None:
    current = new(seconds=0.1)
    current.obey(ledger.Control("pause", "alice", 0))
    assert current.waits() and not current.may_go_on()
    assert list(current.reasons_told.values()) == ["paused by alice"]


def test_nothing_waits_once_there_is_no_reason_and_the_reason_is_still_told() -> None:
    current = new()
    current.wait_because({"lag": "replica lag 12.0 s > 10 s"})
    current.wait_because({})
    assert current.may_go_on()
    assert current.reasons_told == {"lag": "replica lag 12.0 s > 10 s"}


def test_a_threshold_is_told_once_with_its_latest_figure() -> None:
    current = new()
    for seconds in (11, 12, 13):
        current.wait_because(
            {"lag": f"replica lag {seconds} s > 10 s", "control": "paused by alice"}
        )
    assert list(current.reasons_told.values()) == ["replica lag 13 s > 10 s", "paused by alice"]


def test_what_batches_did_adds_up_and_later_passes_are_counted_apart() -> None:
    current = new()
    current.record(done(), later=False)
    current.record(done(rows=20, hot=20), later=True)
    figures = current.figures
    assert (figures.rows, figures.hot) == (30, 26)
    assert (figures.later_rows, figures.later_hot) == (20, 20)
    assert figures.milliseconds == [5.0, 5.0]


def test_a_batch_that_changed_nothing_has_no_part_in_the_durations() -> None:
    current = new()
    current.record(done(rows=0, hot=0), later=False)
    assert current.figures.milliseconds == []


def test_a_rate_is_kept_by_waiting_over_all_workers() -> None:
    current = new(workers=2)
    started = time.monotonic()
    current.record(done(rows_per_second=200, milliseconds=0.0), later=False)
    assert 0.09 <= time.monotonic() - started < 1


def test_without_a_rate_nobody_waits() -> None:
    current = new()
    started = time.monotonic()
    current.record(done(rows=10**9), later=False)
    assert time.monotonic() - started < 1


def test_the_time_in_which_no_batch_may_begin_is_counted_once() -> None:
    current = new()
    assert current.idle_seconds() == 0
    current.wait_because({"lag": "replica lag 12.0 s > 10 s"})
    time.sleep(0.1)
    assert 0.1 <= current.idle_seconds() < 1, "also while it lasts"
    current.wait_because({})
    waited = current.figures.waited_seconds
    assert waited == current.idle_seconds()
    current.record(done(rows_per_second=100, milliseconds=0.0), later=False)
    assert current.figures.waited_seconds == waited
    assert 0.1 <= current.figures.rested_seconds < 1
    assert current.idle_seconds() == waited + current.figures.rested_seconds


def test_the_rate_that_somebody_set_is_told_also_when_it_was_lifted() -> None:
    current = new()
    assert current.throttle == 0
    current.obey(ledger.Control("", "", 500))
    current.obey(ledger.Control("", "", 0))
    assert current.throttle == 500


def test_few_heap_only_updates_are_blamed_on_what_this_role_does_not_see_only_if_there_may_be() -> (
    None
):
    seen = few_heap_only(2345, 281, all_seen=True)
    assert seen.startswith("few heap-only updates (12 % of 2,345 in later passes); usual causes: ")
    assert "rows that grow" in seen and "an index" in seen and "may not see" not in seen
    unseen = few_heap_only(2345, 281, all_seen=False)
    assert unseen.startswith(seen)
    assert "may not see (GRANT pg_read_all_stats" in unseen
