# SPDX-License-Identifier: GPL-3.0-or-later
"""Further connections beside one that is open, to the same server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from .connection import SETTINGS, Connection, beside, one
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
    """Another connection to the same database with the settings of this one, which writes, apart
    from those given. It is in autocommit mode. Raises RunbookError where there is none left, or it
    leads to another server, as it can with several hosts in runbook_login."""
    assert not conn.read_only, "what only reads has one connection and one transaction"
    query = "SELECT pg_catalog.current_setting(%s, true) AS value"
    kept = {name: one(conn, query, (name,))["value"] for name in _KEPT}
    wanted = {name: value for name, value in {**kept, **settings}.items() if value is not None}
    with beside(conn, wanted) as other:
        require_sibling(conn, other)
        yield other


def require_connections(conn: Connection, others: int) -> None:
    """Raise RunbookError unless so many connections can be open beside this one. Nothing is done
    in them."""
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            stack.enter_context(beside(conn, {}))
