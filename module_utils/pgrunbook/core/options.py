# SPDX-License-Identifier: GPL-3.0-or-later
"""Options as fields of a dataclass: one declaration each, from which follow what Ansible takes, the
checks, and the documentation (`make generate`).

    workers: int = option("In how many threads the backfill works.", 1, least=1, most=16)

A field of another dataclass of options, in a tuple, is a list of mappings. One of type Table is two
options, schema and table, with what stands before an underscore in the field's name before them.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .errors import RunbookError

Options = TypeVar("Options")
Told = dict[str, Any]
"""What Ansible's argument spec, or a module's documentation, says of an option."""


@dataclass(frozen=True)
class Table:
    """A table by schema and name, both as PostgreSQL stores them (unquoted)."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class Declared:
    """What an option's declaration says besides name, type and default.

    doc is in Ansible's markup, one sentence or two. least and most are bounds that are allowed,
    above is one that is not; why_most is what is said of a value over most. more is the part of
    docs/ that tells more. kind is Ansible's type where Python has no such one; a secret is never
    shown.
    """

    doc: str
    least: float | None = None
    most: float | None = None
    above: float | None = None
    per_cent: bool = False
    choices: tuple[str, ...] = ()
    unit: str = ""
    why_most: str = ""
    more: str = ""
    kind: str = ""
    secret: bool = False


def option(doc: str, default: Any = MISSING, *, compare: bool = True, **declared: Any) -> Any:
    """The field of an option; without a default it is required. declared is as in Declared, compare
    as in dataclasses.field()."""
    metadata = {"declared": Declared(doc, **declared)}
    if isinstance(default, dict):
        return field(default_factory=dict, compare=compare, metadata=metadata)
    return field(default=default, compare=compare, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """An option by its name: the field that it is from, its type, and what was declared of it.
    default is MISSING where it is required."""

    name: str
    hint: Any
    default: Any
    declared: Declared

    @property
    def nested(self) -> Any:
        """Of a list of mappings, the dataclass of their options; else None."""
        inner = (get_args(self.hint) or (None,))[0]
        return inner if is_dataclass(inner) else None

    @property
    def type(self) -> str:
        """Ansible's name of its type."""
        origin = get_origin(self.hint)
        if self.declared.kind or origin not in (None, types.UnionType):
            return self.declared.kind or ("list" if origin is tuple else "dict")
        return str((get_args(self.hint) or (self.hint,))[0].__name__)


def options_of(kind: type) -> Iterator[Option]:
    """The options of a dataclass of options, in their order."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        declared: Declared = each.metadata["declared"]
        if hints[each.name] is Table:
            schema, name = table_options(each.name)
            yield Option(schema, str, "public", Declared(f"Schema of {_lower(declared.doc)}"))
            yield Option(name, str, MISSING, declared)
        else:
            yield Option(each.name, hints[each.name], _default(each), declared)


def table_options(of: str) -> tuple[str, str]:
    """The names of the two options of a field of type Table: table has schema and table, source
    has source_schema and source_table."""
    return ("schema", "table") if of == "table" else (f"{of}_schema", f"{of}_table")


def argument_spec(kind: type) -> Told:
    """What AnsibleModule takes as options, or as the options of a list's mappings."""
    return {each.name: _argument(each) for each in options_of(kind)}


def documentation(kind: type) -> Told:
    """The same options as the suboptions of a documentation fragment."""
    found = {}
    for each in options_of(kind):
        told: Told = {"description": [each.declared.doc], **_argument(each)}
        told.pop("no_log", None)
        if each.nested:
            told.pop("options")
            told["suboptions"] = documentation(each.nested)
        found[each.name] = told
    return found


def taken(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """The dataclass of options that were given. One that is absent, or null, has its default.

    Raises KeyError where one that has none is absent.
    """
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]  # mypy knows no type for dataclasses
        if hints[each.name] is Table:
            schema, name = table_options(each.name)
            found[each.name] = Table(given.get(schema) or "public", given[name])
        elif given.get(each.name) is not None:
            found[each.name] = _taken(hints[each.name], given[each.name])
        elif _default(each) is MISSING:
            found[each.name] = given[each.name]
    return kind(**found)


def given_by(options: Any) -> dict[str, Any]:
    """The options that taken() makes these of."""
    found: dict[str, Any] = {}
    for each in fields(options):
        value = getattr(options, each.name)
        if isinstance(value, Table):
            found |= dict(zip(table_options(each.name), (value.schema, value.name), strict=True))
        elif isinstance(value, tuple):
            found[each.name] = tuple(given_by(v) if is_dataclass(v) else v for v in value)
        else:
            found[each.name] = value
    return found


def unknown(given: Mapping[str, Any], kind: type) -> list[str]:
    """The names in given, and in the mappings that it lists, that are no options of the kind."""
    known = {each.name: each for each in options_of(kind)}
    nested = [
        f"{name}.{inner}"
        for name, each in known.items()
        if each.nested
        for mapping in given.get(name) or []
        for inner in unknown(mapping, each.nested)
    ]
    return sorted({name for name in given if name not in known} | set(nested))


def require_bounds(options: Any, called: Callable[[str], str]) -> None:
    """Raise RunbookError with the first option that is out of its bounds, or is none of its
    choices. called gives an option's name as the person knows it."""
    for each in options_of(type(options)):
        value = getattr(options, each.name, None)
        wrong = _wrong(value, each.declared)
        if wrong:
            variable = called(each.name)
            raise RunbookError(
                f"{variable} is {value if not isinstance(value, str) else repr(value)}; {wrong}. "
                f"Next step: correct {variable} in the variables file."
            )


def _wrong(value: Any, declared: Declared) -> str:
    """What is wrong with a value; empty where nothing is."""
    if declared.choices and value not in declared.choices:
        return f"it takes {', '.join(declared.choices)}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "it must be a number"
    if declared.per_cent and not 0 <= value <= 100:
        return "it is a percentage from 0 to 100"
    if declared.above is not None and value <= declared.above:
        return f"it must be more than {declared.above}"
    if declared.least is not None and value < declared.least:
        least = declared.least
        return f"it must be at least {least}" if least else "it must be 0 or more"
    if declared.most is not None and value > declared.most:
        return declared.why_most or f"it must be at most {declared.most}"
    return ""


def _argument(of: Option) -> Told:
    told: Told = {"type": of.type}
    if of.type == "list":
        told["elements"] = "dict" if of.nested else "str"
    if of.default is MISSING:
        told["required"] = True
    elif of.default is not None:
        told["default"] = list(of.default) if isinstance(of.default, tuple) else of.default
    if of.declared.choices:
        told["choices"] = list(of.declared.choices)
    if of.nested:
        told["options"] = argument_spec(of.nested)
    if "key" in of.name or "pass" in of.name:  # of which Ansible thinks that it is a secret
        told["no_log"] = of.declared.secret
    return told


def _default(of: Field[Any]) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()


def _taken(hint: Any, value: Any) -> Any:
    """A value from Ansible, or from JSON, as its field has it. Where None is possible, an empty
    text is None."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return tuple(_taken(inner[0], each) for each in value)
    if origin is dict:
        return dict(sorted((str(key), str(each)) for key, each in value.items()))
    if is_dataclass(hint) and isinstance(hint, type):
        return taken(hint, value)
    if origin is types.UnionType:
        return None if value == "" else value
    return value


def _lower(sentence: str) -> str:
    first = sentence.split(".")[0]
    return f"{first[0].lower()}{first[1:]}."
