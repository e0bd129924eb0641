# SPDX-License-Identifier: GPL-3.0-or-later
"""What cannot work is refused: the message names it and the next step, and nothing changes."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.locks import table_lock
from ansible.module_utils.pgrunbook.core.spec import Table
from demo import data
from demo import server as demo_server
from tests.integration.conftest import Database, options
from tests.integration.servers import started, superuser
from tests.integration.standby import streaming
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

ASN, COUNTRY, TYPE = range(3)
OTHER_ROLE = "pgrunbook_other"
TARGET = Table("public", "session_summaries")

WRITER = """
CREATE TABLE noted (n int);
CREATE FUNCTION note(n int) RETURNS int LANGUAGE plpgsql
AS 'BEGIN INSERT INTO noted VALUES (n); RETURN n; END';
GRANT ALL ON noted TO PUBLIC;
"""
FOREIGN = """
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE other (session_id text) SERVER nowhere;
"""


@dataclass(frozen=True)
class Case:
    """What is wrong in the variables or the database, and what the message must mention."""

    says: tuple[str, ...]
    change: Callable[[Phase], Any] = lambda phase: None
    sql: str = ""
    module: str = "plan"


def source(expression: str, *says: str, sql: str = "") -> Case:
    return Case(
        ("'snapshot_asn'", *says),
        lambda phase: phase["phase_columns"][ASN].update(source=expression),
        sql=sql,
    )


def query(sql: str, *says: str) -> Case:
    return Case(says, lambda phase: phase["phase_queries"][0].update(snapshot=sql))


def values(*says: str, sql: str = "", module: str = "plan", **changed: Any) -> Case:
    changed = {f"phase_{name}": value for name, value in changed.items()}
    return Case(says, lambda phase: phase.update(changed), sql=sql, module=module)


def column(position: int, *says: str, sql: str = "", **changed: Any) -> Case:
    return Case(says, lambda phase: phase["phase_columns"][position].update(changed), sql=sql)


def index(*says: str, sql: str = "", **changed: Any) -> Case:
    return Case(says, lambda phase: phase["phase_indexes"][3].update(changed), sql=sql)


CASES = {
    "unknown table": values("session_summary", "public.session_summaries", table="session_summary"),
    "unknown source table": values(
        "ip_inventry", "public.ip_inventory", source_table="ip_inventry"
    ),
    "unknown table, preflight": values("nosuch", table="nosuch", module="preflight"),
    "unknown schema": values("nosuch.session_summaries", schema="nosuch"),
    "unknown key": values("'session'", "'session_id'", key=["session"]),
    "unknown source key here": values("'ip'", source_key={"ip": "ip_address"}),
    "unknown source key there": values("'ip'", "ip_inventory", source_key={"source_ip": "ip"}),
    "unknown source key, preflight": values(
        "'ip'", "ip_inventory", source_key={"source_ip": "ip"}, module="preflight"
    ),
    "unknown target column": column(ASN, "'snapshot_as'", "'snapshot_asn'", name="snapshot_as"),
    "unknown index column": index("'nosuch'", "ix_session_summaries", columns=["nosuch"]),
    "index on the old name": index("'snapshot_ip_types'", columns=["snapshot_ip_types"]),
    "both names": Case(
        ("both", "'snapshot_ip_types'", "'snapshot_ip_type'"),
        sql="ALTER TABLE session_summaries ADD snapshot_ip_type text",
    ),
    "neither name": Case(
        ("neither", "'snapshot_ip_types'", "'snapshot_ip_type'"),
        sql="ALTER TABLE session_summaries RENAME snapshot_ip_types TO ip_kind",
    ),
    "integer, not text": column(ASN, "'snapshot_asn'", "integer", "text", type="text"),
    "varchar(2), not (3)": column(COUNTRY, "varchar(3)", "varying(2)", type="varchar(3)"),
    "varchar(2), not unbounded": column(COUNTRY, "varchar.", "varying(2)", type="varchar"),
    "varchar(2), not an array": column(COUNTRY, "varchar(2)[]", type="varchar(2)[]"),
    "unknown type": column(ASN, "'nosuch'", "'snapshot_asn'", type="nosuch"),
    "generated column": column(
        ASN,
        "'made'",
        "generated",
        name="made",
        sql="ALTER TABLE session_summaries ADD made int GENERATED ALWAYS AS (1) STORED",
    ),
    "syntax error": source("current_asn +", "syntax error"),
    "unknown column in source": source("nosuch", '"nosuch"'),
    "column of the target in source": source("session_id", '"session_id"'),
    "source of another type": source("geo_country", "integer", "character varying"),
    "nextval": source(
        "nextval('s')", "nextval()", sql="CREATE SEQUENCE s; GRANT ALL ON s TO PUBLIC"
    ),
    "function that writes": source("note(current_asn)", "note()", sql=WRITER),
    "function that writes, acknowledged": Case(
        ("'snapshot_asn'", "write"),
        lambda phase: (
            phase["phase_columns"][ASN].update(source="note(current_asn)"),
            phase.update(phase_acknowledged=["note()"]),
        ),
        sql=WRITER,
    ),
    "second statement": source("current_asn; DELETE FROM session_summaries", ";"),
    "second statement, parentheses balanced": source(
        "1)) FROM ip_inventory; SELECT ((2", "'snapshot_asn'"
    ),
    "value that is too long": Case(
        ("'snapshot_country'", "Type varchar(2)"),
        sql="ALTER TABLE ip_inventory ALTER geo_country TYPE text;"
        "UPDATE ip_inventory SET geo_country = 'USA' WHERE geo_country = 'US'",
    ),
    "second query": source("1)) FROM ip_inventory UNION SELECT ((2", "'snapshot_asn'"),
    "aggregate": source("max(current_asn)", "aggregate"),
    "batch of 0": values("phase_batch_rows is 0", batch_rows=0),
    "batch of -1": values("phase_batch_rows is -1", batch_rows=-1),
    "canary of 0": values("phase_canary_rows is 0", canary_rows=0),
    "no lock tries": values("phase_lock_tries is 0", lock_tries=0),
    "coverage of 101": values("phase_coverage_min", coverage_min=101),
    "no columns": values("phase_columns is empty", columns=[]),
    "window is no time": values("'tomorrow'", "ISO 8601", window_end="tomorrow"),
    "window without time zone": values("time zone", window_end="2099-01-01T00:00:00"),
    "window is over": values(
        "maintenance window ended",
        window_end=(datetime.now(UTC) - timedelta(seconds=1)).isoformat(),
    ),
    "window is over, preflight": values(
        "2001-01-01", window_end="2001-01-01T00:00:00Z", module="preflight"
    ),
    "window ends before it opens": values(
        "phase_window_start is '2099-01-02T00:00:00Z', which is not before",
        window_start="2099-01-02T00:00:00Z",
        window_end="2099-01-01T00:00:00Z",
    ),
    "name of 64 bytes": index("64 bytes", name="x" * 62 + "é"),
    "empty name": index("phase_indexes", name=""),
    "key that is not unique": values("unique index", "source_ip", key=["source_ip"]),
    "key that may be null": values(
        "'matcher'",
        "NULL",
        sql="UPDATE session_summaries SET matcher = session_id;"
        "CREATE UNIQUE INDEX ON session_summaries (matcher)",
        key=["matcher"],
    ),
    "source key that is not unique": values(
        "public.twice has 2 rows for the key",
        sql="CREATE TABLE twice AS TABLE ip_inventory; INSERT INTO twice TABLE ip_inventory;"
        f"ALTER TABLE twice OWNER TO {data.ROLE}",
        source_table="twice",
    ),
    "query with an error": query("SELECT nosuch FROM {table}", "country and type", '"nosuch"'),
    "query with an unknown placeholder": query("SELECT {nosuch}", "nosuch", "{snapshot_asn}"),
    "query with a lone brace": query("SELECT '{' FROM {table}", "placeholder"),
    "query that writes": query("DELETE FROM {table}", "country and type", "write"),
    "query that writes in a CTE": query(
        "WITH gone AS (DELETE FROM {table} RETURNING 1) SELECT count(*) FROM gone", "write"
    ),
    "view": values("a view", sql="CREATE VIEW other AS SELECT 1 AS a", table="other"),
    "materialized view": values(
        "a materialized view", sql="CREATE MATERIALIZED VIEW other AS SELECT 1", table="other"
    ),
    "foreign table": values("a foreign table", sql=FOREIGN, table="other"),
    "index of another definition": Case(
        ("'ix_session_summaries_snapshot_country_ip_type'", "matcher"),
        sql="CREATE INDEX ix_session_summaries_snapshot_country_ip_type"
        " ON session_summaries (matcher)",
    ),
    "index of another table": Case(
        ("'ix_session_summaries_snapshot_country_ip_type'", "ip_inventory"),
        sql="CREATE INDEX ix_session_summaries_snapshot_country_ip_type"
        " ON ip_inventory (geo_country)",
    ),
    "table with the index's name": Case(
        ("'ix_session_summaries_snapshot_country_ip_type'",),
        sql="CREATE TABLE ix_session_summaries_snapshot_country_ip_type ()",
    ),
    "no primary": Case(
        ("default_transaction_read_only",),
        sql="DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on',"
        " current_database()); END $$",
        module="preflight",
    ),
}


@pytest.fixture(scope="module")
def untouched(server: demo_server.Server) -> Database:
    """The database that the others are copies of, for what changes nothing, as it proves."""
    return Database(server, data.DATABASE)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_refused(request: pytest.FixtureRequest, module: Module, phase: Phase, case: Case) -> None:
    database: Database = request.getfixturevalue("database" if case.sql else "untouched")
    case.change(phase)
    if case.sql:
        database.superuser(case.sql)
    before = database.fingerprint()
    message = Steps.of(module, database, phase).refused(case.module)
    assert [words for words in case.says if words not in message] == [], message
    assert database.fingerprint() == before


@pytest.mark.parametrize("mentions", ["snapshot_ip_types", "SNAPSHOT_IP_TYPES"])
def test_function_body_stops_until_acknowledged(
    database: Database, module: Module, phase: Phase, mentions: str
) -> None:
    database.sql(
        "CREATE FUNCTION kinds(n int) RETURNS bigint LANGUAGE plpgsql AS"
        f" 'BEGIN RETURN (SELECT count({mentions}) FROM session_summaries); END'"
    )
    before = database.fingerprint()
    assert "kinds(integer)" in Steps.of(module, database, phase).refused("plan")
    assert database.fingerprint() == before
    phase["phase_acknowledged"] = ["kinds(integer)"]
    Steps.of(module, database, phase).plan()


@pytest.mark.representative
def test_all_obstacles_are_told_at_once(database: Database, module: Module, phase: Phase) -> None:
    database.sql(
        "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER one BEFORE UPDATE ON session_summaries EXECUTE FUNCTION pass();"
        "CREATE TRIGGER two AFTER UPDATE ON session_summaries EXECUTE FUNCTION pass();"
        "CREATE FUNCTION kinds() RETURNS bigint LANGUAGE plpgsql"
        " AS 'BEGIN RETURN (SELECT count(snapshot_ip_types) FROM session_summaries); END';"
    )
    phase["phase_columns"][ASN]["source"] = "1 / 0"
    phase["phase_columns"][COUNTRY]["source"] = "no_such_column"
    phase["phase_indexes"][0]["columns"] = ["no_such_key"]
    phase["phase_queries"][0]["snapshot"] = "SELECT wrong FROM {table}"
    phase["phase_queries"][1]["baseline"] = "SELECT false FROM {nothing}"
    before = database.fingerprint()
    message = Steps.of(module, database, phase).refused("plan", check=True)
    told = [line for line in message.splitlines() if line[:1].isdigit()]
    words = ["no_such_key", "division by zero", "no_such_column", "wrong", "{nothing}", "kinds()"]
    words += ["'one'", "'two'"]
    assert message.startswith(f"There are {len(words)} obstacles.")
    assert [
        w for n, w in enumerate(words) if not (told[n].startswith(f"{n + 1}. ") and w in told[n])
    ] == []
    assert all("Next step: " in line for line in told)
    assert database.fingerprint() == before


def test_comments_and_per_cent_signs_work(database: Database, module: Module, phase: Phase) -> None:
    phase["phase_columns"][ASN]["source"] = "current_asn -- 100 % sure)"
    phase["phase_columns"][COUNTRY]["source"] = "geo_country /* ( */"
    phase["phase_columns"][TYPE]["source"] = "CASE WHEN ip_type LIKE '%' THEN ip_type END"
    Steps.of(module, database, {**phase, "phase_speedup_min": 0.001}).forward()


def test_source_may_be_a_view(database: Database, module: Module, phase: Phase) -> None:
    database.sql("CREATE VIEW current_inventory AS SELECT * FROM ip_inventory")
    phase.update(phase_source_table="current_inventory", phase_speedup_min=0.001)
    Steps.of(module, database, phase).forward()


@pytest.fixture
def other_role(database: Database) -> Iterator[str]:
    """A role that may log in, and nothing else."""
    role = Identifier(OTHER_ROLE)
    database.superuser(SQL("CREATE ROLE {} LOGIN").format(role))
    yield OTHER_ROLE
    database.superuser(SQL("DROP OWNED BY {} CASCADE").format(role))
    database.superuser(SQL("DROP ROLE {}").format(role))


OWNS = f"ALTER TABLE session_summaries OWNER TO {OTHER_ROLE};"
GIVES = f"GRANT SELECT ON session_summaries TO {data.ROLE};"
READS = f"GRANT SELECT ON ip_inventory TO {OTHER_ROLE};"


@pytest.mark.parametrize(
    ("grants", "says"),
    [
        (
            f"GRANT SELECT, UPDATE ON session_summaries, ip_inventory TO {OTHER_ROLE}",
            ("alter public.session_summaries", "owner", data.ROLE),
        ),
        (OWNS + GIVES, ('GRANT SELECT ON "public"."ip_inventory"',)),
        (OWNS + GIVES + READS, ("ledger", "schema pgrunbook", "GRANT CREATE ON DATABASE")),
        (
            OWNS + GIVES + READS + f"CREATE SCHEMA pgrunbook AUTHORIZATION {OTHER_ROLE}",
            ("ledger", "schema pgrunbook", "GRANT CREATE ON DATABASE"),
        ),
    ],
    ids=["may not alter", "may not read the source", "may not make the ledger", "empty ledger"],
)
def test_role_without_privilege(
    database: Database,
    module: Module,
    phase: Phase,
    other_role: str,
    grants: str,
    says: tuple[str, ...],
) -> None:
    database.superuser(grants)
    before = database.fingerprint()
    login = {**database.login, "user": other_role}
    message = Steps(module, login, options(phase)).refused("preflight")
    assert [words for words in (other_role, *says) if words not in message] == [], message
    assert database.fingerprint() == before
    database.superuser(f"ALTER TABLE session_summaries OWNER TO {data.ROLE}")


def test_ledger_that_may_not_be_made(database: Database, module: Module, phase: Phase) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    database.superuser(
        SQL("ALTER DATABASE {} OWNER TO {}").format(
            Identifier(database.name), Identifier(database.server.user)
        )
    )
    before = database.fingerprint()
    assert "pgrunbook" in steps.refused("approval", **steps.approval("plan"))
    assert database.fingerprint() == before


def test_unreachable_host(database: Database, module: Module, phase: Phase) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        login = {**database.login, "host": "127.0.0.1", "port": port}
        message = Steps(module, login, options(phase)).refused("preflight")
    assert f"127.0.0.1:{port}" in message and database.name in message


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[demo_server.Server, str]]:
    """A server that wants the application role's password, and the password."""
    password = secrets.token_hex(12)
    with started("guarded") as (server, folder):
        with psycopg.connect(superuser(server), autocommit=True) as conn:
            conn.execute(
                SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(data.ROLE), password)
            )
            rules = f"local all {server.user} trust\nlocal all all scram-sha-256\n"
            (folder / "pg_hba.conf").write_text(rules)
            conn.execute("SELECT pg_reload_conf()")
        yield server, password


@pytest.mark.parametrize("known", [True, False], ids=["right", "wrong"])
def test_password(guarded: tuple[demo_server.Server, str], module: Module, known: bool) -> None:
    server, password = guarded
    given = password if known else secrets.token_hex(12)
    login = {
        "host": server.host,
        "port": server.port,
        "user": data.ROLE,
        "dbname": "postgres",
        "password": given,
    }
    steps = Steps(module, login, {})
    if known:
        steps.do("run_info")
        return
    assert "password authentication failed" in steps.refused("run_info")
    result = steps.attempt("run_info")
    if "invocation" in result:  # ansible-core 2.21 leaves it out
        assert result["invocation"]["module_args"]["login"]["user"] == data.ROLE
    assert given not in json.dumps(result)


def test_standby(database: Database, module: Module, phase: Phase) -> None:
    with streaming(database) as standby:
        steps = Steps(module, standby.login, options(phase))
        message = steps.refused("preflight")
        assert "standby" in message and database.name in message
        steps.plan()
        assert "is a standby" in steps.refused("approval", **steps.approval("plan"))


def test_second_run_while_one_holds_the_table(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    steps.approve("plan")
    before = database.fingerprint()
    with connect(database.login, name="the other one", read_only=False) as conn:
        oid = catalog.inspect(conn, TARGET).oid
        with table_lock(conn, oid, str(TARGET)):
            for name in ("column", "index", "backfill"):
                for state in ("present", "reverted"):
                    message = steps.refused(name, state=state)
                    assert "pgrunbook/the other one" in message
                    assert str(conn.info.backend_pid) in message
            database.sql("UPDATE pgrunbook.run SET seen_at = seen_at - interval '1 hour'")
            assert "pgrunbook/the other one" in steps.refused("plan")
    assert database.fingerprint() == before
    assert steps.do("column")["changed"]


def test_second_run_while_the_ledger_has_one(
    database: Database, module: Module, phase: Phase
) -> None:
    steps, other = (Steps.of(module, database, phase) for _ in range(2))
    other.plan()
    steps.begin()
    before = database.fingerprint()
    for message in (
        other.refused("plan"),
        other.refused("plan", rollback_of=steps.planned["run"]["id"]),
        other.refused("approval", **other.approval("plan")),
    ):
        assert steps.planned["run"]["id"] in message and "alice" in message
    assert database.fingerprint() == before


def test_rename_gives_up_on_a_lock(database: Database, module: Module, phase: Phase) -> None:
    steps = Steps.of(module, database, phase)
    steps.plan()
    steps.approve("plan")
    before = database.fingerprint()
    with database.connect() as other, other.transaction():
        other.execute("SELECT count(*) AS held FROM session_summaries")
        message = steps.refused("column")
        assert f"pid {other.info.backend_pid}" in message
    assert "2 tries" in message and "SELECT count(*) AS held" in message and "55P03" in message
    assert database.fingerprint() == before
    assert steps.do("column")["changed"]
