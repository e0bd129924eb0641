# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection, from a repository that holds an inventory and a phase file and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.conftest import ROOT, Database
from tests.signers import Signer, allowed

PHASE = ROOT / "playbooks/vars/phase3.yml"
MODELS = "{{ playbook_dir }}/../models/session_snapshots.py:Base"
GROUP_DEFAULTS = """
- hosts: databases
  gather_facts: false
  vars:
    spec:
      {phase: mine, table: session_summaries, key: [session_id], source_table: ip_inventory,
       source_key: {source_ip: ip_address},
       columns: [{name: snapshot_asn, type: integer, source: current_asn}]}
  module_defaults:
    group/pgrunbook.pgrunbook.phase: {login: "{{ runbook_login }}", spec: "{{ spec }}"}
  tasks:
    - pgrunbook.pgrunbook.pgrunbook_preflight:
    - pgrunbook.pgrunbook.pgrunbook_data_gates:
"""


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of collections with ours, installed from its tarball."""
    folder = tmp_path_factory.mktemp("collection")
    tarball = build(folder)
    command = ["ansible-galaxy", "collection", "install", "--offline", "-p", folder / "installed"]
    ran([*command, tarball], folder, {})
    return folder / "installed"


def build(folder: Path) -> Path:
    """The tarball that scripts/collection builds below a folder."""
    return Path(ran([ROOT / "scripts/collection", folder], ROOT, {}).strip())


def ran(
    command: list[Any],
    folder: Path,
    environment: dict[str, str],
    status: int = 0,
    typed: str = "",
) -> str:
    """What a command prints that is run in a folder, with programs of this Python first."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{done.stdout}{done.stderr}"
    return done.stdout


class Away:
    """A repository of somebody's, and how they use the collection in it."""

    def __init__(self, folder: Path, collections: Path, login: dict[str, Any]) -> None:
        self.folder, self.collections = folder, collections
        shutil.copy(ROOT / "models/session_snapshots.py", folder / "models.py")
        phase = PHASE.read_text(encoding="utf-8")
        assert MODELS in phase
        (folder / "phase.yml").write_text(phase.replace(MODELS, "models.py:Base"), encoding="utf-8")
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "runbook_login": login,
            "runbook_allowed_signers": "allowed_signers",
        }
        hosts = {"databases": {"hosts": {"db1": None}, "vars": variables}}
        (folder / "inventory.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def play(self, name: str, *arguments: str, status: int = 0) -> str:
        """What a playbook prints."""
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_STDOUT_CALLBACK": "pgrunbook.pgrunbook.pgrunbook",
        }
        command = ["ansible-playbook", "-i", "inventory.yml", name, *arguments]
        return ran(command, self.folder, environment, status)


@pytest.fixture
def away(tmp_path: Path, collection: Path, database: Database) -> Away:
    return Away(tmp_path, collection, database.login)


def hash_in(printed: str) -> str:
    """The argument that approves the plan that a dry run has printed."""
    return re.findall(r"-e (approval=[0-9a-f]{64})", printed)[-1]


def test_dry_run_signature_run_and_rollback_from_a_repository_of_two_files(
    away: Away, tmp_path_factory: pytest.TempPathFactory
) -> None:
    runbook, rollback = "pgrunbook.pgrunbook.runbook", "pgrunbook.pgrunbook.rollback"
    carol = Signer.made(tmp_path_factory.mktemp("carol"), "carol@example.org")
    allowed(away.folder, carol.line('namespaces="pgrunbook"'))
    with (away.folder / "phase.yml").open("a", encoding="utf-8") as phase:
        phase.write("phase_signatures_min: 1\nphase_speedup_min: 0.001  # no test is timed\n")

    planned = away.play(runbook, "--check")
    script, plans = re.findall(r"(\S+/scripts/approve) (\S+/plan.json)", planned)[0]
    token = hash_in(planned).removeprefix("approval=")[:8]
    signing = [script, plans, "--key", carol.key, "--out", "carol.sig"]
    assert "rename column snapshot_ip_types" in ran(signing, away.folder, {}, typed=f"{token}\n")

    assert "wants 1 signature" in away.play(runbook, "-e", hash_in(planned), status=2)
    printed = away.play(runbook, "-e", hash_in(planned), "-e", 'approval_signatures=["carol.sig"]')
    assert "Rename and convert the columns" in printed, "a step is a line"
    assert "GO  ADR-007 phase 3" in printed
    command = re.search(r"ansible-playbook -i inventory.yml (\S+) -e (run=\S+)", printed)
    assert command and command[1] == rollback

    printed = away.play("pgrunbook.pgrunbook.status")
    assert f"{command[2][4:]}  finished GO" in printed
    assert re.search(rf"SIGNED +The plan {token} of run \S+, by carol@example.org", printed)
    undone = ("-e", command[2])
    printed = away.play(rollback, *undone, "-e", hash_in(away.play(rollback, *undone, "--check")))
    assert "no more snapshot_ip_type" in printed
    assert f"{runbook} -e phase_file=phase.yml" in printed, "what runs the phase again"
    assert sorted(p.name for p in away.folder.iterdir() if not p.name.startswith((".", "__"))) == [
        *("allowed_signers", "carol.sig", "inventory.yml", "models.py", "phase.yml", "reports")
    ]


def test_an_action_group_sets_login_and_spec_once(away: Away) -> None:
    (away.folder / "own.yml").write_text(GROUP_DEFAULTS, encoding="utf-8")
    away.play("own.yml")


def test_the_phase_may_be_anywhere_and_is_named_where_it_is_not(away: Away) -> None:
    (away.folder / "phases").mkdir()
    (away.folder / "phase.yml").rename(away.folder / "phases/four.yml")
    (away.folder / "four.yml").write_text(
        "- import_playbook: pgrunbook.pgrunbook.runbook\n  vars: {phase_file: phases/four.yml}\n"
    )
    assert hash_in(away.play("four.yml", "--check"))
    (report,) = away.folder.glob("reports/*-plan/report.md")
    again = "ansible-playbook -i inventory.yml four.yml --check"
    assert again in report.read_text(encoding="utf-8")
    printed = away.play("pgrunbook.pgrunbook.validate", status=2)
    assert "There is no phase file phase.yml. Next step" in printed and "-e phase_file=" in printed


def test_a_phase_file_is_proposed_into_the_folder_where_one_is(away: Away) -> None:
    given = "table=session_summaries source=ip_inventory models=models.py:Base"
    printed = away.play("pgrunbook.pgrunbook.new_phase", "-e", given)
    assert "ansible-playbook -i inventory.yml session_summaries.yml --check" in printed
    written = (away.folder / "vars/session_summaries.yml").read_text(encoding="utf-8")
    assert "\nphase_models: models.py:Base\n" in written
    playbook = (away.folder / "session_summaries.yml").read_text(encoding="utf-8")
    assert "import_playbook: pgrunbook.pgrunbook.runbook\n" in playbook
    assert hash_in(away.play("session_summaries.yml", "--check"))


def test_the_same_commit_gives_the_same_tarball(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    first, second = (build(folder).read_bytes() for folder in folders)
    assert first == second
