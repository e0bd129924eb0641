# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's pages say what was measured, what failed, and what is arithmetic."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import report, results, run, scale_report
from benchmarks.rollback import Rollback
from benchmarks.settings import MEASURE, SCALE, read

DOCS = Path(__file__).resolve().parents[2] / "docs"
MACHINE = {name: results.load(DOCS)[name] for name in ("machine", "server")}


def a_step(seconds: float, **more: Any) -> dict[str, Any]:
    longest = {"seconds": 0.25, "query": "", "failed": ""}
    found = {"seconds": seconds, "peak_bytes": 70e6, "wal_bytes": 2e9}
    return {**found, "longest_transaction": longest, **more}


def a_size(sessions: int, **changes: Any) -> dict[str, Any]:
    steps = {
        "dry run": a_step(36.0),
        "plan": a_step(40.0),
        "backfill": a_step(360.0, rows=900_000, same_result=True),
        "validation": a_step(18.0, missed=[]),
        "rollback plan": a_step(9.0),
        "rollback": a_step(720.0, rows=900_000, same_result=True, parts_seconds={"rows": 600.0}),
    }
    after = {"journal_bytes": 30_000_000, "table_bytes": 8e8, "index_bytes": 2e8}
    return {"sessions": sessions, "failed": "", "steps": steps, "after": after, **changes}


def sizes(*measured: dict[str, Any]) -> results.Results:
    settings = {"way": "engine-1", "profile": "production"}
    settings["sizes"] = [record["sessions"] for record in measured]
    return {**MACHINE, "settings": settings, "measurements": list(measured)}


def broken(sessions: int, step: str, reason: str) -> dict[str, Any]:
    """A size that came to a step and no further."""
    record = a_size(sessions, failed=f"{step}: {reason}")
    names = list(record["steps"])
    for name in names[names.index(step) :]:
        del record["steps"][name]
    return record


def row_of(page: str, heading: str, first: str) -> list[str]:
    """The cells behind this one, in the first table after a heading that has it at the left."""
    for line in page.split(f"## {heading}")[1].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[:1] == [first]:
            return cells[1:]
    raise AssertionError(f"{heading} has no line {first}")


def test_the_page_in_docs_is_what_its_figures_give() -> None:
    assert report.markdown(results.load(DOCS)) == (DOCS / "benchmark.md").read_text("utf-8")


def test_a_billion_rows_are_the_largest_whole_run_multiplied() -> None:
    page = scale_report.billion(
        sizes(a_size(100_000), a_size(1_000_000), broken(4_000_000, "rollback", "no room"))
    )
    assert "by arithmetic, not measured" in page and "1,000.0 × the figures at 1,000,000" in page
    assert "11.1 hours for the plan of a run" in page
    assert "A dry run reads a sample of the table, so it takes no longer." in page
    assert "**100.0 hours** for the backfill, 5.0 hours for the validation" in page
    assert "200.0 hours for a rollback" in page
    assert "2,000 GB of WAL" in page and "30.0 GB of journal" in page


def test_nothing_is_multiplied_where_no_size_came_to_its_end() -> None:
    assert "nothing to multiply" in scale_report.billion(sizes(broken(500, "dry run", "no")))


def test_a_size_that_failed_is_shown_as_that_with_its_reason() -> None:
    page = scale_report.markdown(
        sizes(a_size(100_000), broken(4_000_000, "validation", "RuntimeError: no | room\nmore"))
    )
    costs = row_of(page, "Time and space", "4,000,000")
    assert costs[-1] == "**FAILED**" and costs[4] == "**FAILED**" and costs[5] == "–"
    assert costs[3] == "2,500"
    assert row_of(page, "Peak memory", "4,000,000") == ["70", "70", "70", "**FAILED**", "–", "–"]
    assert "**FAILED** with 4,000,000 rows, validation: RuntimeError: no \\| room\n" in page


def test_a_size_whose_data_failed_has_a_line_too() -> None:
    nothing = {"sessions": 16_000_000, "failed": "data: no room", "steps": {}}
    page = scale_report.markdown(sizes(a_size(100_000), nothing))
    assert row_of(page, "Time and space", "16,000,000") == ["–"] * 11 + ["**FAILED**"]
    assert "with 16,000,000 rows, data: no room" in page


@pytest.mark.parametrize(
    ("step", "change", "said"),
    [
        ("validation", {"missed": ["exact"]}, "**WRONG**: gate exact missed"),
        ("backfill", {"same_result": False}, "**WRONG**: backfill wrong"),
        ("rollback", {"same_result": False}, "**WRONG**: rollback wrong"),
    ],
)
def test_a_wrong_result_is_not_called_right(step: str, change: dict[str, Any], said: str) -> None:
    record = a_size(100_000)
    assert scale_report.result(record) == "right"
    record["steps"][step] |= change
    assert scale_report.result(record) == said


def test_a_transaction_that_was_not_watched_to_the_end_is_no_figure() -> None:
    record = a_size(100_000)
    record["steps"]["backfill"]["longest_transaction"]["failed"] = "terminated"
    longest = row_of(scale_report.markdown(sizes(record)), "Longest transaction", "100,000")
    assert longest[1:3] == ["0.25", "**FAILED**"]


def test_the_page_says_what_the_longest_transactions_were_doing() -> None:
    small, large = a_size(100_000), a_size(1_000_000)
    large["steps"]["backfill"]["longest_transaction"]["query"] = "SELECT " + "x" * 200
    page = scale_report.markdown(sizes(small, large))
    assert "with 1,000,000 rows:\n\n- backfill: `SELECT xxx" in page and "x…`" in page


@pytest.mark.parametrize("measured", [[a_size(100_000), broken(500, "plan", "no")], []])
def test_the_plot_is_drawn_whatever_failed(tmp_path: Path, measured: list[Any]) -> None:
    failed = {"sessions": 16_000_000, "failed": "data: no room", "steps": {}}
    scale_report.write(sizes(*measured, failed), tmp_path)
    ElementTree.parse(tmp_path / "benchmark-sizes.svg")


def without_rollbacks() -> results.Results:
    """What was measured, as if no rollback had been, nor other tools' ways, once each."""
    found = copy.deepcopy(results.load(DOCS))
    found["settings"]["ways"] = ["one-update", "engine-1", "engine-2"]
    found["measurements"] = [r for r in found["measurements"] if r["repetition"] == 1]
    for record in found["measurements"]:
        for name in [name for name in record if name.startswith("rollback_")]:
            del record[name]
    return found


def test_a_rollback_stands_beside_the_fill() -> None:
    found = without_rollbacks()
    alone = results.records(found, "alone", "engine-1")[0]
    alone |= {"rows": 1000, "rows_per_second": 100.0, "parts_seconds": {"fill": 5.0, "build": 5.0}}
    given = Rollback(rows=1000, parts={"rows": 10.0, "indexes": 9.0, "columns": 1.0})
    alone |= run.rollback_figures(given, alone, wal_bytes=2_000_000)
    alone |= {"rollback_same_result": True, "rollback_same_indexes": True}
    shown = row_of(report.markdown(found), "Rollback", "pgrunbook, 1 worker")
    assert " ".join(shown) == "1,682,827 1 1,000 100 0.50 50 0.50 2,000 as before"
    alone["rollback_same_indexes"] = False
    assert "**WRONG**" in report.markdown(found)


def test_a_rollback_that_failed_is_shown_as_that() -> None:
    found = without_rollbacks()
    results.records(found, "alone", "engine-2")[0]["rollback_failed"] = "RuntimeError: refused"
    page = report.markdown(found)
    shown = row_of(page, "Rollback", "pgrunbook, 2 workers")
    assert shown[-1] == "**FAILED**: RuntimeError: refused" and shown[3:5] == ["–", "–"]


def test_ways_of_other_tools_are_described() -> None:
    found = without_rollbacks()
    assert "strong_migrations" not in report.markdown(found)
    found["settings"]["ways"].append("paused")
    assert "batches of 10,000, 10 ms pause" in report.markdown(found)
    assert "As strong_migrations advises" in report.markdown(found)


def test_both_commands_have_sizes_of_their_own() -> None:
    assert read(MEASURE, {}).sizes[-1] == 300_000
    assert read(SCALE, {}).sizes == (100_000, 1_000_000, 4_000_000, 16_000_000)
    assert read(SCALE, {}).ways == ("engine-1",)
    assert read(SCALE, {"SIZES": "500"}).sizes == (500,)
