# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is told of events while a playbook is at work: a log on the controller, commands and URLs.
Nothing here reaches a database, and nothing that fails here changes a run."""

from .tell import About, Teller

__all__ = ["About", "Teller", "hooks"]
