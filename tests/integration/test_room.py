# SPDX-License-Identifier: GPL-3.0-or-later
"""The share of updates that a plan expects to be heap-only is about what a run then measures."""

from __future__ import annotations

import pytest

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.connection import connect
from tests.integration.conftest import Database
from tests.integration.small_table import INDEX, ON_VALUE, Table, fill
from tests.integration.steps import Module

INTERLEAVED = {"batch_rows": 5000, "strategy": "interleaved"}
ROOMY = "WITH (fillfactor = {})"
WIDE_VALUES = ("UPDATE s SET value = repeat(ref::text || '-', 100)", "VACUUM FULL s")
KEY = "ALTER TABLE t ADD PRIMARY KEY (id)"

SHAPES = {
    "narrow rows": (
        Table(
            rows=60_000, after=(KEY, "ALTER TABLE t DROP pad", "VACUUM FULL t"), spec=INTERLEAVED
        ),
        (25, 50),
    ),
    "wide rows, no room": (
        Table(
            rows=20_000,
            columns=", wide text DEFAULT repeat('y', 1500)",
            spec=INTERLEAVED,
        ),
        (40, 60),
    ),
    "fillfactor 70": (
        Table(rows=42_000, options=ROOMY.format(70), spec={"batch_rows": 5000}),
        (95, 100),
    ),
    "fillfactor 70, one pass": (
        Table(rows=30_000, options=ROOMY.format(70), spec={"strategy": "ranges"}),
        (30, 60),
    ),
    "narrow rows that grow by much": (
        Table(
            rows=42_000,
            after=(KEY, "ALTER TABLE t DROP pad", "VACUUM FULL t", *WIDE_VALUES),
            spec=INTERLEAVED,
        ),
        (5, 30),
    ),
    "an index that stays": (
        Table(rows=2000, options=ROOMY.format(40), after=ON_VALUE, spec={"strategy": "ranges"}),
        (0, 0),
    ),
    "an index that goes": (
        Table(rows=42_000, after=ON_VALUE, spec={**INTERLEAVED, "indexes": [INDEX]}),
        (80, 100),
    ),
}


@pytest.mark.parametrize(("table", "bounds"), SHAPES.values(), ids=SHAPES.keys())
def test_a_run_measures_about_what_its_plan_expects(
    database: Database, module: Module, table: Table, bounds: tuple[int, int]
) -> None:
    steps = table.make(database, module)
    planned = steps.plan()
    expected = planned["heap_only_percent"]
    words = " ".join(planned["text"].split())
    assert f"about {expected:.0f} % of the updates expected to be heap-only" in words
    fill(steps)
    with connect(steps.login, name="test", read_only=True, schemas=["public"]) as conn:
        history = ledger.read_history(conn, steps.planned["run"]["id"])
    measured = history.heap_only_percent if history else None
    assert measured is not None
    assert bounds[0] <= expected <= bounds[1]
    assert abs(expected - measured) < 12
