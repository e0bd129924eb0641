# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection pooler in between: refused where others may get our session, and never poisoned."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook.core import connection as connection_module
from ansible.module_utils.pgrunbook.core import pooler as pooler_module
from ansible.module_utils.pgrunbook.core.errors import RunbookError
from demo import data
from tests.integration.conftest import Database
from tests.integration.pooler import application, pgbouncer
from tests.integration.steps import Module, Steps
from tests.integration.test_modules import everything

Phase = dict[str, Any]

READS = {
    "preflight": {},
    "plan": {},
    "data_gates": {},
    "query_gates": {},
    "run_info": {"reports": []},
    "control": {"action": "pause", "by": "bob"},
}


def begun(database: Database, module: Module, phase: Phase) -> Steps:
    steps = Steps.of(module, database, phase)
    steps.begin()
    return steps


@pytest.mark.parametrize(
    ("mode", "settings"),
    [
        ("transaction", {}),
        ("transaction", {"ignore_startup_parameters": "options"}),
        ("transaction", {"default_pool_size": 1}),
        ("statement", {}),
    ],
)
def test_a_pool_that_others_share_is_refused_and_not_poisoned(
    database: Database, module: Module, phase: Phase, mode: str, settings: dict[str, Any]
) -> None:
    steps = begun(database, module, phase)
    before = everything(database)
    with pgbouncer(database, mode, **settings) as login, application(login) as seen:
        through = Steps(module, login, steps.spec, steps.planned)
        for check in (True, False):
            for name, arguments in READS.items():
                assert "beside the pooler" in through.refused(name, check=check, **arguments)
            assert "beside the pooler" in through.refused("backfill", check=check, canary=True)
        rollback = {"rollback_of": steps.planned["run"]["id"]}
        assert "beside the pooler" in through.refused("plan", **rollback)
    assert seen.writes > 50
    assert seen.findings == []
    assert everything(database) == before


@pytest.mark.parametrize("sessions", [1, 2, 3])
@pytest.mark.parametrize("in_turn", [0, 1])
def test_an_idle_pool_that_others_share_is_refused_too(
    database: Database, sessions: int, in_turn: int
) -> None:
    settings = {"default_pool_size": 3, "server_round_robin": in_turn}
    with pgbouncer(database, "transaction", **settings) as login:
        with contextlib.ExitStack() as stack:
            for _ in range(sessions):
                client = psycopg.connect(**login, prepare_threshold=None)
                stack.enter_context(client).execute("SELECT")
        for _ in range(20):
            with (
                pytest.raises(RunbookError, match="beside the pooler"),
                connection_module.connect(login, name="test", read_only=True),
            ):
                pass


@pytest.mark.parametrize("settings", [{}, {"ignore_startup_parameters": "options"}])
def test_a_dry_run_leaves_nothing_in_a_pool_that_is_not_recognised(
    database: Database,
    module: Module,
    phase: Phase,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_module, "require_own_session", lambda *_, **__: None)
    steps = Steps.of(module, database, phase)
    with pgbouncer(database, "transaction", **settings) as login, application(login) as seen:
        steps.login = login
        for name in ("preflight", "plan", "data_gates", "query_gates"):
            assert steps.do(name, check=True)["proof"] == {"read_only": True, "xid": None}
        steps.do("drift", models=phase["phase_models"])
    assert seen.writes > 50
    assert seen.findings == []


@pytest.mark.representative
@pytest.mark.parametrize(
    "settings",
    [{}, {"server_reset_query": "", "ignore_startup_parameters": "options"}],
    ids=["as it comes", "nothing reset by the pooler"],
)
def test_a_pool_by_session_works_and_is_left_as_it_was(
    database: Database, module: Module, phase: Phase, settings: dict[str, Any]
) -> None:
    before = database.state()
    steps = Steps.of(module, database, {**phase, "phase_workers": 2, "phase_queries": []})
    with (
        pgbouncer(database, "session", **settings) as login,
        application(login, threads=2) as seen,
    ):
        steps.login = login
        proof = steps.do("preflight", check=True)["proof"]
        steps.forward()
        steps.back()
    assert proof == {"read_only": True, "xid": None}
    assert seen.writes > 50
    assert seen.findings == []
    assert database.state() == before


def test_a_pool_that_passes_on_some_settings_gets_all_of_them_later(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As newer poolers do with the settings that they keep for each client, the path among them."""
    real = psycopg.connect

    def passing_on(conninfo: str = "", *, options: str = "", **given: Any) -> Any:
        path = [part for part in options.split(" -c ") if part.startswith("search_path=")]
        return real(conninfo, **given, options="".join(f"-c {part}" for part in path))

    monkeypatch.setattr(psycopg, "connect", passing_on)
    database.superuser(f"ALTER ROLE {data.ROLE} SET lock_timeout = '1h'")
    try:
        for read_only in (True, False):
            with connection_module.connect(
                database.login, name="test", read_only=read_only, schemas=["public"]
            ) as conn:
                for setting, value in {
                    **connection_module.SETTINGS,
                    "lock_timeout": "500ms",
                }.items():
                    assert connection_module.one(conn, f"SHOW {setting}")[setting] == value
    finally:
        database.superuser(f"ALTER ROLE {data.ROLE} RESET lock_timeout")


def test_a_pool_without_a_session_left_is_found_by_the_dry_run(
    database: Database, module: Module, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooler_module, "ANSWER_SECONDS", 0.5)
    steps = Steps.of(module, database, {**phase, "phase_workers": 3})
    for size in (1, 3):
        with pgbouncer(database, "session", default_pool_size=size) as login:
            steps.login = login
            assert "a connection pool has no session left" in steps.refused("preflight", check=True)
    with pgbouncer(database, "session", default_pool_size=5) as login:
        steps.login = login
        steps.do("preflight", check=True)


def test_too_few_connections_for_the_workers_are_found_by_the_dry_run(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_workers": 4})
    database.superuser(f"ALTER ROLE {data.ROLE} CONNECTION LIMIT 3")
    try:
        refused = steps.refused("preflight", check=True)
    finally:
        database.superuser(f"ALTER ROLE {data.ROLE} CONNECTION LIMIT -1")
    assert "too many connections" in refused and "phase_workers" in refused
