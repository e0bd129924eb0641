# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots show the report's figures, and a report without them is written all the same."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.values import read
from ansible.module_utils.pgrunbook.ledger import BatchPoint, SlicePoint
from ansible.module_utils.pgrunbook.report.drawing import COLOURS
from ansible.module_utils.pgrunbook.report.work_time import GAP, Work
from tests.reporting import PLUGIN, build, draw, report_task
from tests.unit.test_report import gate
from tests.unit.test_report_rendering import HISTORY, HOSTILE, PAIR, a_batch, a_slice, whole

CAPTIONS = [
    "Rows filled over the run",
    "Rows a second",
    "Duration of batches",
    "Heap-only updates, and the standby's lag",
    "What others felt, and what batches were to take",
    "Coverage by column",
    "Speed-up by query",
]


def told(**changes: Any) -> dict[str, Any]:
    """The report of a run with figures for every plot."""
    return build(
        whole(
            schema={"checks": [gate("baseline", 3, evidence={"region": 12.5})]},
            validation={"checks": [gate("coverage", 3, evidence={"region": 97.25})]},
            queries={"pairs": [PAIR], "checks": []},
            **changes,
        )
    )


def texts(drawing: str) -> str:
    return " ".join("".join(element.itertext()) for element in ElementTree.fromstring(drawing))


def test_there_is_a_plot_for_everything_that_was_measured() -> None:
    felt = [a_slice(5, commit_ms=4.5, probe_ms=1.5, least_target_ms=10.0), a_slice(10)]
    drawn = draw(told(history={"slices": felt}))
    assert list(drawn) == CAPTIONS
    assert all(part in texts(drawn["Coverage by column"]) for part in ("12.5 %", "97.25 %", "95 %"))
    assert all(
        part in texts(drawn["Speed-up by query"]) for part in ("2 ×", "2.5 ×", "20 ×", "5 ×")
    )
    assert "of a region" in texts(drawn["Speed-up by query"])
    assert "no standby seen" in texts(drawn[CAPTIONS[3]])


def test_a_lag_has_an_axis_of_its_own() -> None:
    lagging = {"slices": [a_slice(5, replay_lag=2.0), a_slice(10, replay_lag=7.5)]}
    drawing = texts(draw(told(history=lagging))[CAPTIONS[3]])
    assert "lag of the slowest standby, s" in drawing and "no standby seen" not in drawing


def test_what_was_not_measured_has_no_line() -> None:
    felt = [a_slice(5, commit_ms=4.5, least_target_ms=10.0), a_slice(10)]
    drawing = texts(draw(told(history={"slices": felt}))[CAPTIONS[4]])
    assert "commit" in drawing and "batch's target" in drawing and "probe query" not in drawing
    assert CAPTIONS[4] not in draw(told())


def test_without_figures_there_is_no_plot() -> None:
    nothing = {"slices": [], "batches": []}
    assert list(draw(told(history=nothing))) == CAPTIONS[5:]
    assert draw(build(whole(history=nothing))) == {}


def test_the_same_report_gives_the_same_bytes_and_ids_that_are_there_once() -> None:
    first, second = draw(told()), draw(told())
    assert first == second
    ids = [
        element.get("id")
        for drawing in first.values()
        for element in ElementTree.fromstring(drawing).iter()
        if element.get("id")
    ]
    assert len(ids) == len(set(ids))
    references = {
        part.split('"')[0].split(")")[0]
        for drawing in first.values()
        for mark in ('xlink:href="#', "url(#")
        for part in drawing.split(mark)[1:]
    }
    assert references and references <= set(ids)


@settings(max_examples=10)
@given(name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=70))
def test_any_name_of_a_column_or_query_can_be_drawn(name: str) -> None:
    pair = {**PAIR, "name": f"$\\nothing_{{$ {name} {HOSTILE}"}
    odd = {**told(), "coverage": {name: {"before": 1.0}}, "queries": [pair]}
    for drawing in draw(odd).values():
        tags = {element.tag.split("}")[1] for element in ElementTree.fromstring(drawing).iter()}
        assert "script" not in tags and "img" not in tags


def slice_points(slices: list[dict[str, Any]]) -> list[SlicePoint]:
    return [read(SlicePoint, each) for each in slices]


def batch_points(batches: list[dict[str, Any]]) -> list[BatchPoint]:
    return [read(BatchPoint, each) for each in batches]


def test_time_without_work_takes_no_room() -> None:
    slices = [a_slice(5), a_slice(55), {**a_slice(5), "at": "2026-02-01T04:02:05.000Z"}]
    work = Work(slice_points(slices), [])
    ends = [point["at"] for point in slices]
    assert [work.worked(end) for end in ends] == [5.0, 10.0, 15.0]
    assert work.worked("2026-01-31T04:02:30.000Z") == 5.0
    assert work.worked("2026-01-31T04:02:52.000Z") == 7.0
    gap = work.seconds * GAP
    assert [work.at(end) for end in ends] == pytest.approx([5, 10 + gap, 15 + 2 * gap])
    assert [pause.seconds for pause in work.pauses] == pytest.approx([45, 86345])
    assert work.end == pytest.approx(15 + 2 * gap)
    assert [work.place(seconds) for seconds in (5, 7, 15)] == pytest.approx(
        [5, 7 + gap, 15 + 2 * gap]
    )


def test_a_pause_is_a_gap_in_every_plot_over_time() -> None:
    slices = [a_slice(5), a_slice(55)]
    work = Work(slice_points(slices), [])
    xs, ys = work.line([(slices[0]["at"], 1.0), (slices[1]["at"], 2.0)], holds=True)
    assert [y for y in ys if not math.isnan(y)] == [1.0, 1.0, 2.0] and math.isnan(ys[1])
    assert xs[2] == work.pauses[0].end, "what was filled is filled when work goes on"
    drawn = draw(told(history={"slices": slices, "batches": [a_batch(4), a_batch(54)]}))
    for caption in CAPTIONS[:4]:
        assert drawn[caption].count('-pause"') == 1, caption
        assert "grey: a pause, about 45 s in all" in texts(drawn[caption])


def test_time_that_was_held_back_is_told_apart_from_the_rate() -> None:
    held = [a_slice(5, held_seconds=4.0), a_slice(10)]
    drawing = texts(draw(told(history={"slices": held}))["Rows a second"])
    assert "held back, %" in drawing and "50" in drawing
    assert "held back, %" not in texts(draw(told())["Rows a second"])


def test_a_query_that_became_slower_is_left_of_the_mark() -> None:
    slow = {**PAIR, "time_ratio": 0.15, "time_interval": [0.14, 0.2]}
    drawing = draw({**told(), "queries": [slow]})["Speed-up by query"]
    assert "6.7 × slower" in texts(drawing) and "0.15" not in texts(drawing)


def test_the_page_decides_the_colours() -> None:
    for drawing in draw(told()).values():
        assert set(re.findall(r"#[0-9a-f]{6}(?!\))", drawing)) == set()
    css = (PLUGIN.TEMPLATES / "report.css").read_text("utf-8")
    dark = css[css.index("prefers-color-scheme: dark") : css.index("* {")]
    for name in COLOURS.values():
        assert f"--{name}:" in dark, name


def test_batches_of_several_workers_at_once_are_counted_once() -> None:
    batches = batch_points([a_batch(8, seconds=2.0), a_batch(9, seconds=2.0)])
    work = Work(slice_points([a_slice(10)]), batches)
    assert work.worked("2026-01-31T04:02:59.000Z") == 5.0
    lost = Work([], batch_points(HISTORY["batches"]))
    assert lost.worked("2026-01-31T04:02:59.000Z") == 2.0, "of a run that died in its first slice"


def test_where_matplotlib_is_missing_the_report_is_written_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report_task(tmp_path, whole())["warnings"] == []
    page = tmp_path / "latest/report.html"
    assert "<svg" in page.read_text("utf-8")
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    name = "ansible.module_utils.pgrunbook.report.plots"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["ansible.module_utils.pgrunbook.report"], "plots")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = report_task(tmp_path, whole())
    assert len(result["warnings"]) == 1
    assert "Next step: install matplotlib" in result["warnings"][0]
    assert "<svg" not in page.read_text("utf-8")
    assert result["report"]["verdict"] == "GO" and set(result["paths"]) == {
        "html",
        "markdown",
        "junit",
        "json",
    }


def test_a_mistake_of_the_program_is_told_in_a_sentence(tmp_path: Path) -> None:
    odd = {**whole(), "validation": {"checks": [{"id": "without the rest"}]}}
    result = report_task(tmp_path, odd)
    assert result["failed"] and result["msg"].startswith("A mistake in pgrunbook: KeyError where")
    assert "Nothing was changed in the database. Next step: " in result["msg"]
    assert list(tmp_path.iterdir()) == []
