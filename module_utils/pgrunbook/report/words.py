# SPDX-License-Identifier: GPL-3.0-or-later
"""What several parts of the report say in the same words."""

from __future__ import annotations

from ..ledger import Approval
from .value import BackfillFigures, Report

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
"""A command that needs nothing but Python, and does what store.verify() does."""


def facts_line(report: Report) -> str:
    """Which run, and when."""
    began, ended = moment(report.started_at), moment(report.finished_at)
    return f"Run {report.run_id}, {began} to {ended} UTC."


def verdict_word(report: Report) -> str:
    """The verdict as a person reads it: GO of a rollback is no permission to begin anything."""
    undone = report.kind == "rollback" and report.verdict == "GO"
    return "ROLLED BACK" if undone else report.verdict


def environment_line(report: Report) -> str:
    """Where the run was."""
    of = report.environment
    where = f"{of.address}:{of.port}" if of.port else of.address
    standbys = "" if of.standbys is None else f"{of.standbys} standbys connected"
    told = [
        f"PostgreSQL {of.version}" if of.version else "",
        f"at {where}" if where else "",
        f"database {of.database or '?'}",
        f"table {of.table}" if of.table else "",
        f"user {of.user}" if of.user else "",
        standbys if of.standbys != 1 else "1 standby connected",
        f"inventory {of.inventory.removeprefix('-i ')}" if of.inventory else "",
    ]
    return ", ".join(part for part in told if part) + "."


def approver(approval: Approval) -> str:
    """Who approved: the name, whether it is only claimed, and whom the operating system of the
    controller and the database knew."""
    claimed = " (claimed)" if approval.claimed else ""
    known = [
        approval.controller_user or "",
        f"in the database {approval.database_user}" if approval.database_user else "",
    ]
    return "; ".join([f"{approval.approved_by}{claimed}", *(part for part in known if part)])


def moment(at: str) -> str:
    """A time of ISO 8601 in UTC as a person reads it, to the second: 2026-01-31 04:05:06."""
    return at[:19].replace("T", " ") if at.endswith("Z") else at


def refused_heading(done: BackfillFigures) -> str:
    """What stands above the rows that the server refused."""
    shown, rows = len(done.refused), done.rows_refused
    first = f" The first {shown:,}:" if shown < rows else ""
    return f"Set aside, because the server refuses to fill them: {rows:,} rows.{first}"


def skipped(done: BackfillFigures) -> str:
    """The rows that were not filled, by reason."""
    return ", ".join(f"{reason} {rows:,}" for reason, rows in done.rows_skipped.items())
