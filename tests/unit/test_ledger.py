# SPDX-License-Identifier: GPL-3.0-or-later
"""What needs no database of the ledger: the hash of a plan, and who may start."""

from __future__ import annotations

import copy
import hashlib
import random
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.catalog import trusted_ledger
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.ledger import moments
from ansible.module_utils.pgrunbook.ledger.migrations import MIGRATIONS
from ansible.module_utils.pgrunbook.report import status as status_module
from tests.unit.conftest import RUN_AT_WORK, parsed

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
plans = st.dictionaries(texts, values, min_size=1, max_size=4)


def shuffled(value: Any, by: random.Random) -> Any:
    """The same value, the keys of its mappings in another order."""
    if isinstance(value, dict):
        items = [(key, shuffled(inner, by)) for key, inner in value.items()]
        by.shuffle(items)
        return dict(items)
    return [shuffled(inner, by) for inner in value] if isinstance(value, list) else value


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to each scalar, and to each empty list or mapping."""
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for key, inner in pairs for leaf in leaves(inner, (*path, key))]
    return [path]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copied = copy.copy(value)
    copied[path[0]] = replaced(copied[path[0]], path[1:], by)
    return copied


@given(plans, st.randoms(use_true_random=False))
def test_the_hash_does_not_depend_on_the_order_of_keys(
    plan: dict[str, Any], by: random.Random
) -> None:
    assert ledger.plan_hash(shuffled(plan, by)) == ledger.plan_hash(plan)


@given(plans, st.data())
def test_the_hash_changes_with_any_value(plan: dict[str, Any], data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(leaves(plan)))
    other = replaced(plan, path, "another value, that texts() cannot make")
    assert ledger.plan_hash(other) != ledger.plan_hash(plan)


@given(plans, st.data())
def test_the_hash_changes_where_a_key_is_missing(plan: dict[str, Any], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(plan)))
    rest = {key: value for key, value in plan.items() if key != gone}
    assert ledger.plan_hash(rest) != ledger.plan_hash(plan)


def test_the_hash_is_known() -> None:
    """Approvals in old ledgers name hashes: how they are made must not change unnoticed."""
    plan = {"b": [1, 2.5, None, True], "a": "Größe"}
    canonical = '{"a":"Größe","b":[1,2.5,null,true]}'
    assert ledger.plan_hash(plan) == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_specification_has_one_hash_before_and_after_json() -> None:
    """Tuples become lists on the way through Ansible."""
    spec = parsed().as_dict()
    lists = {**spec, "key": list(spec["key"]), "columns": [dict(c) for c in spec["columns"]]}
    assert isinstance(spec["key"], tuple)
    assert ledger.plan_hash({"spec": spec}) == ledger.plan_hash({"spec": lists})


NOW = ledger.Moment(600.0, 5.0, decided=True, missing=(), error="")
ROWS = "1,234 of 5,678 rows"
COMMAND = "ansible-playbook -i here"
BACK = f"  To go back: {COMMAND} playbooks/rollback.yml -e run=phase9-1"
LATER = BACK.replace("To go back:", "To go back, once aborted:")
AGAIN = [f"  To go on with this run: {COMMAND} playbooks/phase9.yml", BACK]
CONTROL = f"{COMMAND} playbooks/control.yml -e do="
NO_LOCK = "  waits for no lock, and holds up nobody"
NONE_MISSING = "  no index that it dropped is missing"


def status(now: ledger.Moment | None = NOW, **changes: Any) -> list[str]:
    """What status.yml prints of a run."""
    return status_module.of_run(replace(RUN_AT_WORK, **changes), now, COMMAND)


def test_a_run_at_work_shows_its_progress_and_what_it_was_told() -> None:
    shown = status(progress={"progress": "LINE OF PROGRESS"}, rows_per_second=2000, verdict="NO-GO")
    assert shown == [
        f"phase9-1  at work, {ROWS}",
        "  by alice, seen about 5 s ago",
        "  LINE OF PROGRESS",
        "  kept below 2,000 rows/s",
        "  begun about 10 min ago",
        NO_LOCK,
        NONE_MISSING,
        f"  To pause it: {CONTROL}pause",
        f"  To abort it (what was committed stays): {CONTROL}abort",
        f"  To slow it down: {CONTROL}throttle -e rows_per_second=2000",
        LATER,
    ]


def test_a_run_at_work_says_who_waits_for_whom_and_its_limits() -> None:
    limits = ("max_replay_lag_seconds 10", "window_end 2026-01-31T06:00:00Z")
    shown = status(replace(NOW, blocked_by=(7, 8), blocks=(9,), limits=limits))
    assert (
        "  waits for a lock of pid 7, 8" in shown
        and "  holds up pid 9, which waits for its locks" in shown
    )
    assert f"  limits: {', '.join(limits)}" in shown and NO_LOCK not in shown


def test_the_limits_of_a_run_have_both_ends_of_its_window() -> None:
    times = {"window_start": "2026-01-31T04:00:00Z", "window_end": "2026-01-31T06:00:00Z"}
    assert list(moments._limits({**times, "max_lock_waiters": 0})) == [
        "window_start 2026-01-31T04:00:00Z",
        "window_end 2026-01-31T06:00:00Z",
    ]


def test_a_paused_run_says_who_paused_it_and_how_it_goes_on() -> None:
    shown = status(control="pause", control_by="bob")
    assert shown[0].startswith("phase9-1  paused, ") and "  told to pause by bob" in shown
    assert shown[-3:] == [
        f"  To resume it: {CONTROL}resume",
        f"  To abort it (what was committed stays): {CONTROL}abort",
        LATER,
    ]
    assert "  LINE" not in status(control="pause", progress={"progress": "LINE"}), "it stands still"


def test_a_run_that_is_over_shows_its_verdict_and_nothing_that_was_said_on_the_way() -> None:
    over = {"progress": {"progress": "LINE"}, "control": "abort", "control_by": "bob"}
    line, by, back = status(None, state="finished", verdict="NO-GO", **over)
    assert line == f"phase9-1  finished NO-GO, {ROWS}"
    assert by == "  by alice, last seen 2026-01-31 04:05:06+00"
    assert back == BACK
    assert len(status(None, state="finished", verdict="GO", **over)) == 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"idle": 90.0},
            [
                f"phase9-1  DEAD, {ROWS}",
                "  by alice, seen about 90 s ago",
                "  nothing is at work: its ansible-playbook has died; what was committed is kept",
                NONE_MISSING,
            ],
        ),
        (
            {"idle": 300.0, "decided": False, "missing": ("a", "b\x1b")},
            [
                f"phase9-1  waits for an answer, {ROWS}",
                "  by alice, seen about 5 min ago",
                "  the second question is open, or its ansible-playbook is gone",
                r"  missing now: index a, b\x1b",
            ],
        ),
    ],
)
def test_a_run_that_nobody_has_seen_is_not_said_to_run(
    changes: dict[str, Any], told: list[str]
) -> None:
    shown = status(replace(NOW, **changes), progress={"progress": "1,382 rows/s  0:07 to go"})
    assert shown == [*told, *AGAIN]


def test_a_run_that_stopped_says_why() -> None:
    shown = status(replace(NOW, error="No room.", renamed=("a to b",)), state="failed")
    told = "renamed: column a to b, so the application has to be on models that name the new one"
    assert shown.pop(3) == f"  {told}"
    assert shown[2:] == ["  stopped: No room.", NONE_MISSING, *AGAIN]


def unfinished(**changes: Any) -> ledger.Unfinished:
    begun = ledger.Unfinished("phase9-1", "alice", "running", 12.0, rolling_back=False, baseline={})
    return replace(begun, **changes)


def test_a_run_at_work_is_not_disturbed() -> None:
    with pytest.raises(RunbookError) as refused:
        ledger.require_idle(unfinished())
    text = str(refused.value)
    assert "phase9-1 of alice is at work (last seen 12 s ago)" in text
    assert "try again in 48 s" in text and "Nothing was changed" in text


@pytest.mark.parametrize(
    "run", [None, unfinished(idle=60.0), unfinished(state="failed"), unfinished(idle=3600.0)]
)
def test_none_or_a_dead_one_or_a_failed_one_may_be_followed(run: ledger.Unfinished | None) -> None:
    ledger.require_idle(run)


def test_whoever_looks_for_what_is_in_the_place_of_the_ledger_knows_its_tables() -> None:
    made = re.findall(r"CREATE TABLE IF NOT EXISTS pgrunbook\.(\w+)", "".join(MIGRATIONS.values()))
    assert sorted(made) == sorted(trusted_ledger.TABLES)
