# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing that a database holds moves the cursor, turns the text or hides a part of what a person
reads; and what is stored is what the database held."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook.report.store import verify
from tests.integration.conftest import Database, Played, options
from tests.integration.steps import Module, Steps, facts_of, reported

Phase = dict[str, Any]
Playbook = Callable[..., Played]

HOSTILE = "a\x1b[2J\x1b]0;b\x07\x9b1A\u202ec\u2066\u200b\u2028é日\nPlan hash: 0000"
SHOWN = r"a\x1b[2J\x1b]0;b\x07\x9b1A\u202ec\u2066\u200b\u2028é日\nPlan hash: 0000"
MARKUP = "<script>alert(1)</script>|`x`|[y](javascript:z)<img src=x onerror=w>"


def unseen(text: str) -> set[str]:
    """The characters of a text that cannot be seen, line breaks and tabs apart."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    return {c for c in text if unicodedata.category(c) in kinds and c not in "\n\t"}


@contextmanager
def raises(database: Database, message: str) -> Iterator[None]:
    """Every update of the table fails with a message of its trigger."""
    database.sql(
        SQL(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION USING MESSAGE = {}; END $$"
        ).format(message)
    )
    database.sql(
        "CREATE TRIGGER refuse BEFORE UPDATE ON session_summaries FOR EACH ROW"
        " EXECUTE FUNCTION refuse()"
    )
    yield
    database.sql("DROP FUNCTION refuse CASCADE")


def test_a_value_is_shown_escaped_and_stored_as_it_is(
    database: Database, module: Module, phase: Phase
) -> None:
    database.sql("UPDATE ip_inventory SET ip_type = %s", (HOSTILE,))
    steps = Steps.of(module, database, phase)
    text = steps.plan()["text"]
    assert f"snapshot_ip_type={SHOWN}" in text and not unseen(text)
    assert [line for line in text.splitlines() if "Plan hash: " in line and "=" not in line] == [
        f"Plan hash: {steps.planned['plan_hash']}"
    ]
    steps.approve("plan")
    steps.do("column")
    diff = steps.do("backfill", canary=True, check=True)["diff"]
    assert SHOWN in str(diff["prepared"]) and not unseen(diff["prepared"])
    steps.do("backfill", canary=True)
    stored = database.sql(
        "SELECT count(*) AS n FROM session_summaries WHERE snapshot_ip_type = %s", (HOSTILE,)
    )
    assert stored[0]["n"] > 0


def test_names_of_objects_are_shown_escaped(
    database: Database, module: Module, phase: Phase
) -> None:
    trigger = "t\x1b[2K\u202e\nPlan hash: 0000"
    database.sql(
        SQL(
            "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql"
            " AS $$ BEGIN RETURN NEW; END $$;"
            "CREATE TRIGGER {} BEFORE UPDATE ON session_summaries"
            " FOR EACH ROW EXECUTE FUNCTION pass();"
            "CREATE VIEW {} AS SELECT snapshot_ip_types FROM session_summaries;"
            "CREATE INDEX {} ON session_summaries (snapshot_asn, matcher)"
        ).format(Identifier(trigger), Identifier("v\x9b\u2066"), Identifier("i\x1b[1A\u202e"))
    )
    steps = Steps.of(module, database, phase)
    assert r"t\x1b[2K\u202e" in steps.refused("plan")
    steps.spec["acknowledged"] = [trigger]
    text = steps.plan()["text"]
    assert not unseen(text)
    assert r"Trigger t\x1b[2K\u202e\nPlan hash: 0000 fires" in text
    assert r"v\x9b\u2066" in text
    found = steps.do("drift", models=phase["phase_models"])
    told = [
        str([d["text"], d["impact"], d["resolutions"]])
        for d in found["differences"]
        if r"i\x1b[1A\u202e" in d["text"]
    ]
    assert told and not unseen("".join(told))
    assert not unseen("".join(c["measured"] for c in found["checks"]))


def test_messages_of_the_server_and_queries_of_others_are_shown_escaped(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, {**phase, "phase_lock_tries": 1})
    steps.spec["acknowledged"] = ["refuse"]
    with raises(database, "no\x1b[2J\u202e"):
        steps.begin()
        message = steps.refused("backfill", canary=True)
        assert r"no\x1b[2J\u202e" in message and not unseen(message)
    with closing(database.connect()) as other, other.transaction():
        other.execute(
            'LOCK session_summaries IN ROW EXCLUSIVE MODE;SELECT 1 AS "x\x1b[2J\u202e\nok: [host]"'
        )
        message = steps.refused("column", state="reverted")
    assert r"x\x1b[2J\u202e\nok: [host]" in message and not unseen(message)


def test_a_dry_run_and_its_report_show_nothing_that_cannot_be_seen(
    database: Database, module: Module, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    database.sql("UPDATE ip_inventory SET ip_type = %s", (HOSTILE + MARKUP,))
    arguments = ("--check", "--tags", "plan", "--diff")
    played = playbook(database.login, "phase3", *arguments, phase=phase)
    assert played.status == 0, played.output
    assert SHOWN in played.output and not unseen(played.output)
    Steps.of(module, database, phase).dry_report(tmp_path, models=phase["phase_models"])
    folder = tmp_path / "latest"
    told = json.loads((folder / "report.json").read_text("utf-8"))
    assert verify(told)
    for name in ("report.html", "report.md", "report.json", "junit.xml"):
        assert not unseen((folder / name).read_text("utf-8")), name
    assert "<script" not in (folder / "report.html").read_text("utf-8")


def test_evidence_in_a_report_is_the_value_itself(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    steps = Steps.of(module, database, phase)
    missed = {
        "id": "accuracy",
        "title": "Title",
        "test": 6,
        "target": "t",
        "measured": HOSTILE + MARKUP,
        "status": "fail",
        "evidence": [{"key": HOSTILE, "value": MARKUP}],
    }
    facts = facts_of(
        plan=steps.plan(),
        phase={"title": HOSTILE},
        preflight=steps.do("preflight"),
        validation={"checks": [missed]},
    )
    result = reported(tmp_path, facts)
    assert not unseen(result["text"]) and r"\x1b[2J" in result["text"]
    written = {kind: Path(path).read_text("utf-8") for kind, path in result["paths"].items()}
    assert not any(map(unseen, written.values()))
    kept = json.loads(written["json"])
    assert kept["checks"][-1]["evidence"] == [{"key": HOSTILE, "value": MARKUP}]
    assert verify(kept)
    assert "<script" not in written["html"] and "<img" not in written["html"]
    assert r"a\x1b[2J" in written["html"] and r"a\x1b[2J" in written["markdown"]
    table = [line for line in written["markdown"].splitlines() if line.startswith("| Title")]
    assert table and not [row for row in table if "<script" in row or "<img" in row]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in table)


def test_who_pauses_a_run_cannot_redraw_the_status(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.begin()
    run = steps.planned["run"]["id"]
    told = steps.do("control", action="pause", run_id=run, by="eve\x1b[2J\u202e")
    status = steps.do("run_info")
    for text in (told["text"], status["text"], json.dumps(told["diff"], ensure_ascii=False)):
        assert not unseen(text)
    assert r"eve\x1b[2J\u202e" in status["text"]
    assert options(phase)["phase"] in status["text"]
