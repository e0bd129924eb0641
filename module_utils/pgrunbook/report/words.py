# SPDX-License-Identifier: GPL-3.0-or-later
"""What several parts of the report say in the same words."""

from __future__ import annotations

from typing import Any

PASSED = {
    "run": "Every enforced gate passed.",
    "plan": "Nothing that can be seen beforehand stands in the way of a run.",
    "rollback": "The rollback came to its end.",
}
"""What GO means."""

VERIFY = (
    'python3 -c \'import hashlib, json; d = json.load(open("report.json", encoding="utf-8")); '
    's = d.pop("sha256"); print(s == hashlib.sha256(json.dumps(d, sort_keys=True, '
    'separators=(",", ":"), ensure_ascii=False).encode()).hexdigest())\''
)
"""A command that needs nothing but Python, and does what report.verify() does."""


def facts_line(report: dict[str, Any]) -> str:
    """Which run, when, where."""
    server = report["server"]
    version = f", PostgreSQL {server['version']}" if server.get("version") else ""
    return (
        f"Run {report['run_id']}, {moment(report['started_at'])} to "
        f"{moment(report['finished_at'])} UTC, on database {server.get('database', '?')}{version}."
    )


def approver(approval: dict[str, Any]) -> str:
    """Who approved: the name, whether it is only claimed, and whom the operating system of the
    controller and the database knew. An approval of an older version has the name only."""
    known = [
        approval.get("controller_user") or "",
        f"in the database {approval['database_user']}" if approval.get("database_user") else "",
    ]
    claimed = " (claimed)" if approval.get("claimed") else ""
    return "; ".join([f"{approval['approved_by']}{claimed}", *(part for part in known if part)])


def moment(at: str) -> str:
    """A time of ISO 8601 in UTC as a person reads it, to the second: 2026-01-31 04:05:06."""
    return at[:19].replace("T", " ") if at.endswith("Z") else at


def passed_of(criterion: dict[str, Any]) -> str:
    """How many of a criterion's checks passed."""
    return f"{criterion['passed']} of {criterion['checks']} passed" if criterion["checks"] else ""


def refused(done: dict[str, Any]) -> list[list[str]]:
    """The rows that the server refused, by key, with what it said."""
    return [[each["key"], f"{each['message']} ({each['sqlstate']})"] for each in done["refused"]]


def refused_heading(done: dict[str, Any]) -> str:
    """What stands above them."""
    shown, rows = len(done["refused"]), done["rows_refused"]
    first = f" The first {shown:,}:" if shown < rows else ""
    return f"Set aside, because the server refuses to fill them: {rows:,} rows.{first}"


def skipped(done: dict[str, Any]) -> str:
    """The rows that were not filled, by reason."""
    return ", ".join(f"{reason} {rows:,}" for reason, rows in done["rows_skipped"].items())
