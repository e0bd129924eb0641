# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did to the database, when, and how each part of it is undone."""

from __future__ import annotations

from datetime import datetime
from itertools import zip_longest
from typing import Any

from ..core.spec import SPEC_OPTIONS, Spec
from ..ddl.index_advice import drop
from ..ledger import INDEX_KEPT
from ..plan.text import copyable
from .repeat import playbook

EVENTS = {
    "approved": "Approved",
    "migrated": "Ledger brought to a newer version",
    "rename": "Column renamed",
    "rename_undone": "Column rename taken back",
    "rename_left": "Column rename not taken back: the column is there no more",
    "convert": "Column put aside for one of the right type",
    "convert_undone": "Column that was put aside taken back",
    "index_rename": "Index renamed",
    "index_rename_undone": "Index rename taken back",
    "index_defer": "Index to be dropped for the backfill",
    "index_defer_undone": "Dropped index restored",
    "index_build": "Index build begun",
    "index_build_undone": "Built index taken back",
    "index_trial": "Trial of an index begun",
    "index_trial_undone": "Index of a trial dropped",
    "index_kept": "Index of a trial kept",
    "index_kept_undone": "Kept index taken back",
    "pause": "Paused",
    "resume": "Resumed",
    "abort": "Aborted",
    "throttle": "Rate limited",
    "failed": "Broken off",
    "finished": "Verdict recorded",
    "reverted": "Rollback recorded",
}
"""The kinds of events of the ledger, for people."""


def timeline(facts: dict[str, Any], history: dict[str, Any]) -> list[dict[str, str]]:
    """What happened, in order: at (ISO 8601, UTC), event and text."""
    batches = history.get("batches") or []
    filled = [
        {"at": batches[at]["at"], "event": event, "text": ""}
        for at, event in ((0, "First batches committed"), (-1, "Last batches committed"))
        if batches
    ]
    recorded = [
        {
            "at": event["at"],
            "event": EVENTS.get(event["kind"], event["kind"]),
            "text": _text(event["kind"], event["detail"] or {}),
        }
        for event in history.get("events") or []
    ]
    ends = [
        {"at": facts["started_at"], "event": "This execution began", "text": ""},
        {"at": facts["finished_at"], "event": "Report written", "text": ""},
    ]
    return sorted([*ends[:1], *recorded, *filled, *ends[1:]], key=lambda moment: _time(moment))


def changes(told: dict[str, Any], facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Each step that was approved and has SQL: its statements, each with what undoes it, both as
    texts that can be copied too, its lock, and how many changes of it the ledger has recorded, and
    how many were taken back."""
    if not told["approvals"]:
        return []
    plan = (facts.get("plan") or {}).get("plan") or {}
    history = facts.get("history") or {}
    rollback = told["kind"] == "rollback"
    steps = plan.get("steps", []) if rollback else history.get("steps") or plan.get("steps", [])
    events = [event["kind"] for event in history.get("events") or []]
    found: dict[str, dict[str, Any]] = {}
    for step in steps:
        if not step["statements"]:
            continue
        entry = found.setdefault(
            step["id"],
            {
                "step": step["id"],
                "title": step["title"],
                "statements": [],
                "lock": step["lock"],
                "omitted": 0,
                "recorded": told["backfill"]["rows_changed"]
                if step["id"] == "backfill"
                else events.count(f"{step['id']}_undone" if rollback else step["id"]),
                "taken_back": 0 if rollback else events.count(f"{step['id']}_undone"),
            },
        )
        pairs = [
            {"sql": sql, "undo": undo}
            for sql, undo in zip_longest(step["statements"], step["undo"], fillvalue="")
        ]
        few, omitted = _shortened(step, pairs)
        entry["statements"] += [pair for pair in few if pair not in entry["statements"]]
        entry["omitted"] = max(entry["omitted"], omitted)
    timeout = (plan.get("spec") or {}).get("lock_timeout_ms", _LOCK_TIMEOUT_MS)
    return [_with_texts(entry, timeout) for entry in found.values()]


def undo(told: dict[str, Any], spec: Spec | None, facts: dict[str, Any]) -> dict[str, Any]:
    """How to take the run back: the command, a sentence about it, and the SQL that undoes each
    statement, the last one first, also as a text that can be copied. Where the run came to its end,
    an index that was dropped and built again needs none; nor does one that was tried and not kept.
    """
    pairs = [
        pair
        for change in reversed(told["changes"])
        for pair in reversed(change["statements"])
        if pair["undo"] and change["step"] not in ("backfill", "index_trial")
    ]
    back = {pair["sql"] for pair in pairs} & {pair["undo"] for pair in pairs}
    restored = set() if told["error"] else back
    statements = [pair["undo"] for pair in pairs if not restored & {pair["sql"], pair["undo"]}]
    events = (facts.get("history") or {}).get("events") or []
    kept = [event["detail"]["new"] for event in events if event["kind"] == INDEX_KEPT]
    statements = [*(drop(spec, index) for index in kept if spec), *statements]
    if told["kind"] == "rollback":
        text = "A rollback is undone by running the phase again."
        return {"command": playbook(facts), "text": text, "statements": [], "sql_text": ""}
    if not told["approvals"]:
        text = "Nothing was approved, so nothing was changed and there is nothing to undo."
        return {"command": "", "text": text, "statements": [], "sql_text": ""}
    timeout = spec.lock_timeout_ms if spec else _LOCK_TIMEOUT_MS
    told_sql = {
        "statements": statements,
        "sql_text": "\n".join(copyable("", statements, timeout)),
    }
    if spec and spec.waive_rollback:
        text = (
            "The phase waived its rollback, so nobody knows which rows it changed: they come back "
            "from a backup only. The SQL below undoes the schema change."
        )
        return {"command": "", "text": text, **told_sql}
    text = (
        "The rollback gives back just the rows in the journal, and only where they still hold what "
        "the run wrote; then it takes back indexes and renames, with the SQL below. It asks for an "
        "approval of its own, and --check shows it beforehand. The SQL by itself gives back no row "
        "and drops no column."
    )
    command = playbook(facts, "playbooks/rollback.yml", f"-e run={told['run_id']}")
    return {"command": command, "text": text, **told_sql}


_LOCK_TIMEOUT_MS: int = SPEC_OPTIONS["lock_timeout_ms"]["default"]


def _with_texts(entry: dict[str, Any], timeout: int) -> dict[str, Any]:
    """The entry with its statements, and with those that undo it, as they can be copied."""
    texts = [
        "\n".join(_ended(t) for t in copyable(entry["step"], statements, timeout))
        for statements in (
            [pair["sql"] for pair in entry["statements"]],
            [pair["undo"] for pair in entry["statements"] if pair["undo"]],
        )
    ]
    return {**entry, "sql_text": texts[0], "undo_text": texts[1]}


def _ended(text: str) -> str:
    """A statement with its semicolon; a text that has one is left alone, and so is a command."""
    return text if text.endswith(";") or text.startswith("playbooks/") else f"{text};"


def _shortened(
    step: dict[str, Any], pairs: list[dict[str, str]]
) -> tuple[list[dict[str, str]], int]:
    """A step's statements without those that differ from another one in the partition only, and how
    many these are. A plan of an earlier version does not tell: of its backfill the first one does a
    batch, and the last is the VACUUM."""
    batches = len(pairs) - 1 if step["id"] == "backfill" else 1
    alike = step.get("alike") or [batches, *[1] * (len(pairs) - batches)]
    firsts = [sum(alike[:n]) for n, number in enumerate(alike) if number]
    return [pairs[at] for at in firsts], len(pairs) - len(firsts)


def _text(kind: str, detail: dict[str, Any]) -> str:
    if kind == "approved":
        claimed = " (claimed)" if detail.get("claimed") else ""
        how = f"{detail.get('by')}{claimed} from {detail.get('origin')}, {detail.get('method')}"
        return f"{detail.get('scope')} {str(detail.get('plan_hash'))[:8]} by {how}"
    if detail.get("old") and detail.get("new"):
        return f"{detail['old']} → {detail['new']}"
    return ", ".join(
        f"{key} {value}" if key not in ("detail", "new", "verdict") else str(value)
        for key, value in detail.items()
        if value not in (None, "", 0) and key != "report_sha256"
    )


def _time(moment: dict[str, str]) -> float:
    try:
        return datetime.fromisoformat(moment["at"]).timestamp()
    except ValueError:
        return 0.0
