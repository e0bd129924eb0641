# SPDX-License-Identifier: GPL-3.0-or-later
"""One run over several databases: what the plans of its hosts have in common, in which waves they
go, what is shown before the approval, how somebody signs them, and how it
ended. Plain values; nothing here connects."""

__all__ = [
    "ended",
    "hosts",
    "overview",
    "page",
    "plan_file",
    "plots",
    "progress",
    "report",
    "rollout",
    "stored",
    "tally",
    "to_sign",
    "turn",
    "waves",
]
