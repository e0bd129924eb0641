#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""An approval goes into the ledger."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_approval
short_description: Record an approval in the ledger
description:
  - Records who approved which plan, when and from where. Without it the writing modules refuse to
    work.
  - Refuses where the server, or what surrounds the table, is not what the plan was made on.
  - The first approval makes the ledger, schema C(pgrunbook), and claims the run for this
    execution. Where there is one of an earlier version, the first approval of a plan or of a
    rollback, or to forget a run, migrates it.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook.run
  - pgrunbook.writes
options:
  plan:
    description: The plan, as M(pgrunbook_plan) returned it. Its hash must be that of O(run).
    type: dict
    required: true
  scope:
    description:
      - What is approved. V(plan) covers schema and canary, V(backfill) all other rows. V(forget)
        covers the journal of a run that has ended, and is recorded as an event only.
      - An approval holds for the execution in O(run) and for no other one.
    type: str
    required: true
    choices: [plan, backfill, rollback, forget]
  baseline:
    description:
      - What the run starts from, as M(pgrunbook_plan) returned it. It is kept with the first
        approval of a run, and reports of the run count from it.
    type: dict
    default: {}
  answer:
    description:
      - What M(pgrunbook_question) returned for this plan and scope. The controller compares it with
        what this execution of the playbook was answered, and takes it out.
    type: dict
  rollout:
    description:
      - The rollout of several hosts of which this plan was approved as a member. The ledger keeps
        it with the approval, and the writing modules compare it.
    type: dict
    suboptions:
      id:
        description: The rollout's id.
        type: str
        required: true
      hash:
        description: SHA-256 of the list of its members; of a rollout of one, that of its plan.
        type: str
        required: true
      host:
        description: Which of the members this host is.
        type: str
        required: true
      members:
        description: Every member.
        type: list
        elements: dict
        required: true
        suboptions:
          host:
            description: The inventory's name of the host.
            type: str
            required: true
          system_identifier:
            description: The system identifier of its server.
            type: str
            required: true
          database:
            description: The database's name.
            type: str
            required: true
          plan_hash:
            description: SHA-256 of the plan for it, in hexadecimal.
            type: str
            required: true
  signatures:
    description:
      - Who has signed the plan. The controller takes them from O(answer), for which it has verified
        them; the module only counts whether there are as many as the phase wants.
    type: list
    elements: dict
    default: []
    suboptions:
      signer:
        description: The principal, as the list of allowed signers has it.
        type: str
        required: true
      key:
        description: The fingerprint of the key, C(SHA256:) and base64.
        type: str
        required: true
      signed_at:
        description: When it was signed, as the signer says.
        type: str
        required: true
      expires_at:
        description: Until when it may be used.
        type: str
        required: true
      text:
        description: The text that was signed.
        type: str
        required: true
      signature:
        description: The signature of it, armored, as C(ssh-keygen -Y sign) writes it.
        type: str
        required: true
      sha256:
        description: "SHA-256 of the file, in hexadecimal: of the text and the signature."
        type: str
        required: true
  approved_by:
    description:
      - Who approved. Where that is not the account that the playbook runs under, the name is
        recorded as claimed.
    type: str
    required: true
  approved_from:
    description: From which host.
    type: str
    required: true
  method:
    description: Whether it was typed at the prompt or passed as a variable. The controller sets it.
    type: str
    default: unattended
    choices: [prompt, unattended]
  controller_user:
    description: The account that the playbook runs under. The controller sets it.
    type: str
    default: ""
  controller_uid:
    description: The number of that account. The controller sets it.
    type: int
"""

EXAMPLES = r"""
- name: Record the approval
  pgrunbook_approval:
    login: "{{ runbook_login }}"
    run: "{{ plan_result.run }}"
    plan: "{{ plan_result.plan }}"
    scope: plan
    answer: "{{ question_result.answer }}"
    approved_by: alice
    approved_from: bastion.example.org
"""

RETURN = r"""
approved_by:
  description: Who approved.
  returned: success
  type: str
claimed:
  description: Whether nobody but the approver says that they are this person.
  returned: success
  type: bool
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

import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook import catalog, ledger
from ansible.module_utils.pgrunbook.catalog import surroundings
from ansible.module_utils.pgrunbook.core.options import argument_spec, taken
from ansible.module_utils.pgrunbook.ledger.rollouts import Rollout
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, Given, execute
from ansible.module_utils.pgrunbook.signing.signature import Signature


def _named(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # an account without a name, as in some containers
        return str(uid)


def approve(conn: Any, given: Given) -> object:
    run, by = given.run, given.options["approved_by"]
    uid = (
        os.getuid() if given.options["controller_uid"] is None else given.options["controller_uid"]
    )
    account = given.options["controller_user"] or _named(uid)
    known = ledger.is_approved(conn, run, given.options["scope"], by)
    if not known and not given.dry:
        if given.spec:
            info = catalog.inspect(conn, given.spec.table)
            surroundings.require_unchanged(conn, given.spec, info, given.options["plan"])
        ledger.approve(
            conn,
            run,
            plan=given.options["plan"],
            scope=given.options["scope"],
            baseline=given.options["baseline"],
            signatures=[taken(Signature, each) for each in given.options["signatures"]],
            rollout=taken(Rollout, given.options["rollout"]) if given.options["rollout"] else None,
            by=ledger.Approver(
                name=by,
                origin=given.options["approved_from"],
                method=given.options["method"],
                claimed=by != account,
                controller_user=f"{account} (uid {uid})",
            ),
        )
    return {"changed": not known, "approved_by": by, "claimed": by != account}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "run": RUN,
            "plan": {"type": "dict", "required": True},
            "scope": {
                "type": "str",
                "required": True,
                "choices": ["plan", "backfill", "rollback", "forget"],
            },
            "baseline": {"type": "dict", "default": {}},
            "answer": {"type": "dict"},
            "rollout": {"type": "dict", "options": argument_spec(Rollout)},
            "signatures": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": argument_spec(Signature),
            },
            "approved_by": {"type": "str", "required": True},
            "approved_from": {"type": "str", "required": True},
            "method": {
                "type": "str",
                "choices": ["prompt", "unattended"],
                "default": "unattended",
            },
            "controller_user": {"type": "str", "default": ""},
            "controller_uid": {"type": "int"},
        },
        supports_check_mode=True,
    )
    execute(module, approve, name="approval", writes=True)


if __name__ == "__main__":
    main()
