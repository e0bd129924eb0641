# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way the engine takes on which table, what that does to indexes, and what it refuses."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from ansible.module_utils.pgrunbook import backfill, ledger, supervisor
from ansible.module_utils.pgrunbook import plan as plan_module
from ansible.module_utils.pgrunbook import spec as spec_module
from ansible.module_utils.pgrunbook.connection import connect
from ansible.module_utils.pgrunbook.load import horizon_holder
from demo import data
from tests.integration.conftest import Database
from tests.integration.steps import Module, Steps, content
from tests.integration.test_backfill import die

Phase = dict[str, Any]

TABLES = (("public", "session_summaries"), ("public", "ip_inventory"))
INDEXES = "SELECT indexrelid::regclass::text AS name FROM pg_index WHERE indrelid = %s::regclass"


@dataclass
class Table:
    """A small table t (id, ref, value, other, pad and what is asked for) with its source s."""

    rows: int = 500
    columns: str = ""
    options: str = ""
    key: tuple[str, ...] = ("id",)
    after: tuple[str, ...] = ("ALTER TABLE t ADD PRIMARY KEY (id)",)
    spec: dict[str, Any] = field(default_factory=dict)

    def make(self, database: Database, module: Module) -> Steps:
        for statement in (
            "CREATE TABLE s (ref int PRIMARY KEY, value text)",
            "INSERT INTO s SELECT i, 'v' || i FROM generate_series(1, 50) i",
            "CREATE TABLE t (id int, ref int, value text, other int,"
            f" pad text DEFAULT repeat('x', 100) {self.columns}) {self.options}",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            f" CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, {self.rows}) i",
            *self.after,
            "VACUUM (ANALYZE) t",
        ):
            database.sql(statement)
        return Steps(module, database.login, self.options_of_the_phase())

    def options_of_the_phase(self) -> dict[str, Any]:
        defaults = {n: o["default"] for n, o in spec_module.SPEC_OPTIONS.items() if "default" in o}
        return {
            **defaults,
            "phase": "small",
            "table": "t",
            "key": list(self.key),
            "columns": [{"name": "value", "type": "text", "source": "value"}],
            "source_table": "s",
            "source_key": {"ref": "ref"},
            "batch_rows": 50,
            "lock_tries": 2,
            **self.spec,
        }


RIGHT = (
    "SELECT count(*) AS n FROM t LEFT JOIN s USING (ref)"
    " WHERE t.value IS DISTINCT FROM CASE WHEN id % 25 = 0 THEN 'kept' ELSE s.value END"
)


def fill(steps: Steps) -> dict[str, Any]:
    steps.begin()
    steps.approve("backfill")
    steps.defer()
    result = steps.backfill()
    steps.build()
    steps.do("run", state="finished")
    return result


def all_right(database: Database) -> None:
    assert database.sql(RIGHT) == [{"n": 0}]


INDEX = {"name": "t_value", "columns": ["value"]}
ON_VALUE = ("ALTER TABLE t ADD PRIMARY KEY (id)", "CREATE INDEX t_value ON t (value)")

CHOICES = {
    "full pages": (Table(rows=30_000), "interleaved", "rows a page"),
    "few rows": (Table(rows=500), "ranges", "fewer than 20,000 rows"),
    "room on every page": (
        Table(rows=30_000, options="WITH (fillfactor = 40)"),
        "ranges",
        "room for every new row version",
    ),
    "too many rows a page": (
        Table(
            rows=30_000,
            key=(),
            spec={"waive_rollback": True},
            after=("ALTER TABLE t DROP pad", "VACUUM FULL t"),
        ),
        "ranges",
        "line pointers",
    ),
    "one row a page": (
        Table(
            rows=300,
            columns=", wide text DEFAULT repeat(md5(random()::text), 160)",
            after=(
                "ALTER TABLE t ALTER wide SET STORAGE PLAIN",
                "TRUNCATE t",
                "INSERT INTO t (id, ref) SELECT i, i % 60 FROM generate_series(1, 300) i",
                "ALTER TABLE t ADD PRIMARY KEY (id)",
            ),
        ),
        "ranges",
        "fewer than two rows a page",
    ),
    "an index of the phase": (
        Table(rows=30_000, after=ON_VALUE, spec={"indexes": [INDEX]}),
        "interleaved",
        "t_value is built again",
    ),
    "an index that queries use": (
        Table(
            rows=42_000,
            after=(*ON_VALUE, "UPDATE t SET value = 'x' WHERE id % 3 = 0", "VACUUM FULL t"),
            spec={"indexes": [INDEX]},
        ),
        "ranges",
        "queries may use t_value",
    ),
    "an index of somebody else": (Table(rows=30_000, after=ON_VALUE), "ranges", "t_value cannot"),
    "an index with an option": (
        Table(
            rows=30_000,
            after=(ON_VALUE[0], "CREATE INDEX t_value ON t (value) WITH (fillfactor = 70)"),
            spec={"indexes": [INDEX]},
        ),
        "ranges",
        "t_value cannot",
    ),
    "an index on an expression": (
        Table(rows=30_000, after=(ON_VALUE[0], "CREATE INDEX t_lower ON t (lower(value))")),
        "ranges",
        "t_lower cannot",
    ),
    "an index with a predicate": (
        Table(
            rows=30_000,
            after=(ON_VALUE[0], "CREATE INDEX t_part ON t (other) WHERE value IS NULL"),
        ),
        "ranges",
        "t_part cannot",
    ),
    "nothing to do": (
        Table(
            after=(*ON_VALUE, "UPDATE t SET value = 'x'"),
            spec={"strategy": "interleaved", "indexes": [INDEX]},
        ),
        "ranges",
        "no row is to be filled",
    ),
    "asked for keyset": (Table(spec={"strategy": "keyset"}), "keyset", "the phase asks"),
    "asked for ranges": (Table(rows=30_000, spec={"strategy": "ranges"}), "ranges", "asks"),
    "asked for interleaved": (Table(spec={"strategy": "interleaved"}), "interleaved", "asks"),
}


@pytest.mark.parametrize(("table", "name", "why"), CHOICES.values(), ids=CHOICES.keys())
def test_choice_and_its_reason(
    database: Database, module: Module, table: Table, name: str, why: str
) -> None:
    plan = table.make(database, module).plan()
    assert (plan["plan"]["strategy"]["name"], why in plan["why_strategy"]) == (name, True), plan[
        "why_strategy"
    ]
    assert not plan["counts"]["rows_eligible"] or plan["why_strategy"].split(",")[0] in " ".join(
        plan["text"].split()
    )


WAYS = [("interleaved", 1), ("interleaved", 3), ("ranges", 2), ("keyset", 1), ("keyset", 3)]


@pytest.mark.parametrize(("strategy", "workers"), WAYS)
def test_every_way_gives_the_same(
    any_database: Database, module: Module, phase: Phase, strategy: str, workers: int
) -> None:
    """As one UPDATE, each row once in the journal; and back again."""
    before = content(any_database, *TABLES)
    expected = any_database.sql(
        "SELECT session_id, coalesce(snapshot_asn, current_asn) AS asn,"
        " coalesce(snapshot_country, geo_country) AS country,"
        " coalesce(snapshot_ip_types, ip_type) AS type"
        " FROM session_summaries LEFT JOIN ip_inventory ON ip_address = source_ip ORDER BY 1"
    )
    steps = Steps.of(
        module,
        any_database,
        {**phase, "phase_strategy": strategy, "phase_workers": workers, "phase_speedup_min": 0.001},
    )
    steps.forward()
    assert steps.planned["plan"]["strategy"]["name"] == strategy
    assert expected == any_database.sql(
        "SELECT session_id, snapshot_asn AS asn, snapshot_country AS country,"
        " snapshot_ip_type AS type FROM session_summaries ORDER BY 1"
    )
    journal = any_database.sql(
        "SELECT count(*) AS n, count(DISTINCT e ->> 0) AS keys"
        " FROM pgrunbook.batch, jsonb_array_elements(journal) e"
    )
    rows = steps.planned["counts"]["rows_eligible"]
    assert journal == [{"n": rows, "keys": rows}]
    steps.back()
    assert content(any_database, *TABLES) == before


@pytest.mark.parametrize("end", ["built again", "broken off before that", "broken off half-way"])
def test_deferred_indexes_come_back(
    any_database: Database, module: Module, phase: Phase, end: str
) -> None:
    before = content(any_database, *TABLES)
    names = {i["name"] for i in phase["phase_indexes"]}
    steps = Steps.of(module, any_database, {**phase, "phase_strategy": "interleaved"})
    steps.begin()
    assert set(steps.deferred) == names - {"ix_session_summaries_snapshot_country_ip_type"}
    steps.approve("backfill")
    steps.defer()
    left = {row["name"] for row in any_database.sql(INDEXES, ("session_summaries",))}
    assert not left & names and len(left) == 9
    if end == "broken off half-way":
        die(any_database, "INSERT", "(SELECT sum(row_count) FROM pgrunbook.batch) > 1000")
        assert "terminat" in steps.refused("backfill")
        any_database.sql("DROP TRIGGER die ON pgrunbook.batch")
        filled = any_database.sql("SELECT sum(row_count) AS n FROM pgrunbook.batch")[0]["n"]
        assert 0 < filled < steps.planned["counts"]["rows_eligible"]
    else:
        assert steps.backfill()["hot_percent"] is not None
    if end == "built again":
        steps.build()
        left = {row["name"] for row in any_database.sql(INDEXES, ("session_summaries",))}
        assert names <= left
    steps.do("run", state="failed")
    dry = Steps(module, any_database.login, steps.spec, steps.planned)
    dry.plan(rollback_of=steps.planned["run"]["id"])
    foreseen = dry.do("index", state="reverted", check=True)
    steps.back()
    after = content(any_database, *TABLES)
    assert after == before
    assert set(foreseen["schema"]["indexes"]) == {
        row["name"] for row in any_database.sql(INDEXES, ("session_summaries",))
    }


def test_a_run_broken_off_without_its_indexes_goes_on(
    database: Database, module: Module, phase: Phase
) -> None:
    """The next plan builds what is missing, and needs to drop nothing."""
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.begin()
    steps.approve("backfill")
    steps.defer()
    steps.do("run", state="failed")
    again = Steps(module, database.login, steps.spec)
    again.plan()
    assert again.deferred == []
    again.approve("plan")
    again.approve("backfill")
    again.backfill()
    again.build()
    again.gates("check")
    again.do("run", state="finished")
    again.back()
    assert len(database.sql(INDEXES, ("session_summaries",))) == 12


def test_dry_run_shows_the_deferred_indexes(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_strategy": "interleaved"})
    steps.plan()
    before = database.fingerprint()
    dropped = steps.do("index", check=True, actions=["defer"], deferred=steps.deferred)
    built = steps.do("index", check=True, actions=["build"], deferred=steps.deferred)
    assert len(dropped["queries"]) == 3 and len(built["queries"]) == 4
    assert all(query.startswith("DROP INDEX CONCURRENTLY") for query in dropped["queries"])
    assert database.fingerprint() == before


def test_an_index_is_dropped_only_as_approved(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_strategy": "ranges"})
    steps.begin()
    name = phase["phase_indexes"][0]["name"]
    assert "does not hold this statement" in steps.refused(
        "index", actions=["defer"], deferred=[name]
    )


def test_a_long_transaction_is_named_and_ends_the_passes(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps dead rows from being pruned, so that later passes find no room."""
    monkeypatch.setattr(supervisor, "SAMPLE_SECONDS", 0.02)
    steps = Table(rows=42_000, spec={"batch_rows": 2000}).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM s")
        pid = holder.info.backend_pid
        steps.plan()
        steps.approve("plan")
        steps.approve("backfill")
        results = [one_slice(steps)]
        while not results[-1]["done"]:
            results.append(one_slice(steps))
    named = [result for result in results if result["fallback"]]
    assert named and f"pid {pid}" in named[0]["fallback"]
    assert f"single passes, because of pid {pid}" in named[0]["progress"]
    all_right(database)


GROWING = Table(
    rows=42_000,
    after=(
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE t SET (autovacuum_enabled = off)",
        "ALTER TABLE t DROP pad",
        "VACUUM FULL t",
        "UPDATE s SET value = repeat('v', 400)",
    ),
    spec={"batch_rows": 2000, "strategy": "interleaved"},
)


@pytest.mark.parametrize("sees_all", [True, False])
def test_few_heap_only_updates_are_told_with_their_share_and_usual_causes(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch, sees_all: bool
) -> None:
    """Rows grow tenfold, so that later passes find no room, and nobody is in the way."""
    monkeypatch.setattr(supervisor, "SAMPLE_SECONDS", 0.02)
    steps = GROWING.make(database, module)
    if sees_all:
        database.superuser(f"GRANT pg_monitor TO {data.ROLE}")
    try:
        steps.plan()
        steps.approve("plan")
        steps.approve("backfill")
        results = [one_slice(steps)]
        while not results[-1]["done"]:
            results.append(one_slice(steps))
    finally:
        database.superuser(f"REVOKE pg_monitor FROM {data.ROLE}")
    assert steps.planned["heap_only_percent"] < 30
    told = next(result["fallback"] for result in results if result["fallback"])
    share = re.match(r"few heap-only updates \((\d+) % of ([\d,]+) in later passes\); usual ", told)
    assert share and int(share[1]) < 30 and int(share[2].replace(",", "")) >= 2000
    assert "rows that grow by more than their pages have room for" in told
    assert ("may not see" in told) is not sees_all


def test_whoever_has_written_and_waits_holds_the_horizon_too(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two statements a transaction at READ COMMITTED has no snapshot, only its id."""
    monkeypatch.setattr(plan_module, "OLD_TRANSACTION_SECONDS", 0.0)
    steps = Table(rows=30_000).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("INSERT INTO s VALUES (1000, 'x')")
        assert f"pid {holder.info.backend_pid} " in steps.plan()["horizon"]
    assert steps.plan()["horizon"] == ""


def test_a_vacuum_has_a_snapshot_but_does_not_hold_the_horizon(database: Database) -> None:
    shown = (
        "SELECT pid FROM pg_stat_activity a JOIN pg_stat_progress_vacuum v USING (pid)"
        " WHERE backend_xmin IS NOT NULL AND a.datname = current_database()"
    )
    with database.connect(database.server.user) as seen, database.connect() as slow:
        slow.execute("SET vacuum_cost_delay = 50")
        slow.execute("SET vacuum_cost_limit = 1")
        at_work = threading.Thread(target=_until_cancelled, args=(slow, "VACUUM session_summaries"))
        at_work.start()
        while not (found := seen.execute(shown).fetchall()):
            assert at_work.is_alive()
        assert horizon_holder(seen, [seen.info.backend_pid], 0.0) == ""
        for row in found:
            seen.execute("SELECT pg_cancel_backend(%s)", (row["pid"],))
        at_work.join(30)


def _until_cancelled(conn: psycopg.Connection[Any], statement: str) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        conn.execute(statement)


def one_slice(steps: Steps, seconds: int = 1) -> dict[str, Any]:
    spec = replace(spec_module.parse(steps.spec), slice_seconds=seconds)
    with connect(steps.login, name="test", read_only=False, schemas=["public"]) as conn:
        run = ledger.Run(**steps.planned["run"])
        result: dict[str, Any] = backfill.run_slice(conn, spec, run, canary=False)
        return result


def test_the_plan_names_who_holds_the_horizon(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "OLD_TRANSACTION_SECONDS", 0.0)
    steps = Table(rows=30_000).make(database, module)
    with database.connect() as holder, holder.transaction():
        holder.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT count(*) FROM s")
        text = " ".join(steps.plan()["text"].split())
        held = steps.planned["plan_hash"]
        assert f"but pid {holder.info.backend_pid}" in text
    assert "but pid" not in steps.plan()["text"]
    assert steps.planned["plan_hash"] == held


def test_passes_make_updates_heap_only(database: Database, module: Module) -> None:
    steps = Table(rows=42_000, spec={"batch_rows": 5000}).make(database, module)
    assert steps.plan()["plan"]["strategy"]["passes"] == 16
    assert fill(steps)["rows_done"] > 30_000
    hot = database.sql(
        "SELECT sum((body #>> '{detail,hot_percent}')::float8 * (body #>> '{detail,rows_changed}')"
        "::int8) / sum((body #>> '{detail,rows_changed}')::int8) AS percent"
        " FROM pgrunbook.event WHERE body ->> 'kind' = 'progress'"
    )
    assert hot[0]["percent"] > 60
    all_right(database)


SHAPES = {
    "generated column": Table(columns=", loud text GENERATED ALWAYS AS (upper(value)) STORED"),
    "partitioned by list, two levels": Table(
        options="PARTITION BY LIST (ref)",
        key=("id", "ref"),
        after=(
            "CREATE TABLE t_one PARTITION OF t FOR VALUES IN (1, 2, 3)",
            "CREATE TABLE t_rest PARTITION OF t DEFAULT PARTITION BY HASH (id)",
            *(
                f"CREATE TABLE t_rest_{n} PARTITION OF t_rest"
                f" FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
                for n in range(3)
            ),
            "ALTER TABLE t ADD PRIMARY KEY (id, ref)",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            " CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 500) i",
        ),
        rows=0,
    ),
    "partitioned, interleaved, two workers": Table(
        options="PARTITION BY HASH (id)",
        after=(
            *(
                f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER {n})"
                for n in range(2)
            ),
            "ALTER TABLE t ADD PRIMARY KEY (id)",
            "INSERT INTO t (id, ref, value) SELECT i, i % 60,"
            " CASE WHEN i % 25 = 0 THEN 'kept' END FROM generate_series(1, 500) i",
        ),
        rows=0,
        spec={"strategy": "interleaved", "workers": 2},
    ),
    "empty": Table(rows=0),
}


@pytest.mark.parametrize("table", SHAPES.values(), ids=SHAPES.keys())
def test_shapes_of_tables(any_database: Database, module: Module, table: Table) -> None:
    steps = table.make(any_database, module)
    before = content(any_database, ("public", "t"))["rows"]
    fill(steps)
    all_right(any_database)
    if "loud" in table.columns:
        loud = "SELECT count(*) AS n FROM t WHERE loud IS DISTINCT FROM upper(value)"
        assert any_database.sql(loud) == [{"n": 0}]
    if steps.planned["counts"]["rows_eligible"]:
        steps.back()
        assert content(any_database, ("public", "t"))["rows"] == before


def test_without_a_key_and_without_rollback(database: Database, module: Module) -> None:
    steps = Table(key=(), after=(), spec={"waive_rollback": True}).make(database, module)
    steps.begin()
    steps.backfill(canary=True)
    steps.gates("check", canary_of=steps.planned["run"]["id"])
    steps.approve("backfill")
    steps.backfill()
    steps.do("run", state="finished")
    all_right(database)
    message = steps.refused("plan", rollback_of=steps.planned["run"]["id"])
    assert "waived its rollback" in message


TRIGGER = (
    "ALTER TABLE t ADD PRIMARY KEY (id)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.other = 7; RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
)


def test_a_trigger_is_acknowledged_and_fires(database: Database, module: Module) -> None:
    table = Table(after=TRIGGER)
    steps = table.make(database, module)
    assert "Trigger 'touch'" in steps.refused("plan")
    steps.spec["acknowledged"] = ["touch"]
    assert "Trigger touch fires" in steps.plan()["text"]
    fill(steps)
    all_right(database)
    touched = "SELECT count(*) AS n FROM t WHERE other = 7"
    assert database.sql(touched)[0]["n"] == steps.planned["counts"]["rows_eligible"]


@pytest.mark.parametrize(
    "trigger",
    [
        "BEFORE UPDATE OF other ON t FOR EACH ROW",
        "AFTER INSERT ON t FOR EACH ROW",
        "AFTER DELETE OR TRUNCATE ON t FOR EACH STATEMENT",
    ],
)
def test_other_triggers_do_not_matter(database: Database, module: Module, trigger: str) -> None:
    steps = Table(after=(*TRIGGER[:2],)).make(database, module)
    database.sql(f"CREATE TRIGGER other {trigger} EXECUTE FUNCTION touch()")
    assert steps.plan()["plan"]["triggers"] == []


def test_a_batch_that_takes_too_long_is_halved(
    database: Database, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LEAST_TIMEOUT_MS", 150)
    slow = TRIGGER[1].replace("NEW.other = 7", "PERFORM pg_sleep(0.002)")
    steps = Table(
        after=(TRIGGER[0], slow, TRIGGER[2]),
        spec={"acknowledged": ["touch"], "batch_target_ms": 5, "batch_rows": 500},
    ).make(database, module)
    fill(steps)
    all_right(database)
    largest = database.sql("SELECT max(row_count) AS n FROM pgrunbook.batch")[0]["n"]
    assert largest <= 75


REFUSED = {
    "view": (("ALTER TABLE t RENAME TO base", "CREATE VIEW t AS SELECT * FROM base"), {}, "a view"),
    "foreign table": (
        (
            "DROP TABLE t",
            "CREATE FOREIGN DATA WRAPPER dummy",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy",
            "CREATE FOREIGN TABLE t (id int, ref int, value text) SERVER elsewhere",
        ),
        {},
        "a foreign table",
    ),
    "foreign partition": (
        (
            "DROP TABLE t",
            "CREATE TABLE t (id int, ref int, value text) PARTITION BY LIST (ref)",
            "CREATE FOREIGN DATA WRAPPER dummy",
            "CREATE SERVER elsewhere FOREIGN DATA WRAPPER dummy",
            "CREATE FOREIGN TABLE t_far PARTITION OF t DEFAULT SERVER elsewhere",
        ),
        {},
        "public.t_far, a partition of public.t, is a foreign table",
    ),
    "inheritance": (("CREATE TABLE child () INHERITS (t)",), {}, "inherit from public.t"),
    "filling the partition key": (
        (
            "DROP TABLE t",
            "CREATE TABLE t (id int, ref int, value text) PARTITION BY LIST (value)",
            "CREATE TABLE t_all PARTITION OF t DEFAULT",
        ),
        {},
        "partitioned by value",
    ),
    "no key": (("ALTER TABLE t DROP CONSTRAINT t_pkey",), {}, "no unique index on (id)"),
    "keyset without a key": (
        ("ALTER TABLE t DROP CONSTRAINT t_pkey",),
        {"key": [], "waive_rollback": True, "strategy": "keyset"},
        "has no key",
    ),
    "interleaved under a unique index": (
        ("CREATE UNIQUE INDEX u ON t (value, id)",),
        {"strategy": "interleaved"},
        "u cannot be dropped",
    ),
}


@pytest.mark.parametrize(("statements", "spec", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    database: Database, module: Module, statements: tuple[str, ...], spec: Phase, why: str
) -> None:
    steps = Table().make(database, module)
    steps.spec.update(spec)
    for statement in statements:
        database.sql(statement, user=database.server.user)
    for name in ("t", "s"):
        database.superuser(f"GRANT ALL ON {name} TO cowrieprocessor")
    before = database.superuser("SELECT oid FROM pg_class ORDER BY 1")
    assert why in steps.refused("plan")
    assert database.superuser("SELECT oid FROM pg_class ORDER BY 1") == before


def test_ends_although_rows_arrive_all_the_time(database: Database, module: Module) -> None:
    """Each sweep has an end that is fixed when it begins, and so has their number."""
    steps = Table(rows=2000, spec={"batch_rows": 20}).make(database, module)
    steps.begin()
    steps.approve("backfill")
    over = threading.Event()

    def arrive() -> None:
        with database.connect() as conn:
            number = 10_000
            while not over.is_set():
                number += 1
                conn.execute("INSERT INTO t (id, ref) VALUES (%s, %s)", (number, number % 50 + 1))

    thread = threading.Thread(target=arrive)
    thread.start()
    try:
        result = steps.backfill()
    finally:
        over.set()
        thread.join()
    assert result["sweep"] <= backfill.MOST_SWEEPS
    assert database.sql(f"{RIGHT} AND id < 10000") == [{"n": 0}]


def test_the_end_of_a_sweep_does_not_move(database: Database, module: Module) -> None:
    steps = Table(rows=3000, spec={"batch_rows": 20}).make(database, module)
    steps.begin()
    steps.approve("backfill")
    end = "SELECT end_page, sweep FROM pgrunbook.run"
    one_slice(steps, seconds=0)
    first = database.sql(end)
    database.sql("INSERT INTO t (id, ref) SELECT i, 7 FROM generate_series(5001, 9000) i")
    one_slice(steps, seconds=0)
    assert database.sql(end) == first and first[0]["sweep"] == 0
    steps.backfill()
    assert (
        database.sql("SELECT count(*) AS n FROM t WHERE id > 5000 AND value IS NULL")[0]["n"] == 0
    )


def test_a_table_that_was_never_analysed_is_counted(database: Database, module: Module) -> None:
    steps = Table(rows=0).make(database, module)
    database.sql("DROP TABLE t")
    database.sql("CREATE TABLE t (id int PRIMARY KEY, ref int, value text, pad text)")
    database.sql("ALTER TABLE t SET (autovacuum_enabled = off)")
    database.sql(
        "INSERT INTO t SELECT i, i % 50 + 1, NULL, repeat('x', 100)"
        " FROM generate_series(1, 30000) i"
    )
    assert database.sql("SELECT reltuples FROM pg_class WHERE relname = 't'")[0]["reltuples"] < 1
    assert steps.plan()["plan"]["strategy"]["name"] == "interleaved"


def test_a_value_that_is_taken_away_again_ends_the_run(database: Database, module: Module) -> None:
    contrary = TRIGGER[1].replace("NEW.other = 7", "NEW.value = NULL")
    steps = Table(
        after=(TRIGGER[0], contrary, TRIGGER[2]), spec={"acknowledged": ["touch"], "batch_rows": 5}
    ).make(database, module)
    steps.begin()
    steps.approve("backfill")
    assert "takes the value away" in steps.refused("backfill")


def test_rows_move_to_another_partition_under_a_batch(database: Database, module: Module) -> None:
    """PostgreSQL reports that as a serialization failure; the batch is tried again."""
    slow = (
        "CREATE FUNCTION slow(v text) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(0.004); RETURN v; END $$"
    )
    parts = [f"CREATE TABLE t_{n} PARTITION OF t FOR VALUES IN ({n})" for n in range(2)]
    steps = Table(
        rows=0,
        columns=", part int",
        options="PARTITION BY LIST (part)",
        key=("part", "id"),
        after=(
            *parts,
            "ALTER TABLE t ADD PRIMARY KEY (part, id)",
            "INSERT INTO t (part, id, ref) SELECT 0, i, i % 50 + 1 FROM generate_series(1, 200) i",
            slow,
        ),
        spec={"batch_rows": 500},
    ).make(database, module)
    steps.spec["columns"][0]["source"] = "public.slow(value)"
    steps.spec["acknowledged"] = ["slow()"]
    steps.plan()
    steps.approve("plan")
    steps.approve("backfill")

    def move() -> None:
        at_work = (
            "SELECT FROM pg_stat_activity WHERE query LIKE 'WITH picked%' AND state = 'active'"
        )
        with database.connect() as conn:
            while not conn.execute(at_work).rowcount:
                pass
            conn.execute("UPDATE t SET part = 1 WHERE id > 190")

    mover = threading.Thread(target=move)
    mover.start()
    steps.backfill()
    mover.join()
    moved = database.sql("SELECT count(*) AS n, count(value) AS filled FROM t WHERE part = 1")
    assert moved == [{"n": 10, "filled": 10}]
    assert database.sql("SELECT count(*) AS n FROM t WHERE value IS NULL") == [{"n": 0}]
