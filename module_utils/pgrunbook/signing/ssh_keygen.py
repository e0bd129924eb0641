# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of ssh-keygen: who a key belongs to, whether a signature is theirs, and signing."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..core.errors import RunbookError

NAMESPACE = "pgrunbook"
SECONDS = 30  # for a look into files
PATIENCE = 600  # for a person at a passphrase, or who has to touch a key
_KEY = re.compile(r"key (SHA256:[A-Za-z0-9+/]+)")
# One line of an answer is about times if it says so in these words (OpenSSH's sshsig.c).
_TIMES = re.compile(r"key (has expired|is not yet valid)[^\n]*")

MISSING = (
    "ssh-keygen, which makes and verifies signatures, is not installed here. Nothing was changed. "
    "Next step: install OpenSSH's client (Debian and Ubuntu: openssh-client)."
)


@dataclass(frozen=True)
class Answer:
    """What ssh-keygen said: whether it was content, its output and its error messages."""

    ok: bool
    out: str
    error: str

    @property
    def times(self) -> str:
        """What it says of a key that was not valid at that time; empty where it does not."""
        found = _TIMES.search(self.error)
        return found[0].strip() if found else ""

    @property
    def is_unknown(self) -> bool:
        """Whether it says that the list has no such key."""
        return "No principal matched" in self.error

    @property
    def key(self) -> str:
        """The fingerprint of the key that it has verified."""
        found = _KEY.search(self.out)
        return found[1] if found else ""


def find_principals(allowed: str, signature: str, at: datetime) -> Answer:
    """Whose key made a signature, by a list of allowed signers; a principal a line of out. The key
    has to be valid at that time."""
    with _files(signature=signature) as files:
        return _look(["find-principals", "-f", allowed, "-s", files["signature"], *_at(at)])


def verify(
    allowed: str, principal: str, text: str, signature: str, at: datetime, revoked: str = ""
) -> Answer:
    """Whether a signature in our namespace is the principal's, of that text, with a key that was
    valid at that time and is not in the list of revoked ones."""
    with _files(signature=signature) as files:
        of = ["-I", principal, "-n", NAMESPACE, "-f", allowed, "-s", files["signature"]]
        return _look(["verify", *of, *(["-r", revoked] if revoked else []), *_at(at)], text)


def sign(key: str, text: str) -> str:
    """The armored signature of a text with the key of a file, or of the agent where that file is a
    public key. ssh-keygen asks for passphrases, and for a touch, itself. Raises RunbookError where
    it does not sign."""
    with _files(approval=text) as files:
        path = Path(files["approval"])
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", key, str(path)]
        answer = _run(command, None, {**os.environ, "LC_ALL": "C"}, PATIENCE, asks=True)
        made = path.with_suffix(".sig")
        if not answer.ok or not made.exists():
            raise RunbookError(
                f"ssh-keygen did not sign with {key}; what it said is above. Nothing was written. "
                "Next step: pass --key with a private key, or with the public key of one that "
                "your agent holds (ssh-add -L lists them)."
            )
        return made.read_text(encoding="ascii")


def _at(when: datetime) -> list[str]:
    """The option for a time: without a zone it is local time, and TZ is UTC here."""
    return ["-O", f"verify-time={when.astimezone(UTC):%Y%m%d%H%M%S}"]


def _look(arguments: Sequence[str], text: str = "") -> Answer:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    return _run(["ssh-keygen", "-Y", *arguments], text, environment, SECONDS)


def _run(
    command: list[str],
    text: str | None,
    environment: Mapping[str, str],
    seconds: int,
    *,
    asks: bool = False,
) -> Answer:
    told = None if asks else subprocess.PIPE
    try:
        done = subprocess.run(
            command,
            input=None if text is None else text.encode(),
            stdout=told,
            stderr=told,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise RunbookError(MISSING) from None
    except subprocess.TimeoutExpired:
        raise RunbookError(
            f"ssh-keygen did not answer within {seconds} s. Nothing was changed. Next step: run "
            f"it by hand to see why: {' '.join(command[:4])}"
        ) from None
    except OSError as error:
        raise RunbookError(
            f"ssh-keygen cannot be started: {error.strerror}. Nothing was changed. Next step: see "
            "that the ssh-keygen which comes first in PATH is OpenSSH's."
        ) from None
    out, error_text = (
        (said or b"").decode("utf-8", "replace") for said in (done.stdout, done.stderr)
    )
    return Answer(done.returncode == 0, out, error_text)


@contextmanager
def _files(**content: str) -> Iterator[dict[str, str]]:
    """Files with these contents in a folder of their own, which nobody else may enter and which is
    removed: their paths by their names."""
    with tempfile.TemporaryDirectory(prefix="pgrunbook-") as folder:
        for name, text in content.items():
            (Path(folder) / name).write_bytes(text.encode())
        yield {name: str(Path(folder) / name) for name in content}
