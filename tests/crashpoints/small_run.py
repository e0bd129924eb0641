# SPDX-License-Identifier: GPL-3.0-or-later
"""The small run whose messages are counted: its database, its phase, and its steps as a person has
them done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook.core import spec as spec_module
from demo import data
from tests.integration.conftest import Database
from tests.integration.in_process import call_module
from tests.integration.servers import superuser
from tests.integration.steps import Steps

TEMPLATE = "small"
ROWS = 72
LOCKED = "SELECT FROM visits WHERE id IN (20, 40, 60) FOR UPDATE"
"""Rows that the application holds until the first pass is over, so that a catch-up pass finds
them."""
NEXT_PASS = "SET sweep ="  # in the statement with which a catch-up pass begins

_COUNTRY = "CASE WHEN id % 24 = 0 THEN 'kept' WHEN id % 9 = 0 THEN 'c' || id % 24 END"
WRONG = f"""
SELECT v.id, v.country, v.kind FROM visits v LEFT JOIN places p USING (ref)
WHERE v.country IS DISTINCT FROM coalesce({_COUNTRY}, p.country)
    OR v.kind IS DISTINCT FROM CASE WHEN id = 30 THEN 'mine' ELSE p.kind END
"""
"""The rows that are not as the run has to leave them."""

_MAKE = (
    "CREATE TABLE places (ref int PRIMARY KEY, country text, kind text)",
    "INSERT INTO places SELECT i, 'c' || i, CASE WHEN i % 4 > 0 THEN 'k' || i END"
    " FROM generate_series(1, 20) i",
    # About four rows a page. Some have no source, and a value; some have a value already; one has a
    # value that the source does not have, in the column that is of the wrong type.
    "CREATE TABLE visits (id int PRIMARY KEY, ref int, countries text, kind text[],"
    " pad text DEFAULT repeat('x', 1800)) WITH (autovacuum_enabled = off)",
    "ALTER TABLE visits ALTER pad SET STORAGE PLAIN",
    f"INSERT INTO visits (id, ref, countries, kind) SELECT id, id % 24, {_COUNTRY},"
    f" CASE WHEN id = 30 THEN ARRAY['mine', 'more'] END FROM generate_series(1, {ROWS}) id",
    "CREATE INDEX visits_countries ON visits (countries)",
    "VACUUM (ANALYZE) visits",
    "VACUUM (ANALYZE) places",
)

_PHASE: dict[str, Any] = {
    "phase": "small",
    "table": "visits",
    "key": ["id"],
    "columns": [
        {
            "name": "country",
            "renamed_from": "countries",
            "type": "text",
            "source": "country",
            "coverage_min": 50,
        },
        {
            "name": "kind",
            "type": "text",
            "source": "kind",
            "converted_from": "text[]",
            "using": "{kind}[1]",
            "coverage_min": 50,
        },
    ],
    "source_table": "places",
    "source_key": {"ref": "ref"},
    "indexes": [
        {"name": "visits_country", "columns": ["country"], "renamed_from": "visits_countries"},
        {"name": "visits_country_kind", "columns": ["country", "kind"]},
    ],
    "acknowledged": ["kind"],
    "strategy": "interleaved",
    "workers": 2,
    "canary_rows": 6,
    "batch_rows": 6,
    "batch_target_ms": 100,
    "slice_seconds": 60,
    "lock_tries": 2,
}


@dataclass(frozen=True)
class Step:
    """A step of the run or of its rollback: its name, what it does, and the rescue of the block of
    the playbook that it stands in: none, "schema" or "stop". Where it is not counted, it only reads
    in a READ ONLY transaction. holds_rows is whether the application holds rows meanwhile."""

    name: str
    do: Callable[[SmallRun], object]
    rescue: str = ""
    counted: bool = True
    holds_rows: bool = False


def _needed(do: Callable[[SmallRun], object]) -> Callable[[SmallRun], object]:
    """As the playbooks' conditions have it: only where the plan says that something is to do."""
    return lambda steps: do(steps) if steps.planned["needed"] else None


def _compare_canary(steps: SmallRun) -> None:
    run = steps.planned["run"]
    steps.gates("data_gates", run=run, canary_of=run["id"])


RUN: tuple[Step, ...] = (
    Step("plan", lambda steps: steps.plan(), counted=False),
    Step("approval of the plan", _needed(lambda steps: steps.approve("plan"))),
    Step("columns renamed and converted", lambda steps: steps.do("column"), "schema"),
    Step("index renamed", lambda steps: steps.do("index", actions=["rename"]), "schema"),
    Step("canary filled", lambda steps: steps.backfill(canary=True), "stop"),
    Step("canary compared", _needed(_compare_canary), "stop"),
    Step("approval of all other rows", _needed(lambda steps: steps.approve("backfill")), "stop"),
    Step("index dropped", lambda steps: steps.defer(), "stop"),
    Step("backfill, catch-up", lambda steps: steps.backfill(), "stop", holds_rows=True),
    Step("indexes built", lambda steps: steps.build(), "stop"),
    Step("validation", lambda steps: steps.gates("data_gates", run=steps.planned["run"]), "stop"),
    Step("end of the run", lambda steps: steps.do("run", state="finished", verdict="GO")),
)

ROLLBACK: tuple[Step, ...] = (
    Step("plan of the rollback", lambda steps: steps.plan(rollback_of=steps.undoes), counted=False),
    Step("approval of the rollback", _needed(lambda steps: steps.approve("rollback"))),
    Step(
        "indexes dropped for the rollback",
        _needed(lambda steps: steps.do("index", state="cleared")),
        "stop",
    ),
    Step(
        "rows given back",
        _needed(lambda steps: steps.backfill(state="reverted")),
        "stop",
    ),
    Step("indexes taken back", _needed(lambda steps: steps.do("index", state="reverted")), "stop"),
    Step("columns taken back", _needed(lambda steps: steps.do("column", state="reverted")), "stop"),
    Step("end of the rollback", _needed(lambda steps: steps.do("run", state="reverted")), "stop"),
)


@dataclass
class SmallRun(Steps):
    """The steps, and the run that a rollback is of."""

    undoes: str = ""


def make_template(server: Any) -> None:
    """Make the database that each point gets a copy of."""
    with psycopg.connect(superuser(server), autocommit=True) as conn:
        conn.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(data.ROLE)))
        conn.execute(
            SQL("CREATE DATABASE {} OWNER {}").format(Identifier(TEMPLATE), Identifier(data.ROLE))
        )
    database = Database(server, TEMPLATE)
    database.superuser(SQL("ALTER SCHEMA public OWNER TO {}").format(Identifier(data.ROLE)))
    for statement in _MAKE:
        database.sql(statement)


def copy(admin: psycopg.Connection[Any], name: str, of: str, oid: int | None = None) -> None:
    """Let a database be a copy of another one. With the oid that it had before, nobody can tell
    that it was made again."""
    drop(admin, name)
    copied = SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
        *map(Identifier, (name, of, data.ROLE))
    )
    admin.execute(copied + SQL(" OID {}").format(oid) if oid else copied)


def drop(admin: psycopg.Connection[Any], name: str) -> None:
    admin.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))


def steps_through(login: dict[str, Any]) -> SmallRun:
    """The run's steps, of which none is done."""
    defaults = {n: o["default"] for n, o in spec_module.SPEC_OPTIONS.items() if "default" in o}
    return SmallRun(call_module, login, {**defaults, **_PHASE})


def do_all(steps: SmallRun, which: Sequence[Step]) -> None:
    for step in which:
        step.do(steps)


@contextmanager
def rows_held(database: Database) -> Iterator[Callable[[], None]]:
    """The application holds rows until the function that this gives is called."""
    with closing(database.connect()) as other:
        other.autocommit = False
        other.execute(LOCKED)
        yield other.rollback
