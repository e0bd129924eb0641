# SPDX-License-Identifier: GPL-3.0-or-later
"""An index of the models: what it is on, how it is built, and whether an index
of the database is the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from psycopg.sql import SQL

from ..catalog import IndexInfo
from ..core.spec import Index, Table
from ..core.sql import comma, name, render, table

if TYPE_CHECKING:
    from sqlalchemy import Index as ModelIndex


def column_names(model: ModelIndex) -> tuple[str, ...]:
    """The columns of the models' index, without its expressions."""
    from sqlalchemy import Column

    return tuple(e.name for e in model.expressions if isinstance(e, Column))


def is_plain(model: ModelIndex) -> bool:
    """Whether the models' index is a whole B-tree on columns, in their usual order."""
    special = _has_condition(model) or include(model)
    return not special and method(model) == "btree" and _is_on_columns(model)


def creation(on: Table, model: ModelIndex) -> str:
    """The statement that builds the models' index without blocking writers."""
    options = model.dialect_options["postgresql"]
    if is_plain(model) and not any(options.get(key) for key in _BESIDES):
        query = SQL("CREATE {}INDEX CONCURRENTLY {} ON {} ({})").format(
            SQL("UNIQUE " if model.unique else ""),
            name(str(model.name)),
            table(on),
            comma(name(c) for c in column_names(model)),
        )
        return render(query)
    return _ddl(model).replace("INDEX ", "INDEX CONCURRENTLY ", 1)


_BESIDES = ("ops", "nulls_not_distinct", "with", "tablespace")
"""Options of an index that Alembic does not compare, and that it is built with."""


def definition(model: ModelIndex) -> str:
    """What comes after the table's name when the models' index is built."""
    if is_plain(model):
        return f"({', '.join(column_names(model))})"
    return re.split(r" (?=USING |\()", _ddl(model), maxsplit=1)[-1]


def is_buildable(model: ModelIndex) -> bool:
    """Whether a phase can describe the models' index: on columns, not unique, of all rows."""
    return not model.unique and _is_on_columns(model) and not _has_condition(model)


def is_built_by(ours: Index, model: ModelIndex) -> bool:
    """Whether what the phase builds under a name is what the models have under it."""
    return (
        not model.unique
        and ours.method == method(model)
        and ours.columns == column_names(model)
        and _is_on_columns(model)
        and ours.include == include(model)
        and bool(ours.where) == _has_condition(model)
    )


def is_same(found: IndexInfo, model: ModelIndex, aliases: Mapping[str, str]) -> bool:
    """Whether an index has the models' definition, whatever its name. aliases has the columns that
    are only renamed, {name in the database: name in the models}."""
    if found.unique != bool(model.unique) or found.plain != is_plain(model):
        return False
    if found.plain:
        return tuple(aliases.get(c, c) for c in found.columns) == column_names(model)
    return _essence(found.definition, aliases) == _essence(_ddl(model), {})


def may_be_same(found: IndexInfo, model: ModelIndex, aliases: Mapping[str, str]) -> bool:
    """Whether an index of the database can be the models' one of the same name, in what Alembic
    does not compare: its method, the columns that it includes, and whether it has a condition."""
    if found.plain or is_plain(model):
        return found.plain == is_plain(model)
    return (
        found.method == method(model)
        and tuple(aliases.get(c, c) for c in found.include) == include(model)
        and bool(found.predicate) == _has_condition(model)
    )


def method(model: ModelIndex) -> str:
    """The kind of the models' index, such as btree."""
    return str(model.dialect_options["postgresql"].get("using") or "btree").lower()


def include(model: ModelIndex) -> tuple[str, ...]:
    """The columns that the models' index only holds."""
    given = model.dialect_options["postgresql"].get("include") or ()
    return tuple(getattr(c, "name", c) for c in given)


def _has_condition(model: ModelIndex) -> bool:
    return model.dialect_options["postgresql"].get("where") is not None


def _is_on_columns(model: ModelIndex) -> bool:
    return len(column_names(model)) == len(model.expressions)


_CASTS = re.compile(
    r"::(character varying|double precision|time(stamp)? with(out)? time zone|[\w.]+)"
    r"(\(\d+(,\d+)?\))?(\[\])*"
)


def _essence(definition: str, aliases: Mapping[str, str]) -> str:
    """What an index with expressions is on, without what PostgreSQL adds when it spells that out:
    casts, parentheses, the usual method."""
    told = _CASTS.sub("", definition.split(" ON ", 1)[1].replace(" USING btree", ""))
    for old, new in aliases.items():
        told = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", new.replace("\\", r"\\"), told)
    return re.sub(r'[\s()"]', "", told).casefold()


def _ddl(model: ModelIndex) -> str:
    from sqlalchemy.dialects.postgresql.base import PGDialect
    from sqlalchemy.schema import CreateIndex

    # SQLAlchemy gives the constructor of a dialect no types.
    dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]
    return str(CreateIndex(model).compile(dialect=dialect)).strip()
