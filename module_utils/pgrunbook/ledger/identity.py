# SPDX-License-Identifier: GPL-3.0-or-later
"""What an approval is bound to: the server, and the token of its ledger, which a clone made before
the ledger does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.connection import Connection, one
from ..core.server import Identity, require_equal, server_identity
from ..core.values import read


def identity(conn: Connection) -> Identity:
    """The identity of the server, with the ledger's token, which is empty where there is none
    yet."""
    made = one(conn, "SELECT to_regclass('pgrunbook.ledger') IS NOT NULL AS made")["made"]
    token = one(conn, "SELECT max(token) AS token FROM pgrunbook.ledger") if made else {}
    return replace(server_identity(conn), token=token.get("token") or "")


def require_same(here: Identity, approved: Mapping[str, Any]) -> None:
    """Raise RunbookError where this is not the server of an approved plan, or has another history.

    Only what the plan knew is compared: one of an older version knew less, and one that was made
    before there was a ledger had no token.
    """
    require_equal(here, read(Identity, approved))
