# SPDX-License-Identifier: GPL-3.0-or-later
"""What depends on a column is listed, and goes along with its rename, or breaks, as listed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.catalog.dependents import Dependent, dependents
from ansible.module_utils.pgrunbook.core.connection import connect
from ansible.module_utils.pgrunbook.core.spec import Table
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]

TABLE = Table("public", "session_summaries")
OLD, NEW = "snapshot_ip_types", "snapshot_ip_type"
FILL = "UPDATE session_summaries SET {column} = 'VPN' WHERE session_id = {id}"
FIRST = "(SELECT min(session_id) FROM session_summaries)"
NOTED = "CREATE TABLE noted (what text);"
NOTES = (
    "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN INSERT INTO noted VALUES (TG_NAME); RETURN NEW; END';"
)
KEEPS_NAME = f"goes on working, and still calls its own column {OLD}"
AS_TEXT = "names the column as text"


def found(database: Database, table: Table = TABLE, column: str = OLD) -> list[Dependent]:
    schemas = [table.schema]
    with connect(database.login, name="test", read_only=True, schemas=schemas) as conn:
        return dependents(conn, catalog.inspect(conn, table).oid, column)


def listed(database: Database, kind: str, object_: str) -> Dependent:
    """The dependent of this kind and name; there must be just one."""
    named = [d for d in found(database) if (d.kind, d.object) == (kind, object_)]
    assert len(named) == 1, found(database)
    return named[0]


def rename(database: Database) -> None:
    database.sql(f"ALTER TABLE session_summaries RENAME COLUMN {OLD} TO {NEW}")


def fill(database: Database, column: str) -> None:
    database.sql(FILL.format(column=column, id=FIRST))


@dataclass(frozen=True)
class Carried:
    """An object that goes along: how it is made, listed, and used both before and after."""

    make: str
    kind: str
    object: str
    works: str
    note: str = ""


CARRIED = {
    "view": Carried(
        f"CREATE VIEW v AS SELECT session_id, {OLD} FROM session_summaries",
        "view",
        "public.v",
        f"SELECT count({OLD}) AS n FROM v",
        KEEPS_NAME,
    ),
    "view that only filters by it": Carried(
        f"CREATE VIEW v AS SELECT session_id FROM session_summaries WHERE {OLD} IS NOT NULL",
        "view",
        "public.v",
        "SELECT count(*) AS n FROM v",
    ),
    "view over a view": Carried(
        f"CREATE VIEW v AS SELECT {OLD} FROM session_summaries;"
        f"CREATE VIEW w AS SELECT upper({OLD}) AS up FROM v",
        "view",
        "public.v",
        "SELECT count(up) AS n FROM w",
        KEEPS_NAME,
    ),
    "materialized view": Carried(
        f"CREATE MATERIALIZED VIEW m AS SELECT {OLD} FROM session_summaries",
        "materialized view",
        "public.m",
        f"REFRESH MATERIALIZED VIEW m; SELECT count({OLD}) AS n FROM m",
        KEEPS_NAME,
    ),
    "rule": Carried(
        f"{NOTED} CREATE RULE r AS ON UPDATE TO session_summaries"
        f" WHERE old.{OLD} = 'VPN' DO ALSO INSERT INTO noted VALUES (old.{OLD})",
        "rule",
        "r on public.session_summaries",
        f"UPDATE session_summaries SET matcher = 'x' WHERE session_id = {FIRST};"
        " SELECT count(*) AS n FROM noted",
    ),
    "trigger on the column": Carried(
        f"{NOTED} {NOTES} CREATE TRIGGER g AFTER UPDATE OF {OLD} ON session_summaries"
        " FOR EACH ROW EXECUTE FUNCTION note()",
        "trigger",
        "g on public.session_summaries",
        f"UPDATE session_summaries SET {{column}} = 'TOR' WHERE session_id = {FIRST};"
        " SELECT count(*) AS n FROM noted",
    ),
    "trigger with a condition": Carried(
        f"{NOTED} {NOTES} CREATE TRIGGER g AFTER UPDATE ON session_summaries"
        f" FOR EACH ROW WHEN (NEW.{OLD} IS NOT NULL) EXECUTE FUNCTION note()",
        "trigger",
        "g on public.session_summaries",
        f"UPDATE session_summaries SET matcher = 'x' WHERE session_id = {FIRST};"
        " SELECT count(*) AS n FROM noted",
    ),
    "policy": Carried(
        f"CREATE POLICY p ON session_summaries USING ({OLD} = 'VPN');"
        "ALTER TABLE session_summaries ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "policy",
        "p on public.session_summaries",
        "SELECT count(*) AS n FROM session_summaries",
    ),
    "statistics object": Carried(
        f"CREATE STATISTICS st ON snapshot_asn, {OLD} FROM session_summaries",
        "statistics object",
        "public.st",
        "ANALYZE session_summaries; SELECT count(*) AS n FROM pg_stats_ext"
        " WHERE statistics_name = 'st' AND attnames @> ARRAY[{literal}]::name[]",
    ),
    "generated column": Carried(
        f"ALTER TABLE session_summaries ADD made text GENERATED ALWAYS AS (upper({OLD})) STORED",
        "generated column",
        "public.session_summaries.made",
        f"UPDATE session_summaries SET {{column}} = 'vpn' WHERE session_id = {FIRST};"
        " SELECT count(*) AS n FROM session_summaries WHERE made = 'VPN'",
    ),
    "column default": Carried(
        f"ALTER TABLE session_summaries ALTER {OLD} SET DEFAULT 'VPN'",
        "column default",
        f"for public.session_summaries.{OLD}",
        "INSERT INTO session_summaries (session_id) VALUES (gen_random_uuid()::text);"
        " SELECT count({column}) AS n FROM session_summaries",
    ),
    "check constraint": Carried(
        f"ALTER TABLE session_summaries ADD CONSTRAINT k CHECK ({OLD} <> '')",
        "constraint",
        "k on public.session_summaries",
        "SELECT count(*) AS n FROM pg_constraint WHERE conname = 'k'"
        " AND pg_get_constraintdef(oid) LIKE '%{column} <>%'",
    ),
    "foreign key": Carried(
        "CREATE TABLE kinds (name text PRIMARY KEY); INSERT INTO kinds VALUES ('VPN');"
        f"UPDATE session_summaries SET {OLD} = NULL;"
        f"ALTER TABLE session_summaries ADD CONSTRAINT k FOREIGN KEY ({OLD}) REFERENCES kinds",
        "constraint",
        "k on public.session_summaries",
        f"UPDATE session_summaries SET {{column}} = 'VPN' WHERE session_id = {FIRST};"
        " SELECT count(*) AS n FROM session_summaries JOIN kinds ON name = {column}",
    ),
    "foreign key of another table": Carried(
        f"UPDATE session_summaries SET {OLD} = session_id;"
        f"ALTER TABLE session_summaries ADD CONSTRAINT u UNIQUE ({OLD});"
        "CREATE TABLE child (a text CONSTRAINT k REFERENCES session_summaries"
        f" ({OLD}))",
        "constraint",
        "k on public.child",
        f"INSERT INTO child SELECT {FIRST}; SELECT count(*) AS n FROM child",
    ),
    "unique constraint": Carried(
        f"UPDATE session_summaries SET {OLD} = session_id;"
        f"ALTER TABLE session_summaries ADD CONSTRAINT u UNIQUE ({OLD})",
        "constraint",
        "u on public.session_summaries",
        "INSERT INTO session_summaries (session_id, {column}) VALUES ('new', 'new')"
        " ON CONFLICT ({column}) DO NOTHING; SELECT 1 AS n",
    ),
    "index": Carried(
        "",
        "index",
        "public.ix_session_summaries_snapshot_ip_types",
        "SELECT count(*) AS n FROM pg_indexes WHERE indexdef LIKE '%snapshot_ip_types%({column})'",
    ),
    "index on an expression": Carried(
        f"CREATE INDEX x ON session_summaries (lower({OLD}))",
        "index",
        "public.x",
        "SELECT count(*) AS n FROM pg_indexes WHERE indexdef LIKE '%lower({column})%'",
    ),
    "partial index": Carried(
        f"CREATE INDEX x ON session_summaries (matcher) WHERE {OLD} IS NOT NULL",
        "index",
        "public.x",
        "SELECT count(*) AS n FROM pg_indexes WHERE indexdef LIKE '%({column} IS NOT NULL)'",
    ),
    "function whose body is parsed": Carried(
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC"
        f" SELECT count({OLD}) FROM session_summaries; END",
        "function",
        "public.f()",
        "SELECT f() AS n",
    ),
}


@pytest.mark.parametrize("case", CARRIED.values(), ids=CARRIED.keys())
def test_carried_along(any_database: Database, case: Carried) -> None:
    fill(any_database, OLD)
    if case.make:
        any_database.sql(case.make)
    told = listed(any_database, case.kind, case.object)
    assert told.follows is True and told.note == case.note

    def works(column: str) -> None:
        query = case.works.replace("{column}", column).replace("{literal}", f"'{column}'")
        before, _, last = query.rpartition(";")
        if before:
            any_database.sql(before)
        assert any_database.sql(last.strip())[0]["n"] > 0

    works(OLD)
    rename(any_database)
    works(NEW)


def test_virtual_generated_column(database: Database) -> None:
    database.sql(f"ALTER TABLE session_summaries ADD made text GENERATED ALWAYS AS (upper({OLD}))")
    assert listed(database, "generated column", "public.session_summaries.made").follows
    rename(database)
    database.sql("SELECT made FROM session_summaries LIMIT 1")


PUBLICATIONS = {
    "column list": (f"FOR TABLE session_summaries (session_id, {OLD})", True),
    "row filter": (f"FOR TABLE session_summaries (session_id) WHERE ({OLD} = 'VPN')", False),
    "whole table": ("FOR TABLE session_summaries", True),
    "every table": ("FOR ALL TABLES", True),
}


@pytest.mark.parametrize("which", PUBLICATIONS)
def test_publication(any_database: Database, which: str) -> None:
    """It goes along, but its subscribers find columns by name."""
    made, published = PUBLICATIONS[which]
    if which == "row filter":
        any_database.sql(
            f"UPDATE session_summaries SET {OLD} = '' WHERE {OLD} IS NULL;"
            f"ALTER TABLE session_summaries ALTER {OLD} SET NOT NULL;"
            f"CREATE UNIQUE INDEX i ON session_summaries (session_id, {OLD})"
        )
    any_database.superuser(f"CREATE PUBLICATION \"P 1\" {made} WITH (publish = 'insert')")
    told = listed(any_database, "publication", '"P 1"')
    assert told.follows is True
    assert ("subscribers" in told.note) is published
    rename(any_database)
    (row,) = any_database.sql(
        "SELECT attnames::text[] AS names, rowfilter FROM"
        " pg_publication_tables WHERE tablename = 'session_summaries'"
    )
    assert (NEW in row["names"]) is published and OLD not in row["names"]
    if which == "row filter":
        assert NEW in row["rowfilter"]


def test_publication_without_the_column_is_not_listed(any_database: Database) -> None:
    any_database.superuser("CREATE PUBLICATION p FOR TABLE session_summaries (session_id)")
    assert [d for d in found(any_database) if d.kind == "publication"] == []


BROKEN = {
    "SQL": (
        "function",
        "f()",
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS"
        f" 'SELECT count({OLD}) FROM session_summaries'",
        "SELECT f()",
    ),
    "PL/pgSQL": (
        "function",
        "f(integer)",
        "CREATE FUNCTION f(n int) RETURNS bigint LANGUAGE plpgsql AS"
        f" 'BEGIN RETURN (SELECT count({OLD.upper()}) + n FROM session_summaries); END'",
        "SELECT f(1)",
    ),
    "EXECUTE": (
        "function",
        "f()",
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE n bigint; BEGIN EXECUTE"
        f" 'SELECT count(\"{OLD}\") FROM session_summaries' INTO n; RETURN n; END $$",
        "SELECT f()",
    ),
    "procedure": (
        "procedure",
        "f()",
        "CREATE PROCEDURE f() LANGUAGE sql AS"
        f" 'UPDATE session_summaries SET {OLD} = NULL WHERE false'",
        "CALL f()",
    ),
    "trigger function": (
        "trigger function",
        "f()",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        f" 'BEGIN NEW.{OLD} := ''VPN''; RETURN NEW; END';"
        "CREATE TRIGGER g BEFORE INSERT ON session_summaries FOR EACH ROW EXECUTE FUNCTION f()",
        "INSERT INTO session_summaries (session_id) VALUES (gen_random_uuid()::text)",
    ),
    "argument of a trigger": (
        "trigger argument",
        "g on public.session_summaries",
        "ALTER TABLE session_summaries ADD words tsvector;"
        "CREATE TRIGGER g BEFORE INSERT ON session_summaries FOR EACH ROW EXECUTE FUNCTION"
        f" tsvector_update_trigger(words, 'pg_catalog.simple', {OLD}, matcher)",
        "INSERT INTO session_summaries (session_id) VALUES (gen_random_uuid()::text)",
    ),
}


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
def test_breaks(any_database: Database, case: tuple[str, str, str, str]) -> None:
    kind, object_, make, use = case
    any_database.sql(make)
    told = listed(any_database, kind, object_)
    assert told.follows is False and AS_TEXT in told.note
    any_database.sql(use)
    rename(any_database)
    with pytest.raises(psycopg.Error, match=re.compile(OLD, re.IGNORECASE)):
        any_database.sql(use)


def test_breaking_stops_until_it_is_acknowledged_and_the_plan_lists_all(
    database: Database, module: Module, phase: Phase
) -> None:
    _, trigger, make, _ = BROKEN["argument of a trigger"]
    database.sql(make)
    database.sql(BROKEN["PL/pgSQL"][2])
    database.sql(CARRIED["view"].make)
    message = Steps.of(module, database, phase).refused("plan")
    assert f"trigger argument {trigger}" in message and "function f(integer)" in message
    phase["phase_acknowledged"] = [trigger]
    assert trigger not in Steps.of(module, database, phase).refused("plan")
    phase["phase_acknowledged"] = [trigger, "f(integer)"]
    steps = Steps.of(module, database, phase)
    text = " ".join(steps.plan()["text"].split())
    assert f"What depends on {OLD}: carried along with the rename index public.ix_" in text
    assert f"view public.v: {KEEPS_NAME}" in text
    breaks = "BREAKS, acknowledged: change it right after the rename trigger argument g on"
    assert breaks in text
    steps.begin()
    assert database.sql(f"SELECT count({OLD}) FROM v")
    steps.do("run", state="failed")
    after = steps.plan()
    assert after["plan"]["dependents"] == [] and "What depends" not in after["text"]


NOT_MENTIONED = {
    "longer name": "SELECT snapshot_ip_types_old FROM x",
    "part of a name": "SELECT my_snapshot_ip_types FROM x",
    "shorter name": "SELECT snapshot_ip_type FROM x",
}


@pytest.mark.parametrize("body", NOT_MENTIONED.values(), ids=NOT_MENTIONED.keys())
def test_other_words_are_not_mentions(database: Database, body: str) -> None:
    database.sql(
        f"CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM 1; {body}; END'"
    )
    assert [d for d in found(database) if not d.follows] == []


def test_what_belongs_to_the_server_or_an_extension_is_not_a_mention(database: Database) -> None:
    """Their functions have words in them that may be a column's name, such as text."""
    database.sql("CREATE TABLE t (n int, operator int, text int)")
    for column in ("n", "operator", "text"):
        assert found(database, Table("public", "t"), column) == []
    database.superuser(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1 AS n';"
        "ALTER EXTENSION plpgsql ADD FUNCTION f()"
    )
    assert found(database, Table("public", "t"), "n") == []
    database.superuser("ALTER EXTENSION plpgsql DROP FUNCTION f()")
    assert [d.object for d in found(database, Table("public", "t"), "n")] == ["f()"]


def test_names_that_need_quotes(database: Database) -> None:
    """Quotes in a name are doubled where it stands between quotes."""
    column = 'the "old" it\'s 100%.name'
    quoted = '"' + column.replace('"', '""') + '"'
    inner = quoted.replace("'", "''")
    database.sql(f'CREATE SCHEMA "S 1"; CREATE TABLE "S 1"."T" ({quoted} text)')
    database.sql(f'CREATE VIEW "S 1"."V" AS SELECT {quoted} FROM "S 1"."T"')
    database.sql(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
        f' EXECUTE \'SELECT {inner} FROM "S 1"."T"\'; END $$'
    )
    told = [(d.kind, d.object, d.follows) for d in found(database, Table("S 1", "T"), column)]
    assert told == [("view", '"S 1"."V"', True), ("function", "public.f()", False)]


def test_partitions(database: Database) -> None:
    """What each partition has from its parent is told once; what it has itself is told too."""
    database.sql(
        "CREATE TABLE p (id int, old text NOT NULL DEFAULT 'x',"
        " up text GENERATED ALWAYS AS (upper(old)) STORED) PARTITION BY RANGE (id);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (9);"
        "CREATE INDEX of_all ON p (old); CREATE INDEX of_one ON p1 (lower(old));"
        "ALTER TABLE p ADD CONSTRAINT k CHECK (old <> '');"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER g AFTER UPDATE OF old ON p FOR EACH ROW EXECUTE FUNCTION note();"
        "CREATE VIEW v AS SELECT old FROM p1"
    )
    told = [(d.kind, d.object) for d in found(database, Table("public", "p"), "old")]
    assert told == [
        ("column default", "for public.p.old"),
        ("constraint", "k on public.p"),
        ("constraint", "p_old_not_null on public.p"),
        ("generated column", "public.p.up"),
        ("index", "public.of_all"),
        ("index", "public.of_one"),
        ("trigger", "g on public.p"),
        ("view", "public.v"),
    ]
