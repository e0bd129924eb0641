# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms of the program. import-linter, in make lint, holds the order of their imports; here is
what their doors let through."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAM = ROOT / "module_utils/pgrunbook"
ROOMS = {path.parent.name: path for path in sorted(PROGRAM.glob("*/__init__.py"))}
FULL_NAME = "ansible.module_utils.pgrunbook"


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """What a file of the project imports from other rooms: the room, and the name behind its
    door."""
    room = path.parent.name if path.parent.parent == PROGRAM else ""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module, level = node.module or "", node.level
        if module.startswith(f"{FULL_NAME}."):
            module, level = module.removeprefix(f"{FULL_NAME}."), 1 + bool(room)
        first, _, second = module.partition(".")
        if first in ROOMS and level == 1 + bool(room):
            yield from ((first, second or alias.name) for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_what_others_use_is_what_the_door_names(room: str) -> None:
    door = ast.parse(ROOMS[room].read_text(encoding="utf-8"))
    (named,) = [
        ast.literal_eval(node.value)
        for node in door.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    files = [
        path
        for folder in (PROGRAM, ROOT / "library", ROOT / "plugins")
        for path in folder.rglob("*.py")
        if path.parent != ROOMS[room].parent
    ]
    used = {name for path in files for of, name in imported(path) if of == room}
    own = {path.stem for path in ROOMS[room].parent.glob("*.py")}
    assert used - set(named) == set(), "comes in through a window"
    assert (set(named) & own) - used == set(), "is nobody's but the room's own"
    assert ast.get_docstring(door)


def test_every_statement_on_the_ledger_is_in_its_room() -> None:
    on_the_ledger = re.compile(r"\b(FROM|INTO|UPDATE|JOIN)\s+pgrunbook\.")
    found = [
        f"{path.relative_to(PROGRAM)}:{node.lineno}"
        for path in sorted(PROGRAM.rglob("*.py"))
        if path.parent.name != "ledger"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if on_the_ledger.search(node.value)
    ]
    assert found == [], "belongs in ledger/"


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in [*PROGRAM.rglob("*.py"), *(ROOT / "library").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_no_function_is_longer_than_a_page_and_no_file_is_a_novel() -> None:
    assert len(list(functions())) > 1000
    long = [(p.name, f.name) for p, f in functions() if (f.end_lineno or 0) - f.lineno >= 40]
    assert long == []
    folders = (PROGRAM, ROOT / "plugins/action", ROOT / "plugins/callback")  # what is not generated
    files = [p for folder in folders for p in folder.rglob("*.py")]
    assert [p.name for p in files if len(p.read_text("utf-8").splitlines()) > 400] == []


def test_mappings_of_anything_stay_at_the_edges() -> None:
    """What crosses a door is a dataclass."""
    loose = [
        (path.name, function.name)
        for path, function in functions()
        if PROGRAM in path.parent.parents
        and "dict[str, Any]"
        in f"{ast.unparse(function.args)} {ast.unparse(function.returns or ast.Constant(0))}"
    ]
    assert 0 < len(loose) <= 45, loose
