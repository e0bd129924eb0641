# SPDX-License-Identifier: GPL-3.0-or-later
"""From dataclasses to JSON's types and back: what crosses a door is a dataclass, what a module
returns or the ledger holds is JSON, and what vouches for JSON is its SHA-256."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Value = TypeVar("Value")

IF_ANY = {"if any": True}
"""Metadata of a field that has no key in JSON where it is None."""


def plain(value: Any) -> Any:
    """A value of dataclasses, lists, tuples and mappings as JSON has it: mappings and lists.

    Where a key is a word of Python, such as from, the field's name has an underscore behind it.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {
            _key(each.name): plain(inner)
            for each in fields(value)
            if (inner := getattr(value, each.name)) is not None or each.metadata != IF_ANY
        }
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def read(kind: type[Value], given: Mapping[str, Any]) -> Value:
    """The dataclass that plain() made a mapping of. A field that is not there has its default; a
    key that is no field, as Ansible adds some to a result, is left out.

    Raises KeyError where a field without a default is not there.
    """
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):  # type: ignore[arg-type]  # mypy knows no type for dataclasses
        if _key(field.name) in given:
            found[field.name] = _read(hints[field.name], given[_key(field.name)])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise KeyError(f"{kind.__name__} needs {_key(field.name)}")
    return kind(**found)


def sha256(value: Any) -> str:
    """SHA-256, in hexadecimal, of a value of JSON's types as canonical JSON, in UTF-8: with sorted
    keys and without spaces."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def _key(field: str) -> str:
    return field.removesuffix("_")


def _read(hint: Any, value: Any) -> Any:
    """A value of JSON as its field's annotation has it."""
    if value is None:
        return None
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read(next(kind for kind in inner if kind is not type(None)), value)
    if is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value)
    if origin in (list, tuple):
        return origin(_read(inner[0], each) for each in value)
    if origin in (dict, Mapping):
        return {key: _read(inner[1], each) for key, each in value.items()}
    return value
