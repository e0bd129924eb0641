# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told afterwards: the report as a value, its files, its plots, the metrics, and the list
of runs."""

__all__ = [
    "build",
    "drawing",
    "facts",
    "files",
    "index",
    "metrics",
    "pages",
    "plots",
    "status",
    "store",
    "value",
]
