# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the two files of a phase. One that is there stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import RunbookError
from .paths import Paths

_RENAME = "give the phase another name (NAME=…, or -e phase=…)"


def require_new(phase: str, to: Paths) -> None:
    """Raise RunbookError where the name is none, or one of the files is there."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", phase):
        raise RunbookError(
            f"The phase cannot be called {phase!r}: its files and reports are called so, and take "
            "letters, digits, dots, hyphens and underscores. Nothing was written. Next step: "
            f"{_RENAME}."
        )
    there = [p for p in (to.phase, to.playbook) if p.exists() or p.is_symlink()]
    if there:
        raise _there(there)


def write(to: Paths, phase_file: str, playbook: str) -> None:
    """Write both, or none. Raises RunbookError where one is there or cannot be written."""
    written: list[Path] = []
    try:
        for path, content in ((to.phase, phase_file), (to.playbook, playbook)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(content)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise _there([Path(error.filename)]) from None
        raise RunbookError(
            f"{error.filename or to.phase} cannot be written: {error.strerror}. Nothing was "
            "written. Next step: name another folder (FOLDER=…, or -e folder=…), or see to this "
            "one."
        ) from None


def _there(paths: list[Path]) -> RunbookError:
    said = " and ".join(map(str, paths))
    return RunbookError(
        f"{said} {'is' if len(paths) == 1 else 'are'} there already. Nothing was written. Next "
        f"step: {_RENAME}, or move away what is there."
    )
