# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever dies, and when: nothing is lost or done twice, nothing is left behind, a rerun ends it.

The module runs as a process of its own, with batches so small that there is time to kill it; its
signals, its sessions and its server are real. Moments are random, from a fixed seed.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from demo import data
from demo import server as demo_server
from tests.integration.conftest import ROOT, Database, Played, approval_of, command_line
from tests.integration.servers import started
from tests.integration.steps import TABLES, Module, Steps, content
from tests.integration.terminal import Terminal

Phase = dict[str, Any]
Playbook = Callable[..., Played]

PATIENCE_S = 30.0

PROGRAM = """
import json, sys
import tests.conftest
from ansible.module_utils.testing import patch_module_args
import pgrunbook_backfill
with patch_module_args(json.loads(sys.argv[1])):
    pgrunbook_backfill.main()
"""

OURS = """
SELECT a.pid, EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'
                      AND l.objsubid = 2) AS watches
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.application_name LIKE 'pgrunbook/%'
"""
LOCKS = """
SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
JOURNAL = """
SELECT e ->> 0 AS id, e ->> 1 AS asn, e ->> 2 AS country, e ->> 3 AS type
FROM pgrunbook.batch, jsonb_array_elements(journal) e WHERE reverted_at IS NULL
"""
VALUES = """
SELECT session_id AS id, snapshot_asn::text AS asn, snapshot_country AS country,
    {} AS type FROM session_summaries
"""
EXPECTED = """
SELECT session_id AS id, coalesce(snapshot_asn, current_asn)::text AS asn,
    coalesce(snapshot_country, geo_country) AS country, coalesce(snapshot_ip_types, ip_type) AS type
FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip
"""

Rows = dict[str, tuple[str | None, ...]]


class Victim:
    """A database, the run on it, and what its rows were and have to become."""

    def __init__(self, database: Database, module: Module, phase: Phase) -> None:
        self.database = database
        self.before = self._rows(VALUES.format("snapshot_ip_types"))
        self.expected = self._rows(EXPECTED)
        self.content = content(database, *TABLES)
        self.steps = Steps.of(module, database, phase)
        self.steps.begin()
        self.steps.approve("backfill")

    def _rows(self, query: str) -> Rows:
        return {
            row["id"]: (row["asn"], row["country"], row["type"]) for row in self.database.sql(query)
        }

    def rows(self) -> Rows:
        return self._rows(VALUES.format("snapshot_ip_type"))

    def start(self, state: str) -> subprocess.Popen[str]:
        """The module as a process, which works until it is done or dies."""
        arguments = {
            "login": self.database.login,
            "spec": self.steps.spec,
            "run": self.steps.planned["run"],
            "state": state,
        }
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def take_over(self, state: str) -> None:
        """The next execution, an hour later."""
        self.database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        if state == "reverted":
            self.steps.plan(rollback_of=self.steps.planned["run"]["id"])
            self.steps.approve("rollback")
            return
        run = self.steps.planned["run"]["id"]
        self.steps.plan()
        assert self.steps.planned["run"]["id"] == run
        self.steps.approve("plan")
        self.steps.approve("backfill")

    def check(self) -> None:
        """Nobody is left, and the rows that differ from before are just those in the journal."""
        self.wait_until_nobody_is_left()
        now, changed = self.rows(), {}
        for id, values in self.before.items():
            pairs = list(zip(values, now[id], strict=True))
            assert all(old in (None, new) for old, new in pairs), "a value was overwritten"
            if values != now[id]:
                changed[id] = tuple(new if old is None else None for old, new in pairs)
        journal = self.database.sql(JOURNAL)
        assert len({entry["id"] for entry in journal}) == len(journal), "twice in the journal"
        assert self._rows(JOURNAL) == changed

    def wait_until_nobody_is_left(self) -> None:
        """The server notices that a client is gone when it next reads from it."""
        until(lambda: not self.database.sql(OURS), "sessions of pgrunbook are left")
        assert self.database.sql(LOCKS) == [{"n": 0}]

    def finish(self) -> None:
        """A rerun that nobody disturbs, in larger batches, and its result."""
        self.steps.spec |= {"batch_rows": 15, "batch_target_ms": 50}
        self.take_over("present")
        ended(self.start("present"))
        self.check()
        assert self.rows() == self.expected


def until(condition: Callable[[], Any], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.005)


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What the module returned."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert out, err
    result: dict[str, Any] = json.loads(out)
    return result


def wait_for_batches(
    conn: psycopg.Connection[Any], process: subprocess.Popen[str], state: str, more: int
) -> None:
    """Until the process has done so many batches, or ended."""
    column = "id" if state == "present" else "reverted_at"
    query = f"SELECT count({column}) AS n FROM pgrunbook.batch"

    def batches() -> int:
        found = conn.execute(query).fetchall()
        return int(found[0]["n"])

    enough = batches() + more
    until(
        lambda: process.poll() is not None or batches() >= enough,
        "the module does nothing",
    )


@pytest.fixture
def slow(phase: Phase) -> Phase:
    """Many small batches, in a single slice."""
    return {
        **phase,
        "phase_batch_rows": 8,
        "phase_batch_target_ms": 1,
        "phase_slice_seconds": 600,
        "phase_queries": [],
    }


@pytest.mark.parametrize(
    ("strategy", "workers"), [("ranges", 1), ("interleaved", 3), ("keyset", 3)]
)
def test_killed_again_and_again(
    database: Database, module: Module, slow: Phase, strategy: str, workers: int
) -> None:
    """SIGKILL at random moments on the way there and on the way back."""
    chance = random.Random(f"{strategy} {workers}")
    victim = Victim(
        database, module, {**slow, "phase_strategy": strategy, "phase_workers": workers}
    )
    kills = kill_repeatedly(victim, "present", 5, chance)
    victim.finish()
    victim.steps.do("run", state="finished")
    victim.steps.plan(rollback_of=victim.steps.planned["run"]["id"])
    victim.steps.approve("rollback")
    kills += kill_repeatedly(victim, "reverted", 4, chance)
    assert kills >= 5
    victim.take_over("reverted")
    assert ended(victim.start("reverted"))["rows_left_alone"] == 0
    victim.check()
    assert victim.rows() == victim.before
    victim.steps.do("index", state="reverted")
    victim.steps.do("column", state="reverted")
    assert content(database, *TABLES) == victim.content


def kill_repeatedly(victim: Victim, state: str, times: int, chance: random.Random) -> int:
    """Start and kill, now after some batches and now after some time, and let the same execution
    or another one go on. How many times it was not too late."""
    kills = 0
    with closing(victim.database.connect()) as conn:
        for number in range(times):
            process = victim.start(state)
            if chance.random() < 0.75:
                wait_for_batches(conn, process, state, chance.randint(1, 40))
                time.sleep(chance.random() / 100)
            else:
                time.sleep(chance.uniform(0.2, 1.0))
            kills += process.poll() is None
            process.kill()
            process.communicate()
            victim.check()
            if number % 2:
                victim.take_over(state)
    return kills


def sessions(database: Database, *, watching: bool) -> list[int]:
    found = database.sql(OURS)
    assert found
    return [row["pid"] for row in found if row["watches"] is watching]


WAYS = {
    "terminate the watching session": ("pg_terminate_backend", True),
    "terminate a worker": ("pg_terminate_backend", False),
    "cancel a worker": ("pg_cancel_backend", False),
}


@pytest.mark.parametrize("state", ["present", "reverted"])
@pytest.mark.parametrize(("function", "watching"), WAYS.values(), ids=WAYS.keys())
def test_sessions_ended_by_somebody(
    database: Database, module: Module, slow: Phase, function: str, watching: bool, state: str
) -> None:
    chance = random.Random(f"{function} {watching}")
    victim = Victim(database, module, {**slow, "phase_workers": 2})
    if state == "reverted":
        victim.finish()
        victim.steps.do("run", state="failed")
        victim.take_over("reverted")
    with closing(database.connect()) as conn:
        process = victim.start(state)
        wait_for_batches(conn, process, state, chance.randint(5, 40))
        (pid, *_) = sessions(database, watching=watching)

        def over() -> bool:
            """Again and again: a session that is idle for the moment is not cancelled."""
            conn.execute(f"SELECT {function}(%s)", (pid,))
            return process.poll() is not None

        until(over, "the module does not end")
    result = ended(process)
    assert result.get("failed"), result
    assert "Next step" in result["msg"]
    victim.check()
    if state == "present":
        victim.finish()
    else:
        victim.take_over("reverted")
        ended(victim.start("reverted"))
        victim.check()
        assert victim.rows() == victim.before


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Database, Path]]:
    """A database on a server of its own, which may crash."""
    with started("kill", sessions=2000) as (server, path):
        yield Database(server, data.DATABASE), path


def test_server_crashes(own: tuple[Database, Path], module: Module, slow: Phase) -> None:
    """Twice on the way there and once on the way back."""
    database, path = own
    victim = Victim(database, module, {**slow, "phase_workers": 2})
    for batches in (10, 40):
        crash(victim, path, "present", batches)
        victim.take_over("present")
    victim.finish()
    victim.steps.do("run", state="failed")
    victim.take_over("reverted")
    crash(victim, path, "reverted", 20)
    victim.take_over("reverted")
    ended(victim.start("reverted"))
    victim.check()
    assert victim.rows() == victim.before


def crash(victim: Victim, path: Path, state: str, batches: int) -> None:
    """Stop the server at once while the module works, and start it again."""
    with closing(victim.database.connect()) as conn:
        process = victim.start(state)
        wait_for_batches(conn, process, state, batches)
        # Its commit waits until the batches before it are on the disk as well.
        conn.execute("SELECT pg_logical_emit_message(true, 'test', '')")
    pg_ctl = str(victim.database.server.bin_dir / "pg_ctl")
    stopped = demo_server.run_program([pg_ctl, "stop", "-m", "immediate", "-D", "."], path)
    assert stopped.returncode == 0, stopped.stdout
    result = ended(process)
    assert result.get("failed"), result
    assert "Next step" in result["msg"]
    demo_server.start(path, 18)
    victim.check()
    assert victim.rows() not in (victim.before, victim.expected)


def test_ctrl_c_stops_the_playbook(
    database: Database, module: Module, slow: Phase, tmp_path: Path
) -> None:
    """Nothing goes on behind its back, and the next run ends it."""
    expected = database.sql(EXPECTED + " ORDER BY 1")
    slow |= {"phase_batch_rows": 1, "phase_slice_seconds": 1}  # it may end the one at hand
    approval = approval_of(module, database, slow)
    command = command_line(tmp_path, database.login, "phase3", "-e", approval, phase=slow)
    with Terminal(command, ROOT) as person, closing(database.connect()) as conn:
        person.wait_for(r"TASK \[runbook : Fill the rows")
        until(lambda: rows_filled(conn) > slow["phase_canary_rows"] + 20, "nothing is filled")
        children = descendants(person.pid)
        assert children
        os.write(person.fd, b"\x03")
        assert person.status() != 0, person.output
    until(lambda: not any(alive(pid) for pid in children), "a process is left")
    until(lambda: not database.sql(OURS), "a session is left")
    assert database.sql(LOCKS) == [{"n": 0}]
    assert expected != database.sql(VALUES.format("snapshot_ip_type") + " ORDER BY 1")

    database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    slow |= {"phase_batch_rows": 500, "phase_batch_target_ms": 100}
    Steps.of(module, database, slow).forward()
    assert expected == database.sql(VALUES.format("snapshot_ip_type") + " ORDER BY 1")
    ids = [entry["id"] for entry in database.sql(JOURNAL)]
    assert len(ids) == len(set(ids))


def rows_filled(conn: psycopg.Connection[Any]) -> int:
    query = "SELECT coalesce(sum(row_count), 0) AS n FROM pgrunbook.batch"
    return int(conn.execute(query).fetchall()[0]["n"])


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that they have."""
    parents = {
        int(path.name): int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        for path in Path("/proc").glob("[0-9]*")
        if (path / "stat").exists()
    }
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
