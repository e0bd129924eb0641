# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/approve: a person reads a plan, types its token, and signs it with their SSH key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ..core import printable, typed
from ..core.errors import RunbookError
from ..core.frame import framed
from ..signing import ssh_keygen
from ..signing.approval_file import parsed
from ..signing.statement import TIME, Statement, text
from . import plan_file
from .rollout import Rollout
from .to_sign import is_rollback, to_sign

MOST_HOURS = 720  # 30 days
USUAL_KEYS = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
"""Those that ssh tries of itself, in ~/.ssh."""
_IN_NAMES = re.compile(r"[^A-Za-z0-9@._+-]")
_IN_PRINCIPALS = re.compile(r'[^\s,"*?!]+')


@dataclass(frozen=True)
class Asked:
    """What somebody asks for: to approve the plans of a file with a key, for so many hours, as a
    principal or as whom the key is listed, into a file. What is empty is found. account is theirs
    on this machine."""

    plans: Path
    key: str
    hours: int
    signer: str
    out: str
    account: str


def approve(
    asked: Asked, now: datetime, read: Callable[[str], str], say: Callable[[str], None]
) -> None:
    """Show the plans, ask for the token, sign and write the file. read shows a prompt and gives
    what was typed. Raises RunbookError where the plans are not to be approved, are not approved, or
    the file is not written."""
    _require_sound(asked)
    plans = plan_file.load(asked.plans)
    rollout = plans.rollout
    _require_run(asked.plans, rollout)
    key, out = _key(asked.key), _out(asked, rollout.hash)
    expires = now + timedelta(hours=asked.hours)
    say(f"\n{framed(printable.line(rollout.title), _box(asked, plans, expires))}\n")
    token = rollout.hash[: typed.TYPED]
    if typed.ask(token, read, say) != token:
        raise RunbookError(
            "Not approved. Nothing was signed or written. Next step: run it again and type what "
            "the prompt names."
        )
    signed = text(
        Statement(rollout.hash, "plan", to_sign(rollout).hosts, asked.signer, now, expires)
    )
    content = f"{signed}{ssh_keygen.sign(key, signed)}"
    made = parsed(str(out), content)
    _write(out, content)
    path = printable.line(out)
    say(
        f"Signed with key {made.key}, until {expires.strftime(TIME)}: {path}\n"
        "Whoever runs the playbook passes it, with those of the others:\n"
        f"  -e approval_signatures='[\"{path}\"]'"
    )


def _box(asked: Asked, plans: plan_file.Plans, expires: datetime) -> str:
    """What a person reads before they sign, as it stands in the question of a run."""
    hosts = plans.rollout.to_do
    several = f" on {len(hosts)} hosts" if len(hosts) > 1 else ""
    who = f", as {asked.signer}" if asked.signer else ""
    return (
        f"{plans.text}\n\n"
        f"Your signature covers the whole run{several}{who}, once begun until "
        f"{expires.strftime(TIME)}, and no rollback."
    )


def _require_sound(asked: Asked) -> None:
    if not 1 <= asked.hours <= MOST_HOURS:
        raise RunbookError(
            f"--expires is {asked.hours}; it takes 1 to {MOST_HOURS} hours. Nothing was written. "
            "Next step: pass the hours until the run begins, and some to spare."
        )
    if asked.signer and (
        not _IN_PRINCIPALS.fullmatch(asked.signer) or printable.line(asked.signer) != asked.signer
    ):
        raise RunbookError(
            f"--as is {printable.line(asked.signer)!r}, which is the name of no signer. Nothing "
            "was written. Next step: pass one name, as the list of allowed signers has it, such as "
            "alice@example.org."
        )


def _require_run(path: Path, rollout: Rollout) -> None:
    if is_rollback(rollout):
        raise RunbookError(
            f"{printable.line(path)} has the plan of a rollback, which nobody signs: going back "
            "waits for no colleague. Nothing was written. Next step: run rollback.yml, which asks."
        )


def _key(given: str) -> str:
    """The file of the key: the one that was given, else the only one of those that ssh tries."""
    if given:
        found = Path(given).expanduser()
        if not found.is_file():
            raise RunbookError(
                f"There is no key {printable.line(given)}. Nothing was written. Next step: pass "
                "--key with a private key, or with the public key of one that your agent holds."
            )
        return str(found)
    there = [Path.home() / ".ssh" / name for name in USUAL_KEYS]
    there = [path for path in there if path.is_file()]
    if len(there) != 1:
        which = ", ".join(map(str, there)) or "none of ~/.ssh/id_…"
        raise RunbookError(
            f"Which key? There is {which}. Nothing was written. Next step: pass --key with your "
            "private key, or with the public key of one that your agent holds (ssh-add -L)."
        )
    return str(there[0])


def _out(asked: Asked, of: str) -> Path:
    """Where the signature goes: a file of the signer's own, which is not there yet."""
    name = _IN_NAMES.sub("_", asked.signer or asked.account)
    own = asked.plans.parent / f"approval-{of[: typed.TYPED]}-{name}.sig"
    out = Path(asked.out).expanduser() if asked.out else own
    if os.path.lexists(out):
        raise RunbookError(
            f"{printable.line(out)} is there already, and may be somebody else's. Nothing was "
            "written. Next step: pass --out with another file, or remove that one if it is yours."
        )
    return out


def _write(out: Path, content: str) -> None:
    try:
        with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
            file.write(content.encode())
    except OSError as error:
        raise RunbookError(
            f"{printable.line(out)} cannot be written: {error.strerror}. Next step: pass --out "
            "with a file that you may write."
        ) from None
