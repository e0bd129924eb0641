# SPDX-License-Identifier: GPL-3.0-or-later
"""One step of a run, in a process of its own, so that its peak memory is that of the step.

    python -m benchmarks.step < what.json

reads what to do, {"step", "way", "server", "database", "state"}, and prints what was found as JSON,
or {"failed"}. state is what the step before it printed under that name.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import modules, rollback
from benchmarks.database import Database
from benchmarks.ways import Engine, factory
from demo.server import Server

Found = dict[str, Any]


def dry_run(engine: Engine) -> Found:
    """The plan in check mode, which is all that a dry run asks the database for."""
    planned = modules.call("plan", check=True, login=engine.database.login, spec=engine.spec)
    return {"rows_eligible": planned["counts"]["rows_eligible"]}


def plan(engine: Engine) -> Found:
    """Plan, approve, rename."""
    engine.prepare()
    return {}


def backfill(engine: Engine) -> Found:
    """Fill, with the indexes that are dropped before and built afterwards."""
    return {"rows": engine.work(), "parts_seconds": engine.parts, "details": engine.details}


def validation(engine: Engine) -> Found:
    """The data gates, the exact comparison of every row among them."""
    login, spec = engine.database.login, engine.spec
    checks = modules.call("data_gates", login=login, spec=spec, run=engine.run)["checks"]
    return {"missed": [check["id"] for check in checks if check["status"] == "fail"]}


def rollback_plan(engine: Engine) -> Found:
    """Plan and approve the rollback."""
    rollback.plan(engine)
    return {}


def give_back(engine: Engine) -> Found:
    """Rows, indexes and columns."""
    given = rollback.give_back(engine)
    return {
        "rows": given.rows,
        "rows_left_alone": given.rows_left_alone,
        "parts_seconds": given.parts,
    }


STEPS: dict[str, Callable[[Engine], Found]] = {
    "dry run": dry_run,
    "plan": plan,
    "backfill": backfill,
    "validation": validation,
    "rollback plan": rollback_plan,
    "rollback": give_back,
}
"""In the order of a run."""


def done(asked: dict[str, Any]) -> Found:
    """Do the step; what it found, its seconds, and the bytes of memory before it and at most."""
    server = asked["server"]
    database = Database(Server(**{**server, "bin_dir": Path(server["bin_dir"])}), asked["database"])
    engine = factory(asked["way"], 0)(database)
    if not isinstance(engine, Engine):
        raise ValueError(f"{asked['way']} is not a way of pgrunbook")
    state = asked["state"]
    engine.run, engine.spec = state.get("run", {}), state.get("spec", engine.spec)
    engine.details["strategy"] = state.get("strategy")
    before, started = peak_bytes(), time.perf_counter()
    found = STEPS[asked["step"]](engine)
    return {
        "seconds": time.perf_counter() - started,
        "start_bytes": before,
        "peak_bytes": peak_bytes(),
        **found,
        "state": {
            "run": engine.run,
            "spec": engine.spec,
            "strategy": engine.details["strategy"],
        },
    }


def peak_bytes() -> int:
    """The most memory that this process has had resident.

    From /proc, because getrusage counts what the process that started this one had.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


def main() -> int:
    """Do what standard input asks for; the exit status."""
    try:
        answer = done(json.load(sys.stdin))
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
