# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the way of a run before its plan is told at once, in the terminal and the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import data
from tests.integration.conftest import Database, Played
from tests.integration.steps import Module, Steps

MALLORY, CLERK, PEGGY = "mallory", 'the "clerk"', "peggy"


@pytest.fixture
def many(database: Database, phase: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A phase and a login role with much in the way; the phase, and the role under role."""
    for role in (MALLORY, CLERK, PEGGY):
        quoted = '"' + role.replace('"', '""') + '"'
        database.superuser(f"CREATE ROLE {quoted} LOGIN")
    database.superuser(
        "GRANT CREATE ON SCHEMA public TO mallory, peggy;"
        "SET ROLE mallory; CREATE FUNCTION public.f() RETURNS int RETURN 1;"
        "CREATE FUNCTION public.g() RETURNS int RETURN 1"
    )
    yield {
        **phase,
        "phase_window_end": "2020-01-01T00:00:00+00:00",
        "phase_key": ["session_key"],
        "phase_source_key": {"source_ip": "ip_adress"},
        "phase_queries": [],
    }
    for role in (MALLORY, CLERK, PEGGY):
        quoted = '"' + role.replace('"', '""') + '"'
        database.superuser(f"DROP OWNED BY {quoted} CASCADE; DROP ROLE {quoted}")


WANTED = (
    "Role 'mallory' may create functions",
    "Role 'peggy' may create functions",
    "function public.f() (and 1 more) was made by role 'mallory'",
    "The maintenance window ended",
    "has no column 'session_key'",
    "has no column 'ip_adress'",
    "may not alter public.session_summaries",
    "may not read public.ip_inventory",
    "may not make the ledger",
)


def test_all_that_the_preflight_refuses_is_told_at_once(
    database: Database, module: Module, many: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, many)
    login = {**database.login, "user": CLERK}
    refused = steps.attempt("preflight", login=login)
    assert refused["failed"] and refused["msg"].startswith(
        f"There are {len(WANTED)} obstacles.\n1."
    )
    for said in WANTED:
        assert [o for o in refused["obstacles"] if said in o], (said, refused["obstacles"])
    grants = [o for o in refused["obstacles"] if "GRANT" in o]
    assert any(f'GRANT "{data.ROLE}" TO "the ""clerk"""' in o for o in grants)
    assert any('GRANT SELECT ON "public"."ip_inventory" TO "the ""clerk"""' in o for o in grants)


def test_code_of_others_is_not_called_to_find_more(
    database: Database, module: Module, many: dict[str, Any]
) -> None:
    """What the planner would call for a view is asked for only where everybody is trusted."""
    database.superuser(
        "CREATE TABLE caught (n int); GRANT ALL ON caught TO PUBLIC; SET ROLE mallory;"
        "CREATE FUNCTION public.trap() RETURNS bool LANGUAGE plpgsql IMMUTABLE AS"
        " 'BEGIN RAISE EXCEPTION ''called''; END'; RESET ROLE;"
        "CREATE VIEW trapped AS SELECT ip_address FROM ip_inventory WHERE public.trap();"
        f"ALTER VIEW trapped OWNER TO {data.ROLE}"
    )
    given = {**many, "phase_source_table": "trapped"}
    refused = Steps.of(module, database, given).refused("preflight")
    assert "called" not in refused and "'mallory'" in refused and "no column 'ip_adress'" in refused


def test_the_playbook_tells_them_with_the_mistakes_of_the_models(
    database: Database,
    playbook: Callable[..., Played],
    many: dict[str, Any],
    tmp_path: Path,
) -> None:
    models = tmp_path / "mistaken.py"
    models.write_text("Base = (\n", encoding="utf-8")
    given = {**many, "phase_models": f"{models}:Base"}
    played = playbook(database.login, "phase3", "--check", phase=given)
    assert played.status == 2, played.output
    lines = [line.strip() for line in played.output.splitlines()]
    numbered = [line for line in lines if line[:2] in [f"{n}." for n in range(1, 10)]]
    said = " ".join(played.output.split())
    for wanted in (*WANTED[:6], f"SyntaxError: '(' was never closed, in {models}, line 1."):
        assert wanted in said, played.output
    assert len({line for line in numbered if line[2] == " "}) >= 7, played.output
    assert "Module failed" not in said and "Traceback" not in said
    report = json.loads((tmp_path / "reports/latest/report.json").read_text())
    assert report["error"].startswith("There are 7 obstacles.\n1. ")
    page = (tmp_path / "reports/latest/report.md").read_text()
    assert [reason[:4] for reason in report["reasons"]].count("Role") == 2 and len(
        report["reasons"]
    ) == 7
    reasons = page.split("Why not:")[1].split("## ")[0]
    assert reasons.count("\n- ") == 7 and f"{models}, line 1" in reasons, reasons
    assert "\\n" not in said, "a line break is one"
