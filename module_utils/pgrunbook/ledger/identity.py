# SPDX-License-Identifier: GPL-3.0-or-later
"""What an approval is bound to: the server, and the token of its ledger, which a clone made before
the ledger does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.server import Identity, require_equal, server_identity
from ..core.values import read
from . import schema


def identity(conn: Connection) -> Identity:
    """The identity of the server, with the ledger's token, which is empty where there is none
    yet. Raises RunbookError where the ledger is not whole."""
    made = schema.known_version(conn) >= 2
    token = one(conn, "SELECT max(token) AS token FROM pgrunbook.ledger") if made else {}
    return replace(server_identity(conn), token=token.get("token") or "")


def require_same(here: Identity, approved: Mapping[str, Any]) -> None:
    """Raise RunbookError where this is not the server of an approved plan, or has another history;
    or where it is, and its ledger is gone.

    Only what the plan knew is compared: one of an older version knew less, and one that was made
    before there was a ledger had no token.
    """
    known = read(Identity, approved)
    if known.token and not here.token:
        require_equal(here, replace(known, token=""))
        raise RunbookError(
            "There is no ledger any more: somebody has dropped schema pgrunbook since the plan was "
            "made. Nothing was changed by this call. Next step: find out who did that, and restore "
            "the schema from a backup: without it nobody knows which rows earlier runs filled. To "
            "begin anew with no way back for these, run the whole playbook again."
        )
    require_equal(here, known)
