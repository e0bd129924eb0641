# SPDX-License-Identifier: GPL-3.0-or-later
"""The reports in a folder: what each says of itself, whether it is as it was written, and what the
latest run measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..core.values import read
from ..gates import SpeedUp
from .value import FORMAT, Json, data_sha256

Found = TypeVar("Found")


def verify(told: Json) -> bool:
    """Whether a report, as read from report.json, is as it was written."""
    return told.get("sha256") == data_sha256(told)


@dataclass(frozen=True)
class Stored:
    """What a report in a folder says of itself: intact is whether its sum is that of its data;
    events and head are of the ledger's chain when it was written."""

    path: str
    run_id: str
    sha256: str
    intact: bool
    events: int
    head: str
    system_identifier: str
    database: str


@dataclass(frozen=True)
class Measured:
    """What a run measured of its queries, by their names."""

    run_id: str
    finished_at: str
    queries: Mapping[str, SpeedUp]


def reports(folder: Path) -> tuple[list[Stored], list[str]]:
    """The reports in a folder, and the paths of the files that are none."""
    return _read(folder, "*", _vouched)


def latest_measured(folder: Path, phase: str, server: Json) -> tuple[Measured | None, list[str]]:
    """The newest report of a finished run of the phase on that database, if there is one, and the
    paths of the files that are no report. server has system_identifier and database, as
    catalog.server() gives them."""
    found, unreadable = _read(
        folder,
        f"{phase}-*",
        lambda _, report: _measured(report) if _is_of(report, phase, server) else None,
    )
    runs = [run for run in found if run]
    return max(runs, key=lambda run: run.finished_at, default=None), unreadable


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


def _vouched(path: Path, report: Json) -> Stored:
    chain, server = report["chain"] or {}, report["server"]
    return Stored(
        path=str(path),
        run_id=report["run_id"],
        sha256=report["sha256"],
        intact=verify(report),
        events=chain.get("events", 0),
        head=chain.get("head", ""),
        system_identifier=server.get("system_identifier", ""),
        database=server.get("database", ""),
    )


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


def _measured(report: Json) -> Measured:
    queries = {query["name"]: read(SpeedUp, query) for query in report["queries"]}
    return Measured(report["run_id"], str(report["finished_at"]), queries)
