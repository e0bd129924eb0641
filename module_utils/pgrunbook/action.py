# SPDX-License-Identifier: GPL-3.0-or-later
"""How the action plugins call a module: in the process of the task, where that would start another
Python on this machine.

Ansible packs a module, starts a Python for each call and imports the program there: 0.7 s each.
The process of a task is a copy of that of ansible-playbook, which has imported the plugins by then,
so what they have imported is there already.
"""

from __future__ import annotations

import hmac
import importlib
import importlib.util
import io
import json
import pwd
import secrets
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils import basic
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from .core.errors import RunbookError
from .notify import About, Teller, hooks

Main = Callable[[], None]

_ABOVE = Path(__file__).resolve().parents[2]
LIBRARY = _ABOVE / "library" if (_ABOVE / "library").is_dir() else _ABOVE / "modules"
PROFILE = "legacy"  # how Ansible writes the arguments of a module in Python, and its result
_ENCODER = get_module_encoder(PROFILE, Direction.CONTROLLER_TO_MODULE)
TRACED_FROM = 3  # -vvv
_SEAL = secrets.token_bytes(32)
"""Of this execution of ansible-playbook: every task's process has it, and no variable can."""


def main_of(plugin: str) -> Main | None:
    """The main() of the module that has the name of a plugin's file. None where it cannot be
    imported here, as what it needs is only on the machine that it is to run on."""
    path = LIBRARY / Path(plugin).name
    spec = importlib.util.spec_from_file_location(f"pgrunbook_library.{path.stem}", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    # Without psycopg the program says so as the result of a module, and exits.
    with redirect_stdout(io.StringIO()), suppress(ImportError, SystemExit):
        spec.loader.exec_module(module)
        main: Main = module.main
        return main
    return None


def account(uid: int) -> str:
    """The name of an account; its number where it has no name, as in some containers."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def sealed(answer: Mapping[str, Any]) -> str:
    """What tells an answer that this execution got from every variable that looks like one."""
    told = json.dumps([answer[key] for key in ("hash", "scope", "method", "signatures")])
    return hmac.new(_SEAL, told.encode(), "sha256").hexdigest()


def is_sealed(answer: Mapping[str, Any]) -> bool:
    """Whether this execution got an answer."""
    try:
        return hmac.compare_digest(sealed(answer), answer["seal"])
    except (KeyError, TypeError):
        return False


def imported(*names: str) -> None:
    """Import now what the module, or the plugin, would import in every process of a task; whether
    it is there, they say."""
    with suppress(ImportError):
        for name in names:
            importlib.import_module(name)


class RunbookAction(ActionBase):
    """The action of a module of pgrunbook. A plugin says what is its own: main is that of its
    module, mistake what it is at, and what holds all the same, where it fails by a mistake."""

    main: Main | None = None
    mistake = "where the module is called."
    teller = Teller("", (), About("", "", "", dry=True))
    """Of events of the task: the log, and who is to be told. Nobody, until the task runs."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self.teller, warnings = self._telling(task_vars or {})
        try:
            result = self._foreseen(task_vars or {})
        finally:
            warnings += self.teller.end()
        return (
            {**result, "warnings": [*result.get("warnings", []), *warnings]} if warnings else result
        )

    def _foreseen(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the task returns, also where it fails."""
        try:
            return self._result(task_vars)
        except AnsibleConnectionFailure as error:
            return _unreachable(error)
        except AnsibleError:
            raise
        except Exception as error:
            return _unforeseen(error, self.mistake)

    def _telling(self, task_vars: dict[str, Any]) -> tuple[Teller, list[str]]:
        """Who is told of the events of a task, and a warning where nobody can be. They are read
        here and are no options, which Ansible would show."""
        path = str(self._variable("runbook_log", task_vars) or "")
        told: tuple[hooks.Hook, ...] = ()
        warnings = []
        try:
            told = hooks.hooks(self._variable("runbook_notify", task_vars) or [])
        except (RunbookError, AnsibleError) as error:
            why = str(error) if isinstance(error, RunbookError) else "it cannot be read."
            warnings = [f"Nobody is told of events (runbook_notify): {why}"]
        run = (task_vars.get("ansible_facts") or {}).get("runbook_run") or {}
        phase = (task_vars.get("runbook_phase") or {}).get("name", "")
        host = task_vars.get("inventory_hostname", "")
        about = About(str(host), str(phase), str(run.get("id", "")), bool(self._task.check_mode))
        return Teller(path, told, about), warnings

    def _variable(self, name: str, task_vars: dict[str, Any]) -> Any:
        """A variable as it is now, in Python's types; None where it is not set."""
        there = task_vars.get(name)
        return None if there is None else plain_vars(self._templar.template(there))

    def _result(self, task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the task returns."""
        return self._call(dict(self._task.args), task_vars)

    def _call(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the module returns that the task names, called with these arguments. Its events are
        told."""
        result = self._called(arguments, task_vars)
        self.teller.ledger(result.get("events") or [])
        return result

    def _called(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        main = type(self).main
        if main is None or not self._is_here(task_vars):
            remote: dict[str, Any] = self._execute_module(
                module_args=arguments, task_vars=task_vars
            )
            return remote
        given = dict(arguments)
        self._update_module_args(self._task.action, given, task_vars)
        printed = io.StringIO()
        with _arguments(given), redirect_stdout(printed), suppress(SystemExit):
            main()
        told = {"rc": 0, "stdout": printed.getvalue(), "stderr": ""}
        return _as_dict(self._parse_returned_data(told, PROFILE))

    def _with_models(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a module that reads models: where these are a file on the controller,
        and the module runs elsewhere, with the path that the file was sent to."""
        path, _, base = str(arguments.get("models", "")).rpartition(":")
        if self._connection.transport == "local" or not Path(path).is_file():
            return arguments
        folder = self._make_tmp_path()
        sent = self._connection._shell.join_path(folder, Path(path).name)
        self._transfer_file(path, sent)
        self._fixup_perms2([folder, sent])
        return {**arguments, "models": f"{sent}:{base}"}

    def _is_here(self, task_vars: dict[str, Any]) -> bool:
        """Whether Ansible would run the module on this machine, as this user, with this Python and
        this environment."""
        delegated = task_vars.get("ansible_delegated_vars") or {}
        seen = delegated.get(self._task.delegate_to) or task_vars
        environment: dict[str, str] = {}
        self._compute_environment_string(environment)
        return (
            self._connection.transport == "local"
            and not self._play_context.become
            and self._templar.template(seen.get("ansible_python_interpreter")) == sys.executable
            and not environment
            and not constants.DEFAULT_KEEP_REMOTE_FILES
            and hasattr(basic, "_ANSIBLE_PROFILE")
        )


@contextmanager
def _arguments(given: dict[str, Any]) -> Iterator[None]:
    """Where AnsibleModule finds its arguments, as in a process of its own. Ansible's testing.py
    does the same, and says that it is for tests only."""
    before = basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE
    encoded = json.dumps({"ANSIBLE_MODULE_ARGS": given}, cls=_ENCODER).encode()
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = encoded, PROFILE
    try:
        yield
    finally:
        basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = before


def _as_dict(parsed: Any) -> dict[str, Any]:
    """A module's result as a plugin returns it: since ansible-core 2.21 it is parsed into an object
    of its own."""
    if isinstance(parsed, dict):
        return parsed
    parsed.remove_internal_keys()
    result: dict[str, Any] = parsed.as_result_dict(for_round_trip=True)
    return result


def plain_vars(value: Any) -> Any:
    """What Ansible holds in mappings, lists and texts of its own, in Python's."""
    if isinstance(value, Mapping):
        return {str(key): plain_vars(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_vars(inner) for inner in value]
    return value


def _unreachable(error: AnsibleConnectionFailure) -> dict[str, Any]:
    """A failure, so that a rescue tells what it left: a host that Ansible takes for unreachable is
    passed over by all that comes after."""
    told = " ".join(str(error).split()).removesuffix(".")
    return {
        "failed": True,
        "msg": f"Ansible cannot reach the machine that the module runs on: {told}. Next step: "
        "check ansible_host, ansible_connection and the login in the inventory, and that it is up.",
    }


def _unforeseen(error: Exception, mistake: str) -> dict[str, Any]:
    """A failure in a sentence for the person; where it happened from verbosity 3 on."""
    traced = Display().verbosity >= TRACED_FROM
    lines = "".join(traceback.format_exception(error)).splitlines()
    return {
        "failed": True,
        "msg": f"A mistake in pgrunbook: {type(error).__name__} {mistake} Next step: run the same "
        "again with -vvv, and give what it shows to whoever maintains pgrunbook.",
        **({"traceback": lines} if traced else {}),
    }
