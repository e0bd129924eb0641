# SPDX-License-Identifier: GPL-3.0-or-later
"""The drift of the schema: how it differs from the application's models, what each difference
breaks, and the ways out. Only reads."""

from .difference import Difference, read_differences

__all__ = [
    "Difference",
    "compare",
    "models",
    "read_differences",
]
