# SPDX-License-Identifier: GPL-3.0-or-later
"""Signatures that a ledger keeps, verified again: whoever may write to it can forge a row, but no
signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ..core import values
from ..core.errors import RunbookError
from . import statement
from .approval_file import parsed
from .counted import is_operator, person
from .signature import Signature
from .statement import SignedHost, Statement
from .verify import ALLOWED, REVOKED, Trust, trusted, verified


@dataclass(frozen=True)
class Kept:
    """An approval of a plan as a ledger has it: of which run, what was approved (the plan's hash or
    the rollout's) and when, how many signatures its phase wants, this host's block of the text,
    every member's host, system identifier, database and plan hash, whose signatures do not count,
    and its signatures."""

    run: str
    hash: str
    approved_at: str
    wanted: int
    host: SignedHost
    members: tuple[tuple[str, ...], ...]
    operators: tuple[str, ...]
    signatures: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Verified:
    """What became of that, a sentence each: approvals that lack valid signatures, those that have
    them, and what else a person should know."""

    not_signed: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_again(kept: Sequence[Kept], trust: Trust) -> Verified:
    """Whether each approval has the signatures that it wants, valid when it was recorded. A key
    that has expired since is no matter; one that was revoked since is told."""
    found = Verified()
    asked = [each for each in kept if each.wanted or each.signatures]
    if not asked:
        return found
    problem = ""
    try:
        trust = trusted(trust) if trust.allowed else trust
    except RunbookError as error:
        problem = str(error).partition(" Nothing was changed.")[0]
    for each in asked:
        if len(each.signatures) < each.wanted:
            found.not_signed.append(f"{_wanted(each)}, {len(each.signatures) or 'none'} recorded.")
        elif problem:
            found.not_signed.append(f"{_of(each)} cannot be verified: {problem}.")
        elif not trust.allowed:
            found.notes.append(f"{_of(each)} were not verified: {ALLOWED} is not set.")
        else:
            _judge(each, trust, found)
    return found


def _judge(kept: Kept, trust: Trust, found: Verified) -> None:
    signers: dict[str, tuple[str, str]] = {}
    wrong: list[str] = []
    for each in kept.signatures:
        try:
            signer, key, note = _signer(kept, each, trust)
            if is_operator(signer, kept.operators):
                raise RunbookError(f"{signer} is who ran the playbook.")
        except RunbookError as error:
            wrong.append(str(error).partition(" Nothing was changed.")[0])
            continue
        if person(signer) not in signers and key not in [k for _, k in signers.values()]:
            signers[person(signer)] = (signer, key)
        found.notes.extend([note] if note else [])
    by = ", ".join(f"{signer} ({key})" for signer, key in signers.values())
    if wrong or len(signers) < kept.wanted:
        found.not_signed.append(
            f"{_wanted(kept)}, {len(signers)} valid"
            + (f", by {by}." if by else ".")
            + "".join(f" {sentence}" for sentence in wrong)
        )
    else:
        found.signed.append(f"The plan {kept.hash[:8]} of run {kept.run}, by {by}.")


def _signer(kept: Kept, stored: Mapping[str, Any], trust: Trust) -> tuple[str, str, str]:
    """Who signed, with which key, and what there is to note of that. Raises RunbookError where the
    signature does not approve what was approved, or was not valid then."""
    try:
        signature = values.read(Signature, stored)
        at = datetime.fromisoformat(kept.approved_at).astimezone(UTC)
        file = parsed(f"of {signature.signer}", f"{signature.text}{signature.signature}")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise RunbookError("One of them is none.") from None
    _require_approved(kept, file.statement)
    if not file.statement.signed_at <= file.statement.expires_at or file.statement.expires_at < at:
        raise RunbookError(f"That of {signature.signer} had expired when it was recorded.")
    signer, key = verified(file, Trust(trust.allowed), at)
    note = ""
    if trust.revoked:
        try:
            verified(file, trust, at)
        except RunbookError:
            note = (
                f"The key {key} of {signer}, who signed the plan of run {kept.run}, is revoked "
                f"now ({REVOKED}), or that list is none."
            )
    if (signer, key, file.sha256) != (signature.signer, signature.key, signature.sha256):
        raise RunbookError(f"That of {signer} is recorded as that of {signature.signer}.")
    return signer, key, note


def _require_approved(kept: Kept, said: Statement) -> None:
    """Raise RunbookError unless the text is of what was approved: of this host, and of the others
    as far as this ledger knows them."""
    own = tuple(host for host in said.hosts if host.host == kept.host.host)
    members = tuple(
        sorted((h.host, h.system_identifier, h.database, h.plan_hash) for h in said.hosts)
    )
    as_kept = Statement(kept.hash, "plan", (kept.host,))
    same = not statement.unlike(replace(said, hosts=own), as_kept)
    if not own or not same or members != tuple(sorted(kept.members)):
        raise RunbookError("One of them is of another plan.")


def _of(kept: Kept) -> str:
    return f"The signatures of the plan of run {kept.run}"


def _wanted(kept: Kept) -> str:
    several = "" if kept.wanted == 1 else "s"
    return f"The plan of run {kept.run}: {kept.wanted} signature{several} wanted"
