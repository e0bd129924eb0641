# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut the small run behind one message after another, and see what becomes of each.

What comes after a cut depends on the state of the database that it left, and on nothing else. Most
messages leave the state that the one before had left, so the run is carried to its end once from
each state, and a point that leads to it again counts as that one. The aftermaths take turns, and
all come to each state that the schema step leaves: the playbook's rescue, or an hour in which
nothing happens, and then the run again and its rollback; or the rollback at once.
"""

from __future__ import annotations

import copy as copies
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg

from ansible.module_utils.pgrunbook.plan import rollback_plan
from tests.crashpoints import person, state
from tests.crashpoints.proxy import Cut, Message, Proxy
from tests.crashpoints.small_run import (
    NEXT_PASS,
    ROLLBACK,
    RUN,
    TEMPLATE,
    WRONG,
    SmallRun,
    Step,
    copy,
    make_template,
    rows_held,
    steps_through,
)
from tests.integration.conftest import Database
from tests.integration.servers import started, superuser

WORK, WORK_OID = "work", 99999
STEPS = (*RUN, *ROLLBACK)
ON, RESCUED, LATER, UNDONE = "gone on", "rescued", "an hour later", "rolled back at once"


@dataclass(frozen=True)
class Point:
    """Where to cut: the step, the number of the message in it, and whether all connections that are
    open then, or the message's own."""

    step: int
    number: int
    everything: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a point: the message that was cut, None where the step had ended before it;
    what was wrong; and whether the run went on to its end from here, or had done so from the same
    state."""

    point: Point
    message: Message | None
    wrong: tuple[str, ...] = ()
    carried_on: bool = False
    seconds: float = 0.0

    def __str__(self) -> str:
        cut = "all connections" if self.point.everything else "its connection"
        return "\n  ".join(
            [
                f"{STEPS[self.point.step].name}, message {self.point.number}, {cut} cut",
                str(self.message),
                *self.wrong,
            ]
        )


@dataclass
class _Before:
    """What there is before a step of the uncut run, and the messages of the step."""

    database: str
    steps: SmallRun
    state: str
    messages: list[Message] = field(default_factory=list)


class Explorer:
    """One server, with the uncut run as it was before each step."""

    patience = 0
    """For how many seconds a step that is cut waits for a primary: unless it is 0, the step has to
    go on by itself, because the server is there all the time."""

    def __init__(self, server: Any, folder: Path, admin: psycopg.Connection[Any]) -> None:
        self._admin = admin
        self.proxy = Proxy(Path(server.host) / f".s.PGSQL.{server.port}", folder)
        self.proxy.start()
        self.database = Database(server, WORK)
        self._clean = -1  # before which step the work database is
        self._done: dict[str, set[str]] = {}  # aftermaths, by the state that they began with
        self.before: list[_Before] = []
        self.finished: state.State = {}
        self.given_back: state.State = {}

    def stop(self) -> None:
        self.proxy.stop()

    def go_uncut(self) -> None:
        """The run and its rollback, with a copy of the database before each step."""
        copy(self._admin, WORK, TEMPLATE, WORK_OID)
        beginning = state.content(self.database, *state.TABLES)
        steps = steps_through({**self.database.login, **self.proxy.login})
        for number, step in enumerate(STEPS):
            if step is ROLLBACK[0]:
                self.finished = state.finished(self.database)
                assert not (wrong := self.database.sql(WRONG)), wrong
                steps.undoes = steps.planned["run"]["id"]
            here = _Before(f"before_{number}", copies.deepcopy(steps), self._state())
            copy(self._admin, here.database, WORK)
            self.do(steps, step)
            here.messages = self.proxy.counted
            self.before.append(here)
        self.given_back = state.given_back(self.database)
        taken_back = {"entries taken back": self.finished["journal"], "journal": []}
        differ = state.differences(self.given_back, {**beginning, **taken_back})
        assert not differ, differ

    def points(self) -> Iterator[Point]:
        """All points. Where one connection is open, to cut it and to cut all is the same."""
        for number, before in enumerate(self.before):
            for message in before.messages if STEPS[number].counted else ():
                yield Point(number, message.number)
                if message.open > 1:
                    yield Point(number, message.number, everything=True)

    def try_out(self, point: Point, way: str = "") -> Outcome:
        """Cut, and compare what follows with the uncut run. way is the aftermath, where it is not
        to be the one whose turn it is."""
        began = time.monotonic()
        number, step = point.step, STEPS[point.step]
        steps = self.restore(number)
        failure = self.do(steps, step, Cut(point.number, point.everything))
        message, carried_on, wrong = self.proxy.hit, False, _said(failure)
        if failure and self.patience:
            wrong = [f"did not go on by itself: {failure}"]
        if message and not wrong:
            try:
                carried_on, wrong = self.carry_on(steps, number, failure, way)
            except AssertionError as error:
                wrong = [f"not carried on: {error}"]
        if not message or wrong:
            self._clean = -1
        return Outcome(point, message, tuple(wrong), carried_on, time.monotonic() - began)

    def do(self, steps: SmallRun, step: Step, cut: Cut | None = None) -> str:
        """Do a step; how it failed, empty where it did not."""
        with self.proxy.counting(cut), self._held(step):
            try:
                step.do(steps)
            except AssertionError as error:
                if cut is None:
                    raise
                return str(error) or "failed"
        return ""

    @contextmanager
    def _held(self, step: Step) -> Iterator[None]:
        if not step.holds_rows:
            yield
            return
        with rows_held(self.database) as release:
            self.proxy.at_statement = (NEXT_PASS, release)
            yield
            self.proxy.at_statement = None

    def restore(self, number: int) -> SmallRun:
        """The work database as it was before a step, and the steps."""
        if self._clean != number:
            copy(self._admin, WORK, self.before[number].database, WORK_OID)
            self._clean = number
        steps = copies.deepcopy(self.before[number].steps)
        steps.planned["run"]["reconnect_seconds"] = self.patience
        return steps

    def _state(self) -> str:
        with state.one_session(self.database) as session:
            state.wait_until_nobody_is_left(session)
            return hashlib.sha256(repr(state.everything(session)).encode()).hexdigest()

    def carry_on(
        self, steps: SmallRun, number: int, failure: str, way: str
    ) -> tuple[bool, list[str]]:
        """Do what comes after a cut, unless that was done from the same state. Whether it was
        necessary, and what was wrong."""
        step, now = STEPS[number], self._state()
        if now != self.before[number].state:
            self._clean = -1
        way = way or self._aftermath(step, failure, now)
        if not way:
            return False, []
        self._clean = -1
        if failure and way == RESCUED:
            person.rescue(steps, step)
        elif failure:
            person.later(self.database)
        finish = self._undone if way == UNDONE else self._to_the_end
        return True, [f"{way}: {line}" for line in finish(steps, number, failure)]

    def _undone(self, steps: SmallRun, *_: object) -> list[str]:
        """The rollback of what there is, if the ledger knows of a run."""
        if not state.has_ledger(self.database):
            return []
        person.roll_back(steps, self.database)
        of_whole_runs = ("entries taken back", "runs with rows", "runs that did not end")
        expected = {k: v for k, v in self.given_back.items() if k not in of_whole_runs}
        return self._compared(state.given_back, expected)

    def _aftermath(self, step: Step, failure: str, now: str) -> str:
        """What is to come after a cut; empty where that was done from the same state."""
        if not failure:
            ways, kind = [ON], step.name
        else:
            ways = [RESCUED] * bool(step.rescue) + [LATER] + [UNDONE] * (step in RUN)
            kind = f"{step in RUN} {step.rescue}"
        here = f"{kind} {now}"
        if step.rescue != "schema":
            ways = ways[len(self._done) % len(ways) :][:1] if here not in self._done else []
        done = self._done.setdefault(here, set())
        way = next((way for way in ways if way not in done), "")
        done.add(way)
        return way

    def _to_the_end(self, steps: SmallRun, number: int, failure: str) -> list[str]:
        """The run, or what is left of it where the step did not fail, then the rollback."""
        wrong: list[str] = []
        if number < len(RUN):
            for step in RUN if failure else RUN[number + 1 :]:
                step.do(steps)
            wrong = self._compared(state.finished, self.finished)
            person.roll_back(steps, self.database)
        elif failure:
            person.roll_back(steps, self.database)
        else:
            for step in STEPS[number + 1 :]:
                step.do(steps)
        return wrong + [
            f"after the rollback, {line}"
            for line in self._compared(state.given_back, self.given_back)
        ]

    def _compared(
        self, look: Callable[[Database], state.State], expected: state.State
    ) -> list[str]:
        """What differs from the uncut run, once nobody is at work."""
        with state.one_session(self.database) as session:
            state.wait_until_nobody_is_left(session)
            return state.differences(look(session), expected)


def _said(failure: str) -> list[str]:
    """What is wrong with how a step failed: a person has to be told what to do."""
    if not failure or ("Next step" in failure and "A mistake in pgrunbook" not in failure):
        return []
    return [f"failed with: {failure}"]


@contextmanager
def explorer() -> Iterator[Explorer]:
    """A server of its own, and the uncut run on it."""
    with (
        tempfile.TemporaryDirectory(prefix="pgrunbook-proxy-") as folder,
        started("crashpoints") as (server, _),
        psycopg.connect(superuser(server), autocommit=True) as admin,
        patch.object(rollback_plan, "WORTH_ROWS", 1),  # the indexes of a small table go, too
    ):
        make_template(server)
        found = Explorer(server, Path(folder), admin)
        try:
            found.go_uncut()
            yield found
        finally:
            found.stop()
