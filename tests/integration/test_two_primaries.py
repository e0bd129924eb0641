# SPDX-License-Identifier: GPL-3.0-or-later
"""A standby that was promoted is not the server that a plan was made on, and the old primary is
not the one that a later plan was made on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import slice, workers
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.ddl import indexes
from tests.integration.conftest import Database, parsed
from tests.integration.standby import Standby, streaming
from tests.integration.steps import Steps

Module = Callable[..., dict[str, Any]]
Phase = dict[str, Any]


@pytest.fixture
def standby(database: Database) -> Iterator[Standby]:
    with streaming(database) as made:
        yield made


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    return Steps.of(module, database, {**phase, "phase_queries": []})


def test_an_execution_stays_with_its_server_and_the_next_one_with_the_new_primary(
    steps: Steps, standby: Standby, phase: Phase
) -> None:
    old = steps.login
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    run = steps.planned["run"]
    standby.promote()
    rows = standby.sql("SELECT count(*) FROM pgrunbook.batch")

    steps.login = standby.login
    for call in (
        {"name": "backfill"},
        {"name": "run", "state": "finished", "verdict": "GO"},
        {"name": "data_gates", "run": run},
        {"name": "query_gates", "run": run},
        {"name": "drift", "run": run, "models": phase["phase_models"]},
        {"name": "approval", **steps.approval("backfill")},
    ):
        message = steps.refused(**call)
        assert "Two servers are primaries of the same origin" in message, call
        assert "on timeline 00000001" in message and "on timeline 00000002" in message
    assert standby.sql("SELECT count(*) FROM pgrunbook.batch") == rows
    assert standby.sql("SELECT state FROM pgrunbook.run") == [("running",)]

    standby.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '61 s'")
    assert steps.plan()["run"]["id"] == run["id"]
    steps.approve("plan")
    steps.approve("backfill")
    steps.login = old
    for call in (
        {"name": "backfill"},
        {"name": "data_gates", "run": steps.planned["run"]},
        {"name": "run", "state": "finished", "verdict": "GO"},
    ):
        message = steps.refused(**call)
        assert "timeline 00000001, not 00000002" in message
        assert "what is written here would be lost" in message
    steps.login = standby.login
    steps.defer()
    steps.backfill()
    steps.build()
    steps.gates("data_gates", run=steps.planned["run"])
    steps.do("run", state="finished", verdict="GO")


def test_a_clone_has_another_hash(steps: Steps, standby: Standby) -> None:
    standby.promote()
    ours = steps.plan()
    steps.login = standby.login
    theirs = steps.plan()
    assert ours["plan"]["schema"] == theirs["plan"]["schema"]
    assert ours["plan_hash"] != theirs["plan_hash"]
    same = {
        key for key, value in ours["run"]["server"].items() if theirs["run"]["server"][key] == value
    }
    assert same == {"system_identifier", "database", "database_oid", "port", "token"}


def test_a_worker_that_reaches_another_server_stops_the_slice(
    steps: Steps, standby: Standby, phase: Phase
) -> None:
    """An address moves from one server to the other between two connections of one call."""
    steps.begin()
    run = steps.planned["run"]
    standby.promote()
    address = standby.folder / "address"
    address.symlink_to(steps.login["host"])
    moving = {**steps.login, "host": str(address)}
    with connect(moving, name="test", read_only=False, schemas=["public"]) as conn:
        owned = ledger.Run(run["id"], run["plan_hash"], run["execution"])
        current = slice.start(conn, parsed(phase), owned, interleaved=False)
        address.unlink()
        address.symlink_to(standby.login["host"])
        with pytest.raises(RunbookError, match="timeline 00000002, not 00000001"):
            workers.run(conn, current, lambda worker: None, 1)


def test_an_index_statement_goes_to_no_other_server(
    steps: Steps, standby: Standby, phase: Phase
) -> None:
    """An address moves from one server to the other between two connections of one call."""
    indexes_there = "SELECT indexrelid::regclass::text, indisvalid FROM pg_index ORDER BY 1"
    steps.spec["strategy"] = "interleaved"
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    run = steps.planned["run"]
    standby.promote()
    before = standby.sql(indexes_there)
    address = standby.folder / "address"
    address.symlink_to(steps.login["host"])
    moving = {**steps.login, "host": str(address)}
    spec = parsed({**phase, "phase_queries": [], "phase_strategy": "interleaved"})
    with connect(moving, name="test", read_only=False, schemas=["public"]) as conn:
        owned = ledger.Run(run["id"], run["plan_hash"], run["execution"])
        address.unlink()
        address.symlink_to(standby.login["host"])
        with pytest.raises(RunbookError, match="timeline 00000002, not 00000001"):
            indexes.apply(conn, spec, {"defer"}, owned, deferred=steps.deferred, dry=False)
    assert standby.sql(indexes_there) == before


def test_an_approval_of_an_older_version_is_compared_in_what_it_knew(
    database: Database, steps: Steps
) -> None:
    """It knew system identifier and database, and nothing of what surrounds the table."""
    steps.plan()
    plan = steps.planned["plan"]
    server = {key: plan["server"][key] for key in ("system_identifier", "database")}
    older = {**{k: v for k, v in plan.items() if k != "surroundings"}, "server": server}
    run = {**steps.planned["run"], "plan_hash": ledger.plan_hash(older), "server": server}
    steps.planned = {**steps.planned, "plan": older, "run": run}
    steps.approve("plan")
    steps.do("column")
    steps.backfill(canary=True)
    other = {**run, "server": {**server, "database": "another"}}
    assert "database" in steps.refused("backfill", canary=True, run=other)


def test_a_ledger_that_got_its_token_meanwhile_is_the_same_and_another_one_is_not(
    database: Database, steps: Steps
) -> None:
    steps.begin()
    assert steps.planned["plan"]["server"]["token"] == ""
    database.sql(
        "CREATE TABLE IF NOT EXISTS pgrunbook.ledger"
        " (version integer NOT NULL, token text NOT NULL);"
        "DELETE FROM pgrunbook.ledger; INSERT INTO pgrunbook.ledger VALUES (2, 'one')"
    )
    steps.backfill(canary=True)
    steps.approve("backfill")
    steps.do("run", state="failed")
    steps.plan()
    steps.approve("plan")
    database.sql("UPDATE pgrunbook.ledger SET token = 'two'")
    assert "ledger two, not one" in steps.refused("backfill", canary=True)
