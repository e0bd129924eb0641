# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file can be trusted that says whose signatures count: whoever can write it decides."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ..core import printable
from ..core.errors import RunbookError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def require_trusted(path: str, variable: str) -> str:
    """The absolute path of a file that only its owner may write, and who that is, root or the
    account that this runs under; so for each folder above it, as ssh asks of authorized_keys. A
    folder with the sticky bit lets nobody replace another's file, so it may be anybody's to write.

    Raises RunbookError with what is wrong, naming the variable that the path is from.
    """
    try:
        real = Path(path).expanduser().resolve(strict=True)
        found = real.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _wrong(variable, real, "is no file", "name a file.")
        os.close(os.open(real, os.O_RDONLY))
        _require_own(variable, real, found)
        for folder in real.parents:
            _require_own(variable, folder, folder.stat())
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
        raise _wrong(variable, path, why, "name a file that whoever runs this may read.") from None
    except (ValueError, RuntimeError):
        raise _wrong(variable, path, "is no path", "name a file.") from None
    return str(real)


def _require_own(variable: str, path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.getuid()):
        who = f"belongs to the account with the number {found.st_uid}"
        raise _wrong(variable, path, who, "make it over to root, or to whoever runs the playbook.")
    sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if found.st_mode & _OTHERS_WRITE and not sticky:
        raise _wrong(variable, path, "may be written by others", f"chmod go-w {path}")


def _wrong(variable: str, path: str | Path, why: str, then: str) -> RunbookError:
    return RunbookError(
        f"{variable} says whose signatures count, and {printable.line(path)} {why}. Nothing was "
        f"changed. Next step: {then}"
    )
