# SPDX-License-Identifier: GPL-3.0-or-later
"""What an earlier version began, this one rolls back or ends; what a newer one wrote, it leaves.

The ledgers of earlier versions are dumps that tests/fixtures/make_ledgers.py made with these
versions' own code. A dump that is restored is on another server than the one that its approvals
name, so restored() writes this server, and the table's oid, into them, and nothing else:
plan.server, and what is computed from it, the plans' hashes and with them those of the events.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.server import server_identity
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.ledger import schema
from demo import data
from demo import server as demo_server
from tests.integration.conftest import Database
from tests.integration.servers import superuser
from tests.integration.steps import TABLES, Module, Steps, content

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
COMMITS = ("7ae71c3", "fb1a62e", "3899a7c")
UNVERSIONED = COMMITS[:2]  # whose ledger did not record its version

Phase = dict[str, Any]
Restored = Callable[[str, str], Database]


@pytest.fixture
def restored(server: demo_server.Server) -> Iterator[Restored]:
    """restored(commit, how): a database as that version left it."""
    with restoring(server) as restore:
        yield restore


@contextmanager
def restoring(server: demo_server.Server) -> Iterator[Restored]:
    made: list[str] = []
    with psycopg.connect(superuser(server), autocommit=True) as conn:

        def restore(commit: str, how: str) -> Database:
            name = f"restored_{commit}_{how}"
            conn.execute(
                SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(
                    Identifier(name), Identifier(data.ROLE)
                )
            )
            made.append(name)
            database = Database(server, name)
            _load(database, FIXTURES / f"{commit}-{how}.sql")
            _move(database)
            return database

        yield restore
        for name in made:
            conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


def _load(database: Database, dump: Path) -> None:
    command = [
        str(database.server.bin_dir / "psql"),
        *("-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"),
        *("-d", database.conninfo(), "-f", str(dump)),
    ]
    subprocess.run(command, check=True)


def _move(database: Database) -> None:
    """The approvals name the server and database that the dump is on now, and a run the table that
    it filled by its present oid; all runs are long ago."""
    with closing(database.connect()) as conn, conn.transaction():
        conn.execute("UPDATE pgrunbook.run SET seen_at = started_at - interval '1 day'")
        if schema.version(conn) > 1:
            table = "'public.session_summaries'::regclass::oid::int8"
            conn.execute(
                f"UPDATE pgrunbook.run SET filled = filled || jsonb_build_object('table', {table})"
            )
        hashes = {}
        for row in conn.execute("SELECT id, plan, plan_hash FROM pgrunbook.approval").fetchall():
            assert ledger.plan_hash(row["plan"]) == row["plan_hash"]
            known = row["plan"]["server"]
            here = {k: v for k, v in plain(server_identity(conn)).items() if k in known}
            plan = {**row["plan"], "server": {**known, **here}}
            hashes[row["plan_hash"]] = ledger.plan_hash(plan)
            conn.execute(
                "UPDATE pgrunbook.approval SET plan = %s, plan_hash = %s WHERE id = %s",
                (Jsonb(plan), hashes[row["plan_hash"]], row["id"]),
            )
        for before, after in hashes.items():
            conn.execute(
                "UPDATE pgrunbook.run SET plan_hash = replace(plan_hash, %s, %s)", (before, after)
            )
            conn.execute(
                "UPDATE pgrunbook.event SET body = replace(body::text, %s, %s)::jsonb",
                (before, after),
            )
        previous = ""
        for row in conn.execute("SELECT id FROM pgrunbook.event ORDER BY id").fetchall():
            chained = conn.execute(
                "UPDATE pgrunbook.event SET previous = %(previous)s,"
                " hash = encode(sha256(convert_to(%(previous)s || body::text, 'UTF8')), 'hex')"
                " WHERE id = %(id)s RETURNING hash",
                {"previous": previous, "id": row["id"]},
            ).fetchone()
            previous = (chained or {})["hash"]


def before_the_run() -> dict[str, Any]:
    """Rows and catalog of the tables, as make_ledgers.py found them."""
    found: dict[str, Any] = json.loads((FIXTURES / "before.json").read_text(encoding="utf-8"))
    return found


def now(database: Database) -> dict[str, Any]:
    """The same, as it is now. NOT NULL is among the constraints on 18, not on 16, where these
    were made; each column tells it anyway."""
    found = content(database, *TABLES)
    rows = {name: [row["t"] for row in found["rows"]["public", name]] for _, name in TABLES}
    for entry in found["catalog"]:
        told = [c for c in entry["constraints"] or [] if not c.startswith("NOT NULL")]
        entry["constraints"] = told or None
    return {**found, "rows": rows}


def run_of(database: Database) -> str:
    run: str = database.sql("SELECT id FROM pgrunbook.run")[0]["id"]
    return run


def rolled_back(steps: Steps, run: str) -> None:
    steps.planned = {"run": {"id": run}}
    steps.back()


def ledger_catalog(database: Database) -> list[Any]:
    """What the ledger's tables are made of."""
    return database.sql(
        "SELECT c.relname, c.relkind::text, a.attname, a.attnotnull, a.attidentity::text,"
        " format_type(a.atttypid, a.atttypmod) AS type,"
        " pg_get_expr(d.adbin, d.adrelid) AS default, pg_get_indexdef(c.oid) AS index,"
        " (SELECT array_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname) FROM pg_constraint k"
        "  WHERE k.conrelid = c.oid) AS constraints"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE c.relnamespace = 'pgrunbook'::regnamespace ORDER BY 1, a.attnum"
    )


def ledger_rows(database: Database) -> dict[str, Any]:
    return {
        name: database.sql(
            SQL("SELECT jsonb_strip_nulls(to_jsonb(t))::text AS t FROM {} t ORDER BY 1").format(
                Identifier("pgrunbook", name)
            )
        )
        for name in ("run", "approval", "change", "batch", "event")
    }


@pytest.mark.parametrize("how", ["finished", "broken"])
@pytest.mark.parametrize("commit", COMMITS)
def test_a_run_of_an_earlier_version_is_rolled_back_exactly(
    restored: Restored, module: Module, phase: Phase, commit: str, how: str
) -> None:
    database = restored(commit, how)
    assert now(database) != before_the_run()
    rolled_back(Steps.of(module, database, phase), run_of(database))
    assert now(database) == before_the_run()


@pytest.mark.representative
@pytest.mark.parametrize("commit", COMMITS)
def test_a_run_that_an_earlier_version_broke_off_goes_on_and_can_be_rolled_back(
    restored: Restored, module: Module, phase: Phase, commit: str
) -> None:
    database = restored(commit, "broken")
    reference = restored(commit, "finished")
    run = run_of(database)
    steps = Steps.of(module, database, {**phase, "phase_speedup_min": 0.01})
    steps.forward()
    assert steps.planned["run"]["id"] == run
    assert now(database) == now(reference)
    rolled_back(steps, run)
    assert now(database) == before_the_run()


@pytest.mark.parametrize("commit", COMMITS)
def test_a_run_of_an_earlier_version_can_be_forgotten(
    restored: Restored, module: Module, commit: str
) -> None:
    database = restored(commit, "finished")
    steps, run = Steps(module, database.login, {}), run_of(database)
    altered = steps.do("run_info", reports=[])["altered"]
    assert steps.plan(forgets=run)["journal"]["rows"] > 0
    steps.approve("forget")
    steps.do("forget")
    assert steps.do("run_info", reports=[])["altered"] == altered
    assert "was forgotten" in steps.refused("plan", rollback_of=run)


@pytest.mark.parametrize("commit", COMMITS)
def test_an_earlier_ledger_is_only_read_until_something_is_approved(
    restored: Restored, module: Module, phase: Phase, commit: str, tmp_path: Path
) -> None:
    database = restored(commit, "broken")
    steps = Steps.of(module, database, phase)
    before = ledger_catalog(database), ledger_rows(database)
    run = run_of(database)
    steps.do("preflight")
    steps.do("plan", rollback_of=run)
    steps.plan()
    steps.do("approval", check=True, **steps.approval("plan"))
    for name, arguments in (
        ("column", {}),
        ("index", {"actions": ["drop_invalid", "defer", "build"]}),
        ("backfill", {}),
        ("run", {"state": "finished"}),
        ("query_gates", {}),
    ):
        steps.do(name, check=True, **arguments)
    steps.do("data_gates")
    steps.do("data_gates", canary_of=run)
    info = steps.do("run_info", metrics_file=str(tmp_path / "metrics.prom"))
    assert [each["id"] for each in info["runs"]] == [run] and info["altered"] == []
    assert "rows_eligible" in (tmp_path / "metrics.prom").read_text(encoding="utf-8")
    steps.do("control", check=True, action="pause", run_id=run, by="alice")
    assert (ledger_catalog(database), ledger_rows(database)) == before


@pytest.mark.parametrize("commit", UNVERSIONED)
def test_the_first_approval_migrates_an_earlier_ledger_to_what_a_new_one_is(
    restored: Restored, database: Database, module: Module, phase: Phase, commit: str
) -> None:
    old = restored(commit, "broken")
    kept = ledger_rows(old)
    steps = Steps.of(module, old, phase)
    steps.plan()
    steps.approve("plan")
    fresh = Steps.of(module, database, phase)
    fresh.plan()
    fresh.approve("plan")
    assert ledger_catalog(old) == ledger_catalog(database)
    (row,) = old.sql("SELECT version, token FROM pgrunbook.ledger")
    assert row["version"] == schema.VERSION and len(row["token"]) >= 32
    assert row["token"] != database.sql("SELECT token FROM pgrunbook.ledger")[0]["token"]
    assert ledger_rows(old)["batch"] == kept["batch"]
    told = old.sql(
        "SELECT body -> 'detail' AS detail FROM pgrunbook.event WHERE body ->> 'kind' = 'migrated'"
    )
    assert [each["detail"] for each in told] == [{"from": 1, "to": schema.VERSION}]
    assert steps.do("run_info")["altered"] == []
    old.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
    steps.plan()
    steps.approve("plan")
    assert len(old.sql("SELECT id FROM pgrunbook.event WHERE body ->> 'kind' = 'migrated'")) == 1


def test_a_newer_ledger_is_neither_read_nor_written(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    run = steps.planned["run"]["id"]
    database.sql("UPDATE pgrunbook.ledger SET version = version + 1")
    before = ledger_rows(database)
    for name, arguments in (
        ("plan", {}),
        ("plan", {"rollback_of": run}),
        ("approval", steps.approval("backfill")),
        ("index", {"actions": ["build"]}),
        ("backfill", {}),
        ("run", {"state": "finished"}),
        ("run_info", {}),
        ("control", {"action": "abort", "run_id": run, "by": "alice"}),
        ("data_gates", {"canary_of": run}),
    ):
        message = steps.refused(name, **arguments)
        assert f"version {schema.VERSION + 1}" in message, (name, message)
        assert "newer" in message
    assert ledger_rows(database) == before


def test_a_stored_phase_of_a_newer_version_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.do("run", state="finished")
    for path in ("{spec,colour}", "{spec,columns,0,colour}"):
        before = database.sql("SELECT plan FROM pgrunbook.approval")
        database.sql("UPDATE pgrunbook.approval SET plan = jsonb_set(plan, %s, '\"red\"')", (path,))
        message = steps.refused("plan", rollback_of=steps.planned["run"]["id"])
        assert "colour" in message and "newer" in message
        database.sql("UPDATE pgrunbook.approval SET plan = %s", (Jsonb(before[0]["plan"]),))


def test_a_role_that_may_not_migrate_the_ledger_is_told_so_and_nothing_is_lost(
    restored: Restored, module: Module, phase: Phase
) -> None:
    database = restored("fb1a62e", "broken")
    database.superuser("CREATE ROLE keeper")
    try:
        database.superuser("ALTER SCHEMA pgrunbook OWNER TO keeper")
        for name in ("run", "approval", "change", "batch", "event"):
            database.superuser(f"ALTER TABLE pgrunbook.{name} OWNER TO keeper")
        database.superuser(f"GRANT USAGE ON SCHEMA pgrunbook TO {data.ROLE}")
        database.superuser(f"GRANT ALL ON ALL TABLES IN SCHEMA pgrunbook TO {data.ROLE}")
        steps = Steps.of(module, database, {**phase, "phase_trusted_roles": ["keeper"]})
        steps.plan()
        before = ledger_catalog(database), ledger_rows(database)
        message = steps.refused("approval", **steps.approval("plan"))
        assert "'keeper'" in message and "version 1" in message and "42501" in message
        assert (ledger_catalog(database), ledger_rows(database)) == before
        database.superuser(f"GRANT keeper TO {data.ROLE}")
        steps.approve("plan")
        database.superuser(f"REVOKE keeper FROM {data.ROLE}")
        rights = database.superuser(
            "SELECT has_table_privilege('keeper', 'pgrunbook.ledger', 'UPDATE') AS writes"
        )
        assert rights == [{"writes": True}]
    finally:
        database.superuser("DROP OWNED BY keeper CASCADE")
        database.superuser("DROP ROLE keeper")


def test_who_could_read_the_ledger_can_after_the_migration(
    restored: Restored, module: Module, phase: Phase
) -> None:
    database = restored("fb1a62e", "broken")
    database.superuser("CREATE ROLE watcher LOGIN")
    try:
        database.sql("GRANT USAGE ON SCHEMA pgrunbook TO watcher")
        database.sql("GRANT SELECT ON ALL TABLES IN SCHEMA pgrunbook TO watcher")
        steps = Steps.of(module, database, phase)
        steps.plan()
        steps.approve("plan")
        watcher = {**database.login, "user": "watcher"}
        assert module("pgrunbook_run_info", login=watcher)["runs"]
        rights = database.sql(
            "SELECT has_table_privilege('watcher', 'pgrunbook.ledger', 'UPDATE') AS writes"
        )
        assert rights == [{"writes": False}]
    finally:
        database.superuser("DROP OWNED BY watcher")
        database.superuser("DROP ROLE watcher")


def test_what_one_login_role_migrated_another_one_works_with(
    restored: Restored, module: Module, phase: Phase
) -> None:
    """Both have the rights of the tables' owner, as playbooks/login_role.yml gives them."""
    database = restored("fb1a62e", "finished")
    administrator = {**database.login, "user": database.server.user}
    steps = Steps.of(module, database, phase)
    of_roles = {"login": administrator, "spec": steps.spec, "password": None}
    try:
        for role in ("one", "two"):
            assert not module("pgrunbook_login_role", name=role, **of_roles).get("failed")
        steps.login = {**database.login, "user": "one"}
        steps.plan(rollback_of=run_of(database))
        steps.approve("rollback")
        assert not module("pgrunbook_login_role", name="two", **of_roles)["changed"]
        database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
        steps.login = {**database.login, "user": "two"}
        rolled_back(steps, run_of(database))
        assert now(database) == before_the_run()
    finally:
        for role in ("one", "two"):
            database.superuser(f"DROP OWNED BY {role} CASCADE")
            database.superuser(f"DROP ROLE {role}")
