# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's own server, the data of each size, and a fresh copy for every measurement."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composed, Identifier

from benchmarks import machine
from demo import data
from demo import server as demo_server

POSTGRES_VERSION = 18
SHOWN_SETTINGS = (
    "shared_buffers",
    "max_wal_size",
    "wal_compression",
    "full_page_writes",
    "fsync",
    "synchronous_commit",
    "checkpoint_timeout",
    "autovacuum",
)

_COPY = "bench_copy"
_SCRATCH = "bench_scratch"
_MIB = 1024 * 1024
_GIB = 1024 * _MIB
_STATISTICS_WAIT_S = 10

Connection = psycopg.Connection[dict[str, Any]]

# The application chooses sessions by number, because random() gives numbers.
_KEY_TABLE = """
CREATE TABLE bench_key AS
SELECT row_number() OVER (ORDER BY session_id)::int AS number, session_id FROM session_summaries;
ALTER TABLE bench_key ADD PRIMARY KEY (number);
"""

# What every way has to produce, computed from the untouched data.
_EXPECTED = """
SELECT t.session_id, coalesce(t.snapshot_asn, s.current_asn) AS asn,
       coalesce(t.snapshot_country, s.geo_country) AS country,
       coalesce(t.snapshot_ip_types, s.ip_type) AS type,
       (t.snapshot_asn IS NULL AND s.current_asn IS NOT NULL
        OR t.snapshot_country IS NULL AND s.geo_country IS NOT NULL
        OR t.snapshot_ip_types IS NULL AND s.ip_type IS NOT NULL) IS TRUE AS eligible
FROM session_summaries t LEFT JOIN ip_inventory s ON t.source_ip = s.ip_address
"""
_UNTOUCHED = """
SELECT session_id, snapshot_asn AS asn, snapshot_country AS country, snapshot_ip_types AS type,
       false AS eligible
FROM session_summaries
"""
_FOUND = """
SELECT session_id, snapshot_asn AS asn, snapshot_country AS country, snapshot_ip_type AS type,
       false AS eligible
FROM session_summaries
"""
_FINGERPRINT = """
SELECT count(*) AS rows, count(*) FILTER (WHERE eligible) AS eligible,
       coalesce(sum(hashtextextended(
           jsonb_build_array(session_id, asn, country, type)::text, 0)), 0)::text AS hash
FROM ({}) r WHERE session_id <= %s OR %s::text IS NULL
"""

_INDEXES = """
SELECT array_agg(pg_get_indexdef(indexrelid)) AS definitions FROM pg_index
WHERE indrelid = 'session_summaries'::regclass AND indisvalid
"""

_SIZES = """
SELECT pg_relation_size('session_summaries') AS table_bytes,
       pg_indexes_size('session_summaries') AS index_bytes,
       (SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
        WHERE relkind = 'r' AND relnamespace = to_regnamespace('pgrunbook')) AS journal_bytes
"""


@dataclass(frozen=True)
class Fingerprint:
    """All rows' key and three columns in one number, and how many rows there are and could gain."""

    rows: int
    eligible: int
    hash: str


@dataclass(frozen=True)
class Database:
    """One database of the server: a template with the drifted data, or a copy of it."""

    server: demo_server.Server
    name: str

    @property
    def login(self) -> dict[str, Any]:
        """libpq's parameters for the role that owns the tables."""
        return {
            "host": self.server.host,
            "port": self.server.port,
            "dbname": self.name,
            "user": data.ROLE,
        }

    def connect(self) -> Connection:
        """A connection in autocommit mode whose statements are planned for their values."""
        conn = Connection.connect(**self.login, autocommit=True, row_factory=dict_row)
        conn.prepare_threshold = None
        return conn

    def one(self, query: str, parameters: Any = None) -> dict[str, Any]:
        """The single row that a query gives."""
        with self.connect() as conn:
            row = conn.execute(query, parameters).fetchone()
        assert row is not None, "the query gives one row"
        return row

    def indexes(self) -> list[str]:
        """The definitions of the table's valid indexes."""
        return sorted(self.one(_INDEXES)["definitions"])

    def renamed_indexes(self) -> list[str]:
        """The same, with the column's right name."""
        found = self.indexes()
        return sorted(text.replace("snapshot_ip_types", "snapshot_ip_type") for text in found)

    def run(self, *statements: str) -> None:
        """Run statements one after the other, each on its own."""
        with self.connect() as conn:
            for statement in statements:
                conn.execute(statement)

    def expected(self, last_key: str | None = None) -> Fingerprint:
        """What the table has to hold in the end, up to a key; only of a template."""
        return Fingerprint(**self.one(_FINGERPRINT.format(_EXPECTED), (last_key, last_key)))

    def found(self, last_key: str | None = None) -> Fingerprint:
        """What the table holds, up to a key; only of a copy whose columns have been renamed."""
        return Fingerprint(**self.one(_FINGERPRINT.format(_FOUND), (last_key, last_key)))

    def untouched(self) -> Fingerprint:
        """What the table holds while a column has its wrong name: before, or given back."""
        return Fingerprint(**self.one(_FINGERPRINT.format(_UNTOUCHED), (None, None)))

    def warm(self) -> None:
        """Read each row once through the primary key, so that no way starts on a colder cache."""
        with self.connect() as conn:
            conn.execute("SET enable_seqscan = off")
            conn.execute("SET enable_bitmapscan = off")
            conn.execute("SELECT count(risk_score) FROM session_summaries WHERE session_id > ''")
            conn.execute("SELECT count(*), max(ip_type) FROM ip_inventory WHERE ip_address > ''")

    def sizes(self) -> dict[str, int]:
        """Bytes of the table, its indexes and pgrunbook's own tables (0 where there are none)."""
        return self.one(_SIZES)

    def hot_percent(self, rows: int) -> float:
        """The share of row versions that needed no index entry, once rows updates are counted.

        Sessions report their statistics when they end or once a second, so this waits for them.
        """
        query = (
            "SELECT n_tup_upd AS updated, n_tup_hot_upd AS hot FROM pg_stat_user_tables"
            " WHERE relname = 'session_summaries'"
        )
        give_up = time.monotonic() + _STATISTICS_WAIT_S
        while (row := self.one(query))["updated"] < rows and time.monotonic() < give_up:
            time.sleep(0.2)
        return round(100 * row["hot"] / row["updated"], 1) if row["updated"] else 0.0


class Cluster:
    """The benchmark's server, from its start to its end."""

    def __init__(self, server: demo_server.Server) -> None:
        self.server = server

    def settings(self) -> dict[str, str]:
        """PostgreSQL's version and the settings that matter, as the server shows them."""
        with self._admin() as conn:
            names = ("server_version", *SHOWN_SETTINGS)
            rows = [conn.execute(SQL("SHOW {}").format(Identifier(n))).fetchone() for n in names]
        return {name: str(row[0]) for name, row in zip(names, rows, strict=True) if row}

    def wal_position(self) -> int:
        """Bytes of WAL written since the server was made."""
        with self._admin() as conn:
            row = conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert row is not None
        return int(row[0])

    def checkpoint(self) -> None:
        """Write everything back, so that a measurement pays for its own full-page images only."""
        with self._admin() as conn:
            conn.execute("CHECKPOINT")

    def template(self, sessions: int) -> Database:
        """The drifted data of that size, built where it is not there yet."""
        database = Database(self.server, f"bench_{sessions}")
        with self._admin() as conn:
            query = "SELECT FROM pg_database WHERE datname = %s"
            if conn.execute(query, (database.name,)).rowcount:
                return database
            built = self._data(conn, sessions)
            built.run(_KEY_TABLE, "VACUUM (FREEZE, ANALYZE) bench_key")
            _rename(conn, built, database)
        return database

    @contextmanager
    def scratch(self, sessions: int) -> Iterator[Database]:
        """The drifted data of that size, built anew to be written to, and dropped afterwards."""
        database = Database(self.server, _SCRATCH)
        with self._admin() as conn:
            conn.execute(_drop(_SCRATCH))
            _rename(conn, self._data(conn, sessions), database)
        try:
            yield database
        finally:
            with self._admin() as conn:
                conn.execute(_drop(_SCRATCH))

    def _data(self, conn: psycopg.Connection[tuple[Any, ...]], sessions: int) -> Database:
        conn.execute(_drop(data.DATABASE))
        data.create(self._conninfo(), sessions=sessions)
        return Database(self.server, data.DATABASE)

    @contextmanager
    def copy(self, template: Database) -> Iterator[Database]:
        """A fresh copy of a template, dropped afterwards."""
        with self._admin() as conn:
            conn.execute(_drop(_COPY))
            conn.execute(
                SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                    Identifier(_COPY), Identifier(template.name), Identifier(data.ROLE)
                )
            )
        try:
            yield Database(self.server, _COPY)
        finally:
            with self._admin() as conn:
                conn.execute(_drop(_COPY))

    def _admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self._conninfo(), autocommit=True)

    def _conninfo(self) -> str:
        server = self.server
        return make_conninfo(
            host=server.host, port=server.port, user=server.user, dbname="postgres"
        )


@contextmanager
def cluster(folder: Path, profile: str) -> Iterator[Cluster]:
    """Start the server in a folder of its own, with a profile's settings, and stop it at the end.

    Raises ServerError where another benchmark is at work in this folder.
    """
    with _alone(folder):
        data_dir = folder / "pgdata"
        demo_server.stop(data_dir)  # one that a killed benchmark left behind
        server = demo_server.start(data_dir, POSTGRES_VERSION, _profile_settings(profile, folder))
        try:
            yield Cluster(server)
        finally:
            demo_server.stop(data_dir)


def delete(folder: Path) -> bool:
    """Stop a server left behind and delete the folder. Returns whether there was one."""
    if not folder.exists():
        return False
    with _alone(folder):
        demo_server.destroy(folder / "pgdata")
    shutil.rmtree(folder)
    return True


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise demo_server.ServerError(f"another benchmark is at work in {folder}") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _profile_settings(profile: str, folder: Path) -> dict[str, str]:
    """production is scaled down where memory or disk are small; defaults is what initdb leaves."""
    if profile == "defaults":
        return {"shared_buffers": "128MB", "max_wal_size": "1GB"}
    shared_buffers = min(2 * _GIB, machine.memory_bytes() // 4)
    max_wal_size = max(_GIB, min(8 * _GIB, shutil.disk_usage(folder).free // 4))
    return {
        "shared_buffers": f"{shared_buffers // _MIB}MB",
        "max_wal_size": f"{max_wal_size // _MIB}MB",
    }


def _rename(
    conn: psycopg.Connection[tuple[Any, ...]], database: Database, wanted: Database
) -> None:
    rename = SQL("ALTER DATABASE {} RENAME TO {}")
    conn.execute(rename.format(Identifier(database.name), Identifier(wanted.name)))


def _drop(name: str) -> Composed:
    return SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
