# SPDX-License-Identifier: GPL-3.0-or-later
"""The scenarios of molecule/ test what they say. Molecule passes by a folder without tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MOLECULE = ROOT / "molecule"
SCENARIOS = sorted(path.parent.name for path in MOLECULE.glob("*/molecule.yml"))


def load_yaml(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize("name", SCENARIOS)
def test_each_file_of_tests_is_run_at_one_moment(name: str) -> None:
    shared = load_yaml(ROOT / ".config/molecule/config.yml")["scenario"]["test_sequence"]
    sequence = (
        load_yaml(MOLECULE / name / "molecule.yml").get("scenario", {}).get("test_sequence", shared)
    )
    folders = [step.partition(" ")[2] or "tests" for step in sequence if step.startswith("verify")]
    run = [path for folder in folders for path in (MOLECULE / name / folder).rglob("test_*.py")]
    assert sorted(run) == sorted((MOLECULE / name).rglob("test_*.py"))
    assert len(run) >= len(folders)


def test_the_readme_has_each_scenario_in_its_table() -> None:
    lines = (MOLECULE / "README.md").read_text(encoding="utf-8").splitlines()
    table = lines[lines.index("| Scenario | What is done | What is proved |") + 2 :]
    named = [row.split("`")[1] for row in table[: table.index("")]]
    assert sorted(named) == SCENARIOS
