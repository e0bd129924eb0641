# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet of the demo: some servers with some databases each, all copies of one, of which the
last but three has drifted otherwise."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
from psycopg.sql import SQL, Identifier

from demo import server as servers

DEFAULT_FOLDER = Path(".demo/fleet")
DEFAULT_SESSIONS = 20_000
SERVERS = 2
TEMPLATE, ROLE = "cowrieprocessor", "cowrieprocessor"
DRIFTED = "CREATE INDEX ix_session_summaries_risk ON session_summaries (risk_score)"


def names(number: int) -> list[str]:
    """The hosts of a fleet, which are its databases' names too: shard1, shard2, …"""
    return [f"shard{n}" for n in range(1, number + 1)]


def start(folder: Path, hosts: int, sessions: int) -> dict[str, dict[str, object]]:
    """Start the servers and make the databases that are missing; by host, how to reach it."""
    found: dict[str, dict[str, object]] = {}
    for number, part in enumerate(_parts(names(hosts)), 1):
        server = _server(folder / f"server{number}", sessions)
        with psycopg.connect(
            host=server.host, port=server.port, user=server.user, dbname="postgres", autocommit=True
        ) as conn:
            there = {row[0] for row in conn.execute("SELECT datname FROM pg_database")}
            for name in part:
                if name not in there:
                    _copy(conn, name)
                    if name == names(hosts)[-4:][0] and hosts >= 4:
                        _drift(server, name)
                found[name] = {
                    "host": server.host,
                    "port": server.port,
                    "dbname": name,
                    "user": ROLE,
                }
    return found


def destroy(folder: Path) -> None:
    """Stop the servers and delete their data."""
    for data in sorted(folder.glob("server*")):
        if data.is_dir():
            servers.destroy(data)


def _parts(hosts: Sequence[str]) -> Iterator[Sequence[str]]:
    """The hosts of each server."""
    size = -(-len(hosts) // SERVERS)
    yield from (hosts[n : n + size] for n in range(0, len(hosts), size))


def _server(data: Path, sessions: int) -> servers.Server:
    server = servers.start(data)
    if servers.seed_comment(server, TEMPLATE) is None:
        from psycopg.conninfo import make_conninfo

        from demo import data as made

        conninfo = make_conninfo(host=server.host, port=server.port, user=server.user)
        print(f"demo: creating {sessions:,} sessions …", file=sys.stderr)
        made.create(conninfo, sessions=sessions, seed=made.DEFAULT_SEED)
    return server


def _copy(conn: psycopg.Connection[tuple[str, ...]], name: str) -> None:
    query = "CREATE DATABASE {} TEMPLATE {} OWNER {}"
    conn.execute(SQL(query).format(Identifier(name), Identifier(TEMPLATE), Identifier(ROLE)))


def _drift(server: servers.Server, name: str) -> None:
    with psycopg.connect(host=server.host, port=server.port, user=ROLE, dbname=name) as conn:
        conn.execute(DRIFTED)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; print one JSON object, or an error and return 1."""
    parser = argparse.ArgumentParser(prog="python -m demo.fleet", description=__doc__)
    parser.add_argument("command", choices=["start", "destroy"])
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument(
        "--sessions", type=int, default=int(os.environ.get("SESSIONS") or DEFAULT_SESSIONS)
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "destroy":
            destroy(arguments.folder)
            return 0
        print(json.dumps(start(arguments.folder, arguments.hosts, arguments.sessions)))
    except (servers.ServerError, psycopg.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
