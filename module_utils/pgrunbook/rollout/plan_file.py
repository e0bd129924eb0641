# SPDX-License-Identifier: GPL-3.0-or-later
"""plan.json: the plans of all hosts and their hash, with what is shown of them, so that somebody
can approve them who has neither the database nor Ansible. It has no row of a table."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import printable
from ..core.errors import RunbookError
from ..core.printable import in_json
from ..ledger import plan_hash
from ..plan.brief import plan_brief
from ..plan.reading import in_short
from . import page
from .hosts import Planned, planned
from .rollout import Rollout, foreseen

NAME = "plan.json"
FORMAT = 1
MOST_BYTES = 500_000_000


@dataclass(frozen=True)
class Plans:
    """What a file has: the rollout, and all that a person reads before they approve it, computed
    from the plans."""

    rollout: Rollout
    text: str


def content(rollout: Rollout) -> str:
    """What the file has of a rollout."""
    document = {
        "format": FORMAT,
        "id": rollout.id,
        "hash": rollout.hash,
        "sizes": rollout.sizes,
        "forks": rollout.forks,
        "done": [host.host for host in rollout.done],
        "hosts": {host.host: _entry(host) for host in rollout.to_do},
    }
    return in_json(json.dumps(document, indent=1, ensure_ascii=False)) + "\n"


def _entry(host: Planned) -> Mapping[str, Any]:
    return {
        "plan_hash": host.plan_hash,
        "plan": host.plan,
        "run_id": host.run_id,
        "foreseen": host.foreseen,
        "shown": host.shown,
    }


def load(path: Path) -> Plans:
    """The plans of a file. Raises RunbookError where it cannot be read, is none, or its hashes are
    not those of its plans."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _wrong(path, "cannot be read: it is no file")
        if found.st_size > MOST_BYTES:
            raise ValueError
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["format"] != FORMAT:
            raise _wrong(path, f"is of format {told['format']}, which this pgrunbook does not know")
        rollout = _rollout(path, told)
        return Plans(rollout, shown(rollout))
    except OSError as error:
        raise _wrong(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise _wrong(path, "is no file of plans that can be approved") from None


def shown(rollout: Rollout) -> str:
    """What a person reads before they approve: of one host the plan in short, of several a page."""
    gates = [f"THE RUN CAN ONLY END NO-GO  {printable.line(gate)}" for gate in foreseen(rollout)]
    if len(rollout.to_do) != 1:
        return "\n".join([page.page(rollout), *gates])
    (host,) = rollout.to_do
    told = in_short({**host.shown, "plan": host.plan}, host.run_id, host.plan_hash)
    return "\n".join([plan_brief(told), *gates])


def _rollout(path: Path, told: Mapping[str, Any]) -> Rollout:
    hosts = [_host(path, name, entry) for name, entry in told["hosts"].items()]
    found = Rollout(
        id=told["id"],
        title=hosts[0].title or hosts[0].phase,
        to_do=tuple(hosts),
        done=tuple(Planned(name, over=True, needed=False) for name in told["done"]),
        refused=(),
        sizes=tuple(told["sizes"]),
        forks=told["forks"],
    )
    if found.hash != told["hash"]:
        raise _changed(path, told["hash"], found.hash)
    return found


def _host(path: Path, name: str, entry: Mapping[str, Any]) -> Planned:
    computed = plan_hash(entry["plan"])
    if computed != entry["plan_hash"]:
        raise _changed(path, entry["plan_hash"], computed)
    told = {key: entry[key] for key in ("plan", "plan_hash")} | entry["shown"]
    unknown = {"run": {"id": entry["run_id"]}, "proof": {}, "text": ""}
    return planned(name, {**told, **unknown}, entry["foreseen"], "")


def _changed(path: Path, said: Any, computed: str) -> RunbookError:
    return _wrong(
        path,
        f"was changed: it says that its hash is {str(said)[:8]}, and what it has gives "
        f"{computed[:8]}",
    )


def _wrong(path: Path, why: str) -> RunbookError:
    return RunbookError(
        f"{printable.line(path)} {printable.line(why)}. Nothing was written. Next step: take the "
        "plan.json that a dry run (--check) has left beside its report."
    )
