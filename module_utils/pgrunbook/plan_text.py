# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as the person who approves it reads it."""

from __future__ import annotations

import textwrap
from typing import Any

from . import shown
from .progress import about

WIDTH = 98
MARGIN = 9
SHOWN_ROWS = 5

REASONS = {
    "already_complete": "have every value already",
    "no_source_key": "have no source key",
    "no_source_row": "have no source row",
    "source_has_no_value": "lack a value, and the source has none",
}


def plan_text(result: dict[str, Any]) -> str:
    """What a run would do: for each step its SQL, lock and undo, then the rows and the hash.

    What comes from the database cannot end a line that it did not begin.
    """
    result = shown.every(result)
    spec, counts = result["plan"]["spec"], result["counts"]
    run = result["run"]["id"]
    lines = [
        shown.line(
            f"{spec['title'] or spec['phase']}: {spec['schema']}.{spec['table']} "
            f"in database {result['plan']['server']['database']}"
        ),
        f"Run {run}, which goes on where it stopped" if result["resumes"] else f"Run {run}",
        "",
    ]
    number = 0
    for step in result["plan"]["steps"]:
        needed = counts["rows_eligible"] if step["id"] == "backfill" else step["needed"]
        if not needed:
            continue
        number += 1
        lines += [*_step(number, step), *_time(step["id"], result)]
        if step["id"] == "convert":
            lines += [line for each in result["conversions"] for line in _conversion(each)]
        if step["id"] == "backfill":
            lines += _rows(result)
    if not number:
        lines += ["Nothing to do: the database is as the phase wants it.", *_skipped(counts)]
        if result["resumes"]:
            lines.append("What is left of the run is its validation and its verdict.")
    lines += _dependents(result["plan"]["dependents"])
    for trigger in result["plan"]["triggers"]:
        lines.append(
            f"Trigger {shown.line(trigger)} fires for every row that is filled (acknowledged)."
        )
    for function in result["plan"]["volatile"]:
        called = f"{shown.line(function)} is volatile, and the phase calls it for its rows"
        lines.append(f"{called} (acknowledged).")
    return "\n".join([*lines, "", f"Plan hash: {result['plan_hash']}"])


def rollback_text(result: dict[str, Any]) -> str:
    """What a rollback would undo, and its hash."""
    result = shown.every(result)
    lines = [f"Rollback of run {result['run']['id']}", ""]
    if not result["needed"]:
        lines.append("Nothing to undo: the run left no change that still stands.")
    for number, step in enumerate((s for s in result["plan"]["steps"] if s["statements"]), 1):
        lines += _step(number, step)
        if step["id"] == "backfill":
            lines.append(f"   rows  {result['counts']['rows_eligible']} that the journal lists")
            for trigger in result["plan"]["triggers"]:
                lines += _labelled("fires", f"trigger {trigger}, for every row (acknowledged)")
    for sentence in result["plan"]["journal_altered"]:
        lines += textwrap.wrap(f"ACCEPTED  {sentence}", WIDTH)
    for sentence in result["journal_unknown"]:
        lines += textwrap.wrap(sentence, WIDTH)
    for sentence in result["plan"]["notes"]:
        lines += textwrap.wrap(sentence, WIDTH)
    for column in result["plan"]["columns_gone"]:
        lines += textwrap.wrap(
            f"Column {column} is there no more: it was renamed or dropped since. What the run "
            "filled in it is not given back. If it was renamed, give its name back first.",
            WIDTH,
        )
    return "\n".join([*lines, "", f"Plan hash: {result['plan_hash']}"])


def sample_text(rows: list[dict[str, Any]]) -> str:
    """Rows before (-) and after (+), in pairs."""
    lines = []
    for row in rows:
        key = ", ".join(shown.line(part) for part in row["key"])
        lines += [f"- {key}: {_values(row['before'])}", f"+ {key}: {_values(row['after'])}"]
    return "\n".join(lines)


def _step(number: int, step: dict[str, Any]) -> list[str]:
    lines = [f"{number}. {shown.line(step['title'])}"]
    for statement in step["statements"]:
        lines += _labelled("SQL", statement)
    for statement in step["undo"]:
        lines += _labelled("undo", statement)
    return [*lines, *_labelled("lock", step["lock"]), *_labelled("note", step.get("note", ""))]


def _time(step: str, result: dict[str, Any]) -> list[str]:
    """The step's estimate, and what it was measured on. A rename changes only the catalog."""
    seconds = result["estimates"][step]
    if seconds is None:
        return _labelled(
            "time",
            "not known yet: no run of this phase has filled this table. The canary measures it, "
            "before you are asked for all other rows",
        )
    if not seconds:
        return _labelled("time", "milliseconds")
    how = result["measured_rate"] if step == "backfill" else "from a sample of the pages"
    return _labelled("time", f"{about(seconds)}, {how}")


def _conversion(each: dict[str, Any]) -> list[str]:
    """What becomes of the values of a column that is put aside."""
    moved = "holds no value, so there is none to move"
    if each["values"]:
        lost = f", of which {each['become_null']:,} become NULL" if each["become_null"] else ""
        moved = f"holds {each['values']:,} values, which the backfill moves{lost} (acknowledged)"
    return [
        *_labelled("moves", f"{each['old']} {moved}"),
        *_labelled("keeps", f"{each['aside']}, as it was, until somebody drops it"),
    ]


def _rows(result: dict[str, Any]) -> list[str]:
    counts = result["counts"]
    lines = [
        f"   rows  {counts['rows_eligible']:,} of {counts['rows_total']:,} would change",
        *_skipped(counts),
        *_how(result),
        f"   the first {min(SHOWN_ROWS, len(result['sample']))} "
        f"of a sample of {len(result['sample'])} (all of them with --diff):",
    ]
    return lines + textwrap.indent(sample_text(result["sample"][:SHOWN_ROWS]), "     ").split("\n")


def _how(result: dict[str, Any]) -> list[str]:
    strategy = result["plan"]["strategy"]
    passes = f" in {strategy['passes']} passes" if strategy["passes"] > 1 else ""
    lines = _labelled("how", f"{strategy['name']}{passes}: {result['why_strategy']}")
    if strategy["passes"] > 1 and result["horizon"]:
        lines += _labelled(
            "",
            f"but {result['horizon']}, keeps dead rows from being pruned: while it lasts, single "
            "passes",
        )
    return lines


def _skipped(counts: dict[str, Any]) -> list[str]:
    return [
        f"         {number:,} stay as they are: they {REASONS[reason]}"
        for reason, number in counts["rows_skipped"].items()
        if number
    ]


def _dependents(dependents: list[dict[str, Any]]) -> list[str]:
    """For each column to be renamed, what PostgreSQL carries along, then what would break."""
    lines = []
    for column in dict.fromkeys(d["column"] for d in dependents):
        found = [d for d in dependents if d["column"] == column]
        carried = [d for d in found if d["follows"]]
        lines += ["", f"What depends on {shown.line(column)}:"]
        if carried:
            lines += _listed("carried along with the rename", carried)
        if len(carried) < len(found):
            breaks = [d for d in found if not d["follows"]]
            lines += _listed("BREAKS, acknowledged: change it right after the rename", breaks)
    return lines


def _listed(heading: str, dependents: list[dict[str, Any]]) -> list[str]:
    lines = [f"   {heading}"]
    for dependent in dependents:
        note = f": {dependent['note']}" if dependent["note"] else ""
        lines += [
            f"{' ' * (MARGIN - 3)}{line}"
            for line in textwrap.wrap(
                f"{dependent['kind']} {dependent['object']}{note}",
                WIDTH - MARGIN + 3,
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        ]
    return lines


def _values(values: dict[str, Any]) -> str:
    return " ".join(
        f"{shown.line(k)}={'NULL' if v is None else shown.line(v)}" for k, v in values.items()
    )


def _labelled(label: str, text: str) -> list[str]:
    """The text's lines behind a label; only the lines that are too long are wrapped."""
    lines = [
        wrapped
        for line in text.splitlines()
        for wrapped in textwrap.wrap(
            line,
            WIDTH - MARGIN,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
    return [f"   {label if n == 0 else '':{MARGIN - 3}}{line}" for n, line in enumerate(lines)]
