# SPDX-License-Identifier: GPL-3.0-or-later
"""Approvals: who approved which plan, in which scope, for which execution; and what that allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from ..core import values
from ..core.connection import Connection, one
from ..core.errors import RunbookError
from ..core.spec import Spec
from ..signing.signature import Signature
from . import schema
from .claims import claim, take_over
from .events import event
from .forget import require_ended
from .forgotten import APPROVED as FORGET_APPROVED
from .rollouts import Rollout, read_rollout, require_member
from .runs import Run, get_run, require_owner, require_table_idle
from .schema import exists
from .signed import listed, require_enough, require_signed
from .stored_spec import todays_spec

FORGET = "forget"  # the scope of an approval that has an event of its own, and no row
MIGRATED = "migrated"  # the kind of event that a new version of the ledger is


@dataclass(frozen=True)
class Approver:
    """Who approves a plan, from where and how ("prompt" or "unattended"). claimed is whether nobody
    but the approver says who that is; controller_user is the account of the operating system that
    the playbook runs under."""

    name: str
    origin: str
    method: str
    claimed: bool
    controller_user: str


@dataclass(frozen=True)
class Signed:
    """A signature of an approval, without the text and the signature itself; what somebody has
    taken out of the ledger is empty."""

    signer: str = ""
    key: str = ""
    signed_at: str = ""
    expires_at: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Approval:
    """An approval, as the ledger has it. The last three are None where an older version recorded
    it."""

    scope: str
    plan_hash: str
    approved_by: str
    approved_from: str
    method: str
    approved_at: str
    claimed: bool | None = None
    database_user: str | None = None
    controller_user: str | None = None
    signatures: tuple[Signed, ...] = ()


def approve(
    conn: Connection,
    run: Run,
    *,
    scope: str,
    plan: dict[str, Any],
    baseline: dict[str, Any],
    by: Approver,
    rollout: Rollout | None = None,
    signatures: Sequence[Signature] = (),
) -> None:
    """Make the ledger where there is none, or bring an earlier one to this version; record the run
    or take it over, and the approval. All of it is one transaction.

    Raises RunbookError where the plan is not the one that the run's hash names, or none of the
    rollout's, or wants more signatures, another run is at work, or the role may not change the
    ledger's tables.
    """
    _require_named(run, plan)
    if rollout:
        require_member(rollout, plan["server"]["system_identifier"], run.plan_hash)
    if scope == "plan":
        require_enough(plan, scope, values.plain(signatures))
    with conn.transaction():
        conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('pgrunbook.ledger', 0))")
        if scope != "backfill":
            _migrate(conn, run)
        if scope == "plan":
            claim(conn, run, plan["spec"], baseline, by.name)
        elif scope == "rollback":
            take_over(conn, run, by.name)
        elif scope == FORGET:
            require_ended(conn, run.id)
        else:
            require_owner(conn, run)
            require_table_idle(conn, get_run(conn, run.id).table_name, besides=run.id)
        _record(conn, run, scope, plan, by, _Besides(rollout, signatures))


@dataclass(frozen=True)
class _Besides:
    """What an approval may have besides who approved what."""

    rollout: Rollout | None
    signatures: Sequence[Signature]


def _record(
    conn: Connection,
    run: Run,
    scope: str,
    plan: dict[str, Any],
    by: Approver,
    besides: _Besides,
) -> None:
    """Record an approval, and the event of it."""
    rollout, signatures = besides.rollout, values.plain(besides.signatures)
    detail = {
        "plan_hash": run.plan_hash,
        "by": by.name,
        "origin": by.origin,
        "method": by.method,
        "claimed": by.claimed,
        "controller_user": by.controller_user,
        "execution": run.execution,
        **({"rollout": rollout.id, "rollout_hash": rollout.hash} if rollout else {}),
        **({"signatures": [_in_event(each) for each in signatures]} if signatures else {}),
    }
    if scope == FORGET:
        user = one(conn, "SELECT session_user AS database_user")
        event(conn, run.id, FORGET_APPROVED, plan=plan, **user, **detail)
        return
    given = (
        *_named(run, scope, plan, by),
        Jsonb(values.plain(rollout)) if rollout else None,
        Jsonb(signatures) if signatures else None,
    )
    row = one(
        conn,
        "INSERT INTO pgrunbook.approval"
        " (run_id, scope, plan_hash, plan, approved_by, approved_from, method, claimed,"
        "  controller_user, execution, rollout, signatures, database_user)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, session_user)"
        " RETURNING database_user",
        given,
    )
    event(conn, run.id, "approved", scope=scope, **row, **detail)


def _in_event(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the event of an approval has of a signature."""
    return {key: signature[key] for key in ("signer", "key", "sha256")}


def _named(run: Run, scope: str, plan: Mapping[str, Any], by: Approver) -> tuple[object, ...]:
    """The values of an approval's row, in the order of its columns."""
    return (
        run.id,
        scope,
        run.plan_hash,
        Jsonb(plan),
        by.name,
        by.origin,
        by.method,
        by.claimed,
        by.controller_user,
        run.execution,
    )


def is_approved(conn: Connection, run: Run, scope: str, approved_by: str) -> bool:
    """Whether this execution of the run is at work with just this approval."""
    return exists(conn) and bool(
        conn.execute(
            "SELECT FROM pgrunbook.run r JOIN pgrunbook.approval a ON a.run_id = r.id"
            " WHERE r.id = %s AND r.execution = %s AND r.state = 'running'"
            " AND to_jsonb(a) ->> 'execution' = r.execution"
            " AND a.plan_hash = %s AND a.scope = %s AND a.approved_by = %s",
            (run.id, run.execution, run.plan_hash, scope, approved_by),
        ).rowcount
    )


def plan_at_work(conn: Connection, run: Run) -> dict[str, Any] | None:
    """The plan that this execution of the run was approved with, in whatever scope; None where it
    was not approved, or the run is another execution's. Raises RunbookError where somebody has
    changed the plan since. Only reads."""
    if not exists(conn):
        return None
    row = conn.execute(
        "SELECT a.plan FROM pgrunbook.run r JOIN pgrunbook.approval a ON a.run_id = r.id"
        " WHERE r.id = %s AND r.execution = %s AND a.plan_hash = %s ORDER BY a.id DESC LIMIT 1",
        (run.id, run.execution, run.plan_hash),
    ).fetchone()
    if row is None:
        return None
    plan: dict[str, Any] = row["plan"]
    if plan_hash(plan) != run.plan_hash:
        raise RunbookError(
            f"The plan that was approved for run {run.id} no longer has the hash "
            f"{run.plan_hash[:8]}: somebody has changed it in the ledger. Next step: find out who "
            "may write to schema pgrunbook, then run the playbook again and read the new plan."
        )
    return plan


def approved_strategy(conn: Connection, run_id: str) -> dict[str, Any] | None:
    """The strategy of the plan that a run was approved with last; None where there is none."""
    row = conn.execute(
        "SELECT plan -> 'strategy' AS strategy FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id DESC LIMIT 1",
        (run_id,),
    ).fetchone()
    return row["strategy"] if row else None


def approved_plan(conn: Connection, run: Run, scope: str) -> dict[str, Any]:
    """The plan that a person approved in this scope, for this execution. Raises RunbookError where
    nobody did, the plan wants more signatures than there are, or this execution does not own the
    run."""
    require_owner(conn, run)
    row = conn.execute(
        "SELECT plan, to_jsonb(a) -> 'rollout' AS rollout FROM pgrunbook.approval a"
        " WHERE run_id = %s AND plan_hash = %s AND scope = %s"
        " AND to_jsonb(a) ->> 'execution' = %s ORDER BY id DESC LIMIT 1",
        (run.id, run.plan_hash, scope, run.execution),
    ).fetchone()
    if row is None:
        raise RunbookError(
            f"Nobody approved the {scope} of plan {run.plan_hash[:8]} for this execution of run "
            f"{run.id}. Nothing was changed. Next step: run the whole playbook, without --tags or "
            "--start-at-task."
        )
    plan: dict[str, Any] = row["plan"]
    if row["rollout"]:
        rollout = read_rollout(row["rollout"])
        require_member(rollout, plan["server"]["system_identifier"], run.plan_hash)
    require_signed(conn, run, scope, plan)
    return plan


def require_approval(conn: Connection, run: Run, scope: str, statements: Sequence[str]) -> None:
    """Raise RunbookError unless this execution owns the run and a person approved, in this scope,
    a plan of this hash that holds every one of the statements."""
    require_statements(approved_plan(conn, run, scope), run, statements)


def require_statements(plan: dict[str, Any], run: Run, statements: Sequence[str]) -> None:
    """Raise RunbookError unless the plan, which a person approved, holds every one of the
    statements."""
    approved = {s for step in plan["steps"] for s in step["statements"]}
    for statement in statements:
        if statement not in approved:
            raise RunbookError(
                f"The approved plan {run.plan_hash[:8]} does not hold this statement: {statement} "
                "The database has changed since. Next step: run the playbook again and read the "
                "new plan."
            )


def approved_spec(conn: Connection, run_id: str) -> Spec:
    """The phase of the plan that was approved last for a run."""
    get_run(conn, run_id)
    row = one(
        conn,
        "SELECT plan -> 'spec' AS spec FROM pgrunbook.approval"
        " WHERE run_id = %s AND scope = 'plan' ORDER BY id DESC LIMIT 1",
        (run_id,),
    )
    return todays_spec(row["spec"])


def plan_hash(plan: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of a plan as canonical JSON: what an approval names."""
    return values.sha256(plan)


def list_approvals(conn: Connection, run_id: str) -> list[Approval]:
    """The approvals of a run, the first one first."""
    found = conn.execute(
        "SELECT scope, plan_hash, approved_by, approved_from, method, approved_at::text,"
        " to_jsonb(a) -> 'claimed' AS claimed, to_jsonb(a) ->> 'database_user' AS database_user,"
        " to_jsonb(a) ->> 'controller_user' AS controller_user,"
        " to_jsonb(a) -> 'signatures' AS signatures"
        " FROM pgrunbook.approval a WHERE run_id = %s ORDER BY id",
        (run_id,),
    )
    return [
        Approval(**{**row, "signatures": tuple(_told(s) for s in listed(row["signatures"]))})
        for row in found
    ]


def _told(stored: Mapping[str, Any]) -> Signed:
    return values.read(Signed, stored)


def _require_named(run: Run, plan: Mapping[str, Any]) -> None:
    """Raise RunbookError unless the plan is the one that the run's hash names."""
    if plan_hash(plan) != run.plan_hash:
        _require_unmasked(plan)
        raise RunbookError(
            f"The plan does not have the hash {run.plan_hash[:8]} that was approved. "
            "Next step: run the playbook again and read the new plan."
        )


def _require_unmasked(plan: Mapping[str, Any]) -> None:
    """Raise RunbookError where Ansible has put its mask for secrets into a plan."""
    if any(mask in json.dumps(plan) for mask in ("********", "VALUE_SPECIFIED_IN_NO_LOG")):
        raise RunbookError(
            "Ansible has masked a part of the plan on its way here, because a task with a no_log "
            "value that is also in the plan has handed it on. Nothing was changed. Next step: take "
            "that task out of the play, or keep the secret in a passfile."
        )


def _migrate(conn: Connection, run: Run) -> None:
    """Bring the ledger to this version, and record it as an event of the run that needs it."""
    before = schema.migrate(conn)
    if schema.NONE < before < schema.VERSION:
        event(conn, run.id, MIGRATED, **{"from": before, "to": schema.VERSION})
