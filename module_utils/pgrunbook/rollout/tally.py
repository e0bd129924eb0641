# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts of a rollout tell each other while it runs: a file each, on the controller, in a
folder of this execution of ansible-playbook. The processes of their tasks share nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from ..core.values import plain, read
from .ended import Ended

Value = TypeVar("Value")


def folder(temporary: str) -> Path:
    """The folder, in that of the temporary files of this execution, which removes it."""
    return Path(temporary) / "pgrunbook-rollout"


def note(folder: Path, ended: Ended) -> None:
    """Keep how a host ended, instead of what was kept of that before."""
    what, other = ("failed", "ended") if ended.is_failure else ("ended", "failed")
    keep(folder, ended.host, what, ended)
    _path(folder, ended.host, other).unlink(missing_ok=True)


def failed(folder: Path) -> list[Ended]:
    """How each host ended that failed, in the order of their names. Every host that begins asks for
    this, so those that did not fail are in other files."""
    return sorted(kept(folder, "failed", Ended), key=lambda each: each.host)


def ended(folder: Path) -> list[Ended]:
    """How each host ended that has, in the order of their names."""
    found = [*kept(folder, "failed", Ended), *kept(folder, "ended", Ended)]
    return sorted(found, key=lambda each: each.host)


def of(folder: Path, host: str) -> Ended | None:
    """How one host ended; None where it has not, or failed."""
    path = _path(folder, host, "ended")
    return read(Ended, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def keep(folder: Path, host: str, what: str, value: object) -> None:
    """Write a dataclass to a file of a host, whose name may have any character."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(folder, host, what)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(plain(value)), encoding="utf-8")
    new.replace(path)


def _path(folder: Path, host: str, what: str) -> Path:
    return folder / f"{host.encode().hex()[:200]}.{what}"


def kept(folder: Path, what: str, kind: type[Value]) -> list[Value]:
    """What every host has kept of a kind."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*.{what}"))
    return [read(kind, each) for each in found]
