# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: what it promises to programs, and what a change board reads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.gates.gate import Gate
from ansible.module_utils.pgrunbook.gates.registry import readiness_rows
from ansible.module_utils.pgrunbook.plan.text import REASONS
from ansible.module_utils.pgrunbook.report import index
from ansible.module_utils.pgrunbook.report.checklist import OBJECTIVES, TESTS
from ansible.module_utils.pgrunbook.report.store import verify
from ansible.module_utils.pgrunbook.report.words import VERIFY
from tests.reporting import PLUGIN, build, html, junit_xml, markdown, verdict_text, write

APPROVAL = {
    "scope": "plan",
    "plan_hash": "ab12",
    "approved_by": "alice",
    "approved_from": "bastion",
    "method": "prompt",
    "approved_at": "2026-01-31 04:00:01+00",
}


def gate(
    id: str,
    test: int,
    *,
    title: str = "",
    target: str = "",
    measured: str = "",
    passed: bool = True,
    enforce: bool = True,
    evidence: Any = None,
) -> Any:
    """A gate as a module returns it."""
    found = Gate(
        id,
        title or f"Title of {id}",
        test,
        target or f"Target of {id}",
        measured or f"Measure of {id}",
        "pass" if passed else "fail" if enforce else "warn",
        evidence,
    )
    return plain(found)


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a whole run that went well."""
    schema = {"columns": {"regions": "text"}, "indexes": {"ix": "CREATE INDEX ix"}}
    return {
        "phase": {
            "name": "phase9",
            "title": "Phase nine",
            "playbook": "playbooks/phase9.yml",
            "file": "vars/phase9.yml",
        },
        "started_at": "2026-01-31T04:00:00Z",
        "finished_at": "2026-01-31T04:05:00Z",
        "error": "",
        "record": {
            "approvals": [APPROVAL, {**APPROVAL, "scope": "backfill", "approved_by": "bob"}]
        },
        "preflight": {
            "server": {"database": "shop", "version": "17.6"},
            "health": {"rows": 100},
            "checks": [gate("connectivity", 1)],
        },
        "plan": {
            "run": {"id": "phase9-1", "plan_hash": "ab12", "execution": "x"},
            "baseline": {
                "counts": {
                    "rows_total": 100,
                    "rows_eligible": 96,
                    "rows_skipped": dict.fromkeys(REASONS, 1),
                },
                "schema": schema,
                "queries": ["ALTER TABLE t RENAME COLUMN a TO b"],
            },
            "checks": [gate("baseline", 3), gate("dry_run", 4)],
        },
        "canary": {"rows_done": 10, "seconds": 1.0},
        "canary_gates": {"checks": [gate("canary", 6)]},
        "backfill": {"rows_done": 96, "seconds": 2.5},
        "schema": {"checks": [gate("schema", 2)]},
        "validation": {
            "schema": {**schema, "columns": {"region": "text"}},
            "checks": [gate("coverage", 3), gate("accuracy", 6), gate("indexes", 2)],
        },
        "queries": {"pairs": [], "checks": [gate("query:q", 5)]},
        **changes,
    }


def recorded(**history: Any) -> dict[str, Any]:
    """What the ledger has of the run, with this history."""
    return {**facts()["record"], "history": history}


def built(**changes: Any) -> dict[str, Any]:
    return build(facts(**changes))


def test_the_promised_keys_and_their_values() -> None:
    told = built()
    assert told["run_id"] == "phase9-1"
    assert told["verdict"] == "GO" and told["reasons"] == []
    assert told["plan_hash"] == "ab12" and told["approved_by"] == "alice"
    assert told["format"] == 1
    assert told["backfill"] == {
        "rows_total": 100,
        "rows_eligible": 96,
        "rows_changed": 96,
        "rows_left_alone": 0,
        "left_alone": [],
        "rows_refused": 0,
        "refused": [],
        "rows_put_back": 0,
        "rows_rewritten": 0,
        "columns_gone": [],
        "rows_skipped": dict.fromkeys(REASONS, 1),
        "seconds": 2.5,
        "rows_per_second": 38,
        "rows_estimated": False,
        "heap_only_expected_percent": None,
        "heap_only_percent": None,
        "batches": 0,
        "longest_batch_ms": 0.0,
        "after_canary_estimated_seconds": None,
        "after_canary_seconds": None,
    }
    assert told["schema"]["before"]["columns"] == {"regions": "text"}
    assert told["schema"]["after"]["columns"] == {"region": "text"}
    assert told["queries"] == []
    assert told["server"]["database"] == "shop" and told["health"] == {"rows": 100}
    assert told["statements"] == ["ALTER TABLE t RENAME COLUMN a TO b"]
    assert [a["approved_by"] for a in told["approvals"]] == ["alice", "bob"]
    for entry in told["checks"]:
        assert {"id", "title", "test", "target", "measured", "status"} <= set(entry)


def test_what_was_expected_to_be_heap_only_is_told_beside_what_was() -> None:
    plan = facts()["plan"]
    plan["baseline"]["heap_only_percent"] = 86.9
    told = built(plan=plan, record=recorded(heap_only_percent=71.2))
    done = told["backfill"]
    assert (done["heap_only_expected_percent"], done["heap_only_percent"]) == (86.9, 71.2)
    sentence = "About 87 % of the updates were expected to be heap-only; of those after the canary "
    assert f"{sentence}71 % were." in told["summary"]
    for half in ({"plan": plan}, {"record": recorded(heap_only_percent=71.2)}):
        assert not [said for said in built(**half)["summary"] if "heap-only" in said]


def test_what_the_canary_promised_is_told_beside_what_it_took() -> None:
    left = {"seconds": 9.0, "seconds_worked": 1.0}
    gates = {"checks": [gate("canary", 6), gate("estimate", 3, evidence=left)]}
    told = built(canary_gates=gates, backfill={"rows_done": 96, "seconds": 2.5, "done": True})
    assert told["backfill"]["after_canary_estimated_seconds"] == 9.0
    assert told["backfill"]["after_canary_seconds"] == 1.5
    promised = "the rate so far promised about 9 s for them; they took 1.5 s of work"
    assert promised in " ".join(told["summary"])
    stopped = built(canary_gates=gates, backfill={"rows_done": 96, "seconds": 2.5, "done": False})
    assert stopped["backfill"]["after_canary_estimated_seconds"] == 9.0
    assert stopped["backfill"]["after_canary_seconds"] is None
    assert "promised" not in " ".join([*stopped["summary"], *built()["summary"]])


def test_checks_come_in_the_order_of_the_steps() -> None:
    assert [c["id"] for c in built()["checks"]] == [
        "connectivity",
        "baseline",
        "dry_run",
        "canary",
        "schema",
        "coverage",
        "accuracy",
        "indexes",
        "query:q",
    ]


def test_one_failed_gate_is_no_go_and_the_reason_names_it() -> None:
    told = built(schema={"checks": [gate("schema", 2, passed=False, measured="drift")]})
    assert told["verdict"] == "NO-GO"
    assert told["reasons"] == ["Title of schema: wanted Target of schema, measured drift"]


def test_a_warning_leaves_it_at_go() -> None:
    told = built(schema={"checks": [gate("schema", 2, passed=False, enforce=False)]})
    assert told["verdict"] == "GO" and told["reasons"] == []


@pytest.mark.parametrize(("enough", "verdict"), [(True, "GO"), (False, "NO-GO")])
def test_a_coverage_that_was_not_foreseen_is_decided_by_what_was_measured(
    enough: bool, verdict: str
) -> None:
    foreseen = gate("requirement", 3, passed=False)
    measured = gate("coverage", 3, passed=enough)
    told = built(plan={"checks": [foreseen]}, validation={"checks": [measured]})
    assert told["verdict"] == verdict
    before = build(facts(plan={"checks": [foreseen]}, validation={}), "plan")
    assert before["verdict"] == "NO-GO"


def test_a_run_that_broke_off_is_no_go_and_tells_the_error_first() -> None:
    failed = {"checks": [gate("dry_run", 4, passed=False)]}
    told = build(
        {
            **{k: facts()[k] for k in ("phase", "started_at", "finished_at")},
            "error": "The backfill: no lock",
            "plan": {"run": facts()["plan"]["run"], **failed},
        }
    )
    assert told["verdict"] == "NO-GO"
    assert told["reasons"][0] == "The backfill: no lock" and len(told["reasons"]) == 2
    assert told["approved_by"] is None
    assert told["backfill"]["rows_changed"] == 0 and told["backfill"]["rows_per_second"] == 0
    assert told["schema"] == {"before": {}, "after": {}}
    page = markdown(told)
    assert "# Phase nine: NO-GO" in page and "- The backfill: no lock" in page
    assert "Nothing was approved. Plan `ab12`." in page
    assert page.count("Not run.") == 5, "all tests but the fourth"


def test_a_run_that_broke_off_in_its_canary_counts_the_canarys_rows() -> None:
    told = built(backfill={}, validation={}, queries={}, schema={})
    assert told["backfill"]["rows_changed"] == 10
    assert told["backfill"]["rows_per_second"] == 10


def readiness(**changes: Any) -> dict[str, str]:
    return {row["criterion"]: row["status"] for row in built(**changes)["readiness"]}


def test_readiness() -> None:
    assert readiness() == dict.fromkeys(readiness_rows(), "PASS")
    assert readiness_rows() == [
        "Database connectivity",
        "Schema compatibility",
        "Dry-run validation",
        "Query performance",
        "Data quality",
        "Backfill",
    ]


def test_readiness_tells_the_worst_of_its_checks() -> None:
    warned = {"checks": [gate("query:q", 5), gate("query:r", 5, passed=False, enforce=False)]}
    failed = {"checks": [*warned["checks"], gate("query:s", 5, passed=False)]}
    assert readiness(queries=warned)["Query performance"] == "WARN"
    assert readiness(queries=failed)["Query performance"] == "FAIL"
    assert readiness(queries={})["Query performance"] == "NOT RUN"


def rows_of(page: str) -> list[list[str]]:
    """The rows of every table, cut into cells as a Markdown reader does."""
    return [
        [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in page.splitlines()
        if line.startswith("|")
    ]


def test_markdown_has_every_check_in_its_test() -> None:
    told = built()
    page = markdown(told)
    for number, title in TESTS.items():
        section = page.split(f"## Test {number}: {title}\n")[1].split("\n## ")[0]
        assert OBJECTIVES[number] in section
        expected = [
            [c["title"], c["target"], str(c["measured"]), c["status"].upper()]
            for c in told["checks"]
            if c["test"] == number
        ]
        assert expected and rows_of(section)[2:] == expected
    assert "Every enforced gate passed." in page
    assert "96 of 100 rows were filled in 2.5 s (38 rows/s)" in page
    assert "ALTER TABLE t RENAME COLUMN a TO b;" in page
    assert "- regions: text\n+ region: text" in page
    assert "  no change" in page.split("indexes:")[1]
    assert ["plan", "alice", "bastion", "prompt", "2026-01-31 04:00:01+00"] in rows_of(page)


cell = st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=20).map(str.strip)


@given(title=cell, target=cell, measured=cell)
def test_no_value_breaks_a_table(title: str, target: str, measured: str) -> None:
    odd = gate("odd", 2, title=f"a|{title}|", target=f"|{target}", measured=f"{measured}||b")
    page = markdown(built(schema={"checks": [odd]}))
    section = page.split("## Test 2")[1].split("\n## ")[0]
    assert len(rows_of(section)) == 4 and all(len(row) == 4 for row in rows_of(section))


def test_a_bar_in_a_value_is_still_there() -> None:
    odd = gate("odd", 2, measured="a || b")
    page = markdown(built(schema={"checks": [odd]}))
    assert ["Title of odd", "Target of odd", "a || b", "PASS"] in rows_of(page)


def test_the_terminal_has_each_gate_that_was_missed_and_what_to_type() -> None:
    told = built(schema={"checks": [gate("schema", 2, passed=False)]})
    assert verdict_text(told).splitlines() == [
        "Gates: 8 of 9 passed; the report has each",
        "FAIL  Title of schema: wanted Target of schema, found Measure of schema.",
        "",
        "NO-GO  Phase nine (done, and a check failed)",
        "  Changes      made",
        "  Rows         96 of 96 filled",
        "  Indexes      Measure of indexes",
        "  Way back     the rollback: the journal has every row that was changed",
        "Mend what was missed, then run the phase again (recommended): "
        "seconds to minutes, and what the mending takes",
        "  ansible-playbook playbooks/phase9.yml",
        "Go back: about 2.5 s of work, as long as the filling",
        "  ansible-playbook playbooks/rollback.yml -e run=phase9-1",
    ]


def test_the_terminal_says_why_a_run_broke_off_and_of_a_go_what_it_means() -> None:
    broken = verdict_text(built(error="The backfill: no lock")).splitlines()
    assert (
        broken[broken.index("NO-GO  Phase nine (stopped halfway)") + 1] == "The backfill: no lock"
    )
    assert "Every enforced gate passed." in verdict_text(built()).splitlines()
    refused = verdict_text(build(facts(record={}), "plan"))
    assert "ansible-playbook" not in refused, "the end of a dry run says what to type"


def test_write_makes_all_files_and_points_latest_there(tmp_path: Path) -> None:
    folder = tmp_path / "not/yet/there"
    told = built()
    paths = write(folder, told, {"A plot": "<svg></svg>"})
    assert paths == {
        "html": str(folder / "phase9-1/report.html"),
        "markdown": str(folder / "phase9-1/report.md"),
        "junit": str(folder / "phase9-1/junit.xml"),
        "json": str(folder / "phase9-1/report.json"),
    }
    assert json.loads((folder / "latest/report.json").read_text("utf-8")) == told
    assert (folder / "latest/report.md").read_text("utf-8") == markdown(told)
    assert (folder / "latest/junit.xml").read_text("utf-8") == junit_xml(told)
    assert "<svg></svg>" in (folder / "latest/report.html").read_text("utf-8")
    assert os.readlink(folder / "latest") == "phase9-1", "relative, so that the folder can move"


def test_a_plan_takes_the_place_of_no_run(tmp_path: Path) -> None:
    write(tmp_path, build(facts(), "plan"), {})
    assert os.readlink(tmp_path / "latest") == "phase9-1-plan"
    write(tmp_path, built(), {})
    write(tmp_path, build(facts(), "plan"), {})
    assert os.readlink(tmp_path / "latest") == "phase9-1"


def test_the_list_has_every_report_the_newest_first(tmp_path: Path) -> None:
    write(tmp_path, {**built(), "started_at": "2026-01-31T04:05:06Z", "title": "<First>"}, {})
    plan = {**facts()["plan"], "run": {"id": "phase9-2", "plan_hash": "ab12"}}
    write(tmp_path, {**build(facts(plan=plan), "plan"), "started_at": "2026-02-01T04:05:06Z"}, {})
    rollout = {
        **{"kind": "rollout", "verdict": "NO-GO", "title": "All", "started_at": "2026-03-01"},
        "hosts": [{"rows": 1000, "seconds": 2.0}, {"rows": 234, "seconds": 3.0}],
    }
    for name, text in (("rollout-1", json.dumps(rollout)), ("other", "[]"), ("broken", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text, encoding="utf-8")
    index.write(tmp_path, PLUGIN.TEMPLATES)
    page = (tmp_path / "index.html").read_text("utf-8")
    assert re.findall(r'href="([^"]+)"', page) == [
        "rollout-1/report.html",
        "phase9-2-plan/report.html",
        "phase9-1/report.html",
    ]
    assert "1,234" in page and "2 hosts" in page and "dry run" in page and "&lt;First&gt;" in page


def test_latest_moves_and_nothing_temporary_stays(tmp_path: Path) -> None:
    write(tmp_path, built(), {})
    plan = {**facts()["plan"], "run": {"id": "phase9-2", "plan_hash": "ab12"}}
    write(tmp_path, built(plan=plan), {})
    assert os.readlink(tmp_path / "latest") == "phase9-2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["latest", "phase9-1", "phase9-2"]
    for folder in ("phase9-1", "phase9-2"):
        names = sorted(p.name for p in (tmp_path / folder).iterdir())
        assert names == ["junit.xml", "report.html", "report.json", "report.md"]


def test_a_second_report_of_a_run_replaces_the_first(tmp_path: Path) -> None:
    write(tmp_path, built(), {})
    write(tmp_path, built(error="broken"), {})
    told = json.loads((tmp_path / "phase9-1/report.json").read_text("utf-8"))
    assert told["reasons"] == ["broken"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path, built(), {})
    before = (tmp_path / "latest/report.json").read_text("utf-8")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(RunbookError, match=r"cannot be written to .*: File too large\. Next"):
            write(tmp_path, built(error="broken"), {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "latest/report.json").read_text("utf-8") == before


def test_what_json_does_not_know_is_written_as_text(tmp_path: Path) -> None:
    """Evidence may hold what a driver returns."""
    odd = gate("odd", 2, evidence={"at": Path("somewhere"), "name": "Größe"})
    write(tmp_path, built(schema={"checks": [odd]}), {})
    text = (tmp_path / "latest/report.json").read_text("utf-8")
    assert '"somewhere"' in text and "Größe" in text


@pytest.mark.parametrize("validation", [{}, {"changed": False, "skipped": True}, {"checks": []}])
def test_without_a_validation_there_is_no_go(validation: dict[str, Any]) -> None:
    told = built(validation=validation)
    assert told["verdict"] == "NO-GO"
    assert told["reasons"] == ["The validation did not run."]


def test_the_sum_is_of_the_data_as_documented() -> None:
    told = built()
    data = {key: value for key, value in told.items() if key != "sha256"}
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert told["sha256"] == hashlib.sha256(text.encode("utf-8")).hexdigest()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(evidence=values)
def test_a_report_vouches_for_itself_after_it_was_written_and_read(evidence: Any) -> None:
    told = built(schema={"checks": [gate("odd", 2, evidence=evidence)]})
    read = json.loads(json.dumps(told, indent=2, ensure_ascii=False).encode("utf-8"))
    assert read == told and verify(read)


@given(data=st.data())
def test_a_report_that_was_changed_does_not_vouch_for_itself(data: st.DataObject) -> None:
    told = built()
    value = data.draw(values)
    for key in told:
        assert value == told[key] or not verify({**told, key: value}), key
        assert not verify({k: v for k, v in told.items() if k != key}), key


def test_the_command_in_the_report_checks_it(tmp_path: Path) -> None:
    write(tmp_path, built(phase={"title": "Größe ≥ 1"}), {})
    for page in ("report.md", "report.html"):
        text = unescape((tmp_path / "latest" / page).read_text("utf-8"))
        assert VERIFY in text

    def says() -> str:
        folder = tmp_path / "latest"
        done = subprocess.run(VERIFY, shell=True, cwd=folder, capture_output=True, text=True)
        return done.stdout.strip()

    assert says() == "True"
    path = tmp_path / "latest/report.json"
    path.write_text(path.read_text("utf-8").replace("Target of", "Trget of", 1), "utf-8")
    assert says() == "False"


def test_a_rollback_has_a_folder_of_its_own_and_leaves_the_runs_report(tmp_path: Path) -> None:
    write(tmp_path, built(), {})
    write(tmp_path, undone(), {})
    assert os.readlink(tmp_path / "latest") == "phase9-1-rollback"
    kinds = {
        folder: json.loads((tmp_path / folder / "report.json").read_text("utf-8"))["kind"]
        for folder in ("phase9-1", "phase9-1-rollback")
    }
    assert kinds == {"phase9-1": "run", "phase9-1-rollback": "rollback"}


def undone(**changes: Any) -> dict[str, Any]:
    """The report of a rollback that gave all rows back."""
    schema = {"columns": {"regions": "text"}, "indexes": {}}
    step = {"id": "rename", "title": "Back", "statements": ["ALTER b a"], "undo": [], "lock": "L"}
    run = facts()["plan"]["run"]
    return build(
        {
            **{k: facts()[k] for k in ("started_at", "finished_at", "error")},
            "phase": {"name": "phase9", "title": "Rollback of phase9-1"},
            "record": {
                "approvals": [{**APPROVAL, "scope": "rollback"}],
                "history": {"before": schema},
            },
            "backfill": {"rows_changed": 96, "rows_left_alone": 0, "left_alone": []},
            "column": {"schema": schema},
            **changes,
            "plan": {
                "run": run,
                "counts": {"rows_eligible": 96},
                "plan": {"steps": [step], "server": {"database": "shop"}},
                **changes.get("plan", {}),
            },
        },
        "rollback",
    )


def test_a_rollback_tells_what_was_given_back_and_what_was_left_alone() -> None:
    told = undone()
    assert told["verdict"] == "GO" and [c["status"] for c in told["checks"]] == ["pass", "pass"]
    assert told["changes"][0]["statements"] == [{"sql": "ALTER b a", "undo": ""}]
    left = undone(
        backfill={"rows_changed": 94, "rows_left_alone": 2, "left_alone": [["k1", "x"], ["k2"]]}
    )
    assert left["verdict"] == "GO" and left["checks"][0]["status"] == "warn"
    for page in (markdown(left), html(left, {})):
        assert "94 given back; 2 left alone" in page and "k1" in page and "k2" in page


def test_a_rollback_tells_what_it_could_not_give_back_or_be_sure_of() -> None:
    work = {"rows_changed": 90, "rows_left_alone": 5, "rows_put_back": 3, "rows_rewritten": 4}
    told = undone(backfill={**work, "columns_gone": ["region"]})["checks"][0]
    assert told["status"] == "warn"
    assert told["measured"] == (
        "90 given back; 2 left alone in all, because somebody has changed or deleted them since; "
        "3 not given back, because a trigger has put a value back; 4 of those given back had been "
        "rewritten by somebody since and still held the run's values; not given back, because "
        "renamed or dropped since: column region"
    )


def test_rows_that_were_refused_are_listed_with_what_the_server_says() -> None:
    refused = [{"key": '["<b>|", 7]', "sqlstate": "23514", "message": 'violates "k" <i>'}]
    told = built(record=recorded(rows_refused=2, refused=refused))
    assert told["backfill"]["rows_refused"] == 2 and told["backfill"]["refused"] == refused
    assert any("refuses to fill 2 rows" in risk["risk"] for risk in told["risks"])
    for page in (html(told, {}), markdown(told)):
        assert "refuses to fill them: 2 rows. The first 1:" in page and "(23514)" in page
        assert "<b>" not in page and "<i>" not in page
    assert "Set aside" not in html(built(), {})


def test_a_rollback_names_the_triggers_that_it_fired() -> None:
    plan = {"steps": [], "server": {}, "triggers": ["touch"]}
    told = undone(plan={"counts": {"rows_eligible": 1}, "plan": plan})
    (risk,) = told["risks"]
    assert "given back: touch" in risk["risk"] and "touch" in html(told, {})
    assert undone()["risks"] == []


def test_a_rollback_that_leaves_another_schema_says_so() -> None:
    told = undone(column={"schema": {"columns": {"region": "text"}, "indexes": {}}})
    assert told["checks"][1]["status"] == "warn"
    assert "- regions: text\n+ region: text" in markdown(told)


@pytest.mark.parametrize("changes", [{"column": {}}, {"error": "The rollback: no lock"}])
def test_a_rollback_that_did_not_end_is_no_go(changes: dict[str, Any]) -> None:
    told = undone(backfill={"failed": True}, **changes)
    assert told["verdict"] == "NO-GO" and told["checks"] == []
    assert told["reasons"] == [changes.get("error", "The rollback did not come to its end.")]
