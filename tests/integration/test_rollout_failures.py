# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong on some hosts of a rollout, and how the others are left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import server as demo_server
from tests.integration.conftest import ROOT, Database, copied
from tests.integration.fleet import Fleet, approve_first, fleet_of, unreachable
from tests.integration.steps import Module, Steps
from tests.integration.terminal import Terminal

HOSTS = ("one", "two", "three", "four")
OPTIONS = (
    *("-e", '{"runbook_waves": [1, 2, "100%"]}', "-e", "runbook_reconnect_seconds=0"),
    *("--forks", "4"),
)
SLOW = {"phase_batch_rows": 1, "phase_batch_target_ms": 1, "phase_slice_seconds": 1}
ROWS = 2957
PATIENCE_S = 60


@pytest.fixture
def fleet(server: demo_server.Server, phase: dict[str, Any], tmp_path: Path) -> Iterator[Fleet]:
    with fleet_of(server, phase, tmp_path, HOSTS) as found:
        yield found


def until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def filled(database: Database) -> int:
    """The rows that runs have filled."""
    try:
        found = database.sql("SELECT coalesce(sum(row_count), 0)::int AS n FROM pgrunbook.batch")
    except psycopg.errors.UndefinedTable:
        return 0
    rows: int = found[0]["n"]
    return rows


def second_wave_at_work(fleet: Fleet) -> Terminal:
    """A rollout up to where both hosts of its second wave fill their rows."""
    fleet.variables = {"two": SLOW, "three": SLOW}
    approval = fleet.approval(*OPTIONS)
    person = Terminal(fleet.command("phase3", *OPTIONS, "-e", approval), ROOT)
    wave = [fleet.databases[host] for host in ("two", "three")]
    until(lambda: min(map(filled, wave)) > 200, "the second wave does not begin")
    return person


def test_a_host_that_is_lost_at_work_keeps_later_waves_back_and_disturbs_none(
    fleet: Fleet,
) -> None:
    """The same command ends all of it, once the host is there again."""
    with second_wave_at_work(fleet) as person, unreachable(fleet.databases["two"]):
        assert filled(fleet.databases["three"]) < ROWS
        assert person.status() != 0
        told = " ".join(person.output.split())
    assert "2 GO, 1 failed, 1 not started" in told, told
    assert "Before it two failed, and runbook_failures_max is 0." in told
    assert fleet.verdicts() == {"one": ["GO"], "two": [None], "three": ["GO"], "four": []}
    assert 200 < filled(fleet.databases["two"]) < ROWS
    fleet.databases["two"].sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    again = fleet.approved(*OPTIONS)
    assert again.status == 0, again.output
    assert fleet.verdicts() == {host: ["GO"] for host in HOSTS}
    one, *others = (database.state()["rows"] for database in fleet.databases.values())
    assert all(other == one for other in others)


def test_ctrl_c_in_a_wave_leaves_each_host_as_a_single_run_would(fleet: Fleet) -> None:
    before = {host: database.state() for host, database in fleet.databases.items()}
    with second_wave_at_work(fleet) as person:
        os.write(person.fd, b"\x03")
        assert person.status() != 0
    wave = [fleet.databases[host] for host in ("two", "three")]
    query = "SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = %s"
    for database in wave:
        until(lambda: not database.sql(query, [database.name]), "a session is left")  # noqa: B023
        assert 200 < filled(database) < ROWS
        database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    assert fleet.verdicts() == {"one": ["GO"], "two": [None], "three": [None], "four": []}
    given = ("-e", fleet.rollout("one"))
    undone = fleet.play("rollback", *given, "-e", fleet.approval(*given, book="rollback"))
    assert undone.status == 0 and "3 undone, 1 done before" in undone.output, undone.output
    assert {host: database.state() for host, database in fleet.databases.items()} == before


def test_no_wave_begins_that_cannot_end_in_its_window(fleet: Fleet) -> None:
    """No run was measured on these hosts: how long they take is known from the canary host."""
    ends = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    options = ("-e", f"phase_window_end={ends}", "-e", "runbook_window_margin=1000000")
    played = fleet.approved(*options)
    told = " ".join(played.output.split())
    assert played.status != 0 and "1 GO, 3 not started" in told, told
    assert f"The maintenance window ends at {ends}, and it takes about" in told
    assert fleet.verdicts() == {"one": ["GO"], "two": [], "three": [], "four": []}


def test_a_host_that_another_rollout_has_done_meanwhile_is_not_done_again(fleet: Fleet) -> None:
    del fleet.databases["four"]
    with Terminal(fleet.command("phase3"), ROOT) as person:
        at = approve_first(person)
        assert "hosts, which take about" in " ".join(person.output[at:].replace("│", " ").split())
        assert fleet.approved("--limit", "two,three").status == 0
        done = fleet.prints()
        person.approve(at)
        assert person.status() != 0
        told = " ".join(person.output.split())
    assert fleet.prints() == done
    assert fleet.verdicts() == {"one": ["GO"], "two": ["GO"], "three": ["GO"]}
    assert "1 GO, 1 failed, 1 not started" in told, told
    assert "on this table was begun after this plan was made, and is finished, GO." in told


def test_every_host_that_cannot_begin_says_why(fleet: Fleet, module: Module) -> None:
    newer = Steps.of(module, fleet.databases["one"], fleet.phase)
    newer.begin()
    newer.do("run", state="failed")
    fleet.databases["one"].sql("UPDATE pgrunbook.ledger SET version = 99")
    fleet.databases["two"].sql("ALTER TABLE session_summaries RENAME TO elsewhere")
    standby = fleet.databases["three"]
    standby.superuser(f"ALTER DATABASE {standby.name} SET default_transaction_read_only = on")
    played = fleet.play("phase3", "--check")
    told = " ".join(played.output.split())
    assert played.status != 0 and "3 of the hosts cannot begin, so none does." in told, told
    for host, why in (
        ("one", "which a newer pgrunbook made"),
        ("two", "session_summaries"),
        ("three", "default_transaction_read_only"),
    ):
        assert why in told.split(f" {host}: ", 1)[1].split("Next step", 1)[0], told
    assert not fleet.databases["four"].fingerprint()["ledger"]


@pytest.mark.parametrize("any_server", [16], indirect=True)
def test_a_host_of_another_version_is_done_with_the_others(
    fleet: Fleet, any_server: demo_server.Server
) -> None:
    with copied(any_server) as older:
        fleet.databases = {"one": fleet.databases["one"], "older": older}
        played = fleet.approved()
        assert played.status == 0, played.output
        assert fleet.verdicts() == {"one": ["GO"], "older": ["GO"]}
