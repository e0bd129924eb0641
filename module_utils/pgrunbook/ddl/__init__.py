# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a schema, and takes it back: renames, conversions, indexes, the grants of the login
role."""

__all__ = [
    "build_time",
    "convert",
    "index_advice",
    "index_parts",
    "indexes",
    "login_role",
    "outcome",
    "rename",
]
