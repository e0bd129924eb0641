#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How all hosts stand."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_overview
short_description: Put together how all hosts of an inventory stand
description:
  - Takes what status.yml or validate.yml found on each host, and has a line for each. Of more than
    20 hosts it has those with which something is the matter.
  - All of it is done by an action plugin, on the controller. It touches neither a target nor a
    database.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  hosts:
    description: The hosts, in the order of the inventory.
    type: list
    elements: str
    required: true
  of:
    description: V(runs) is the newest run of each host, V(gates) is whether its gates hold.
    type: str
    required: true
    choices: [runs, gates]
"""

EXAMPLES = r"""
- name: Put together how all hosts stand
  pgrunbook_overview:
    hosts: "{{ ansible_play_hosts_all }}"
    of: runs
  register: overview_result
  run_once: true
"""

RETURN = r"""
text:
  description: A line for each host, why where something is the matter, and how many stand how.
  returned: success
  type: str
"""
