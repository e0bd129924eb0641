# SPDX-License-Identifier: GPL-3.0-or-later
"""A column of the wrong type is converted without a rewrite, its values are moved, and a rollback
gives everything back as it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier

from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps, content

Phase = dict[str, Any]
Playbook = Callable[..., Played]

TABLE = ("public", "session_summaries")
OLD, NEW, KEPT = "snapshot_ip_types", "snapshot_ip_type", "snapshot_ip_type_before_phase3"
FIRST = "(SELECT session_id FROM session_summaries ORDER BY session_id LIMIT 20)"


def as_array(database: Database, column: str = OLD) -> None:
    """Give the column the type that production was found to have, and no value."""
    database.sql(f"ALTER TABLE session_summaries ALTER COLUMN {column} TYPE text[] USING NULL")


def converting(phase: Phase) -> Phase:
    """The phase with the conversion of its third column."""
    *others, column = phase["phase_columns"]
    conversion = {"converted_from": "text[]", "using": "{snapshot_ip_type}[1]"}
    queries = [{**query, "enforce": False} for query in phase["phase_queries"]]
    columns = [*others, {**column, **conversion}]
    return {**phase, "phase_columns": columns, "phase_queries": queries}


@pytest.fixture
def steps(module: Module, database: Database, phase: Phase) -> Steps:
    as_array(database)
    return Steps.of(module, database, converting(phase))


def columns(database: Database) -> dict[str, str]:
    rows = database.sql(
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute"
        " WHERE attrelid = 'session_summaries'::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attname LIKE 'snapshot%'"
    )
    return {row["attname"]: row["type"] for row in rows}


def file_of(database: Database) -> int:
    """Which file the table is in: a rewrite gives it another one."""
    found: int = database.sql("SELECT pg_relation_filenode('session_summaries') AS n")[0]["n"]
    return found


def give_values(database: Database, column: str = OLD) -> None:
    """Twenty rows with a value that the source does not have; five are empty arrays, and five have
    no source row."""
    database.sql(
        f"UPDATE session_summaries SET {column} = ARRAY['OLD', 'second']"
        f" WHERE session_id IN {FIRST};"
        "ALTER TABLE session_summaries DROP CONSTRAINT IF EXISTS fk_session_source_ip;"
        f"UPDATE session_summaries SET {column} = '{{}}' WHERE session_id IN {FIRST}"
        f" AND session_id IN (SELECT session_id FROM session_summaries WHERE session_id IN {FIRST}"
        "  ORDER BY session_id LIMIT 5);"
        "UPDATE session_summaries SET source_ip = NULL WHERE session_id IN"
        f" (SELECT session_id FROM session_summaries WHERE session_id IN {FIRST}"
        "   ORDER BY session_id DESC LIMIT 5)"
    )


def test_an_empty_column_is_replaced_without_a_rewrite_and_comes_back(
    steps: Steps, database: Database
) -> None:
    before, file = content(database, TABLE), file_of(database)
    steps.forward()
    assert columns(database) == {
        "snapshot_asn": "integer",
        "snapshot_country": "character varying(2)",
        NEW: "text",
        KEPT: "text[]",
    }
    assert file_of(database) == file
    wrong = database.sql(
        "SELECT count(*) AS n FROM session_summaries s JOIN ip_inventory i"
        f" ON i.ip_address = s.source_ip WHERE s.{NEW} IS DISTINCT FROM i.ip_type"
    )
    assert wrong[0]["n"] == 0
    indexes = {r["indexname"]: r["indexdef"] for r in database.sql("SELECT * FROM pg_indexes")}
    assert f"({NEW})" in indexes["ix_session_summaries_snapshot_ip_type"]
    assert f"({KEPT})" in indexes["ix_session_summaries_snapshot_ip_types"]

    steps.plan()
    assert not steps.planned["needed"], "a second run has nothing to do"
    run = steps.planned["run"]
    steps.planned["run"] = {**run, "id": _latest(database)}
    steps.back()
    assert content(database, TABLE) == before
    assert file_of(database) == file


def _latest(database: Database) -> str:
    runs = database.sql("SELECT id FROM pgrunbook.run ORDER BY started_at DESC LIMIT 1")
    return str(runs[0]["id"])


def test_the_plan_and_a_dry_run_say_what_happens_and_write_nothing(
    steps: Steps, database: Database
) -> None:
    before = database.fingerprint()
    text = " ".join(steps.plan()["text"].split())
    assert f"{OLD} holds no value, so there is none to move" in text
    assert f"{KEPT}, as it was, until somebody drops it" in text
    assert f'ADD COLUMN "{NEW}" text' in text and "no rewrite" in text
    dry = steps.do("column", check=True)
    assert dry["changed"] and dry["proof"] == {"read_only": True, "xid": None}
    assert f"{NEW}: text\n" in dry["diff"]["after"] and f"{KEPT}: text[]\n" in dry["diff"]["after"]
    assert steps.do("index", check=True, actions=["rename", "build"])["changed"]
    assert steps.do("backfill", check=True)["rows_changed"] > 0
    assert database.fingerprint() == before
    steps.approve("plan")
    done = steps.do("column")
    assert done["schema"]["columns"] == dry["schema"]["columns"]
    assert done["queries"] == dry["queries"]


def test_values_are_moved_only_when_acknowledged_and_win_over_the_source(
    steps: Steps, database: Database
) -> None:
    give_values(database)
    said = steps.refused("plan")
    assert "holds 20 values" in said and "makes 5 NULL" in said
    assert f"list {OLD} in phase_acknowledged" in said
    steps.spec |= {"acknowledged": [OLD], "queries": []}  # their results differ from the source's
    before = content(database, TABLE)
    text = " ".join(steps.plan()["text"].split())
    assert "holds 20 values, which the backfill moves" in text
    counts = steps.planned["counts"]
    assert counts["rows_eligible"] + sum(counts["rows_skipped"].values()) == counts["rows_total"]
    steps.forward()
    moved = database.sql(
        f"SELECT {NEW} AS now, {KEPT} AS before, source_ip IS NULL AS alone"
        f" FROM session_summaries WHERE {KEPT} IS NOT NULL"
    )
    assert len(moved) == 20
    assert {r["now"] for r in moved if r["before"]} == {"OLD"}
    assert all(r["now"] != "OLD" for r in moved if not r["before"])
    assert {r["now"] for r in moved if r["alone"]} == {"OLD"}
    steps.back()
    assert content(database, TABLE) == before


def test_what_the_plan_says_of_old_values_is_what_becomes_of_them_and_of_their_gates(
    steps: Steps, database: Database
) -> None:
    """Twenty old values, of which five are converted to NULL; two of these five have no source row,
    and neither have five others."""
    give_values(database)
    database.sql(
        "UPDATE session_summaries SET source_ip = NULL WHERE session_id IN (SELECT session_id"
        f" FROM session_summaries WHERE {OLD} = '{{}}' ORDER BY session_id LIMIT 2)"
    )
    database.sql("UPDATE ip_inventory SET ip_type = 'VPN' WHERE ip_type IS NULL")
    steps.spec |= {"acknowledged": [OLD], "queries": []}
    text = " ".join(steps.plan()["text"].split())
    (said,) = steps.planned["conversions"]
    foreseen = ("values", "from_source", "become_null", "differ")
    assert [said[key] for key in foreseen] == [20, 3, 2, 10]
    assert (
        "holds 20 values, which the backfill moves (acknowledged); 5 of them give NULL by "
        "{snapshot_ip_type}[1]: 3 are filled from the source, 2 become NULL; 10 of those that are "
        "kept differ from the source" in text
    )
    steps.forward()
    (found,) = database.sql(
        "SELECT count(*) AS values,"
        f" count({NEW}) FILTER (WHERE {KEPT} = '{{}}') AS from_source,"
        f" count(*) FILTER (WHERE {NEW} IS NULL) AS become_null,"
        f" count(*) FILTER (WHERE {NEW} <> ip_type) AS differ FROM session_summaries"
        f" LEFT JOIN ip_inventory ON ip_address = source_ip WHERE {KEPT} IS NOT NULL"
    )
    assert found == {key: said[key] for key in foreseen}

    (with_source,) = database.sql(
        "SELECT count(*) AS n FROM session_summaries JOIN ip_inventory ON ip_address = source_ip"
    )
    rows = with_source["n"]
    for how, compared, different in (
        ("apart", rows - 10, 0),
        ("differ", rows, 10),
        ("equal", rows + 5, 0),
    ):
        steps.spec["kept_values"] = how
        gates = {c["id"]: c for c in steps.do("data_gates")["checks"]}
        evidence = gates["comparison"]["evidence"]
        assert (evidence["kept"], evidence["kept_alone"], evidence["drifted"]) == (10, 5, 0)
        assert (evidence["compared"], evidence["different"]) == (compared, different)
        assert evidence["matched"] == compared - different
        assert "10 rows keep an old value that differs from the source" in str(
            gates["comparison"]["measured"]
        )
        assert "rows keep an old value" in str(gates["accuracy"]["measured"])
    database.sql(f"UPDATE session_summaries SET {NEW} = 'X' WHERE {KEPT}[1] = 'OLD'")
    evidence = {c["id"]: c for c in steps.do("data_gates")["checks"]}["comparison"]["evidence"]
    assert (evidence["kept"], evidence["different"]) == (0, 15), "what is kept no more is wrong"


@pytest.mark.parametrize(("how", "status"), [("apart", "pass"), ("differ", "fail")])
def test_a_canary_that_keeps_old_values_only_is_judged_as_the_phase_says(
    steps: Steps, database: Database, how: str, status: str
) -> None:
    database.sql(f"UPDATE session_summaries SET {OLD} = ARRAY['OLD']")
    *_, column = steps.spec["columns"]
    steps.spec |= {
        "acknowledged": [OLD],
        "queries": [],
        "columns": [column],
        "indexes": [],
        "kept_values": how,
    }
    steps.begin()
    steps.backfill(canary=True)
    checks = steps.do("data_gates", canary_of=steps.planned["run"]["id"])["checks"]
    assert checks[0]["status"] == status, checks[0]
    assert checks[0]["evidence"]["kept"] > 90


def test_a_column_with_the_right_name_and_indexes_of_the_right_names(
    module: Module, database: Database, phase: Phase
) -> None:
    database.sql(
        f"ALTER TABLE session_summaries RENAME COLUMN {OLD} TO {NEW};"
        "ALTER INDEX ix_session_summaries_snapshot_ip_types"
        " RENAME TO ix_session_summaries_snapshot_ip_type;"
        "CREATE INDEX ix_session_summaries_snapshot_country_ip_type"
        f" ON session_summaries (snapshot_country, {NEW})"
    )
    as_array(database, NEW)
    steps = Steps.of(module, database, converting(phase))
    before = content(database, TABLE)
    steps.forward()
    assert columns(database)[NEW] == "text"
    assert columns(database)[KEPT] == "text[]"
    steps.back()
    assert content(database, TABLE) == before


def test_names_are_quoted(steps: Steps, database: Database) -> None:
    odd, indexed = 'Ip "Type" of Mine', "Ix of Mine"
    *others, column = steps.spec["columns"]
    using = f"{{{odd}}}[1]"
    steps.spec |= {
        "columns": [*others, {**column, "name": odd, "using": using}],
        "indexes": [{"name": indexed, "columns": [odd]}],
        "queries": [],
    }
    before = content(database, TABLE)
    steps.forward()
    filled = database.sql(
        SQL("SELECT count({}) AS n FROM session_summaries").format(Identifier(odd))
    )
    assert filled[0]["n"] > 2000
    steps.back()
    assert content(database, TABLE) == before


REFUSED = {
    "default": (
        f"ALTER TABLE session_summaries ALTER {OLD} SET DEFAULT '{{}}'",
        {},
        "has a default",
    ),
    "privileges": (f"GRANT SELECT ({OLD}) ON session_summaries TO PUBLIC", {}, "privileges"),
    "taken": (f"ALTER TABLE session_summaries ADD {KEPT} int", {}, f"{KEPT!r} that this needs"),
    "third type": (
        f"ALTER TABLE session_summaries ALTER {OLD} TYPE int[] USING NULL",
        {},
        "is integer[]; the phase expects text",
    ),
    "view": (
        f"CREATE VIEW seen AS SELECT {OLD} FROM session_summaries",
        {},
        "would leave view public.seen behind",
    ),
    "function": (
        "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql AS"
        f" 'SELECT count({OLD}) FROM session_summaries'",
        {},
        "would leave function f() behind",
    ),
    "syntax": ("", {"using": "{snapshot_ip_type}["}, "cannot convert column"),
    "type": ("", {"using": "cardinality({snapshot_ip_type})"}, "cannot convert column"),
    "placeholder": ("", {"using": f"{{{OLD}}}[1]"}, "use {snapshot_ip_type} for the column"),
    "half": ("", {"using": None}, "needs both"),
}


@pytest.mark.parametrize(("prepare", "changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_a_conversion_would_lose_is_refused(
    steps: Steps, database: Database, prepare: str, changes: Phase, said: str
) -> None:
    if prepare:
        database.sql(prepare)
    *others, column = steps.spec["columns"]
    steps.spec["columns"] = [*others, {**column, **changes}]
    before = database.fingerprint()
    assert said in steps.refused("plan")
    assert database.fingerprint() == before


def test_a_using_that_writes_is_refused(steps: Steps, database: Database) -> None:
    database.sql(
        "CREATE TABLE seen (v text[]);"
        "CREATE FUNCTION public.note(v text[]) RETURNS text LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO public.seen VALUES (v); RETURN v[1]; END'"
    )
    *others, column = steps.spec["columns"]
    steps.spec["columns"] = [*others, {**column, "using": "public.note({snapshot_ip_type})"}]
    steps.spec["acknowledged"] = ["note()"]
    assert "it tries to write" in steps.refused("plan")


def test_what_is_left_behind_can_be_acknowledged_and_comes_back(
    steps: Steps, database: Database
) -> None:
    database.sql(f"CREATE VIEW seen AS SELECT session_id, {OLD} FROM session_summaries")
    steps.spec["acknowledged"] = ["public.seen"]
    before = content(database, TABLE)
    text = " ".join(steps.plan()["text"].split())
    assert "public.seen" in text and "stays on the column that is put aside" in text
    steps.forward()
    steps.back()
    assert content(database, TABLE) == before


def test_values_that_came_later_are_kept_by_a_rollback(steps: Steps, database: Database) -> None:
    steps.forward()
    database.sql(
        f"INSERT INTO session_summaries (session_id, {NEW}) VALUES ('arrived later', 'VPN')"
    )
    steps.plan(rollback_of=steps.planned["run"]["id"])
    steps.approve("rollback")
    steps.backfill(state="reverted")
    steps.do("index", state="reverted")
    done = steps.do("column", state="reverted")
    warning = json.dumps(done["warnings"])
    assert "1 rows of public.session_summaries hold values" in warning
    assert "snapshot_ip_type_after_phase3" in warning
    (shown,) = re.findall(r'then (SET .*?;)"', warning)
    assert shown.startswith("SET lock_timeout = '") and "DROP COLUMN" in shown
    assert columns(database)[OLD] == "text[]"
    kept = database.sql(
        "SELECT session_id FROM session_summaries WHERE snapshot_ip_type_after_phase3 IS NOT NULL"
    )
    assert [row["session_id"] for row in kept] == ["arrived later"]


def test_an_undo_that_was_broken_off_is_finished(steps: Steps, database: Database) -> None:
    before = content(database, TABLE)
    steps.begin()
    database.sql(steps.planned["plan"]["steps"][1]["undo"][0])
    assert steps.do("column", state="reverted")["changed"]
    assert content(database, TABLE) == before
    assert not steps.do("column", state="reverted")["changed"]


def test_the_comparison_and_the_report_tell_of_it(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    as_array(database)
    steps = Steps.of(module, database, converting(phase))
    said = " ".join(steps.do("drift", models=phase["phase_models"])["text"].split())
    assert "as text, the database as text[]: this phase converts it" in said
    assert "in its step Rename the column" not in said and "has the same as" not in said
    told = steps.report(tmp_path, models=phase["phase_models"])
    assert told["verdict"] == "GO"
    (made,) = [change for change in told["changes"] if change["step"] == "convert"]
    assert made["recorded"] == 1 and KEPT in made["statements"][0]["sql"]
    assert any(f'DROP COLUMN "{KEPT}";' in risk["mitigation"] for risk in told["risks"])
    assert any("converts snapshot_ip_type from text[] to text" in s for s in told["summary"])
