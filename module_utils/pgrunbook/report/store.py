# SPDX-License-Identifier: GPL-3.0-or-later
"""The reports in a folder: what each says of itself, whether it is as it was written, and what the
latest run measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .value import FORMAT, Json, data_sha256

Found = TypeVar("Found")


def verify(told: Json) -> bool:
    """Whether a report, as read from report.json, is as it was written."""
    return told.get("sha256") == data_sha256(told)


def reports(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What the reports in a folder say of themselves, and the paths of the files that are none.

    Each has path, run_id, sha256, intact (whether that is the sum of its data), events and head
    (of the chain when it was written), system_identifier and database.
    """
    return _read(folder, "*", _vouched)


def latest_measured(
    folder: Path, phase: str, server: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What the newest report of a finished run of the phase on that database says of its queries,
    and the paths of the files that are no report.

    server has system_identifier and database, as catalog.Server has them. The first value has
    run_id and queries (by their names, time_ratio, buffer_ratio and read_from_outside of each); it
    is empty where there is no such report.
    """
    found, unreadable = _read(
        folder,
        f"{phase}-*",
        lambda _, report: _measured(report) if _is_of(report, phase, server) else {},
    )
    return max(found, key=lambda run: str(run.get("finished_at", "")), default={}), unreadable


def _read(
    folder: Path, name: str, take: Callable[[Path, Json], Found]
) -> tuple[list[Found], list[str]]:
    """What take() makes of each report in the subfolders with a name like that, and the paths of
    the files that are no report."""
    found, unreadable = [], []
    for path in sorted(folder.glob(f"{name}/report.json")):
        if path.parent.is_symlink():
            continue
        try:
            found.append(take(path, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(str(path))
    return found, unreadable


def _vouched(path: Path, report: Json) -> dict[str, Any]:
    chain, server = report["chain"] or {}, report["server"]
    return {
        "path": str(path),
        "run_id": report["run_id"],
        "sha256": report["sha256"],
        "intact": verify(report),
        "events": chain.get("events", 0),
        "head": chain.get("head", ""),
        "system_identifier": server.get("system_identifier", ""),
        "database": server.get("database", ""),
    }


def _is_of(report: Json, phase: str, server: Json) -> bool:
    """Whether it is the report of a run of the phase on that database that got to its queries, the
    last step."""
    return (
        report["format"] == FORMAT
        and report.get("kind", "run") == "run"
        and bool(
            re.fullmatch(rf"{re.escape(phase)}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{4}}", report["run_id"])
        )
        and all(report["server"].get(k) == server[k] for k in ("system_identifier", "database"))
        and bool(report["queries"])
    )


def _measured(report: Json) -> dict[str, Any]:
    keys = ("time_ratio", "buffer_ratio", "read_from_outside")
    return {
        "run_id": report["run_id"],
        "finished_at": report["finished_at"],
        "queries": {
            query["name"]: {key: query[key] for key in keys} for query in report["queries"]
        },
    }
