# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files of a phase go, and how they name each other, the runbook and the models."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
PLAYBOOKS = PROJECT / "playbooks"
RUNBOOK = "runbook.yml"
"""The playbook that the new one imports, in PLAYBOOKS. A collection has another name for it."""


@dataclass(frozen=True)
class Paths:
    """Both files, and what they say: imports and phase_file in the playbook, models in the phase
    file. templated: the models are said by a template of Ansible."""

    phase: Path
    playbook: Path
    imports: str
    phase_file: str
    models: str
    templated: bool


def paths(folder: Path, phase: str, models: str) -> Paths:
    """Those of a phase. Below the project's own folder of playbooks they name each other from
    there, so that the checkout may be moved; elsewhere by their whole path."""
    at_home = folder.resolve() == PLAYBOOKS
    file = folder / "vars" / f"{phase}.yml"
    said, templated = _models(models, at_home=at_home)
    return Paths(
        file,
        folder / f"{phase}.yml",
        RUNBOOK if at_home else os.path.relpath(PLAYBOOKS / RUNBOOK, folder),
        f"vars/{phase}.yml" if at_home else str(file.resolve()),
        said,
        templated,
    )


def _models(models: str, *, at_home: bool) -> tuple[str, bool]:
    """How the phase file says where the models are. A package is named as it is."""
    where, _, base = models.rpartition(":")
    if not where.endswith(".py"):
        return models, False
    whole = Path(where).resolve()
    beside = re.fullmatch(r"[\w./-]+", where) and whole.is_relative_to(PROJECT)
    if at_home and beside:
        return f"{{{{ playbook_dir }}}}/{os.path.relpath(whole, PLAYBOOKS)}:{base}", True
    return f"{whole}:{base}", False


def name_of(table: str) -> str:
    """What a phase is called that nobody has named: like its table, in signs that a name may
    have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", table).strip("._-") or "phase"
