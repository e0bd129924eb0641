# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JUnit XML, which CI servers show as tests."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from ..core import printable

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the production Char of XML 1.0, section 2.2."""


def junit(report: dict[str, Any]) -> str:
    """One suite with a case for each check. A failed gate is a failure; one that was missed but is
    not enforced passes, and says so in its output; a run that was broken off is an error."""
    report = printable.every(report)
    checks = report["checks"]
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _clean(report["title"]),
            "tests": str(len(checks) + bool(report["error"])),
            "failures": str(sum(c["status"] == "fail" for c in checks)),
            "errors": str(int(bool(report["error"]))),
            "skipped": "0",
            "time": _seconds(report),
            "timestamp": report["finished_at"].removesuffix("Z"),
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("run_id", "kind", "verdict", "plan_hash", "sha256"):
        ElementTree.SubElement(properties, "property", name=name, value=_clean(report[name]))
    for found in checks:
        _case(suite, report, found)
    if report["error"]:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(report["run_id"]), name="The run came to its end"
        )
        ElementTree.SubElement(case, "error", message=_clean(report["error"]))
    ElementTree.indent(suite)
    written = ElementTree.tostring(suite, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n'


def _case(suite: ElementTree.Element, report: dict[str, Any], found: dict[str, Any]) -> None:
    titles = {test["test"]: test["title"] for test in report["tests"]}
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_clean(f"{found['test']} {titles.get(found['test'], '')}".strip()),
        name=_clean(found["title"]),
    )
    told = f"wanted {found['target']}, measured {found['measured']}"
    if found["status"] == "fail":
        ElementTree.SubElement(case, "failure", message=_clean(told))
    else:
        warning = "WARNING, missed but not enforced: " if found["status"] == "warn" else ""
        ElementTree.SubElement(case, "system-out").text = _clean(f"{warning}{told}")


def _seconds(report: dict[str, Any]) -> str:
    """From the start of the playbook to the report, in seconds."""
    try:
        began, ended = (datetime.fromisoformat(report[k]) for k in ("started_at", "finished_at"))
    except ValueError:
        return "0"
    return f"{(ended - began).total_seconds():g}"


def _clean(text: Any) -> str:
    """The text without the characters that XML cannot hold."""
    return _NOT_XML.sub("", str(text))
