# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures of approvals: whether there are as many as a plan wants, and what to verify of them.

Here they are only counted, which needs no ssh-keygen on the database's host; the controller has
verified them, and status.yml does so again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..core.connection import Connection
from ..core.errors import RunbookError
from ..signing.counted import person, too_few
from ..signing.reread import Kept
from ..signing.statement import SignedHost, of_plan
from . import schema
from .runs import Run

SIGNED_SCOPES = ("plan", "backfill")
"""Those of a run; the signatures are with the first one. Going back waits for nobody's."""
NO_HOST = SignedHost("", "", "", "", "", "", 0)

_OF_RUN = """
SELECT to_jsonb(a) -> 'signatures' AS signatures FROM pgrunbook.approval a
WHERE run_id = %s AND plan_hash = %s AND scope = 'plan' AND to_jsonb(a) ->> 'execution' = %s
ORDER BY id DESC LIMIT 1
"""

_ALL = """
SELECT run_id, plan_hash, plan, approved_at::text, approved_by,
    coalesce(to_jsonb(a) ->> 'controller_user', '') AS controller_user,
    to_jsonb(a) -> 'rollout' AS rollout, to_jsonb(a) -> 'signatures' AS signatures
FROM pgrunbook.approval a WHERE scope = 'plan'
AND (plan #> '{spec,signatures_min}' > '0' OR jsonb_typeof(to_jsonb(a) -> 'signatures') <> 'null')
ORDER BY id
"""


def signatures_wanted(plan: Mapping[str, Any], scope: str) -> int:
    """How many signatures an approval of a plan wants in a scope. A plan of an earlier version
    wants none."""
    return _number(plan["spec"].get("signatures_min", 0)) if scope in SIGNED_SCOPES else 0


def _number(stored: Any) -> int:
    """How many are wanted. What is no number, which no version wrote, wants one."""
    return stored if isinstance(stored, int) else 1


def require_enough(
    plan: Mapping[str, Any], scope: str, signatures: Sequence[Mapping[str, Any]]
) -> None:
    """Raise RunbookError where a plan wants the signatures of more people than there are, or with
    more keys."""
    wanted = signatures_wanted(plan, scope)
    signers = {person(str(each.get("signer"))): str(each.get("signer")) for each in signatures}
    keys = {each.get("key") for each in signatures}
    if min(len(signers), len(keys)) < wanted:
        raise RunbookError(too_few(wanted, list(signers.values())))


def require_signed(conn: Connection, run: Run, scope: str, plan: Mapping[str, Any]) -> None:
    """Raise RunbookError where this execution's approval of the run's plan has fewer signatures
    than that wants."""
    if not signatures_wanted(plan, scope):
        return
    row = conn.execute(_OF_RUN, (run.id, run.plan_hash, run.execution)).fetchone()
    require_enough(plan, scope, listed(row["signatures"]) if row else ())


def signed_plans(conn: Connection) -> list[Kept]:
    """Every approval of a run's plan that wants signatures, or has some, to be verified again."""
    return list(_kept(conn)) if schema.exists(conn) else []


def _kept(conn: Connection) -> Iterator[Kept]:
    for row in conn.execute(_ALL):
        try:
            yield _of_row(row)
        except (KeyError, TypeError, AttributeError):  # as no version wrote it
            yield Kept(row["run_id"], row["plan_hash"], row["approved_at"], 1, NO_HOST, (), ())


def _of_row(row: Mapping[str, Any]) -> Kept:
    plan, plan_hash, rollout = row["plan"], row["plan_hash"], row["rollout"] or {}
    spec, server, members = plan["spec"], plan["server"], rollout.get("members") or []
    own = (rollout.get("host", ""), server["system_identifier"], server["database"], plan_hash)
    named = ("host", "system_identifier", "database", "plan_hash")
    several = tuple(tuple(str(member[key]) for key in named) for member in members)
    operators = (row["approved_by"], row["controller_user"].rpartition(" (uid ")[0])
    return Kept(
        run=row["run_id"],
        hash=rollout["hash"] if len(members) > 1 else plan_hash,
        approved_at=row["approved_at"],
        wanted=_number(spec.get("signatures_min", 0)),
        host=of_plan(own[0], plan, plan_hash),
        members=several if len(members) > 1 else (own,),
        operators=() if spec.get("operator_may_sign") else operators,
        signatures=tuple(listed(row["signatures"])),
    )


def listed(stored: Any) -> list[Mapping[str, Any]]:
    """The signatures of a row; what is no list of mappings, which no version wrote, is none."""
    found = stored if isinstance(stored, list) else []
    return [each for each in found if isinstance(each, dict)]
