# SPDX-License-Identifier: GPL-3.0-or-later
"""A module is called in the process of its task where Ansible would start another Python on this
machine, and as Ansible calls it everywhere else: with the same result."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT

STARTED = re.compile(r"Using module file \S+/pgrunbook_report_info")
"""What Ansible says at -vvv where it packs a module."""


def played(tmp_path: Path, arguments: dict[str, Any], **task: Any) -> tuple[str, dict[str, Any]]:
    """What Ansible shows of a call of pgrunbook_report_info on this machine, and its result."""
    found = tmp_path / "found.json"
    called = {"name": "Call", "pgrunbook_report_info": arguments, "register": "found"}
    kept = {"ansible.builtin.copy": {"dest": str(found), "content": "{{ found | to_json }}"}}
    hosts = {"hosts": "here", "gather_facts": False}
    play = {**hosts, "tasks": [{**called, **task, "ignore_errors": True}, kept]}
    playbook = tmp_path / "play.json"
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    local = "here ansible_connection=local ansible_python_interpreter={{ansible_playbook_python}}\n"
    (tmp_path / "hosts").write_text(local, encoding="utf-8")
    command = [program, "-vvv", "-i", str(tmp_path / "hosts"), str(playbook)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout, json.loads(found.read_text(encoding="utf-8"))


def another_name() -> str:
    """This Python by another name than Ansible's, with which it starts a process."""
    here = Path(sys.executable)
    names = sorted(path.name for path in here.parent.glob("python*") if path.name != here.name)
    return str(here.with_name(names[0]))


@pytest.mark.parametrize("arguments", [{"folder": "."}, {"folder": ".", "fodler": 1}, {}])
def test_both_ways_have_the_same_result(tmp_path: Path, arguments: dict[str, Any]) -> None:
    here, found = played(tmp_path, arguments)
    there, expected = played(
        tmp_path, arguments, vars={"ansible_python_interpreter": another_name()}
    )
    assert not STARTED.search(here) and STARTED.search(there)
    assert found == expected
    assert found["failed"] is (arguments != {"folder": "."})


@pytest.mark.parametrize(
    "task",
    [
        {"environment": {"PGSSLROOTCERT": "/of/this/task"}},
        {"become": True, "become_user": "root"},
        {"vars": {"ansible_python_interpreter": "auto_silent"}},
    ],
)
def test_what_is_another_user_environment_or_python_has_a_process_of_its_own(
    tmp_path: Path, task: dict[str, Any]
) -> None:
    shown, _ = played(tmp_path, {"folder": "."}, **task)
    assert STARTED.search(shown)


def test_a_machine_that_cannot_be_reached_is_a_failure_that_a_rescue_sees(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho no route to host >&2\nexit 255\n", encoding="utf-8")
    ssh.chmod(0o755)
    over_ssh = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}
    _, found = played(tmp_path, {"folder": "."}, vars=over_ssh)
    assert found["failed"] and "unreachable" not in found
    assert "Ansible cannot reach the machine that the module runs on" in found["msg"]
    assert "no route to host" in found["msg"] and "Next step" in found["msg"]
