# SPDX-License-Identifier: GPL-3.0-or-later
"""What the phase file of a table could say: looked up, guessed from plain values, and rendered.
Only reads; what is guessed says so."""

from .value import Proposal

__all__ = ["Proposal", "files", "make", "paths", "render", "text"]
