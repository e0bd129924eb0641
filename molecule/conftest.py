# SPDX-License-Identifier: GPL-3.0-or-later
"""What the scenarios' tests look with: from outside, as a person at the server's own psql."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

DATABASE = "cowrieprocessor"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where the scenario's playbooks left what they noted."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pgrunbook"


@pytest.fixture(scope="session")
def host(folder: Path) -> Host:
    """The container, as its user postgres."""
    container = json.loads((folder / "container.json").read_text())
    return testinfra.get_host(f"{container['engine']}://postgres@{container['name']}")


@pytest.fixture(scope="session")
def sql(host: Host) -> Callable[[str], Rows]:
    """Run a query in the container; the rows that it gives."""

    def run(query: str) -> Rows:
        wrapped = f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) q"
        psql = "psql --no-psqlrc --tuples-only --no-align --dbname %s --command %s"
        rows: Rows = json.loads(host.check_output(psql, DATABASE, wrapped))
        return rows

    return run


@pytest.fixture(scope="session")
def server_log(host: Host) -> str:
    """What the server has logged since its container was made."""
    log: str = host.backend.run_local(f"{host.backend.NAME} logs {host.backend.name} 2>&1").stdout
    return log


@pytest.fixture(scope="session")
def logged(folder: Path) -> Callable[[str], str]:
    """What a playbook printed that run.yml ran under a name, its lines joined."""

    def read(name: str) -> str:
        return " ".join((folder / f"{name}.log").read_text().split())

    return read


@pytest.fixture(scope="session")
def noted(folder: Path) -> Callable[[str], Any]:
    """A JSON file that the scenario's playbooks left."""

    def read(name: str) -> Any:
        return json.loads((folder / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def state(host: Host) -> dict[str, Any]:
    """What the server holds now; state.sh says what that is."""
    script = Path(__file__).with_name("shared") / "state.sh"
    found: dict[str, Any] = json.loads(host.check_output("sh -c %s", script.read_text()))
    return found
