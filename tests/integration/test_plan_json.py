# SPDX-License-Identifier: GPL-3.0-or-later
"""What is hashed and stored of a plan is the same from version to version: another byte would void
every approval that was prepared, and an older run could not be rolled back.

The plans are compared with tests/fixtures/plans.json. Where a change of a plan is meant, run this
file with RENEW_PLANS=1, which writes those anew, and read what git shows of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.conftest import Database
from tests.integration.small_table import INDEX, ON_VALUE, Table, fill
from tests.integration.steps import Module, Steps
from tests.integration.test_partitions import flat

FILE = ROOT / "tests/fixtures/plans.json"

EVERYTHING = Table(
    columns=", old_name text, amount text[], late text",
    after=(
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "UPDATE t SET amount = ARRAY['1', '2'] WHERE id < 10",
        "CREATE INDEX t_old ON t (old_name)",
        "CREATE INDEX t_broken ON t (value) INCLUDE (other)",
        "CREATE VIEW seen AS SELECT id, old_name FROM t",
        "CREATE FUNCTION reads() RETURNS text LANGUAGE plpgsql AS"
        " 'BEGIN RETURN (SELECT max(old_name) FROM t); END'",
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER noting BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION noted()",
    ),
    spec={
        "columns": [
            {"name": "value", "type": "text", "source": "value"},
            {"name": "new_name", "type": "text", "source": "value", "renamed_from": "old_name"},
            {
                "name": "amount",
                "type": "integer",
                "source": "ref + (random() * 0)::int",
                "converted_from": "text[]",
                "using": "({amount})[1]::integer",
            },
        ],
        "indexes": [
            {"name": "t_new", "columns": ["new_name"], "renamed_from": "t_old"},
            {"name": "t_broken", "columns": ["value"], "include": ["other"]},
            {"name": "t_partial", "columns": ["amount"], "where": "amount > 5"},
        ],
        "acknowledged": ["reads()", "noting", "amount", "random()"],
        "index_advice": "try",
        "queries": [
            {
                "name": "values",
                "snapshot": "SELECT count(*) FROM {table} WHERE {value} = 'v1' AND {amount} > 3",
                "baseline": "SELECT count(*) FROM {table} JOIN {source} USING (ref)"
                " WHERE {source}.value = 'v1'",
            }
        ],
        "strategy": "ranges",
    },
)


def everything(database: Database, module: Module) -> Steps:
    """A rename, a conversion, an index of each kind of action, a trial, and what depends on all."""
    steps = EVERYTHING.make(database, module)
    broken = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 't_broken'::regclass"
    database.superuser(broken)
    return steps


def interleaved(database: Database, module: Module) -> Steps:
    """Passes for which an index is dropped, and built again."""
    spec = {"indexes": [INDEX], "strategy": "interleaved"}
    return Table(after=ON_VALUE, spec=spec).make(database, module)


def partitioned(database: Database, module: Module) -> Steps:
    """An index in parts, some of whose statements differ in the partition only."""
    return flat(3).make(database, module)


def keyset(database: Database, module: Module) -> Steps:
    return Table(spec={"strategy": "keyset", "title": "By key"}).make(database, module)


PHASES = {make.__name__: make for make in (everything, interleaved, partitioned, keyset)}


def stored(planned: dict[str, Any]) -> dict[str, Any]:
    """The plan as it is hashed, without what differs from one database to another of the same
    tables."""
    plan = dict(planned["plan"])
    for part in ("server", "surroundings"):
        plan[part] = sorted(plan[part])
    told: dict[str, Any] = json.loads(json.dumps(plan).replace(planned["run"]["id"], "RUN"))
    return told


@pytest.mark.parametrize("make", PHASES.values(), ids=PHASES.keys())
def test_the_plans_of_a_run_and_of_its_rollback_are_what_they_were(
    database: Database, module: Module, make: Callable[[Database, Module], Steps]
) -> None:
    steps = make(database, module)
    found = {"run": stored(steps.plan())}
    fill(steps)
    found["rollback"] = stored(steps.do("plan", rollback_of=steps.planned["run"]["id"]))
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if os.environ.get("RENEW_PLANS"):
        known[make.__name__] = found
        written = json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False)
        FILE.write_text(f"{written}\n", encoding="utf-8")
    assert found == known[make.__name__]
    assert canonical(found) == canonical(known[make.__name__])


def canonical(of: Any) -> str:
    return json.dumps(of, sort_keys=True)
