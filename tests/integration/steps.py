# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook's way through, step by step at module level, and what to compare before and after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Identifier
from psycopg.types.json import Jsonb

from ansible.module_utils.pgrunbook import ledger
from tests.integration.conftest import Database, options
from tests.reporting import report_task

Module = Callable[..., dict[str, Any]]
Result = dict[str, Any]

TABLES = (("public", "session_summaries"), ("public", "ip_inventory"))
"""Those of phase 3, for content()."""

NEED_SPEC = {
    "preflight",
    "plan",
    "column",
    "index",
    "backfill",
    "data_gates",
    "query_gates",
    "drift",
    "index_trial",
}
NEED_RUN = {"approval", "column", "index", "backfill", "run", "index_trial", "forget"}

# An index keeps the names that its columns had when it was built, and nothing reads them.
_CATALOG = """
SELECT n.nspname, c.relname, c.relkind::text, pg_get_userbyid(c.relowner) AS owner,
    (SELECT jsonb_agg(jsonb_build_array(CASE WHEN c.relkind <> 'i' THEN a.attname END,
                                        format_type(a.atttypid, a.atttypmod),
                                        a.attnotnull, a.attnum) ORDER BY a.attnum)
     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
      AS columns,
    (SELECT jsonb_agg(pg_get_constraintdef(k.oid) ORDER BY k.conname)
     FROM pg_constraint k WHERE k.conrelid = c.oid) AS constraints,
    (SELECT jsonb_build_array(pg_get_indexdef(i.indexrelid), i.indisvalid)
     FROM pg_index i WHERE i.indexrelid = c.oid) AS index
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgrunbook')
ORDER BY 1, 2
"""


@dataclass
class Steps:
    """Runs modules on one database with one specification, on the run that plan() began."""

    module: Module
    login: dict[str, Any]
    spec: dict[str, Any]
    planned: Result = field(default_factory=dict)

    @classmethod
    def of(cls, module: Module, database: Database, phase: dict[str, Any], **changes: Any) -> Steps:
        """With the phase_* variables of a phase, and changes of them."""
        return cls(module, database.login, options({**phase, **changes}))

    def attempt(self, name: str, *, check: bool = False, **arguments: Any) -> Result:
        """What the module returns, also where it fails."""
        given: dict[str, Any] = {"login": self.login}
        if name in NEED_SPEC and not {"rollback_of", "forgets"} & {*arguments}:
            given["spec"] = self.spec
        if name in NEED_RUN and self.planned:
            given["run"] = self.planned["run"]
        result = self.module(f"pgrunbook_{name}", check=check, **{**given, **arguments})
        run = (result.get("ansible_facts") or {}).get("runbook_run")
        # After a failover the run is on another server, as in a playbook.
        if run and self.planned and name != "plan":
            self.planned = {**self.planned, "run": run}
        return result

    def do(self, name: str, *, check: bool = False, **arguments: Any) -> Result:
        """What the module returns; it must succeed."""
        result = self.attempt(name, check=check, **arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, name: str, *, check: bool = False, **arguments: Any) -> str:
        """The message with which the module fails, which always says what to do next."""
        result = self.attempt(name, check=check, **arguments)
        assert result.get("failed"), f"{name} should have failed"
        message: str = result["msg"]
        assert "Next step" in message, message
        return message

    def plan(self, **arguments: Any) -> Result:
        self.planned = self.do("plan", **arguments)
        return self.planned

    def approve(self, scope: str, **arguments: Any) -> Result:
        return self.do("approval", **{**self.approval(scope), **arguments})

    def approval(self, scope: str) -> dict[str, Any]:
        """The arguments of an approval of what was planned."""
        return {
            "plan": self.planned["plan"],
            "scope": scope,
            "baseline": self.planned.get("baseline", {}),
            "approved_by": "alice",
            "approved_from": "bastion",
            "method": "prompt",
        }

    def approved_with(self, database: Database, **changes: Any) -> None:
        """As if the run had been approved with these changes of the specification, in place of
        time that passes: from an approval on, modules go by the approved one only."""
        before, plan = self.planned["run"], self.planned["plan"]
        plan = {**plan, "spec": {**plan["spec"], **changes}}
        run = {**before, "plan_hash": ledger.plan_hash(plan)}
        database.sql(
            "UPDATE pgrunbook.approval SET plan = %s, plan_hash = %s WHERE plan_hash = %s",
            (Jsonb(plan), run["plan_hash"], before["plan_hash"]),
        )
        self.planned = {**self.planned, "plan": plan, "run": run}

    def backfill(self, **arguments: Any) -> Result:
        """Slices until the work is done; the last one's result."""
        while not (result := self.do("backfill", **arguments))["done"]:
            pass
        return result

    def gates(self, name: str, **arguments: Any) -> None:
        """None of the gates that a module measures may fail."""
        checks = self.do(name, **arguments)["checks"]
        failed = [check for check in checks if check["status"] == "fail"]
        assert checks and not failed, failed

    def begin(self) -> None:
        """Plan, approve, rename."""
        self.plan()
        self.approve("plan")
        self.do("column")
        self.do("index", actions=["rename"])

    def forward(self) -> None:
        """The whole run, each gate on the data passed."""
        self.fill()
        self.gates("data_gates")
        if self.spec["queries"]:
            self.gates("query_gates")
        self.do("run", state="finished", verdict="GO")

    def fill(self) -> dict[str, Result]:
        """Everything up to the last index; the results, as the report takes them."""
        preflight = self.do("preflight")
        self.begin()
        canary = self.backfill(canary=True)
        self.gates("data_gates", canary_of=self.planned["run"]["id"])
        self.approve("backfill")
        self.defer()
        filled = self.backfill()
        self.build()
        return {"preflight": preflight, "plan": self.planned, "canary": canary, "backfill": filled}

    def report(self, folder: Path, *, models: str, trial: bool = False) -> Result:
        """The whole run to its verdict, whatever that is; the report, which is in folder."""
        facts: dict[str, Any] = self.fill()
        facts["validation"], facts["queries"] = self.do("data_gates"), self.do("query_gates")
        facts["schema"] = self.do("drift", models=models)
        if trial:
            facts["trial"] = self.do(
                "index_trial", pairs=facts["queries"]["pairs"], state="present"
            )
        facts["record"] = self.do("run", state="running")
        written: Result = reported(folder, facts_of(**facts, login=self.login))["report"]
        ended = {"state": "finished", "verdict": written["verdict"]}
        self.do("run", **ended, report_sha256=written["sha256"])
        return written

    def dry_report(self, folder: Path, *, models: str) -> Result:
        """What a dry run finds, up to the plan; the report of it, which is in folder."""
        preflight = self.do("preflight", check=True)
        drift = self.do("drift", check=True, models=models)
        facts = facts_of(preflight=preflight, plan=self.plan(check=True), drift=drift)
        written: Result = reported(folder, facts, kind="plan")["report"]
        return written

    def defer(self) -> Result:
        """Drop the indexes that the plan defers."""
        return self.do("index", actions=["drop_invalid", "defer"], deferred=self.deferred)

    def build(self) -> Result:
        """Build what is missing, the deferred indexes too."""
        return self.do("index", actions=["build"], deferred=self.deferred)

    @property
    def deferred(self) -> list[str]:
        names: list[str] = self.planned["plan"]["strategy"]["deferred"]
        return names

    def back(self) -> Result:
        """The rollback of the run; what the backfill's part of it returned last."""
        self.plan(rollback_of=self.planned["run"]["id"])
        self.approve("rollback")
        self.do("index", state="cleared")
        result = self.backfill(state="reverted")
        self.do("index", state="reverted")
        self.do("column", state="reverted")
        self.do("run", state="reverted")
        return result


def facts_of(**found: Any) -> dict[str, Any]:
    """What the report takes: the results of the steps that were done."""
    return {
        "phase": {"name": "phase9", "title": "The run", "playbook": "playbooks/phase9.yml"},
        "started_at": "2026-01-31T04:00:00Z",
        **found,
    }


def reported(folder: Path, facts: dict[str, Any], **arguments: Any) -> Result:
    """What the task that writes the report returns; it must succeed."""
    result = report_task(folder, facts, **arguments)
    assert not result.get("failed"), result["msg"]
    return result


def content(database: Database, *tables: tuple[str, str]) -> dict[str, Any]:
    """Every row of the tables (schema, name), and the catalog apart from schema pgrunbook."""
    rows = {
        table: database.sql(SQL("SELECT t::text FROM {} t ORDER BY 1").format(Identifier(*table)))
        for table in tables
    }
    return {"rows": rows, "catalog": database.sql(_CATALOG)}
