# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes after a cut: the playbook's rescue, or nothing of it; then a person, who runs the
playbook again."""

from __future__ import annotations

from tests.crashpoints.small_run import ROLLBACK, RUN, SmallRun, Step, do_all
from tests.crashpoints.state import has_ledger
from tests.integration.conftest import Database

AN_HOUR_LATER = "UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'"
RUN_WITH_ROWS = """
SELECT id FROM pgrunbook.run r ORDER BY EXISTS (SELECT FROM pgrunbook.batch b WHERE b.run_id = r.id)
    DESC, started_at LIMIT 1
"""


def rescue(steps: SmallRun, step: Step) -> None:
    """What the playbook does when the step has failed, once the server can be reached again."""
    if step.rescue == "schema":
        steps.attempt("index", state="reverted")
        steps.attempt("column", state="reverted")
    if step.rescue:
        steps.attempt("run", state="running")
        verdict = {} if step in ROLLBACK else {"verdict": "NO-GO"}
        steps.attempt("run", state="failed", **verdict)


def later(database: Database) -> None:
    """The next execution finds the run as one that has not been at work for long."""
    if has_ledger(database):
        database.sql(AN_HOUR_LATER)


def run_again(steps: SmallRun) -> None:
    """The whole playbook, without the steps that only read and that nothing depends on."""
    do_all(steps, RUN)


def roll_back(steps: SmallRun, database: Database) -> None:
    """The whole rollback of the run that filled rows, or else of the first one."""
    steps.undoes = database.sql(RUN_WITH_ROWS)[0]["id"]
    do_all(steps, ROLLBACK)
