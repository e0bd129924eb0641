# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failure tells: no row of a table, no password, no traceback; but the state, and what to do
next. And a password changes nothing that is shown or hashed."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.errors import detail, place, reason
from ansible.module_utils.pgrunbook.module import MASK, database_failure
from tests.integration.conftest import Database, Played, options, plan_hash
from tests.integration.steps import Module, Steps, facts_of, reported
from tests.reporting import report_task

Phase = dict[str, Any]
Playbook = Callable[..., Played]

SECRET = "dorothea"


def failure(database: Database, *statements: str) -> psycopg.Error:
    """The error of the last statement."""
    *before, last = statements
    with psycopg.connect(database.conninfo(), autocommit=True) as conn:
        for statement in before:
            conn.execute(statement)
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(last)
    return caught.value


SCHEMA = (
    "CREATE TEMP TABLE t (id int PRIMARY KEY, n int NOT NULL CHECK (n > 0), name text, body jsonb)",
    f"INSERT INTO t VALUES (1, 1, '{SECRET}', '{{}}')",
)
PLPGSQL = (
    "CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql AS"
    f" $f$ BEGIN EXECUTE 'INSERT INTO t (id, name) VALUES (2, ''{SECRET}'')'; END $f$"
)


@pytest.mark.representative
@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"INSERT INTO t VALUES (2, NULL, '{SECRET}')", 'null value in column "n"'),
        (f"INSERT INTO t VALUES (2, -1, '{SECRET}')", "violates check constraint"),
        ("INSERT INTO t VALUES (1, 1)", "duplicate key value violates unique constraint"),
        (f"SELECT name::int FROM t WHERE name = '{SECRET}'", "invalid input syntax for type int"),
        (f"SELECT ('{{\"{SECRET}\": \"'' || name)::jsonb FROM t", "invalid input syntax for type"),
        (f"SELECT '{SECRET}\"'::date", "invalid input syntax for type date"),
        ("SELECT pg_temp.f()", "PL/pgSQL function"),
    ],
)  # fmt: skip
def test_no_row_is_in_a_message(database: Database, statement: str, told: str) -> None:
    statement = statement.replace("''", "'")
    error = failure(database, *SCHEMA, PLPGSQL, statement)
    message = database_failure(error)
    assert told in message and error.sqlstate in message and "Next step" in message
    assert SECRET not in message and "(1)=" not in message and "Key (" not in message
    assert "Failing row" not in message


def test_what_the_server_says_of_objects_stays(database: Database) -> None:
    database.sql("CREATE VIEW v AS SELECT session_id FROM session_summaries")
    error = failure(database, "DROP TABLE session_summaries")
    assert "view v depends on table session_summaries" in database_failure(error)
    assert detail(error) and not place(error) and "session_summaries" in reason(error)


def test_an_error_as_after_a_failover_promises_nothing_of_what_was_committed(
    database: Database,
) -> None:
    """The new primary may lack the last batches."""
    error = failure(database, "SET default_transaction_read_only = on", "CREATE TABLE t ()")
    message = database_failure(error)
    assert "25006" in message and "playbooks/status.yml" in message
    assert "batches are kept" not in message


def test_a_batch_that_fails_shows_no_row_even_with_a_traceback(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'no row today' USING ERRCODE = '58030', DETAIL = 'Failing row ' || NEW::text;"
        " END $$; CREATE TRIGGER refuse BEFORE UPDATE ON session_summaries FOR EACH ROW"
        " EXECUTE FUNCTION refuse()"
    )
    keys = {row["session_id"] for row in database.sql("SELECT session_id FROM session_summaries")}
    steps = Steps.of(module, database, {**phase, "phase_acknowledged": ["refuse"]})
    steps.begin()
    loud = {"_ansible_verbosity": 3, "_ansible_tracebacks_for": ["error"]}
    result = steps.attempt("backfill", canary=True, **loud)
    assert "no row today" in result["msg"]
    assert "batch.py" in str(result["traceback"]), "where it happened is told"
    del result["invocation"]
    assert not [key for key in keys if key in json.dumps(result)]
    assert "Failing row" not in json.dumps(result)


def test_an_unforeseen_error_says_what_stands_and_what_to_do(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    run = {**steps.planned["run"], "plan_hash": ledger.plan_hash({})}
    quiet = steps.refused("approval", **{**steps.approval("plan"), "run": run, "plan": {}})
    assert quiet.startswith("A mistake in pgrunbook: KeyError in ledger/signed.py, line ")
    assert "What the ledger has is kept; playbooks/status.yml tells" in quiet
    asked = {**steps.approval("plan"), "run": run, "plan": {}, "_ansible_verbosity": 3}
    assert "KeyError('spec')" in str(steps.attempt("approval", **asked)["traceback"])
    reads = steps.refused("index_trial", check=True, pairs=[{"proposal": {"sql": 1}}])
    assert "Nothing was changed in the database." in reads


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("previous", {"phase": "p", "server": {}}),
        ("report_info", {}),
        ("post_run", {"results": [{"checks": [{}]}], "previous": {}, "command": "c"}),
    ],
)
def test_modules_without_a_connection_do_so_too(
    module: Module, phase: Phase, tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    deep = tmp_path / "p-1/report.json"
    deep.parent.mkdir()
    deep.write_text("[" * 100_000)
    given = {"spec": options(phase)} if name == "post_run" else {"folder": str(tmp_path)}
    result = module(f"pgrunbook_{name}", **given, **arguments)
    assert result["msg"].startswith("A mistake in pgrunbook: ")
    assert "Nothing was changed in the database. Next step: " in result["msg"]


@pytest.mark.parametrize("password", ["public", "snapshot", "a"])
def test_a_password_that_is_a_word_changes_nothing_but_the_invocation(
    database: Database, module: Module, phase: Phase, password: str
) -> None:
    plain = Steps.of(module, database, phase)
    expected = {**plain.plan(), "invocation": None}
    steps = Steps(module, {**database.login, "password": password}, plain.spec)
    told = steps.plan()
    assert told["invocation"]["module_args"]["login"]["password"] == MASK
    login = told["invocation"]["module_args"]["login"]
    assert login["host"] == database.login["host"]
    assert (told["plan"], told["plan_hash"]) == (expected["plan"], expected["plan_hash"])
    assert told["text"].splitlines()[3:] == expected["text"].splitlines()[3:]
    steps.approve("plan")
    steps.do("column")
    steps.backfill(canary=True)
    assert database.sql("SELECT plan FROM pgrunbook.approval")[0]["plan"] == expected["plan"]
    failed = steps.attempt("control", action="pause", run_id="public snapshot a", by="me")
    assert "public snapshot a" in failed["msg"]
    assert failed["invocation"]["module_args"]["login"]["password"] == MASK
    wrong = {**steps.login, "host": "/nowhere/public", "password": password}
    assert "Cannot connect to /nowhere/public" in Steps(module, wrong, {}).refused("run_info")


def test_a_plan_that_was_masked_on_its_way_is_refused_in_words(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    masked = json.loads(json.dumps(steps.planned["plan"]).replace("snapshot", "********"))
    message = steps.refused("approval", **{**steps.approval("plan"), "plan": masked})
    assert "masked" in message and "no_log" in message
    assert database.sql("SELECT to_regclass('pgrunbook.event') AS there")[0]["there"] is None


def test_a_password_is_in_no_output_at_any_verbosity(
    database: Database, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    login = {**database.login, "password": "tr0ub4dor.3"}
    arguments = ("--check", "--tags", "plan", "--diff", "-vvv")
    played = playbook(login, "phase3", *arguments, phase=phase)
    assert played.status == 0, played.output
    assert "tr0ub4dor.3" not in played.output and MASK in played.output
    assert plan_hash(played.output)


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(0o022, 0o640, 0o750), (0, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_reports_are_for_their_owner_and_group(
    tmp_path: Path, umask: int, file: int, folder: int
) -> None:
    reports = tmp_path / "a" / "reports"
    facts = facts_of(plan={"run": {"id": "phase9-1", "plan_hash": "ab"}})
    before = os.umask(umask)
    try:
        paths = reported(reports, facts)["paths"]
        reports.joinpath("phase9-1").chmod(0o2777)
        reported(reports, facts)
    finally:
        os.umask(before)
    modes = {Path(path): stat.S_IMODE(Path(path).stat().st_mode) for path in paths.values()}
    assert len(modes) == 4 and set(modes.values()) == {file}
    assert stat.S_IMODE(reports.stat().st_mode) == stat.S_IMODE(reports.parent.stat().st_mode)
    assert stat.S_IMODE(reports.stat().st_mode) == folder
    resolved = (reports / "latest").resolve()
    assert stat.S_IMODE(resolved.stat().st_mode) == 0o2750


def test_a_folder_for_reports_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = report_task(tmp_path / "file", facts_of())
    assert result["msg"].startswith(f"The report cannot be written to {tmp_path}/file: ")
    assert "Next step: " in result["msg"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"passwd": "tr0ub4dor.3"},
        {"host": "postgresql://me:tr0ub4dor.3@localhost/db"},
        {"host": "host=localhost password=tr0ub4dor.3"},
        {"dbname": "postgresql://me:tr0ub4dor.3@localhost/db"},
        {"dbname": " password = tr0ub4dor.3"},
    ],
    ids=lambda wrong: str(wrong)[:20],
)
def test_a_login_in_the_wrong_place_is_refused_and_not_shown(
    database: Database, module: Module, phase: Phase, wrong: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.login = {**database.login, **wrong}
    failed = steps.attempt("preflight", check=True)
    assert failed["failed"] and next(iter(wrong)) in failed["msg"]
    assert "tr0ub4dor.3" not in json.dumps(failed)


def test_a_login_in_the_wrong_place_is_not_handed_on_to_the_report(
    database: Database, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    login = {**database.login, "host": "postgresql://me:tr0ub4dor.3@localhost/db"}
    played = playbook(login, "phase3", "--check", "-vvv", phase=phase)
    assert played.status != 0 and "each under its own key" in played.output
    assert "tr0ub4dor.3" not in played.output
    written = [path for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    assert written and not [p for p in written if "tr0ub4dor.3" in p.read_text("utf-8")]


def test_a_statement_of_others_is_shown_without_its_values(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    steps.approve("plan")
    with closing(database.connect()) as holder:
        holder.execute("BEGIN")
        holder.execute(
            "UPDATE session_summaries SET password_hash = 'tr0ub4dor.3' WHERE risk_score = 4711"
        )
        refused = steps.refused("column")
    assert "UPDATE session_summaries SET password_hash = '…' WHERE risk_score = ?" in refused
