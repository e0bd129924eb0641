# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller may lack: only ansible-core and psycopg are needed, and each other part says
that it is not there."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Database, Played, approval_of

Phase = dict[str, Any]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OPTIONAL = {
    re.split(r"[\[><=]", requirement)[0].lower().replace("-", "_")
    for extra in ("models", "plots", "metrics", "demo")
    for requirement in PROJECT["optional-dependencies"][extra]
}
LACKING = f"""
import sys

class Lacking:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(OPTIONAL)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Lacking())
"""


@pytest.fixture
def lacking(tmp_path: Path) -> dict[str, str]:
    """The environment of a Python that has none of the optional parts."""
    assert {"sqlalchemy", "alembic", "matplotlib", "prometheus_client"} <= OPTIONAL
    folder = tmp_path / "lacking"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LACKING, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


def test_a_run_needs_ansible_core_and_psycopg_only(
    database: Database,
    phase: Phase,
    playbook: Callable[..., Played],
    module: Callable[..., dict[str, Any]],
    lacking: dict[str, str],
) -> None:
    played = playbook(
        database.login,
        "phase3",
        *("-e", approval_of(module, database, phase)),
        phase={**phase, "phase_models": ""},
        environment=lacking,
    )
    assert played.status == 0, played.output
    assert "The report has no plots: No module named 'matplotlib'" in played.output
    assert "The metrics cannot be written" in played.output
    assert "No module named 'prometheus_client'" in played.output


def test_models_without_sqlalchemy_are_refused_with_what_to_install(
    database: Database, phase: Phase, playbook: Callable[..., Played], lacking: dict[str, str]
) -> None:
    played = playbook(database.login, "phase3", "--check", phase=phase, environment=lacking)
    assert played.status != 0
    assert "there is no module 'sqlalchemy'" in played.output
    assert "-m pip install sqlalchemy" in played.output
