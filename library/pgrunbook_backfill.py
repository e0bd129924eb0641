#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backfill, for one slice of time or several."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_backfill
short_description: Fill columns in batches, or take that back
description:
  - Fills what is NULL from the source, a page range at a time, each batch one transaction
    with its journal.
  - Works in slices of about RV(ignore:slice_seconds) seconds, with a line of progress for each. One
    call does one, or as many as O(seconds) have room for. The action plugin of the same name calls
    the module until RV(done), and shows the lines.
  - Nothing that has a value is ever overwritten. Rows that another session holds are left for
    a catch-up pass.
extends_documentation_fragment:
  - pgrunbook.login
  - pgrunbook_spec
  - pgrunbook.run
  - pgrunbook.writes
options:
  canary:
    description:
      - Stop when the run has changed the number of rows that the phase sets for its canary.
    type: bool
    default: false
  metrics_file:
    description:
      - Where to write the run as Prometheus metrics after the call, for the textfile collector of
        node_exporter. Empty writes none.
    type: path
    default: ""
  metrics_host:
    description: The label C(host) of the metrics, such as the inventory's name of the host.
    type: str
    default: ""
  progress_file:
    description:
      - A FIFO to which each line of progress is written at once, as a JSON string in a line of its
        own. The call ends where nobody reads from it any more. Empty writes none; all lines are in
        RV(lines) too.
    type: path
    default: ""
  seconds:
    description: For how many seconds the call does slices. It does one at least.
    type: float
    default: 0.0
  seen:
    description:
      - What the run was seen to have committed, and not given back, by calls before this one. What
        a server that was promoted since has less of was lost, and is counted.
    type: dict
    suboptions:
      rows:
        description: Rows, as RV(rows_done) has them.
        type: int
        required: true
      batches:
        description: Batches, as RV(batches_done) has them.
        type: int
        required: true
  state:
    description:
      - V(present) makes it so. V(reverted) takes back just what this run did.
    type: str
    choices: [present, reverted]
    default: present
"""

EXAMPLES = r"""
- name: Fill the first rows
  pgrunbook_backfill:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    canary: true

- name: Fill all other rows
  pgrunbook_backfill:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"

- name: Give back the rows that the run changed
  pgrunbook_backfill:
    login: "{{ runbook_login }}"
    spec: "{{ phase_spec }}"
    run: "{{ plan_result.run }}"
    state: reverted
"""

RETURN = r"""
done:
  description: Whether nothing is left to do. In check mode always true.
  returned: success
  type: bool
rows_changed:
  description: Rows changed by this call, or in check mode by the whole backfill.
  returned: success
  type: int
progress:
  description: The same as a line of text, with the rate of the last slice and the time to go.
  returned: success
  type: str
rows_done:
  description: Rows changed by the run so far.
  returned: success
  type: int
batches_done:
  description: Batches in which these were changed.
  returned: success
  type: int
rows_lost:
  description:
    - Rows that the run had committed, and that a server which was promoted since had not received.
      They are done again.
  returned: success
  type: int
batches_lost:
  description: The batches of these.
  returned: success
  type: int
lines:
  description: The lines of progress of the call's slices, apart from one that had nothing to do.
  returned: always, unless the program itself fails
  type: list
  elements: str
seen:
  description: What the run was seen to have committed, for the option of that name.
  returned: when the call fails
  type: dict
rows_eligible:
  description: Rows that were eligible when the run was approved.
  returned: success
  type: int
sweep:
  description: 0 in the first pass over the table, then the number of the catch-up pass.
  returned: success
  type: int
seconds:
  description: Seconds that the run has worked so far, not counting those in which it was
    throttled or paused, or rested to keep below a rate.
  returned: success
  type: float
slice_seconds:
  description: Seconds that the last slice of this call has worked.
  returned: success
  type: float
hot_percent:
  description:
    - Share of the last slice's updates that were heap-only (HOT), in per cent; null where there was
      none, or with O(state=reverted).
  returned: success
  type: float
replay_lag:
  description: Replay lag of the slowest standby in seconds; null where none is seen.
  returned: success
  type: float
held:
  description:
    - Why the workers were throttled or paused in the last slice, such as
      V(replica lag 12.0 s > 10 s).
  returned: success
  type: list
  elements: str
held_seconds:
  description: For how many seconds of it they were.
  returned: success
  type: float
throttle:
  description: The most rows a second that somebody allowed in it; 0 where nobody set a rate.
  returned: success
  type: int
throttled_seconds:
  description: For how many seconds of it they rested, to keep below that rate or because of what
    others felt.
  returned: success
  type: float
fallback:
  description:
    - Who keeps interleaved passes from paying, so that there is one pass, or what is known where
      nobody is seen; else empty.
  returned: success
  type: str
batch_ms:
  description:
    - RV(ignore:batches) of the last slice, and their median, 99th percentile and longest duration
      in milliseconds; empty where there was no batch.
  returned: success
  type: dict
  sample: {"batches": 48, "p50": 98.1, "p99": 173.0, "longest": 180.2}
gentle:
  description:
    - What others felt in the last slice, in milliseconds, and how it worked. RV(ignore:commit_ms)
      and RV(ignore:probe_ms) are 95th percentiles, RV(ignore:commit_ms_before) and
      RV(ignore:probe_ms_before) medians from before the run's first batch.
      RV(ignore:target_ms) is what a batch was to take in the end, RV(ignore:least_target_ms) at
      least, and RV(ignore:duty) the share of the time in which workers worked in the end. Empty
      where the phase has no O(spec.max_commit_ms) and no O(spec.probe_query).
  returned: success
  type: dict
  sample:
    commit_ms: 4.12
    commit_ms_before: 0.97
    probe_ms: 2.35
    probe_ms_before: 1.2
    target_ms: 6.0
    least_target_ms: 5.0
    duty: 1.0
    looks: 48
gentle_warning:
  description:
    - Why O(spec.probe_query) could not be timed, or that a commit took more than
      O(spec.max_commit_ms) before the run; else empty.
  returned: success
  type: str
stopped:
  description:
    - V(window) where the end of the maintenance window stopped it, V(abort) where a person did,
      else empty.
  returned: success
  type: str
stopped_by:
  description: Who aborted it.
  returned: success
  type: str
rows_left_alone:
  description:
    - Rows that a rollback did not give back, because somebody has changed or deleted them since, or
      a trigger has put a value back.
  returned: success
  type: int
left_alone:
  description:
    - The journal entries of at most 100 of them, the key's values first. A value is cut to 200
      characters.
  returned: success
  type: list
  elements: list
rows_refused:
  description:
    - Rows that the run has set aside, because the server refuses to fill them. With more of them
      than the phase allows the call fails.
  returned: success
  type: int
refused:
  description:
    - At most 100 of them, each with RV(ignore:key) as JSON, RV(ignore:sqlstate) and
      RV(ignore:message).
  returned: success
  type: list
  elements: dict
  sample:
    - key: "[7]"
      sqlstate: "23514"
      message: new row for relation "t" violates check constraint "small"
rows_put_back:
  description: How many of RV(rows_left_alone) hold a value because a trigger has put it back.
  returned: success
  type: int
rows_rewritten:
  description:
    - Rows that a rollback gave back although somebody had rewritten them since, because they still
      held the run's values. Rows that an older version filled are not looked at.
  returned: success
  type: int
columns_gone:
  description: Columns that a rollback passed over, because they were renamed or dropped since.
  returned: success
  type: list
  elements: str
diff:
  description: In check mode, up to 100 rows before and after.
  returned: success
  type: dict
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

from ansible.module_utils.pgrunbook import ledger
from ansible.module_utils.pgrunbook.backfill import backfill, rollback, slices
from ansible.module_utils.pgrunbook.backfill.failover import Seen
from ansible.module_utils.pgrunbook.backfill.result import SliceResult
from ansible.module_utils.pgrunbook.core.channel import channel
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.module import (
    LOGIN,
    METRICS_FILE,
    METRICS_HOST,
    RUN,
    SPEC,
    Given,
    alone,
    execute,
    with_metrics,
)

SEEN = {"rows": {"type": "int", "required": True}, "batches": {"type": "int", "required": True}}


def one_slice(conn: Any, given: Given, seen: Seen) -> SliceResult:
    spec, run, dry, canary = given.spec, given.run, given.dry, given.options["canary"]
    if given.options["state"] == "reverted":
        return alone(
            conn, given, lambda: rollback.revert_slice(conn, spec, run, dry=dry, seen=seen)
        )
    if dry:
        return backfill.dry_run(conn, spec, run, canary=canary)
    return alone(conn, given, lambda: backfill.run_slice(conn, spec, run, canary=canary, seen=seen))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "login": LOGIN,
            "spec": SPEC,
            "run": RUN,
            "canary": {"type": "bool", "default": False},
            "metrics_file": METRICS_FILE,
            "metrics_host": METRICS_HOST,
            "progress_file": {"type": "path", "default": ""},
            "seconds": {"type": "float", "default": 0.0},
            "seen": {"type": "dict", "options": SEEN},
            "state": {"type": "str", "choices": ["present", "reverted"], "default": "present"},
        },
        supports_check_mode=True,
    )
    seen, told = Seen(**(module.params["seen"] or {})), slices.Told()

    def fill(conn: Any, given: Given) -> object:
        path = "" if given.dry else given.options["metrics_file"]
        warnings: list[str] = []

        def one() -> SliceResult:
            done = one_slice(conn, given, seen)
            runs = ledger.list_runs(conn) if path else []
            written = with_metrics({}, path, given.options["metrics_host"], runs)
            warnings[:] = written.get("warnings", [])
            return done

        with channel(given.options["progress_file"]) as tell:
            done = slices.run(one, told, seen, seconds=given.options["seconds"], tell=tell)
        return {**plain(done), "warnings": warnings}

    def known() -> dict[str, Any]:
        return {"seen": {"rows": seen.rows, "batches": seen.batches}, "lines": told.lines}

    execute(module, fill, name="backfill", writes=True, told=known)


if __name__ == "__main__":
    main()
