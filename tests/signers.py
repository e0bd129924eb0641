# SPDX-License-Identifier: GPL-3.0-or-later
"""People with SSH keys of their own, who sign. The keys are made by ssh-keygen and are a test's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ansible.module_utils.pgrunbook.signing import ssh_keygen
from ansible.module_utils.pgrunbook.signing.statement import SignedHost, Statement, text

HASH = "0123456789abcdef" * 4
NOW = datetime(2026, 1, 31, 4, 0, tzinfo=UTC)
HOST = SignedHost(
    "phase3: Phase 3", "db1", "7000000000000000001", HASH, "app", "public.sessions", 1000
)
PLAN = Statement(HASH, "plan", (HOST,))
"""What is to be approved, of one host."""


@dataclass(frozen=True)
class Signer:
    """A person by the name of a principal, with a key."""

    name: str
    key: Path

    @classmethod
    def made(cls, folder: Path, name: str, key: str = "") -> Signer:
        path = folder / (key or name.partition("@")[0])
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)]
        subprocess.run(command, check=True)
        return cls(name, path)

    @property
    def public(self) -> str:
        return self.key.with_suffix(".pub").read_text("ascii").strip()

    def line(self, options: str = "", name: str = "") -> str:
        """Their line in a list of allowed signers."""
        return f"{name or self.name} {options}{' ' if options else ''}{self.public}\n"

    def sign(
        self,
        of: Statement = PLAN,
        *,
        at: datetime = NOW,
        hours: float = 24,
        change: Callable[[str], str] = str,
        namespace: str = "",
        named: str | None = None,
        file: str = "",
    ) -> str:
        """The path of their signed approval; change is what becomes of its text afterwards."""
        told = replace(of, signer=self.name if named is None else named, signed_at=at)
        signed = text(replace(told, expires_at=at + timedelta(hours=hours)))
        if namespace:
            path = self.key.with_name("other")
            path.write_text(signed, encoding="utf-8")
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(self.key)]
            subprocess.run([*command, str(path)], check=True)
            signature = path.with_suffix(".sig").read_text("ascii")
            path.with_suffix(".sig").unlink()
        else:
            signature = ssh_keygen.sign(str(self.key), signed)
        out = self.key.with_name(file or f"{self.key.name}.approval")
        out.write_text(change(signed) + signature, encoding="utf-8")
        return str(out)


def allowed(folder: Path, *lines: str) -> str:
    """The path of a list of allowed signers with these lines."""
    path = folder / "allowed_signers"
    path.write_text("".join(lines), encoding="ascii")
    path.chmod(0o644)
    return str(path)
