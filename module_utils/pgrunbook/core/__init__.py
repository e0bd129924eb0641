# SPDX-License-Identifier: GPL-3.0-or-later
"""What every room uses: the phase as a value, connections and locks, quoting, errors, and how text
is shown."""

__all__ = [
    "channel",
    "connection",
    "errors",
    "failure",
    "frame",
    "heartbeat",
    "locks",
    "login",
    "obstacles",
    "options",
    "phase",
    "printable",
    "read_only",
    "reconnect",
    "server",
    "sibling",
    "spec",
    "spec_checks",
    "sql",
    "typed",
    "values",
    "version",
    "window",
]
