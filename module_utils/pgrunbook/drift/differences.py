# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the database have the schema that the application's SQLAlchemy models expect?

Alembic compares names, columns and constraints; PostgreSQL itself, whether two types are the same.
What Alembic tells as a missing and a surplus thing is joined here where it is one thing under
another name. CHECK constraints, defaults and comments are not compared.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import catalog
from ..catalog import TableInfo
from ..core.connection import Connection, one
from ..core.spec import Spec, Table
from . import conversion, kinds, listing
from .changes import Both, Changes, changes_of_view, compare_tables, with_schemas
from .keys import columns_of, constraint_differences, index_differences, other_forms
from .models import comparing, load_metadata

NEAR = 0.8
"""How alike two names of one column are: difflib's ratio, case and underscores apart. The unit
tests have pairs that people renamed (0.85 and more) and pairs of different things (0.78 and less).
"""


def compare(conn: Connection, spec: Spec, models: str) -> dict[str, Any]:
    """Compare both tables of the phase with the models, "path/to/models.py:Base" or
    "package.module:Base".

    Returns differences, the worst first, each as docs/report.md describes it, and their text.
    Raises RunbookError where the models cannot be loaded or compared.
    """
    metadata = load_metadata(models)
    with comparing(models):
        found = sorted(_differences(conn, spec, metadata), key=_rank)
    names = {difference["object"] for difference in found}
    differences = [
        *(_as_acknowledged(spec, difference) for difference in found),
        *(kinds.unmatched(n) for n in spec.acknowledged_drift if n not in names),
    ]
    differences = [listing.scripted(d, spec.lock_timeout_ms) for d in differences]
    return {
        "changed": False,
        "differences": differences,
        "text": listing.listing(differences),
    }


def _as_acknowledged(spec: Spec, difference: dict[str, Any]) -> dict[str, Any]:
    known = difference["object"] in spec.acknowledged_drift
    return listing.accepted(difference) if known else difference


def renames(
    missing: Iterable[str], surplus: Iterable[str], alike: Callable[[str, str], bool]
) -> dict[str, str]:
    """Which surplus name is probably which missing one, as {surplus: missing}: the nearest pairs
    first, each name once. alike(missing, surplus) is asked for near pairs only."""
    others = list(surplus)
    near = sorted(
        (-nearness(new, old), new, old)
        for new in missing
        for old in others
        if nearness(new, old) >= NEAR
    )
    found: dict[str, str] = {}
    for _, new, old in near:
        if old not in found and new not in found.values() and alike(new, old):
            found[old] = new
    return found


def nearness(a: str, b: str) -> float:
    """How alike two names are, from 0 to 1. Names that number things differently are not."""
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return 0.0
    first, second = sorted(n.casefold().replace("_", "") for n in (a, b))
    return difflib.SequenceMatcher(None, first, second, autojunk=False).ratio()


def _differences(conn: Connection, spec: Spec, metadata: Any) -> list[dict[str, Any]]:
    tables = list(dict.fromkeys([spec.table, spec.source]))
    metadata = with_schemas(conn, spec, metadata)
    models = {t: metadata.tables.get(f"{t.schema}.{t.name}") for t in tables}
    infos = {t: catalog.inspect(conn, t, catalog.READABLE) for t in tables if _exists(conn, t)}
    differences = [kinds.missing_table(t) for t in tables if t not in infos]
    differences += [kinds.unmodelled_table(t) for t in infos if models[t] is None]
    compared = [t for t in infos if models[t] is not None]
    changes = compare_tables(conn, metadata, compared)
    both = [
        _join(conn, spec, t, models[t], infos[t], changes_of_view(models[t], infos[t]))
        if _is_view(conn, infos[t])
        else _join(conn, spec, t, models[t], infos[t], changes[t])
        for t in compared
    ]
    renamed = {b.table: b.aliases for b in both}
    for each in both:
        of_table = list(_columns(conn, spec, each))
        is_view = _is_view(conn, each.info)
        if not is_view:
            forms = other_forms(each)
            of_table += [form.told(each.table) for form in forms]
            of_table += index_differences(conn, spec, each, {form.index for form in forms})
            of_table += constraint_differences(conn, each, renamed, {form.key for form in forms})
        differences += [_of_its_table(spec, each, d, is_view=is_view) for d in of_table]
    return differences


def _of_its_table(
    spec: Spec, both: Both, difference: dict[str, Any], *, is_view: bool
) -> dict[str, Any]:
    """The difference, by what its table is and whether the phase reads what differs."""
    if both.table != spec.table and not any(reads(spec, c) for c in columns_of(both, difference)):
        difference = listing.unread(difference)
    if is_view:
        return listing.of_view(difference)
    if both.info.partitioned and difference["table"] == str(both.table):
        difference = listing.of_partitioned(difference)
    if both.info.owned:
        return difference
    return listing.of_other_owner(difference, both.info.owner)


def reads(spec: Spec, column: str) -> bool:
    """Whether the phase reads a column of its source: in its key, an expression or a query. Where
    that cannot be told by the name, it does."""
    if column in spec.source_key.values():
        return True
    expressions = [c.source for c in spec.columns]
    queries = [side for q in spec.queries for side in (q.snapshot, q.baseline)]
    row = rf'(?<!\w){re.escape(spec.source.name)}(?![\w"]*\s*\.)(?!\w)'
    return (
        any(_mentions(text, column) for text in (*expressions, *queries))
        or any(re.search(row, text, re.IGNORECASE) for text in expressions)
        or any(_WHOLE_ROWS.search(query) for query in queries)
    )


_WHOLE_ROWS = re.compile(r"(\bselect\s+|\.\s*|,\s*)\*", re.IGNORECASE)
_PLAIN = re.compile(r"""[^"$\\]*""")


def _mentions(expression: str, word: str) -> bool:
    """Whether SQL has the word, texts in quotes apart where it is plain what these are."""
    if _PLAIN.fullmatch(expression) and "--" not in expression and "/*" not in expression:
        expression = re.sub(r"'(?:[^']|'')*'", "''", expression)
    quoted = word.replace('"', '""')
    return bool(re.search(rf"(?<!\w){re.escape(quoted)}(?!\w)", expression, re.IGNORECASE))


def _rank(difference: dict[str, Any]) -> tuple[int, str, str]:
    severity = kinds.SEVERITIES.index(difference["severity"])
    return severity, difference["table"], difference["object"]


def _exists(conn: Connection, on: Table) -> bool:
    query = (
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s) AS there"
    )
    return bool(one(conn, query, (on.schema, on.name))["there"])


def _is_view(conn: Connection, info: TableInfo) -> bool:
    query = "SELECT relkind IN ('v', 'm', 'f') AS view FROM pg_class WHERE oid = %s::oid"
    return bool(one(conn, query, (info.oid,))["view"])


def _join(
    conn: Connection, spec: Spec, on: Table, model: Any, info: TableInfo, changes: Changes
) -> Both:
    types = {c.name: _type(conn, c) for c in model.columns}

    def alike(new: str, old: str) -> bool:
        return _compatible(conn, types[new][0], info.columns[old].type_oid)

    missing, surplus = set(changes.missing), set(changes.surplus)
    aliases = {
        c.renamed_from: c.name
        for c in spec.columns
        if on == spec.table and c.renamed_from in surplus and c.name in missing
    }
    aliases |= renames(missing - set(aliases.values()), surplus - aliases.keys(), alike)
    return Both(on, model, info, types, changes, aliases)


def _type(conn: Connection, column: Any) -> tuple[int, str]:
    from sqlalchemy.dialects.postgresql.base import PGDialect
    from sqlalchemy.types import NullType

    if isinstance(column.type, NullType):
        return 0, ""
    try:
        spelled = column.type.compile(dialect=PGDialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    except Exception as error:
        error.add_note(f"in the type of {column}")
        raise
    return catalog.resolve_type(conn, spelled) or (0, spelled)


def _same_type(found: tuple[int, str], expected: tuple[int, str]) -> bool:
    """Whether two types are one. Of a type that this session's search_path does not reach, the name
    alone is compared; a column that the models give no type has any."""
    if expected[0]:
        return found == expected
    return not expected[1] or _bare(found[1]) == _bare(expected[1])


def _bare(type_: str) -> str:
    last = type_.rpartition(".")[2]
    return last.strip('"') if '"' in last else last.casefold()


def _compatible(conn: Connection, one_type: int, other: int) -> bool:
    """Whether two types, or the elements of arrays, are the same, or PostgreSQL casts one to the
    other without being told to."""
    base = (
        "(SELECT CASE WHEN typcategory = 'A' AND typelem <> 0 THEN typelem ELSE oid END AS oid"
        " FROM pg_type WHERE oid = %s::oid)"
    )
    query = (
        f"SELECT count(*) > 0 AS ok FROM {base} a, {base} b WHERE a.oid = b.oid OR EXISTS ("
        "SELECT FROM pg_cast WHERE castcontext <> 'e'"
        " AND (castsource, casttarget) IN ((a.oid, b.oid), (b.oid, a.oid)))"
    )
    return bool(one(conn, query, (one_type, other))["ok"])


def _columns(conn: Connection, spec: Spec, both: Both) -> Iterator[dict[str, Any]]:
    on, info, types = both.table, both.info, both.types
    present = {new: old for old, new in both.aliases.items()}
    ours = spec.columns if on == spec.table else ()
    declared = {(c.renamed_from, c.name) for c in ours}
    converted = {(c.name, c.converted_from) for c in ours}
    for column in both.changes.missing:
        if column not in present:
            spelled = conversion.spelled(conn, types[column])
            yield kinds.missing_column(on, column, types[column][1], spelled)
    for old, new in both.aliases.items():
        yield kinds.renamed_column(
            on,
            (new, types[new][1]),
            (old, info.columns[old].type),
            spelled=conversion.spelled(conn, types[new]),
            by_phase=(old, new) in declared,
            converted=(new, info.columns[old].type) in converted,
        )
    required = _required(conn, info)
    for column in both.changes.surplus:
        if column not in both.aliases:
            type_ = info.columns[column].type
            yield kinds.surplus_column(on, column, type_, required=column in required)
    for column in both.model.columns:
        found = info.columns.get(present.get(column.name, column.name))
        if found is None:
            continue
        expected = types[column.name]
        if not _same_type((found.type_oid, found.type), expected):
            how = kinds.fits(found.type, expected[1])
            yield kinds.other_type(
                on,
                column.name,
                found.type,
                expected[1],
                conversion.find(conn, on, info, present.get(column.name, column.name), expected),
                fits=how,
                renamed=column.name in present,
                by_phase=(column.name, found.type) in converted,
            )
        differs = column.nullable is found.not_null and not found.generated
        if column.name in both.changes.nullability or (column.name in present and differs):
            yield kinds.nullability(
                on, column.name, not_null=found.not_null, renamed=column.name in present
            )


def _required(conn: Connection, info: TableInfo) -> set[str]:
    """The columns that an INSERT has to name."""
    rows = conn.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::oid AND attnum > 0 AND attnotnull"
        " AND NOT atthasdef AND attidentity = '' AND NOT attisdropped",
        (info.oid,),
    )
    return {row["attname"] for row in rows}
