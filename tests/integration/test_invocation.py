# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong on the command line is said, and does not pass for a run that went well."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.conftest import ROOT, Database, Played

Playbook = Callable[..., Played]


def test_an_inventory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", tmp_path / "typo", "playbooks/phase3.yml", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no host in the group databases" in " ".join(done.stdout.split())


def test_a_misspelt_variable_is_refused(
    database: Database, playbook: Playbook, phase: dict[str, Any]
) -> None:
    before = database.fingerprint()
    played = playbook(database.login, "phase3", phase={**phase, "phase_canary_row": 5})
    assert played.status != 0
    assert "Nothing reads phase_canary_row" in " ".join(played.output.split())
    assert database.fingerprint() == before


def test_a_phase_that_lacks_a_variable_is_refused_by_the_names_of_all_that_it_lacks(
    database: Database, playbook: Playbook, phase: dict[str, Any], tmp_path: Path
) -> None:
    short = {k: v for k, v in phase.items() if k not in ("phase_name", "phase_table")}
    (tmp_path / "short.yml").write_text(json.dumps(short), encoding="utf-8")
    played = playbook(database.login, "validate", phase={"phase_file": f"{tmp_path}/short.yml"})
    assert played.status != 0
    said = " ".join(played.output.split())
    lacking = "phase_name, phase_table are not set. Next step: set them in short.yml"
    assert lacking in said, played.output
