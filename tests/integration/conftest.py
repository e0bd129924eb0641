# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers, a fresh copy of the demo database for each test, and ways to run the runbook."""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core import spec as spec_module
from demo import data
from demo import server as demo_server
from tests.integration import servers
from tests.integration.in_process import call_module
from tests.integration.servers import started, superuser

pytest.register_assert_rewrite("tests.integration.lab.run", "tests.integration.steps")

# Tests read Ansible's own output, which says what every task did; test_screen.py what people see.
os.environ["ANSIBLE_STDOUT_CALLBACK"] = "default"

ROOT = Path(__file__).resolve().parents[2]
SESSIONS = 3000
_numbers = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        servers.forget_logs()


def pytest_runtest_setup() -> None:
    servers.mark_logs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """A test that fails shows what its servers logged meanwhile."""
    report: pytest.TestReport = yield
    if report.failed:
        report.sections += [(f"Log of {name}", text) for name, text in servers.logged().items()]
    return report


def rows_of(cursor: psycopg.Cursor[Any]) -> list[Any]:
    """The rows that a statement gave, also those without a column; none where it gives none."""
    return [] if cursor.description is None else cursor.fetchall()


@dataclass(frozen=True)
class Database:
    """One test's own database. login is that of the application role, which owns the tables."""

    server: demo_server.Server
    name: str

    @property
    def login(self) -> dict[str, Any]:
        return {
            "host": self.server.host,
            "port": self.server.port,
            "dbname": self.name,
            "user": data.ROLE,
        }

    def conninfo(self, user: str = data.ROLE) -> str:
        return make_conninfo(**{**self.login, "user": user})

    def connect(self, user: str = data.ROLE) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.conninfo(user), autocommit=True, row_factory=dict_row)

    def sql(self, query: Any, parameters: Any = None, *, user: str = data.ROLE) -> list[Any]:
        """Run a statement; the rows that it gives, each as a dict."""
        with closing(self.connect(user)) as conn:
            return rows_of(conn.execute(query, parameters))

    def superuser(self, query: Any) -> list[Any]:
        return self.sql(query, user=self.server.user)

    def fingerprint(self) -> dict[str, Any]:
        """Every row of both tables and the catalog's view of them, to compare before and after.

        What a run leaves on purpose, the ledger in schema pgrunbook, is under a key of its own.
        """
        rows = {
            table: self.sql(
                SQL(
                    "SELECT md5(string_agg(md5(t::text), '' ORDER BY t::text)) AS h FROM {} t"
                ).format(Identifier(table))
            )[0]["h"]
            for table in ("session_summaries", "ip_inventory")
        }
        catalog = self.sql(
            "SELECT n.nspname, c.relname, c.relkind, a.attname, a.atttypid::regtype::text, a.attnum"
            " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
            " ORDER BY 1, 2, 6"
        )
        return {
            "rows": rows,
            "catalog": [entry for entry in catalog if entry["nspname"] != "pgrunbook"],
            "ledger": [entry for entry in catalog if entry["nspname"] == "pgrunbook"],
        }

    def state(self) -> dict[str, Any]:
        """The fingerprint without the ledger: what a rollback has to restore."""
        return {key: value for key, value in self.fingerprint().items() if key != "ledger"}


@pytest.fixture(scope="session", params=[18, 16], ids=["pg18", "pg16"])
def any_server(request: pytest.FixtureRequest) -> Iterator[demo_server.Server]:
    """A seeded server of each version that the embedded package carries."""
    if request.param == 18:
        yield request.getfixturevalue("server")
    else:
        with started(f"pg{request.param}", request.param, sessions=SESSIONS) as (found, _):
            yield found


@pytest.fixture(scope="session")
def server() -> Iterator[demo_server.Server]:
    """A seeded PostgreSQL 18, for tests of what does not depend on the version."""
    with started("pg18", sessions=SESSIONS) as (found, _):
        yield found


@pytest.fixture
def any_database(any_server: demo_server.Server) -> Iterator[Database]:
    """A copy of the drifted database on PostgreSQL 16, then on 18."""
    yield from _copy(any_server)


@pytest.fixture
def database(server: demo_server.Server) -> Iterator[Database]:
    """A copy of the drifted database on PostgreSQL 18."""
    yield from _copy(server)


@pytest.fixture
def icu_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A copy on a server of this machine: the embedded ones know no ICU, and without it every
    collation tells all strings apart."""
    installed = sorted(Path("/usr/lib/postgresql").glob("1[4-9]/bin"))
    if not installed:
        pytest.skip("no PostgreSQL is installed on this machine, and the embedded ones lack ICU")
    monkeypatch.setattr(demo_server, "bin_dir", lambda version: installed[-1])
    version = int(installed[-1].parent.name)
    with started("icu", version, sessions=SESSIONS) as (server, _):
        yield from _copy(server)


@pytest.fixture(scope="session")
def phase3() -> dict[str, Any]:
    """The phase_* variables of phase 3, as they are."""
    variables: dict[str, Any] = yaml.safe_load(
        (ROOT / "playbooks/vars/phase3.yml").read_text(encoding="utf-8")
    )
    return variables


@pytest.fixture
def phase(phase3: dict[str, Any]) -> dict[str, Any]:
    """The phase_* variables of phase 3, small enough for the tests' database."""
    return {
        **copy.deepcopy(phase3),
        "phase_canary_rows": 100,
        "phase_batch_rows": 250,
        "phase_lock_timeout_ms": 200,
        "phase_lock_tries": 2,
        "phase_models": f"{ROOT}/models/session_snapshots.py:Base",
    }


@pytest.fixture
def mallory(database: Database) -> Iterator[str]:
    """A role that may make things in public, where the demo's tables are."""
    database.superuser("CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory")
    yield "mallory"
    database.superuser("DROP OWNED BY mallory CASCADE; DROP ROLE mallory")


def options(phase: dict[str, Any]) -> dict[str, Any]:
    """The phase_* variables as the option spec of the modules, as playbooks/vars/spec.yml does."""
    short = {key.removeprefix("phase_"): value for key, value in phase.items()}
    short["phase"] = short.pop("name")
    short.pop("models", None)
    return short


def parsed(phase: dict[str, Any]) -> spec_module.Spec:
    """The phase_* variables as the program's Spec."""
    return phase_module.parse(options(phase))


@pytest.fixture
def module() -> Callable[..., dict[str, Any]]:
    """Run a module of library/ in this process: module("pgrunbook_plan", check=True, login=…)."""
    return call_module


@dataclass(frozen=True)
class Played:
    """How a playbook ended: exit status and everything that it printed."""

    status: int
    output: str

    def recap(self, counter: str) -> int:
        """A number of the recap, such as changed or failed."""
        return int(self.output.rsplit(f"{counter}=", 1)[1].split()[0])


def plan_hash(output: str) -> str:
    """The hash of the plan that a playbook printed last."""
    hashes = re.findall(r"Plan hash: ([0-9a-f]{64})", output)
    assert hashes, output
    last: str = hashes[-1]
    return last


def played(command: list[str], environment: dict[str, str] | None = None) -> Played:
    """Run a command without a terminal."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return Played(done.returncode, done.stdout)


@pytest.fixture
def playbook(tmp_path: Path) -> Callable[..., Played]:
    """Run a playbook as its user does: playbook(login, "phase3", "--check", phase=…)."""

    def run(
        login: dict[str, Any],
        name: str,
        *arguments: str,
        phase: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> Played:
        command = command_line(tmp_path, login, name, *arguments, phase=phase)
        return played(command, environment)

    return run


def approval_of(
    module: Callable[..., dict[str, Any]],
    database: Database,
    phase: dict[str, Any],
    **rollback: Any,
) -> str:
    """The hash of the plan, as "approval=…". The module makes the plan in this process, which takes
    a fraction of the playbook's time; the hash is the same. rollback_of and more: of a rollback."""
    given = rollback or {"spec": options(phase)}
    planned = module("pgrunbook_plan", login=database.login, **given)
    assert not planned.get("failed"), planned["msg"]
    return f"approval={planned['plan_hash']}"


@pytest.fixture
def approved(
    module: Callable[..., dict[str, Any]], playbook: Callable[..., Played]
) -> Callable[..., Played]:
    """Run phase3.yml with an approval of its plan: approved(database, phase, "-e", …)."""

    def run(database: Database, phase: dict[str, Any], *arguments: str) -> Played:
        approval = approval_of(module, database, phase)
        return playbook(database.login, "phase3", "-e", approval, *arguments, phase=phase)

    return run


@pytest.fixture
def rolled_back(
    module: Callable[..., dict[str, Any]], playbook: Callable[..., Played]
) -> Callable[..., Played]:
    """Run rollback.yml with an approval of its plan: rolled_back(database, run, phase)."""

    def run(
        database: Database, run: str, phase: dict[str, Any], acknowledged: Sequence[str] = ()
    ) -> Played:
        given = {"rollback_of": run, "acknowledged": list(acknowledged)}
        approval = approval_of(module, database, phase, **given)
        extra = json.dumps({"run": run, "rollback_acknowledged": given["acknowledged"]})
        return playbook(database.login, "rollback", "-e", extra, "-e", approval, phase=phase)

    return run


def command_line(
    folder: Path,
    login: dict[str, Any],
    name: str,
    *arguments: str,
    phase: dict[str, Any] | None = None,
) -> list[str]:
    """The ansible-playbook command on a test's database, with its reports in folder/reports."""
    inventory = folder / "inventory.yml"
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "runbook_login": login,
    }
    inventory.write_text(
        yaml.safe_dump({"databases": {"hosts": {"test": None}, "vars": variables}}),
        encoding="utf-8",
    )
    extra = folder / "extra.yml"
    extra.write_text(
        yaml.safe_dump({**(phase or {}), "runbook_reports": f"{folder}/reports"}), encoding="utf-8"
    )
    book = f"playbooks/{name}.yml"
    return [program(), "-i", str(inventory), book, "-e", f"@{extra}", *arguments]


def program() -> str:
    """The ansible-playbook of this Python."""
    return str(Path(sys.executable).with_name("ansible-playbook"))


copied = contextmanager(lambda server: _copy(server))
"""A copy of the drifted database, for as long as the context lasts."""


def _copy(server: demo_server.Server) -> Iterator[Database]:
    database = Database(server, f"copy_{next(_numbers)}")
    with psycopg.connect(superuser(server), autocommit=True) as conn:
        name = Identifier(database.name)
        conn.execute(
            SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                name, Identifier(data.DATABASE), Identifier(data.ROLE)
            )
        )
        yield database
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def other_database(beside: Database, encoding: str) -> Iterator[Database]:
    """An empty database of another encoding on the same server."""
    database = Database(beside.server, f"other_{next(_numbers)}")
    with psycopg.connect(superuser(beside.server), autocommit=True) as conn:
        conn.execute(
            SQL("CREATE DATABASE {} OWNER {} ENCODING {} LOCALE 'C' TEMPLATE template0").format(
                Identifier(database.name), Identifier(data.ROLE), encoding
            )
        )
        yield database
        conn.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(database.name)))
