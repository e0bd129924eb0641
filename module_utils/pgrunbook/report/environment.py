# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a run was."""

from __future__ import annotations

from .facts import Facts
from .value import Environment


def environment(facts: Facts) -> Environment:
    """The server as it sees itself, where the plan asked it, or else as the login names it."""
    server, login, itself = facts.preflight.server, facts.login, facts.plan.plan.server
    spec = facts.spec
    return Environment(
        inventory=facts.inventory,
        address=str(itself.get("address") or login.get("host") or ""),
        port=str(itself.get("port") or login.get("port") or ""),
        database=str(server.get("database") or itself.get("database") or login.get("dbname") or ""),
        table=str(spec.table) if spec else "",
        user=str(server.get("user") or login.get("user") or ""),
        version=str(server.get("version") or ""),
        standbys=facts.preflight.health.get("standbys"),
    )
