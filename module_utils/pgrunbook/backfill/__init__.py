# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes rows, and gives them back: which rows gain a value, which way through the table,
batch after batch, with an eye on everybody else."""

__all__ = [
    "backfill",
    "batch",
    "constraints",
    "counting",
    "eligibility",
    "equality",
    "estimate",
    "expressions",
    "failover",
    "meanwhile",
    "page_space",
    "probe_query",
    "progress",
    "refused_rows",
    "result",
    "rollback",
    "rollback_checks",
    "sample",
    "slices",
    "statements",
    "strategy",
    "throttle",
    "workers",
]
