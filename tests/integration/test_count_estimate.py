# SPDX-License-Identifier: GPL-3.0-or-later
"""A dry run estimates the counts of a large table, and counts where that leaves something open."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook import catalog
from ansible.module_utils.pgrunbook.backfill import count_estimate, counting
from ansible.module_utils.pgrunbook.catalog import page_ranges
from ansible.module_utils.pgrunbook.core import phase as phase_module
from ansible.module_utils.pgrunbook.core.connection import connect
from tests.integration.conftest import Database
from tests.integration.small_table import Table
from tests.integration.steps import Module, Steps, facts_of, reported
from tests.integration.test_partitions import partitioned

ROWS = 30_000
FILL = (
    "INSERT INTO t (id, ref, value) SELECT i, i % 50 + 1,"
    " CASE WHEN {} THEN 'v' || i % 50 + 1 END FROM generate_series(1, {}) i",
    "VACUUM (ANALYZE) t",
)
SEEDS = 40


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred pages are a large table."""
    monkeypatch.setattr(page_ranges, "LARGE_PAGES", 100)


def steps_of(
    database: Database, module: Module, table: Table, rows: int = ROWS, having: str = "i % 3 = 0"
) -> Steps:
    """A table with so many rows, of which some have the value of their source already."""
    steps = table.make(database, module)
    database.sql("TRUNCATE t")
    for statement in FILL:
        database.sql(statement.format(having, rows))
    return steps


@pytest.mark.parametrize("table", [Table(), partitioned()], ids=["plain", "partitioned"])
def test_the_intervals_cover_the_truth_as_often_as_they_say(
    database: Database, module: Module, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_estimate, "SAMPLED_PAGES", 60)
    # Whole pages are filled, empty or thinned out: the rows of a page are alike.
    steps = steps_of(database, module, table, having="i / 700 % 3 = 0")
    database.sql("DELETE FROM t WHERE id / 1000 % 4 = 0 AND id % 10 <> 0")
    given = phase_module.parse(steps.spec)
    missed = {"total": 0, "eligible": 0, "before": 0}
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        info = catalog.inspect(conn, given.table)
        truth = counting.count(conn, given, info)
        for seed in range(SEEDS):
            spec = replace(given, sample_seed=seed)
            pages = count_estimate.sampled(spec, info)
            counts = count_estimate.estimate(conn, spec, info, pages)
            assert counts and counts.estimated and counts.estimated.pages_read == 60 < info.pages
            found = counts.estimated
            missed["total"] += _misses(found.rows_total, truth.rows_total)
            missed["eligible"] += _misses(found.rows_eligible, truth.rows_eligible)
            missed["before"] += _misses(found.before["value"], truth.coverage["value"].before)
            assert found.rows_eligible[1] < 2 * truth.rows_eligible, "says nothing"
    assert all(number <= SEEDS // 10 for number in missed.values()), missed


def _misses(interval: tuple[float, float], truth: float) -> bool:
    return not interval[0] <= truth <= interval[1]


def plans(steps: Steps, *, check: bool, **spec: Any) -> dict[str, Any]:
    return replace(steps, spec={**steps.spec, **spec}).do("plan", check=check)


def test_a_dry_run_estimates_and_a_run_counts(
    database: Database, module: Module, tmp_path: Path
) -> None:
    steps = steps_of(database, module, Table(), rows=60_000)
    dry, real = plans(steps, check=True), plans(steps, check=False)
    assert dry["counts"]["estimated"]["pages_read"] == 400
    assert "estimated" not in real["counts"] and real["counts"]["rows_eligible"] == 40_000
    low, high = dry["counts"]["estimated"]["rows_eligible"]
    assert low <= 40_000 <= high and low <= dry["counts"]["rows_eligible"] <= high
    assert dry["plan_hash"] == real["plan_hash"] and len(dry["sample"]) == 100
    told = " ".join(dry["text"].split())
    assert re.search(r"rows about [\d,]+00 of [\d,]+00 would change \(95 %: [\d,]+00 to", told)
    assert f"estimated from 400 of {dry['counts']['estimated']['pages']:,} pages" in told
    checks = {check["id"]: check for check in dry["checks"]}
    assert {check["status"] for check in dry["checks"]} == {"pass"}
    assert checks["requirement"]["measured"].startswith(
        f"about {dry['counts']['rows_eligible']:,} of "
    )
    assert "0 of 2" in checks["agreement"]["measured"]
    summary = reported(tmp_path, facts_of(plan=dry), kind="plan")["report"]["summary"]
    assert any(line.startswith("Planned: about ") for line in summary), summary
    assert dry["proof"] == {"read_only": True, "xid": None}


@pytest.mark.parametrize(
    ("spec", "check", "estimated"),
    [({"counts": "exact"}, True, False), ({"counts": "estimate"}, False, True)],
)
def test_the_phase_may_ask_for_the_other(
    database: Database, module: Module, spec: dict[str, Any], check: bool, estimated: bool
) -> None:
    steps = steps_of(database, module, Table(), rows=60_000)
    assert ("estimated" in plans(steps, check=check, **spec)["counts"]) is estimated


@pytest.mark.parametrize(
    ("having", "rows", "spec"),
    [
        ("true", ROWS, {}),  # nothing to be filled?
        ("i % 3 = 0", ROWS, {}),  # 20,000 rows to be filled, or fewer?
        ("i % 10 = 0", 60_000, {}),  # 10 per cent covered, or less?
        ("i % 3 = 0", 60_000, {"coverage_min": 100.0}),  # all of them afterwards, or fewer?
    ],
    ids=["eligible", "worth", "covered", "afterwards"],
)
def test_what_an_estimate_leaves_open_is_counted(
    database: Database, module: Module, having: str, rows: int, spec: dict[str, Any]
) -> None:
    steps = steps_of(database, module, Table(), rows=rows, having=having)
    counts = plans(steps, check=True, **spec)["counts"]
    assert "estimated" not in counts and counts["rows_total"] == rows


def test_rows_that_may_differ_too_often_are_compared_all(
    database: Database, module: Module
) -> None:
    steps = steps_of(database, module, Table(), rows=60_000)
    database.sql("UPDATE t SET value = 'other' WHERE value IS NOT NULL AND id % 30 = 0")
    planned = plans(steps, check=True)
    checks = {check["id"]: check for check in planned["checks"]}
    assert "estimated" in planned["counts"]
    assert checks["agreement"]["measured"].startswith("96.66 % of 60,000 rows")
    assert checks["agreement"]["status"] == "fail"


@pytest.mark.parametrize(
    ("refused", "pages_read"), [("value <> 'v10'", 0), ("id <> 30_001", 400)], ids=["many", "one"]
)
def test_a_dry_run_looks_for_refused_rows_on_some_pages_and_counts_those_that_it_finds(
    database: Database, module: Module, refused: str, pages_read: int
) -> None:
    steps = steps_of(database, module, Table(), rows=60_000)
    database.sql(f"ALTER TABLE t ADD CONSTRAINT k CHECK ({refused}) NOT VALID")
    aside = {"unfillable_max": 60_000}
    real, dry = (plans(steps, check=check, **aside) for check in (False, True))
    assert [each["rows"] > 0 for each in real["refused"]] == [True]
    assert dry["refused"] == ([] if pages_read else real["refused"])
    assert (real["refused_pages_read"], dry["refused_pages_read"]) == (0, pages_read)
    told = "none is refused on the 400 pages that were read; a run's plan looks at all rows"
    assert (told in " ".join(dry["text"].split())) is bool(pages_read)


@pytest.mark.parametrize(("orphans", "read"), [("id % 60 = 0", False), ("id = 30_001", True)])
def test_a_preflight_looks_for_orphans_on_some_pages_and_counts_those_that_it_finds(
    database: Database, module: Module, orphans: str, read: bool
) -> None:
    steps = steps_of(database, module, Table(), rows=60_000)
    database.sql(f"UPDATE t SET ref = 1000 WHERE {orphans}")
    found = steps.do("preflight", check=True)
    pages = database.sql("SELECT relpages FROM pg_class WHERE relname = 't'")[0]["relpages"]
    measured = {check["id"]: check["measured"] for check in found["checks"]}["orphans"]
    assert str(measured) == (f"none on 400 of {pages:,} pages" if read else "1000")
    assert (found["health"]["rows"] == 60_000) is not read
    assert steps.do("preflight")["health"]["orphans"] == (1 if read else 1000)
