# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the two files of a phase. One that is there stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

from ..core.errors import RunbookError, require_none
from .paths import Paths

_TAKEN = "Nothing was written. Next step: give the phase another name (NAME=…, or -e phase=…)"


def require_new(phase: str, to: Paths) -> None:
    """Raise RunbookError where the name is none, or one of the files is there."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", phase):
        raise RunbookError(
            f"The phase cannot be called {phase!r}: its files and reports are called so, and take "
            f"letters, digits, dots, hyphens and underscores. {_TAKEN}."
        )
    require_none(
        f"{path} is there already. {_TAKEN}; or move that file away."
        for path in (to.phase, to.playbook)
        if path.exists() or path.is_symlink()
    )


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
        why = "is there already" if isinstance(error, FileExistsError) else str(error.strerror)
        raise RunbookError(
            f"{error.filename or to.phase} cannot be written: {why}. {_TAKEN}, or another folder "
            "(-e folder=…)."
        ) from None
