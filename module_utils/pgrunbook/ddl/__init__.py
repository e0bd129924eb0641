# SPDX-License-Identifier: GPL-3.0-or-later
"""What changes a schema, and takes it back: renames, conversions, indexes, the grants of the login
role."""

__all__ = [
    "build_time",
    "clear_indexes",
    "column_dependents",
    "columns",
    "convert",
    "index_advice",
    "index_checks",
    "index_plan",
    "index_sql",
    "indexes",
    "login_role",
    "rename",
    "schema_change",
    "step",
    "undo_columns",
    "undo_indexes",
]
