# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run would do, or a rollback, or to forget a run: as a value with a hash, and as a person
reads it."""

__all__ = [
    "brief",
    "forget_plan",
    "plan",
    "reading",
    "rollback_plan",
    "run_plan",
    "text",
]
