# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server, database and history of it a connection is to.

A standby that was promoted, a clone and a restored backup have the system identifier of the server
that they come from. The address and the timeline tell most of them apart; the ledger adds a token
of its own (ledger/identity.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from .connection import Connection, elsewhere, one, places
from .errors import LOST, RunbookError
from .values import plain

STANDBY = "standby"
"""What a standby has in place of a timeline."""

_STARTED = "SELECT pg_postmaster_start_time()::text AS started"  # one server, under two addresses

_WORDS = {
    "system_identifier": "system identifier",
    "database": "database",
    "database_oid": "database oid",
    "address": "address",
    "port": "port",
    "timeline": "timeline",
    "token": "ledger",
}

# A standby has no timeline of its own. A Unix-domain socket has no address.
_IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_identifier,
    current_database() AS database,
    (SELECT oid::text FROM pg_database WHERE datname = current_database()) AS database_oid,
    host(inet_server_addr()) AS address,
    coalesce(inet_server_port()::text, current_setting('port')) AS port,
    CASE WHEN pg_is_in_recovery() THEN 'standby'
         ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline
"""


@dataclass(frozen=True)
class Identity:
    """What tells a server from its copies; what is not known is empty. address and port are as the
    server sees them; through a Unix-domain socket the address is the socket's directory. A database
    that was dropped and restored has another oid. timeline
    is eight hex digits, or "standby". token is the ledger's."""

    system_identifier: str = ""
    database: str = ""
    database_oid: str = ""
    address: str = ""
    port: str = ""
    timeline: str = ""
    token: str = ""


def server_identity(conn: Connection) -> Identity:
    """The identity of the server of a connection, without the ledger's token."""
    row = one(conn, _IDENTITY)
    return Identity(**{**row, "address": row["address"] or conn.info.host})


def started(conn: Connection) -> str:
    """Since when the server runs, to the microsecond: it tells a server that is reached in two ways
    from a copy of it."""
    when: str = one(conn, _STARTED)["started"]
    return when


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
        and found.database_oid == (known.database_oid or found.database_oid)
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


def require_only_primary(conn: Connection, login: Mapping[str, Any]) -> None:
    """Raise RunbookError where another host that a login lists is a primary, too: which of them is
    meant would be a matter of their order, and of who answers."""
    listed = places(login)
    for host, port in listed if len(listed) > 1 else ():
        _require_no_primary(conn, host, port, named=True)


def require_alone(conn: Connection, login: Mapping[str, Any], known: Identity) -> None:
    """Raise RunbookError where another server takes connections as a primary beside the one that
    was promoted: at a host that the login lists, or where the run was last seen."""
    require_only_primary(conn, login)
    socket = known.address.startswith(("/", "@"))
    _require_no_primary(conn, known.address, known.port, named=socket)


def _require_no_primary(conn: Connection, host: str, port: str, *, named: bool) -> None:
    try:
        with elsewhere(conn, host, port, named=named) as other:
            there, started = server_identity(other), one(other, _STARTED)
    except (psycopg.Error, RunbookError):
        return
    if there.timeline == STANDBY or started == one(conn, _STARTED):
        return
    here = server_identity(conn)
    if there.system_identifier == here.system_identifier:
        kinship = "Two servers are primaries of the same origin"
    elif named:
        kinship = "Two servers are primaries, and have nothing to do with each other"
    else:  # the address is another server's by now
        return
    raise RunbookError(
        f"{kinship}: {_shown(there)}, and {_shown(here)}. Nothing was changed by this call. Next "
        "step: see which of them the application uses, stop the other one or let runbook_login "
        "lead to it no more, then run the playbook again."
    )


def _shown(of: Identity) -> str:
    return f"{of.address}:{of.port} on timeline {of.timeline}"


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
