# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout: its verdict, a table of its hosts, and beside it a report for each."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ..core import printable
from ..core.values import plain, sha256
from ..core.version import VERSION
from ..report import pages
from .ended import Ended, counted
from .ended import verdict as verdict_of

FORMAT = 1


@dataclass(frozen=True)
class RolloutReport:
    """A rollout as report.json has it. started_at and finished_at are ISO 8601, UTC."""

    id: str
    title: str
    hash: str
    verdict: str
    why: str
    started_at: str
    finished_at: str
    sizes: tuple[int, ...]
    hosts: tuple[Ended, ...]
    kind: str = "rollout"
    format: int = FORMAT
    version: str = VERSION


def build(
    told: Mapping[str, str], sizes: Sequence[int], hosts: Sequence[Ended], why: str
) -> RolloutReport:
    """The report of a rollout. told has id, title, hash, started_at and finished_at."""
    return RolloutReport(
        id=told["id"],
        title=told["title"],
        hash=told["hash"],
        verdict=verdict_of(hosts),
        why=why,
        started_at=told["started_at"],
        finished_at=told["finished_at"],
        sizes=tuple(sizes),
        hosts=tuple(hosts),
    )


def files(
    report: RolloutReport, plots: Mapping[str, str], templates: Path, folder: Path
) -> dict[str, tuple[str, str]]:
    """The files of a report by their kind, each a name and its content; folder is that of all
    reports, from which links lead to those of the hosts."""
    data = plain(report)
    document = printable.in_json(
        json.dumps({**data, "sha256": sha256(data)}, indent=2, ensure_ascii=False)
    )
    values = {
        "report": printable.every(report, printable.line),
        "counted": counted(report.hosts),
        "rows": sum(host.rows for host in report.hosts),
        "links": [_link(host, folder / report.id) for host in report.hosts],
    }
    return {
        "html": ("report.html", pages.rendered_html("rollout.html.j2", templates, plots, **values)),
        "markdown": ("report.md", pages.rendered_markdown("rollout.md.j2", templates, **values)),
        "junit": ("junit.xml", _junit(report)),
        "json": ("report.json", f"{document}\n"),
    }


def _link(host: Ended, folder: Path) -> str:
    """Where the report of a host is, from the folder of the rollout's; empty where it has none."""
    return os.path.relpath(host.report, folder) if host.report else ""


def _junit(report: RolloutReport) -> str:
    """One suite with a case for each host."""
    shown = printable.every(report, printable.line)
    failed = [host for host in shown.hosts if host.is_failure]
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": shown.title,
            "tests": str(len(shown.hosts)),
            "failures": str(len(failed)),
            "timestamp": shown.finished_at.removesuffix("Z"),
        },
    )
    for host in shown.hosts:
        given = {"classname": shown.id, "name": host.host, "time": f"{host.seconds:g}"}
        case = ElementTree.SubElement(suite, "testcase", given)
        if host.is_failure:
            ElementTree.SubElement(case, "failure", message=host.why)
        elif host.why:
            ElementTree.SubElement(case, "skipped", message=host.why)
    ElementTree.indent(suite)
    written = ElementTree.tostring(suite, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n'
