# SPDX-License-Identifier: GPL-3.0-or-later
"""The standby takes over in the middle of a run: the run goes on there, and ends right."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core import connection, heartbeat
from demo import data
from tests.integration.conftest import options
from tests.integration.pair import ENDS, Pair, pair
from tests.integration.steps import Module, Steps
from tests.integration.test_kill import EXPECTED, VALUES

Phase = dict[str, Any]

SESSIONS = 4000
RECONNECT_S = 60
MOMENTS = ("canary", "backfill", "build", "validation", "rollback")


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
        servers.primary.sql(f"CREATE DATABASE {self.name} TEMPLATE {data.DATABASE} OWNER {data.ROLE}")
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

    def all(self, during: str, disturb: Callable[[], Any]) -> None:
        self.steps.plan(reconnect_seconds=RECONNECT_S)
        self.steps.approve("plan")
        self.steps.do("column")
        self.steps.do("index", actions=["rename"])
        self.servers.caught_up()
        for moment in MOMENTS[:-1]:
            self.do(moment, during, disturb)
        host = self.servers.primary if during == "rollback" else self.servers.standby
        assert self.rows(VALUES.format("snapshot_ip_type"), host) == self.expected
        steps = self.steps
        steps.plan(rollback_of=steps.planned["run"]["id"], reconnect_seconds=RECONNECT_S)
        steps.approve("rollback")
        if during == "rollback":
            self.servers.caught_up()
        self.do("rollback", during, disturb)
        host = self.servers.standby
        assert self.rows(VALUES.format("snapshot_ip_types"), host) == self.before


@pytest.mark.parametrize("during", MOMENTS)
@pytest.mark.parametrize("how", ENDS)
def test_a_run_goes_on_on_the_server_that_was_promoted(
    servers: Pair, module: Module, phase: Phase, during: str, how: str
) -> None:
    run = Run(servers, module, phase)
    delay = random.Random(f"{during} {how}").uniform(0, 0.3)

    def disturb() -> None:
        time.sleep(delay)
        servers.fail_over(how)

    run.all(during, disturb)
    servers.renew()
