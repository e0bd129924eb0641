# SPDX-License-Identifier: GPL-3.0-or-later
"""What the action plugin of the backfill makes of the results of its module's calls."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.channel import Shown, channel
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from tests.plugins import action_plugin

OLD, NEW = {"timeline": "00000001"}, {"timeline": "00000002"}
RUN = {"id": "r", "server": OLD, "reconnect_seconds": 600}
LOST = {
    "failed": True,
    "code": "lost",
    "msg": "The connection was lost, and there was no primary to go on with for 15 s "
    "(runbook_reconnect_seconds). Last of all: Cannot connect to a,b:5432, database d, as u: a is "
    "down; b is a standby. Next step: check. What was committed is kept.",
    "seen": {"rows": 70, "batches": 7},
}


@pytest.fixture
def plugin() -> ModuleType:
    return action_plugin("backfill")


def called(plugin: ModuleType, *results: dict[str, Any], **run: Any) -> tuple[Any, ...]:
    """What the plugin returns for these results, the arguments of each call, the lines shown."""
    given: list[dict[str, Any]] = []
    lines: list[str] = []
    left = list(results)
    action = object.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(args={"run": {**RUN, **run}}, check_mode=False)
    action._connection = SimpleNamespace(transport="ssh")
    action._play_context = SimpleNamespace(become=False)
    action._call = lambda arguments, task_vars: given.append(arguments) or left.pop(0)
    plugin.display = SimpleNamespace(display=lines.append)
    return action._result({}), given, lines


def slice_of(rows: int, **more: Any) -> dict[str, Any]:
    return {
        "rows_changed": rows,
        "rows_done": rows,
        "batches_done": rows // 10,
        "rows_lost": 0,
        "batches_lost": 0,
        "done": False,
        "stopped": "",
        "lines": [f"{rows} rows"],
        **more,
    }


def test_it_waits_for_a_primary_and_goes_on_there(plugin: ModuleType) -> None:
    there = {"ansible_facts": {"runbook_run": {**RUN, "server": NEW}}}
    moved = slice_of(90, rows_lost=10, batches_lost=1, **there)
    result, given, lines = called(plugin, slice_of(50), LOST, moved, slice_of(5, done=True))
    assert [call["run"]["reconnect_seconds"] for call in given] == [15] * 4
    assert [call.get("seen") for call in given] == [
        None,
        {"rows": 50, "batches": 5},
        {"rows": 70, "batches": 7},
        {"rows": 90, "batches": 9},
    ]
    assert lines[1] == "  waiting for a primary, 15 of at most 600 s: a is down; b is a standby."
    assert (result["rows_changed"], result["rows_lost"]) == (145, 10)
    assert result["ansible_facts"] == {"runbook_run": {**RUN, "server": NEW}}


def test_it_gives_up_once_it_has_waited_long_enough(plugin: ModuleType) -> None:
    result, given, lines = called(plugin, slice_of(50), LOST, reconnect_seconds=10)
    assert result == LOST
    assert given[1]["run"]["reconnect_seconds"] == 10 and len(lines) == 1


def test_a_lock_of_a_session_that_was_cut_off_is_waited_for(plugin: ModuleType) -> None:
    at_work = {"failed": True, "code": "at_work", "msg": "pgrunbook/backfill is at work on t."}
    result, _, lines = called(plugin, LOST, at_work, slice_of(5, done=True))
    assert result["rows_changed"] == 5
    assert lines[1].endswith("s: pgrunbook/backfill is at work on t.")
    failed, given, _ = called(plugin, at_work)
    assert failed["failed"] and len(given) == 1


def test_calls_that_nobody_can_watch_last_longer_and_longer(plugin: ModuleType) -> None:
    slices = [slice_of(n) for n in range(1, 6)]
    _, given, lines = called(plugin, *slices, slice_of(5, done=True))
    assert [call["seconds"] for call in given] == [0, 10, 20, 30, 30, 30]
    assert lines == [f"  {n} rows" for n in (1, 2, 3, 4, 5, 5)]


def test_lines_are_shown_at_once_where_the_module_runs_beside_the_plugin(
    plugin: ModuleType,
) -> None:
    seen: list[str] = []
    action = object.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(args={"run": RUN}, check_mode=False)
    action._connection = SimpleNamespace(transport="local")
    action._play_context = SimpleNamespace(become=False)
    plugin.display = SimpleNamespace(display=seen.append)

    def module(arguments: dict[str, Any], task_vars: object) -> dict[str, Any]:
        lines = [f"line {n}" for n in range(3)]
        with channel(arguments["progress_file"]) as tell:
            tell(Shown(lines[0], 5, 1.0))
            until(lambda: seen == ["  line 0"])
            tell(Shown(lines[1], 5, 1.0))
        return slice_of(5, done=True, lines=lines)  # the last one was not told

    action._call = module
    action._result({})
    assert seen == ["  line 0", "  line 1", "  line 2"]


def test_a_call_that_nobody_watches_any_more_ends(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with channel(str(fifo)) as tell:
        tell(Shown("one", 1, 1.0))
        os.close(reader)
        with pytest.raises(RunbookError, match="nobody watches"):
            tell(Shown("two", 2, 1.0))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
