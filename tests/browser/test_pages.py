# SPDX-License-Identifier: GPL-3.0-or-later
"""Every page that pgrunbook writes, in a real browser: axe-core and html-validate find nothing, on
a wide and a narrow screen, light and dark, and the board's part fits on two sheets of paper.

Needs Node.js, npm and Chromium; CHROMIUM names another one. SHOTS names a folder for pictures.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.report import index
from ansible.module_utils.pgrunbook.rollout import page, plots, report, stored
from ansible.module_utils.pgrunbook.rollout.ended import STATES, Ended
from ansible.module_utils.pgrunbook.rollout.rollout import put_together
from tests.reporting import PLUGIN, build, draw, html, write
from tests.unit.test_decision import REFUSED, RENAMED, SLOW
from tests.unit.test_report import facts, gate
from tests.unit.test_report_rendering import (
    DIFFERENCE,
    HISTORY,
    PAIR,
    a_batch,
    a_slice,
    hostile,
    whole,
)
from tests.unit.test_rollout import WAVES, fleet

HERE = Path(__file__).parent

MEASURED = {
    "schema": {"checks": [gate("baseline", 3, evidence={"region": 12.5})]},
    "validation": {
        **facts()["validation"],
        "checks": [gate("coverage", 3, evidence={"region": 97.25}), gate("indexes", 2)],
    },
    "queries": {
        "pairs": [PAIR, {**SLOW, "name": "another"}],
        "checks": [gate("query:of a region", 5, evidence=PAIR)],
    },
    "drift": {"differences": [RENAMED, {**DIFFERENCE, "severity": "note", "breaks": False}]},
}
FELT: dict[str, Any] = {
    "slices": [
        a_slice(5, replay_lag=2.0, commit_ms=4.5, held_seconds=2.0),
        a_slice(50, replay_lag=3.0, commit_ms=5.5),
    ],
    "batches": [a_batch(4), a_batch(49, max_ms=400.0)],
    "refused": [{"key": "[1]", "sqlstate": "23514", "message": "no"}],
    "rows_refused": 3,
}


def pages() -> Iterator[tuple[str, dict[str, Any]]]:
    """A report of each kind and end, by the name of its page."""
    yield "run", build(whole(**MEASURED, history=FELT))
    missed = gate("coverage", 3, passed=False, measured="region 60 %")
    yield "missed", build(whole(**{**MEASURED, "validation": {"checks": [missed]}}))
    yield "broken", build(whole(error="The backfill: no lock", validation={}, queries={}))
    yield "plan", build({**whole(**MEASURED, **REFUSED)}, "plan")
    yield "refused", build({**whole(**REFUSED), "error": "The preflight: no"}, "plan")
    undone = {"column": {"schema": {"columns": {"regions": "text"}, "indexes": {}}}}
    yield "rollback", build(whole(**undone, history=HISTORY), "rollback")
    yield "hostile", build(hostile(whole(**MEASURED)))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is wrong with each page."""
    folder = tmp_path_factory.mktemp("pages")
    for name, told in pages():
        (folder / f"{name}.html").write_text(html(told, draw(told)), encoding="utf-8")
    write(folder / "reports", build(whole()), {})
    index.write(folder / "reports", PLUGIN.TEMPLATES)
    (folder / "reports/index.html").rename(folder / "index.html")
    rollouts(folder)
    return checked(*sorted(folder.glob("*.html")))


def rollouts(folder: Path) -> None:
    """The page of a rollout that ended in every way, and that of its plans."""
    hosts = [Ended(f"h{n}", state, "a reason", 96, 2.5) for n, state in enumerate(STATES)]
    told = dict.fromkeys(("id", "title", "hash", "started_at", "finished_at"), "Phase nine")
    ended = report.build(told, [1, 7], hosts, "one failed")
    drawn = plots.draw(hosts)
    files = report.files(ended, drawn, PLUGIN.TEMPLATES, folder)
    (folder / "rollout.html").write_text(files["html"][1], encoding="utf-8")
    planned = put_together(fleet(3), WAVES, "", 5)
    shown = stored.keep(folder, planned, page.page(planned), PLUGIN.TEMPLATES)
    Path(shown).rename(folder / "rollout_plan.html")


def checked(*files: Path) -> dict[str, list[str]]:
    """What check.mjs finds wrong with each of the files, by its name."""
    for program in ("node", "npm", os.environ.get("CHROMIUM", "chromium")):
        assert shutil.which(program), f"{program} is missing: apt-get install chromium nodejs npm"
    if not (HERE / "node_modules").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=HERE, check=True)
    done = subprocess.run(
        ["node", "check.mjs", *map(str, files)],
        cwd=HERE,
        env={"CHROMIUM": str(shutil.which("chromium")), **os.environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "name", [*(name for name, _ in pages()), "index", "rollout", "rollout_plan"]
)
def test_nothing_is_wrong_with_a_page(findings: dict[str, list[str]], name: str) -> None:
    assert findings[f"{name}.html"] == []


def test_a_page_with_something_wrong_is_found_out(tmp_path: Path) -> None:
    """Each of the four ways to find something does."""
    told = build(whole(**MEASURED))
    shown = html(told, draw(told))
    for old, new in (
        ("<h1>", "<h1><p>"),
        ("--ink: #1f2328", "--ink: #e6e6e6"),
        (
            '<div class="columns">',
            '<div style="width:2000px;height:3000px">x</div><div class="columns">',
        ),
    ):
        assert old in shown
        shown = shown.replace(old, new, 1)
    (tmp_path / "wrong.html").write_text(shown, encoding="utf-8")
    found = " ".join(checked(tmp_path / "wrong.html")["wrong.html"])
    for sign in ("html-validate", "axe color-contrast", "wider than the screen",
                 "the decision ends at", "paper: the evidence begins"):  # fmt: skip
        assert sign in found, sign
