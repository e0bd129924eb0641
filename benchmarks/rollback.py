# SPDX-License-Identifier: GPL-3.0-or-later
"""pgrunbook gives back what it filled: the modules that playbooks/rollback.yml calls."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks import modules
from benchmarks.ways import Engine


@dataclass
class Rollback:
    """What a rollback gave back, and the seconds of its parts: drop, rows, indexes,
    columns."""

    rows: int = 0
    rows_left_alone: int = 0
    parts: dict[str, float] = field(default_factory=dict)


def plan(engine: Engine) -> None:
    """End the engine's run, plan and approve its rollback; from then on that is its run.

    Raises RuntimeError where a module fails.
    """
    _call(engine, "run", state="finished", verdict="GO")
    login = engine.database.login
    planned = modules.call("plan", login=login, rollback_of=engine.run["id"])
    engine.spec, engine.run = planned["plan"]["spec"], planned["run"]
    modules.approve(login, planned, "rollback")


def give_back(engine: Engine) -> Rollback:
    """Drop the indexes that are in the way, give the rows back, then the indexes and the columns.
    Raises RuntimeError where it fails."""
    found = Rollback()
    started = time.perf_counter()
    _call(engine, "index", state="cleared")
    found.parts["drop"] = time.perf_counter() - started
    started = time.perf_counter()
    while True:
        result = _call(engine, "backfill", state="reverted")
        found.rows += result["rows_changed"]
        if result["done"]:
            break
    found.rows_left_alone = result["rows_left_alone"]
    found.parts["rows"] = time.perf_counter() - started
    for part, module in (("indexes", "index"), ("columns", "column")):
        started = time.perf_counter()
        _call(engine, module, state="reverted")
        found.parts[part] = time.perf_counter() - started
    _call(engine, "run", state="reverted")
    return found


def _call(engine: Engine, name: str, **arguments: Any) -> dict[str, Any]:
    if name != "run":
        arguments["spec"] = engine.spec
    return modules.call(name, login=engine.database.login, run=engine.run, **arguments)
