# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of a rollout, kept beside the reports: in full for whoever approves them, and to say
what has changed when they are no longer the ones that were approved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core import printable
from ..core.errors import RunbookError
from ..report.files import SUFFIXES, private_folder, replace_file
from ..report.pages import rendered_html
from . import groups
from .plan_file import NAME, content
from .rollout import Rollout

PAGE = "plan.html"
MAX_TOLD = 5  # hosts of which it is told what has changed


def keep(folder: Path, rollout: Rollout, text: str, templates: Path) -> str:
    """Write the plans of all hosts to a folder of their own, as a page and as JSON; the path of the
    page. text is what page.page() says of the rollout. Raises RunbookError where they cannot be
    written."""
    into = folder / f"{rollout.id}-plan"
    _write(into, {NAME: content(rollout), PAGE: _page(rollout, text, templates)})
    return str(into / PAGE)


def keep_one(folder: Path, rollout: Rollout) -> str:
    """Write the plan of a single host beside the report of the dry run; the path. Raises
    RunbookError where it cannot be written."""
    into = folder / f"{rollout.to_do[0].run_id}{SUFFIXES['plan']}"
    _write(into, {NAME: content(rollout)})
    return str(into / NAME)


def _write(into: Path, files: Mapping[str, str]) -> None:
    try:
        private_folder(into)
        for name, written in files.items():
            replace_file(into / name, written)
    except OSError as error:
        raise RunbookError(
            f"The plans cannot be written to {into}: {error.strerror}. Next step: let whoever "
            "runs ansible-playbook write there, or set runbook_reports to another folder."
        ) from None


def _page(rollout: Rollout, text: str, templates: Path) -> str:
    """All that a person reads before they approve the rollout, and a plan of each kind in full."""
    shown = printable.every(rollout)
    given = {"rollout": shown, "page": text, "groups": groups.alike(shown.to_do)}
    return rendered_html("rollout_plan.html.j2", templates, {}, **given)


def changed_since(folder: Path, approved: str, rollout: Rollout) -> str:
    """What has changed since the plans were made whose rollout's hash, or the beginning of it, was
    approved, host by host. Empty where nobody knows these plans."""
    for path in sorted(folder.glob(f"*-plan/{NAME}"), reverse=True):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["hash"] and told["hash"].startswith(approved):
                return _sentence(list(_changes(told["hosts"], rollout)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return ""


def _changes(before: Mapping[str, Any], rollout: Rollout) -> Iterator[str]:
    now = {host.host: host for host in rollout.to_do}
    done = {host.host for host in rollout.done}
    for host in before:
        if host not in now:
            yield f"{host} is done already" if host in done else f"{host} has left"
    for name, planned in now.items():
        if name not in before:
            yield f"{name} has joined"
        elif before[name]["plan_hash"] != planned.plan_hash:
            then, there = groups.compared(before[name]["plan"]), groups.compared(planned.plan)
            found = groups.differences(then, there)
            yield f"the plan of {name} has changed ({'; '.join(found) or 'another server'})"


def _sentence(changes: list[str]) -> str:
    more = len(changes) - MAX_TOLD
    told = changes[:MAX_TOLD] + ([f"and {more} more"] if more > 0 else [])
    return f"Since these plans were approved: {', '.join(told)}." if changes else ""
