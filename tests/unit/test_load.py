# SPDX-License-Identifier: GPL-3.0-or-later
"""When the backfill is held: each threshold, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill.throttle import Load, reasons
from ansible.module_utils.pgrunbook.core.spec import THRESHOLDS
from tests.unit.conftest import parsed

QUIET = Load(replay_lag=0.0, waiters=0, active=3, unarchived=0, wal_rate=0.0)
ACTIVE_BEFORE = 3
LIMITS = {
    "max_replay_lag_seconds": 10.0,
    "max_lock_waiters": 2,
    "max_active_sessions": 16,
    "max_unarchived_wal_mb": 1024,
    "max_wal_mb_per_second": 200,
}


def why(**measured: Any) -> dict[str, str]:
    return reasons(parsed(**LIMITS), Load(**{**vars(QUIET), **measured}), ACTIVE_BEFORE)


def test_a_quiet_server_holds_nothing() -> None:
    assert why() == {}


@pytest.mark.parametrize(
    "measured",
    [
        {"replay_lag": 10.0},
        {"waiters": 2},
        {"active": 19},
        {"unarchived": 1_024_000_000},
        {"wal_rate": 200e6},
    ],
)
def test_nothing_is_held_at_a_limit(measured: dict[str, Any]) -> None:
    assert why(**measured) == {}


@pytest.mark.parametrize(
    ("measured", "text"),
    [
        ({"replay_lag": 10.1}, "replica lag 10.1 s > 10 s"),
        ({"waiters": 3}, "3 waiting for our locks > 2"),
        ({"active": 20}, "17 more active sessions than at the start > 16"),
        ({"unarchived": 1_025_000_000}, "1,025 MB of WAL not archived > 1,024 MB"),
        ({"wal_rate": 201.2e6}, "WAL 201 MB/s > 200 MB/s"),
    ],
)
def test_above_a_limit_both_figures_are_named(measured: dict[str, Any], text: str) -> None:
    assert list(why(**measured).values()) == [text]


def test_a_lag_that_nobody_can_see_holds_nothing() -> None:
    assert why(replay_lag=None) == {}


def test_fewer_active_sessions_than_at_the_start_hold_nothing() -> None:
    assert why(active=0) == {}


def test_everything_that_is_exceeded_is_named() -> None:
    found = why(replay_lag=99.0, waiters=9, active=99, unarchived=10**10, wal_rate=1e9)
    assert list(found) == list(THRESHOLDS)
    assert [text.split()[0] for text in found.values()] == ["replica", "9", "96", "10,000", "WAL"]
