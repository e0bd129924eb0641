# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception whose message is meant for the person in the maintenance window."""

from __future__ import annotations


class RunbookError(Exception):
    """A run cannot go on: the message names the object and the next step, and no secret."""
