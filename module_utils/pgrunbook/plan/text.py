# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as the person who approves it reads it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from ..backfill.progress import about
from ..backfill.sample import sample_text
from ..core import printable
from ..core.sql import script, together

WIDTH = 98
MARGIN = 9
SHOWN_ROWS = 5
SHOWN_UNDOS = 5  # of one statement; a conversion has as many

_NO_RUN = "no run of this phase has filled this table"

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
    steps = copyable_steps(result["plan"])
    result = printable.every(result)
    spec, counts = result["plan"]["spec"], result["counts"]
    run = result["run"]["id"]
    lines = [
        printable.line(
            f"{spec['title'] or spec['phase']}: {spec['schema']}.{spec['table']} "
            f"in database {result['plan']['server']['database']}"
        ),
        f"Run {run}, which goes on where it stopped" if result["resumes"] else f"Run {run}",
        "",
    ]
    number = 0
    for step in steps:
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
    again = "" if spec["waive_rollback"] else ", and again for every row that a rollback gives back"
    for trigger in result["plan"]["triggers"]:
        fires = f"Trigger {printable.line(trigger)} fires for every row that is filled{again}"
        lines += textwrap.wrap(f"{fires} (acknowledged).", WIDTH)
    for function in result["plan"]["volatile"]:
        called = f"{printable.line(function)} is volatile, and the phase calls it for its rows"
        lines.append(f"{called} (acknowledged).")
    return "\n".join([*lines, "", f"Plan hash: {result['plan_hash']}"])


def rollback_text(result: dict[str, Any]) -> str:
    """What a rollback would undo, and its hash."""
    steps = copyable_steps(result["plan"])
    result = printable.every(result)
    lines = [f"Rollback of run {result['run']['id']}", ""]
    if not result["needed"]:
        lines.append("Nothing to undo: the run left no change that still stands.")
    for number, step in enumerate((s for s in steps if s["statements"]), 1):
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


def copyable_steps(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """The plan's steps as they are shown: the SQL of a schema change, and its undo, as one text
    that can be copied and run as it is. The batches' SQL is no such text: it has parameters."""
    timeout = plan["spec"]["lock_timeout_ms"]
    return [
        {
            **printable.every(step),
            "statements": copyable(step["id"], _first_of_each(step), timeout),
            "undo": copyable(step["id"], [_cut(undo) for undo in step["undo"] if undo], timeout),
        }
        for step in plan["steps"]
    ]


def copyable(step: str, statements: list[str], lock_timeout_ms: int) -> list[str]:
    """Statements of a step as they are shown."""
    told = [_as_guarded(printable.sql(statement)) for statement in statements]
    if step == "backfill" or not told:
        return told
    return [script(together(told), lock_timeout_ms)]


def _as_guarded(statement: str) -> str:
    """A statement that a rollback runs only if the column that it drops is empty is no statement to
    be copied, since by hand nothing guards it."""
    drops = re.match(r'ALTER TABLE (?:(?:U&)?"(?:[^"]|"")*"\.?)+ DROP COLUMN ', statement)
    return f"-- only if it holds no value: {statement}" if drops else statement


def _step(number: int, step: dict[str, Any]) -> list[str]:
    lines = [f"{number}. {printable.line(step['title'])}"]
    for statement in step["statements"]:
        lines += _sql("SQL", statement)
    for statement in step["undo"]:
        lines += _sql("undo", statement)
    return [*lines, *_labelled("lock", step["lock"]), *_labelled("note", step.get("note", ""))]


def _first_of_each(step: Mapping[str, Any]) -> list[str]:
    """A step's statements; of those that differ in the partition only the first, with a comment
    that says how many others there are."""
    statements, found, at = step["statements"], [], 0
    for number in step.get("alike") or [1] * len(statements):
        others = f"-- this, and the same for {number - 1:,} more of its partitions\n"
        found.append((others if number > 1 else "") + statements[at])
        at += number
    return found


def _cut(statements: str) -> str:
    """Statements that undo a step, as many as a person reads."""
    parts = statements.split(";\n")
    if len(parts) <= SHOWN_UNDOS:
        return statements
    more = f"-- and {len(parts) - SHOWN_UNDOS:,} more like the last one"
    return ";\n".join([*parts[:SHOWN_UNDOS], more])


def _time(step: str, result: dict[str, Any]) -> list[str]:
    """The step's estimate, and what it was measured on. A rename changes only the catalog."""
    seconds = result["estimates"][step]
    if seconds is None:
        return _labelled(
            "time",
            f"not known yet: {result['measured_rate'] or _NO_RUN}. The canary measures it, before "
            "you are asked for all other rows",
        )
    if not seconds:
        return _labelled("time", "milliseconds")
    how = result["measured_rate"] if step == "backfill" else "from a sample of the pages"
    return _labelled("time", f"{about(seconds)}, {how}")


def _conversion(each: dict[str, Any]) -> list[str]:
    """What becomes of the values of a column that is put aside."""
    moved = "holds no value, so there is none to move"
    lost = each["from_source"] + each["become_null"]
    if each["values"]:
        moved = f"holds {each['values']:,} values, which the backfill moves (acknowledged)"
    if lost:
        moved += (
            f"; {lost:,} of them give NULL by {each['using']}: {each['from_source']:,} are filled "
            f"from the source, {each['become_null']:,} become NULL"
        )
    if each["differ"]:
        moved += f"; {each['differ']:,} of those that are kept differ from the source"
    return [
        *_labelled("moves", f"{each['old']} {moved}"),
        *_labelled("keeps", f"{each['aside']}, as it was, until somebody drops it"),
    ]


def _rows(result: dict[str, Any]) -> list[str]:
    counts = result["counts"]
    lines = [
        f"   rows  {counts['rows_eligible']:,} of {counts['rows_total']:,} would change",
        *_skipped(counts),
        *_refused(result),
        *_how(result),
        f"   the first {min(SHOWN_ROWS, len(result['sample']))} "
        f"of a sample of {len(result['sample'])} (all of them with --diff):",
    ]
    return lines + textwrap.indent(sample_text(result["sample"][:SHOWN_ROWS]), "     ").split("\n")


def _how(result: dict[str, Any]) -> list[str]:
    strategy = result["plan"]["strategy"]
    passes = f" in {strategy['passes']} passes" if strategy["passes"] > 1 else ""
    lines = _labelled("how", f"{strategy['name']}{passes}: {result['why_strategy']}")
    share = result["heap_only_percent"]
    if share is not None:
        lines += _labelled("", f"about {share:.0f} % of the updates expected to be heap-only")
    if strategy["passes"] > 1 and result["horizon"]:
        lines += _labelled(
            "",
            f"but {result['horizon']}, keeps dead rows from being pruned: while it lasts, single "
            "passes",
        )
    return lines


def _refused(result: dict[str, Any]) -> list[str]:
    """The rows that would be set aside, by what refuses them, and what nobody can know before."""
    lines = []
    for each in result["refused"]:
        keys = ", ".join(each["keys"])
        lines += _labelled(
            "", f"{each['rows']:,} would be set aside, such as {keys}: {each['what']} refuses them"
        )
    if result["unforeseen"]:
        lines += _labelled("", f"not foreseen: what {'; '.join(result['unforeseen'])} would refuse")
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
        lines += ["", f"What depends on {printable.line(column)}:"]
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


_WORDS = re.compile(rf"(?:{printable.SQL_TOKEN.pattern}|[^\s])+", re.DOTALL)


def _sql(label: str, statement: str) -> list[str]:
    """A statement behind a label. It is wrapped only between words, so that it stays the same
    statement: never in a name, a text or a comment."""
    lines: list[str] = []
    end, hanging = 0, False
    for found in _WORDS.finditer(statement):
        between, word = statement[end : found.start()], found[0]
        end = found.end()
        if not lines or "\n" in between:
            lines.append(between.rpartition("\n")[2] + word)
            hanging = False
        elif len(lines[-1]) + len(between) + len(word) <= WIDTH - MARGIN:
            lines[-1] += between + word
        else:
            indent = len(lines[-1]) - len(lines[-1].lstrip()) + (0 if hanging else 4)
            lines.append(" " * indent + word)
            hanging = True
    return [f"   {label if n == 0 else '':{MARGIN - 3}}{line}" for n, line in enumerate(lines)]
