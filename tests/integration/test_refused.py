# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that the server refuses to fill: they are set aside, all others are filled, and everybody is
told; with more of them than the phase allows the run stops."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg.sql import SQL

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.backfill import statements
from ansible.module_utils.pgrunbook.backfill.strategy import Strategy
from ansible.module_utils.pgrunbook.core import phase as phase_module
from tests.integration.conftest import Database
from tests.integration.small_table import Table
from tests.integration.steps import Module, Result, Steps

BAD = 7  # the source row whose rows are refused: ids 7, 67, 127 … up to 487
IDS = list(range(7, 500, 60))

CHECKED = "ALTER TABLE t ADD CONSTRAINT small CHECK (value <> 'bad')"
RAISES = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.value = 'bad' THEN RAISE 'not today'; END IF; RETURN NEW; END $$;
CREATE {} refuse {} UPDATE ON t {} FOR EACH ROW EXECUTE FUNCTION refuse();
"""
DEFERRED = RAISES.format("CONSTRAINT TRIGGER", "AFTER", "DEFERRABLE INITIALLY DEFERRED")
TOO_LONG = "".join(chr(0x4E00 + n * 7919 % 20000) for n in range(4000))
PRIMARY = "ALTER TABLE t ADD PRIMARY KEY (id)"
NOT_FILLED = "SELECT id FROM t WHERE value IS NULL AND ref BETWEEN 1 AND 50 ORDER BY 1"


def late(
    database: Database, module: Module, *rules: str, value: str = "bad", **options: Any
) -> Steps:
    """The plan is approved; then the source gets a value that the server refuses."""
    table = Table(after=(PRIMARY, *rules), spec=options)
    steps = table.make(database, module)
    steps.begin()
    steps.approve("backfill")
    database.sql("UPDATE s SET value = %s WHERE ref = %s", (value, BAD))
    return steps


def stopped(steps: Steps) -> str:
    """The message of the slice that stops."""
    while "rows_done" in (result := steps.attempt("backfill")):
        assert not result["done"], "it should have stopped"
    assert "Next step" in result["msg"]
    message: str = result["msg"]
    return message


def ids(database: Database) -> list[int]:
    return [row["id"] for row in database.sql(NOT_FILLED)]


def keys(result: Result) -> list[int]:
    return sorted(int(each["key"].strip("[]")) for each in result["refused"])


WAYS = [("interleaved", 1), ("interleaved", 3), ("ranges", 2), ("keyset", 1), ("keyset", 3)]


@pytest.mark.representative
@pytest.mark.parametrize(("strategy", "workers"), WAYS)
def test_all_other_rows_are_filled(
    database: Database, module: Module, strategy: str, workers: int
) -> None:
    steps = late(
        database, module, CHECKED, strategy=strategy, workers=workers, unfillable_max=len(IDS)
    )
    steps.defer()
    result = steps.backfill()
    assert ids(database) == IDS
    assert (result["rows_refused"], keys(result)) == (len(IDS), IDS)
    assert {each["message"] for each in result["refused"]} == {
        'new row for relation "t" violates check constraint "small"'
    }
    total = steps.planned["counts"]["rows_eligible"]
    assert result["rows_done"] == total - len(IDS)
    assert "9 refused" in result["progress"] and "done" in result["progress"]
    assert steps.backfill()["rows_changed"] == 0
    steps.do("run", state="finished")
    assert steps.back()["rows_left_alone"] == 0
    assert database.sql("SELECT count(*)::int AS n FROM t WHERE value IS NOT NULL") == [{"n": 20}]


@pytest.mark.parametrize(
    ("rule", "value", "sqlstate"),
    [
        (CHECKED, "bad", "23514"),
        (RAISES.format("TRIGGER", "BEFORE", ""), "bad", "P0001"),
        (DEFERRED, "bad", "P0001"),
        (
            "CREATE DOMAIN short AS text CHECK (length(VALUE) < 10); ALTER TABLE t ALTER value TYPE"
            " short",
            "much too long",
            "23514",
        ),
        ("ALTER TABLE t ALTER value TYPE varchar(9)", "much too long", "22001"),
        (
            "CREATE TABLE f (value text PRIMARY KEY); INSERT INTO f SELECT value FROM s;"
            " INSERT INTO f VALUES ('kept'); ALTER TABLE t ADD FOREIGN KEY (value) REFERENCES f",
            "bad",
            "23503",
        ),
        (
            "CREATE TABLE f (value text PRIMARY KEY); INSERT INTO f SELECT value FROM s;"
            " INSERT INTO f VALUES ('kept'); ALTER TABLE t ADD FOREIGN KEY (value) REFERENCES f"
            " DEFERRABLE INITIALLY DEFERRED",
            "bad",
            "23503",
        ),
        ("CREATE INDEX ON t (value)", TOO_LONG, "54000"),
    ],
    ids=[
        "check",
        "trigger",
        "deferred trigger",
        "domain",
        "length",
        "foreign key",
        "deferred foreign key",
        "too large for an index",
    ],
)
def test_whatever_refuses_a_row(
    database: Database, module: Module, rule: str, value: str, sqlstate: str
) -> None:
    type = {"22001": "varchar(9)", "23514": "short" if "DOMAIN" in rule else "text"}
    columns = [{"name": "value", "type": type.get(sqlstate, "text"), "source": "value"}]
    steps = late(
        database,
        module,
        rule,
        value=value,
        unfillable_max=len(IDS),
        acknowledged=["refuse"],
        columns=columns,
    )
    result = steps.backfill()
    assert ids(database) == keys(result) == IDS
    assert {each["sqlstate"] for each in result["refused"]} == {sqlstate}


def test_a_unique_value_is_given_to_one_row(database: Database, module: Module) -> None:
    unique = "CREATE UNIQUE INDEX ON t (value) WHERE value = 'bad'"
    steps = late(database, module, unique, unfillable_max=10)
    result = steps.backfill()
    assert len(ids(database)) == result["rows_refused"] == len(IDS) - 1
    assert database.sql("SELECT count(*) AS n FROM t WHERE value = 'bad'") == [{"n": 1}]


def test_by_default_the_first_one_stops_the_run_which_goes_on_once_it_is_mended(
    database: Database, module: Module
) -> None:
    steps = late(database, module, CHECKED)
    message = stopped(steps)
    assert "1 row of public.t" in message and "[7]" in message and '"small"' in message
    filled = database.sql("SELECT sum(row_count)::int AS n FROM pgrunbook.batch")[0]["n"]
    assert f"{filled} rows were filled and are kept" in message
    assert "phase_unfillable_max" in message and "Failing row" not in message
    steps.do("run", state="failed")
    database.sql("UPDATE s SET value = 'good' WHERE ref = %s", (BAD,))
    again = Steps(module, steps.login, steps.spec)
    again.plan()
    assert again.planned["run"]["id"] == steps.planned["run"]["id"]
    again.approve("plan")
    again.approve("backfill")
    assert again.backfill()["rows_refused"] == 0
    assert ids(database) == []


def test_the_canary_sets_aside_too_and_one_more_than_allowed_stops(
    database: Database, module: Module
) -> None:
    steps = late(
        database, module, CHECKED, unfillable_max=2, canary_rows=90, waive_rollback=True, key=[]
    )
    while not (result := steps.do("backfill", canary=True))["done"]:
        pass
    assert (result["rows_done"], result["rows_refused"]) == (90, 2)
    message = stopped(steps)
    assert "3 rows of public.t" in message and "lets 2 be set aside" in message


FORESEEN = {
    "check": ([CHECKED], {}, "CHECK constraint 'small' of public.t", IDS),
    "check of the whole row": (
        ["ALTER TABLE t ADD CONSTRAINT whole CHECK (t IS NULL OR (t).value <> 'bad')"],
        {},
        "CHECK constraint 'whole' of public.t",
        IDS,
    ),
    "check with a function of the row": (
        [
            "CREATE FUNCTION fine(t) RETURNS bool IMMUTABLE LANGUAGE sql"
            " AS $$ SELECT $1.value <> 'bad' $$",
            "ALTER TABLE t ADD CONSTRAINT fine CHECK (fine(t))",
        ],
        {},
        "CHECK constraint 'fine' of public.t",
        IDS,
    ),
    "check that old rows break": (
        [
            "UPDATE t SET other = 1 WHERE id % 60 = 7",
            "ALTER TABLE t ADD CONSTRAINT old CHECK (other IS NULL) NOT VALID",
        ],
        {},
        "CHECK constraint 'old' of public.t",
        IDS,
    ),
    "generated column": (
        [
            "ALTER TABLE t ADD size int GENERATED ALWAYS AS (length(value)) STORED",
            "ALTER TABLE t ADD CONSTRAINT sized CHECK (size <> 3 OR value LIKE 'v%')",
        ],
        {},
        "CHECK constraint 'sized' of public.t",
        IDS,
    ),
    "generated column that is never NULL": (
        [
            "ALTER TABLE t ADD fine int NOT NULL GENERATED ALWAYS AS"
            " (CASE WHEN value = 'bad' THEN NULL ELSE 1 END) STORED"
        ],
        {},
        "NOT NULL of column 'fine' of public.t",
        IDS,
    ),
    "domains": (
        [
            "CREATE DOMAIN word AS text CHECK (VALUE <> 'bad')",
            "CREATE DOMAIN better AS word CHECK (length(VALUE) > 1)",
            "ALTER TABLE t ALTER value TYPE better",
        ],
        {"columns": [{"name": "value", "type": "better", "source": "value"}]},
        "Constraint 'word_check' of domain word of column 'value'",
        IDS,
    ),
    "length": (
        [
            "UPDATE s SET value = value || ' and more' WHERE ref = 7",
            "ALTER TABLE t ALTER value TYPE varchar(4)",
        ],
        {"columns": [{"name": "value", "type": "varchar(4)", "source": "value"}]},
        "Type varchar(4) of column 'value'",
        IDS,
    ),
    "length of a domain's type": (
        [
            "UPDATE s SET value = value || ' and more' WHERE ref = 7",
            "CREATE DOMAIN word AS varchar(4)",
            "ALTER TABLE t ALTER value TYPE word",
        ],
        {"columns": [{"name": "value", "type": "word", "source": "value"}]},
        "Type word of column 'value'",
        IDS,
    ),
    "length in an array": (
        ["ALTER TABLE t ADD words varchar(4)[]"],
        {
            "columns": [
                {
                    "name": "words",
                    "type": "varchar(4)[]",
                    "source": "ARRAY['v', NULL, CASE ref WHEN 7 THEN 'longer' END]",
                }
            ]
        },
        "Type varchar(4)[] of column 'words'",
        IDS,
    ),
    "bits": (
        ["ALTER TABLE t ADD flags bit(3)"],
        {
            "columns": [
                {
                    "name": "flags",
                    "type": "bit(3)",
                    "source": "CASE ref WHEN 7 THEN B'1' ELSE B'101' END",
                }
            ]
        },
        "Type bit(3) of column 'flags'",
        IDS,
    ),
    "integer": (
        ["ALTER TABLE s ADD n bigint", "UPDATE s SET n = CASE WHEN ref = 7 THEN 1e10 ELSE 1 END"],
        {"columns": [{"name": "other", "type": "int", "source": "n"}]},
        "Type int of column 'other'",
        IDS,
    ),
    "numeric": (
        [
            "ALTER TABLE t ADD rate numeric(4,2); UPDATE t SET rate = 1 WHERE ref = 8",
            "ALTER TABLE s ADD n numeric",
            "UPDATE s SET n = CASE WHEN ref IN (7, 8) THEN 99.996 ELSE 99.994 END",
        ],
        {"columns": [{"name": "rate", "type": "numeric(4,2)", "source": "n"}]},
        "Type numeric(4,2) of column 'rate'",
        IDS,
    ),
    "foreign key": (
        [
            "CREATE TABLE f (value text PRIMARY KEY)",
            "INSERT INTO f SELECT value FROM s WHERE ref <> 7 UNION SELECT 'kept'",
            "ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (value) REFERENCES f",
        ],
        {},
        "Foreign key 'known' of public.t",
        IDS,
    ),
    "foreign key, MATCH FULL": (
        [
            "CREATE TABLE f (value text, n int, PRIMARY KEY (value, n))",
            "INSERT INTO f SELECT value, 1 FROM s",
            "UPDATE t SET other = 1 WHERE id % 60 <> 7 AND value IS NULL",
            "UPDATE t SET value = NULL, ref = NULL WHERE value IS NOT NULL",
            "ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (value, other) REFERENCES f"
            " MATCH FULL NOT VALID",
        ],
        {},
        "Foreign key 'known' of public.t",
        IDS,
    ),
    "unique": (
        ["CREATE UNIQUE INDEX single ON t (lower(value)) WHERE value = 'bad'"],
        {},
        "Unique index 'single'",
        IDS[1:],
    ),
    "unique, and one has it": (
        [
            "UPDATE t SET value = 'bad' WHERE id = 25",
            "CREATE UNIQUE INDEX single ON t (value) WHERE value = 'bad'",
        ],
        {},
        "Unique index 'single'",
        IDS,
    ),
    "a foreign key to the table itself": (
        [
            "ALTER TABLE t ADD word text UNIQUE; UPDATE t SET word = 'v' || id WHERE id <> 7",
            "ALTER TABLE t ADD CONSTRAINT own FOREIGN KEY (value) REFERENCES t (word) NOT VALID",
        ],
        {},
        "Foreign key 'own' of public.t",
        IDS,
    ),
    "unique, nulls too": (
        [
            "UPDATE t SET ref = 7 WHERE id % 60 = 7",
            "UPDATE t SET value = 'x' || id WHERE id % 60 <> 7",
            "UPDATE t SET other = id WHERE id = 487",
            "CREATE UNIQUE INDEX single ON t (other, value) NULLS NOT DISTINCT"
            " WHERE value IS NOT NULL",
        ],
        {},
        "Unique index 'single'",
        IDS[1:-1],
    ),
}


@pytest.mark.parametrize("case", FORESEEN, ids=list(FORESEEN))
def test_the_plan_foresees_what_the_server_then_refuses(
    any_database: Database, module: Module, case: str
) -> None:
    rules, options, what, refused = FORESEEN[case]
    bad = f"UPDATE s SET value = 'bad' WHERE ref = {BAD} AND {'more' not in str(rules)}"
    table = Table(after=(PRIMARY, *rules), spec=options)
    steps = table.make(any_database, module)
    any_database.sql(bad)
    message = steps.refused("plan")
    assert what in message and f"refuse {len(refused)} of the rows to fill" in message
    assert "phase_unfillable_max" in message
    assert "refuse" in steps.refused("plan", check=True)

    steps.spec["unfillable_max"] = len(refused)
    planned = steps.plan()
    (found,) = planned["refused"]
    assert (found["what"], found["rows"], len(found["keys"])) == (what, len(refused), 5)
    assert f"{len(refused)} would be set aside" in planned["text"]
    steps.begin()
    steps.approve("backfill")
    result = steps.backfill()
    assert result["rows_refused"] == len(refused)
    if not case.startswith("unique"):
        assert keys(result) == refused and {int(k.strip("[]")) for k in found["keys"]} <= set(
            refused
        )
    assert result["rows_done"] == planned["counts"]["rows_eligible"] - len(refused)
    compared = gate(steps.do("data_gates"), "comparison")["evidence"]
    assert (compared["refused"], compared["missing"]) == (len(refused), 0)


def gate(result: Result, id: str) -> Result:
    (found,) = [check for check in result["checks"] if check["id"] == id]
    return found


def test_gates_status_and_record_count_them_apart(database: Database, module: Module) -> None:
    steps = late(database, module, CHECKED, unfillable_max=len(IDS), accuracy_min=95.5)
    steps.backfill()
    measured = steps.do("data_gates")
    left, compared = gate(measured, "remaining"), gate(measured, "comparison")
    assert left["status"] == "pass" and left["evidence"]["left"] == 0
    assert left["measured"] == "0, and 9 that the server refuses, which are set aside"
    assert compared["status"] == gate(measured, "accuracy")["status"] == "pass"
    assert compared["evidence"]["refused"] == len(IDS) and compared["evidence"]["missing"] == 0
    assert gate(measured, "coverage")["measured"] == "value 82.8 %", "of all rows"
    history = steps.do("run", state="running")["history"]
    assert (history["rows_refused"], keys(history)) == (len(IDS), IDS)
    steps.do("run", state="finished")
    total = steps.planned["counts"]["rows_eligible"]
    assert f"{total - 9} of {total} rows (9 refused)" in steps.do("run_info")["text"]
    later = {"unfilled_max": 0, "grace_seconds": 0.1}
    steps.planned = {}
    assert gate(steps.do("data_gates", **later), "remaining")["status"] == "pass"
    database.sql("UPDATE t SET value = NULL WHERE id = 1")
    missed = gate(steps.do("data_gates", **later), "remaining")
    assert missed["status"] == "fail" and missed["evidence"]["unfilled"] == 1


def test_one_plan_names_every_constraint_and_what_nobody_can_foresee(
    database: Database, module: Module
) -> None:
    rules = [
        CHECKED,
        "CREATE SEQUENCE calls; CREATE FUNCTION lucky(text) RETURNS bool VOLATILE LANGUAGE plpgsql"
        " AS $$ BEGIN RETURN $1 <> 'bad' OR nextval('calls') > 0; END $$",
        "ALTER TABLE t ADD CONSTRAINT lucky CHECK (lucky(value))",
        "ALTER TABLE t ADD CONSTRAINT apart EXCLUDE USING hash (value WITH =)"
        " WHERE (value = 'bad')",
        RAISES.format("TRIGGER", "BEFORE", ""),
        "CREATE UNIQUE INDEX single ON t (value) WHERE value = 'bad'",
    ]
    steps = Table(
        after=(PRIMARY, *rules), spec={"acknowledged": ["refuse"], "unfillable_max": 16}
    ).make(database, module)
    database.sql("UPDATE s SET value = 'bad' WHERE ref = 7")
    message = steps.refused("plan")
    assert "There are 2 obstacles" in message
    assert "'small'" in message and "'single'" in message and "at least 17" in message
    steps.spec["unfillable_max"] = 17
    plan = steps.plan()
    assert plan["unforeseen"] == [
        "CHECK constraint 'lucky' of public.t (something in it is volatile)",
        "exclusion constraint 'apart'",
        "trigger 'refuse'",
    ]
    assert "not foreseen" in plan["text"] and plan["proof"] == {"read_only": True, "xid": None}


def test_constraints_of_a_partition_count_too(database: Database, module: Module) -> None:
    rules = [
        "ALTER TABLE t RENAME TO low",
        "CREATE TABLE t (LIKE low) PARTITION BY RANGE (id)",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE t ATTACH PARTITION low FOR VALUES FROM (0) TO (10000)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (10000) TO (20000)",
        "INSERT INTO t (id, ref) SELECT id + 10000, ref FROM low",
        "ALTER TABLE high ADD CONSTRAINT small CHECK (value <> 'bad')",
    ]
    steps = Table(after=(PRIMARY, *rules), spec={"unfillable_max": 9}).make(database, module)
    database.sql("UPDATE s SET value = 'bad' WHERE ref = 7")
    (found,) = steps.plan()["refused"]
    assert (found["what"], found["rows"]) == ("CHECK constraint 'small' of public.high", 9)
    steps.begin()
    steps.approve("backfill")
    assert keys(steps.backfill()) == [id + 10000 for id in IDS]


def test_what_a_partition_has_from_its_parent_counts_where_it_is_the_table_itself(
    any_database: Database, module: Module
) -> None:
    rules = [
        "CREATE TABLE f (value text PRIMARY KEY) PARTITION BY LIST (value)",
        "CREATE TABLE f_bad PARTITION OF f FOR VALUES IN ('v9')",
        "CREATE TABLE f_rest PARTITION OF f DEFAULT",
        "INSERT INTO f SELECT value FROM s WHERE ref <> 8 UNION SELECT 'kept'",
        "CREATE TABLE every (LIKE t) PARTITION BY RANGE (id)",
        "ALTER TABLE every ATTACH PARTITION t FOR VALUES FROM (0) TO (10000)",
        "ALTER TABLE every ADD CONSTRAINT known FOREIGN KEY (value) REFERENCES f",
        "ALTER TABLE every ADD CONSTRAINT small CHECK (value <> 'v7')",
    ]
    steps = Table(after=(PRIMARY, *rules), spec={"unfillable_max": 18}).make(any_database, module)
    found = {each["what"]: each["rows"] for each in steps.plan()["refused"]}
    assert found == {
        "CHECK constraint 'small' of public.t": 9,
        "Foreign key 'known' of public.t": 9,
    }


@pytest.mark.parametrize("waived", [False, True])
def test_the_plan_says_that_a_trigger_fires_in_a_rollback_too(
    database: Database, module: Module, waived: bool
) -> None:
    rule = RAISES.format("TRIGGER", "BEFORE", "")
    options = {"acknowledged": ["refuse"], "waive_rollback": waived}
    steps = Table(after=(PRIMARY, rule), spec=options).make(database, module)
    told = " ".join(steps.plan()["text"].split())
    assert "Trigger refuse fires for every row that is filled" in told
    assert ("again for every row that a rollback gives back" in told) != waived


@pytest.mark.parametrize("aside", [False, True])
def test_a_batch_asks_for_rows_that_are_set_aside_only_where_there_are_some(
    database: Database, module: Module, aside: bool
) -> None:
    steps = Table(after=(PRIMARY,)).make(database, module)
    steps.plan()
    steps.approve("plan")
    with database.connect() as conn:
        spec = phase_module.parse(steps.spec)
        info = catalog.inspect(conn, spec.table)
        (statement,) = statements.batch_statements(spec, info, Strategy("ranges")).values()
        place = {"first": 0, "last": 9, "passes": 1, "pass": 0, "most": 9, "sweep": 0}
        query = SQL("EXPLAIN {}").format(statement)
        plan = str(conn.execute(query, {**place, "aside": aside, "run": "x"}).fetchall())
    assert ("unfillable" in plan) == aside


def test_many_refused_rows_do_not_bloat_the_table(database: Database, module: Module) -> None:
    """What a refused batch had written stays as dead rows, so batches become smaller where many
    rows are refused."""
    table = Table(rows=3000, after=(PRIMARY, CHECKED), spec={"unfillable_max": 150})
    table.spec |= {"batch_rows": 1000}
    steps = table.make(database, module)
    database.sql("UPDATE s SET value = 'bad' WHERE ref IN (7, 27, 47)")
    steps.begin()
    steps.approve("backfill")
    result = steps.backfill()
    assert result["rows_refused"] == 150
    written = "SELECT n_tup_upd::int AS n FROM pg_stat_user_tables WHERE relname = 't'"
    assert database.sql(written)[0]["n"] < 4 * result["rows_done"]
