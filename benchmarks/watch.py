# SPDX-License-Identifier: GPL-3.0-or-later
"""The longest transaction that pgrunbook has open, sampled while it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from benchmarks.database import Database

SAMPLE_S = 0.1

# An index build and a VACUUM are made to run long.
_LONGEST = """
SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds, query
FROM pg_stat_activity
WHERE datname = %s AND application_name LIKE 'pgrunbook/%%'
  AND xact_start IS NOT NULL
  AND query !~* '^\\s*(CREATE\\s+(UNIQUE\\s+)?INDEX|VACUUM)'
ORDER BY 1 DESC LIMIT 1
"""


@dataclass
class Longest:
    """How long it had been open when it was last seen, and what it was doing then."""

    seconds: float = 0.0
    query: str = ""
    failed: str = ""
    """Why the sampling ended before its time, if it did."""


@contextmanager
def longest_transaction(database: Database) -> Iterator[Longest]:
    """Sample until the block ends; what is yielded is complete then.

    Index builds and VACUUM are left out.
    """
    found, done = Longest(), threading.Event()
    sampling = threading.Thread(target=_sample, args=(database, found, done), daemon=True)
    sampling.start()
    try:
        yield found
    finally:
        done.set()
        sampling.join()


def _sample(database: Database, found: Longest, done: threading.Event) -> None:
    try:
        with _elsewhere(database) as conn:
            while not done.wait(SAMPLE_S):
                row = conn.execute(_LONGEST, (database.name,)).fetchone()
                if row and row[0] > found.seconds:
                    found.seconds, found.query = row[0], " ".join(row[1].split())
    except Exception as error:
        found.failed = str(error)


def _elsewhere(database: Database) -> psycopg.Connection[tuple[float, str]]:
    """A session of another database: its snapshots keep no row version of this one from pruning."""
    server = database.server
    return psycopg.connect(
        host=server.host, port=server.port, user=server.user, dbname="postgres", autocommit=True
    )
