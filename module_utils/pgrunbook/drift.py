# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the database have the schema that the application's SQLAlchemy models expect?"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psycopg.rows import tuple_row

from .checks import check
from .connection import Connection
from .errors import RunbookError
from .spec import Spec, Table


def compare(conn: Connection, spec: Spec, models: str) -> dict[str, Any]:
    """Compare both tables of the phase with the models, "path/to/models.py:Base" or
    "package.module:Base", by Alembic's compare_metadata.

    Returns differences, a list of {"kind", "object", "breaks", "text"}, and the check of the
    report's test 2, which fails where one breaks the application.
    """
    metadata = load_metadata(models)
    differences = _differences(conn, metadata, [spec.table, spec.source])
    breaking = [d["text"] for d in differences if d["breaks"]]
    return {
        "changed": False,
        "differences": differences,
        "checks": [
            check(
                "schema",
                "Schema matches the application's models",
                test=2,
                target="no difference that breaks the application",
                measured="; ".join(breaking) or "none",
                passed=not breaking,
                evidence=differences,
            )
        ],
    }


def load_metadata(models: str) -> Any:
    """The MetaData of the models. Raises RunbookError where they cannot be loaded."""
    where, _, attribute = models.rpartition(":")
    try:
        module = (
            _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
        return getattr(module, attribute).metadata
    except (ImportError, OSError, AttributeError, ValueError) as error:
        raise RunbookError(
            f"Cannot load the models {models!r}: {error}. Next step: set phase_models to "
            "path/to/models.py:Base or package.module:Base."
        ) from None


def _load_file(path: Path) -> Any:
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module  # SQLAlchemy resolves annotations through it
    found.loader.exec_module(module)
    return module


def _differences(conn: Connection, metadata: Any, tables: list[Table]) -> list[dict[str, Any]]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    default_schema = "public"
    wanted = {(None if t.schema == default_schema else t.schema, t.name) for t in tables}

    def include(item: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:
        table = item if kind == "table" else getattr(item, "table", None)
        return table is None or (table.schema, table.name) in wanted

    engine = create_engine("postgresql+psycopg://", creator=lambda: conn, poolclass=StaticPool)
    with _tuple_rows(conn), engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_object": include,
                "include_schemas": any(schema for schema, _ in wanted),
            },
        )
        return [d for change in compare_metadata(context, metadata) for d in _described(change)]


@contextlib.contextmanager
def _tuple_rows(conn: Connection) -> Iterator[None]:
    """SQLAlchemy reads rows by position."""
    rows, conn.row_factory = conn.row_factory, tuple_row  # type: ignore[assignment]
    try:
        yield
    finally:
        conn.row_factory = rows


def _described(change: Any) -> list[dict[str, Any]]:
    """One of Alembic's differences, told from the database's side."""
    if isinstance(change, list):
        return [d for inner in change for d in _described(inner)]
    kind = change[0]
    if kind == "add_table":
        return [_difference(kind, change[1].name, True, f"table {change[1].name} is missing")]
    if kind == "remove_table":
        return [_difference(kind, change[1].name, False, f"table {change[1].name} is in no model")]
    if kind in ("add_column", "remove_column"):
        table, column = change[2], change[3]
        missing = kind == "add_column"
        word = "is missing" if missing else "is surplus"
        text = f"column {table}.{column.name} ({column.type}) {word}"
        return [_difference(kind, f"{table}.{column.name}", missing, text)]
    if kind == "modify_type":
        _, _, table, column, _, found, expected = change
        text = f"column {table}.{column} is {found}, the models say {expected}"
        return [_difference(kind, f"{table}.{column}", True, text)]
    if kind in ("add_index", "remove_index"):
        index = change[1]
        columns = ", ".join(c.name for c in index.columns)
        word = "is missing" if kind == "add_index" else "is surplus"
        text = f"index {index.name} ({columns}) {word}"
        return [_difference(kind, index.name, False, text)]
    name = getattr(change[1], "name", None) or ".".join(str(p) for p in change[2:4] if p)
    return [_difference(kind, str(name), False, f"{kind.replace('_', ' ')}: {name}")]


def _difference(kind: str, object_: str, breaks: bool, text: str) -> dict[str, Any]:
    return {"kind": kind, "object": object_, "breaks": breaks, "text": text}
