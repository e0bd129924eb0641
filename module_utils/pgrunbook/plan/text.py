# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a person reads it before they approve it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import replace

from ..backfill.count_estimate import between, rounded, source
from ..backfill.counting import Counts
from ..backfill.estimate import Filling
from ..backfill.progress import about
from ..backfill.sample import sample_text
from ..catalog.dependents import Dependent
from ..core import printable
from ..core.sql import script, together
from ..ddl.convert import Moving
from ..ddl.step import Statement, Step
from .plan import Approvable, Plan, PlanResult, RollbackResult

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
    "refused": "are such that the server refuses to fill them",
}


def plan_text(result: PlanResult) -> str:
    """What a run would do: for each step its SQL, lock and undo, then the rows and the hash.

    Text from the database cannot break out of its line.
    """
    steps = copyable_steps(result.plan)
    result = printable.every(result)
    plan = result.plan
    lines = [
        printable.line(f"{plan.spec.title or plan.spec.phase}: {_where(plan)}"),
        f"Run {result.run.id}" + (", which goes on where it stopped" if result.resumes else ""),
        "",
    ]
    needed = [step for step in steps if _is_needed(step, result)]
    for number, step in enumerate(needed, 1):
        lines += [*_step(number, step), *_time(step.id, result)]
        if step.id == "convert":
            lines += [line for each in result.conversions for line in _conversion(each)]
        if step.id == "backfill":
            lines += _rows(result)
    if not needed:
        lines += ["Nothing to do: the database is as the phase wants it."]
        lines += _skipped(result.counts)
        if result.resumes:
            lines.append("What is left of the run is its validation and its verdict.")
    lines += [*_dependents(plan.dependents), *_called(plan)]
    return "\n".join([*lines, "", f"Plan hash: {result.run.plan_hash}"])


def _where(plan: Plan) -> str:
    return f"{plan.spec.table} in database {plan.server.database}"


def _is_needed(step: Step, result: PlanResult) -> bool:
    return bool(result.counts.rows_eligible if step.id == "backfill" else step.needed)


def _called(plan: Plan) -> list[str]:
    """The triggers and the volatile functions that the run calls, a sentence each."""
    back = ", and again for every row that a rollback gives back"
    again = "" if plan.spec.waive_rollback else back
    lines = []
    for trigger in plan.triggers:
        fires = f"Trigger {printable.line(trigger)} fires for every row that is filled{again}"
        lines += textwrap.wrap(f"{fires} (acknowledged).", WIDTH)
    for function in plan.volatile:
        called = f"{printable.line(function)} is volatile, and the phase calls it for its rows"
        lines.append(f"{called} (acknowledged).")
    return lines


def rollback_text(result: RollbackResult) -> str:
    """What a rollback would undo, and its hash."""
    steps = copyable_steps(result.plan)
    result = printable.every(result)
    plan = result.plan
    lines = [f"Rollback of run {result.run.id}", ""]
    if not result.needed:
        lines.append("Nothing to undo: the run left no change that still stands.")
    elif not any(step.statements for step in steps):
        lines.append("Everything is undone. What is left is to record that the rollback has ended.")
    for number, step in enumerate((step for step in steps if step.statements), 1):
        lines += _step(number, step)
        if step.id == "backfill":
            lines.append(f"   rows  {result.rows} that the journal lists")
            for trigger in plan.triggers:
                lines += _labelled("fires", f"trigger {trigger}, for every row (acknowledged)")
    accepted = (f"ACCEPTED  {sentence}" for sentence in plan.journal_altered)
    gone = (
        f"Column {column} is not there any more: it was renamed or dropped since. What the run "
        "filled in it is not given back. If it was renamed, give its name back first."
        for column in plan.columns_gone
    )
    for sentence in (*accepted, *result.journal_unknown, *plan.notes, *gone):
        lines += textwrap.wrap(sentence, WIDTH)
    return "\n".join([*lines, "", f"Plan hash: {result.run.plan_hash}"])


def copyable_steps(plan: Approvable) -> list[Step]:
    """The plan's steps as they are shown: the SQL of a schema change, and its undo, as one text
    that can be copied and run as it is. The batches' SQL is no such text: it has parameters."""
    timeout = plan.spec.lock_timeout_ms

    def shown(step: Step, statements: Iterable[str]) -> tuple[str, ...]:
        return tuple(copyable(step.id, [each for each in statements if each], timeout))

    return [
        replace(
            printable.every(step),
            statements=shown(step, map(_of_partitions, step.distinct())),
            undo=shown(step, map(_cut, step.undo)),
        )
        for step in plan.steps
    ]


def copyable(step: str, statements: list[str], lock_timeout_ms: int) -> list[str]:
    """Statements of a step as they are shown."""
    told = [_as_guarded(printable.sql(statement)) for statement in statements]
    if step == "backfill" or not told:
        return told
    return [script(together(told), lock_timeout_ms)]


def _as_guarded(statement: str) -> str:
    """A DROP COLUMN as a comment: the rollback runs it only if the column is empty, and by hand
    nothing would guard it."""
    drops = re.match(r'ALTER TABLE (?:(?:U&)?"(?:[^"]|"")*"\.?)+ DROP COLUMN ', statement)
    return f"-- only if it holds no value: {statement}" if drops else statement


def _step(number: int, step: Step) -> list[str]:
    lines = [f"{number}. {printable.line(step.title)}"]
    for statement in step.statements:
        lines += _sql("SQL", statement)
    for statement in step.undo:
        lines += _sql("undo", statement)
    return [*lines, *_labelled("lock", step.lock), *_labelled("note", step.note or "")]


def _of_partitions(statement: Statement) -> str:
    """A statement, with a comment where there are others that differ in the partition only."""
    others = f"-- this, and the same for {statement.more:,} more of its partitions\n"
    return (others if statement.more else "") + statement.sql


def _cut(statements: str) -> str:
    """Statements that undo a step, cut to as many as a person reads."""
    parts = statements.split(";\n")
    if len(parts) <= SHOWN_UNDOS:
        return statements
    more = f"-- and {len(parts) - SHOWN_UNDOS:,} more like the last one"
    return ";\n".join([*parts[:SHOWN_UNDOS], more])


def _time(step: str, result: PlanResult) -> list[str]:
    """The step's estimate, and what it was measured on. A rename changes only the catalog."""
    seconds = result.estimates.of(step)
    if seconds is None:
        return _labelled(
            "time",
            f"not known yet: {result.filling.measured_on or _NO_RUN}. The canary measures it, "
            "before you are asked for all other rows",
        )
    if not seconds:
        return _labelled("time", "milliseconds")
    if step == "backfill":
        return _labelled("time", f"{span(result.filling)}, {result.filling.measured_on}")
    return _labelled("time", f"{about(seconds)}, from a sample of the pages")


def span(of: Filling, others: float = 0.0) -> str:
    """How long filling takes, and others so many seconds besides, with the least and the most."""
    seconds = f"{about((of.seconds or 0.0) + others)}"
    if of.least is None or of.most is None or of.least == of.most:
        return seconds
    least, most = (about(end + others).removeprefix("about ") for end in (of.least, of.most))
    return f"{seconds} ({least} to {most})"


def _conversion(each: Moving) -> list[str]:
    """What becomes of the values of a column that is put aside."""
    moved = "holds no value, so there is none to move"
    lost = each.from_source + each.become_null
    if each.values:
        moved = f"holds {each.values:,} values, which the backfill moves (acknowledged)"
    if lost:
        moved += (
            f"; {lost:,} of them give NULL by {each.using}: {each.from_source:,} are filled "
            f"from the source, {each.become_null:,} become NULL"
        )
    if each.differ:
        moved += f"; {each.differ:,} of those that are kept differ from the source"
    return [
        *_labelled("moves", f"{each.old} {moved}"),
        *_labelled("keeps", f"{each.aside}, as it was, until somebody drops it"),
    ]


def _rows(result: PlanResult) -> list[str]:
    counts, sample = result.counts, result.sample
    lines = [
        *_changing(counts),
        *_skipped(counts),
        *_refused(result),
        *_how(result),
        f"   the first {min(SHOWN_ROWS, len(sample))} "
        f"of a sample of {len(sample)} (all of them with --diff):",
    ]
    return lines + textwrap.indent(sample_text(sample[:SHOWN_ROWS]), "     ").split("\n")


def _changing(counts: Counts) -> list[str]:
    found = counts.estimated
    if found is None:
        told = f"{counts.rows_eligible:,} of {counts.rows_total:,} would change"
        return [f"   rows  {told}"]
    return _labelled(
        "rows",
        f"about {rounded(counts.rows_eligible)} of {rounded(counts.rows_total)} would change "
        f"{between(found.rows_eligible, rows=True)}, {source(found)}",
    )


def _how(result: PlanResult) -> list[str]:
    strategy = result.plan.strategy
    passes = f" in {strategy.passes} passes" if strategy.passes > 1 else ""
    lines = _labelled("how", f"{strategy.name}{passes}: {result.why_strategy}")
    share = result.heap_only_percent
    if share is not None:
        lines += _labelled("", f"about {share:.0f} % of the updates expected to be heap-only")
    if strategy.passes > 1 and result.horizon:
        lines += _labelled(
            "",
            f"but {result.horizon}, keeps dead rows from being pruned: while it lasts, single "
            "passes",
        )
    return lines


def _refused(result: PlanResult) -> list[str]:
    """The rows that would be set aside, by what refuses them, and what nobody can know before."""
    lines = []
    for each in result.refused:
        keys = ", ".join(each.keys)
        lines += _labelled(
            "", f"{each.rows:,} would be set aside, such as {keys}: {each.what} refuses them"
        )
    if result.refused_pages_read:
        pages = f"{result.refused_pages_read:,} pages that were read"
        lines += _labelled("", f"none is refused on the {pages}; a run's plan looks at all rows")
    if result.unforeseen:
        lines += _labelled("", f"not foreseen: what {'; '.join(result.unforeseen)} would refuse")
    return lines


def _skipped(counts: Counts) -> list[str]:
    return [
        f"         {f'about {rounded(number)}' if counts.estimated else f'{number:,}'}"
        f" stay as they are: they {REASONS[reason]}"
        for reason, number in counts.rows_skipped.items()
        if number
    ]


def _dependents(dependents: list[Dependent]) -> list[str]:
    """For each column to be renamed, what PostgreSQL carries along, then what would break."""
    lines = []
    for column in dict.fromkeys(d.column for d in dependents):
        found = [d for d in dependents if d.column == column]
        carried = [d for d in found if d.follows]
        lines += ["", f"What depends on {printable.line(column)}:"]
        if carried:
            lines += _listed("carried along with the rename", carried)
        if len(carried) < len(found):
            breaks = [d for d in found if not d.follows]
            lines += _listed("BREAKS, acknowledged: change it right after the rename", breaks)
    return lines


def _listed(heading: str, dependents: list[Dependent]) -> list[str]:
    lines = [f"   {heading}"]
    for dependent in dependents:
        note = f": {dependent.note}" if dependent.note else ""
        lines += [
            f"{' ' * (MARGIN - 3)}{line}"
            for line in textwrap.wrap(
                f"{dependent.kind} {dependent.object}{note}",
                WIDTH - MARGIN + 3,
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        ]
    return lines


def _labelled(label: str, text: str) -> list[str]:
    """The lines of a text behind a label. Only lines that are too long are wrapped."""
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
    """A statement behind a label. It is wrapped between words only, never in a name, a text or a
    comment, so that it stays the same statement."""
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
