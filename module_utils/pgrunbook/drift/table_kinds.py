# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of a table that only one side has, and of a name that is acknowledged in vain."""

from __future__ import annotations

from dataclasses import replace

from ..core.spec import Table
from .difference import CRITICAL, NOTE, WARNING, Difference, Sides, difference
from .resolution import ONE_LINE, Subject, Way


def missing_table(on: Subject) -> Difference:
    return difference(
        "missing_table",
        CRITICAL,
        on,
        on.name,
        Sides(f"table {on.table}", "a table", "none"),
        f"the phase needs table {on.table}, the database has none of that name",
        f'queries and writes that name it fail with: relation "{on.name}" does not exist',
        Way("correct the name in the variables file, or create the table", True),
    )


def unmodelled_table(on: Subject) -> Difference:
    return difference(
        "unmodelled_table",
        WARNING,
        on,
        on.name,
        Sides(f"table {on.table}", "none", "a table"),
        f"the database has table {on.table}, the models have none of that name",
        "nothing of this table was compared, so a difference would not be seen",
        Way("add the table to the models, or correct phase_models", True, costs=ONE_LINE),
    )


def unmatched_acknowledgement(acknowledged: str) -> Difference:
    """A name in phase_acknowledged_drift that no difference has."""
    of_no_table = difference(
        "unmatched_acknowledgement",
        NOTE,
        Subject(Table("", ""), 0),
        acknowledged,
        Sides("phase_acknowledged_drift", f"a difference at {acknowledged}", "none"),
        f"the phase acknowledges {acknowledged} in phase_acknowledged_drift, and no difference "
        "between the models and the database has that name",
        "nothing breaks; if the name is mistyped, the difference that is meant still counts",
        Way(
            "correct the name, or take it out of phase_acknowledged_drift",
            True,
            costs="no lock, no change of the database; one line in the variables file",
        ),
    )
    return replace(of_no_table, table="")
