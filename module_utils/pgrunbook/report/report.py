# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a run, or of a rollback: one mapping that vouches for itself, and its files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core import values
from ..core.errors import RunbookError, separate
from ..core.printable import in_json, line
from ..core.spec import Spec, parse
from ..core.values import plain, read
from ..drift import read_differences
from ..gates import Gate, registry
from ..gates.gate import FAIL, PASS, WARN, judge, reasons
from ..gates.schema_gate import schema_gate_before
from . import changes, findings, repeat
from .html import html
from .junit import junit
from .markdown import markdown

FORMAT = 1

TESTS = {
    1: "Database connectivity",
    2: "Schema compatibility",
    3: "Coverage",
    4: "Dry-run safety",
    5: "Query performance",
    6: "Data quality",
}

OBJECTIVES = {
    1: "The database can be reached and written to, and every source key has its source row.",
    2: "Tables, columns, types and indexes are what the application's models and the phase expect.",
    3: "How many rows had a value before, and whether enough have one now.",
    4: "Planning, and so the dry run, wrote nothing; the server says so.",
    5: "Queries on the filled columns give what those give that they replace, and faster.",
    6: "What was filled is what the source says: the canary, a random sample, and every row.",
}

ROLLBACK_TESTS = {1: "Rows", 2: "Schema"}
ROLLBACK_OBJECTIVES = {
    1: "Every row that the run changed is as it was, unless somebody has changed it since.",
    2: "Columns and indexes are those that the run's first plan saw.",
}

SUFFIXES = {"plan": "-plan", "run": "", "rollback": "-rollback"}
"""What follows a run's id in the name of its report's folder, by the report's kind."""

FILE_MODE, FOLDER_MODE = 0o640, 0o750
_OTHERS = 0o027  # what a folder that was there may lose: writing by the group, all by others

STEPS = ("preflight", "plan", "canary", "backfill", "schema", "validation", "queries")


def build(facts: dict[str, Any]) -> dict[str, Any]:
    """The report of a run, from the results of the steps that ran, under the names in STEPS.

    Besides those, facts has run, title, approvals, started_at, finished_at, and error, which is
    empty unless the run was broken off. It may have history, as ledger.history() gives it; login,
    how psql reaches the database, without a secret; command, with playbook and inventory as they
    are typed; and drift, the differences from the models before the run, None if nobody looked.
    """
    validated = bool((facts.get("validation") or {}).get("checks"))
    return _build(facts, "run", "" if validated else "The validation did not run.")


def build_plan(facts: dict[str, Any]) -> dict[str, Any]:
    """The report before a run, from the same facts: of a dry run, or of a run that was refused
    before anything was approved. What was found, what would be done, what stands in the way."""
    return _build({**facts, "title": f"Before the run: {facts['title']}"}, "plan", "")


def _build(facts: dict[str, Any], kind: str, unfinished: str) -> dict[str, Any]:
    spec = _spec(facts)
    steps = {name: facts.get(name) or {} for name in STEPS}
    if kind == "plan":
        drift = facts.get("drift")
        found = [] if drift is None else [schema_gate_before(spec, read_differences(drift))]
        steps["schema"] = {"checks": plain(found)}
    gates = _measured_since(
        [read(Gate, gate) for name in STEPS for gate in steps[name].get("checks", [])]
    )
    baseline = steps["plan"].get("baseline", {})
    told = {
        **_frame(facts, kind, gates, unfinished),
        "server": steps["preflight"].get("server", {}),
        "health": steps["preflight"].get("health", {}),
        "tests": _tests(TESTS, OBJECTIVES, gates, repeat.commands(spec, facts)),
        "readiness": _readiness(gates),
        "coverage": _coverage(gates),
        "backfill": {
            **_backfill(steps["backfill"] or steps["canary"], baseline.get("counts", {}), facts),
            **_after_canary(steps["backfill"], gates),
        },
        "drift": facts.get("drift") or [],
        "schema": {
            "before": baseline.get("schema", {}),
            "after": steps["validation"].get("schema", {}),
        },
        "queries": steps["queries"].get("pairs", []),
        "statements": baseline.get("queries", []) if facts["approvals"] else [],
    }
    return _complete(told, spec, facts)


def build_rollback(facts: dict[str, Any]) -> dict[str, Any]:
    """The report of a rollback, under the same keys as that of a run.

    facts are as for build(), but plan and backfill are the rollback's, column is what undoing the
    renames returned, and history is that of the run that is undone.
    """
    plan, work, column = (facts.get(name) or {} for name in ("plan", "backfill", "column"))
    schema = {
        "before": (facts.get("history") or {}).get("before") or {},
        "after": column.get("schema", {}),
    }
    gates = _rollback_gates(plan, work, schema) if "rows_changed" in work else []
    unfinished = "" if column else "The rollback did not come to its end."
    told = {
        **_frame(facts, "rollback", gates, unfinished),
        "server": _plan(facts).get("server", {}),
        "health": {},
        "tests": _tests(ROLLBACK_TESTS, ROLLBACK_OBJECTIVES, gates, {}),
        "readiness": [],
        "coverage": {},
        "backfill": {
            **_backfill({}, {}, {}),
            **_after_canary({}, []),
            "rows_changed": work.get("rows_changed", 0),
            "rows_left_alone": work.get("rows_left_alone", 0),
            "left_alone": work.get("left_alone", []),
            "rows_put_back": work.get("rows_put_back", 0),
            "rows_rewritten": work.get("rows_rewritten", 0),
            "columns_gone": work.get("columns_gone", []),
        },
        "drift": [],
        "schema": schema,
        "queries": [],
        "statements": plan.get("queries", []) if facts["approvals"] else [],
    }
    return _complete(told, _spec(facts), facts)


def verify(report: Mapping[str, Any]) -> bool:
    """Whether a report, as read from report.json, is as it was written."""
    data = {key: value for key, value in report.items() if key != "sha256"}
    return report.get("sha256") == values.sha256(data)


def write(folder: Path, report: dict[str, Any], plots: dict[str, str]) -> dict[str, str]:
    """Write the report's files to a folder of their own, and point folder/latest there.

    plots are SVG drawings, as plots.draw() makes them. Returns the files' paths by kind. Each file
    is replaced whole; report.json is the last. Because rows of the tables are in them, only the
    owner and the group may read them, and no more than the umask lets them. Raises RunbookError
    where the folder cannot be written to.
    """
    try:
        return _write(folder, report, plots)
    except OSError as error:
        raise RunbookError(
            f"The report cannot be written to {folder}: {error.strerror}. Next step: let "
            "whoever runs ansible-playbook write there, or set runbook_reports to another folder."
        ) from None


def _write(folder: Path, report: dict[str, Any], plots: dict[str, str]) -> dict[str, str]:
    target = folder / f"{report['run_id']}{SUFFIXES[report['kind']]}"
    _private_folder(target)
    files = {
        "html": ("report.html", html(report, plots)),
        "markdown": ("report.md", markdown(report)),
        "junit": ("junit.xml", junit(report)),
        "json": ("report.json", in_json(json.dumps(report, indent=2, ensure_ascii=False)) + "\n"),
    }
    for name, content in files.values():
        _replace(target / name, content)
    link = folder / f".latest.{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(target.name, target_is_directory=True)
    link.replace(folder / "latest")
    return {kind: str(target / name) for kind, (name, _) in files.items()}


def summary(report: dict[str, Any]) -> str:
    """The verdict as the terminal shows it: every check in a line, then the reasons."""
    lines = [
        *(f"{c['status'].upper():4}  {c['title']}: {c['measured']}" for c in report["checks"]),
        "",
        f"{report['verdict']}  {report['title']}",
        *report["reasons"],
    ]
    return "\n".join(map(line, lines))


def _frame(facts: dict[str, Any], kind: str, gates: list[Gate], unfinished: str) -> dict[str, Any]:
    """What the report of a run and that of a rollback have in common, the gates known."""
    history = facts.get("history") or {}
    error = facts["error"] or unfinished
    why = [*separate(error), *reasons(gates)]
    return {
        "format": FORMAT,
        "kind": kind,
        "run_id": facts["run"]["id"],
        "title": facts["title"],
        "plan": (facts.get("plan") or {}).get("text", "") if kind == "plan" else "",
        "verdict": "NO-GO" if why else "GO",
        "reasons": why,
        "error": error,
        "started_at": facts["started_at"],
        "finished_at": facts["finished_at"],
        "plan_hash": facts["run"]["plan_hash"],
        "chain": history.get("chain") or {"events": 0, "head": ""},
        "approved_by": facts["approvals"][0]["approved_by"] if facts["approvals"] else None,
        "approvals": facts["approvals"],
        "checks": plain(gates),
        "timeline": changes.timeline(facts, history),
        "history": {name: history.get(name) or [] for name in ("slices", "batches")},
    }


def _complete(told: dict[str, Any], spec: Spec | None, facts: dict[str, Any]) -> dict[str, Any]:
    """The whole report, with what follows from what is told already, in JSON's types, sealed."""
    targets = ("coverage_min", "accuracy_min", "speedup_min")
    told = {**told, "targets": {name: getattr(spec, name) for name in targets} if spec else {}}
    told["changes"] = changes.changes(told, facts)
    told["undo"] = changes.undo(told, spec, facts)
    told["risks"] = findings.risks(told, spec, facts)
    told["summary"] = findings.sentences(told, spec)
    plain: dict[str, Any] = json.loads(_clean(json.dumps(told, ensure_ascii=False, default=str)))
    return {**plain, "sha256": values.sha256(plain)}


def _clean(text: str) -> str:
    """The text with a question mark for each lone surrogate, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _plan(facts: dict[str, Any]) -> dict[str, Any]:
    """The plan that was hashed, or nothing where the run did not come so far."""
    plan: dict[str, Any] = (facts.get("plan") or {}).get("plan") or {}
    return plan


def _spec(facts: dict[str, Any]) -> Spec | None:
    options = _plan(facts).get("spec")
    return parse(options) if options else None


def _tests(
    titles: dict[int, str],
    objectives: dict[int, str],
    gates: list[Gate],
    repeat: dict[int, list[dict[str, str]]],
) -> list[dict[str, Any]]:
    return [
        {
            "test": number,
            "title": title,
            "objective": objectives[number],
            "status": _status([gate.status for gate in gates if gate.test == number]),
            "repeat": repeat.get(number, []),
        }
        for number, title in titles.items()
    ]


def _readiness(gates: list[Gate]) -> list[dict[str, Any]]:
    rows = []
    for criterion in registry.readiness_rows():
        found = [gate for gate in gates if registry.declared(gate.id).readiness == criterion]
        statuses = [gate.status for gate in found]
        rows.append(
            {
                "criterion": criterion,
                "status": _status(statuses),
                "checks": len(statuses),
                "passed": statuses.count(PASS),
            }
        )
    return rows


def _status(statuses: list[str]) -> str:
    if not statuses:
        return "NOT RUN"
    return next((word.upper() for word in ("fail", "warn") if word in statuses), "PASS")


def _coverage(gates: list[Gate]) -> dict[str, dict[str, float]]:
    """For each column its coverage before and after the run, in per cent, where it was measured."""
    by_id = {gate.id: gate.evidence for gate in gates}
    before, after = by_id.get("baseline") or {}, by_id.get("coverage") or {}
    return {
        column: {
            **({"before": before[column]} if column in before else {}),
            **({"after": after[column]} if column in after else {}),
        }
        for column in {**before, **after}
    }


def _backfill(
    work: dict[str, Any], counts: dict[str, Any], facts: dict[str, Any]
) -> dict[str, Any]:
    """The figures of the run. Rows that changed in an earlier execution of it are counted too."""
    history = facts.get("history") or {}
    batches = history.get("batches") or []
    expected = (facts.get("plan") or {}).get("baseline") or {}
    changed, seconds = work.get("rows_done", 0), work.get("seconds", 0.0)
    return {
        "rows_total": counts.get("rows_total", 0),
        "rows_eligible": counts.get("rows_eligible", 0),
        "rows_changed": changed,
        "rows_left_alone": 0,
        "left_alone": [],
        "rows_refused": history.get("rows_refused", 0),
        "refused": history.get("refused", []),
        "rows_put_back": 0,
        "rows_rewritten": 0,
        "columns_gone": [],
        "rows_skipped": counts.get("rows_skipped", {}),
        "seconds": seconds,
        "rows_per_second": round(changed / seconds) if seconds else 0,
        "heap_only_expected_percent": expected.get("heap_only_percent"),
        "heap_only_percent": (facts.get("history") or {}).get("heap_only_percent"),
        "batches": sum(point["batches"] for point in batches),
        "longest_batch_ms": max((point["max_ms"] for point in batches), default=0.0),
    }


def _measured_since(gates: list[Gate]) -> list[Gate]:
    """The gates; what the plan foresaw of the coverage only warns where more was measured after
    the run."""
    if not any(gate.id == "coverage" and gate.status == PASS for gate in gates):
        return gates
    return [
        replace(gate, status=WARN, measured=f"{gate.measured}; more was measured after the run")
        if gate.id == "requirement" and gate.status == FAIL
        else gate
        for gate in gates
    ]


def _after_canary(work: dict[str, Any], gates: list[Gate]) -> dict[str, Any]:
    """The seconds of work that the rows after the canary were estimated to take, and took; null
    where they were not estimated, or not all filled."""
    left = next((gate.evidence for gate in gates if gate.id == "estimate"), None)
    done = bool(left and work.get("done"))
    return {
        "after_canary_estimated_seconds": left["seconds"] if left else None,
        "after_canary_seconds": round(work["seconds"] - left["seconds_worked"], 3)
        if left and done
        else None,
    }


def _left_text(work: Mapping[str, Any]) -> str:
    """What a rollback did not give back, and why, and which rows it could not be sure of; work has
    the figures of its result."""
    left, put_back = work.get("rows_left_alone", 0), work.get("rows_put_back", 0)
    parts = [
        f"{left - put_back:,} left alone in all, because somebody has changed or deleted them since"
    ]
    if put_back:
        parts.append(f"{put_back:,} not given back, because a trigger has put a value back")
    if work.get("rows_rewritten"):
        parts.append(
            f"{work['rows_rewritten']:,} of those given back had been rewritten by somebody since "
            "and still held the run's values"
        )
    if work.get("columns_gone"):
        gone = ", ".join(work["columns_gone"])
        parts.append(f"not given back, because renamed or dropped since: column {gone}")
    return "; ".join(parts)


def _rollback_gates(
    plan: dict[str, Any], work: dict[str, Any], schema: dict[str, Any]
) -> list[Gate]:
    listed, left = plan.get("counts", {}).get("rows_eligible", 0), work.get("rows_left_alone", 0)
    given_back = judge(
        None,
        registry.GIVEN_BACK,
        target=f"the {listed:,} rows that the journal lists, but none that was changed since",
        measured=f"{work.get('rows_changed', 0):,} given back; {_left_text(work)}",
        passed=not left and not work.get("columns_gone"),
        evidence=work.get("left_alone", []),
    )
    if not schema["after"]:
        return [given_back]
    return [
        given_back,
        judge(
            None,
            registry.SCHEMA_BEFORE,
            target="those that the run's first plan saw",
            measured="the same" if schema["before"] == schema["after"] else "others, see below",
            passed=schema["before"] == schema["after"],
        ),
    ]


def _replace(path: Path, content: str) -> None:
    temporary = path.with_suffix(f"{path.suffix}.new")
    temporary.unlink(missing_ok=True)
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(opened, "w", encoding="utf-8") as file:
        file.write(content)
    temporary.replace(path)


def _private_folder(folder: Path) -> None:
    """Make the folder, and those above it that are missing; take from one that is there what others
    may do."""
    if folder.is_dir():
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & _OTHERS:
            folder.chmod(mode & ~_OTHERS)
        return
    for missing in [folder, *folder.parents][::-1]:
        if not missing.exists():
            missing.mkdir(mode=FOLDER_MODE)
