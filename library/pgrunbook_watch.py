#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the runs of all hosts stand, again and again."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgrunbook_watch
short_description: Show how the runs of all hosts stand, once a second
description:
  - Reads the ledger of each host once a second, and shows how its newest run stands, until somebody
    presses Ctrl-C. Where the output is no terminal, it looks once.
  - All of it is done by an action plugin, which connects from the controller. It only reads.
extends_documentation_fragment:
  - pgrunbook.controller
options:
  hosts:
    description: The hosts, in the order of the inventory.
    type: list
    elements: str
    required: true
  looks:
    description: After how many looks it ends. With V(0) it goes on on a terminal.
    type: int
    default: 0
  command:
    description: How a command in RV(text) begins, with the inventory that it is for.
    type: str
    default: ansible-playbook
"""

EXAMPLES = r"""
- name: Watch the runs
  pgrunbook_watch:
    hosts: "{{ ansible_play_hosts_all }}"
  register: watch_result
  run_once: true
"""

RETURN = r"""
text:
  description: What the last look found. Empty where somebody ended it.
  returned: success
  type: str
"""
