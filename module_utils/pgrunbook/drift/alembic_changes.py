# SPDX-License-Identifier: GPL-3.0-or-later
"""What Alembic finds between the models and the database, as plain values, table by table."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg.rows import tuple_row

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection, looking_in
from ..core.errors import RunbookError
from ..core.spec import Spec, Table

if TYPE_CHECKING:
    from sqlalchemy import ForeignKeyConstraint, MetaData, UniqueConstraint
    from sqlalchemy import Table as ModelTable


@dataclass(frozen=True)
class Key:
    """A unique or foreign key: its columns. A foreign key has a target, the table and the columns
    that it refers to, and options, such as ON DELETE CASCADE."""

    name: str
    columns: tuple[str, ...]
    target: tuple[Table, tuple[str, ...]] | None = None
    options: tuple[str, ...] = ()


@dataclass
class Changes:
    """How one table differs: missing is what only the models have, surplus what only the table has.
    An index that differs under one name is in both."""

    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    nullability: list[str] = field(default_factory=list)
    missing_indexes: list[str] = field(default_factory=list)
    surplus_indexes: list[str] = field(default_factory=list)
    missing_unique: list[Key] = field(default_factory=list)
    surplus_unique: list[Key] = field(default_factory=list)
    missing_keys: list[Key] = field(default_factory=list)
    surplus_keys: list[Key] = field(default_factory=list)

    @property
    def keys(self) -> list[Key]:
        """Every unique or foreign key that differs."""
        return [*self.missing_unique, *self.surplus_unique, *self.missing_keys, *self.surplus_keys]


def with_schemas(conn: Connection, spec: Spec, metadata: MetaData) -> MetaData:
    """A copy of the metadata in which every table names its schema.

    Models leave that to the search_path of the application. A table of the phase gets the phase's
    schema. Any other table gets the schema in which the database has it: one of the phase's first,
    then public.

    Raises RunbookError where the models refer to a table that none of them makes.
    """
    from sqlalchemy import MetaData
    from sqlalchemy.exc import SQLAlchemyError

    unnamed = [t.name for t in metadata.tables.values() if t.schema is None]
    schemas = _schemas(conn, spec, unnamed)

    def schema_of(name_: str, given: str | None) -> str:
        return given or schemas.get(name_, spec.table.schema)

    def referred(model: Any, schema: Any, constraint: Any, given: str | None) -> str:
        return schema_of(constraint.referred_table.name, given)

    copy = MetaData(naming_convention=metadata.naming_convention)
    try:
        for model in sorted(metadata.tables.values(), key=lambda t: t.schema is None):
            schema = schema_of(model.name, model.schema)
            if f"{schema}.{model.name}" not in copy.tables:
                copied = model.to_metadata(copy, schema=schema, referred_schema_fn=referred)
                _keep_names(model.indexes, copied.indexes)
                _keep_names(_unique_constraints(model), _unique_constraints(copied))
    except SQLAlchemyError as error:
        raise _incomparable(error) from None
    return copy


def _schemas(conn: Connection, spec: Spec, names: list[str]) -> dict[str, str]:
    """The schema of each of these tables that is there."""
    preferred = [spec.table.schema, spec.source.schema, "public"]
    rows = conn.execute(
        "SELECT DISTINCT ON (c.relname) c.relname AS name, n.nspname AS schema FROM pg_class c"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relname = ANY (%s) AND c.relkind = ANY (%s)"
        " ORDER BY c.relname, array_position(%s, n.nspname::text), n.nspname",
        (names, list(catalog.READABLE), preferred),
    )
    found = {row["name"]: row["schema"] for row in rows}
    return found | {t.name: t.schema for t in (spec.source, spec.table)}


def _keep_names(given: Iterable[Any], copied: Iterable[Any]) -> None:
    """Give copied indexes or constraints their old names. Those that come from a column's
    index=True or unique=True are made anew by SQLAlchemy, with the schema in their names."""
    old, new = list(given), list(copied)
    known, kept = {g.name for g in old}, {each.name for each in new}
    lost = {tuple(c.name for c in g.columns): g.name for g in old if g.name not in kept}
    for each in new:
        if each.name not in known:
            each.name = lost[tuple(c.name for c in each.columns)]


def _unique_constraints(model: ModelTable) -> list[UniqueConstraint]:
    from sqlalchemy import UniqueConstraint

    return [c for c in model.constraints if isinstance(c, UniqueConstraint)]


def _incomparable(error: Exception) -> RunbookError:
    return RunbookError(
        f"SQLAlchemy cannot compare the models: {' '.join(str(error).split())}. Next step: see "
        "that importing them makes all the tables that they refer to, or correct phase_models."
    )


def compare_tables(
    conn: Connection, metadata: MetaData, tables: Collection[Table]
) -> dict[Table, Changes]:
    """What Alembic finds. Meanwhile no schema but pg_catalog is on the search_path, so that
    SQLAlchemy tells the schema of every name. Raises RunbookError where it cannot compare."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import StaticPool

    wanted = {(t.schema, t.name) for t in tables}

    def include_name(name_: str | None, kind: str, parents: Mapping[str, Any]) -> bool:
        if kind == "schema":
            return name_ in {schema for schema, _ in wanted}
        return kind != "table" or (parents["schema_name"], name_) in wanted

    def include(item: Any, name_: str | None, kind: str, reflected: bool, other: Any) -> bool:
        return kind != "table" or (item.schema, item.name) in wanted

    engine = create_engine("postgresql+psycopg://", creator=lambda: conn, poolclass=StaticPool)
    # A method is replaced on purpose.
    engine.dialect.do_rollback = _nothing  # type: ignore[method-assign, assignment]
    with looking_in(conn, ()), _tuple_rows(conn), engine.connect() as connection:
        connection.dialect.default_schema_name = "pg_catalog"
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": False,
                "compare_server_default": False,
                "include_schemas": True,
                "include_name": include_name,
                "include_object": include,
            },
        )
        try:
            return _sorted(tables, compare_metadata(context, metadata))
        except SQLAlchemyError as error:
            raise _incomparable(error) from None


def _nothing(connection: Any) -> None:
    """What SQLAlchemy does in place of the rollback at its end: the transaction is ours."""


@contextlib.contextmanager
def _tuple_rows(conn: Connection) -> Iterator[None]:
    """Give rows as tuples meanwhile: SQLAlchemy reads them by position."""
    # For a moment the connection gives other rows than its type says.
    rows, conn.row_factory = conn.row_factory, tuple_row  # type: ignore[assignment]
    try:
        yield
    finally:
        conn.row_factory = rows


def _sorted(tables: Iterable[Table], found: Iterable[Any]) -> dict[Table, Changes]:
    """Alembic's differences by table. Left out are tables that are missing, which compare.py finds
    itself, defaults, and comments."""
    changes = {t: Changes() for t in tables}
    for change in found:
        for single in change if isinstance(change, list) else [change]:
            kind, *rest = single
            if kind in ("add_column", "remove_column"):
                of = changes[Table(rest[0], rest[1])]
                (of.missing if kind == "add_column" else of.surplus).append(rest[2].name)
            elif kind == "modify_nullable":
                changes[Table(rest[0], rest[1])].nullability.append(rest[2])
            elif kind in ("add_index", "remove_index"):
                of = changes[Table(rest[0].table.schema, rest[0].table.name)]
                listed = of.missing_indexes if kind == "add_index" else of.surplus_indexes
                listed.append(str(rest[0].name))
            elif kind in ("add_constraint", "remove_constraint"):
                of = changes[Table(rest[0].table.schema, rest[0].table.name)]
                added = kind == "add_constraint"
                (of.missing_unique if added else of.surplus_unique).append(_unique(rest[0]))
            elif kind in ("add_fk", "remove_fk"):
                of = changes[Table(rest[0].parent.schema, rest[0].parent.name)]
                (of.missing_keys if kind == "add_fk" else of.surplus_keys).append(_foreign(rest[0]))
    return changes


def _unique(constraint: UniqueConstraint) -> Key:
    return Key(str(constraint.name or ""), tuple(c.name for c in constraint.columns))


def _foreign(constraint: ForeignKeyConstraint) -> Key:
    options = {
        "ON UPDATE": constraint.onupdate,
        "ON DELETE": constraint.ondelete,
        "DEFERRABLE": constraint.deferrable,
        "INITIALLY": constraint.initially,
    }
    to = constraint.elements[0].column.table
    return Key(
        str(constraint.name or ""),
        tuple(e.parent.name for e in constraint.elements),
        (Table(str(to.schema), to.name), tuple(e.column.name for e in constraint.elements)),
        tuple(k if v is True else f"{k} {v}" for k, v in options.items() if v),
    )


def changes_of_view(model: ModelTable, info: TableInfo) -> Changes:
    """The columns that only one side of a view has. Alembic compares tables only."""
    expected = [c.name for c in model.columns]
    return Changes(
        missing=[c for c in expected if c not in info.columns],
        surplus=[c for c in info.columns if c not in expected],
    )
