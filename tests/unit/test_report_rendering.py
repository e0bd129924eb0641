# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pages of the report show, whatever the run and the database hold."""

from __future__ import annotations

import html as html_module
import re
import shlex
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible.module_utils.pgrunbook.report.checklist import TESTS
from ansible.module_utils.pgrunbook.report.store import verify
from tests.reporting import PLUGIN, build, draw, html, junit_xml, markdown
from tests.unit.conftest import parsed
from tests.unit.test_report import APPROVAL, facts, gate

HOSTILE = (
    '<script>alert(1)</script>"><img src=x onerror=alert(2)> `a` | [b](javascript:c) &amp; $x$'
)

STEPS = [
    {
        "id": "rename",
        "title": "Rename the column",
        "statements": ['ALTER TABLE t RENAME "a" TO "b"'],
        "undo": ['ALTER TABLE t RENAME "b" TO "a"'],
        "lock": "ACCESS EXCLUSIVE",
    },
    {
        "id": "index_defer",
        "title": "Drop indexes",
        "statements": ["DROP INDEX ix"],
        "undo": ["CREATE INDEX ix"],
        "lock": "SHARE",
    },
    {
        "id": "backfill",
        "title": "Fill the columns",
        "statements": ["UPDATE one", "UPDATE two", "UPDATE three", "VACUUM t"],
        "undo": ["playbooks/rollback.yml gives back the rows"],
        "lock": "ROW EXCLUSIVE",
    },
    {
        "id": "index_build",
        "title": "Build the indexes",
        "statements": ["CREATE INDEX ix", "CREATE INDEX iy"],
        "undo": ["DROP INDEX ix", "DROP INDEX iy"],
        "lock": "SHARE",
    },
]


def event(second: int, kind: str, **detail: Any) -> dict[str, Any]:
    return {"at": f"2026-01-31T04:01:{second:02}.500Z", "kind": kind, "detail": detail}


def a_slice(second: int, **changes: Any) -> dict[str, Any]:
    return {
        "at": f"2026-01-31T04:02:{second:02}.000Z",
        "seconds": 5.0,
        "rows_done": 10 * second,
        "rows": 50,
        "sweep": 0,
        "replay_lag": None,
        "held_seconds": 0.0,
        "hot_percent": 80.0,
        "held": "",
        "fallback": "",
        **changes,
    }


def a_batch(second: int, **changes: Any) -> dict[str, Any]:
    return {
        "at": f"2026-01-31T04:02:{second:02}.000Z",
        "batches": 2,
        "rows": 50,
        "seconds": 1.0,
        "p50_ms": 90.0,
        "p95_ms": 110.0,
        "max_ms": 120.0,
        **changes,
    }


HISTORY = {
    "events": [
        event(1, "approved", scope="plan", plan_hash="ab12cd34ef", by="alice", origin="bastion",
              method="prompt"),
        event(2, "rename", old="a", new="b"),
        event(3, "index_defer", old="", new="ix"),
        {**event(0, "index_build", old="", new="ix"), "at": "2026-01-31T04:03:00.000Z"},
    ],
    "slices": [a_slice(5), a_slice(10)],
    "batches": [a_batch(4), a_batch(9, max_ms=400.0)],
    "steps": STEPS,
    "before": {},
    "chain": {"events": 17, "head": "c0ffee"},
}  # fmt: skip


def side(ms: float, buffers: int, plan: dict[str, Any]) -> dict[str, Any]:
    """What one query of a pair measured."""
    spread = {"median": ms, "min": ms, "max": ms}
    times = {"ms": spread, "processor_ms": spread}
    return {**times, "workers": 0, "buffers": buffers, "read": 0, "plan": plan}


PAIR = {
    "name": "of a region",
    "equal": True,
    "rows": 1,
    "runs": 6,
    "seed": 7,
    "time_ratio": 2.0,
    "time_interval": [1.9, 2.4],
    "processor_ratio": 2.5,
    "processor_interval": [2.4, 2.75],
    "buffer_ratio": 20.0,
    "buffer_interval": [20.0, 20.0],
    "read_from_outside": False,
    "snapshot": side(1.0, 5, {
        "Node Type": "Aggregate", "Actual Rows": 1, "Shared Hit Blocks": 5, "Plans": [
            {"Node Type": "Index Scan", "Index Name": "ix_region", "Index Cond": "(region = 'x')"},
        ]}),
    "baseline": side(2.0, 100, {"Node Type": "Join"}),
    "proposal": None,
}  # fmt: skip


def whole(**changes: Any) -> dict[str, Any]:
    """The facts of a run with a specification, a history and everything else that is shown."""
    spec = parsed(
        queries=[
            {
                "name": "of a region",
                "snapshot": "SELECT count(*) FROM {table} WHERE {region} = 'x'",
                "baseline": "SELECT count(*) FROM {table} t JOIN {source} s ON t.customer = s.id",
                "enforce": True,
            }
        ]
    )
    own = ("plan_is", "history", "approvals", "title")
    told = facts(**{k: v for k, v in changes.items() if k not in own})
    told["phase"]["title"] = changes.get("title", told["phase"]["title"])
    told["plan"]["plan"] = {"spec": spec.as_dict(), "steps": STEPS, **changes.get("plan_is", {})}
    return {
        **told,
        "record": {
            "approvals": changes.get("approvals", told["record"]["approvals"]),
            "history": {**HISTORY, **changes.get("history", {})},
        },
        "login": {"host": "/run/x y", "dbname": "shop", "user": "app", "password": "hunter2"},
        "inventory": "-i inventories/here",
    }


class Page(HTMLParser):
    """What a browser makes of the page: elements with their attributes, and the text."""

    VOID = ("meta", "br", "use", "path")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def words(text: str) -> str:
    return " ".join(text.split())


def shown(told: dict[str, Any]) -> dict[str, str]:
    """Both pages as their readers see them, white space apart."""
    page = Page(html(told, {}))
    assert page.open == [], "every element is closed"
    unescaped = re.sub(r"\\([\\`*|\[\]])", r"\1", markdown(told))
    return {"html": words(page.text), "markdown": words(html_module.unescape(unescaped))}


@pytest.mark.parametrize("page", ["html", "markdown"])
def test_everything_that_a_board_decides_on_is_on_the_page(page: str) -> None:
    failed = gate("coverage", 3, passed=False)
    pair = gate("query:of a region", 5, evidence=PAIR)
    told = build(
        whole(
            validation={**facts()["validation"], "checks": [failed]},
            queries={"pairs": [PAIR], "checks": [pair]},
        )
    )
    assert told["queries"] == [PAIR]
    text = shown(told)[page]
    wanted = [
        *told["reasons"],
        *told["summary"],
        *(test["objective"] for test in told["tests"]),
        *(step["command"] for test in told["tests"] for step in test["repeat"]),
        *(str(c[key]) for c in told["checks"] for key in ("title", "target", "measured")),
        *(str(value) for risk in told["risks"] for value in risk.values()),
        *(moment[key] for moment in told["timeline"] for key in ("event", "text")),
        *(pair[key] for change in told["changes"] for pair in change["statements"] for key in pair),
        *(row["criterion"] for row in told["readiness"]),
        *told["undo"]["statements"],
        told["undo"]["command"],
        told["undo"]["text"],
        told["plan_hash"],
        told["chain"]["head"],
        told["sha256"],
        "- regions: text",
        "Index Scan on ix_region",
        "(region = 'x')",
    ]
    assert [part for part in wanted if words(str(part)) not in text] == []


def test_each_test_tells_how_to_repeat_it_by_hand() -> None:
    told = build(whole())
    commands = {t["test"]: [step["command"] for step in t["repeat"]] for t in told["tests"]}
    assert set(commands) == set(TESTS) and all(commands.values())
    assert commands[4] == ["ansible-playbook -i inventories/here playbooks/phase9.yml --check"]
    assert 'FROM "public"."orders"' in commands[3][0]
    assert "EXPLAIN (ANALYZE, BUFFERS) SELECT count(*)" in commands[5][0]
    for command in (c for cs in commands.values() for c in cs if c.startswith("psql")):
        conninfo = shlex.split(command.splitlines()[0])[1]
        assert conninfo.startswith("host='/run/x y'") and "dbname=shop" in conninfo
        assert "hunter2" not in command
    assert "hunter2" not in str(told), "a password has no place in a report"


def hostile(value: Any) -> Any:
    """The same facts with every text that a database could give made hostile."""
    if isinstance(value, dict):
        return {k: v if k in KEPT else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return f"{value} {HOSTILE}" if isinstance(value, str) else value


KEPT = (
    "id", "status", "at", "kind", "started_at", "finished_at", "run", "plan", "login",
    "scope", "method", "playbook", "inventory",
)  # fmt: skip


def test_markup_from_the_database_stays_text() -> None:
    told = build(hostile(whole()))
    page = Page(html(told, draw(told)))
    tags = {tag for tag, _ in page.elements}
    assert "script" not in tags and "img" not in tags
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not str(attributes.get("href", "#")).startswith("javascript:")
    assert "<script>alert(1)</script>" in page.text, "it is shown, as text"
    text = markdown(told)
    outside = re.sub(r"^(`{3,})[^`\n]*\n.*?^\1$", "", text, flags=re.M | re.S)
    outside = re.sub(r"(?<!\\)`[^`\n]*`", "", outside)
    assert "alert(1)" in outside
    assert "<script" not in outside and "<img" not in outside
    assert not re.search(r"(?<!\\)\]\(javascript", outside)


def test_the_page_needs_no_network_and_lets_no_script_run() -> None:
    told = build(whole())
    page = Page(html(told, draw(told)))
    for tag, attributes in page.elements:
        assert tag not in ("link", "script", "iframe", "object")
        for name in ("src", "href", "xlink:href"):
            assert str(attributes.get(name) or "#").startswith("#"), (tag, attributes)
    policies = [a["content"] for t, a in page.elements if a.get("http-equiv")]
    assert len(policies) == 1 and "default-src 'none'" in str(policies[0])
    anchors = {a["href"] for t, a in page.elements if t == "a"}
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert {f"#{id}" for id in ids} >= anchors
    assert len(ids) == len(set(ids)), "no id is there twice"


def test_code_in_markdown_ends_where_it_should() -> None:
    odd = gate("odd", 2, evidence={"text": "```\n# not a heading\n````"})
    text = markdown(build(whole(schema={"checks": [odd]})))
    fence = re.search(r"^(`{5,})text$", text, re.M)
    assert fence and f"\n{fence[1]}\n" in text.split("# not a heading")[1]


DIFFERENCE = {
    "kind": "remove_column",
    "object": "orders.regions",
    "table": "orders",
    "severity": "critical",
    "breaks": True,
    "by_phase": False,
    "acknowledged": False,
    "text": "column orders.regions is surplus",
    "impact": "the application cannot start",
    "resolutions": [
        {"option": "rename it", "sql": "ALTER TABLE a\nRENAME b TO c", "costs": "a lock",
         "recommended": True, "gains": "no release"},
        {"option": "change the code", "sql": "", "costs": "a release", "recommended": False,
         "gains": ""},
        {"option": "several", "sql": "ONE\nTWO", "costs": "", "recommended": False, "gains": ""},
    ],
    "component": "column orders.regions",
    "expected": "none",
    "found": "regions (text)",
}  # fmt: skip


@pytest.mark.parametrize("page", ["html", "markdown"])
def test_a_difference_of_the_schema_comes_with_its_resolutions(page: str) -> None:
    bare = {**DIFFERENCE, "text": "only a text", "impact": "", "resolutions": []}
    odd = gate("schema", 2, passed=False, evidence=[DIFFERENCE, bare])
    told = build(whole(schema={"checks": [odd]}))
    before = build(whole(drift={"differences": [DIFFERENCE, bare]}))
    assert before["drift"] == [DIFFERENCE, bare] and before["verdict"] == "GO"
    text = shown(told)[page]
    for part in (
        "CRITICAL", "For: no release",
        "column orders.regions is surplus", "the application cannot start",
"Option 1 (recommended)", "rename it", "a lock",
        "ALTER TABLE a RENAME b TO c", "Option 2", "a release", "ONE TWO", "only a text",
    ):  # fmt: skip
        assert part in text, part
        assert part in shown(before)[page], part
    risks = [risk for risk in told["risks"] if risk["risk"].startswith("Schema")]
    assert risks[0]["impact"] == "high: the application cannot start"
    assert risks[0]["mitigation"] == "Recommended: rename it."


def suite(told: dict[str, Any]) -> ElementTree.Element:
    return ElementTree.fromstring(junit_xml(told).encode("utf-8"))


def test_junit_has_a_case_for_each_check() -> None:
    checks = [
        gate("a", 2),
        gate("b", 2, passed=False, measured="too little"),
        gate("c", 2, passed=False, enforce=False),
    ]
    told = build(whole(schema={"checks": checks}))
    found = suite(told)
    assert found.tag == "testsuite"
    cases = {case.get("name"): case for case in found.iter("testcase")}
    assert list(cases) == [c["title"] for c in told["checks"]]
    assert found.attrib == {
        "name": "Phase nine",
        "tests": str(len(told["checks"])),
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "300",
        "timestamp": "2026-01-31T04:05:00",
    }
    failure = cases["Title of b"].find("failure")
    assert failure is not None and "too little" in str(failure.get("message"))
    for title, told_so in (("Title of a", False), ("Title of c", True)):
        output = cases[title].find("system-out")
        assert output is not None and str(output.text).startswith("WARNING") == told_so
        assert cases[title].find("failure") is None
    properties = {p.get("name"): p.get("value") for p in found.iter("property")}
    assert properties["sha256"] == told["sha256"] and properties["run_id"] == "phase9-1"


@given(st.text(st.characters(exclude_categories=[]), max_size=30))
def test_junit_is_well_formed_whatever_a_value_holds(value: str) -> None:
    odd = gate("odd", 2, passed=False, title=value, measured=value)
    told = build(whole(schema={"checks": [odd]}, title=value, error=value))
    found = suite(told)
    assert found.get("errors") == str(int(bool(value)))


def test_a_run_that_broke_off_is_an_error_in_junit() -> None:
    found = suite(build(whole(error="The backfill: no lock", validation={})))
    error = found.find(".//error")
    assert error is not None and error.get("message") == "The backfill: no lock"
    assert found.get("errors") == "1" and int(found.get("tests", 0)) == len(
        list(found.iter("testcase"))
    )


BARE = {
    **{k: facts()[k] for k in ("phase", "started_at", "finished_at")},
    "error": "The run: lost",
}


@pytest.mark.parametrize("missing", [None, *PLUGIN.RESULTS, "record"])
def test_a_run_that_broke_off_anywhere_has_a_whole_report(missing: str | None) -> None:
    told = BARE if missing is None else {**whole(), missing: None, "error": "lost"}
    built = build(told)
    assert built["verdict"] == "NO-GO" and verify(built)
    drawn = draw(built)
    assert Page(html(built, drawn)).open == []
    assert "## Test 6: Data quality" in markdown(built)
    suite(built)


def risks(**changes: Any) -> dict[str, dict[str, str]]:
    return {risk["risk"]: risk for risk in build(whole(**changes))["risks"]}


def one_risk(begin: str, **changes: Any) -> dict[str, str]:
    found = [risk for text, risk in risks(**changes).items() if text.startswith(begin)]
    assert len(found) == 1, risks(**changes)
    return found[0]


def test_a_quiet_run_has_few_risks() -> None:
    quiet = whole(validation={"checks": [gate("indexes", 2), gate("coverage", 3)]})
    assert [risk["risk"] for risk in build(quiet)["risks"]] == [
        "1 index was dropped for the backfill and built again after it.",
        "The change turns out to be unwanted later.",
    ]


def test_indexes_that_are_not_known_to_be_back_are_a_high_risk() -> None:
    risk = one_risk("1 index was dropped", error="The backfill: lost", validation={})
    assert "not all of them are known to be back" in risk["risk"]
    assert risk["impact"].startswith("high")


def test_a_waived_rollback_is_a_high_risk_and_no_command_undoes_the_run() -> None:
    waived = {"spec": parsed(key=[], waive_rollback=True).as_dict()}
    risk = one_risk("The rollback is waived", plan_is=waived)
    assert risk["impact"].startswith("high")
    undo = build(whole(plan_is=waived))["undo"]
    assert undo["command"] == "" and "backup" in undo["text"]


@pytest.mark.parametrize(
    ("begin", "changes"),
    [
        ("Title of odd: wanted", {"schema": {"checks": [gate("odd", 2, passed=False)]}}),
        ("5 rows are left", {"schema": {"checks": [
            gate("remaining", 3, passed=False, enforce=False, measured=5)]}}),
        ("5 rows have a source key", {"schema": {"checks": [
            gate("orphans", 1, passed=False, enforce=False, measured=5)]}}),
        ("The source has changed since 7", {"schema": {"checks": [
            gate("comparison", 6, evidence={"drifted": 7})]}}),
        ("The backfill went over to single passes, because of pid 7.", {"history": {"slices": [
            a_slice(5, fallback="pid 7")]}}),
        ("A long transaction was seen: one of 99 s", {"preflight": {
            "health": {"oldest_transaction_seconds": 99.0}}}),
        ("The backfill was held for 3.0 s", {"history": {"slices": [
            a_slice(5, held_seconds=3.0, held="paused by bob")]}}),
        ("Approved without a prompt: backfill", {"approvals": [
            APPROVAL, {**APPROVAL, "scope": "backfill", "method": "unattended"}]}),
        ("These are on a column as it was", {"plan_is": {"dependents": [
            {"object": "function f()", "follows": False}, {"object": "view v", "follows": True}]}}),
        ("Triggers fired", {"plan_is": {"triggers": ["touch"]}}),
        ("The run was broken off", {"error": "lost"}),
    ],
)  # fmt: skip
def test_a_risk_is_there_when_a_fact_calls_for_it(begin: str, changes: dict[str, Any]) -> None:
    assert not [text for text in risks() if text.startswith(begin)]
    risk = one_risk(begin, **changes)
    assert risk["impact"].split(":")[0] in ("high", "medium", "low")
    assert risk["likelihood"] and risk["mitigation"]


def test_the_worst_risks_come_first() -> None:
    found = build(whole(error="lost", schema={"checks": [gate("odd", 2, passed=False)]}))
    order = [risk["impact"].split(":")[0] for risk in found["risks"]]
    assert order == sorted(order, key=("high", "medium", "low").index)


def test_changes_are_the_statements_with_what_undoes_them() -> None:
    told = build(whole())
    changes = {change["step"]: change for change in told["changes"]}
    assert list(changes) == ["rename", "index_defer", "backfill", "index_build"]
    assert changes["rename"]["recorded"] == 1 and changes["rename"]["taken_back"] == 0
    assert changes["backfill"]["recorded"] == 96
    assert [pair["sql"] for pair in changes["backfill"]["statements"]] == ["UPDATE one", "VACUUM t"]
    assert changes["backfill"]["omitted"] == 2
    assert told["undo"] == {
        "command": "ansible-playbook -i inventories/here playbooks/rollback.yml -e run=phase9-1",
        "text": told["undo"]["text"],
        "statements": ["DROP INDEX iy", 'ALTER TABLE t RENAME "b" TO "a"'],
        "sql_text": "BEGIN;\nSET LOCAL lock_timeout = '500ms';\nDROP INDEX iy;\n"
        'ALTER TABLE t RENAME "b" TO "a";\nCOMMIT;',
    }


def test_of_statements_that_differ_in_the_partition_one_is_shown() -> None:
    step = {
        **STEPS[3],
        "statements": ["ONLY", "BUILD one", "BUILD two", "ATTACH one", "ATTACH two"],
        "undo": ["DROP ONLY", "", "", "", ""],
        "alike": [1, 2, 2],
    }
    told = build(whole(history={"steps": [*STEPS[:3], step]}))
    change = told["changes"][-1]
    assert [pair["sql"] for pair in change["statements"]] == ["ONLY", "BUILD one", "ATTACH one"]
    assert change["omitted"] == 2 and told["undo"]["statements"][0] == "DROP ONLY"


def test_a_run_that_was_resumed_shows_the_statements_of_all_its_plans_once() -> None:
    twice = {"steps": [*STEPS[:2], *STEPS[2:], STEPS[2]]}
    told = build(whole(history=twice, plan_is={"steps": STEPS[2:]}))
    assert told["changes"] == build(whole())["changes"]


def test_after_a_run_that_broke_off_each_statement_is_undone() -> None:
    undo = build(whole(error="lost"))["undo"]["statements"]
    assert undo[:2] == ["DROP INDEX iy", "DROP INDEX ix"] and "CREATE INDEX ix" in undo


def test_nothing_approved_is_nothing_changed() -> None:
    told = build(whole(approvals=[]))
    assert told["changes"] == [] and told["statements"] == []
    assert told["undo"]["command"] == "" and told["undo"]["statements"] == []


def test_the_timeline_is_in_order_and_tells_who_did_what() -> None:
    told = build(whole())
    assert [moment["event"] for moment in told["timeline"]] == [
        "This execution began",
        "Approved",
        "Column renamed",
        "Index to be dropped for the backfill",
        "First batches committed",
        "Last batches committed",
        "Index build begun",
        "Report written",
    ]
    texts = {moment["event"]: moment["text"] for moment in told["timeline"]}
    assert texts["Approved"] == "plan ab12cd34 by alice from bastion, prompt"
    assert texts["Column renamed"] == "a → b"


def test_the_summary_is_made_of_the_runs_figures() -> None:
    baseline = gate("baseline", 3, evidence={"region": 0.5})
    coverage = gate("coverage", 3, evidence={"region": 96.0})
    changes = {
        "validation": {"checks": [coverage]},
        "queries": {"pairs": [PAIR], "checks": []},
        "schema": {"checks": [baseline]},
    }
    text = " ".join(build(whole(**changes))["summary"])
    for part in (
        "fill region of public.orders (100 rows) from public.customers",
        "at least 95 % of the rows",
        "regions to region",
        "96 of 96 rows",
        "in 2.5 s of work (38 rows/s), in 4 batches of which the longest took 400 ms",
        "region from 0.5 to 96 %",
        '"of a region" is 2 × faster than the query that it replaces, and reads 20 × fewer buffers',
        "GO: Every enforced gate passed.",
    ):
        assert part in text, part


def test_emphasis_in_a_value_stays_text() -> None:
    told = build(whole(title="~~a~~ __b__ _c_ snake_case"))
    assert r"# \~\~a\~\~ \_\_b\_\_ \_c\_ snake_case" in markdown(told)
