# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server, database and history of it a connection is to.

A standby that was promoted, a clone and a restored backup have the system identifier of the server
that they come from. The address and the timeline tell most of them apart; the ledger adds a token
of its own (ledger/identity.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from .connection import Connection, elsewhere, one
from .errors import LOST, RunbookError
from .values import plain

STANDBY = "standby"
"""What a standby has in place of a timeline."""

_WORDS = {
    "system_identifier": "system identifier",
    "database": "database",
    "address": "address",
    "port": "port",
    "timeline": "timeline",
    "token": "ledger",
}

# A standby has no timeline of its own. A Unix-domain socket has no address.
_IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
    current_database() AS database,
    host(inet_server_addr()) AS address,
    coalesce(inet_server_port()::text, current_setting('port')) AS port,
    CASE WHEN pg_is_in_recovery() THEN 'standby'
         ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline
"""


@dataclass(frozen=True)
class Identity:
    """What tells a server from its copies; what is not known is empty. address and port are as the
    server sees them; through a Unix-domain socket the address is the socket's directory. timeline
    is eight hex digits, or "standby". token is the ledger's."""

    system_identifier: str = ""
    database: str = ""
    address: str = ""
    port: str = ""
    timeline: str = ""
    token: str = ""


def server_identity(conn: Connection) -> Identity:
    """The identity of the server of a connection, without the ledger's token."""
    row = one(conn, _IDENTITY)
    return Identity(**{**row, "address": row["address"] or conn.info.host})


def require_equal(found: Identity, approved: Identity) -> None:
    """Raise RunbookError where what was found is not the server of an approved plan, or has another
    history.

    Only what the plan knew is compared: one of an older version knew less, and one that was made
    before there was a ledger had no token.
    """
    here, known = plain(found), plain(approved)
    different = [key for key in _WORDS if known[key] and here[key] != known[key]]
    if different:
        raise RunbookError(
            f"This is not the server that the plan was made on: {_listed(different, here, known)}."
            f"{_history(found, approved)} Nothing was changed on it. Next step: see which server "
            "is the primary now and let runbook_login lead to no other, then run the playbook "
            "again; it plans anew on that server and goes on where the ledger there says."
        )


def was_promoted(found: Identity, known: Identity) -> bool:
    """Whether a server may be a standby of a known one that was promoted since: it is of the same
    origin, and its timeline is the higher one. Its address may be another one."""
    return (
        (found.system_identifier, found.database) == (known.system_identifier, known.database)
        and found.token == (known.token or found.token)
        and STANDBY != found.timeline > known.timeline != ""
    )


def require_primary(found: Identity) -> None:
    """Raise RunbookError where the server is a standby, which may be promoted in a moment."""
    if found.timeline == STANDBY:
        raise RunbookError(
            f"The server at {found.address}:{found.port} is a standby. Nothing was changed by this "
            "call. Next step: let runbook_login lead to the primary, or promote this one.",
            code=LOST,
        )


def require_alone(conn: Connection, found: Identity, known: Identity) -> None:
    """Raise RunbookError where the server that was known still takes connections as a primary,
    beside the one that was promoted: one of them is a clone, or two primaries are at work."""
    still = _primary_at(conn, known)
    if still and still.timeline < found.timeline:
        here, there = plain(found), plain(still)
        raise RunbookError(
            f"Two servers are primaries of the same origin: {_shown(there)}, on which this run was "
            f"last seen, and {_shown(here)}. Nothing was changed by this call. Next step: see "
            "which of them the application uses, stop the other one or let runbook_login lead to "
            "it no more, then run the playbook again."
        )


def _primary_at(conn: Connection, known: Identity) -> Identity | None:
    """What is at the address of a known server, if that is a primary of the same origin."""
    try:
        with elsewhere(conn, known.address, known.port) as other:
            there = server_identity(other)
    except (psycopg.Error, RunbookError):
        return None
    same = there.system_identifier == known.system_identifier
    return there if same and there.timeline != STANDBY else None


def _shown(of: dict[str, str]) -> str:
    return f"{of['address']}:{of['port']} on timeline {of['timeline']}"


def require_sibling(conn: Connection, other: Connection) -> None:
    """Raise RunbookError where two connections of one call are to different servers, as they can
    be with several hosts in runbook_login."""
    require_equal(server_identity(other), server_identity(conn))


def _listed(different: list[str], here: dict[str, str], known: dict[str, str]) -> str:
    return "; ".join(f"{_WORDS[key]} {here[key]}, not {known[key]}" for key in different)


def _history(found: Identity, approved: Identity) -> str:
    """What another timeline means."""
    then, now = approved.timeline, found.timeline
    if not then or then == now or now == STANDBY:
        return ""
    if now < then:
        return (
            " Its timeline is the lower one: another server was promoted since, and what is "
            "written here would be lost."
        )
    return " It was promoted since: what the old primary had not sent to it was not done here."
