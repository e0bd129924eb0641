# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database says of itself: tables, indexes, columns, types, dependents, who may change
what. Only reads.

Other rooms say catalog.inspect() for what describes a table, and use the other files by name.
"""

from .columns import column_numbers, names_there, present_names, require_columns
from .indexes import MENTIONS, IndexInfo
from .relations import READABLE, find_relation, near_names
from .server import Server, inspect_server
from .statements import Counted, Statement
from .tables import (
    BLOCK_BYTES,
    ENFORCED,
    ColumnInfo,
    Leaf,
    Partition,
    TableInfo,
    has_children,
    indexes_on,
    inspect,
    partition_keys,
    update_triggers,
    with_partitions,
)
from .types import require_known_type, require_type, resolve_type

__all__ = [
    "BLOCK_BYTES",
    "ENFORCED",
    "MENTIONS",
    "READABLE",
    "ColumnInfo",
    "Counted",
    "IndexInfo",
    "Leaf",
    "Partition",
    "Server",
    "Statement",
    "TableInfo",
    "column_numbers",
    "conversion",
    "dependents",
    "find_relation",
    "has_children",
    "indexes_on",
    "inspect",
    "inspect_server",
    "names_there",
    "near_names",
    "page_ranges",
    "partition_keys",
    "present_names",
    "require_columns",
    "require_known_type",
    "require_type",
    "resolve_type",
    "row_security",
    "statements",
    "surroundings",
    "trust",
    "trusted_ledger",
    "type_limits",
    "types",
    "update_triggers",
    "volatile",
    "with_partitions",
]
