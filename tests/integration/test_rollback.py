# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollback touches nothing that the run did not write, and finds what is in its way before it
begins."""

from __future__ import annotations

from typing import Any

import pytest

from ansible.module_utils.pgrunbook.backfill import workers
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps
from tests.integration.test_exact import finished, give_back, plan_back

Phase = dict[str, Any]


@pytest.fixture
def steps(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run."""
    return finished(Steps.of(module, database, phase))


def refused(steps: Steps, **arguments: Any) -> str:
    return steps.refused("plan", rollback_of=steps.planned["run"]["id"], **arguments)


UNIQUE = "CREATE UNIQUE INDEX pair ON session_summaries (session_id, snapshot_country);"
BILLS = (
    "CREATE TABLE bills (session_id varchar(64), country varchar(2),"
    " CONSTRAINT paid FOREIGN KEY (session_id, country)"
    " REFERENCES session_summaries (session_id, snapshot_country) {action});"
    "INSERT INTO bills SELECT session_id, snapshot_country FROM session_summaries"
    " WHERE snapshot_country IS NOT NULL LIMIT 50"
)


@pytest.mark.parametrize("action", ["ON UPDATE CASCADE", "ON UPDATE SET NULL", ""])
def test_a_foreign_key_that_refers_to_a_filled_column_stops_the_plan(
    database: Database, steps: Steps, action: str
) -> None:
    database.sql(UNIQUE + BILLS.format(action=action))
    message = refused(steps)
    assert "'paid' of public.bills" in message
    assert (action or "ON UPDATE NO ACTION") in message
    database.sql("ALTER TABLE bills DROP CONSTRAINT paid")
    assert give_back(steps)["rows_left_alone"] == 0
    assert database.sql("SELECT count(country) AS n FROM bills") == [{"n": 50}]


def test_a_foreign_key_that_refers_to_the_key_only_stands_in_nobodys_way(
    database: Database, steps: Steps
) -> None:
    database.sql(
        "CREATE TABLE bills (session_id varchar(64) REFERENCES session_summaries ON UPDATE CASCADE)"
    )
    assert give_back(steps)["rows_left_alone"] == 0


def test_a_foreign_key_that_was_made_after_the_approval_stops_the_rollback(
    database: Database, steps: Steps
) -> None:
    database.sql(UNIQUE)
    plan_back(steps)
    steps.approve("rollback")
    database.sql(BILLS.format(action="ON UPDATE CASCADE"))
    assert "paid on public.bills is new" in steps.refused("backfill", state="reverted")
    assert database.sql("SELECT count(country) AS n FROM bills") == [{"n": 50}]


PARTITIONED = """
CREATE TABLE visit (id int, place text, town text, part int, PRIMARY KEY (id, part))
  PARTITION BY LIST (part);
CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1);
CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0);
CREATE TABLE place (name text PRIMARY KEY, town text);
INSERT INTO place VALUES ('a', 'X');
INSERT INTO visit SELECT n, 'a', NULL, n % 2 FROM generate_series(1, 300) n
"""


def partitioned(database: Database, module: Module, phase: Phase, table: str = "visit") -> Steps:
    """A finished run on a partitioned table, or on one of its partitions."""
    database.sql(PARTITIONED)
    changed = {
        "phase_table": table,
        "phase_key": ["id", "part"],
        "phase_columns": [{"name": "town", "type": "text", "source": "town"}],
        "phase_source_table": "place",
        "phase_source_key": {"place": "name"},
        "phase_indexes": [],
        "phase_queries": [],
    }
    return finished(Steps.of(module, database, {**phase, **changed}))


@pytest.mark.parametrize("refers_to", ["visit", "visit_1"])
def test_a_foreign_key_that_refers_to_a_partition_or_through_the_parent_counts(
    database: Database, module: Module, phase: Phase, refers_to: str
) -> None:
    steps = partitioned(database, module, phase)
    database.sql(
        f"CREATE UNIQUE INDEX ON {refers_to} (id, part, town);"
        "CREATE TABLE bills (id int, part int, town text, CONSTRAINT paid FOREIGN KEY"
        f" (id, part, town) REFERENCES {refers_to} (id, part, town) ON UPDATE CASCADE)"
    )
    message = refused(steps)
    assert message.count("'paid' of public.bills") == 1


def values(database: Database, *columns: str) -> dict[str, int]:
    """How many values each of the columns holds."""
    counted = ", ".join(f"count({column}) AS {column}" for column in columns)
    (row,) = database.sql(f"SELECT {counted} FROM session_summaries")
    return dict(row)


ANOTHER = {
    "under the old name": (
        "RENAME snapshot_ip_type TO kept",
        "ADD COLUMN snapshot_ip_types text",
        ("snapshot_ip_types", "kept"),
    ),
    "under the new name": (
        "RENAME snapshot_ip_type TO kept",
        "ADD COLUMN snapshot_ip_type text",
        ("snapshot_ip_type", "kept"),
    ),
}


@pytest.mark.parametrize(("away", "made", "theirs"), ANOTHER.values(), ids=ANOTHER.keys())
def test_a_column_that_took_the_name_of_one_is_not_touched(
    database: Database, steps: Steps, away: str, made: str, theirs: tuple[str, str]
) -> None:
    for change in (away, made):
        database.sql(f"ALTER TABLE session_summaries {change}")
    database.sql("UPDATE session_summaries SET {} = {}".format(*theirs))
    before = values(database, *theirs)
    result = steps.back()
    assert result["columns_gone"] == ["snapshot_ip_type"]
    assert "Column snapshot_ip_type is not there any more" in steps.planned["text"]
    assert values(database, *theirs) == before
    assert values(database, "snapshot_asn")["snapshot_asn"] < before[theirs[0]]


def test_a_column_that_was_dropped_and_made_anew_is_not_touched(
    database: Database, steps: Steps
) -> None:
    database.sql("ALTER TABLE session_summaries DROP snapshot_country")
    database.sql("ALTER TABLE session_summaries ADD snapshot_country varchar(2) DEFAULT 'CN'")
    before = values(database, "snapshot_country")
    assert give_back(steps)["columns_gone"] == ["snapshot_country"]
    assert values(database, "snapshot_country") == before


def test_a_column_that_was_made_anew_after_the_approval_stops_the_rollback(
    database: Database, steps: Steps
) -> None:
    plan_back(steps)
    steps.approve("rollback")
    before = database.sql("SELECT count(snapshot_country) AS n FROM session_summaries")
    database.sql("ALTER TABLE session_summaries DROP snapshot_asn")
    database.sql("ALTER TABLE session_summaries ADD snapshot_asn integer")
    steps.refused("backfill", state="reverted")
    assert database.sql("SELECT count(snapshot_country) AS n FROM session_summaries") == before


def test_a_key_column_that_was_made_anew_is_refused(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = partitioned(database, module, phase)
    database.sql("ALTER TABLE visit RENAME id TO id_before")
    database.sql("ALTER TABLE visit ADD id int")
    database.sql("UPDATE visit SET id = 301 - id_before")
    assert "Key column 'id'" in refused(steps)


def test_a_partition_has_its_columns_in_an_order_of_its_own(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = partitioned(database, module, phase)
    database.sql(
        "CREATE TABLE visit_2"
        " (town text, part int NOT NULL, gone int, place text, id int NOT NULL);"
        "ALTER TABLE visit_2 DROP gone;"
        "INSERT INTO visit_2 (id, part, place) SELECT n, 2, 'a' FROM generate_series(1, 50) n;"
        "ALTER TABLE visit ATTACH PARTITION visit_2 FOR VALUES IN (2)"
    )
    steps.planned = {}
    finished(steps)
    assert database.sql("SELECT count(town) AS n FROM visit") == [{"n": 350}]
    result = give_back(steps)
    assert (result["rows_changed"], result["columns_gone"]) == (50, [])
    assert database.sql("SELECT count(town) AS n FROM visit_2") == [{"n": 0}]


def test_a_table_that_was_made_anew_is_told_from_the_one_that_was_filled(
    database: Database, steps: Steps
) -> None:
    database.sql("ALTER TABLE session_summaries RENAME TO session_summaries_before")
    database.sql("CREATE TABLE session_summaries (LIKE session_summaries_before INCLUDING ALL)")
    database.sql("INSERT INTO session_summaries TABLE session_summaries_before")
    message = refused(steps)
    assert "public.session_summaries is another table" in message
    assert '"rollback_acknowledged": ["public.session_summaries"]' in message
    result = give_back(steps, acknowledged=["public.session_summaries"])
    assert "public.session_summaries is another table" in steps.planned["text"]
    assert (result["rows_left_alone"], result["columns_gone"]) == (0, [])


def test_a_run_does_not_go_on_in_a_column_that_was_made_anew(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    steps.backfill(canary=True)
    database.sql("ALTER TABLE session_summaries DROP snapshot_asn")
    database.sql("ALTER TABLE session_summaries ADD snapshot_asn integer")
    steps.approve("backfill")
    message = steps.refused("backfill")
    assert "'snapshot_asn'" in message and "rollback.yml" in message


IN_THE_WAY = {
    "a column of the old name": (
        "ALTER TABLE session_summaries ADD snapshot_ip_types text"
        " GENERATED ALWAYS AS (snapshot_ip_type) STORED",
        "'snapshot_ip_types'",
    ),
    "a unique index that takes NULLs for equal": (
        "DELETE FROM session_summaries a USING session_summaries b"
        " WHERE a.snapshot_asn IS NOT DISTINCT FROM b.snapshot_asn AND a.session_id > b.session_id;"
        "CREATE UNIQUE INDEX single ON session_summaries (snapshot_asn) NULLS NOT DISTINCT",
        "'single'",
    ),
    "a unique index on rows without a value": (
        "UPDATE session_summaries SET snapshot_asn = 0 WHERE snapshot_asn IS NULL;"
        "CREATE UNIQUE INDEX single ON session_summaries ((1)) WHERE snapshot_asn IS NULL",
        "'single'",
    ),
    "a foreign key that is all or nothing": (
        "UPDATE session_summaries SET snapshot_asn = 0 WHERE snapshot_asn IS NULL;"
        "CREATE TABLE asn_of (session_id varchar(64), asn int, PRIMARY KEY (session_id, asn));"
        "INSERT INTO asn_of SELECT session_id, snapshot_asn FROM session_summaries;"
        "ALTER TABLE session_summaries ADD CONSTRAINT whole FOREIGN KEY (session_id, snapshot_asn)"
        " REFERENCES asn_of MATCH FULL",
        "'whole'",
    ),
}


@pytest.mark.parametrize(("made", "named"), IN_THE_WAY.values(), ids=IN_THE_WAY.keys())
def test_what_would_stop_it_half_way_is_found_before_it_begins(
    database: Database, steps: Steps, made: str, named: str
) -> None:
    database.sql(made)
    assert named in refused(steps)


def test_a_constraint_that_bears_the_nulls_stands_in_nobodys_way(
    database: Database, steps: Steps
) -> None:
    database.sql(
        "CREATE UNIQUE INDEX ON session_summaries (snapshot_asn, session_id) NULLS NOT DISTINCT;"
        "CREATE UNIQUE INDEX ON session_summaries ((snapshot_asn + 1), session_id);"
        "ALTER TABLE session_summaries ADD CHECK (snapshot_asn IS NOT NULL) NOT ENFORCED"
    )
    assert give_back(steps)["rows_left_alone"] == 0


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("ALTER town SET NOT NULL", "'town' of public.visit_1"),
        ("ADD CONSTRAINT known CHECK (town IS NOT NULL)", "'known' of public.visit_1"),
    ],
    ids=["not null", "check"],
)
def test_a_constraint_of_a_partition_is_found_before_it_begins(
    database: Database, module: Module, phase: Phase, made: str, named: str
) -> None:
    steps = partitioned(database, module, phase)
    database.sql(f"ALTER TABLE visit_1 {made}")
    assert named in refused(steps)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("ALTER TABLE visit ALTER town SET NOT NULL", "'town' of public.visit_1"),
        ("ALTER TABLE visit ADD CONSTRAINT known CHECK (town IS NOT NULL)", "'known'"),
    ],
    ids=["not null", "check"],
)
def test_a_constraint_that_a_partition_has_from_its_parent_counts(
    database: Database, module: Module, phase: Phase, made: str, named: str
) -> None:
    steps = partitioned(database, module, phase, "visit_1")
    database.sql("TRUNCATE visit_0")
    database.sql(made)
    assert named in refused(steps)


def test_all_that_is_in_the_way_is_told_at_once(database: Database, steps: Steps) -> None:
    database.sql(UNIQUE + BILLS.format(action=""))
    database.sql("ALTER TABLE session_summaries ADD snapshot_ip_types text")
    database.sql("UPDATE session_summaries SET snapshot_asn = 0 WHERE snapshot_asn IS NULL")
    database.sql("ALTER TABLE session_summaries ALTER snapshot_asn SET NOT NULL")
    message = refused(steps)
    assert message.startswith("There are 3 obstacles.")


ASN = "snapshot_asn"


def converted(database: Database, module: Module, phase: Phase) -> Steps:
    """A finished run that has put a column aside, and given its name to one of another type."""
    database.sql("ALTER TABLE session_summaries ALTER snapshot_asn TYPE text")
    columns = [
        {**column, "converted_from": "text", "using": "{snapshot_asn}::int"}
        if column["name"] == ASN
        else column
        for column in phase["phase_columns"]
    ]
    changed = {"phase_columns": columns, "phase_queries": [], "phase_acknowledged": [ASN]}
    steps = Steps.of(module, database, {**phase, **changed})
    steps.forward()
    return steps


def types(database: Database) -> dict[str, str]:
    rows = database.sql(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attname"
        " ~ 'asn' AND attrelid = 'session_summaries'::regclass AND NOT attisdropped"
    )
    return {row["attname"]: row["type"] for row in rows}


def test_a_view_on_a_converted_column_stops_the_plan(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = converted(database, module, phase)
    database.sql("CREATE VIEW uses AS SELECT session_id, snapshot_asn FROM session_summaries")
    assert "View public.uses is on" in refused(steps)
    database.sql("DROP VIEW uses")
    steps.back()
    assert types(database) == {"snapshot_asn": "text"}


def test_a_converted_column_that_something_is_on_is_kept(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = converted(database, module, phase)
    database.sql(
        "CREATE INDEX dba ON session_summaries (session_id, snapshot_asn);"
        "ALTER TABLE session_summaries ADD CONSTRAINT pos CHECK (snapshot_asn > 0)"
    )
    plan_back(steps)
    text = " ".join(steps.planned["text"].split())
    assert "index public.dba" in text and "pos on public.session_summaries" in text
    assert "DROP COLUMN" not in text
    steps.approve("rollback")
    steps.backfill(state="reverted")
    steps.do("index", state="reverted")
    (warning,) = steps.do("column", state="reverted")["warnings"]
    assert "index public.dba" in str(warning) and "'snapshot_asn_after_phase3'" in str(warning)
    steps.do("run", state="reverted")
    assert types(database) == {"snapshot_asn": "text", "snapshot_asn_after_phase3": "integer"}
    assert database.sql("SELECT conname FROM pg_constraint WHERE conname = 'pos'")


def test_what_came_upon_a_converted_column_after_the_plan_keeps_it(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = converted(database, module, phase)
    plan_back(steps)
    steps.approve("rollback")
    steps.backfill(state="reverted")
    steps.do("index", state="reverted")
    database.sql("CREATE VIEW uses AS SELECT session_id, snapshot_asn FROM session_summaries")
    (warning,) = steps.do("column", state="reverted")["warnings"]
    assert "view public.uses" in str(warning)
    assert types(database) == {"snapshot_asn": "text", "snapshot_asn_after_phase3": "integer"}


def test_a_converted_column_that_is_gone_leaves_its_name_to_the_one_put_aside(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = converted(database, module, phase)
    database.sql("ALTER TABLE session_summaries RENAME snapshot_asn TO asn_now")
    database.sql("ALTER TABLE session_summaries ADD snapshot_asn integer")
    assert "'snapshot_asn'" in refused(steps)
    database.sql("ALTER TABLE session_summaries DROP snapshot_asn")
    assert steps.back()["columns_gone"] == ["snapshot_asn"]
    assert types(database) == {"snapshot_asn": "text", "asn_now": "integer"}


def second_run(database: Database, steps: Steps) -> tuple[str, str]:
    """The ids of the first run and of one that has filled some of its rows again."""
    first = steps.planned["run"]["id"]
    database.sql(
        "UPDATE session_summaries SET snapshot_asn = NULL WHERE session_id IN"
        " (SELECT e ->> 0 FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        "  WHERE e ->> 1 IS NOT NULL ORDER BY 1 LIMIT 40)"
    )
    steps.planned = {}
    finished(steps)
    return first, steps.planned["run"]["id"]


@pytest.mark.representative
def test_rows_that_a_later_run_filled_again_are_its_own(database: Database, steps: Steps) -> None:
    first, second = second_run(database, steps)
    message = steps.refused("plan", rollback_of=first)
    assert f"Run {second} has filled 40 of the rows" in message
    assert give_back(steps)["rows_changed"] == 40
    steps.do("run", state="reverted")
    steps.planned = {"run": {"id": first}}
    result = give_back(steps)
    assert result["rows_left_alone"] == 40


def test_rows_of_a_later_run_are_given_back_where_that_is_acknowledged(
    database: Database, steps: Steps
) -> None:
    first, second = second_run(database, steps)
    steps.planned = {"run": {"id": first}}
    assert give_back(steps, acknowledged=[second])["rows_left_alone"] == 0
    assert second in steps.planned["text"]


def test_a_later_run_in_other_columns_stands_in_nobodys_way(
    database: Database, steps: Steps, module: Module, phase: Phase
) -> None:
    database.sql("ALTER TABLE session_summaries ADD network int")
    columns = [{"name": "network", "type": "integer", "source": "current_asn"}]
    changed = {"phase_name": "phase9", "phase_columns": columns, "phase_indexes": []}
    other = Steps.of(module, database, {**phase, **changed, "phase_queries": []})
    finished(other)
    assert give_back(steps)["rows_left_alone"] == 0


def test_a_run_is_not_reverted_while_something_of_it_stands(
    database: Database, steps: Steps
) -> None:
    plan_back(steps)
    steps.approve("rollback")
    assert "rows" in steps.refused("run", state="reverted")
    steps.do("run", state="reverted", check=True)
    steps.backfill(state="reverted")
    message = steps.refused("run", state="reverted")
    assert "rename of snapshot_ip_types to snapshot_ip_type" in message
    steps.do("index", state="reverted")
    steps.do("column", state="reverted")
    steps.do("run", state="reverted")


def test_what_cannot_be_taken_back_any_more_does_not_stand(
    database: Database, steps: Steps
) -> None:
    database.sql(
        "ALTER TABLE session_summaries DROP snapshot_asn, DROP snapshot_country,"
        " DROP snapshot_ip_type"
    )
    steps.back()
    assert database.sql("SELECT state FROM pgrunbook.run") == [{"state": "reverted"}]


def test_a_composite_value_of_nulls_is_a_value(
    database: Database, module: Module, phase: Phase
) -> None:
    """IS NULL holds of it, and yet it is not NULL."""
    database.sql(
        "CREATE TYPE pair AS (a int, b int);"
        "CREATE TABLE visit (id int PRIMARY KEY, place text, town pair);"
        "CREATE TABLE place (name text PRIMARY KEY, town pair);"
        "INSERT INTO place VALUES ('a', (1, 2));"
        "INSERT INTO visit SELECT n, 'a' FROM generate_series(1, 200) n;"
        "UPDATE visit SET town = ROW(NULL, NULL) WHERE id <= 50"
    )
    changed = {
        "phase_table": "visit",
        "phase_key": ["id"],
        "phase_columns": [{"name": "town", "type": "pair", "source": "town"}],
        "phase_source_table": "place",
        "phase_source_key": {"place": "name"},
        "phase_indexes": [],
        "phase_queries": [],
    }
    steps = finished(Steps.of(module, database, {**phase, **changed}))
    counted = "SELECT count(*) AS n FROM visit WHERE town::text = %s"
    assert database.sql(counted, ("(1,2)",)) == [{"n": 150}]
    assert give_back(steps)["rows_changed"] == 150
    assert database.sql(counted, ("(,)",)) == [{"n": 50}]


def test_the_end_of_the_window_stops_no_rollback(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what a person does where a run stopped there."""
    monkeypatch.setattr(workers, "window_closed", lambda spec: True)
    plan_back(steps)
    steps.approve("rollback")
    result = steps.do("backfill", state="reverted")
    assert (result["done"], result["stopped"]) == (True, "")
