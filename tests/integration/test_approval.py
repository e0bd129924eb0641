# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing is written before a person has approved just this plan."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.report import words
from demo import data
from tests.integration.conftest import ROOT, Database, Played, approval_of, command_line, plan_hash
from tests.integration.steps import Module, Steps
from tests.integration.terminal import QUESTION, Terminal

Playbook = Callable[..., Played]

TYPED = '{"runbook_answer": {"user_input": "{{ runbook_plan.plan_hash[:8] }}"}}'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "without a terminal, pass -e approval=<hash>"),
        (["--skip-tags", "approval"], "nobody approved a plan for it"),
        (["--start-at-task", "Record the verdict"], "undefined"),
        (["-e", TYPED], "runbook_answer would stand for"),
        (
            ["-e", "approval={{ runbook_plan.plan_hash }}"],
            "approval is an expression and not a hash",
        ),
        (["-e", "runbook_scope={{ runbook_plan.plan_hash }}"], "runbook_scope would stand for"),
        (
            ["-e", '{"runbook_canary_gates": {"checks": []}}'],
            "runbook_canary_gates would stand for",
        ),
    ],
    ids=[
        "no terminal",
        "skipped by tag",
        "started after it",
        "a variable for the answer",
        "any plan",
        "a variable for the hash",
        "a variable for a result",
    ],
)
def test_is_refused(
    database: Database,
    playbook: Playbook,
    phase: dict[str, Any],
    arguments: list[str],
    message: str,
) -> None:
    before = database.fingerprint()
    played = playbook(database.login, "phase3", *arguments, phase=phase)
    assert played.status != 0, played.output
    assert message in " ".join(played.output.split()), played.output
    assert database.fingerprint() == before


@pytest.mark.representative
def test_of_an_outdated_plan_is_refused(
    database: Database, module: Module, playbook: Playbook, phase: dict[str, Any]
) -> None:
    approval = approval_of(module, database, phase)
    database.sql("ALTER TABLE session_summaries ADD COLUMN note text")
    before = database.fingerprint()
    played = playbook(database.login, "phase3", "-e", approval, phase=phase)
    assert played.status != 0, played.output
    assert "the database or the phase has changed" in " ".join(played.output.split())
    assert database.fingerprint() == before


def test_does_not_depend_on_live_traffic(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    before = approval_of(module, database, phase)
    database.sql("DELETE FROM session_summaries WHERE session_id < '2'")
    assert approval_of(module, database, phase) == before


def test_answered_with_enter_stops_the_run(
    database: Database, phase: dict[str, Any], tmp_path: Path
) -> None:
    before = database.fingerprint()
    command = command_line(tmp_path, database.login, "phase3", phase=phase)
    with Terminal(command, ROOT) as person:
        person.wait_for(QUESTION)
        person.answer("")
        assert person.status() != 0
        assert "Not approved: the answer was " in " ".join(person.output.split())
    assert database.fingerprint() == before


@pytest.mark.parametrize("job", [{"awx_job_id": 7}, {"runbook_unattended": "yes"}])
def test_nobody_is_asked_in_a_job_that_nobody_watches(
    database: Database, phase: dict[str, Any], tmp_path: Path, job: dict[str, Any]
) -> None:
    """Such a job has a terminal in AWX, at which it would wait for ever."""
    command = command_line(tmp_path, database.login, "phase3", "-e", json.dumps(job), phase=phase)
    with Terminal(command, ROOT) as person:
        assert person.status() != 0
        said = " ".join(person.output.split())
    assert f"Not approved: {next(iter(job))} is set, so nobody is asked." in said
    assert "-e approval=<hash>" in said


def test_a_dry_run_hands_the_hash_on_to_the_next_job(
    database: Database, phase: dict[str, Any], playbook: Callable[..., Played]
) -> None:
    shown = {"ANSIBLE_SHOW_CUSTOM_STATS": "1", "ANSIBLE_STDOUT_CALLBACK": "default"}
    played = playbook(database.login, "phase3", "--check", phase=phase, environment=shown)
    handed_on = played.output.partition("CUSTOM STATS")[2]
    assert f"approval: {plan_hash(played.output)}" in handed_on


def test_refused_after_the_canary_keeps_the_canary_and_says_how_to_go_on(
    database: Database, phase: dict[str, Any], tmp_path: Path
) -> None:
    command = command_line(tmp_path, database.login, "phase3", phase=phase)
    with Terminal(command, ROOT) as person:
        at = person.approve()
        person.wait_for(rf"All other rows(?s:.*){QUESTION}", at)
        person.answer("no")
        assert person.status() != 0
    run = database.sql("SELECT id, state FROM pgrunbook.run")[0]
    assert run["state"] == "failed"
    said = " ".join(person.output.split())
    assert 'the answer was "no"' in said
    assert f"playbooks/rollback.yml -e run={run['id']}" in said
    rows = database.sql("SELECT sum(row_count)::int AS rows FROM pgrunbook.batch")[0]["rows"]
    assert rows == phase["phase_canary_rows"]


def test_typed_twice_lets_the_run_through_with_the_variables_as_they_were_then(
    database: Database, phase: dict[str, Any], tmp_path: Path
) -> None:
    """While the question is open somebody changes the variables file, which every play reads."""
    file = tmp_path / "variables.yml"
    phase |= {"phase_queries": [], "phase_coverage_min": 99.9, "phase_title": "As it was"}
    file.write_text(yaml.safe_dump(phase), encoding="utf-8")
    command = command_line(tmp_path, database.login, "phase3", "-e", f"phase_file={file}")
    with Terminal(command, ROOT) as person:
        person.wait_for(QUESTION)
        token = plan_hash(person.output)[:8]
        assert f"Type {token} to approve" in person.output
        assert not database.fingerprint()["ledger"]
        columns = [{**column, "source": "NULL"} for column in phase["phase_columns"]]
        later = {"phase_coverage_min": 0.0, "phase_columns": columns, "phase_title": "Another"}
        file.write_text(yaml.safe_dump({**phase, **later}), encoding="utf-8")
        person.answer(token.translate(str.maketrans("0123456789", "1234567890")))
        at = person.wait_for("2 more tries")
        at = person.approve(at)
        at = person.wait_for(r"and 100 of [0-9,]+ rows", at)
        assert f"Type {token} to approve" not in person.output[at:]
        at = person.approve(at)
        assert "PASS  Canary rows equal to their source" in person.output
        person.wait_for(r"100\.0%", at)
        assert person.status() != 0
    scopes = database.sql("SELECT scope, method FROM pgrunbook.approval ORDER BY id")
    assert [(s["scope"], s["method"]) for s in scopes] == [
        ("plan", "prompt"),
        ("backfill", "prompt"),
    ]
    report = json.loads((tmp_path / "reports/latest/report.json").read_text())
    assert report["title"] == "As it was"
    assert report["targets"]["coverage_min"] == 99.9
    assert report["backfill"]["rows_changed"] == report["backfill"]["rows_eligible"] > 0
    failed = [check["id"] for check in report["checks"] if check["status"] == "fail"]
    assert failed == ["requirement", "coverage"]


@pytest.mark.parametrize(("tag", "filled"), [("canary", 1000), ("backfill", 2957)])
def test_a_tag_stops_where_its_step_ends(
    database: Database, approved: Playbook, phase: dict[str, Any], tag: str, filled: int
) -> None:
    given = {**phase, "phase_queries": [], "phase_canary_rows": 1000, "phase_batch_rows": 1000}
    played = approved(database, given, "--tags", f"schema,{tag}")
    assert played.status == 0, played.output
    assert database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch") == [{"n": filled}]


def test_says_who_claimed_to_approve(
    database: Database,
    approved: Playbook,
    playbook: Playbook,
    phase: dict[str, Any],
    tmp_path: Path,
) -> None:
    phase["phase_queries"] = []
    played = approved(database, phase, "-e", "runbook_operator=mallory", "--tags", "approval")
    assert played.status == 0, played.output
    account = f"{pwd.getpwuid(os.getuid()).pw_name} (uid {os.getuid()})"
    told = {"claimed": True, "database_user": data.ROLE, "controller_user": account}
    rows = database.sql("SELECT claimed, database_user, controller_user FROM pgrunbook.approval")
    assert rows == [told]
    events = database.sql(
        "SELECT body -> 'detail' AS detail FROM pgrunbook.event WHERE body ->> 'kind' = 'approved'"
    )
    with database.connect() as conn:
        (run,) = conn.execute("SELECT id FROM pgrunbook.run").fetchall()
        (approval,) = ledger.list_approvals(conn, run["id"])
    for said in (events[0]["detail"], plain(approval)):
        assert told.items() <= said.items()
    assert words.approver(approval) == (
        f"mallory (claimed); {account}; in the database {data.ROLE}"
    )
    status = playbook(database.login, "status", phase=phase)
    assert "by mallory (claimed)" in status.output and status.status == 0, status.output


def test_an_account_without_a_name_approves_by_its_number(
    database: Database,
    module: Module,
    phase: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nameless(uid: int) -> None:
        raise KeyError(f"uid not found: {uid}")

    steps = Steps.of(module, database, phase)
    steps.plan()
    monkeypatch.setattr(pwd, "getpwuid", nameless)
    steps.approve("plan", controller_uid=12345)
    (row,) = database.sql("SELECT claimed, controller_user FROM pgrunbook.approval")
    assert row == {"claimed": True, "controller_user": "12345 (uid 12345)"}


@pytest.mark.representative
def test_the_second_one_is_of_this_execution(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_queries": []})
    steps.begin()
    steps.backfill(canary=True)
    hashes = []
    for _ in range(2):
        steps.do("run", state="failed", verdict="NO-GO")
        hashes.append(steps.plan()["plan_hash"])
        steps.approve("plan")
        if len(hashes) == 1:
            steps.approve("backfill")
    assert hashes[0] == hashes[1]
    assert "Nobody approved the backfill" in steps.refused("backfill")
    assert steps.approve("backfill")["changed"]
    steps.backfill()


def test_of_a_plan_beside_a_run_that_is_unfinished_is_refused(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    """Two people look at the same plan, and one of them begins."""
    one, other = (Steps.of(module, database, {**phase, "phase_queries": []}) for _ in range(2))
    assert other.plan()["plan_hash"] == one.plan()["plan_hash"]
    one.approve("plan")
    one.do("column")
    one.do("index", actions=["rename"])
    one.backfill(canary=True)
    one.do("run", state="failed", verdict="NO-GO")
    refused = other.refused("approval", **other.approval("plan"))
    assert one.planned["run"]["id"] in refused and "run the playbook again" in refused
    assert other.plan()["run"]["id"] == one.planned["run"]["id"]
    other.approve("plan")


@pytest.mark.parametrize("end", ["finished", "reverted"])
def test_of_a_plan_that_was_to_go_on_with_a_run_is_refused_when_it_has_ended(
    database: Database, module: Module, phase: dict[str, Any], end: str
) -> None:
    one, other = (Steps.of(module, database, {**phase, "phase_queries": []}) for _ in range(2))
    one.begin()
    one.do("run", state="failed", verdict="NO-GO")
    other.plan()
    if end == "finished":
        one.plan()
        one.approve("plan")
        one.do("run", state="finished", verdict="GO")
    else:
        one.back()
    refused = other.refused("approval", **other.approval("plan"))
    assert f"is {end}" in refused


def test_of_a_plan_is_refused_once_the_rollback_of_its_run_was_begun(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    one, other = (Steps.of(module, database, {**phase, "phase_queries": []}) for _ in range(2))
    one.begin()
    one.backfill(canary=True)
    one.do("run", state="failed", verdict="NO-GO")
    other.plan()
    one.plan(rollback_of=one.planned["run"]["id"])
    one.approve("rollback")
    one.do("run", state="failed")
    refused = other.refused("approval", **other.approval("plan"))
    assert "The rollback of run" in refused
