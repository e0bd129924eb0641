#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plans of all hosts, put together."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_rollout
short_description: Put the plans of all hosts together
description:
  - Makes one value of the plans that the steps before have registered for each host as
    C(runbook_plan), or as C(runbook_refusal) where there is none. Groups hosts by equal plans, puts
    them into waves, and gives the hash that an approval of all of them names.
  - All of it is done by an action plugin, on the controller. It touches neither the targets nor a
    database.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  hosts:
    description: The hosts, in the inventory's order.
    type: list
    elements: str
    required: true
  waves:
    description:
      - How many hosts go in each wave, as numbers or as per cent of all of them. The first wave is
        one host; the last one is repeated.
    type: list
    elements: raw
    default: [1, "25%", "100%"]
  canary:
    description: The host that goes first. Empty takes the first one.
    type: str
    default: ""
  forks:
    description: How many hosts work at a time, for the estimates.
    type: int
    default: 5
  folder:
    description: The folder of all reports, on the controller. The plans of several hosts are kept
      there.
    type: path
    required: true
  approval:
    description: The hash that is approved without a question, to tell what has changed since.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Put the plans together
  pgrunbook_rollout:
    hosts: "{{ ansible_play_hosts_all }}"
    folder: reports
  register: rollout_result
  run_once: true
"""

RETURN = r"""
rollout:
  description:
    - What M(pgrunbook_approval) takes as O(ignore:rollout), without RV(ignore:host).
  returned: success
  type: dict
hash:
  description: What an approval names. Empty where a host was refused.
  returned: success
  type: str
hosts:
  description: The hosts that have something to do, in the order in which they go.
  returned: success
  type: list
  elements: str
rows:
  description: How many rows each of them has to fill.
  returned: success
  type: dict
done:
  description: The hosts that are done already, and are left out.
  returned: success
  type: list
  elements: str
sizes:
  description: How many hosts go in each wave.
  returned: success
  type: list
  elements: int
title:
  description: The phase's title.
  returned: success
  type: str
needed:
  description: Whether any host has something to do.
  returned: success
  type: bool
foreseen:
  description: The gates that hosts can only miss, a sentence each.
  returned: success
  type: list
  elements: str
alternatives:
  description: What has changed since O(approval) was the hash, for M(pgrunbook_question).
  returned: success
  type: list
  elements: dict
path:
  description: The page with the plans of all hosts. Empty with one host.
  returned: success
  type: str
plan_file:
  description:
    - The file with the plans, for C(scripts/approve). Empty with one host, unless it is a dry run.
  returned: success
  type: str
signing:
  description:
    - What is signed of them, for O(ignore:signing) of M(pgrunbook_question). RV(ignore:wanted) is
      how many signatures they want, RV(ignore:operator_may_sign) whether the operator's counts, and
      RV(ignore:hosts) what the text says of each host.
  returned: success
  type: dict
refused:
  description: Why nothing begins, with each host that could not be planned. Empty where all were.
  returned: success
  type: str
proof:
  description: What the servers say of the transactions in which the plans were made.
  returned: success
  type: str
text:
  description: The rollout as a person reads it.
  returned: success
  type: str
"""
