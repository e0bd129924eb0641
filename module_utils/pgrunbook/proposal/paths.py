# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the files of a phase go, and how they name each other, the runbook and the models."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
PLAYBOOKS = PROJECT / "playbooks"
RUNBOOK = "playbooks/runbook.yml"
"""The playbook that a phase's own one imports. In a collection it has the collection's name."""


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
    """Those of a phase. In the project's own folder of playbooks they name each other from there,
    so that the checkout may be moved; elsewhere by their whole path; with a collection from where
    ansible-playbook runs, as it looks for them there."""
    file = folder / "vars" / f"{phase}.yml"
    where, _, base = models.rpartition(":")
    in_file = where.endswith(".py")  # else a package, which is named as it is
    if not RUNBOOK.endswith(".yml"):
        imports, said = RUNBOOK, _from_here(file)
        models = f"{_from_here(Path(where))}:{base}" if in_file else models
        return Paths(file, folder / f"{phase}.yml", imports, said, models, False)
    at_home = folder.resolve() == PLAYBOOKS
    templated = at_home and in_file and _is_of_project(where)
    if templated:
        beside = os.path.relpath(Path(where).resolve(), PLAYBOOKS)
        models = f"{{{{ playbook_dir }}}}/{beside}:{base}"
    return Paths(
        file,
        folder / f"{phase}.yml",
        os.path.relpath(PROJECT / RUNBOOK, folder),
        f"vars/{phase}.yml" if at_home else str(file.resolve()),
        models,
        templated,
    )


def _from_here(path: Path) -> str:
    """A path as it is named from the folder in which ansible-playbook runs, if it is below that."""
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole)


def _is_of_project(models: str) -> bool:
    """Whether a file is in this checkout, under a name that is no template."""
    whole = Path(models).resolve()
    return bool(re.fullmatch(r"[\w./-]+", models)) and whole.is_relative_to(PROJECT)


def name_of(table: str) -> str:
    """What a phase is called that nobody has named: like its table, in signs that a name may
    have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", table).strip("._-") or "phase"
