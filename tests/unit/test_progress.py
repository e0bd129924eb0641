# SPDX-License-Identifier: GPL-3.0-or-later
"""The line of progress that a person watches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.backfill.progress import about, line, to_go
from ansible.module_utils.pgrunbook.backfill.result import SliceResult


def result(**changes: Any) -> SliceResult:
    done = SliceResult(
        done=False,
        rows_done=25_000,
        rows_eligible=100_000,
        rows_changed=5_000,
        slice_seconds=2.0,
        sweep=0,
        seconds=10.0,
    )
    return replace(done, **changes)


def test_rows_share_rate_and_time_to_go() -> None:
    assert line(result(), reverting=False) == (
        "25,000 of 100,000 rows   25.0%  2,500 rows/s  0:30 to go"
    )


def test_nothing_yet_done_at_no_rate() -> None:
    text = line(result(rows_done=0, rows_changed=0, slice_seconds=0.0), reverting=False)
    assert text == "0 of 100,000 rows    0.0%  0 rows/s  ? to go"


def test_the_end() -> None:
    text = line(result(rows_done=100_000), reverting=False)
    assert text == "100,000 of 100,000 rows  100.0%  2,500 rows/s  done"


def test_catch_up_pass() -> None:
    text = line(result(rows_done=100_000, rows_changed=0, sweep=2), reverting=False)
    assert text == "100,000 of 100,000 rows  100.0%  0 rows/s  done  catch-up pass 2"


def test_rows_that_arrived_meanwhile_do_not_make_more_than_all() -> None:
    text = line(result(rows_done=100_500), reverting=False)
    assert "100,500 of 100,000 rows  100.0%" in text
    assert text.endswith("done")


def test_what_others_felt_and_how_it_followed() -> None:
    felt = {"commit_ms": 4.123, "target_ms": 6.0, "duty": 1.0}
    text = line(result(hot_percent=87.4, gentle=felt), reverting=False)
    assert text.endswith("HOT 87 %  gentle: 6 ms batches, commit p95 4.12 ms")
    more = {**felt, "target_ms": 12.345, "duty": 0.5, "probe_ms": 1.5}
    text = line(result(gentle=more, gentle_warning="no"), reverting=False)
    assert text.endswith(
        "gentle: 12.3 ms batches, 50 % of the time, commit p95 4.12 ms, probe p95 1.5 ms  no"
    )


def test_nothing_to_do_at_all() -> None:
    text = line(result(rows_done=0, rows_eligible=0, rows_changed=0), reverting=False)
    assert text == "0 of 0 rows  100.0%  0 rows/s  done"


def test_the_window_is_over() -> None:
    text = line(result(stopped="window"), reverting=False)
    assert text.endswith("0:30 to go  stopped: the maintenance window is over")


def test_the_share_of_heap_only_updates_and_the_lag_of_a_standby() -> None:
    text = line(result(hot_percent=87.4, replay_lag=1.25), reverting=False)
    assert text.endswith("0:30 to go  HOT 87 %  lag 1.2 s")


def test_no_heap_only_update_and_no_lag_are_shown_as_well() -> None:
    text = line(result(hot_percent=0.0, replay_lag=0.0), reverting=False)
    assert text.endswith("0:30 to go  HOT 0 %  lag 0.0 s")


def test_why_and_how_long_it_was_throttled_or_paused() -> None:
    why = ("paused by alice", "replica lag 12.0 s > 10 s")
    text = line(result(held=why, held_seconds=3.04), reverting=False)
    assert text.endswith("throttled 3.0 s: paused by alice; replica lag 12.0 s > 10 s")
    text = line(result(held=why[:1], held_seconds=3.04), reverting=False)
    assert text.endswith("0:30 to go  paused by alice for 3.0 s")


def test_who_keeps_interleaved_passes_from_paying() -> None:
    text = line(result(fallback="pid 7 (bob, idle in transaction)"), reverting=False)
    assert text.endswith("single passes, because of pid 7 (bob, idle in transaction)")


def test_who_aborted_it() -> None:
    text = line(result(stopped="abort", stopped_by="alice"), reverting=False)
    assert text.endswith("0:30 to go  stopped: aborted by alice")


def test_everything_at_once_in_order() -> None:
    text = line(
        result(
            hot_percent=50.0,
            replay_lag=2.0,
            sweep=1,
            held=("paused by alice",),
            held_seconds=1.0,
            fallback="pid 7",
            stopped="window",
        ),
        reverting=False,
    )
    assert text.endswith(
        "HOT 50 %  lag 2.0 s  catch-up pass 1  paused by alice for 1.0 s"
        "  single passes, because of pid 7  stopped: the maintenance window is over"
    )


def test_reverting_counts_down() -> None:
    text = line(result(rows_done=10_000), reverting=True)
    assert text == "10,000 rows still to give back  2,500 rows/s  0:04 to go"
    assert line(result(rows_done=0), reverting=True).endswith("  done")


@pytest.mark.parametrize(
    ("rows", "rate", "expected"),
    [
        (0, 0.0, "done"),
        (0, 10.0, "done"),
        (1, 0.0, "? to go"),
        (1, -1.0, "? to go"),
        (59, 1.0, "0:59 to go"),
        (65, 1.0, "1:05 to go"),
        (35_996, 10.0, "1:00:00 to go"),
        (3661, 1.0, "1:01:01 to go"),
        (360_000, 1.0, "100:00:00 to go"),
    ],
)
def test_time_to_go(rows: int, rate: float, expected: str) -> None:
    assert to_go(rows, rate) == expected


@given(st.integers(1, 10**9), st.floats(0.5, 10**7))
def test_time_to_go_adds_up(rows: int, rate: float) -> None:
    parts = [int(part) for part in to_go(rows, rate).removesuffix(" to go").split(":")]
    assert all(part < 60 for part in parts[1:])
    seconds = sum(part * 60**n for n, part in enumerate(reversed(parts)))
    assert abs(seconds - rows / rate) <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "about 0 s"),
        (0.125, "about 0.1 s"),
        (83.44, "about 83.4 s"),
        (119, "about 119 s"),
        (120, "about 2 min"),
        (7199, "about 120 min"),
        (7200, "about 2 h"),
        (11_931, "about 3.3 h"),
        (3.5 * 86400, "about 84 h"),
    ],
)
def test_a_duration_as_a_person_says_it(seconds: float, words: str) -> None:
    assert about(seconds) == words
