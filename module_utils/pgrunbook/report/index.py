# SPDX-License-Identifier: GPL-3.0-or-later
"""The page that lists all reports of a folder, the newest first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import printable
from .files import replace_file
from .pages import rendered_html

PAGE = "index.html"
KINDS = {"plan": "dry run", "run": "run", "rollback": "rollback", "rollout": "rollout"}


@dataclass(frozen=True)
class Entry:
    """A report in the list: its folder, the host, the database and the table that it is of, and its
    figures. seconds is how long the rows took. Of a rollout, host counts the hosts."""

    folder: str
    kind: str
    verdict: str
    title: str
    host: str
    database: str
    table: str
    started_at: str
    rows: int
    seconds: float


def write(folder: Path, templates: Path) -> Path:
    """List the reports of a folder in its index.html; its path. Raises OSError where it cannot be
    written."""
    found = sorted(entries(folder), key=lambda entry: entry.started_at, reverse=True)
    page = rendered_html("index.html.j2", templates, {}, entries=printable.every(found))
    replace_file(folder / PAGE, page)
    return folder / PAGE


def entries(folder: Path) -> Iterator[Entry]:
    """The reports of a folder. A file that is none of ours, or was made by another version, is
    passed over."""
    for path in folder.glob("*/report.json"):
        if path.parent.is_symlink():  # latest
            continue
        try:
            yield _entry(path.parent.name, json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue


def _entry(folder: str, told: Mapping[str, Any]) -> Entry:
    where = told.get("environment", {})
    if told["kind"] == "rollout":
        where = {"address": f"{len(told['hosts'])} hosts"}
        rows = sum(host["rows"] for host in told["hosts"])
        seconds = max((host["seconds"] for host in told["hosts"]), default=0.0)
    else:
        figures = told["backfill"]
        rows = figures["rows_eligible" if told["kind"] == "plan" else "rows_changed"]
        seconds = figures["seconds"]
    return Entry(
        folder=folder,
        kind=KINDS[told["kind"]],
        verdict=told["verdict"],
        title=told["title"].removeprefix("Before the run: "),
        host=where.get("address", ""),
        database=where.get("database", "") or told.get("server", {}).get("database", ""),
        table=where.get("table", ""),
        started_at=told["started_at"],
        rows=rows,
        seconds=seconds,
    )
