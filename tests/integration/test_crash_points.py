# SPDX-License-Identifier: GPL-3.0-or-later
"""Some of the crash points that make crashpoints tries all of: the connection is cut behind one
message, and what follows has to end as without a cut."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import reconnect
from demo import data
from tests.crashpoints.explore import (
    LATER,
    RESCUED,
    STEPS,
    UNDONE,
    Explorer,
    Point,
    explorer,
)
from tests.crashpoints.proxy import GREETING, REPLY, STARTUP, Cut, Proxy
from tests.integration.conftest import Database


@pytest.fixture(scope="module")
def explored() -> Iterator[Explorer]:
    with explorer() as found:
        yield found


def point(explored: Explorer, step: str, kind: str, statement: str, nth: int = 0) -> Point:
    """The point behind the nth message of a step that is of a kind, and of a statement with this
    text. All connections are cut before a statement is sent, one of them afterwards."""
    (number,) = [n for n, each in enumerate(STEPS) if each.name == step]
    found = [
        message
        for message in explored.before[number].messages
        if message.kind == kind and statement in " ".join(message.statement.split())
    ]
    return Point(number, found[nth].number, everything=kind == STARTUP)


POINTS = {
    # A worker's batch: written and not committed, committed without an answer, and answered.
    "a batch is written": ("backfill, catch-up", "Sync", "INSERT INTO pgrunbook.batch", 4, LATER),
    "COMMIT of a batch is sent": ("backfill, catch-up", "Query", "COMMIT", 9, RESCUED),
    "COMMIT of a batch is answered": ("backfill, catch-up", REPLY, "COMMIT", 9, UNDONE),
    "a catch-up pass begins": ("backfill, catch-up", "Sync", "SET sweep =", 0, RESCUED),
    # The server goes on with these when nobody waits for them.
    "the build of an index is sent": (
        "indexes built",
        "Query",
        '"visits_country_kind" ON',
        0,
        LATER,
    ),
    "it is undone at once": ("indexes built", "Query", '"visits_country_kind" ON', 0, UNDONE),
    "a build is answered": ("indexes built", REPLY, '"visits_country_kind" ON', 0, RESCUED),
    "a build is recorded and not sent": ("indexes built", STARTUP, "", 1, UNDONE),
    "COMMIT of the columns is sent": (
        "columns renamed and converted",
        "Query",
        "COMMIT",
        -1,
        RESCUED,
    ),
    "an index is taken back": (
        "indexes taken back",
        "Sync",
        "UPDATE pgrunbook.change SET undone_at",
        0,
        RESCUED,
    ),
    "everything is taken back": ("end of the rollback", STARTUP, "", 0, RESCUED),
}


@pytest.mark.parametrize(("step", "kind", "statement", "nth", "way"), POINTS.values(), ids=POINTS)
def test_ends_as_without_a_cut(
    explored: Explorer, step: str, kind: str, statement: str, nth: int, way: str
) -> None:
    outcome = explored.try_out(point(explored, step, kind, statement, nth), way)
    assert outcome.message and outcome.carried_on and not outcome.wrong, str(outcome)


def test_a_build_that_waits_when_its_connection_is_lost(explored: Explorer) -> None:
    """There is no index yet when the module ends, and there is one afterwards."""
    sent = '"visits_country_kind" ON'
    lost = point(explored, "indexes built", "Query", sent)
    steps = explored.restore(lost.step)
    lock = "LOCK TABLE visits IN SHARE UPDATE EXCLUSIVE MODE"
    with closing(explored.database.connect()) as holder, holder.transaction():
        explored.proxy.at_statement = (sent, lambda: holder.execute(lock))
        failure = explored.do(steps, STEPS[lost.step], Cut(lost.number, everything=False))
        assert "Next step" in failure
    assert explored.carry_on(steps, lost.step, failure, UNDONE) == (True, [])


def test_a_sample_ends_as_without_a_cut(explored: Explorer) -> None:
    """Three points that the dice choose, from a fixed seed."""
    for each in random.Random(15).sample(list(explored.points()), 3):
        outcome = explored.try_out(each)
        assert not outcome.wrong, str(outcome)


@pytest.fixture
def patient(explored: Explorer, monkeypatch: pytest.MonkeyPatch) -> Explorer:
    """Its steps wait for the server, which is there all the time."""
    monkeypatch.setattr(explored, "patience", 30)
    monkeypatch.setattr(reconnect, "FIRST_WAIT", 0.02)
    return explored


def test_a_step_that_waits_for_the_server_goes_on_by_itself(patient: Explorer) -> None:
    """Where a worker's connection is cut while it is opened; where an expression of the phase is
    tried; and three points from a fixed seed."""
    opened = [
        Point(number, message.number)
        for number, before in enumerate(patient.before)
        for message in before.messages
        if message.connection > 1 and 'SHOW "search_path"' in message.statement
    ]
    assert opened
    tried = point(patient, "validation", "Execute", 'AS ( SELECT (t."kind_before_small"[1])')
    for each in (*opened[:5], tried, *random.Random(17).sample(list(patient.points()), 3)):
        outcome = patient.try_out(each)
        assert not outcome.wrong, str(outcome)


def test_there_are_enough_points(explored: Explorer) -> None:
    assert len(list(explored.points())) > 1000


@pytest.fixture
def proxy(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    server = database.server
    found = Proxy(Path(server.host) / f".s.PGSQL.{server.port}", tmp_path)
    found.start()
    yield found
    found.stop()


def through(proxy: Proxy, database: Database) -> psycopg.Connection:
    login = {**proxy.login, "dbname": database.name, "user": data.ROLE}
    return psycopg.connect(**login, autocommit=True, prepare_threshold=None)


def test_what_is_counted(proxy: Proxy, database: Database) -> None:
    with proxy.counting(), closing(through(proxy, database)) as conn:
        conn.execute("SELECT 1")
        conn.execute("SELECT %s", (2,))
    assert [(message.kind, message.statement) for message in proxy.counted] == [
        (STARTUP, ""),
        (GREETING, ""),
        ("Query", "SELECT 1"),
        (REPLY, "SELECT 1"),
        ("Execute", "SELECT $1"),
        ("Sync", "SELECT $1"),
        (REPLY, "SELECT $1"),
        ("Terminate", "SELECT $1"),
    ]


@pytest.mark.parametrize(("number", "written"), [(3, 0), (4, 1), (5, 1)])
def test_what_a_cut_leaves(proxy: Proxy, database: Database, number: int, written: int) -> None:
    """An Execute without its Sync is nothing; with it, the server does it whether or not its answer
    arrives."""
    database.sql("CREATE TABLE written (n int)")
    with (
        proxy.counting(Cut(number, everything=False)),
        pytest.raises(psycopg.OperationalError),
        closing(through(proxy, database)) as conn,
    ):
        conn.execute("INSERT INTO written VALUES (%s)", (1,))
        conn.execute("SELECT 1")
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 20
    while database.sql(others, (database.name,)):  # the server may be at it still
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert database.sql("SELECT count(*) AS n FROM written") == [{"n": written}]


@pytest.mark.parametrize("everything", [True, False])
def test_which_connections_a_cut_is_of(proxy: Proxy, database: Database, everything: bool) -> None:
    with (
        proxy.counting(Cut(6, everything)),
        closing(through(proxy, database)) as one,
        closing(through(proxy, database)) as other,
    ):
        other.execute("SELECT 1")
        assert not is_alive(other)
        assert is_alive(one) is not everything
    assert proxy.hit and proxy.hit.connection == 2


def is_alive(conn: psycopg.Connection) -> bool:
    try:
        conn.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
