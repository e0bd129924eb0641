# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a signed approval: the text, and below it the armored SSH signature of it.

OpenSSH's PROTOCOL.sshsig describes what is in the armor: a magic, a version, the public key and the
namespace, each as a length of four bytes and so many bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import stat
from dataclasses import dataclass
from pathlib import Path

from ..core import printable
from ..core.errors import RunbookError
from .statement import Statement, read

MOST_BYTES = 2_000_000  # some 5,000 databases
BEGIN, END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAGIC = b"SSHSIG"


@dataclass(frozen=True)
class ApprovalFile:
    """What a file has: its text with what it says, its signature, the namespace of that, and the
    fingerprint of the key in it; sha256 is of the whole file."""

    path: str
    text: str
    statement: Statement
    signature: str
    namespace: str
    key: str
    sha256: str


def load(path: str) -> ApprovalFile:
    """The file of a path. Raises RunbookError where it is missing, too large or no signed
    approval."""
    try:
        found = Path(path).expanduser()
        if not stat.S_ISREG(found.stat().st_mode):
            raise wrong(path, "cannot be read: it is no file")
        with found.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "that is no path"
        raise wrong(
            path, f"cannot be read: {why}", "pass the file that scripts/approve wrote."
        ) from None
    if len(content) > MOST_BYTES:
        raise wrong(path, f"is larger than {MOST_BYTES:,} bytes, as no signed approval is")
    try:
        return parsed(path, content.decode("utf-8"))
    except UnicodeDecodeError:
        raise wrong(path, "is no signed approval: it is not UTF-8") from None


def parsed(path: str, content: str) -> ApprovalFile:
    """The file of that content. Raises RunbookError where it is no signed approval."""
    text, begin, rest = content.partition(BEGIN)
    signature = begin + rest
    try:
        if not signature.endswith(f"{END}\n") or signature.count("-----END") > 1:
            raise RunbookError("it does not end with an SSH signature")
        key, namespace = _in_armor(signature)
        statement = read(text)
    except RunbookError as error:
        raise wrong(path, f"is no signed approval: {error}") from None
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    return ApprovalFile(path, text, statement, signature, namespace, key, sha256)


def wrong(path: str, why: str, then: str = "") -> RunbookError:
    """The error of a file that is no approval of a plan, or none that counts."""
    then = then or "have it signed again with scripts/approve, or leave it out."
    return RunbookError(
        f"The signed approval {printable.line(path)} {printable.line(why)}. Nothing was changed. "
        f"Next step: {then}"
    )


def _in_armor(signature: str) -> tuple[str, str]:
    """The fingerprint of the key of a signature, and its namespace."""
    try:
        armored = "".join(signature.split("\n")[1:-2])
        blob = base64.b64decode(armored, validate=True)
        if not blob.startswith(_MAGIC):
            raise ValueError
        key, rest = _field(blob[len(_MAGIC) + 4 :])
        namespace, _ = _field(rest)
        digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
        return f"SHA256:{digest}", namespace.decode()
    except (ValueError, binascii.Error):
        raise RunbookError("what stands below its text is no SSH signature") from None


def _field(blob: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(blob[:4], "big")
    if len(blob) < 4 + length:
        raise ValueError
    return blob[4 : 4 + length], blob[4 + length :]
