# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout over several databases: planned everywhere, approved once, canary host first."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import server as demo_server
from tests.integration.conftest import ROOT
from tests.integration.fleet import Fleet, approve_first, fleet_of, unreachable
from tests.integration.steps import Module, Steps
from tests.integration.terminal import Terminal

HOSTS = ("one", "two", "three")


@pytest.fixture
def fleet(server: demo_server.Server, phase: dict[str, Any], tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(server, phase, tmp_path, HOSTS) as found:
        yield found


def test_a_dry_run_plans_everywhere_and_writes_nowhere(fleet: Fleet) -> None:
    fleet.databases["two"].sql("CREATE INDEX another ON session_summaries (risk_score)")
    before = fleet.prints()
    played = fleet.play("phase3", "--check")
    assert played.status == 0, played.output
    told = " ".join(played.output.split())
    assert "3 databases, 8,871 of 9,000 rows to fill" in told and "2 different plans" in told
    assert "2 × one, three" in told and "1 × two" in told and "index another: has" in told
    assert "3 × transaction_read_only on, transaction id none." in told
    assert fleet.prints() == before


@pytest.mark.representative
def test_an_approval_of_all_lets_one_host_go_first_and_then_the_others(fleet: Fleet) -> None:
    played = fleet.approved()
    assert played.status == 0, played.output
    assert fleet.verdicts() == {host: ["GO"] for host in HOSTS}
    assert "3 GO" in played.output
    rollouts = {
        json.dumps(database.sql("SELECT rollout -> 'members' AS m FROM pgrunbook.approval")[0])
        for database in fleet.databases.values()
    }
    assert len(rollouts) == 1
    again = fleet.play("phase3", "--check")
    assert "Done already" in again.output or "nothing to do" in again.output, again.output
    valid = fleet.play("validate")
    assert valid.status == 0 and "3 OK" in valid.output, valid.output
    with unreachable(fleet.databases["two"]):
        status = fleet.play("status")
    assert status.status != 0 and "2 GO, 1 no answer" in status.output, status.output


def test_two_people_at_one_terminal(fleet: Fleet) -> None:
    """The second question comes when the canary host is GO, and the others wait for its answer."""
    with Terminal(fleet.command("phase3"), ROOT) as person:
        approve_first(person)
        assert fleet.verdicts() == {"one": ["GO"], "two": [], "three": []}
        person.answer("no")
        assert person.status() != 0
    assert "the answer was" in person.output and "2 not started" in person.output
    assert fleet.verdicts() == {"one": ["GO"], "two": [], "three": []}


def test_a_canary_host_that_is_no_go_keeps_the_others_from_beginning(fleet: Fleet) -> None:
    fleet.variables["one"] = {"phase_coverage_min": 99.99}
    played = fleet.approved("-e", "accept_no_go=true")
    assert played.status != 0
    assert fleet.verdicts() == {"one": ["NO-GO"], "two": [], "three": []}
    assert "1 NO-GO, 2 not started" in " ".join(played.output.split())


def refused(fleet: Fleet, *arguments: str, why: str) -> None:
    """A rollout that does not begin says why, and nothing is changed anywhere."""
    before = fleet.prints()
    played = fleet.play("phase3", *arguments)
    assert played.status != 0
    assert why in " ".join(played.output.split()), played.output
    assert fleet.prints() == before


def test_nothing_begins_while_a_host_cannot_be_reached(fleet: Fleet) -> None:
    login = {**fleet.databases["two"].login, "dbname": "nowhere"}
    fleet.variables["two"] = {"runbook_login": login}
    before = {host: fleet.databases[host].fingerprint() for host in HOSTS}
    played = fleet.play("phase3", "-e", "approval=0")
    told = " ".join(played.output.split())
    assert played.status != 0 and "1 of the hosts cannot begin, so none does. two: " in told
    assert "--limit 'all,!two'" in told
    assert {host: fleet.databases[host].fingerprint() for host in HOSTS} == before
    without = fleet.play("phase3", "--check", "--limit", "all,!two")
    assert without.status == 0 and "2 databases" in without.output, without.output


def test_one_database_under_two_names_is_refused(fleet: Fleet) -> None:
    fleet.variables["three"] = {"runbook_login": fleet.databases["one"].login}
    refused(fleet, "-e", "approval=0", why="one, three are the same database")


def test_an_approval_is_void_once_a_host_has_joined_or_its_plan_has_changed(fleet: Fleet) -> None:
    approval = fleet.approval("--limit", "one,two")
    refused(fleet, "-e", approval, why="Since these plans were approved: three has joined.")
    fleet.databases["two"].sql("ALTER TABLE session_summaries ADD COLUMN note text")
    why = "the plan of two has changed (column note: has text;"
    refused(fleet, "-e", approval, "--limit", "one,two", why=why)


def test_a_host_whose_run_is_at_work_for_somebody_else_is_refused(
    fleet: Fleet, module: Module
) -> None:
    other = Steps.of(module, fleet.databases["two"], fleet.phase)
    other.plan()
    other.approve("plan")
    played = fleet.play("phase3", "-e", "approval=0")
    assert played.status != 0 and "is at work" in " ".join(played.output.split()), played.output
    assert not fleet.databases["one"].fingerprint()["ledger"]


def test_a_host_that_is_gone_by_its_wave_stops_the_later_ones(fleet: Fleet) -> None:
    with Terminal(fleet.command("phase3", "-e", "runbook_reconnect_seconds=0"), ROOT) as person:
        at = approve_first(person)
        with unreachable(fleet.databases["two"]):
            person.approve(at)
            assert person.status() != 0
        told = " ".join(person.output.split())
    assert "1 GO, 1 failed, 1 not started" in told, told
    assert fleet.verdicts() == {"one": ["GO"], "two": [], "three": []}
    dry = fleet.play("rollback", "--check", "-e", fleet.rollout("one"))
    assert dry.status == 0, dry.output
    told = " ".join(dry.output.split())
    assert "ROLLBACK of ADR-007 phase 3, session snapshots on 1 databases: 2,957 rows" in told
    assert "Nothing to undo, and left out: two, three" in told


def test_a_rollout_is_undone_from_its_last_wave_on_with_one_approval(fleet: Fleet) -> None:
    before = {host: database.state() for host, database in fleet.databases.items()}
    assert fleet.approved().status == 0
    given = fleet.rollout("one")
    done_there = fleet.prints()
    with unreachable(fleet.databases["two"]):
        stopped = fleet.play("rollback", "-e", given, "-e", "approval=0")
    told = " ".join(stopped.output.split())
    assert stopped.status != 0 and "1 of the hosts cannot begin, so none does. two: " in told
    assert "Nothing was changed." in told and fleet.prints() == done_there
    dry = fleet.play("rollback", "--check", "-e", given)
    assert dry.status == 0, dry.output
    approval = re.findall(r"approval=[0-9a-f]{64}", dry.output)[-1]
    done = fleet.play("rollback", "-e", given, "-e", approval)
    assert done.status == 0, done.output
    assert "3 undone" in done.output
    assert {host: database.state() for host, database in fleet.databases.items()} == before
    ended = "SELECT finished_at FROM pgrunbook.run"
    at = {host: database.sql(ended)[0]["finished_at"] for host, database in fleet.databases.items()}
    assert at["three"] < at["two"] < at["one"]


def test_hosts_with_odd_names_have_reports_of_their_own(fleet: Fleet) -> None:
    one, two, _ = fleet.databases.values()
    fleet.databases = {"db-1.example_net+x": one, "d\u00e4ta": two}
    played = fleet.approved()
    assert played.status == 0, played.output
    report = json.loads((fleet.folder / "reports/latest/report.json").read_text(encoding="utf-8"))
    assert [host["host"] for host in report["hosts"]] == ["db-1.example_net+x", "d\u00e4ta"]
    assert all(Path(host["report"]).exists() for host in report["hosts"])
    assert report["verdict"] == "GO" and report["kind"] == "rollout"
    assert len(list((fleet.folder / "reports").glob("pgrunbook_*.prom"))) == 2
