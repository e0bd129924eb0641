# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo database on real embedded servers: what is in it, and how its command line behaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg.conninfo import make_conninfo
from sqlalchemy import create_engine

from demo import data, server
from models.session_snapshots import Base
from tests.integration.servers import log_kept, started

SESSIONS = 3000
CONTENT = ("472a5a828574f7eaa2a48d0f6f50d05b", "3631f340159d7f108ee84be59bdb732b")
ROOT = Path(__file__).resolve().parents[2]


def _conninfo(found: server.Server, user: str = server.SUPERUSER) -> str:
    return make_conninfo(host=found.host, port=found.port, user=user)


def _connect(found: server.Server) -> psycopg.Connection:
    return psycopg.connect(_conninfo(found, data.ROLE), dbname=data.DATABASE, autocommit=True)


def _drop_database(found: server.Server) -> None:
    with psycopg.connect(_conninfo(found), dbname="postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {data.DATABASE} WITH (FORCE)")


def _one(connection: psycopg.Connection, query: str) -> tuple:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _content_hash(found: server.Server) -> tuple:
    with _connect(found) as connection:
        return _one(
            connection,
            """
            SELECT (SELECT md5(string_agg(md5(s::text), '' ORDER BY session_id))
                    FROM session_summaries s),
                   (SELECT md5(string_agg(md5(i::text), '' ORDER BY ip_address))
                    FROM ip_inventory i)
            """,
        )


@pytest.fixture(scope="module", params=[16, 18])
def demo_server(request: pytest.FixtureRequest) -> Iterator[server.Server]:
    with started("demo", request.param, sessions=SESSIONS) as (found, _):
        yield found


@pytest.fixture
def connection(demo_server: server.Server) -> Iterator[psycopg.Connection]:
    with _connect(demo_server) as opened:
        yield opened


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pgrunbook-demo-") as path:
        yield Path(path)


@pytest.fixture
def data_dir(folder: Path) -> Iterator[Path]:
    path = folder / "pgdata"
    with log_kept(path / "server.log"):
        yield path
    server.destroy(path)


def test_rows_are_the_same_on_every_version(demo_server: server.Server) -> None:
    assert _content_hash(demo_server) == CONTENT


def test_same_seed_again_and_another_seed(data_dir: Path) -> None:
    found = server.start(data_dir)
    hashes = []
    for seed in (7, 7, 8):
        data.create(_conninfo(found), sessions=data.MIN_SESSIONS, seed=seed)
        hashes.append(_content_hash(found))
        _drop_database(found)
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_row_counts(connection: psycopg.Connection) -> None:
    assert _one(connection, "SELECT count(*) FROM session_summaries") == (SESSIONS,)
    assert _one(connection, "SELECT count(*) FROM ip_inventory") == (69,)


def test_number_of_addresses_is_that_of_production() -> None:
    assert data._address_count(1_682_827) == 38_864
    assert data._address_count(data.MIN_SESSIONS) == 50


@pytest.mark.parametrize(
    ("asn", "country", "share"),
    [(45102, "CN", 0.11), (14061, "US", 0.06), (8075, "US", 0.025), (16276, "FR", 0.02)],
)
def test_share_of_network(
    connection: psycopg.Connection, asn: int, country: str, share: float
) -> None:
    (count,) = _one(
        connection,
        f"""SELECT count(*) FROM session_summaries JOIN ip_inventory ON ip_address = source_ip
            WHERE current_asn = {asn} AND geo_country = '{country}'""",
    )
    assert count / SESSIONS == pytest.approx(share, rel=0.02)


def test_share_of_chinese_data_centres(connection: psycopg.Connection) -> None:
    (count,) = _one(
        connection,
        """SELECT count(*) FROM session_summaries JOIN ip_inventory ON ip_address = source_ip
           WHERE geo_country = 'CN' AND ip_type = 'DATACENTER'""",
    )
    assert 0.05 < count / SESSIONS < 0.16


def test_few_addresses_make_most_sessions(connection: psycopg.Connection) -> None:
    (busiest,) = _one(
        connection,
        """SELECT sum(session_count)
           FROM (SELECT session_count FROM ip_inventory ORDER BY 1 DESC LIMIT 21) top""",
    )
    assert busiest / SESSIONS > 0.5


def test_incomplete_sources_leave_a_reachable_coverage(connection: psycopg.Connection) -> None:
    coverage = _one(
        connection,
        """SELECT count(current_asn), count(geo_country), count(ip_type)
           FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip""",
    )
    assert all(0.95 * SESSIONS < count < SESSIONS for count in coverage)
    incomplete = _one(
        connection,
        """SELECT count(*) FILTER (WHERE geo_country IS NULL),
                  count(*) FILTER (WHERE ip_type IS NULL),
                  count(*) FILTER (WHERE current_asn IS NULL),
                  count(*) FILTER (WHERE coalesce(geo_country, ip_type, current_asn::text) IS NULL)
           FROM ip_inventory""",
    )
    assert incomplete == (2, 2, 2, 1)


def test_null_sources_and_orphans(connection: psycopg.Connection) -> None:
    nulls, orphans = _one(
        connection,
        """SELECT count(*) FILTER (WHERE source_ip IS NULL),
                  count(*) FILTER (WHERE source_ip IS NOT NULL AND ip_address IS NULL)
           FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip""",
    )
    assert nulls == round(0.003 * SESSIONS)
    assert orphans == 0


def test_snapshots_that_are_there_already(connection: psycopg.Connection) -> None:
    filled, partly, wrong = _one(
        connection,
        """SELECT count(*) FILTER (WHERE n = 3), count(*) FILTER (WHERE n = 1),
                  count(*) FILTER (WHERE n = 2 OR snapshot_asn <> current_asn
                                   OR snapshot_country <> geo_country
                                   OR snapshot_ip_types <> ip_type)
           FROM (SELECT *, num_nonnulls(snapshot_asn, snapshot_country, snapshot_ip_types) AS n
                 FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip) joined""",
    )
    assert filled == pytest.approx(0.005 * SESSIONS, abs=2)
    assert partly == pytest.approx(0.001 * SESSIONS, abs=1)
    assert wrong == 0


def test_inventory_agrees_with_its_document_and_the_sessions(
    connection: psycopg.Connection,
) -> None:
    differences = _one(
        connection,
        """SELECT count(*) FILTER (WHERE
                      geo_country IS DISTINCT FROM enrichment->'maxmind'->>'country'
                      OR ip_type IS DISTINCT FROM enrichment->'spur'->'client'->>'types'
                      OR current_asn IS DISTINCT FROM (enrichment->'cymru'->>'asn')::integer
                      OR is_scanner <> (enrichment->'greynoise'->>'noise')::boolean),
                  count(*) FILTER (WHERE (session_count, first_seen, last_seen)
                                   IS DISTINCT FROM (s.count, s.first, s.last))
           FROM ip_inventory LEFT JOIN LATERAL (
               SELECT count(*), min(first_event_at) AS first, max(last_event_at) AS last
               FROM session_summaries WHERE source_ip = ip_address) s ON true""",
    )
    assert differences == (0, 0)


def test_indexes(connection: psycopg.Connection) -> None:
    rows = connection.execute(
        """SELECT indexrelid::regclass::text FROM pg_index
           WHERE indrelid = 'session_summaries'::regclass AND indisvalid"""
    ).fetchall()
    names = {name for (name,) in rows}
    assert len(names) == len(rows) == 12
    assert {
        "session_summaries_pkey",
        "ix_session_summaries_snapshot_asn",
        "ix_session_summaries_snapshot_country",
        "ix_session_summaries_snapshot_ip_types",
    } <= names


def test_application_role_owns_all_and_is_no_superuser(connection: psycopg.Connection) -> None:
    assert _one(
        connection,
        """SELECT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
                  (SELECT pg_get_userbyid(datdba) FROM pg_database
                   WHERE datname = current_database()),
                  (SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables
                   WHERE schemaname = 'public')""",
    ) == (False, "cowrieprocessor", ["cowrieprocessor"])


def test_rows_per_page(connection: psycopg.Connection) -> None:
    (rows,) = _one(
        connection,
        """SELECT count(*) * 8192.0 / pg_relation_size('session_summaries')
           FROM session_summaries""",
    )
    assert 13 < rows < 15


def test_drift_is_the_plural_column_and_its_index(demo_server: server.Server) -> None:
    engine = create_engine(
        f"postgresql+psycopg://{data.ROLE}@/{data.DATABASE}",
        connect_args={"host": demo_server.host, "port": demo_server.port},
    )
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, Base.metadata)
    engine.dispose()
    found = {(difference[0], difference[-1].name) for difference in differences}
    assert len(differences) == 4
    assert found == {
        ("remove_column", "snapshot_ip_types"),
        ("add_column", "snapshot_ip_type"),
        ("remove_index", "ix_session_summaries_snapshot_ip_types"),
        ("add_index", "ix_session_summaries_snapshot_ip_type"),
    }


def test_create_refuses_a_present_database_and_odd_numbers(data_dir: Path) -> None:
    found = server.start(data_dir)
    with psycopg.connect(_conninfo(found), dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {data.DATABASE}")
        assert data.describe(admin) is None
    with pytest.raises(ValueError, match="exists already"):
        data.create(_conninfo(found), sessions=SESSIONS)
    with pytest.raises(ValueError, match="sessions must be"):
        data.create(_conninfo(found), sessions=1)


def test_create_starts_anew_after_an_interrupted_run(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = server.start(data_dir)
    with monkeypatch.context() as broken:
        broken.setattr(data, "_CONSTRAINTS", "SELECT 1 / 0")
        with pytest.raises(psycopg.errors.DivisionByZero):
            data.create(_conninfo(found), sessions=data.MIN_SESSIONS)
    with psycopg.connect(_conninfo(found), dbname="postgres", autocommit=True) as admin:
        assert data.describe(admin) is None
        data.create(_conninfo(found), sessions=data.MIN_SESSIONS, seed=3)
        assert data.describe(admin) == {"sessions": data.MIN_SESSIONS, "seed": 3}


def test_server_listens_on_its_socket_only_and_keeps_settings(data_dir: Path) -> None:
    found = server.start(data_dir, settings={"work_mem": "7MB", "application_name": "it's \\ me"})
    assert server.start(data_dir) == found == server.running(data_dir)
    assert server.stop(data_dir)
    assert not server.stop(data_dir)
    assert server.running(data_dir) is None
    found = server.start(data_dir)
    with psycopg.connect(_conninfo(found), dbname="postgres") as connection:
        query = """SELECT current_setting('listen_addresses'), current_setting('work_mem'),
                          (SELECT reset_val FROM pg_settings WHERE name = 'application_name'),
                          current_setting('max_wal_size'), current_setting('autovacuum')"""
        assert _one(connection, query) == ("", "7MB", "it's \\ me", "4GB", "on")


def killed(data_dir: Path) -> None:
    """Start a server, and kill it: its postmaster.pid stays."""
    server.start(data_dir)
    os.kill(int((data_dir / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while server.running(data_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.running(data_dir) is None


def test_server_comes_back_after_being_killed(data_dir: Path) -> None:
    killed(data_dir)
    assert not server.stop(data_dir)
    found = server.start(data_dir)
    with psycopg.connect(_conninfo(found), dbname="postgres") as connection:
        assert _one(connection, "SELECT 1") == (1,)


def test_no_other_server_is_stopped_that_got_the_number_of_a_killed_one(
    data_dir: Path, demo_server: server.Server
) -> None:
    killed(data_dir)
    number = (Path(demo_server.host) / "postmaster.pid").read_text().splitlines()[0]
    of_the_killed = (data_dir / "postmaster.pid").read_text().splitlines()
    (data_dir / "postmaster.pid").write_text("\n".join([number, *of_the_killed[1:]]))
    assert server.destroy(data_dir)
    assert server.running(Path(demo_server.host)) == demo_server


def test_server_refuses_another_version_and_foreign_folders(data_dir: Path) -> None:
    server.start(data_dir, 18)
    server.stop(data_dir)
    with pytest.raises(server.ServerError, match="holds PostgreSQL 18"):
        server.start(data_dir, 16)
    foreign = data_dir.parent / "foreign"
    foreign.mkdir()
    (foreign / "file").touch()
    with pytest.raises(server.ServerError, match="not empty"):
        server.start(foreign)
    with pytest.raises(server.ServerError, match="not deleted"):
        server.destroy(foreign)
    assert (foreign / "file").exists()


@pytest.mark.parametrize("directory", ["x" * 100, "a,b"])
def test_path_that_no_socket_can_have(folder: Path, directory: str) -> None:
    path = folder / directory / "pgdata"
    try:
        found = server.start(path)
        assert len(found.host) < 100
        assert Path(found.host).stat().st_mode & 0o777 == 0o700
        with psycopg.connect(_conninfo(found), dbname="postgres") as connection:
            assert _one(connection, "SELECT 1") == (1,)
    finally:
        server.destroy(path)
    assert not Path(found.host).exists()


def test_short_path_with_odd_characters(folder: Path) -> None:
    path = folder / "a \\ 'b' \"$c" / "pg"
    try:
        found = server.start(path)
        assert found.host == str(path)
        with psycopg.connect(host=found.host, user=found.user, dbname="postgres") as connection:
            assert _one(connection, "SELECT 1") == (1,)
    finally:
        server.destroy(path)


def _command(*arguments: str, sessions: str | None = None) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SESSIONS"}
    if sessions is not None:
        environment["SESSIONS"] = sessions
    return subprocess.Popen(
        [sys.executable, "-m", "demo.server", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _result(process: subprocess.Popen[str]) -> dict[str, object]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_command_line(data_dir: Path) -> None:
    where = ("--data-dir", str(data_dir))
    both = [_command("start", *where, sessions="600") for _ in range(2)]
    results = [_result(process) for process in both]
    assert sorted(result["started"] for result in results) == [False, True]
    assert sorted(result["seeded"] for result in results) == [False, True]

    assert _result(_command("start", *where)) == {
        "host": str(server.running(data_dir).host),  # type: ignore[union-attr]
        "port": 5432,
        "dbname": "cowrieprocessor",
        "user": "cowrieprocessor",
        "started": False,
        "seeded": False,
        "sessions": 600,
    }

    for other in (
        _command("start", *where, "--sessions", "700"),
        _command("start", *where, sessions="700"),
    ):
        output, errors = other.communicate(timeout=60)
        assert other.returncode == 1
        assert not output
        assert "600 sessions" in errors
        assert "make demo-clean" in errors

    assert _result(_command("stop", *where)) == {"stopped": True}
    restarted = _result(_command("start", *where, sessions="600"))
    assert (restarted["started"], restarted["seeded"]) == (True, False)
    assert _result(_command("destroy", *where)) == {"destroyed": True}
    assert not data_dir.exists()
