# SPDX-License-Identifier: GPL-3.0-or-later
"""What an approval is bound to: the server, and the token of its ledger, which a clone made before
the ledger does not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.server import (
    Identity,
    require_alone,
    require_equal,
    require_primary,
    server_identity,
    was_promoted,
)
from ..core.values import read
from . import schema
from .approvals import plan_at_work
from .runs import Run


def identity(conn: Connection) -> Identity:
    """The identity of the server, with the ledger's token, which is empty where there is none
    yet. Raises RunbookError where the ledger is not whole."""
    made = schema.known_version(conn) >= 2
    token = one(conn, "SELECT max(token) AS token FROM pgrunbook.ledger") if made else {}
    return replace(server_identity(conn), token=token.get("token") or "")


def require_same(here: Identity, approved: Mapping[str, Any]) -> None:
    """Raise RunbookError where this is not the server of a plan, nor a standby of it that was
    promoted since; or where it is, and its ledger is gone.

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
    if not was_promoted(here, known):
        require_equal(here, known)


def approved_plan_here(
    conn: Connection, login: Mapping[str, Any], run: Run
) -> tuple[dict[str, Any] | None, Identity]:
    """The plan that this execution of the run was approved with, None before its approval; and
    which server this is.

    Raises RunbookError where the server is neither the one that the run was last seen on, nor a
    standby of it that was promoted since, has the approval, and is the only primary.
    """
    here, known = identity(conn), read(Identity, run.server)
    if known.system_identifier == here.system_identifier and known.timeline:
        require_primary(here)
    require_same(here, run.server)
    plan = plan_at_work(conn, run)
    if was_promoted(here, known):
        _require_history(here, known, approved=plan is not None)
        require_alone(conn, login, known)
    if plan is not None:
        require_same(here, plan.get("server") or {})
    return plan, here


def _require_history(here: Identity, known: Identity, *, approved: bool) -> None:
    """Raise RunbookError where a promoted server left the history of the run before its
    approval."""
    if not approved:
        raise RunbookError(
            f"The server at {here.address}:{here.port}, on timeline {here.timeline}, does not have "
            f"the approval that this execution got on timeline {known.timeline}: it is a standby "
            "that had not received it, or a copy from before. Nothing was changed on it. Next "
            "step: see which server is the primary, then run the playbook again; it plans anew "
            "there and goes on where the ledger there says."
        )
