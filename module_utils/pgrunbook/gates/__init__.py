# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to hold before a run, during it, after it and on any later day, and whether it does."""

from .gate import Gate
from .query_pair import LEAST_RATIO, Advice, QueryPair, SpeedUp, in_words, times

__all__ = [
    "LEAST_RATIO",
    "Advice",
    "Gate",
    "QueryPair",
    "SpeedUp",
    "alterations",
    "canary",
    "data_gates",
    "gate",
    "in_words",
    "index_trial",
    "orphans",
    "post_run",
    "post_run_verdict",
    "preflight",
    "query_gates",
    "registry",
    "row_comparison",
    "schema_gate",
    "times",
]
