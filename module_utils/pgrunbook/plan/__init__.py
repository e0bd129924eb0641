# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run or a rollback would do, as a value with a hash, and as a person reads it."""

__all__ = [
    "plan",
    "rollback_plan",
    "run_plan",
    "text",
]
