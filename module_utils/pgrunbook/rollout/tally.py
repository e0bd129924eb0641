# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a rollout tell each other while it runs: a file each, on the controller, in a
folder of this execution of ansible-playbook. The processes of their tasks share nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.values import plain, read
from .ended import Ended


def folder(temporary: str) -> Path:
    """The folder, in that of the temporary files of this execution, which removes it."""
    return Path(temporary) / "pgrunbook-rollout"


def note(folder: Path, ended: Ended) -> None:
    """Keep how a host ended."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = file_of(folder, ended.host, "json")
    new = path.with_suffix(".new")
    new.write_text(json.dumps(plain(ended)), encoding="utf-8")
    new.replace(path)


def ended(folder: Path) -> list[Ended]:
    """How each host ended that has, in the order of their names."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json"))
    return sorted((read(Ended, each) for each in found), key=lambda each: each.host)


def file_of(folder: Path, host: str, suffix: str) -> Path:
    """A file of a host, whose name may have any character."""
    return folder / f"{host.encode().hex()[:200]}.{suffix}"
