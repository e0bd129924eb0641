# SPDX-License-Identifier: GPL-3.0-or-later
"""What people see: the lines of the playbooks with pgrunbook's own callback."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from demo import server as demo_server
from tests.integration.conftest import ROOT, Database, Played, command_line, plan_hash
from tests.integration.fleet import fleet_of
from tests.integration.terminal import QUESTION, Terminal

OWN = {"ANSIBLE_STDOUT_CALLBACK": "pgrunbook"}
STEP = re.compile(
    r"^  (\S.*?)  +(?:changed  |would change  |nothing to do  )?(?:\d+ hosts  )? *\d+\.\d s$",
    re.MULTILINE,
)
HEADING = re.compile(r"^(\d/\d .*|End of a dry run)$", re.MULTILINE)
NOISE = ("TASK [", "PLAY [", "ok:", "skipping:", "included:", "fatal:", "changed:", "\x1b[")
RED, GREEN = "\x1b[0;31m", "\x1b[0;32m"

PLANNED = [
    "Read health, privileges and counts",
    "Compare the schema with the application's models",
    "Plan every step",
]


@pytest.fixture
def small(phase: dict[str, Any]) -> dict[str, Any]:
    return {**phase, "phase_queries": []}


def is_calm(played: Played) -> bool:
    return not [noise for noise in NOISE if noise in played.output]


def test_a_run_has_a_line_for_each_step(
    database: Database, playbook: Any, small: dict[str, Any]
) -> None:
    dry = playbook(database.login, "phase3", "--check", phase=small, environment=OWN)
    assert dry.status == 0 and is_calm(dry), dry.output
    assert STEP.findall(dry.output) == [*PLANNED, "Write the report"]
    assert HEADING.findall(dry.output) == ["1/5 Plan", "End of a dry run"]
    approval = f"approval={plan_hash(dry.output)}"
    run = playbook(database.login, "phase3", "-e", approval, phase=small, environment=OWN)
    assert run.status == 0 and is_calm(run), run.output
    assert STEP.findall(run.output) == [
        *PLANNED,
        "Record the approval in the ledger",
        "Rename and convert the columns",
        "Rename the indexes",
        "Fill the canary's rows",
        "Compare every one of them with its source",
        "Record the approval in the ledger",
        "Drop the indexes that are built again",
        "Fill the rows",
        "Build the missing indexes",
        "Validate rows and indexes",
        "Compare the schema with the application's models again",
        "Compare the queries with the ones that they replace",
        "Write the report",
    ]
    assert HEADING.findall(run.output) == ["1/5 Plan", "3/5 Run"]
    assert re.search(r"^GO  ", run.output, re.MULTILINE), run.output


def test_a_failure_is_told_once_with_what_to_do(
    database: Database, playbook: Any, small: dict[str, Any]
) -> None:
    login = {**database.login, "dbname": "nowhere"}
    played = playbook(login, "phase3", phase=small, environment=OWN)
    assert played.status != 0 and is_calm(played), played.output
    told = " ".join(played.output.split())
    assert told.count('database "nowhere" does not exist') == 1, played.output
    assert told.count("Next step:") == 1


def test_colours_are_for_verdicts(database: Database, playbook: Any, small: dict[str, Any]) -> None:
    colourful = {**OWN, "ANSIBLE_FORCE_COLOR": "1", "ANSIBLE_NOCOLOR": "0"}
    login = {**database.login, "dbname": "nowhere"}
    played = playbook(login, "phase3", phase=small, environment=colourful)
    assert f"{RED}NO-GO  " in played.output, played.output
    dry = playbook(database.login, "phase3", "--check", phase=small, environment=colourful)
    assert f"{GREEN}GO  " in dry.output, dry.output


def test_with_v_it_is_ansibles_own(
    database: Database, playbook: Any, small: dict[str, Any]
) -> None:
    played = playbook(database.login, "status", "-v", phase=small, environment=OWN)
    assert "TASK [Read the ledger]" in played.output and "PLAY RECAP" in played.output


def test_several_hosts_are_one_line_a_step_and_one_when_each_begins_and_ends(
    server: demo_server.Server, small: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "pgrunbook")
    with fleet_of(server, small, tmp_path, ["one", "two", "three"]) as fleet:
        played = fleet.approved()
        watched = fleet.play("watch")
    assert watched.status == 0 and "  3 GO" in watched.output, watched.output
    assert played.status == 0 and is_calm(played), played.output
    assert re.search(r"^  Plan every step +3 hosts +\d+\.\d s$", played.output, re.MULTILINE)
    waves = played.output[played.output.index("4/5 Waves") : played.output.index("5/5 Verdict")]
    told = [line.split()[:2] for line in waves.splitlines() if not line.startswith("  all hosts")]
    assert ["begins", "two"] in told and ["GO", "two"] in told and ["GO", "three"] in told
    assert not STEP.findall(waves)
    assert "3 GO" in played.output


def test_the_watch_looks_again_until_somebody_ends_it(database: Database, tmp_path: Path) -> None:
    with Terminal(command_line(tmp_path, database.login, "watch"), ROOT) as person:
        at = person.wait_for("No run yet")
        at = person.wait_for("No run yet", at)
        person.wait_for("No run yet", at)
        time.sleep(0.3)  # a process that is killed while it prints would keep Ansible's queue
        os.write(person.fd, b"\x03")
        assert person.status() != 0


def test_on_a_terminal_the_line_of_progress_stays_in_its_place(
    database: Database, small: dict[str, Any], tmp_path: Path
) -> None:
    given = {**small, "phase_batch_rows": 20, "phase_batch_target_ms": 1, "phase_slice_seconds": 1}
    command = command_line(tmp_path, database.login, "phase3", phase=given)
    with Terminal(command, ROOT) as person:
        person.approve(person.approve())
        assert person.status() == 0, person.output
    assert re.search(r"\r  2,957 of 2,957 rows [^\n]*\x1b\[K\n", person.output), person.output


def test_after_ctrl_c_the_last_lines_say_where_to_look(
    database: Database, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "pgrunbook")
    given = {**small, "phase_batch_rows": 1, "phase_batch_target_ms": 1, "phase_slice_seconds": 1}
    command = command_line(tmp_path, database.login, "phase3", phase=given)
    with Terminal(command, ROOT) as person:
        at = person.approve(person.approve())
        person.wait_for(r"\r  [0-9,]+ of 2,957 rows", at)
        time.sleep(0.3)  # a process that is killed while it prints would keep Ansible's queue
        os.write(person.fd, b"\x03")
        assert person.status() != 0
    last = " ".join(person.output.split()[-40:])
    assert "What was committed is kept." in last and last.endswith("playbooks/status.yml"), last


def test_at_each_moment_the_screen_says_how_the_database_is_and_what_to_type(
    database: Database, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first question, declined at the second, looked at, and rolled back."""
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "pgrunbook")
    given = {**small, "phase_canary_rows": 100}
    command = command_line(tmp_path, database.login, "phase3", phase=given)
    with Terminal(command, ROOT) as person:
        at = person.wait_for(QUESTION)
        first = words_of(person.output)
        assert "Nothing was changed so far, and no leaves it so." in first
        assert "what still names snapshot_ip_types fails" in first
        person.approve()
        at = person.wait_for(QUESTION, at)
        assert "100 of 2,957 rows" in words_of(person.output)
        person.answer("no")
        assert person.status() == 2 and "fatal" not in person.output
    last = words_of(person.output[at:])
    assert last.count("playbooks/rollback.yml -e run=") == 1, "told once"
    run = database.sql("SELECT id FROM pgrunbook.run")[0]["id"]
    back = f"ansible-playbook -i {tmp_path}/inventory.yml playbooks/rollback.yml -e run={run}"
    for told in (
        "(stopped halfway)",
        "Changes half-done; nothing is at work any more",
        "Column snapshot_ip_type; no more snapshot_ip_types",
        "Application has to be on models that name snapshot_ip_type",
        "Rows 100 of 2,957 filled",
        "Indexes all that the run dropped are there again",
        "Go on with this run where it stopped",
    ):
        assert told in last, told
    shown = os.path.relpath(tmp_path, ROOT)
    assert back.replace(str(tmp_path), shown) in person.output, "whole, in one line"
    status = words_of(played_on(tmp_path, database.login, "status"))
    assert "failed NO-GO, 100 of 2,957 rows" in status
    assert "renamed: column snapshot_ip_types to snapshot_ip_type, so the application" in status
    undo = command_line(tmp_path, database.login, "rollback", "-e", f"run={run}")
    with Terminal(undo, ROOT) as person:
        person.wait_for(QUESTION)
        assert "rename column snapshot_ip_type back to snapshot_ip_types" in person.output
        person.approve()
        assert person.status() == 0
    undone = words_of(person.output)
    assert "ROLLED BACK Rollback of" in undone
    assert "Application has to be on models that name snapshot_ip_types" in undone


def words_of(output: str) -> str:
    """What is on the screen, without frames, colours and line breaks."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[│┌┐└┘─]", " ", output)
    return " ".join(plain.split())


def played_on(folder: Path, login: dict[str, Any], name: str) -> str:
    """What a playbook prints behind a pipe."""
    done = subprocess.run(
        command_line(folder, login, name), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout
