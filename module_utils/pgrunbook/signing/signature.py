# SPDX-License-Identifier: GPL-3.0-or-later
"""A signature that counts, as the ledger keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.options import option


@dataclass(frozen=True)
class Signature:
    """Who signed what with which key. Times are ISO 8601, UTC."""

    signer: str = option("The principal, as the list of allowed signers has it.")
    key: str = option("The fingerprint of the key, C(SHA256:) and base64.")
    signed_at: str = option("When it was signed, as the signer says.")
    expires_at: str = option("Until when it may be used.")
    text: str = option("The text that was signed.")
    signature: str = option("The signature of it, armored, as C(ssh-keygen -Y sign) writes it.")
    sha256: str = option("SHA-256 of the file, in hexadecimal: of the text and the signature.")
