# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person can do now, each with its command and the time that it takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from ..backfill.progress import about
from ..core.spec import Spec
from ..gates.registry import declared
from ..plan.text import span
from .facts import Facts
from .in_short import counted, failed, proposed_index
from .repeat import playbook
from .value import Option, Report

ABORTED = "Aborted by"
"""How the role says that somebody ended a run on purpose, who then knows best what to do."""
_UNDER_A_MINUTE = "seconds to a few minutes: it only reads"
_UNKNOWN = "known once the canary's rows are filled"


def options(told: Report, spec: Spec | None, facts: Facts) -> tuple[Option, ...]:
    """The options, the recommended one first."""
    if told.kind == "rollback":
        return tuple(_after_a_rollback(told, facts))
    if not told.approvals:
        return tuple(_before(told, facts))
    return tuple(_after_a_run(told, spec, facts))


def _before(told: Report, facts: Facts) -> Iterator[Option]:
    dry_run = playbook(facts, "", "--check")
    if told.verdict == "GO":
        yield Option(
            "Run the phase",
            playbook(facts),
            _planned_time(told, facts),
            "It asks for the plan, fills a canary, and asks once more before it goes on.",
            recommended=True,
        )
        yield Option(
            "Leave the database as it is",
            "",
            "none",
            "What the mismatch affects goes on as it is."
            if told.mismatch.affected
            else "The rows stay as they are.",
        )
    else:
        yield Option(
            "Mend what stands in the way, then make a dry run",
            dry_run,
            _UNDER_A_MINUTE,
            "It writes nothing, and says whether a run would go through.",
            recommended=True,
        )


def _planned_time(told: Report, facts: Facts) -> str:
    """How long a run would take by its plan."""
    given = facts.plan.estimates
    if not told.backfill.rows_eligible:
        return "seconds"
    if facts.plan.filling.seconds is None:
        return _UNKNOWN
    others = (given.get("index_build") or 0) + (given.get("index_trial") or 0)
    return f"{span(facts.plan.filling, others)} of work"


def _after_a_run(told: Report, spec: Spec | None, facts: Facts) -> Iterator[Option]:
    go_on = playbook(facts)
    if told.verdict == "GO":
        yield Option(
            "Keep it, and check it on a later day",
            playbook(facts, "playbooks/validate.yml", _phase_file(facts)),
            _UNDER_A_MINUTE,
            "It measures the gates again, read-only.",
            recommended=True,
        )
    elif told.error:
        yield Option(
            "Go on with this run where it stopped",
            go_on,
            _time_left(told, len(facts.record.missing or ())),
            "Rows that are filled are not filled again; what is missing is built.",
            recommended=ABORTED not in told.error,
        )
    else:
        yield Option(
            "Mend what was missed, then run the phase again",
            go_on,
            "seconds to minutes, and what the mending takes",
            _advice(told, facts),
            recommended=True,
        )
    yield _back(told, spec)
    if told.verdict == "GO":
        yield Option(
            "Forget the journal, once nobody will want to go back",
            playbook(facts, "playbooks/forget.yml", f"-e run={told.run_id}"),
            "seconds",
            "The space comes back; the run cannot be undone after that.",
        )


def _phase_file(facts: Facts) -> str:
    """What validate.yml needs to be told for a phase that is not its own."""
    file = facts.phase.file
    return "" if file in ("", "vars/phase3.yml") else f"-e phase_file={shlex.quote(file)}"


def _advice(told: Report, facts: Facts) -> str:
    """What to do about the first gate that failed."""
    first = failed(told.checks)[0]
    if index := proposed_index(first):
        file = facts.phase.file or "the phase"
        return f"An index would serve the query. Put it into phase_indexes of {file}: {index}"
    step = declared(first.id).next_step
    said = step.format(command=playbook(facts), fill="run the phase again, which fills them")
    return f"{said[:1].upper()}{said[1:].rstrip('.')}."


def _time_left(told: Report, missing: int) -> str:
    done = told.backfill
    left = done.rows_eligible - done.rows_changed
    indexes = f", and the build of {counted(missing, 'index', 'indexes')}" if missing else ""
    if done.rows_per_second and left > 0:
        time = about(left / done.rows_per_second)
        return f"{time} for {left:,} rows, at the rate so far{indexes}"
    return "not known"


def _back(told: Report, spec: Spec | None) -> Option:
    if spec and spec.waive_rollback:
        return Option(
            "Go back", "", "not known", "The phase waived its rollback: only a backup has the rows."
        )
    seconds = told.backfill.seconds
    return Option(
        "Go back",
        told.undo.command,
        f"{about(seconds)} of work, as long as the filling" if seconds else "seconds",
        "It gives back the rows that the run filled, and takes back names and indexes. The models "
        "and the application have to go back as well."
        if any(change.step == "rename" for change in told.changes)
        else "It gives back the rows that the run filled, and takes back its indexes.",
    )


def _after_a_rollback(told: Report, facts: Facts) -> Iterator[Option]:
    if told.verdict != "GO":
        yield Option(
            "Go on with the rollback",
            playbook(facts, "playbooks/rollback.yml", f"-e run={told.run_id}"),
            "as long as the rows that are left take",
            "Rows that were given back are left alone.",
            recommended=True,
        )
    yield Option(
        "Leave it so",
        "",
        "none",
        "The models and the application have to expect the old names.",
        recommended=told.verdict == "GO",
    )
    yield Option(
        "Run the phase again",
        playbook(facts),
        "about as long as the first time",
        "It plans anew, and asks anew.",
    )
