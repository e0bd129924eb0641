# SPDX-License-Identifier: GPL-3.0-or-later
"""A report's files, in a folder of their own."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..core.errors import RunbookError
from ..core.frame import hanging
from ..core.printable import in_json, line
from ..gates import Gate
from ..gates.gate import PASS
from .in_short import Targets, missed, proposed_index
from .junit import junit
from .pages import html, markdown
from .value import Fact, Option, Report, as_json
from .words import verdict_word

SUFFIXES = {"plan": "-plan", "run": "", "rollback": "-rollback"}
"""What follows a run's id in the name of its report's folder, by the report's kind."""

FILE_MODE, FOLDER_MODE = 0o640, 0o750
_OTHERS = 0o027  # what a folder that was there may lose: writing by the group, all by others


def write(
    folder: Path, report: Report, plots: Mapping[str, str], templates: Path
) -> dict[str, str]:
    """Write the report's files to a folder of their own, and point folder/latest there.

    plots are SVG drawings, as plots.draw() makes them. Returns the files' paths by kind. Each file
    is replaced whole; report.json is the last. Because rows of the tables are in them, only the
    owner and the group may read them, and no more than the umask lets them. Raises RunbookError
    where the folder cannot be written to.
    """
    document = in_json(json.dumps(as_json(report), indent=2, ensure_ascii=False))
    files = {
        "html": ("report.html", html(report, plots, templates)),
        "markdown": ("report.md", markdown(report, templates)),
        "junit": ("junit.xml", junit(report)),
        "json": ("report.json", f"{document}\n"),
    }
    return store(folder, f"{report.run_id}{SUFFIXES[report.kind]}", files)


def store(folder: Path, name: str, files: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Write files, each a name and its content by its kind, to folder/name, and point folder/latest
    there; a plan's report takes the place of no other. Returns their paths by kind. Raises
    RunbookError where that cannot be written to."""
    target = folder / name
    try:
        private_folder(target)
        for file, content in files.values():
            replace_file(target / file, content)
        latest = folder / "latest"
        if not _is_of_plan(target) or _is_of_plan(latest.resolve()):
            _point(latest, target)
    except OSError as error:
        raise RunbookError(
            f"The report cannot be written to {folder}: {error.strerror}. Next step: let "
            "whoever runs ansible-playbook write there, or set runbook_reports to another folder."
        ) from None
    return {kind: str(target / file) for kind, (file, _) in files.items()}


def verdict_text(report: Report) -> str:
    """The verdict as the terminal shows it: how many gates passed, each that was missed, and, once
    anything was approved, how the database is and what can be done now."""
    gates = [
        *_passed(report),
        *(_missed(gate, report.targets) for gate in report.checks if gate.status != PASS),
    ]
    lines = [
        *([*gates, ""] if gates else []),
        f"{verdict_word(report)}  {report.title}{_how_far(report)}",
        *_reason(report),
        *(row for fact in report.decision.state if report.approvals for row in _fact(fact)),
        *(
            text
            for option in report.decision.options
            for text in _shown(option)
            if report.approvals
        ),
    ]
    return "\n".join(map(line, lines))


def _how_far(report: Report) -> str:
    """What NO-GO means of a run that has changed something."""
    if report.verdict == "GO" or not report.approvals:
        return ""
    return " (stopped halfway)" if report.error else " (done, and a check failed)"


def _fact(fact: Fact) -> list[str]:
    """A fact behind its label."""
    return hanging(f"  {fact.what:12} ", fact.how)


def _passed(report: Report) -> list[str]:
    """How many gates passed; nothing of a run that broke off, where that says little."""
    if report.error:
        return []
    passed = sum(gate.status == PASS for gate in report.checks)
    return [f"Gates: {passed} of {len(report.checks)} passed; the report has each"]


def _missed(gate: Gate, targets: Targets) -> str:
    """A gate that was missed, with the index that would serve its query."""
    index = proposed_index(gate)
    served = f" An index would serve it; add to phase_indexes: {index}" if index else ""
    return f"{gate.status.upper():4}  {missed(gate, targets)}.{served}"


def _reason(report: Report) -> Sequence[str]:
    """Why the verdict is what it is, unless that is a gate, which stands above it."""
    if report.error:
        return report.reasons
    return [report.decision.reason] if report.verdict == "GO" else []


def _shown(option: Option) -> list[str]:
    """What can be done, and below it what to type."""
    best = " (recommended)" if option.recommended else ""
    if not option.command:
        return [f"{option.what}{best}"]
    return [f"{option.what}{best}: {option.takes}", f"  {option.command}"]


def _point(link: Path, target: Path) -> None:
    """Make the link one to the target beside it, in one step."""
    new = link.with_name(f".{link.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    new.symlink_to(target.name, target_is_directory=True)
    new.replace(link)


def _is_of_plan(folder: Path) -> bool:
    """Whether a folder has the report of a plan, or is not there yet."""
    return folder.name.endswith(SUFFIXES["plan"]) or not folder.exists()


def replace_file(path: Path, content: str) -> None:
    """Write a file whole, in the place of the one that was there."""
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(opened, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.replace(path)


def private_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing; take from one that is there what others
    may do."""
    if folder.is_dir():
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & _OTHERS:
            folder.chmod(mode & ~_OTHERS)
        return
    for missing in [folder, *folder.parents][::-1]:
        if not missing.exists():
            missing.mkdir(mode=FOLDER_MODE)
