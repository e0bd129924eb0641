# SPDX-License-Identifier: GPL-3.0-or-later
"""A small table of any shape with its source, and the way through for it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import backfill
from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core import spec as spec_module
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.values import plain
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]
INDEXES = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = %s::regclass"


@dataclass
class Table:
    """A small table t (id, ref, value, other, pad and what is asked for) with its source s."""

    rows: int = 500
    columns: str = ""
    options: str = ""
    key: tuple[str, ...] = ("id",)
    after: tuple[str, ...] = ("ALTER TABLE t ADD PRIMARY KEY (id)",)
    spec: dict[str, Any] = field(default_factory=dict)

    def make(self, database: Database, module: Module) -> Steps:
        for statement in (
            "CREATE TABLE s (ref int PRIMARY KEY, value text)",
            "INSERT INTO s SELECT i, 'v' || i FROM generate_series(1, 50) i",
            "CREATE TABLE t (id int, ref int, value text, other int,"
            f" pad text DEFAULT repeat('x', 100) {self.columns}) {self.options}",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            f" CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, {self.rows}) i",
            *self.after,
            "VACUUM (ANALYZE) t",
        ):
            database.sql(statement)
        return Steps(module, database.login, self.options_of_the_phase())

    def options_of_the_phase(self) -> dict[str, Any]:
        defaults = {n: o["default"] for n, o in spec_module.SPEC_OPTIONS.items() if "default" in o}
        return {
            **defaults,
            "phase": "small",
            "table": "t",
            "key": list(self.key),
            "columns": [{"name": "value", "type": "text", "source": "value"}],
            "source_table": "s",
            "source_key": {"ref": "ref"},
            "batch_rows": 50,
            "lock_tries": 2,
            **self.spec,
        }


RIGHT = (
    "SELECT count(*) AS n FROM t LEFT JOIN s USING (ref)"
    " WHERE t.value IS DISTINCT FROM CASE WHEN id % 25 = 0 THEN 'kept' ELSE s.value END"
)


def fill(steps: Steps) -> dict[str, Any]:
    steps.begin()
    steps.approve("backfill")
    steps.defer()
    result = steps.backfill()
    steps.build()
    steps.do("run", state="finished")
    return result


def all_right(database: Database) -> None:
    assert database.sql(RIGHT) == [{"n": 0}]


INDEX = {"name": "t_value", "columns": ["value"]}
ON_VALUE = ("ALTER TABLE t ADD PRIMARY KEY (id)", "CREATE INDEX t_value ON t (value)")


def one_slice(steps: Steps, seconds: int = 1) -> dict[str, Any]:
    spec = replace(phase_module.parse(steps.spec), slice_seconds=seconds)
    with connect(steps.login, name="test", read_only=False, schemas=["public"]) as conn:
        run = ledger.Run(**steps.planned["run"])
        result: dict[str, Any] = plain(backfill.run_slice(conn, spec, run, canary=False))
        return result
