# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as Markdown."""

from __future__ import annotations

import re
from typing import Any

from ..core import printable
from .evidence import PROPOSED, blocks, differences, proposed, severity, told
from .words import (
    PASSED,
    VERIFY,
    approver,
    facts_line,
    moment,
    passed_of,
    refused,
    refused_heading,
    skipped,
)

SCHEMA_TEST = 2  # where the differences from before the run belong

Told = dict[str, Any]

_MARKUP = re.compile(r"([\\`*~|\[\]]|(?<![^\W_])_|_(?![^\W_]))")
"""What Markdown reads as markup within a line; an underscore within a word is none."""


def markdown(report: Told) -> str:
    """The report as a change board reads it. What comes from the database cannot become markup,
    and has nothing in it that could not be seen."""
    report = printable.every(report)
    lines = [
        f"# {_text(report['title'])}: {report['verdict']}",
        "",
        _text(facts_line(report)),
        "",
        "## Summary",
        "",
        *(f"- {_text(sentence)}" for sentence in report["summary"]),
        "",
        "## Verdict",
        "",
        *_verdict(report),
        *_plan(report["plan"]),
        *(line for test in report["tests"] for line in _test(report, test)),
        *_readiness(report),
        *_risks(report),
        *_approvals(report),
        *_timeline(report),
        *_changes(report),
        *_undo(report["undo"]),
        *_schema(report["schema"]),
        *_proof(report),
    ]
    return "\n".join(lines) + "\n"


def _verdict(report: Told) -> list[str]:
    missed = [c["title"] for c in report["checks"] if c["status"] == "warn"]
    warnings = (
        [f"Missed, but not enforced by the phase: {_text('; '.join(missed))}.", ""]
        if missed
        else []
    )
    if not report["reasons"]:
        return [PASSED[report["kind"]], "", *warnings]
    reasons = [f"- {_text(reason)}" for reason in report["reasons"]]
    return ["Why not:", "", *reasons, "", *warnings]


def _test(report: Told, test: dict[str, Any]) -> list[str]:
    checks = [c for c in report["checks"] if c["test"] == test["test"]]
    rows = [[c["title"], c["target"], c["measured"], c["status"].upper()] for c in checks]
    lines = [f"## Test {test['test']}: {test['title']}", "", _text(test["objective"]), ""]
    lines += _table(["Check", "Target", "Measured", "Status"], rows) if rows else ["Not run.", ""]
    if rows := proposed(checks):
        lines += ["Indexes that would serve a query which misses its speed-up:", ""]
        lines += _table(list(PROPOSED), rows)
    for found in checks:
        for difference in differences(found):
            lines += _difference(difference)
        lines += _folded(f"Evidence: {found['title']}", blocks(found), "text")
    if test["test"] == SCHEMA_TEST and report["drift"]:
        lines += ["Differences from the models before the run:", ""]
        lines += [line for difference in report["drift"] for line in _difference(difference)]
    repeat = [(step["what"], step["command"]) for step in test["repeat"]]
    return [*lines, *_folded("To repeat it by hand", repeat, "sh")]


def _difference(difference: dict[str, Any]) -> list[str]:
    lines = [f"- **{severity(difference).upper()}** {_text(told(difference))}"]
    if difference.get("impact"):
        lines.append(f"  - Impact: {_text(difference['impact'])}")
    for number, option in enumerate(difference.get("resolutions") or [], 1):
        recommended = " (recommended)" if option.get("recommended") else ""
        lines.append(f"  - Option {number}{recommended}: {_text(option.get('option', ''))}")
        if option.get("costs"):
            lines.append(f"    - Costs: {_text(option['costs'])}")
        if option.get("sql"):
            lines += ["", *(f"    {line}" for line in _fenced(_joined(option["sql"]), "sql"))]
    return [*lines, ""]


def _joined(sql: Any) -> str:
    return "\n".join(map(str, sql)) if isinstance(sql, list) else str(sql)


def _readiness(report: Told) -> list[str]:
    rows = [[r["criterion"], passed_of(r), r["status"]] for r in report["readiness"]]
    return ["## Readiness", "", *_table(["Criterion", "Checks", "Status"], rows)] if rows else []


def _risks(report: Told) -> list[str]:
    rows = [[r["risk"], r["likelihood"], r["impact"], r["mitigation"]] for r in report["risks"]]
    if not rows:
        return []
    return ["## Risks", "", *_table(["Risk", "Likelihood", "Impact", "Mitigation"], rows)]


def _approvals(report: Told) -> list[str]:
    rows = [
        [a["scope"], approver(a), a["approved_from"], a["method"], a["approved_at"]]
        for a in report["approvals"]
    ]
    if not rows:
        return ["## Approvals", "", f"Nothing was approved. Plan {_code(report['plan_hash'])}.", ""]
    header = ["Approved", "By", "From", "How", "When"]
    return ["## Approvals", "", f"Plan {_code(report['plan_hash'])}.", "", *_table(header, rows)]


def _timeline(report: Told) -> list[str]:
    rows = [[moment(point["at"]), point["event"], point["text"]] for point in report["timeline"]]
    return ["## Timeline", "", *_table(["When (UTC)", "What", "Detail"], rows)]


def _changes(report: Told) -> list[str]:
    done = report["backfill"]
    lines = ["## What was approved, and done", ""]
    if report["kind"] == "run":
        left = f" Not filled: {_text(skipped(done))}." if skipped(done) else ""
        lines += [
            f"{done['rows_changed']:,} of {done['rows_total']:,} rows were filled in "
            f"{done['seconds']} s ({done['rows_per_second']:,} rows/s).{left}",
            "",
        ]
    for change in report["changes"]:
        lines += [f"### {_text(change['title'])}", "", *_recorded(change)]
        lines += _fenced(change["sql_text"], "sql")
        if change["undo_text"]:
            lines += ["Undone by:", "", *_fenced(change["undo_text"], "sql")]
    if not report["changes"] and report["statements"]:
        lines += _fenced("\n".join(f"{statement};" for statement in report["statements"]), "sql")
    if rows := refused(done):
        lines += [_text(refused_heading(done)), ""]
        lines += _table(["Row, by key", "What the server says"], rows)
    for entry in done["left_alone"]:
        lines.append(f"- left alone: {_text(str(entry))}")
    return [*lines, ""]


def _recorded(change: dict[str, Any]) -> list[str]:
    omitted = (
        f" {change['omitted']} statements like one of these, for other partitions, are left out."
    )
    return [
        f"Recorded in the ledger: {change['recorded']:,}; taken back: {change['taken_back']:,}. "
        f"Lock: {_text(change['lock'])}.{omitted if change['omitted'] else ''}",
        "",
    ]


def _plan(text: str) -> list[str]:
    return ["## What would be done", "", *_fenced(text, "text")] if text else []


def _undo(undo: dict[str, Any]) -> list[str]:
    lines = ["## How to undo it", "", _text(undo["text"]), ""]
    if undo["command"]:
        lines += _fenced(undo["command"], "sh")
    if undo["statements"]:
        lines += _fenced(undo["sql_text"], "sql")
    return lines


def _schema(schema: dict[str, Any]) -> list[str]:
    lines = ["## Schema, before and after", ""]
    for part, (_, changed) in changed_parts(schema).items():
        lines += [f"{part}:", "", *_fenced("\n".join(changed or ["  no change"]), "diff")]
    return lines


def changed_parts(schema: dict[str, Any]) -> dict[str, tuple[int, list[str]]]:
    """For columns and indexes: how many there are afterwards, and the lines of a diff. Nothing for
    a schema that was not seen afterwards."""
    parts = {}
    for part in ("columns", "indexes"):
        before, after = schema["before"].get(part, {}), schema["after"].get(part, {})
        lines = [f"- {k}: {v}" for k, v in before.items() if after.get(k) != v]
        lines += [f"+ {k}: {v}" for k, v in after.items() if before.get(k) != v]
        if after:
            parts[part] = (len(after), lines)
    return parts


def _proof(report: Told) -> list[str]:
    return [
        "## Whether this is the report that was written",
        "",
        f"- plan {_code(report['plan_hash'])}",
        f"- chain of events: {report['chain']['events']:,}, the last one "
        f"{_code(report['chain']['head'] or 'none')}",
        f"- sha256 of this report's data {_code(report['sha256'])}",
        "",
        "In the folder of this file, which says True where report.json is as it was written:",
        "",
        *_fenced(VERIFY, "sh"),
        "The ledger has the same sha256 in the event that ended the run; "
        "playbooks/status.yml compares all of that.",
    ]


def _folded(caption: str, texts: list[tuple[str, str]], language: str) -> list[str]:
    """Preformatted texts under a line that a reader unfolds."""
    if not texts:
        return []
    lines = ["<details>", f"<summary>{_text(caption)}</summary>", ""]
    for title, text in texts:
        lines += [f"{_text(title)}:", "", *_fenced(text, language)]
    return [*lines, "</details>", ""]


def _fenced(text: str, language: str) -> list[str]:
    """A block of code whose fence is longer than any run of backquotes in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *text.splitlines(), fence, ""]


def _table(header: list[str], rows: list[list[Any]]) -> list[str]:
    def line(cells: list[Any]) -> str:
        return "| " + " | ".join(_text(str(cell)) for cell in cells) + " |"

    return [line(header), line(["---"] * len(header)), *map(line, rows), ""]


def _text(of: Any) -> str:
    """A text in one line, with nothing in it that Markdown or HTML would read as markup."""
    escaped = _MARKUP.sub(r"\\\1", " ".join(str(of).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _code(of: str) -> str:
    """A hash in a fixed-width font; a backquote, which no hash has, would end the code."""
    return f"`{of.replace('`', '')}`"
