# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift of the schema: how it differs from the application's models, what each difference
breaks, and the ways out. Only reads."""

from .difference import CRITICAL, Difference, read_differences
from .text import label_of

__all__ = [
    "CRITICAL",
    "Difference",
    "compare",
    "expected",
    "label_of",
    "models",
    "read_differences",
    "renames",
    "types",
]
