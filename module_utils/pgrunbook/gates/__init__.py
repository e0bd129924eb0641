# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold before a run, during it, after it and on any later day, and whether it does."""

from .gate import Gate

__all__ = [
    "Gate",
    "data_gates",
    "gate",
    "index_trial",
    "post_run",
    "preflight",
    "query_gates",
    "schema_gate",
]
