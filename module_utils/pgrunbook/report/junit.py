# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as JUnit XML, which CI servers show as tests."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

from ..core import printable
from ..gates import Gate
from .value import Report

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Everything but the production Char of XML 1.0, section 2.2."""


def junit(report: Report) -> str:
    """One suite with a case for each gate. A failed gate is a failure; one that was missed but is
    not enforced passes, and says so in its output; a run that was broken off is an error."""
    report = printable.every(report)
    gates = report.checks
    suite = ElementTree.Element(
        "testsuite",
        {
            "name": _clean(report.title),
            "tests": str(len(gates) + bool(report.error)),
            "failures": str(sum(gate.status == "fail" for gate in gates)),
            "errors": str(int(bool(report.error))),
            "skipped": "0",
            "time": _seconds(report),
            "timestamp": report.finished_at.removesuffix("Z"),
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("run_id", "kind", "verdict", "plan_hash", "sha256"):
        value = _clean(getattr(report, name))
        ElementTree.SubElement(properties, "property", name=name, value=value)
    for gate in gates:
        _case(suite, report, gate)
    if report.error:
        case = ElementTree.SubElement(
            suite, "testcase", classname=_clean(report.run_id), name="The run came to its end"
        )
        ElementTree.SubElement(case, "error", message=_clean(report.error))
    ElementTree.indent(suite)
    written = ElementTree.tostring(suite, "unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{written}\n'


def _case(suite: ElementTree.Element, report: Report, gate: Gate) -> None:
    titles = {test.test: test.title for test in report.tests}
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=_clean(f"{gate.test} {titles.get(gate.test, '')}".strip()),
        name=_clean(gate.title),
    )
    told = f"wanted {gate.target}, measured {gate.measured}"
    if gate.status == "fail":
        ElementTree.SubElement(case, "failure", message=_clean(told))
    else:
        warning = "WARNING, missed but not enforced: " if gate.status == "warn" else ""
        ElementTree.SubElement(case, "system-out").text = _clean(f"{warning}{told}")


def _seconds(report: Report) -> str:
    """From the start of the playbook to the report, in seconds."""
    try:
        began, ended = map(datetime.fromisoformat, (report.started_at, report.finished_at))
    except ValueError:
        return "0"
    return f"{(ended - began).total_seconds():g}"


def _clean(text: Any) -> str:
    """The text without the characters that XML cannot hold."""
    return _NOT_XML.sub("", str(text))
