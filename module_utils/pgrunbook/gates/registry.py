# SPDX-License-Identifier: GPL-3.0-or-later
"""Every gate, declared once: what it is called, where the report has it, whether a miss is
enforced, and what a person does about it on a later day.

To add a gate, declare it here, and write the function that measures it and gives this declaration
to gate.judge().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..core.errors import RunbookError

ENFORCE, WARN = "enforce", "warn"


@dataclass(frozen=True)
class Declared:
    """A gate before it is measured.

    test is the number of its test in the report; readiness is its row of the readiness checklist,
    and empty where it has none. default says whether a miss is enforced where phase_gates does not
    say so; with enforced_with it is, wherever a miss of that other gate is. settable is whether
    phase_gates may name the gate. next_step is what to do where the post-run validation finds the
    gate breached: {command} runs the phase, {fill} says how to fill what is left.
    """

    id: str
    title: str
    test: int
    readiness: str = ""
    default: str = ENFORCE
    enforced_with: str = ""
    settable: bool = True
    next_step: str = "see what a dry run says: {command} --check"

    def of_query(self, query: str, *, enforced: bool) -> Declared:
        """The gate for one query."""
        return replace(
            self,
            id=f"{self.id}:{query}",
            title=f"{self.title}: {query}",
            default=ENFORCE if enforced else WARN,
        )


_DIFFERENT = (
    "find out what writes these columns, or changed the source; rows that miss a value are filled "
    "when the phase is run again, others are never overwritten."
)

CONNECTIVITY = Declared(
    "connectivity", "Database connectivity", test=1, readiness="Database connectivity"
)
SUPERUSER = Declared("superuser", "Privileges of the login role", test=1, default=WARN)
ORPHANS = Declared("orphans", "Rows whose source key has no source row", test=1, default=WARN)
SCHEMA = Declared(
    "schema",
    "Schema matches the application's models",
    test=2,
    readiness="Schema compatibility",
    next_step="mend the database or the models; a dry run lists each difference with the ways out: "
    "{command} --check",
)
INDEXES = Declared(
    "indexes",
    "Indexes present and valid",
    test=2,
    readiness="Schema compatibility",
    next_step="run the phase again, which builds what is missing: {command}",
)
OLD_NAME = Declared(
    "old_name",
    "Statements that name an old column",
    test=2,
    default=WARN,
    next_step="find who sends them and see that they name the new column; then take them out of "
    "the statistics with pg_stat_statements_reset(), so that only newer ones are counted.",
)
BASELINE = Declared("baseline", "Coverage before the run", test=3)
REQUIREMENT = Declared(
    "requirement",
    "Rows to fill, and the coverage that they bring",
    test=3,
    default=WARN,
    enforced_with="coverage",
)
AGREEMENT = Declared(
    "agreement",
    "Rows that can equal their source",
    test=3,
    default=WARN,
    enforced_with="comparison",
)
ESTIMATE = Declared("estimate", "Rows, batches and time that are left", test=3, default=WARN)
DRY_RUN = Declared("dry_run", "Dry run writes nothing", test=4, readiness="Dry-run validation")
READ_ONLY = Declared(
    "read_only",
    "The validation only read",
    test=4,
    next_step="tell whoever maintains this playbook; the session could have written.",
)
QUERY = Declared(
    "query",
    "Query speed-up",
    test=5,
    readiness="Query performance",
    settable=False,
    next_step="where the results differ, see with psql in which rows, and correct the query; else "
    "ANALYZE the table, and compare the plans in report.json with the present ones.",
)
SPEEDUP = Declared(
    "speedup",
    "Speed-up kept",
    test=5,
    settable=False,
    next_step="ANALYZE the table, see whether its indexes have grown, then compare the plans in "
    "report.json with the present ones.",
)
CANARY = Declared("canary", "Canary rows equal to their source", test=6)
ACCURACY = Declared(
    "accuracy",
    "Data quality of a random sample",
    test=6,
    readiness="Data quality",
    next_step=_DIFFERENT,
)
COMPARISON = Declared(
    "comparison",
    "Exact comparison of every row with its source",
    test=6,
    readiness="Data quality",
    next_step=_DIFFERENT,
)
JOURNAL = Declared(
    "journal",
    "Journals that rollbacks need",
    test=6,
    next_step="find out who may write to schema pgrunbook; a rollback of that run is refused "
    "unless its loss is accepted (docs/rollback.md).",
)
COVERAGE = Declared(
    "coverage", "Coverage of each column", test=3, readiness="Backfill", next_step="{fill}"
)
REMAINING = Declared(
    "remaining",
    "Rows that the source could still fill",
    test=3,
    readiness="Backfill",
    default=WARN,
    next_step="{fill}; and see why what adds rows leaves them empty.",
)
GIVEN_BACK = Declared("given_back", "Rows given back", test=1, default=WARN, settable=False)
SCHEMA_BEFORE = Declared(
    "schema_before",
    "Columns and indexes as before the run",
    test=2,
    default=WARN,
    settable=False,
)

ALL = {gate.id: gate for gate in list(vars().values()) if isinstance(gate, Declared)}
"""By their ids, in the order above; the readiness checklist has its rows in this order too."""


def declared(id: str) -> Declared:
    """The declaration of a gate that was measured; "query:a name" is one for a query. A gate that
    is not there is in no row of the checklist."""
    kind = id.partition(":")[0]
    return ALL.get(kind, Declared(kind, "", test=0))


def readiness_rows() -> list[str]:
    """The rows of the readiness checklist."""
    return list(dict.fromkeys(gate.readiness for gate in ALL.values() if gate.readiness))


def require_declared(gates: Mapping[str, str]) -> None:
    """Raise RunbookError where phase_gates names what is no gate, or says neither enforce nor
    warn."""
    settable = [gate.id for gate in ALL.values() if gate.settable]
    for gate, word in gates.items():
        if declared(gate) in (QUERY, SPEEDUP):
            raise RunbookError(
                f"phase_gates names {gate!r}, but each query has a setting of its own. "
                "Next step: take it out, and set enforce of that query in phase_queries."
            )
        if gate not in settable:
            raise RunbookError(
                f"phase_gates names {gate!r}, which is no gate of a phase; these are: "
                f"{', '.join(settable)}. Next step: correct the name in the variables file."
            )
        if word not in (ENFORCE, WARN):
            raise RunbookError(
                f"phase_gates sets {gate} to {word!r}; it takes {ENFORCE} or {WARN}. "
                "Next step: correct phase_gates in the variables file."
            )
