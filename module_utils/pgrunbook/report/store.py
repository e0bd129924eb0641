# SPDX-License-Identifier: GPL-3.0-or-later
"""What the reports in a folder say of themselves, and whether their sums are right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .report import verify


def reports(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What the reports in a folder say of themselves, and the paths of the files that are none.

    Each has path, run_id, sha256, intact (whether that is the sum of its data), events and head
    (of the chain when it was written), system_identifier and database.
    """
    found, unreadable = [], []
    for path in sorted(folder.glob("*/report.json")):
        if path.parent.is_symlink():
            continue
        try:
            found.append(_report(path, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(str(path))
    return found, unreadable


def _report(path: Path, report: dict[str, Any]) -> dict[str, Any]:
    return {
        "path": str(path),
        "run_id": report["run_id"],
        "sha256": report["sha256"],
        "intact": verify(report),
        "events": (report["chain"] or {}).get("events", 0),
        "head": (report["chain"] or {}).get("head", ""),
        "system_identifier": report["server"].get("system_identifier", ""),
        "database": report["server"].get("database", ""),
    }
