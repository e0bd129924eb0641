#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan that a person approves."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_plan
short_description: Plan a run, or its rollback, without writing
description:
  - Plans every step for the database as it is now, with its SQL, its lock and its undo.
  - In check mode it also shows with C(--diff) what the steps would change, so that none of them has
    to be called; it is changed where there is anything to do.
  - The hash covers what a person decides on. Row counts and estimates are shown, but not
    hashed, so that live traffic does not void an approval.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.reads
options:
  spec:
    description:
      - The whole phase. C(playbooks/vars/spec.yml) assembles it from the C(phase_*) variables.
      - Exactly one of O(spec), O(rollback_of) and O(forgets) is needed.
    required: false
  approval:
    description:
      - With O(spec), the hash of the plan that is approved without a question, if there is one.
      - Where the database would be given another strategy by now, and nothing else has changed, the
        one of that plan is kept, if the table still allows it.
    type: str
    default: ""
  rollback_of:
    description: The id of the run to plan the rollback of. It takes the phase from the ledger.
    type: str
  forgets:
    description:
      - The id of the run whose journal is to be dropped. The plan has what there is of it, and says
        what can no longer be undone afterwards.
    type: str
  acknowledged:
    description:
      - With O(rollback_of), the names of triggers that may fire for every row that is given back.
        Those that the phase acknowledges need not be repeated.
      - The table's name, with its schema, where the table was made anew since the run, and its rows
        and columns are to be told by their key and names.
      - The ids of later runs that have filled rows of this run again, and whose values may go too.
    type: list
    elements: str
    default: []
  accept_incomplete_journal:
    description:
      - With O(rollback_of) or O(forgets), whether to plan it although the journal is not as the
        events recorded it. What is left of it is given back, or dropped, and the plan says what is
        missing.
    type: bool
    default: false
  reconnect_seconds:
    description:
      - For how many seconds the steps of the run wait for a primary, and go on there, where their
        connection is lost.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Plan the run
  pgrunbook_plan:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
  register: plan_result

- name: Plan the rollback of a run
  pgrunbook_plan:
    login: "{{ runbook_login }}"
    rollback_of: phase3-20260131T040506Z-1f2e

- name: Plan to drop the journal of a run
  pgrunbook_plan:
    login: "{{ runbook_login }}"
    forgets: phase3-20260131T040506Z-1f2e
"""

RETURN = r"""
checks:
  description:
    - The gates, each with RV(ignore:id), RV(ignore:title), RV(ignore:test), RV(ignore:target),
      RV(ignore:measured), RV(ignore:status) (V(pass), V(fail) or V(warn)) and RV(ignore:evidence).
  returned: if O(spec) is given
  type: list
  elements: dict
plan:
  description: The plan itself, all of which the hash covers.
  returned: success
  type: dict
spec:
  description: The phase as it was approved, for the O(ignore:spec) of other modules.
  returned: if O(rollback_of) is given
  type: dict
journal:
  description:
    - What there is of the journal, under RV(ignore:batches), RV(ignore:rows), RV(ignore:standing)
      (how many of these were not given back), RV(ignore:bytes) (as it is stored) and
      RV(ignore:sha256).
  returned: if O(forgets) is given
  type: dict
journal_unknown:
  description: What cannot be known of the journal, a sentence each. Not hashed.
  returned: if O(rollback_of) is given
  type: list
  elements: str
playbook:
  description: What ran the run, as C(ansible-playbook) takes it. Not hashed.
  returned: if O(rollback_of) is given
  type: str
plan_hash:
  description: SHA-256 of the plan, in hexadecimal.
  returned: success
  type: str
run:
  description:
    - The run's id, the plan's hash and the execution, for the O(ignore:run) of other modules.
  returned: success
  type: dict
ansible_facts:
  description:
    - The same as the fact C(runbook_run). A module that finds the run on another server, after a
      failover, returns it anew, with that server.
  returned: success
  type: dict
  contains:
    runbook_run:
      description: As RV(run).
      returned: success
      type: dict
resumes:
  description: Whether this goes on with a run that was broken off.
  returned: if O(spec) is given
  type: bool
diff:
  description: The columns, the indexes and some rows before and after, as far as they would change.
  returned: in check mode, if O(spec) is given
  type: list
  elements: dict
needed:
  description: Whether there is anything to do.
  returned: success
  type: bool
counts:
  description:
    - The rows of the table, by what the run would do with them. RV(ignore:estimated) is there where
      they are estimated, with RV(ignore:pages_read) of so many RV(ignore:pages) and intervals of
      95 %, each a list of two numbers.
  returned: success
  type: dict
baseline:
  description: The counts, schema and statements that the run started from, before an interruption.
  returned: if O(spec) is given
  type: dict
conversions:
  description:
    - The columns that have to be converted, each with RV(ignore:column), RV(ignore:old) and
      RV(ignore:aside) (its names), RV(ignore:from), RV(ignore:type), RV(ignore:using), how many
      RV(ignore:values) it has, how many of these the expression makes NULL and the source then
      fills (RV(ignore:from_source)) or nothing does (RV(ignore:become_null)), and how many of the
      others differ from the source (RV(ignore:differ)). Not hashed.
  returned: if O(spec) is given
  type: list
  elements: dict
refused:
  description:
    - What the server would refuse, each with RV(ignore:what) (the constraint, index or type),
      RV(ignore:rows) and RV(ignore:keys), at most five as JSON. Not hashed.
  returned: if O(spec) is given
  type: list
  elements: dict
refused_pages_read:
  description:
    - How many pages of each large table were looked at for such rows, of which none is on them; 0
      where all rows were looked at. Not hashed.
  returned: if O(spec) is given
  type: int
unforeseen:
  description: What may refuse rows, and cannot be evaluated without writing. Not hashed.
  returned: if O(spec) is given
  type: list
  elements: str
compared_by:
  description:
    - By the column, how values are compared. They are cast to RV(ignore:type), then
      RV(ignore:suffix) follows. That is V(::text) where the type has no C(=) that is equality, as
      C(json) has none; the collation where the column has one of its own; else nothing.
      RV(ignore:narrow) tells that the source may have values that the type cannot hold. Not hashed.
  returned: if O(spec) is given
  type: dict
why_strategy:
  description: Why the backfill takes the strategy that RV(plan) names, in a sentence. Not hashed.
  returned: if O(spec) is given
  type: str
alternatives:
  description:
    - The hashes that the same plan has with other strategies, each RV(ignore:plan_hash) with what
      is said where somebody approves that one, RV(ignore:told). Not hashed.
  returned: if O(spec) is given
  type: list
  elements: dict
heap_only_percent:
  description:
    - Which share of the updates is expected to be heap-only (HOT), in per cent, from a sample of
      the table's pages; null where the sample has no row to be filled. Not hashed.
  returned: if O(spec) is given
  type: float
horizon:
  description:
    - Who keeps dead row versions from being pruned, so that interleaved passes would not pay for
      as long as that lasts. Empty where nobody is seen. Not hashed.
  returned: if O(spec) is given
  type: str
index_changes:
  description:
    - What the run does to indexes, each with RV(ignore:kind) (V(rename), V(drop_invalid), V(defer)
      or V(build)), RV(ignore:old), its name before, and RV(ignore:name). Not hashed.
  returned: if O(spec) is given
  type: list
  elements: dict
estimates:
  description:
    - About how many seconds each step would take, by the step's id, waits for locks apart. That of
      the backfill is from the latest run of the phase on this table, without the time in which it
      was held and the slices in which it was throttled, null where there is none;
      that of the index builds is from a sample of the table's pages. Not hashed.
  returned: if O(spec) is given
  type: dict
filling:
  description:
    - About how many C(seconds) of work the backfill takes, and the C(least) and the C(most), at
      the rates of the fast and the slow slices of the run that C(measured_on) names; null where
      there is none, and then C(measured_on) says why, if there were runs. Not hashed.
  returned: if O(spec) is given
  type: dict
sample:
  description:
    - Up to 100 rows that would change, each with key, before and after, as the server writes them;
      after as they will be stored.
  returned: if O(spec) is given
  type: list
  elements: dict
schema:
  description: The table's columns and indexes.
  returned: if O(spec) is given
  type: dict
verdict_before:
  description: The verdict of the latest run of the phase on the table, empty where there is none.
    Not hashed.
  returned: if O(spec) is given
  type: str
server_started:
  description: Since when the server runs. Not hashed.
  returned: success
  type: str
text:
  description: The plan as a person reads it, with every statement.
  returned: success
  type: str
brief:
  description: What a person decides on, in a few lines.
  returned: success
  type: str
# begin: queries
queries:
  description:
  - The SQL that was run, or in check mode would be.
  returned: success
  type: list
  elements: str
# end: queries
# begin: events
events:
  description:
  - The events that the call has appended to the ledger, each with RV(ignore:at),
    RV(ignore:run), RV(ignore:kind), RV(ignore:detail) and RV(ignore:version); none
    in check mode. They are there where the module failed, too.
  returned: always
  type: list
  elements: dict
# end: events
# begin: proof
proof:
  description:
  - What the server says of this session's writes. RV(ignore:read_only) is C(transaction_read_only),
    RV(ignore:xid) is C(pg_current_xact_id_if_assigned()), which is null if nothing
    was written.
  returned: success
  type: dict
  sample:
    read_only: true
    xid: null
# end: proof
"""

from dataclasses import replace
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.core.server import started
from ansible.module_utils.pgrunbook.module import LOGIN, SPEC, Given, execute, facts_of
from ansible.module_utils.pgrunbook.plan.brief import plan_brief, rollback_brief
from ansible.module_utils.pgrunbook.plan.forget_plan import (
    ForgetResult,
    build_forget,
    forget_text,
)
from ansible.module_utils.pgrunbook.plan.plan import PlanResult, RollbackResult
from ansible.module_utils.pgrunbook.plan.rollback_plan import build_rollback
from ansible.module_utils.pgrunbook.plan.run_plan import build, diffs
from ansible.module_utils.pgrunbook.plan.text import plan_text, rollback_text


def plan(conn: Any, given: Given, *, check: bool) -> object:
    if given.options["rollback_of"]:
        undoing = build_rollback(
            conn,
            given.options["rollback_of"],
            acknowledged=given.options["acknowledged"],
            accept_incomplete_journal=given.options["accept_incomplete_journal"],
        )
        return _told(conn, given, undoing, rollback_text(undoing), rollback_brief(undoing))
    if given.options["forgets"]:
        forgetting = build_forget(
            conn,
            given.options["forgets"],
            accept_incomplete_journal=given.options["accept_incomplete_journal"],
        )
        text = forget_text(forgetting)
        return _told(conn, given, forgetting, text, text)
    planned = build(conn, given.spec, given.options["approval"], check=check)
    told = _told(conn, given, planned, plan_text(planned), plan_brief(planned))
    before = ledger.latest(conn, given.spec.phase, str(given.spec.table))
    told["verdict_before"] = before.verdict or "" if before else ""
    foreseen = {"changed": planned.needed, "diff": diffs(conn, planned)} if check else {}
    return {**told, **foreseen}


def _told(
    conn: Any,
    given: Given,
    planned: PlanResult | RollbackResult | ForgetResult,
    text: str,
    brief: str,
) -> dict[str, Any]:
    """What the module returns, with how long the steps of the run wait for a primary."""
    run = replace(planned.run, reconnect_seconds=given.options["reconnect_seconds"])
    result = replace(planned, run=run).as_json()
    shown = {"server_started": started(conn), "text": text, "brief": brief}
    return {**result, **shown, **facts_of(run)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": {**SPEC, "required": False},
            "approval": {"type": "str", "default": ""},
            "rollback_of": {"type": "str"},
            "forgets": {"type": "str"},
            "acknowledged": {"type": "list", "elements": "str", "default": []},
            "accept_incomplete_journal": {"type": "bool", "default": False},
            "reconnect_seconds": {"type": "int", "default": 0},
        },
        mutually_exclusive=[("spec", "rollback_of", "forgets")],
        required_one_of=[("spec", "rollback_of", "forgets")],
        supports_check_mode=True,
    )
    execute(
        module,
        lambda conn, given: plan(conn, given, check=module.check_mode),
        name="plan",
        writes=False,
    )


if __name__ == "__main__":
    main()
