# SPDX-License-Identifier: GPL-3.0-or-later
"""Models that cannot be loaded or compared are told with what is wrong in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Database
from tests.integration.drift.shop import (
    HEAD,
)
from tests.integration.steps import Module, Steps

Phase = dict[str, Any]


@pytest.mark.representative
def test_models_that_refer_to_nothing(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    path = tmp_path / "dangling.py"
    models = 'orders(Column("id", Integer, primary_key=True), Column("a", ForeignKey("gone.id")))'
    path.write_text(HEAD + models, encoding="utf-8")
    message = Steps.of(module, database, phase).refused("drift", models=f"{path}:Base")
    assert "'gone'" in message and "phase_models" in message


MISTAKES = {
    "syntax": ("class Order(\n", "SyntaxError: '(' was never closed", 1),
    "name": ("x = 1\nBase = nosuch\n", "NameError: name 'nosuch' is not defined", 2),
    "SQLAlchemy at the import": (
        HEAD + 'orders(Column("id", Integer, Integer, primary_key=True))',
        "ArgumentError: 'SchemaItem' object",
        HEAD.count("\n") + 1,
    ),
    "their own exit": ("import sys\nsys.exit(1)\n", "SystemExit: 1", 2),
    "SQLAlchemy while it compares": (
        HEAD
        + 'class Odd(types.UserDefinedType): pass\norders(Column("id", Odd, primary_key=True))',
        "AttributeError: 'Odd' object has no attribute 'get_col_spec', in the type of orders.id.",
        None,
    ),
    "their code while it compares": (
        HEAD + "class Odd(types.UserDefinedType):\n    def get_col_spec(self): return self.x\n"
        'orders(Column("id", Odd, primary_key=True))',
        "'Odd' object has no attribute 'x'",
        HEAD.count("\n") + 2,
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_the_models_is_told_with_its_place_and_the_interpreter(
    database: Database, module: Module, phase: Phase, tmp_path: Path, case: str
) -> None:
    program, said, line = MISTAKES[case]
    path = tmp_path / "mistaken_models.py"
    path.write_text(program, encoding="utf-8")
    database.sql("DROP TABLE session_summaries CASCADE; CREATE TABLE orders (id int)")
    given = {**phase, "phase_table": "orders", "phase_schema": "public"}
    message = Steps.of(module, database, given).refused("drift", models=f"{path}:Base")
    assert f"the models '{path}:Base'" in message and said in message, message
    assert line is None or f"in {path}, line {line}." in message, message
    assert sys.executable in message and "Traceback" not in message


def test_a_package_that_the_models_lack_is_told_with_what_installs_it(
    database: Database, module: Module, phase: Phase, tmp_path: Path
) -> None:
    path = tmp_path / "lacking_models.py"
    path.write_text("import sys\nfrom nosuch_package.parts import Base\n", encoding="utf-8")
    message = Steps.of(module, database, phase).refused("drift", models=f"{path}:Base")
    assert f"there is no module 'nosuch_package', in {path}, line 2." in message, message
    assert f"{sys.executable} -m pip install nosuch_package" in message


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("nosuch_package.models:Base", "there is no module 'nosuch_package'. It was read by"),
        ("/nosuch.py:Base", "there is no file /nosuch.py"),
        ("json:nosuch", "json/__init__.py has no nosuch"),
        ("json:loads", "is no declarative base"),
    ],
)
def test_models_that_are_not_there(
    database: Database, module: Module, phase: Phase, models: str, said: str
) -> None:
    message = Steps.of(module, database, phase).refused("drift", models=models)
    assert f"Cannot load the models '{models}'" in message and said in message, message
