# SPDX-License-Identifier: GPL-3.0-or-later
"""What fails half-way is taken back, or kept and said so; and a run can be undone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Database, Played, approval_of
from tests.integration.small_table import INDEX, Table, fill
from tests.integration.steps import Module, Steps

Playbook = Callable[..., Played]

REFUSE_INDEX_RENAMES = """
CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE 'no index is renamed today'; END $$;
CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('ALTER INDEX')
EXECUTE FUNCTION public.refuse();
"""

REFUSE_THE_WAY_BACK = """
CREATE FUNCTION public.no_way_back() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  IF EXISTS (SELECT FROM pg_attribute WHERE attname = 'snapshot_ip_type'
             AND attrelid = 'public.session_summaries'::regclass) THEN
    RAISE 'there is no way back';
  END IF;
END $$;
CREATE EVENT TRIGGER no_way_back ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
EXECUTE FUNCTION public.no_way_back();
"""

REFUSE_ONE_ROW = """
CREATE FUNCTION public.refuse_row() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE 'row % is refused', OLD.session_id; END $$;
CREATE TRIGGER refuse_row BEFORE UPDATE ON session_summaries FOR EACH ROW
WHEN (OLD.session_id = '{session_id}') EXECUTE FUNCTION public.refuse_row();
"""

REFUSE_TO_GIVE_BACK = """
CREATE FUNCTION pgrunbook.refuse() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE 'no row is given back today'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON pgrunbook.batch FOR EACH ROW
EXECUTE FUNCTION pgrunbook.refuse();
"""


@pytest.fixture
def small(phase: dict[str, Any]) -> dict[str, Any]:
    return {**phase, "phase_queries": []}


def words(played: Played) -> str:
    return " ".join(played.output.split())


def test_a_failure_after_the_rename_takes_it_back(
    database: Database, approved: Playbook, small: dict[str, Any], tmp_path: Path
) -> None:
    database.superuser(REFUSE_INDEX_RENAMES)
    before = database.state()
    played = approved(database, small)
    assert played.status != 0, played.output
    assert "no index is renamed today" in words(played)
    assert "The schema is as it was before the run" in words(played)
    assert database.state() == before
    changes = database.sql("SELECT kind, undone_at IS NOT NULL AS undone FROM pgrunbook.change")
    assert changes == [{"kind": "rename", "undone": True}]
    report = json.loads((tmp_path / "reports/latest/report.json").read_text())
    assert report["verdict"] == "NO-GO"
    assert "no index is renamed today" in report["reasons"][0]
    kinds = {moment["event"] for moment in report["timeline"]}
    assert {"Column renamed", "Column rename taken back"} <= kinds
    ended = database.sql("SELECT body -> 'detail' AS detail FROM pgrunbook.event ORDER BY id")[-1]
    assert ended["detail"]["report_sha256"] == report["sha256"]


def test_a_rename_that_cannot_be_taken_back_ends_in_words(
    database: Database, approved: Playbook, small: dict[str, Any], tmp_path: Path
) -> None:
    database.superuser(REFUSE_INDEX_RENAMES + REFUSE_THE_WAY_BACK)
    played = approved(database, small)
    assert played.status != 0, played.output
    run = database.sql("SELECT id, state, verdict FROM pgrunbook.run")[0]
    assert (run["state"], run["verdict"]) == ("failed", "NO-GO")
    report = json.loads((tmp_path / "reports/latest/report.json").read_text())
    for said in (words(played), report["reasons"][0]):
        assert "no index is renamed today" in said and "there is no way back" in said
    assert "Still there: rename of snapshot_ip_types to snapshot_ip_type." in words(played)
    assert f"playbooks/rollback.yml -e run={run['id']}" in words(played)


def test_a_failing_backfill_keeps_its_batches_resumes_and_can_be_undone(
    database: Database, module: Module, approved: Playbook, small: dict[str, Any]
) -> None:
    before = database.state()
    victim = database.sql(
        "SELECT session_id FROM session_summaries WHERE snapshot_asn IS NULL"
        " AND source_ip IS NOT NULL ORDER BY ctid DESC OFFSET 200 LIMIT 1"
    )[0]["session_id"]
    database.sql(REFUSE_ONE_ROW.format(session_id=victim))
    small = {**small, "phase_acknowledged": ["refuse_row"]}

    broken = approved(database, small)
    run = database.sql("SELECT id, state FROM pgrunbook.run")[0]
    kept = database.sql("SELECT sum(row_count)::int AS rows FROM pgrunbook.batch")[0]["rows"]
    assert broken.status != 0, broken.output
    assert f"row {victim} is refused" in words(broken)
    assert f"playbooks/rollback.yml -e run={run['id']}" in words(broken)
    assert run["state"] == "failed"
    assert kept > small["phase_canary_rows"]

    database.sql("DROP TRIGGER refuse_row ON session_summaries; DROP FUNCTION public.refuse_row")
    steps = Steps.of(module, database, small)
    assert f"Run {run['id']}, which goes on where it stopped" in steps.plan()["text"]
    steps.forward()
    twice = database.sql(
        "SELECT e ->> 0 FROM pgrunbook.batch, jsonb_array_elements(journal) e"
        " GROUP BY 1 HAVING count(*) > 1"
    )
    assert twice == []
    steps.back()
    assert database.state() == before


def test_a_rollback_that_stops_says_which_indexes_are_missing(
    database: Database, module: Module, playbook: Playbook
) -> None:
    enough = Table(rows=26_000, spec={"indexes": [INDEX], "batch_rows": 5000})
    steps = enough.make(database, module)
    fill(steps)
    run = steps.planned["run"]["id"]
    database.sql(REFUSE_TO_GIVE_BACK)
    approval = approval_of(module, database, {}, rollback_of=run)
    broken = playbook(database.login, "rollback", "-e", f"run={run}", "-e", approval)
    assert broken.status != 0, broken.output
    assert "no row is given back today" in words(broken)
    assert "Until it is finished the indexes are missing that it dropped first" in words(broken)
    assert database.sql("SELECT to_regclass('t_value') AS oid") == [{"oid": None}]


def test_a_rollback_of_what_is_undone_changes_nothing(
    database: Database, module: Module, playbook: Playbook, small: dict[str, Any]
) -> None:
    steps = Steps.of(module, database, small)
    steps.begin()
    steps.do("run", state="failed")
    run = steps.planned["run"]["id"]
    steps.back()
    again = playbook(database.login, "rollback", "-e", f"run={run}", phase=small)
    assert again.status == 0 and again.recap("changed") == 0, again.output
    assert "Nothing to undo" in again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [([], "Which run? Pass -e run=<id>"), (["-e", "run=nonsense"], "no run 'nonsense'")],
    ids=["without a run", "of an unknown run"],
)
def test_a_rollback_is_refused(
    database: Database, playbook: Playbook, arguments: list[str], message: str
) -> None:
    played = playbook(database.login, "rollback", *arguments)
    assert played.status != 0
    assert message in words(played).replace("''", "'")


def test_a_report_that_cannot_be_written_hides_neither_the_failure_nor_what_stands(
    database: Database, approved: Playbook, small: dict[str, Any], tmp_path: Path
) -> None:
    database.superuser(REFUSE_INDEX_RENAMES)
    (tmp_path / "file").touch()
    folder = f"{tmp_path}/file/reports"
    played = approved(database, small, "-e", f"runbook_reports={folder}")
    assert played.status != 0, played.output
    last = words(played).rpartition("TASK [runbook : Stop]")[2]
    assert "The schema step stopped" in last and "no index is renamed today" in last
    assert "The schema is as it was before the run" in last
    assert "There is no report: The report cannot be written" in last
    assert database.sql("SELECT state FROM pgrunbook.run") == [{"state": "failed"}]
