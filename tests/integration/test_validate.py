# SPDX-License-Identifier: GPL-3.0-or-later
"""validate.yml, on days after the run: what holds, what is breached, and that it only reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg.sql import SQL, Identifier

from ansible.module_utils.pgrunbook.gates import post_run
from tests.integration.conftest import Database, Played, options
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]
Playbook = Callable[..., Played]

LABELS = {"host": "test", "phase": "phase3", "table": "public.session_summaries"}


@pytest.fixture
def phase(phase: Phase) -> Phase:
    """Its queries are too short to be timed well, so their gates only warn."""
    return {
        **phase,
        "phase_queries": [{**query, "enforce": False} for query in phase["phase_queries"]],
        "phase_repetitions": 3,
    }


@pytest.fixture
def filled(database: Database, module: Module, phase: Phase) -> Database:
    """The database once the phase has run."""
    steps = Steps.of(module, database, phase)
    steps.forward()
    return database


@pytest.fixture
def quiet(database: Database) -> Iterator[Database]:
    """The database on a server where nobody else takes transaction ids."""
    for setting in ("SET autovacuum = off", "RESET autovacuum"):
        database.superuser(f"ALTER SYSTEM {setting}")
        database.superuser("SELECT pg_reload_conf()")
        if setting.startswith("SET"):
            yield database


def next_transaction_id(database: Database) -> int:
    """The id that the server will give next; asking takes none."""
    found: int = database.superuser(
        "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS next"
    )[0]["next"]
    return found


def measured(folder: Path) -> dict[tuple[str, str], float]:
    """The samples in the metrics of the validation, by their name and the value of their own
    label, which is empty where they have none."""
    text = (folder / "reports/pgrunbook_validation_phase3.prom").read_text(encoding="utf-8")
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    assert all(LABELS.items() <= sample.labels.items() for sample in samples)
    own = [[v for k, v in s.labels.items() if k not in LABELS] for s in samples]
    return {
        (sample.name.removeprefix("pgrunbook_"), *(values or [""])): sample.value
        for sample, values in zip(samples, own, strict=True)
    }


def breached(found: dict[tuple[str, str], float]) -> set[str]:
    """The gates that are."""
    return {gate for (name, gate), value in found.items() if name == "gate_breached" and value}


def write_report(folder: Path, database: Database, module: Module, phase: Phase) -> str:
    """A report of a finished run, whose queries were a thousand times better than they can be."""
    server = module(
        "pgrunbook_data_gates", login=database.login, spec=options(phase), unfilled_max=0
    )
    pairs = [
        {"name": q["name"], "time_ratio": 9e3, "buffer_ratio": 9e3, "read_from_outside": False}
        for q in phase["phase_queries"]
    ]
    run = "phase3-20260131T040506Z-1f2e"
    report = {
        "format": 1,
        "kind": "run",
        "run_id": run,
        "finished_at": "2026-01-31T04:05:00Z",
        "server": server["server"],
        "queries": pairs,
    }
    path = folder / f"reports/{run}/report.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(report), encoding="utf-8")
    return run


def test_where_every_gate_holds_it_is_ok_has_metrics_and_only_reads(
    quiet: Database, module: Module, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    Steps.of(module, quiet, phase).forward()
    before = quiet.fingerprint(), next_transaction_id(quiet)
    for arguments in (["--check"], ["--tags", "read_only"]):
        played = playbook(quiet.login, "validate", *arguments, phase=phase)
        assert played.status == 0, played.output
        assert (quiet.fingerprint(), next_transaction_id(quiet)) == before
        assert "Query speed-up" in played.output and "in 3 sessions" in played.output
        assert (tmp_path / "reports").exists() == ("--check" not in arguments)
    assert played.recap("changed") == 0
    assert "OK  phase3 on public.session_summaries, " in played.output
    assert "transaction_read_only on, transaction id none, in 3 sessions" in played.output
    assert played.output.count("no previous measurement") == len(phase["phase_queries"])
    found = measured(tmp_path)
    rows = quiet.sql(
        "SELECT count(*) AS n, count(snapshot_asn) AS asn, count(snapshot_country) AS country,"
        " count(snapshot_ip_type) AS ip_type FROM session_summaries"
    )[0]
    for column in ("asn", "country", "ip_type"):
        share = found["coverage_ratio", f"snapshot_{column}"]
        assert 0 <= rows[column] / rows["n"] - share < 0.0001
    for column in phase["phase_columns"]:
        assert found["coverage_min_ratio", column["name"]] == 0.95
    assert found["rows_unfilled", ""] == 0
    assert found["accuracy_ratio", ""] == found["comparison_ratio", ""] == 1
    assert {value for (name, _), value in found.items() if name == "gate_breached"} == {0}
    assert not [name for name, _ in found if name.startswith("query_speedup_")]
    assert len([name for name, _ in found if name == "query_speedup"]) == 3


def test_before_the_run_and_without_a_ledger_it_tells_what_is_breached(
    database: Database, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    over: Phase = {"phase_window_end": "2026-01-31T04:00:00+00:00"}
    over["runbook_unfilled_grace_seconds"] = 0
    played = playbook(database.login, "validate", phase={**phase, **over})
    assert played.status == 2, played.output
    assert "BREACHED  phase3 on public.session_summaries, " in played.output
    rows = database.sql(
        "SELECT count(*) AS n FROM session_summaries s JOIN ip_inventory i"
        " ON i.ip_address = s.source_ip"
        " WHERE (s.snapshot_asn IS NULL AND i.current_asn IS NOT NULL)"
        " OR (s.snapshot_country IS NULL AND i.geo_country IS NOT NULL)"
        " OR (s.snapshot_ip_types IS NULL AND i.ip_type IS NOT NULL)"
    )[0]["n"]
    words = " ".join(played.output.split())
    assert f"Next step: run the phase again to fill {rows:,} rows: ansible-playbook" in words
    assert "playbooks/phase3.yml" in words
    found = measured(tmp_path)
    assert found["rows_unfilled", ""] == rows
    assert breached(found) == {
        "coverage",
        "remaining",
        "accuracy",
        "comparison",
        "indexes",
        "schema",
        "query:sessions of a country and type",
        "query:campaign clustering",
    }
    assert database.sql("SELECT to_regclass('pgrunbook.event') AS ledger")[0]["ledger"] is None


def add_rows(database: Database, rows: int, prefix: str = "new") -> None:
    """New rows that the source could fill and nobody has: prefix 1, prefix 2 and so on."""
    database.sql(
        "INSERT INTO session_summaries (session_id, source_ip)"
        " SELECT %s || ' ' || row_number() OVER (), ip_address FROM ip_inventory"
        " WHERE geo_country IS NOT NULL LIMIT %s",
        (prefix, rows),
    )


def standing_of(module: Module, database: Database, phase: Phase, **arguments: Any) -> Any:
    """The gate on rows that the source could fill."""
    result = module("pgrunbook_data_gates", login=database.login, spec=options(phase), **arguments)
    assert not result.get("failed"), result["msg"]
    assert result["proof"] == {"read_only": True, "xid": None}
    return {gate["id"]: gate for gate in result["checks"]}["remaining"]


def test_a_row_counts_only_when_it_could_be_filled_before_too(
    filled: Database, module: Module, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(filled, 5)
    waited = []

    def fills_three_and_adds_one(conn: Any, seconds: float) -> None:
        """What goes on while the validation waits."""
        waited.append(seconds)
        filled.sql(
            "UPDATE session_summaries SET snapshot_asn = 1, snapshot_country = 'CN',"
            " snapshot_ip_type = 'VPN' WHERE session_id IN ('new 1', 'new 2', 'new 3')"
        )
        add_rows(filled, 1, "newer")

    monkeypatch.setattr(post_run, "_wait", fills_three_and_adds_one)
    gate = standing_of(module, filled, phase, unfilled_max=0, grace_seconds=7)
    assert waited == [7]
    assert gate["status"] == "fail"
    assert (gate["evidence"]["at_first"], gate["evidence"]["unfilled"]) == (5, 2)
    few_enough = standing_of(module, filled, phase, unfilled_max=3)
    assert few_enough["status"] == "pass" and waited == [7], "there is no second look"


KEY = 'Schlüssel "%s" {}'


@pytest.mark.parametrize("key", [[KEY], []], ids=["quoted", "none"])
def test_rows_are_found_again_by_any_key_or_their_place(
    database: Database, module: Module, phase: Phase, key: list[str]
) -> None:
    database.sql(
        SQL("ALTER TABLE session_summaries RENAME session_id TO {}").format(Identifier(KEY))
    )
    other = {**phase, "phase_key": key, "phase_waive_rollback": True}
    gate = standing_of(module, database, other, unfilled_max=0, grace_seconds=0)
    assert gate["evidence"]["unfilled"] == gate["evidence"]["at_first"] > 2000


def test_the_wait_is_real_and_the_session_outlives_it(
    filled: Database, module: Module, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends a transaction that idles too long; the waiting session does not idle."""
    add_rows(filled, 5)
    monkeypatch.setattr(post_run, "LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(
        "ansible.module_utils.pgrunbook.core.connection.IDLE_IN_TRANSACTION_TIMEOUT", "500ms"
    )
    began = time.monotonic()
    gate = standing_of(module, filled, phase, unfilled_max=0, grace_seconds=1)
    assert time.monotonic() - began > 1
    assert gate["evidence"]["unfilled"] == 5
    assert standing_of(module, filled, phase, unfilled_max=5, grace_seconds=900)["status"] == "pass"


def test_new_rows_and_a_speed_up_that_fell_are_breached(
    filled: Database, module: Module, playbook: Playbook, phase: Phase, tmp_path: Path
) -> None:
    run = write_report(tmp_path, filled, module, phase)
    add_rows(filled, 5)
    enforced = {**phase, "phase_speedup_min": 0.001, "runbook_unfilled_grace_seconds": 0}
    enforced["phase_queries"] = [{**q, "enforce": True} for q in phase["phase_queries"]]
    played = playbook(filled.login, "validate", phase=enforced)
    assert played.status == 2, played.output
    words = " ".join(played.output.split())
    assert "Next step: run the phase again to fill 5 rows: ansible-playbook -i" in words
    assert f"in {run} it was 9,000 × faster, 9,000 × fewer buffers" in words
    found = measured(tmp_path)
    names = [query["name"] for query in phase["phase_queries"]]
    assert breached(found) == {"remaining", *(f"speedup:{name}" for name in names)}
    assert {found["query_speedup_before", name] for name in names} == {9000}
    assert max(found["query_speedup_kept_ratio", name] for name in names) < 0.8


@pytest.mark.representative
def test_after_a_rollback_it_says_so_and_does_not_contradict_itself(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    steps.forward()
    run = steps.planned["run"]["id"]
    steps.back()
    results = [steps.do("data_gates", unfilled_max=0, grace_seconds=0), steps.do("query_gates")]
    found = module(
        "pgrunbook_post_run",
        spec=steps.spec,
        results=results,
        previous={},
        command="ansible-playbook",
    )
    (ended,) = database.sql("SELECT finished_at::text AS at FROM pgrunbook.run")
    said, *gates = found["text"].splitlines()
    assert said.startswith(f"Run {run} was taken back at {ended['at'][:10]}T{ended['at'][11:19]}Z")
    assert said in found["verdict"]
    (rows,) = database.sql(
        "SELECT count(*) AS n FROM session_summaries s JOIN ip_inventory i"
        " ON i.ip_address = s.source_ip"
        " WHERE (s.snapshot_asn IS NULL AND i.current_asn IS NOT NULL)"
        " OR (s.snapshot_country IS NULL AND i.geo_country IS NOT NULL)"
        " OR (s.snapshot_ip_types IS NULL AND i.ip_type IS NOT NULL)"
    )
    (compared,) = [line for line in gates if "Exact comparison" in line]
    assert f"{rows['n']:,} lack a value, 0 differ" in compared
    different = [line for line in gates if "DIFFERENT RESULTS" in line]
    assert different and {line[:4] for line in different} == {"FAIL"}
    assert not [line for line in gates if "rows differ" in line]


def test_metrics_that_cannot_be_written_are_a_warning(
    database: Database, module: Module, phase: Phase
) -> None:
    steps = Steps.of(module, database, phase)
    told = module(
        "pgrunbook_post_run",
        spec=steps.spec,
        results=[steps.do("data_gates", unfilled_max=0, grace_seconds=0)],
        previous={},
        command="ansible-playbook",
        metrics_file="/proc/nowhere/pgrunbook.prom",
    )
    assert not told.get("failed"), told
    assert "The metrics cannot be written to /proc/nowhere/pgrunbook.prom" in str(told["warnings"])
