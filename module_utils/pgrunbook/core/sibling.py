# SPDX-License-Identifier: GPL-3.0-or-later
"""Further connections beside one that is open, to the same server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .connection import SETTINGS, Connection, beside
from .server import require_sibling

_KEPT = (
    *SETTINGS,
    "lock_timeout",
    "statement_timeout",
    "search_path",
    "transaction_timeout",
)


@contextlib.contextmanager
def sibling(conn: Connection, **settings: str) -> Iterator[Connection]:
    """Another connection to the same database with the settings of this one, apart from those
    given: in autocommit mode, or like this one in READ ONLY transactions. Raises RunbookError where
    there is none left, or it leads to another server, as it can with several hosts in
    runbook_login."""
    wanted = {**settings_of(conn), **settings}
    with beside(conn, wanted, read_only=bool(conn.read_only)) as other:
        require_sibling(conn, other)
        yield other


def settings_of(conn: Connection) -> dict[str, str]:
    """The settings of a session that are ours, as they are now; without those that its server does
    not know."""
    query = (
        "SELECT name, pg_catalog.current_setting(name) AS value FROM pg_catalog.unnest(%s::text[])"
        " name WHERE pg_catalog.current_setting(name, true) IS NOT NULL"
    )
    return {row["name"]: row["value"] for row in conn.execute(query, (list(_KEPT),))}


def require_connections(conn: Connection, others: int) -> None:
    """Raise RunbookError unless so many connections can be open beside this one. Nothing is done
    in them."""
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(beside(conn, {}))
