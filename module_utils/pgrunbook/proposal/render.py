# SPDX-License-Identifier: GPL-3.0-or-later
"""The phase file and its playbook as text.

Values go through PyYAML's own emitter, each by itself, so that comments can stand between them. One
that Ansible would take for a template is marked !unsafe, which keeps it as it is.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core import printable
from .columns import with_place
from .value import Note, Proposal, ProposedColumn, ProposedIndex

if TYPE_CHECKING:
    import yaml

Entry = dict[str, str | tuple[str, ...]]
"""An item of a list of the phase: its keys and what they have."""

WIDTH = 100
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")


def phase_file(of: Proposal, phase: str, models: str, *, templated: bool) -> str:
    """The variables file. models is what it says of them, empty for none; templated: that is a
    template of Ansible's, and meant to be one."""
    lines = [
        "---",
        *_comment(
            f"{of.table} is filled from {of.source}. Written by new_phase.yml, from what the "
            "database says of itself: check what is marked as guessed, and fill in what is marked "
            "TO DO, without which a dry run refuses. docs/variables.md has all there is.",
            "",
        ),
        _entry("phase_name", phase),
        *_schema("phase_schema", of.table.schema),
        _entry("phase_table", of.table.name),
        *_key(of),
        *_columns(of.columns),
        *_schema("phase_source_schema", of.source.schema),
        _entry("phase_source_table", of.source.name),
        *_source_key(of),
        *([_entry("phase_models", models, templated=templated)] if models else []),
        *_indexes(of.indexes),
        *_rest(of),
    ]
    return "".join(f"{line}\n" for line in lines)


def playbook(of: Proposal, imports: str, phase_file: str) -> str:
    """The playbook of the phase: imports is the playbook that runs any phase."""
    name = printable.line(f"Fill {of.table.name} from {of.source.name}")
    return (
        f"---\n- name: {scalar(name)}\n"
        f"  ansible.builtin.import_playbook: {scalar(imports)}\n"
        f"  vars:\n    phase_file: {scalar(phase_file)}\n"
    )


def scalar(value: Any, *, templated: bool = False) -> str:
    """A value in one line of YAML's flow style, as PyYAML's emitter spells it."""
    import yaml

    seen = not any(printable.is_unseen(c) for text in _texts(value) for c in text)
    node = _node(value, templated=templated)
    written: str = yaml.serialize(node, width=float("inf"), allow_unicode=seen)
    return written.removesuffix("\n").removesuffix("\n...")


def _node(value: Any, *, templated: bool) -> yaml.Node:
    """The value as a node: texts that Ansible would template are marked as unsafe."""
    import yaml

    if isinstance(value, dict):
        pairs = [
            (_node(k, templated=templated), _node(v, templated=templated)) for k, v in value.items()
        ]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=True)
    if isinstance(value, list | tuple):
        each = [_node(v, templated=templated) for v in value]
        return yaml.SequenceNode("tag:yaml.org,2002:seq", each, flow_style=True)
    unsafe = not templated and bool(_TEMPLATE.search(value))
    if unsafe:
        return yaml.ScalarNode("!unsafe", value, style='"')
    return yaml.representer.SafeRepresenter().represent_str(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for pair in value.items():
            yield from (t for part in pair for t in _texts(part))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value)


def _entry(variable: str, value: Any, *, templated: bool = False) -> str:
    return f"{variable}: {scalar(value, templated=templated)}"


def _schema(variable: str, schema: str) -> list[str]:
    return [] if schema == "public" else [_entry(variable, schema)]


def _key(of: Proposal) -> Iterator[str]:
    yield from _notes(of.key.notes, "")
    yield _entry("phase_key", of.key.columns) if of.key.columns else "# phase_key: [column]"


def _columns(columns: Sequence[ProposedColumn]) -> Iterator[str]:
    if not columns:
        yield "# phase_columns: [{name: column, type: text, source: expression}]"
        return
    yield "phase_columns:"
    for column in map(with_place, columns):
        yield from _notes(column.notes, "  ")
        given: Entry = {"name": column.name, "type": column.type, "source": column.source}
        yield from _listed(given | _some(renamed_from=column.renamed_from))


def _source_key(of: Proposal) -> Iterator[str]:
    yield from _notes(of.source_key.notes, "")
    if of.source_key.pairs:
        yield _entry("phase_source_key", of.source_key.pairs)
        return
    choices = of.source_key.choices or ({"column": "column of the source"},)
    yield from (f"# {_entry('phase_source_key', each)}" for each in choices)


def _indexes(indexes: Sequence[ProposedIndex]) -> Iterator[str]:
    if indexes:
        yield "phase_indexes:"
    for before, index in zip([None, *indexes], indexes, strict=False):
        if before is None or before.notes != index.notes:  # else the comment above is on both
            yield from _notes(index.notes, "  ")
        given: Entry = {"name": index.name, "columns": index.columns}
        method = "" if index.method == "btree" else index.method
        yield from _listed(
            given
            | _some(
                renamed_from=index.renamed_from,
                include=index.include,
                where=index.where,
                method=method,
            )
        )


def _rest(of: Proposal) -> Iterator[str]:
    yield ""
    yield from _notes(of.notes, "")
    yield from _comment(
        "Nothing is acknowledged here: a dry run names the functions and triggers that have to be. "
        "No queries are compared, as nothing says which ones the columns are for: phase_queries.",
        "",
    )


def _some(**given: str | tuple[str, ...]) -> Entry:
    return {key: value for key, value in given.items() if value}


def _listed(entry: Entry) -> list[str]:
    """An item of a list: in one line where it fits, else a line a key."""
    line = f"  - {scalar(entry)}"
    if len(line) <= WIDTH:
        return [line]
    lines = [f"{scalar(key)}: {scalar(value)}" for key, value in entry.items()]
    return [f"  {'- ' if not n else '  '}{each}" for n, each in enumerate(lines)]


def _notes(notes: Iterable[Note], indent: str) -> list[str]:
    return [line for note in notes for line in _comment(f"{note}.", indent)]


def _comment(said: str, indent: str) -> list[str]:
    return textwrap.wrap(
        printable.line(said),
        WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
