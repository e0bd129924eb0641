#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The turn of a host in a rollout."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_turn
short_description: Say whether a host may begin, or keep how it ended
description:
  - A host begins where no more than O(failures_max) hosts before it have failed, somebody approved
    it, and its maintenance window is open and has time for it.
  - What is kept is for this execution of the playbook only, in a file of the controller.
  - All of it is done by an action plugin, on the controller. It touches neither the target nor a
    database.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  state:
    description: V(begun) asks whether the host may begin, V(ended) keeps how it ended.
    type: str
    required: true
    choices: [begun, ended]
  failures_max:
    description: With O(state=begun), how many hosts may have failed before it.
    type: int
    default: 0
  window_margin:
    description:
      - With O(state=begun), which share of the time that the host takes, as estimated, has to be
        left of its maintenance window besides.
    type: float
    default: 0.2
  first:
    description:
      - With O(state=begun), whether it is the host that goes first. Its window stops it, but does
        not keep it from beginning, as a long backfill may go on in the next one.
    type: bool
    default: false
  approved:
    description: With O(state=begun), whether somebody approved it.
    type: bool
    default: true
  why:
    description: With O(state=ended), why the host did not get to its verdict. Empty where it did.
    type: str
    default: ""
  stopped:
    description: With O(state=ended), whether a person stopped it, or the end of its window.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: See whether the host may begin
  pgrunbook_turn:
    state: begun
  register: turn_result
"""

RETURN = r"""
begins:
  description: Whether the host may begin.
  returned: if O(state) is V(begun)
  type: bool
why:
  description: Why it does not. Empty where it does.
  returned: if O(state) is V(begun)
  type: str
text:
  description: That the host begins, or how it ended, as a person reads it.
  returned: success
  type: str
others_take:
  description:
    - About how long the hosts after the first one take, at its rate where no run has been measured
      on a host itself. Empty where nobody knows, and where it is not the first host that has ended.
  returned: if O(state) is V(ended)
  type: str
"""
