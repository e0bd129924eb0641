# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout goes to one host first, stops at the one that fails, and goes on once it is mended."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra

HOSTS = ("one", "two", "three")
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
Noted = Callable[[str, str], Any]


@pytest.fixture(scope="session")
def folder() -> Path:
    return FOLDER / "one"


def noted(host: str, name: str) -> Any:
    """A JSON file that the scenario's playbooks left of a host."""
    return json.loads((FOLDER / host / f"{name}.json").read_text())


def sql(host: str, query: str) -> Any:
    """The rows of a query in a host's container."""
    container = noted(host, "container")
    inside = testinfra.get_host(f"{container['engine']}://postgres@{container['name']}")
    wrapped = f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) q"
    psql = "psql --no-psqlrc --tuples-only --no-align --dbname cowrieprocessor --command %s"
    return json.loads(inside.check_output(psql, wrapped))


def test_the_hosts_of_later_waves_were_not_touched() -> None:
    """Every table, catalog and setting of the third one is as it was, by its server's own word."""
    before, after = noted("three", "before"), noted("three", "after_failure")
    assert after["dump"] == before["dump"] and after["places"] == before["places"]
    assert after["next_transaction"] == before["next_transaction"]


def test_the_host_that_failed_is_as_it_was_but_for_its_ledger() -> None:
    assert noted("two", "after_failure")["dump"] == noted("two", "before")["dump"]


def test_the_failure_is_told_host_by_host(logged: Callable[[str], str]) -> None:
    assert noted("one", "statuses")["failed"] != 0
    told = logged("failed")
    assert "NO-GO: 1 GO, 1 failed, 1 not started" in told
    assert "Before it two failed, and runbook_failures_max is 0" in told


def test_the_same_command_goes_on_with_what_is_left(logged: Callable[[str], str]) -> None:
    assert noted("one", "statuses")["repeated"] == 0
    assert "Done already, and left out: one" in logged("planned_again")
    assert "2 GO, 1 done before" in logged("repeated")


@pytest.mark.parametrize("host", HOSTS)
def test_every_row_equals_its_source(host: str) -> None:
    different = sql(
        host,
        "SELECT session_id FROM session_summaries s JOIN ip_inventory i ON ip_address = source_ip"
        " WHERE snapshot_ip_type IS DISTINCT FROM ip_type",
    )
    assert different == []
    latest = "SELECT verdict FROM pgrunbook.run ORDER BY started_at DESC LIMIT 1"
    assert sql(host, latest) == [{"verdict": "GO"}]


def test_every_ledger_has_the_list_that_was_approved() -> None:
    query = "SELECT DISTINCT rollout -> 'members' AS members FROM pgrunbook.approval"
    first, second = sql("one", query), sql("three", query)
    assert [m["host"] for m in first[0]["members"]] == ["one", "two", "three"]
    assert [m["host"] for m in second[0]["members"]] == ["two", "three"]
