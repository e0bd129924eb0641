# SPDX-License-Identifier: GPL-3.0-or-later
"""Which signatures count together, by plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..core import printable
from ..core.errors import RunbookError
from .signature import Signature


@dataclass(frozen=True)
class Rules:
    """How many signatures a plan wants, the operator's names, and whether one of the signatures may
    be the operator's."""

    wanted: int = 0
    operators: tuple[str, ...] = ()
    operator_may_sign: bool = False


def require_counting(found: Sequence[Signature], rules: Rules) -> None:
    """Raise RunbookError unless each signature is somebody else's, none is the operator's where
    that does not count, and there are enough."""
    for number, each in enumerate(found):
        for other in found[:number]:
            if person(each.signer) == person(other.signer):
                raise _refused(f"{each.signer} has signed twice, and counts once")
            if each.key == other.key:
                raise _refused(
                    f"{other.signer} and {each.signer} have signed with one key, {each.key}"
                )
        if not rules.operator_may_sign and is_operator(each.signer, rules.operators):
            raise _refused(
                f"{each.signer} is who runs the playbook, whose own signature does not count "
                "(phase_operator_may_sign)"
            )
    if len(found) < rules.wanted:
        raise RunbookError(too_few(rules.wanted, [each.signer for each in found]))


def too_few(wanted: int, signers: Sequence[str]) -> str:
    """What is said where a plan wants more signatures than there are."""
    by = f", by {printable.line(', '.join(signers))}" if signers else ""
    return (
        f"The plan wants {wanted} {'signature' if wanted == 1 else 'signatures'} "
        f"(phase_signatures_min), and there {'is' if len(signers) == 1 else 'are'} "
        f"{len(signers) or 'none'}{by}. Nothing was changed. Next step: have the plan of a dry run "
        "signed with scripts/approve, and pass -e "
        'approval_signatures=\'["<file>","<file>"]\'.'
    )


def person(principal: str) -> str:
    """Who a principal is, to be compared: names that differ in capitals only are one."""
    return principal.strip().casefold()


def is_operator(principal: str, operators: Iterable[str]) -> bool:
    """Whether a principal, or what stands in it before the @, is a name of the operator."""
    named = {person(name) for name in operators if name.strip()}
    return bool({person(principal), person(principal).partition("@")[0]} & named)


def _refused(why: str) -> RunbookError:
    return RunbookError(
        f"{printable.line(why)}. Nothing was changed. Next step: leave that signature out of "
        "approval_signatures, and have somebody else sign."
    )
