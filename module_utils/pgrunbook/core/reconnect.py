# SPDX-License-Identifier: GPL-3.0-or-later
"""Go on after a failover: work whose connection was lost is done again once there is a primary.

The work has to read again what it goes by: which server this is, the approval, how far it is. What
the new primary does not have was not done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from .connection import Connection, one
from .errors import AT_WORK, LOST, RunbookError, reason

FIRST_WAIT, LONGEST_WAIT = 0.5, 5.0  # seconds between two tries to connect
OUTAGE_IS_OVER = 15.0  # seconds that a try has lasted before another failure is another outage

_TERMINATED, _READ_ONLY = "57P01", "25006"
_LOST_STATES = ("08", _TERMINATED, "57P02", "57P03")

Result = TypeVar("Result")


class Reconnecting:
    """Does work, and does it again for as many seconds as there is no primary, 0 for not at all.

    A session that somebody ended is no outage: where the server has been up all the time, the work
    is not done again.
    """

    def __init__(
        self, seconds: float, *, writes: bool, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._seconds, self._writes, self._sleep = seconds, writes, sleep
        self._began: float | None = None
        self._up_since = ""
        self._terminated = False

    def run(self, work: Callable[[], Result]) -> Result:
        """What work() returns. Raises what it raises, unless its connection was lost and there may
        be another one in time."""
        wait = FIRST_WAIT
        while True:
            started = time.monotonic()
            try:
                return work()
            except (psycopg.Error, RunbookError) as error:
                if not self._goes_on_after(error):
                    raise
                last = error
            now = time.monotonic()
            if self._began is None or now - started > OUTAGE_IS_OVER:
                self._began, wait = started if self._began is None else now, FIRST_WAIT
            left = self._began + self._seconds - now
            if left <= 0:
                raise _gave_up(last, self._seconds) from None
            self._sleep(min(wait, left))
            wait = min(wait * 2, LONGEST_WAIT)

    def opened(self, conn: Connection) -> None:
        """Take notice of a connection. Raises RunbookError where the one before was ended by
        somebody, and not by the server."""
        if not self._seconds:
            return
        since = one(conn, "SELECT pg_postmaster_start_time()::text AS since")["since"]
        if self._terminated and since == self._up_since:
            raise RunbookError(
                f"Somebody ended a session of this run (SQLSTATE {_TERMINATED}); the server has "
                "been up all the time. What was committed before is kept. Next step: find out who "
                "and why, then run the playbook again; it goes on where it stopped."
            )
        self._up_since, self._terminated = since, False

    def _goes_on_after(self, error: psycopg.Error | RunbookError) -> bool:
        if not self._seconds:
            return False
        if isinstance(error, RunbookError):
            # A session of ours that was cut off may still hold its lock.
            return error.code == LOST or (error.code == AT_WORK and self._began is not None)
        if not _is_lost(error, writes=self._writes):
            return False
        self._terminated = error.sqlstate == _TERMINATED
        return True


def _is_lost(error: psycopg.Error, *, writes: bool) -> bool:
    """Whether an error says that the connection is gone, or that the server is no primary any more.
    What only reads is told the latter where something of the phase's wants to write."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_LOST_STATES) or (writes and error.sqlstate == _READ_ONLY)


def raise_if_lost(error: psycopg.Error) -> None:
    """Raise an error again that says that the connection is gone, and nothing of what was asked."""
    if _is_lost(error, writes=False):
        raise error


def _gave_up(error: psycopg.Error | RunbookError, seconds: float) -> RunbookError:
    if isinstance(error, RunbookError):
        said, code = str(error), error.code
    else:
        said = f"{reason(error)} (SQLSTATE {error.sqlstate or 'none: the connection is gone'})."
        code = LOST
    return RunbookError(
        f"The connection was lost, and there was no primary to go on with for {seconds:g} s "
        f"(runbook_reconnect_seconds). Last of all: {said} What was committed is kept, apart from "
        "what a standby that is promoted has not received. Next step: see which server is the "
        "primary, then run the playbook again; it goes on where the ledger there says.",
        code=code,
    )
