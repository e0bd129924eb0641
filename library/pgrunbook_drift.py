#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift between the models and the database."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_drift
short_description: Compare the database with the application's models
description:
  - Compares both tables of the phase with the application's SQLAlchemy models, by Alembic's
    C(compare_metadata); types as the server takes them.
  - Tells what is wrong with columns, their types and nullability, indexes, keys and unique
    constraints, what that breaks, and the ways out. CHECK constraints, defaults and comments are
    not compared.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.of_run
  - pgrunbook.reads
options:
  models:
    description:
      - V(path/to/models.py:Base), a file on the controller, or V(package.module:Base), installed
        where the module runs.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Compare the schema with the models
  pgrunbook_drift:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    models: models/session_snapshots.py:Base
"""

RETURN = r"""
# begin: checks
checks:
  description:
  - The gates, each with RV(ignore:id), RV(ignore:title), RV(ignore:test), RV(ignore:target),
    RV(ignore:measured), RV(ignore:status) (V(pass), V(fail) or V(warn)) and RV(ignore:evidence).
  returned: success
  type: list
  elements: dict
# end: checks
differences:
  description:
    - Each difference between the database and the models, the worst first. The page on the report
      describes the kinds.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What differs, such as V(renamed_column) or V(missing_index).
      type: str
    object:
      description: Its name, a column's after that of its table.
      type: str
    table:
      description: The table, after its schema.
      type: str
    severity:
      description:
        - V(critical) breaks the application or the backfill, V(warning) makes it slow or lets wrong
          data in, V(note) does neither.
        - What the phase does not read of its source is a note.
      type: str
    breaks:
      description: Whether the severity is V(critical), and the phase does not acknowledge it.
      type: bool
    by_phase:
      description: Whether the phase itself mends it.
      type: bool
    acknowledged:
      description: Whether O(spec.acknowledged_drift) lists it.
      type: bool
    text:
      description: What the models have and what the database has, in one sentence.
      type: str
    impact:
      description: What comes of it, in one sentence.
      type: str
    resolutions:
      description:
        - The ways out, each with RV(ignore:option) (what to do), RV(ignore:sql) (as it can be
          copied, empty where it takes none), RV(ignore:costs) (lock, rewrite, effort) and
          RV(ignore:recommended), which is true for one.
      type: list
      elements: dict
text:
  description: The differences as a person reads them.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible.module_utils.pgrunbook.drift.compare import compare
from ansible.module_utils.pgrunbook.drift.models import require_loadable
from ansible.module_utils.pgrunbook.gates.schema_gate import schema_gate
from ansible.module_utils.pgrunbook.module import LOGIN, RUN, SPEC, Given, execute


def measure(conn: Any, given: Given) -> object:
    found = compare(conn, given.spec, given.options["models"])
    return {
        "changed": False,
        "differences": found.differences,
        "text": found.text,
        "checks": [schema_gate(given.spec, found.differences)],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": {**RUN, "required": False},
            "models": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    execute(
        module,
        measure,
        name="drift",
        writes=False,
        first=lambda conn, spec: require_loadable(module.params["models"]),
    )


if __name__ == "__main__":
    main()
