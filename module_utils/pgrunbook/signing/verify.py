# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the files of signed approvals approve a plan: here, now, by the list of allowed
signers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..core import printable
from ..core.errors import RunbookError
from . import ssh_keygen
from .approval_file import ApprovalFile, load, wrong
from .counted import Rules, require_counting
from .signature import Signature
from .statement import TIME, Statement, unlike
from .trusted_file import require_trusted

ALLOWED, REVOKED = "runbook_allowed_signers", "runbook_revoked_signers"
CLOCKS = timedelta(minutes=5)
"""By how much the clocks of a signer and of the controller may differ."""
_PATTERN = re.compile(r"[*?!]")


@dataclass(frozen=True)
class Trust:
    """The paths of the list of allowed signers and of that of revoked keys; empty where there is
    none."""

    allowed: str = ""
    revoked: str = ""


def paths(given: Any) -> list[str]:
    """The paths that somebody passes as approval_signatures: one, or several as a list, which -e
    hands over as JSON. Raises RunbookError where it is neither."""
    if given is None:
        return []
    found = given
    if isinstance(given, str):
        try:
            found = json.loads(given) if given.lstrip().startswith("[") else [given]
        except ValueError:
            found = None
    if not isinstance(found, list) or not all(isinstance(p, str) and p.strip() for p in found):
        raise RunbookError(
            f"approval_signatures is {printable.line(given)!r}, and neither a path nor a list of "
            "paths. Nothing was changed. Next step: pass -e "
            'approval_signatures=\'["<file>","<file>"]\', with no space between them.'
        )
    return [str(path) for path in found]


def signatures(
    paths: Sequence[str], expected: Statement, trust: Trust, rules: Rules, now: datetime
) -> tuple[Signature, ...]:
    """The signatures of the files, all of which have to count. Raises RunbookError with the first
    that does not, or where there are too few."""
    found: list[Signature] = []
    if paths:
        trust = trusted(trust)
        found = [_signature(load(path), expected, trust, now) for path in paths]
    require_counting(found, rules)
    return tuple(found)


def trusted(trust: Trust) -> Trust:
    """The lists by their absolute paths. Raises RunbookError where there is none of allowed
    signers, or one of them is not to be trusted."""
    if not trust.allowed:
        raise RunbookError(
            f"Whose signatures count is not known: {ALLOWED} is not set. Nothing was changed. Next "
            "step: set it to the path of a file with a line for each signer: a name, such as "
            "alice@example.org, and a public key (man ssh-keygen, ALLOWED SIGNERS)."
        )
    return Trust(
        require_trusted(trust.allowed, ALLOWED),
        require_trusted(trust.revoked, REVOKED) if trust.revoked else "",
    )


def _signature(file: ApprovalFile, expected: Statement, trust: Trust, now: datetime) -> Signature:
    _require_of_plan(file, expected)
    _require_time(file, now)
    signer, key = verified(file, trust, now)
    return Signature(
        signer=signer,
        key=key,
        signed_at=file.statement.signed_at.strftime(TIME),
        expires_at=file.statement.expires_at.strftime(TIME),
        text=file.text,
        signature=file.signature,
        sha256=file.sha256,
    )


def _require_of_plan(file: ApprovalFile, expected: Statement) -> None:
    """Raise RunbookError unless each line of the text fits the plan, apart from those on who signed
    when, and on estimates of rows."""
    if file.statement.hash != expected.hash:
        raise wrong(
            file.path,
            f"is of another plan, {file.statement.hash[:8]}; this one is {expected.hash}: the "
            "database or the phase has changed since it was signed, or it is another file's",
            "have the plan.json of a new dry run signed with scripts/approve.",
        )
    if line := unlike(file.statement, expected):
        raise wrong(file.path, f"does not fit this plan: {line}")


def _require_time(file: ApprovalFile, now: datetime) -> None:
    said = file.statement
    if said.expires_at <= now:
        raise wrong(file.path, f"has expired at {said.expires_at.strftime(TIME)}")
    if said.signed_at > now + CLOCKS:
        raise wrong(
            file.path,
            f"is of the future: it was signed at {said.signed_at.strftime(TIME)}",
            "set the clock of the signer's machine, or of this one, right.",
        )


def verified(file: ApprovalFile, trust: Trust, at: datetime) -> tuple[str, str]:
    """Who has signed the file, and the key's fingerprint, as of that time. Raises RunbookError
    where the signature is not good, or nobody's who is allowed."""
    if file.namespace != ssh_keygen.NAMESPACE:
        raise wrong(
            file.path,
            f"was signed for something else: its namespace is {file.namespace!r}, not "
            f"{ssh_keygen.NAMESPACE!r}",
        )
    signer = _signer(file, trust, at)
    given = (trust.allowed, signer, file.text, file.signature, at)
    answer = ssh_keygen.verify(*given)
    if not answer.ok:
        raise _not_verified(file, signer, answer)
    if trust.revoked and not ssh_keygen.verify(*given, trust.revoked).ok:
        raise wrong(
            file.path,
            f"was signed by {signer} with the key {answer.key}, which is revoked "
            f"({REVOKED}), or that list is none",
            "have it signed with another key.",
        )
    return signer, answer.key


def _signer(file: ApprovalFile, trust: Trust, at: datetime) -> str:
    """Who the list says that has the key. A key of several is for the signer to say whose."""
    answer = ssh_keygen.find_principals(trust.allowed, file.signature, at)
    if answer.times:
        raise _out_of_time(file, answer)
    if not answer.ok and not answer.is_unknown:
        said = " ".join(answer.error.split())
        raise wrong(
            file.path,
            f"cannot be verified, because ssh-keygen says: {said}",
            "install OpenSSH's client 9.0 or newer, and see that the signature is whole.",
        )
    if not answer.ok:
        raise wrong(
            file.path,
            f"was signed with the key {file.key}, which is nobody's in {ALLOWED}",
            f"add the signer to {trust.allowed}, if they may approve, or have somebody else sign.",
        )
    listed = answer.out.split("\n")[:-1]
    if file.statement.signer:
        return file.statement.signer
    if len(listed) == 1 and not _PATTERN.search(listed[0]):
        return listed[0]
    raise wrong(
        file.path,
        f"does not say who signed it, and the key is listed for {', '.join(listed)}",
        "sign it again with --as and the signer's name.",
    )


def _not_verified(file: ApprovalFile, signer: str, answer: ssh_keygen.Answer) -> RunbookError:
    if answer.times:
        return _out_of_time(file, answer)
    if "incorrect signature" in answer.error:
        return wrong(file.path, "was changed after it was signed")
    why = printable.line(" ".join(answer.error.split())) or "it does not say why"
    return wrong(
        file.path,
        f"was signed with the key {file.key}, which is not that of {signer} in {ALLOWED}, or not "
        f"for the namespace {ssh_keygen.NAMESPACE} ({why})",
        "correct that line, if the key may approve, or have it signed with --as and the name that "
        "is listed.",
    )


def _out_of_time(file: ApprovalFile, answer: ssh_keygen.Answer) -> RunbookError:
    return wrong(
        file.path,
        f"was signed with the key {file.key}, which {ALLOWED} does not let sign now: "
        f"{answer.times}",
        "have it signed with a key that is valid now, or correct valid-after and valid-before.",
    )
