# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed approvals: the text that a person signs with an SSH key, the file that has it, and whether
a signature counts. ssh-keygen makes and verifies signatures; nothing here knows a database.
"""

__all__ = [
    "approval_file",
    "counted",
    "reread",
    "signature",
    "ssh_keygen",
    "statement",
    "verify",
]
