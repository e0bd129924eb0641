# SPDX-License-Identifier: GPL-3.0-or-later
"""The application's SQLAlchemy models are somebody else's program: how it is loaded, and what is
said of its mistakes."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import platform
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from ..core.errors import RunbookError

if TYPE_CHECKING:
    from sqlalchemy import MetaData

_CORRECT = "set phase_models to path/to/models.py:Base or package.module:Base"


def load_metadata(models: str) -> MetaData:
    """The MetaData of the models, "path/to/models.py:Base" or "package.module:Base".

    Raises RunbookError where they cannot be loaded: with the mistake, its file and line in the
    models, and which interpreter read them.
    """
    where, _, attribute = models.rpartition(":")
    if not where or not attribute:
        raise RunbookError(
            f"Cannot load the models {models!r}: that does not say where they are and what their "
            f"base is called. Next step: {_CORRECT}."
        )
    if where.endswith(".py") and not Path(where).is_file():
        raise RunbookError(
            f"Cannot load the models {models!r}: there is no file {where}. Next step: {_CORRECT}."
        )
    try:
        module = (
            _load_file(Path(where)) if where.endswith(".py") else importlib.import_module(where)
        )
    except (Exception, SystemExit) as error:
        raise _not_loaded(models, where, error) from error
    return _metadata(models, module, attribute)


def require_loadable(models: str) -> None:
    """Raise RunbookError where load_metadata() does."""
    load_metadata(models)


@contextlib.contextmanager
def comparing(models: str) -> Iterator[None]:
    """Meanwhile, what SQLAlchemy, Alembic or code of the models raises becomes a RunbookError. A
    mistake of pgrunbook does not."""
    try:
        yield
    except RunbookError:
        raise
    except ModuleNotFoundError as error:
        raise _not_loaded(models, "", error) from error
    except Exception as error:
        by_the_server = getattr(error, "orig", None)
        if isinstance(by_the_server, psycopg.Error):
            raise by_the_server from error
        place = _place(models.rpartition(":")[0], error)
        if not place and not _is_of_sqlalchemy(error):
            raise
        raise RunbookError(
            f"Cannot compare the models {models!r}: {_said(error)}{place}. {_interpreter()} Next "
            f"step: {_mend(place)}."
        ) from error


def _load_file(path: Path) -> Any:
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(found)
    sys.modules[path.stem] = module  # SQLAlchemy resolves annotations through it
    found.loader.exec_module(module)
    return module


def _metadata(models: str, module: Any, attribute: str) -> MetaData:
    file = getattr(module, "__file__", None) or module.__name__
    if not hasattr(module, attribute):
        raise RunbookError(
            f"Cannot load the models {models!r}: {file} has no {attribute}. Next step: name the "
            "declarative base of the models after the colon, in phase_models."
        )
    with comparing(models):
        from sqlalchemy import MetaData

        metadata = getattr(getattr(module, attribute), "metadata", None)
    if not isinstance(metadata, MetaData):
        raise RunbookError(
            f"Cannot load the models {models!r}: {attribute} in {file} is no declarative base of "
            "SQLAlchemy, since it has no metadata. Next step: name the base of the models after "
            "the colon, in phase_models."
        )
    return metadata


def _not_loaded(models: str, where: str, error: BaseException) -> RunbookError:
    place = _place(where, error)
    missing = _missing_package(error)
    if missing:
        return RunbookError(
            f"Cannot load the models {models!r}: there is no module {missing!r}{place}. "
            f"{_interpreter()} Next step: install the package that has it for that interpreter, "
            f"such as with {sys.executable} -m pip install {missing.partition('.')[0]}; or set "
            "ansible_python_interpreter in the inventory to one that has it; or correct "
            "phase_models."
        )
    return RunbookError(
        f"Cannot load the models {models!r}: {_said(error)}{place}. {_interpreter()} Next step: "
        f"{_mend(place)}."
    )


def _mend(place: str) -> str:
    return (
        "correct the models there, or phase_models"
        if place
        else f"correct the models, or {_CORRECT}"
    )


def _missing_package(error: BaseException) -> str:
    return error.name or "" if isinstance(error, ModuleNotFoundError) else ""


def _said(error: BaseException) -> str:
    """The error in one line, after the name of its class."""
    told = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    where = "".join(f", {note}" for note in getattr(error, "__notes__", []))
    return f"{type(error).__name__}{f': {told}' if told else ''}{where}"


def _place(where: str, error: BaseException) -> str:
    """Where in the models an error is: the line that cannot be read, or the last one that ran.
    Empty where it is not in them."""
    if isinstance(error, SyntaxError) and error.filename:
        return f", in {error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _is_in(where, frame.filename)]
    return f", in {ours[-1].filename}, line {ours[-1].lineno}" if ours else ""


def _is_in(where: str, filename: str) -> bool:
    """Whether a file is that of the models, or in their package."""
    if where.endswith(".py"):
        return Path(filename).resolve() == Path(where).resolve()
    package = importlib.util.find_spec(where.partition(".")[0]) if where else None
    if package is None or not package.origin:
        return False
    of_it = package.submodule_search_locations or [package.origin]
    return any(Path(filename).is_relative_to(place) for place in of_it)


def _is_of_sqlalchemy(error: BaseException) -> bool:
    """Whether SQLAlchemy or Alembic raised it: then the models gave them the reason."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return bool({"sqlalchemy", "alembic"} & set(Path(raised_in).parts))


def _interpreter() -> str:
    return f"It was read by Python {platform.python_version()}, {sys.executable}."
