# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout from the plans of its hosts to how they ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import sha256
from ansible.module_utils.pgrunbook.ledger.rollouts import (
    Member,
    Rollout,
    require_member,
    rollout_hash,
)
from ansible.module_utils.pgrunbook.rollout import (
    ended,
    groups,
    overview,
    page,
    progress,
    stored,
    tally,
    turn,
    waves,
)
from ansible.module_utils.pgrunbook.rollout.ended import Ended
from ansible.module_utils.pgrunbook.rollout.hosts import Planned, planned, proof
from ansible.module_utils.pgrunbook.rollout.rollout import put_together, why_refused
from tests import reporting
from tests.plugins import action_plugin

WAVES: list[int | str] = [1, "25%", "100%"]
PLAN: dict[str, Any] = {
    "spec": {"phase": "p", "title": "Phase", "workers": 1},
    "server": {"system_identifier": "7", "database": "d", "address": "10.0.0.1", "port": "5432"},
    "schema": {"columns": {"a": "integer"}, "indexes": {"i": "btree (a)"}},
    "surroundings": {"table t": "of this server"},
    "source_columns": {},
    "triggers": [],
    "volatile": [],
    "dependents": [],
    "strategy": {"name": "ranges"},
    "steps": [{"statements": ["UPDATE t"]}],
}


def host(name: str, *, plan: dict[str, Any] | None = None, **more: Any) -> Planned:
    """A host with a database of its own."""
    found = Planned(
        name,
        database=name,
        system_identifier="7",
        phase="p",
        title="Phase",
        plan=plan or PLAN,
        plan_hash=sha256(name),
        rows_total=200,
        rows_eligible=100,
        seconds=10.0,
    )
    return replace(found, **more)


def fleet(number: int) -> list[Planned]:
    return [host(f"h{n}") for n in range(1, number + 1)]


@pytest.mark.parametrize(
    ("wanted", "hosts", "sizes"),
    [
        (WAVES, 1, [1]),
        (WAVES, 2, [1, 1]),
        (WAVES, 8, [1, 2, 5]),
        (WAVES, 100, [1, 25, 74]),
        ([1, 2], 6, [1, 2, 2, 1]),
        (["1"], 3, [1, 1, 1]),
    ],
)
def test_waves_are_as_serial_takes_them(
    wanted: list[int | str], hosts: int, sizes: list[int]
) -> None:
    assert waves.waves(wanted, hosts) == sizes


@pytest.mark.parametrize("wanted", [[], [2, "100%"], ["100%"], [1, 0], [1, "many"], [1, "-5%"]])
def test_waves_that_make_no_sense_are_refused(wanted: list[int | str]) -> None:
    with pytest.raises(RunbookError, match="runbook_waves"):
        waves.waves(wanted, 8)


def test_a_wave_takes_as_long_as_its_hosts_side_by_side() -> None:
    assert waves.seconds([10, 20, 30], forks=2) == 40
    assert waves.seconds([10, 20, 30], forks=5) == 30
    assert waves.seconds([10, None], forks=5) is None


def test_the_canary_host_goes_first_and_has_to_be_there() -> None:
    assert waves.in_order(["a", "b", "c"], "b") == ["b", "a", "c"]
    assert waves.in_order(["a", "b"], "") == ["a", "b"]
    with pytest.raises(RunbookError, match="runbook_canary_host is x"):
        waves.in_order(["a", "b"], "x")


def test_hosts_are_alike_where_only_their_servers_differ() -> None:
    elsewhere = {**PLAN, "server": {}, "surroundings": {"table t": "of another server"}}
    wider = {**PLAN, "schema": {**PLAN["schema"], "columns": {"a": "bigint"}}}
    more = {**PLAN, "schema": {**PLAN["schema"], "indexes": {"i": "btree (a)", "j": "hash (a)"}}}
    watched = {**PLAN, "surroundings": {"table t": "", "trigger g": ""}}
    fired = {**PLAN, "triggers": ["g"]}
    found = groups.alike(
        [
            host("a", plan=wider),
            host("b"),
            host("c", plan=elsewhere),
            host("d", plan=more),
            host("e", plan=watched),
            host("f", plan=fired),
        ]
    )
    assert [[h.host for h in group.hosts] for group in found] == [["b", "c"], *map(list, "adef")]
    assert [group.differences for group in found[1:]] == [
        ("column a: bigint, not integer",),
        ("index j: has hash (a)",),
        ("surroundings: has trigger g",),
        ("triggers: has g",),
    ]


def test_the_hash_is_of_every_member_and_of_one_that_of_its_plan() -> None:
    members = [each.member for each in fleet(3)]
    assert rollout_hash(members) == rollout_hash(members[::-1])
    for changed in (
        [*members, Member("h4", "7", "h4", "x")],
        members[:2],
        [replace(members[0], plan_hash="x"), *members[1:]],
        [replace(members[0], system_identifier="8"), *members[1:]],
        [replace(members[0], database="x"), *members[1:]],
    ):
        assert rollout_hash(changed) != rollout_hash(members)
    assert rollout_hash(members[:1]) == members[0].plan_hash


def test_a_plan_that_is_no_member_is_refused() -> None:
    members = tuple(each.member for each in fleet(3))
    approved = Rollout("r", rollout_hash(members), "h2", members)
    require_member(approved, "7", members[1].plan_hash)
    for rollout, system, plan, why in (
        (approved, "7", members[0].plan_hash, "was approved with plan"),
        (approved, "8", members[1].plan_hash, "was approved with plan"),
        (replace(approved, host="h4"), "7", members[1].plan_hash, "was approved without h4"),
        (replace(approved, members=members[1:]), "7", members[1].plan_hash, "has changed it"),
    ):
        with pytest.raises(RunbookError, match=why):
            require_member(rollout, system, plan)


def test_one_database_under_two_names_is_refused() -> None:
    copy = host("h4", database="h1", started="another time")
    assert len(put_together([*fleet(2), copy], WAVES, "", 5).to_do) == 3
    twice = [*fleet(2), host("h3", database="h1")]
    with pytest.raises(RunbookError, match=r"h1, h3 are the same database: h1 .*--limit '!h3'"):
        put_together(twice, WAVES, "", 5)


def test_what_is_done_is_left_out_unless_it_is_alone() -> None:
    done = host("h9", needed=False, over=True, rows_eligible=0)
    rollout = put_together([*fleet(2), done], WAVES, "", 5)
    assert [h.host for h in rollout.to_do] == ["h1", "h2"] and rollout.done == (done,)
    assert put_together([done], WAVES, "", 5).to_do == (done,)
    no_go = replace(done, over=False)
    assert put_together([*fleet(2), no_go], WAVES, "", 5).to_do[-1] == no_go
    assert put_together([*fleet(2), done], WAVES, "h9", 5).to_do[0].host == "h1"
    result = {
        **{"plan": PLAN, "plan_hash": "x", "run": {"id": "r"}, "needed": False},
        **{"counts": {"rows_total": 1, "rows_eligible": 0}, "proof": {}, "server_started": ""},
        "text": "",
    }
    verdicts = {"GO": True, "NO-GO": False, "": False}
    found = {v: planned("h", {**result, "verdict_before": v}, [], "").over for v in verdicts}
    assert found == verdicts


def test_nothing_is_approved_where_a_host_was_refused() -> None:
    refused = planned("h9", {}, [], "It is a standby.")
    rollout = put_together([*fleet(2), refused], WAVES, "", 5)
    assert rollout.hash == ""
    assert "h9: It is a standby." in why_refused(rollout)
    assert "--limit 'all,!h9'" in why_refused(rollout)
    alone = put_together([refused], WAVES, "", 5)
    assert why_refused(alone) == "It is a standby."
    assert planned("h8", {}, [], "").refused == "It was not planned."


def test_the_page_fits_a_terminal_whatever_the_number_of_hosts() -> None:
    hosts = [host(f"a-host-with-a-long-name-{n:03}") for n in range(99)]
    other = host("other", plan={**PLAN, "triggers": ["g"]}, rows_total=900, seconds=99.0)
    told = page.page(put_together([*hosts, other], WAVES, "", 5))
    lines = told.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) <= 98, told
    assert lines[0] == "Phase: 100 databases, 10,000 of 20,700 rows to fill, about 5 min in all"
    assert "Largest: other, 900 rows." in lines and "Slowest: other, about 99 s." in lines
    assert "triggers: has g" in told and "and 91 more" in told


def test_the_page_says_what_nobody_knows_and_what_is_in_the_way() -> None:
    hosts = [host("a\x1b[2J", seconds=None), host("b"), planned("c", {}, [], "No.\x07")]
    told = page.page(put_together(hosts, WAVES, "", 5))
    assert "how long that takes is known once the canary host has ended" in " ".join(told.split())
    assert r"a\x1b[2J" in told and "REFUSED  c: No.\\x07" in told


def test_the_servers_are_counted_by_what_they_say() -> None:
    right, wrong = {"read_only": True, "xid": None}, {"read_only": False, "xid": "9"}
    hosts = [host("a", proof=right), host("b", proof=right), host("c", proof=wrong)]
    assert proof(hosts).splitlines() == [
        "The servers say:",
        "2 × transaction_read_only on, transaction id none.",
        "1 × transaction_read_only OFF, transaction id 9.",
    ]
    assert proof(hosts[:1]).startswith("The server says:\ntransaction_read_only on")


NOW = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("failed", "failures_max", "minutes", "why"),
    [
        (0, 0, None, ""),
        (1, 0, None, "Before it h0 failed, and runbook_failures_max is 0."),
        (1, 1, None, ""),
        (7, 1, None, "Before it h0, h1, h2, h3, h4 and 2 more failed"),
        (0, 0, 30, ""),
        (0, 0, 11, "The maintenance window ends at"),
        (0, 0, -1, "The maintenance window ends at"),
        (1, 0, -1, "Before it h0 failed"),
    ],
)
def test_a_host_begins_unless_others_failed_or_its_window_is_too_short(
    failed: int, failures_max: int, minutes: int | None, why: str
) -> None:
    window = "" if minutes is None else (NOW + timedelta(minutes=minutes)).isoformat()
    before = [Ended(f"h{n}", ended.FAILED) for n in range(failed)]
    found = turn.why_not(
        before, failures_max=failures_max, window=window, seconds=600, margin=0.2, now=NOW
    )
    assert found.startswith(why) and bool(found) is bool(why)


def test_no_host_begins_before_its_window_opens() -> None:
    def why(minutes: int, *failed: Ended) -> str:
        opens = (NOW + timedelta(minutes=minutes)).isoformat()
        given: dict[str, Any] = {"failures_max": 0, "seconds": None, "margin": 0.2, "now": NOW}
        return turn.why_not(failed, window="", opens=opens, **given)

    assert why(1).startswith(f"The maintenance window opens at {(NOW + timedelta(minutes=1))}"[:30])
    assert "Nothing was changed. Next step:" in why(1)
    assert why(0) == why(-1) == ""
    assert why(1, Ended("h0", ended.FAILED)).startswith("Before it h0 failed")


def test_hosts_with_odd_names_keep_how_they_ended(tmp_path: Path) -> None:
    told = [Ended("a/b", ended.GO, rows=5), Ended("ü\n", ended.NO_GO, "late"), Ended("a", "GO")]
    for each in told:
        tally.note(tmp_path / "folder", each)
    assert tally.ended(tmp_path / "folder") == sorted(told, key=lambda each: each.host)
    assert tally.failed(tmp_path / "folder") == [told[1]]
    assert tally.ended(tmp_path / "nothing") == []
    tally.note(tmp_path / "folder", Ended("a", ended.FAILED, "after that"))
    assert [each.host for each in tally.failed(tmp_path / "folder")] == ["a", "ü\n"]
    assert len(tally.ended(tmp_path / "folder")) == len(told)


def test_the_verdict_is_go_only_where_every_host_is() -> None:
    go, failed, left = (
        Ended(host, state)
        for host, state in (("a", ended.GO), ("b", ended.FAILED), ("c", ended.LEFT))
    )
    every = ended.all_hosts(["a", "b", "c"], ["z"], [failed, go, left])
    assert [(each.host, each.state) for each in every] == [
        ("z", ended.DONE),
        ("a", ended.GO),
        ("b", ended.FAILED),
        ("c", ended.LEFT),
    ]
    assert ended.verdict(every) == ended.NO_GO and ended.verdict(every[:2]) == ended.GO
    assert ended.verdict(ended.all_hosts(["a", "b"], [], [])) == ""
    assert ended.verdict(ended.all_hosts(["a", "b"], [], [go])) == ended.NO_GO
    assert ended.counted(every) == "1 GO, 1 done before, 1 failed, 1 not started"
    assert "1 failed" in ended.why(every, "")


def test_one_host_says_in_its_own_words_why_it_is_not_go() -> None:
    assert ended.why([Ended("a", ended.FAILED, "The run stopped: x")], "") == "The run stopped: x"
    assert ended.why([Ended("a", ended.NO_GO, "y")], "") == ended.NO_GO_ALONE


def test_the_table_has_a_line_for_each_host_and_why() -> None:
    told = ended.table(
        [
            Ended("shard1", ended.GO, rows=19_833, seconds=2.0),
            Ended("shard2", ended.FAILED, "word " * 40),
            Ended("s3", ended.LEFT, "Nobody approved it."),
        ]
    ).splitlines()
    assert told[0] == "GO           shard1        19,833 rows     9,916 rows/s"
    assert told[1] == "failed       shard2" and told[2].startswith(" " * 13 + "word word")
    assert told[-2:] == ["not started  s3", " " * 13 + "Nobody approved it."]
    assert max(map(len, told)) <= 98


def test_one_line_says_how_far_all_hosts_are(tmp_path: Path) -> None:
    planned = {"a": 100, "b": 100, "c": 200, "d": 100}
    over = [Ended("a", ended.GO, rows=100)]
    working = [
        progress.Working("a", 90, 50.0),
        progress.Working("b", 50, 30.0),
        progress.Working("c", 20, 20.0, "replica lag 12.0 s > 10 s"),
    ]
    told = progress.line(planned, over, working)
    assert told == (
        "all hosts: 1 of 4 done  170 of 500 rows   34.0%  50 rows/s  0:07 to go  throttled: c"
    )
    for each in working:
        progress.note(tmp_path, each)
    tally.note(tmp_path, over[0])
    assert progress.line_if_due(tmp_path, planned) == told
    assert progress.line_if_due(tmp_path, planned) == ""


def test_what_has_changed_since_an_approval_is_told_host_by_host(tmp_path: Path) -> None:
    before = put_together([*fleet(3), host("gone"), host("over")], WAVES, "", 5)
    shown = Path(
        stored.keep(tmp_path, before, page.page(before), reporting.PLUGIN.TEMPLATES)
    ).read_text("utf-8")
    assert before.hash in shown and "5 × h1, h2, h3, gone, over" in shown
    wider = {**PLAN, "schema": {**PLAN["schema"], "columns": {"a": "bigint"}}}
    now = put_together(
        [
            host("h1"),
            host("h2", plan=wider, plan_hash="x"),
            host("h3", plan_hash="y"),
            host("new"),
            host("over", needed=False, over=True),
        ],
        WAVES,
        "",
        5,
    )
    assert stored.changed_since(tmp_path, before.hash, now) == (
        "Since these plans were approved: gone has left, over is done already, the plan of h2 has"
        " changed (column a: bigint, not integer), the plan of h3 has changed (another server), new"
        " has joined."
    )
    assert stored.changed_since(tmp_path, "0" * 64, now) == ""
    (tmp_path / "x-plan").mkdir()
    (tmp_path / "x-plan/rollout.json").write_text("[]")
    assert stored.changed_since(tmp_path, before.hash, before) == ""


def test_of_a_hundred_hosts_those_that_failed_are_listed(tmp_path: Path) -> None:
    hosts = [Ended(f"h{n}", ended.FAILED if n in (7, 30, 99) else ended.GO) for n in range(100)]
    told = ended.table(hosts)
    assert told == "failed       3 hosts: h7, h30, h99"
    assert ended.counted(hosts) == "97 GO, 3 failed"
    for each in hosts:
        tally.note(tmp_path, each)
    failed = tally.failed(tmp_path)
    assert turn.why_not(failed, failures_max=3, window="", seconds=None, margin=0.2) == ""
    told = turn.why_not(failed, failures_max=2, window="", seconds=None, margin=0.2)
    assert "h30, h7, h99" in told


def test_a_host_that_nobody_approved_says_so_unless_others_failed() -> None:
    def why(*failed: Ended) -> str:
        return turn.why_not(
            failed, failures_max=0, window="", seconds=None, margin=0.2, not_approved="Nobody did."
        )

    assert why() == "Nobody did."
    assert why(Ended("a", ended.NO_GO)).startswith("Before it a failed")


def test_the_page_of_a_rollback_begins_with_the_last_wave() -> None:
    undone = {**PLAN, "undoes": "run-1", "journal_altered": [], "notes": ["Look at this."]}
    told = page.page(put_together([host(f"h{n}", plan=undone) for n in range(3)], WAVES, "", 5))
    lines = told.splitlines()
    assert lines[0] == "ROLLBACK of Phase on 3 databases: 300 rows to give back"
    assert [line for line in lines if line[:1].isdigit()] == [
        "1. h2; 100 rows",
        "2. h1; 100 rows",
        "3. h0; 100 rows",
    ]
    assert "h2: run run-1" in lines and "   Look at this." in lines
    nothing = [planned(name, {}, [], "", left_out=True) for name in ("h8", "h9")]
    rollout = put_together([host("h0", plan=undone), *nothing], WAVES, "", 5)
    assert rollout.done == tuple(nothing) and not rollout.refused


RUN: dict[str, Any] = {
    "id": "phase3-1",
    "state": "running",
    "verdict": None,
    "rows_changed": 1200,
    "progress": {"progress": "1,200 of 3,000 rows  40.0%"},
    "control": "pause",
    "control_by": "bob",
    "rows_per_second": 500,
}


MOMENT = {"age": 600.0, "idle": 5.0, "decided": True, "missing": ["i"], "error": "No room."}
TOLD = (
    "Run phase3-1. 1,200 of 3,000 rows  40.0%; seen about {} ago. Told to pause by bob. Kept below"
    " 500 rows/s. Missing now: index i."
)


@pytest.mark.parametrize(
    ("run", "now", "state", "why"),
    [
        (None, None, ended.NO_RUN, ""),
        ({}, {}, ended.AT_WORK, TOLD.format("5 s")),
        ({}, {"idle": 90.0}, ended.GONE, TOLD.format("90 s")),
        ({}, {"idle": 90.0, "decided": False}, ended.WAITING, TOLD.format("90 s")),
        ({"state": "failed"}, {}, ended.FAILED, f"{TOLD.format('5 s')} No room."),
        ({"state": "finished", "verdict": "NO-GO"}, None, ended.NO_GO, "Run phase3-1."),
        ({"state": "reverted", "verdict": "GO"}, None, ended.REVERTED, "Run phase3-1."),
    ],
)
def test_a_host_stands_as_its_newest_run(
    run: dict[str, Any] | None, now: dict[str, Any] | None, state: str, why: str
) -> None:
    told = {
        "runs": [] if run is None else [RUN | run, RUN],
        "moments": {} if now is None else {"phase3-1": MOMENT | now},
        "altered": [],
    }
    found = overview.of_runs("h", told)
    assert (found.state, found.why) == (state, why)
    altered = overview.of_runs("h", {**told, "altered": ["Event 7."]})
    assert altered.why == f"{why} ALTERED Event 7.".strip()


def test_a_host_whose_gates_are_breached_says_which() -> None:
    checks = [
        {"id": "coverage", "title": "Coverage", "target": "≥ 99 %", "measured": "98 %"},
        {"id": "schema", "title": "Schema", "target": "none", "measured": "none"},
    ]
    held = overview.of_gates("a", {"checks": checks, "breached": []})
    missed = overview.of_gates("b", {"checks": checks, "breached": ["coverage"]})
    assert (held.state, missed.state) == (ended.OK, ended.BREACHED)
    assert missed.why == "Coverage: wanted ≥ 99 %, measured 98 %"
    hosts = [held, missed, overview.no_answer("c", "It is down.")]
    assert ended.counted(hosts) == "1 OK, 1 BREACHED, 1 no answer"
    assert ended.table(hosts).split("\n")[-1].strip() == "It is down."


@pytest.mark.parametrize(
    ("host", "kind", "detail"),
    [
        (Ended("a", ended.GO, rows=5), "finished", {"verdict": "GO", "reasons": ["r"], "rows": 5}),
        (Ended("a", ended.STOPPED, "Aborted by bob."), "stopped", {"why": "Aborted by bob."}),
        (Ended("a", ended.FAILED, "no lock"), "failed", {"why": "no lock"}),
        (Ended("a", ended.UNDONE, rows=3), "rolled_back", {"rows": 3}),
    ],
)
def test_others_are_told_how_a_host_ended(host: Ended, kind: str, detail: dict[str, Any]) -> None:
    report = {"runbook_report": {"report": {"verdict": "GO", "reasons": ["r"]}}}
    assert action_plugin("turn")._told(host, report) == (kind, detail)
