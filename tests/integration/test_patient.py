# SPDX-License-Identifier: GPL-3.0-or-later
"""An index statement outlives the module that sent it: nobody works on the table meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Database
from tests.integration.steps import TABLES, Module, Steps, content
from tests.integration.test_kill import until

PROGRAM = """
import json, sys
import tests.conftest
from ansible.module_utils.testing import patch_module_args
import pgrunbook_index
with patch_module_args(json.loads(sys.argv[1])):
    pgrunbook_index.main()
"""
WAITING = """
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE %s
AND application_name LIKE 'pgrunbook/index %%' AND wait_event_type = 'Lock'
"""
OURS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'pgrunbook/%'
"""


def killed(database: Database, steps: Steps, statement: str, **arguments: Any) -> int:
    """Kill the index module while its statement waits for a lock; the server process that still
    waits for it."""
    given = {"login": steps.login, "spec": steps.spec, "run": steps.planned["run"], **arguments}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(given)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    pattern = (f"{statement} INDEX CONCURRENTLY%",)
    until(lambda: database.sql(WAITING, pattern), "the module sends no statement")
    process.kill()
    process.communicate()
    until(lambda: len(database.sql(OURS)) == 1, "the other sessions stay")
    (row,) = database.sql(WAITING, pattern)
    return int(row["pid"])


@pytest.mark.parametrize("statement", ["DROP", "CREATE"])
def test_nothing_is_done_to_the_table_while_a_killed_modules_statement_waits(
    database: Database, module: Module, phase: dict[str, Any], statement: str
) -> None:
    before = content(database, *TABLES)
    strategy = "interleaved" if statement == "DROP" else "ranges"
    steps = Steps.of(module, database, {**phase, "phase_queries": [], "phase_strategy": strategy})
    steps.begin()
    steps.backfill(canary=True)
    steps.approve("backfill")
    actions = ["defer"] if statement == "DROP" else ["build"]
    run = steps.planned["run"]["id"]
    holder = database.connect()
    try:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE session_summaries IN SHARE UPDATE EXCLUSIVE MODE")
        pid = killed(database, steps, statement, actions=actions, deferred=steps.deferred)
        database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        for name, arguments in (
            ("plan", {"rollback_of": run}),
            ("plan", {}),
            ("backfill", {}),
            ("index", {"state": "reverted"}),
        ):
            refused = steps.refused(name, **arguments)
            assert f"pid {pid}" in refused and f"{statement} INDEX CONCURRENTLY" in refused
            assert f"pg_terminate_backend({pid})" in refused
    finally:
        holder.close()
    until(lambda: not database.sql(OURS), "the statement does not end")
    steps.back()
    assert content(database, *TABLES) == before
