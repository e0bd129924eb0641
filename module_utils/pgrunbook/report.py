# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run: one mapping, written as JSON for programs and as Markdown for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .checks import verdict

FORMAT = 1

TESTS = {
    1: "Database connectivity",
    2: "Schema compatibility",
    3: "Coverage",
    4: "Dry-run safety",
    5: "Query performance",
    6: "Data quality",
}

READINESS = {
    "Database connectivity": ("connectivity",),
    "Schema compatibility": ("schema", "indexes"),
    "Dry-run validation": ("dry_run",),
    "Query performance": ("query:",),
    "Data quality": ("accuracy", "comparison"),
    "Backfill": ("coverage", "remaining"),
}
"""The seed's checklist: each criterion with the ids, or beginnings of ids, of its checks."""

STEPS = ("preflight", "plan", "canary", "backfill", "schema", "validation", "queries")


def build(facts: dict[str, Any]) -> dict[str, Any]:
    """The report, from the results of the steps that ran, under the names in STEPS.

    Besides those, facts has run, title, approvals, started_at, finished_at, and error, which is
    empty unless the run was broken off.
    """
    steps = {name: facts.get(name) or {} for name in STEPS}
    checks = [check for name in STEPS for check in steps[name].get("checks", [])]
    baseline = steps["plan"].get("baseline", {})
    validated = bool(steps["validation"].get("checks"))
    error = facts["error"] or ("" if validated else "The validation did not run.")
    reasons = [*([error] if error else []), *verdict(checks)["reasons"]]
    return {
        "format": FORMAT,
        "run_id": facts["run"]["id"],
        "title": facts["title"],
        "verdict": "NO-GO" if reasons else "GO",
        "reasons": reasons,
        "started_at": facts["started_at"],
        "finished_at": facts["finished_at"],
        "plan_hash": facts["run"]["plan_hash"],
        "approved_by": facts["approvals"][0]["approved_by"] if facts["approvals"] else None,
        "approvals": facts["approvals"],
        "server": steps["preflight"].get("server", {}),
        "health": steps["preflight"].get("health", {}),
        "checks": checks,
        "readiness": _readiness(checks),
        "backfill": _backfill(steps),
        "schema": {
            "before": baseline.get("schema", {}),
            "after": steps["validation"].get("schema", {}),
        },
        "queries": steps["queries"].get("pairs", []),
        "statements": baseline.get("queries", []) if facts["approvals"] else [],
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a change board reads it."""
    lines = [
        f"# {report['title']}: {report['verdict']}",
        "",
        f"Run `{report['run_id']}`, {report['started_at']} to {report['finished_at']}, on database "
        f"`{report['server'].get('database', '?')}`, PostgreSQL "
        f"{report['server'].get('version', '?')}.",
        "",
        *_reasons(report),
        *_approvals(report),
        "## What was approved, and done",
        "",
        *_backfill_lines(report["backfill"]),
        *_sql_lines(report["statements"]),
        "## Readiness",
        "",
        *_table(
            ["Criterion", "Status"], [[r["criterion"], r["status"]] for r in report["readiness"]]
        ),
    ]
    for number, title in TESTS.items():
        checks = [c for c in report["checks"] if c["test"] == number]
        rows = [[c["title"], c["target"], c["measured"], c["status"].upper()] for c in checks]
        lines += [f"## Test {number}: {title}", ""]
        lines += (
            _table(["Check", "Target", "Measured", "Status"], rows) if rows else ["Not run.", ""]
        )
    return "\n".join([*lines, *_schema_lines(report["schema"])])


def write(folder: Path, report: dict[str, Any]) -> dict[str, str]:
    """Write folder/<run id>/report.json and report.md, and point folder/latest there."""
    target = folder / report["run_id"]
    target.mkdir(parents=True, exist_ok=True)
    json_path, markdown_path = target / "report.json", target / "report.md"
    _replace(json_path, json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n")
    _replace(markdown_path, markdown(report))
    link = folder / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(report["run_id"], target_is_directory=True)
    link.replace(folder / "latest")
    return {"json": str(json_path), "markdown": str(markdown_path)}


def summary(report: dict[str, Any]) -> str:
    """The verdict as the terminal shows it: every check in a line, then the reasons."""
    lines = [f"{c['status'].upper():4}  {c['title']}: {c['measured']}" for c in report["checks"]]
    return "\n".join([*lines, "", f"{report['verdict']}  {report['title']}", *report["reasons"]])


def _readiness(checks: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "criterion": criterion,
            "status": _status([c["status"] for c in checks if c["id"].startswith(ids)]),
        }
        for criterion, ids in READINESS.items()
    ]


def _status(statuses: list[str]) -> str:
    if not statuses:
        return "NOT RUN"
    return next((word.upper() for word in ("fail", "warn") if word in statuses), "PASS")


def _backfill(steps: dict[str, Any]) -> dict[str, Any]:
    """The figures of the run. Rows that changed in an earlier execution of it are counted too."""
    work = steps["backfill"] or steps["canary"]
    changed, seconds = work.get("rows_done", 0), work.get("seconds", 0.0)
    counts = steps["plan"].get("baseline", {}).get("counts", {})
    return {
        "rows_total": counts.get("rows_total", 0),
        "rows_changed": changed,
        "rows_skipped": counts.get("rows_skipped", {}),
        "seconds": seconds,
        "rows_per_second": round(changed / seconds) if seconds else 0,
    }


def _reasons(report: dict[str, Any]) -> list[str]:
    missed = [c["title"] for c in report["checks"] if c["status"] == "warn"]
    warnings = (
        [f"Missed, but not enforced by the phase: {'; '.join(missed)}.", ""] if missed else []
    )
    if not report["reasons"]:
        return ["Every enforced gate passed.", "", *warnings]
    return ["Why not:", "", *(f"- {reason}" for reason in report["reasons"]), "", *warnings]


def _approvals(report: dict[str, Any]) -> list[str]:
    rows = [
        [a["scope"], a["approved_by"], a["approved_from"], a["method"], a["approved_at"]]
        for a in report["approvals"]
    ]
    if not rows:
        return [f"Nothing was approved. Plan `{report['plan_hash']}`.", ""]
    header = ["Approved", "By", "From", "How", "When"]
    return [f"Plan `{report['plan_hash']}`.", "", *_table(header, rows)]


def _backfill_lines(done: dict[str, Any]) -> list[str]:
    skipped = ", ".join(f"{reason} {rows:,}" for reason, rows in done["rows_skipped"].items())
    not_filled = f" Not filled: {skipped}." if skipped else ""
    return [
        f"{done['rows_changed']:,} of {done['rows_total']:,} rows were filled in "
        f"{done['seconds']} s ({done['rows_per_second']:,} rows/s).{not_filled}",
        "",
    ]


def _sql_lines(statements: list[str]) -> list[str]:
    if not statements:
        return []
    return ["```sql", *(f"{statement};" for statement in statements), "```", ""]


def _schema_lines(schema: dict[str, Any]) -> list[str]:
    lines = ["## Schema, before and after", ""]
    for part in ("columns", "indexes"):
        before, after = schema["before"].get(part, {}), schema["after"].get(part, {})
        changes = [f"- {k}: {v}" for k, v in before.items() if after.get(k) != v]
        changes += [f"+ {k}: {v}" for k, v in after.items() if before.get(k) != v]
        if after:
            lines += [f"{part}:", "", "```diff", *(changes or ["  no change"]), "```", ""]
    return lines


def _table(header: list[str], rows: list[list[Any]]) -> list[str]:
    def line(cells: list[Any]) -> str:
        return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"

    return [line(header), line(["---"] * len(header)), *map(line, rows), ""]


def _replace(path: Path, content: str) -> None:
    temporary = path.with_suffix(f"{path.suffix}.new")
    temporary.write_text(content, encoding="utf-8")
    temporary.replace(path)
