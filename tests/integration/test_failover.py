# SPDX-License-Identifier: GPL-3.0-or-later
"""The standby takes over in the middle of a run: the run goes on there, and ends right."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import connection, heartbeat
from demo import data
from tests.integration.conftest import Database, Played, approval_of, options
from tests.integration.pair import ENDS, Pair, pair
from tests.integration.steps import Module, Steps
from tests.integration.test_kill import EXPECTED, VALUES
from tests.integration.test_throttle import until

Phase = dict[str, Any]

SESSIONS = 4000
RECONNECT_S = 60
TEMPLATE = f"CREATE DATABASE {{}} TEMPLATE {data.DATABASE} OWNER {data.ROLE}"
MOMENTS = ("canary", "backfill", "build", "validation", "rollback")
FAILOVERS = "SELECT body -> 'detail' FROM pgrunbook.event WHERE body ->> 'kind' = 'failover'"
BUILD_WAITS = """
SELECT FROM pg_stat_activity
WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND wait_event = 'virtualxid'
"""
ALL = tuple((how, during) for how in ENDS for during in MOMENTS)


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair(SESSIONS) as made:
        yield made


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer is given up sooner."""
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.5)
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 1)


class Run:
    """A run on a database of the pair."""

    def __init__(self, servers: Pair, module: Module, phase: Phase) -> None:
        self.servers, self.name = servers, f"r{time.monotonic_ns()}"
        servers.primary.sql(TEMPLATE.format(self.name))
        self.before = self.rows(VALUES.format("snapshot_ip_types"), servers.primary)
        self.expected = self.rows(EXPECTED, servers.primary)
        servers.caught_up()
        spec = {**phase, "phase_queries": [], "phase_batch_rows": 20, "phase_workers": 2}
        self.steps = Steps(module, {**servers.login, "dbname": self.name}, options(spec))

    def rows(self, query: str, host: Any) -> list[Any]:
        return sorted(host.sql(query, self.name))

    def do(self, moment: str, during: str, disturb: Callable[[], Any]) -> None:
        """A step of the run, disturbed if its moment has come."""
        if moment != during:
            self.step(moment)
            return
        thread = threading.Thread(target=disturb)
        thread.start()
        self.step(moment)
        thread.join()
        if moment == "build":  # which may be over on a primary that is gone: refill.yml
            self.steps.build()

    def step(self, moment: str) -> None:
        steps = self.steps
        if moment == "canary":
            steps.backfill(canary=True)
            steps.approve("backfill")
        if moment == "backfill":
            steps.defer()
            steps.backfill()
        if moment == "build":
            steps.build()
        if moment == "validation":
            steps.gates("data_gates", run=steps.planned["run"])
            steps.do("run", state="finished", verdict="GO")
        if moment == "rollback":
            steps.backfill(state="reverted")
            steps.do("index", state="reverted")
            steps.do("column", state="reverted")
            steps.do("run", state="reverted")

    def begin(self) -> None:
        self.steps.plan(reconnect_seconds=RECONNECT_S)
        self.steps.approve("plan")
        self.steps.do("column")
        self.steps.do("index", actions=["rename"])

    def all(self, during: str, disturb: Callable[[], Any]) -> None:
        self.begin()
        self.servers.caught_up()
        for moment in MOMENTS[:-1]:
            self.do(moment, during, disturb)
        host = self.servers.primary if during == "rollback" else self.servers.standby
        assert self.rows(VALUES.format("snapshot_ip_type"), host) == self.expected
        steps = self.steps
        host.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 minute'", self.name)
        steps.plan(rollback_of=steps.planned["run"]["id"], reconnect_seconds=RECONNECT_S)
        steps.approve("rollback")
        if during == "rollback":
            self.servers.caught_up()
        self.do("rollback", during, disturb)
        host = self.servers.standby
        assert self.rows(VALUES.format("snapshot_ip_types"), host) == self.before


SAMPLE = tuple(zip(ENDS, MOMENTS, strict=True))
"""Each way to end with another moment. `make crashpoints` takes all pairs of them, and each moment
with a standby that has received nothing of it."""

POINTS = [(how, during, True) for how, during in SAMPLE]
if os.environ.get("ALL_POINTS"):
    POINTS = [(*both, True) for both in ALL] + [("immediate", m, False) for m in MOMENTS]


@pytest.mark.parametrize(("how", "during", "receives"), POINTS)
def test_a_run_goes_on_on_the_server_that_was_promoted(
    servers: Pair, module: Module, phase: Phase, how: str, during: str, receives: bool
) -> None:
    run = Run(servers, module, phase)
    delay = random.Random(f"{during} {how}").uniform(0, 0.3)

    def disturb() -> None:
        if not receives:
            servers.cut_stream()
        time.sleep(delay)
        servers.fail_over(how)

    run.all(during, disturb)
    servers.renew()


def test_a_synchronous_standby_loses_nothing(servers: Pair, module: Module, phase: Phase) -> None:
    run = Run(servers, module, {**phase, "phase_batch_target_ms": 5})
    steps = run.steps
    run.begin()
    servers.primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    servers.primary.sql("SELECT pg_reload_conf()")
    steps.backfill(canary=True)
    steps.approve("backfill")
    steps.defer()

    def disturb() -> None:
        batches = "SELECT count(*) > 20 FROM pgrunbook.batch"
        until(lambda: servers.primary.sql(batches, run.name) == [(True,)])
        servers.fail_over("kill")
        servers.standby.sql("ALTER SYSTEM RESET synchronous_standby_names")
        servers.standby.sql("SELECT pg_reload_conf()")

    thread = threading.Thread(target=disturb)
    thread.start()
    steps.backfill()
    thread.join()
    (told,) = run.rows(FAILOVERS, servers.standby)
    assert (told[0]["rows_lost"], told[0]["batches_lost"]) == (0, 0)
    servers.renew()


def test_what_the_standby_had_not_received_is_counted_and_done_again(
    servers: Pair, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, {**phase, "phase_slice_seconds": 1})
    steps = run.steps
    run.begin()
    canary = steps.backfill(canary=True)
    steps.approve("backfill")
    steps.defer()
    servers.caught_up()
    servers.cut_stream()
    slice_ = steps.do("backfill")
    lost = slice_["rows_done"] - canary["rows_done"]
    assert lost > 0
    servers.fail_over("immediate")
    seen = {"rows": slice_["rows_done"], "batches": slice_["batches_done"]}
    again = steps.do("backfill", seen=seen)
    assert (again["rows_lost"], again["batches_lost"]) == (
        lost,
        slice_["batches_done"] - canary["batches_done"],
    )
    assert f"lost by a failover, and done again: {lost:,} rows in" in again["progress"]
    steps.backfill()
    steps.build()
    assert run.rows(VALUES.format("snapshot_ip_type"), servers.standby) == run.expected
    (told,) = run.rows(FAILOVERS, servers.standby)
    assert told[0]["rows_lost"] == lost
    assert told[0]["now"].endswith(steps.planned["run"]["server"]["timeline"])
    servers.renew()


def test_an_index_that_was_being_built_is_built_again(
    servers: Pair, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, phase)
    primary, standby = servers.primary, servers.standby
    run.begin()
    for moment in ("canary", "backfill"):
        run.step(moment)
    invalid = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    left: list[Any] = []

    def disturb() -> None:
        with closing(primary.session(run.name)) as older:
            hold(older)
            until(lambda: primary.sql(BUILD_WAITS))
            servers.caught_up()
            left.extend(standby.sql(invalid, run.name))
            servers.fail_over("immediate")

    run.do("build", "build", disturb)
    assert left and not standby.sql(invalid, run.name)
    run.step("validation")
    servers.renew()


def hold(older: psycopg.Connection[Any]) -> None:
    """Let the build of an index wait for this session."""
    older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    older.execute("SELECT pg_current_xact_id()")


VALIDATES = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgrunbook/data_gates %'"
LATE = {"build": BUILD_WAITS, "validation": VALIDATES}


@pytest.mark.parametrize("during", LATE if os.environ.get("ALL_POINTS") else ["build"])
def test_what_is_lost_after_the_backfill_is_filled_again_before_the_verdict(
    servers: Pair, module: Module, phase: Phase, playbook: Callable[..., Played], during: str
) -> None:
    """The standby lacks most batches when it is promoted."""
    phase, none = {**phase, "phase_queries": []}, [(None,)]
    run = Run(servers, module, phase)
    primary, standby = servers.primary, servers.standby
    approval = approval_of(module, servers.database(primary, run.name), phase)

    def disturb() -> None:
        with closing(primary.session(run.name)) as older:
            if during == "build":
                hold(older)
            until(lambda: standby.sql("SELECT to_regclass('pgrunbook.approval')", run.name) != none)
            approved = "SELECT FROM pgrunbook.approval WHERE scope = 'backfill'"
            until(lambda: standby.sql(approved, run.name))
            servers.cut_stream()
            until(lambda: primary.sql(LATE[during]))
            servers.fail_over("immediate")

    thread = threading.Thread(target=disturb)
    thread.start()
    played = playbook({**servers.login, "dbname": run.name}, "phase3", "-e", approval, phase=phase)
    thread.join()
    assert played.status == 0, played.output
    (told,) = run.rows(FAILOVERS, standby)
    lost = told[0]["rows_lost"]
    assert lost > 1000
    assert f"lost by a failover, and done again: {lost:,} rows in" in played.output
    assert run.rows(VALUES.format("snapshot_ip_type"), standby) == run.expected
    assert not standby.sql("SELECT FROM pg_index WHERE NOT indisvalid", run.name)
    servers.renew()


def test_the_old_primary_is_refused_once_it_comes_back(
    servers: Pair, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, phase)
    steps = run.steps
    run.begin()
    old, known = servers.primary, steps.planned["run"]["server"]["timeline"]
    servers.caught_up()
    servers.fail_over("immediate")
    steps.backfill(canary=True)
    steps.approve("backfill")
    now = steps.planned["run"]["server"]["timeline"]
    assert now > known
    old.start()
    before = run.rows("SELECT count(*) FROM pgrunbook.event", old)
    steps.login = {**steps.login, "host": old.sockets}
    steps.planned["run"]["reconnect_seconds"] = 0
    for call in (
        {"name": "backfill"},
        {"name": "index", "actions": ["build"]},
        {"name": "data_gates", "run": steps.planned["run"]},
        {"name": "backfill", "state": "reverted"},
        {"name": "column", "state": "reverted"},
        {"name": "run", "state": "finished", "verdict": "GO"},
    ):
        message = steps.refused(**call)
        assert f"timeline {known}, not {now}" in message, call
        assert "what is written here would be lost" in message
    assert run.rows("SELECT count(*) FROM pgrunbook.event", old) == before
    servers.renew()


def test_two_primaries_are_refused(servers: Pair, module: Module, phase: Phase) -> None:
    """The old one is found where the run was last seen, or among the hosts of the login."""
    run = Run(servers, module, phase)
    run.begin()
    old, new = servers.primary, servers.standby
    servers.caught_up()
    servers.promote()
    seen = run.steps.planned["run"]["server"]
    for hosts, address in ((new.sockets, old.sockets), (f"{new.sockets},{old.sockets}", "/gone")):
        seen["address"] = address
        run.steps.login = {**run.steps.login, "host": hosts}
        message = run.steps.refused("backfill", canary=True)
        assert message.startswith("Two servers are primaries of the same origin: "), message
        assert old.sockets in message and new.sockets in message
    assert run.steps.refused("preflight", check=True).startswith("Two servers are primaries of")
    assert run.rows("SELECT count(*) FROM pgrunbook.batch", new) == [(0,)]
    servers.renew()


def test_a_login_that_lists_a_stranger_is_refused(
    servers: Pair, database: Database, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, phase)
    own, other = servers.primary.sockets, database.server.host
    run.steps.login = {**run.steps.login, "host": f"{own},{other}", "dbname": data.DATABASE}
    message = run.steps.refused("preflight", check=True)
    assert message.startswith("Two servers are primaries, and have nothing to do with each other")
    assert own in message and other in message


def test_a_copy_from_before_the_approval_is_refused(
    servers: Pair, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, phase)
    servers.cut_stream()
    run.begin()
    servers.fail_over("immediate")
    message = run.steps.refused("backfill", canary=True)
    assert "does not have the approval that this execution got" in message
    assert "on timeline" in message
    servers.renew()


def test_another_database_of_the_same_name_is_refused(
    servers: Pair, module: Module, phase: Phase
) -> None:
    """A new one, and one that was restored with its ledger."""
    for ledger in (False, True):
        run = Run(servers, module, phase)
        run.begin()
        if ledger:
            servers.primary.sql(f"CREATE DATABASE restored TEMPLATE {run.name}")
        servers.primary.sql(f"DROP DATABASE {run.name}")
        if ledger:
            servers.primary.sql(f"ALTER DATABASE restored RENAME TO {run.name}")
        else:
            servers.primary.sql(TEMPLATE.format(run.name))
        before = run.rows("SELECT s.*::text FROM session_summaries s", servers.primary)
        message = run.steps.refused("backfill", canary=True)
        assert "not the server that the plan was made on: database oid " in message, message
        assert run.rows("SELECT s.*::text FROM session_summaries s", servers.primary) == before


def test_a_session_that_somebody_ended_is_no_failover(
    servers: Pair, module: Module, phase: Phase
) -> None:
    run = Run(servers, module, {**phase, "phase_batch_target_ms": 5})
    run.begin()
    run.steps.backfill(canary=True)
    run.steps.approve("backfill")

    def end_the_workers() -> None:
        ours = f"datname = '{run.name}' AND application_name LIKE 'pgrunbook/%'"
        while servers.primary.sql(f"SELECT count(*) < 3 FROM pg_stat_activity WHERE {ours}")[0][0]:
            time.sleep(0.02)
        servers.primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")

    thread = threading.Thread(target=end_the_workers)
    thread.start()
    message = run.steps.refused("backfill")
    thread.join()
    assert "Somebody ended a session of this run (SQLSTATE 57P01)" in message


def test_a_standby_is_waited_for_and_told_of(servers: Pair, module: Module, phase: Phase) -> None:
    run = Run(servers, module, phase)
    run.begin()
    servers.caught_up()
    run.steps.login = {**run.steps.login, "host": servers.standby.sockets}
    run.steps.planned["run"]["reconnect_seconds"] = 1
    message = run.steps.refused("backfill", canary=True)
    assert "there was no primary to go on with for 1 s (runbook_reconnect_seconds)" in message
    assert "is a standby" in message


def test_who_waits_for_a_server_that_does_not_answer_is_cut_off(database: Database) -> None:
    with (
        connection.connect(database.login, name="test", read_only=False) as conn,
        heartbeat.heartbeat(lambda: False),
        pytest.raises(psycopg.OperationalError) as raised,
    ):
        conn.execute("SELECT pg_sleep(6)")
    assert raised.value.sqlstate is None and conn.broken
