# SPDX-License-Identifier: GPL-3.0-or-later
"""What a call that only reads is held to, and how it reads in short transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .connection import Connection, proof
from .errors import RunbookError
from .sibling import settings_of


def require_dry(proved: Mapping[str, Any]) -> None:
    """Raise RunbookError where the server does not say that a transaction was READ ONLY and got no
    transaction id, whatever it did. proved is what proof() gives."""
    if not proved["read_only"] or proved["xid"] is not None:
        raise RunbookError(
            "This was to write nothing, but the server says: transaction_read_only "
            f"{'on' if proved['read_only'] else 'off'}, transaction id {proved['xid'] or 'none'}. "
            "It was taken back. Next step: find the function in the phase's expressions or "
            "queries, or in a view that they read, that assigns one, as pg_current_xact_id() "
            "does, and take it out."
        )


@contextlib.contextmanager
def short_transaction(conn: Connection) -> Iterator[None]:
    """A transaction that only what is inside is in, also where the connection only reads. Nothing
    may be written in it; where something in it fails, the caller may go on. Raises RunbookError
    where a READ ONLY one was no dry one."""
    if conn.autocommit:
        with conn.transaction(force_rollback=True):
            yield
        return
    _end_transaction(conn)
    with conn.transaction():  # a savepoint
        yield
    _end_transaction(conn)


def _end_transaction(conn: Connection) -> None:
    """End the READ ONLY transaction of a connection that only reads, so that it holds neither
    snapshot nor lock, and begin another one with the same settings. It is rolled back, so nothing
    that it might have done is kept."""
    require_dry(proof(conn))
    before = settings_of(conn)
    conn.rollback()
    now = settings_of(conn)
    for name, value in before.items():
        if now[name] != value:
            conn.execute("SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
