# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server, database and role a session has, and whether it can write. Only reads."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.connection import Connection, one

_SERVER = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
    current_database() AS database, current_user AS user,
    current_setting('server_version') AS version,
    pg_is_in_recovery() AS standby,
    current_setting('transaction_read_only') AS transaction_read_only
"""


@dataclass(frozen=True)
class Server:
    """A server as this session sees it: transaction_read_only is "on" or "off"."""

    system_identifier: str
    database: str
    user: str
    version: str
    standby: bool
    transaction_read_only: str


def inspect_server(conn: Connection) -> Server:
    """The server, the database and the role of this session."""
    return Server(**one(conn, _SERVER))
