# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file that knows Ansible: from a module's options to its result."""

from __future__ import annotations

import contextlib
import copy
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import psycopg
except ImportError:
    print(json.dumps({"failed": True, "msg": missing_required_lib("psycopg (version 3)")}))
    sys.exit(1)

from . import catalog, ledger
from .catalog import trust, trusted_ledger
from .core import printable
from .core.connection import (
    PLAIN,
    Connection,
    connect,
    is_connection_string,
    looking_in,
    probe,
    proof,
)
from .core.errors import RunbookError
from .core.failure import database_failure, trace, unforeseen
from .core.heartbeat import heartbeat
from .core.locks import table_lock
from .core.login import LOGIN_OPTIONS
from .core.options import argument_spec, taken
from .core.phase import parse
from .core.read_only import require_dry
from .core.reconnect import Reconnecting
from .core.server import Identity, was_promoted
from .core.spec import SPEC_OPTIONS, Spec
from .core.values import plain, read
from .gates.registry import require_declared
from .ledger import identity

METRICS_FILE = {"type": "path", "default": ""}
METRICS_HOST = {"type": "str", "default": ""}
Work = Callable[[Connection, "Given"], object]
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call:
    """A call of a module: its options, the run that it belongs to, and what execute() was told.
    bound is whether the run's approval and server count; events are those that it has appended to
    the ledger so far."""

    parameters: dict[str, Any]
    run: ledger.Run | None
    name: str
    dry: bool
    bound: bool
    administers: bool
    first: Callable[[Connection, Spec], None] | None
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def patience(self) -> int:
        """For how many seconds the work waits for a primary where its connection is lost."""
        return self.run.reconnect_seconds if self.run and self.bound else 0


@dataclass(frozen=True)
class _Opened:
    """A connection, the phase that counts, if there is one, and of a run which server it is to."""

    conn: Connection
    spec: Spec | None
    server: Identity | None


@dataclass(frozen=True)
class Given:
    """What a module was called with: the phase that counts and the run, if it takes them, its other
    options, and whether it may only tell what it would do."""

    spec: Spec
    run: ledger.Run
    options: Mapping[str, Any]
    dry: bool


LOGIN = {"type": "dict", "required": True, "no_log": True, "options": LOGIN_OPTIONS}
"""no_log, so that Ansible refuses a misspelt key without its value, which may be the password."""
SPEC = {"type": "dict", "required": True, "options": SPEC_OPTIONS}
RUN = {"type": "dict", "required": True, "options": argument_spec(ledger.Run)}


def execute(
    module: AnsibleModule,
    work: Work,
    *,
    name: str,
    writes: bool,
    administers: bool = False,
    first: Callable[[Connection, Spec], None] | None = None,
    told: Callable[[], Mapping[str, Any]] = dict,
) -> None:
    """Connect, do work(connection, given) and exit with what it returns, a mapping or a dataclass.

    Unless it administers, which needs nothing of the phase's but its names, the phase's schemas
    have to be trusted, and all rows of its tables to be seen. What is in the way of that is told
    together with what first(connection, spec) finds, which may call nothing of the phase's.

    Where the module only reads, or in check mode, the connection works in READ ONLY transactions,
    and the result's proof holds what the server says of the last one. Every failure exits through
    fail_json.

    With a run, outside check mode, the server has to be the one that the run was planned on, and
    from its approval on the spec is the approved plan's, whatever the parameters say. Where its
    connection is lost, work() is done again on another one, also after a failover, for as long as
    the run waits. Where it fails, told() has what the result says besides.
    """
    parameters = take_secrets(module)
    run = taken(ledger.Run, parameters["run"]) if parameters.get("run") else None
    dry = module.check_mode or not writes
    bound = run is not None and not module.check_mode
    call = _Call(parameters, run, name, dry, bound, administers, first)

    def so_far() -> Mapping[str, Any]:
        return {**told(), "events": call.events}

    with failures(module, writes=not dry, told=so_far):
        reconnecting = Reconnecting(call.patience, writes=not dry)
        leave(module, reconnecting.run(lambda: _once(call, work, reconnecting)))


def _once(call: _Call, work: Work, reconnecting: Reconnecting) -> dict[str, Any]:
    """Connect and do the work; what it returns."""
    with _connected(call) as opened:
        reconnecting.opened(opened.conn)
        # A module that takes no phase, or no run, does not ask for it.
        spec, run = cast(Spec, opened.spec), cast(ledger.Run, call.run)
        try:
            result = _proved(opened.conn, work, Given(spec, run, call.parameters, call.dry))
        finally:
            call.events.extend(_appended(opened.conn))
        return {**result, "events": call.events, **_facts(call.run, opened.server)}


def _appended(conn: Connection) -> list[Mapping[str, Any]]:
    """The events that the work has appended; none where the server does not answer any more, which
    the work itself tells."""
    with contextlib.suppress(psycopg.Error):
        return ledger.appended(conn)
    return []


def _facts(run: ledger.Run | None, here: Identity | None) -> dict[str, Any]:
    """For playbooks, the run on the server that it is on now, where that is another one."""
    if run is None or here is None or not was_promoted(here, read(Identity, run.server)):
        return {}
    return facts_of(replace(run, server=plain(here)))


def facts_of(run: ledger.Run) -> dict[str, Any]:
    """What a module returns so that later steps get the run as it is now."""
    return {"ansible_facts": {"runbook_run": plain(run)}}


def _proved(conn: Connection, work: Work, given: Given) -> dict[str, Any]:
    """What the work returns, with the server's word on whether it wrote."""
    result: dict[str, Any] = {"queries": [], **plain(work(conn, given)), "proof": proof(conn)}
    if given.dry:
        require_dry(result["proof"])
    return result


@contextlib.contextmanager
def _connected(call: _Call) -> Iterator[_Opened]:
    """The connection, and the spec that counts: once a run is approved, and the call is bound to
    it, that of the approved plan."""
    parameters, administers = call.parameters, call.administers
    with contextlib.ExitStack() as stack:

        def opened(spec: Spec | None) -> Connection:
            schemas, lock_timeout_ms = _settings(None if administers else spec)
            session = connect(
                parameters["login"],
                name=call.name,
                read_only=call.dry,
                schemas=schemas,
                lock_timeout_ms=lock_timeout_ms,
            )
            conn = stack.enter_context(session)
            if call.patience:
                stack.enter_context(heartbeat(probe(conn)))
            return conn

        given = _given_spec(parameters)
        conn = opened(given)
        if call.bound or not given:  # these read the ledger before a phase says whom to trust
            trusted_ledger.require_plain_ledger(conn)
        approved, here = None, None
        if call.run and call.bound:
            approved, here = _approved_spec(conn, parameters["login"], call.run)
        if call.run and approved and given and _settings(approved) != _settings(given):
            conn = opened(approved)
            _approved_spec(conn, parameters["login"], call.run)
        spec = approved or given
        if given and spec and not administers:
            trust.require_all(conn, spec, call.first, with_source=not _undoes(parameters))
        elif spec:
            trusted_ledger.require_own_ledger(conn, spec)
        yield _Opened(conn, spec, here)


def take_secrets(module: AnsibleModule) -> dict[str, Any]:
    """The module's parameters. In module.params, which Ansible returns as the invocation, the
    passwords, and what may have one, are masked from now on.

    Ansible would mask every text of a result that has the password in it, so a password such as
    "public" would change the plan, and its hash. No result of ours has a password, so nothing else
    has to be masked.
    """
    parameters: dict[str, Any] = copy.deepcopy(module.params)
    for options in (module.params, module.params.get("login") or {}):
        if options.get("password"):
            options["password"] = MASK
        options.update({key: MASK for key in PLAIN if is_connection_string(options.get(key))})
    module.no_log_values.clear()
    return parameters


@contextlib.contextmanager
def failures(
    module: AnsibleModule, *, writes: bool, told: Callable[[], Mapping[str, Any]] = dict
) -> Iterator[None]:
    """Exit through fail_json where the work inside fails, with a sentence for the person. writes
    says whether it may have changed the database. Where the work failed in the program is told from
    verbosity 3 on."""
    try:
        yield
    except RunbookError as error:
        code = {"code": error.code} if error.code else {}
        _fail(
            module,
            str(error),
            error,
            **code,
            **told(),
            obstacles=[printable.text(o) for o in error.obstacles],
        )
    except psycopg.Error as error:
        _fail(module, database_failure(error), error, **told(), sqlstate=error.sqlstate)
    except Exception as error:
        _fail(module, unforeseen(error, writes=writes), error)


def leave(module: AnsibleModule, result: dict[str, Any]) -> None:
    """Exit with the result, its dataclasses in JSON's types. Its warnings, a list of texts, are
    shown as Ansible's. In what a person reads of it, nothing is left that could not be seen."""
    for warning in result.get("warnings", []):
        module.warn(printable.text(warning))
    module.exit_json(
        **{k: _for_people(k, value) for k, value in plain(result).items() if k != "warnings"}
    )


def passed_over(unreadable: list[str]) -> list[str]:
    """A warning for each path of a file that should be a report."""
    return [
        f"{path} is no report, and is passed over. Next step: move it elsewhere."
        for path in unreadable
    ]


def alone(conn: Connection, given: Given, work: Callable[[], Result]) -> Result:
    """Do work(), and unless it is dry, while no other writer of pgrunbook works on the table."""
    if given.dry:
        return work()
    table = given.spec.table
    with table_lock(conn, catalog.inspect(conn, table).oid, str(table)):
        return work()


def with_metrics(
    result: dict[str, Any], path: str, host: str, runs: list[ledger.RunStatus]
) -> dict[str, Any]:
    """The result, once the runs of a host, as ledger.info() has them, are in a Prometheus text
    file; with a warning where they could not be written, which stops no backfill."""
    return written(
        result, path, "runbook_metrics_file", lambda metrics: metrics.write(path, host, runs)
    )


def written(
    result: dict[str, Any], path: str, variable: str, write: Callable[[Any], None]
) -> dict[str, Any]:
    """The result, once write() was called with the module metrics; with a warning where the file
    could not be written. No path, no file. variable is where the path comes from."""
    if not path:
        return result
    try:
        from .report import metrics

        write(metrics)
    except (ImportError, OSError) as error:
        warning = (
            f"The metrics cannot be written to {path}: {error}. Next step: install "
            "prometheus_client where the module runs and let it write there, or set "
            f"{variable} to another path, or to nothing."
        )
        return {**result, "warnings": [warning]}
    return result


MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
"""What Ansible itself shows in place of a secret."""

_TEXTS = ("altered", "diff", "progress", "stopped_by", "text", "verdict")
_OF_A_CHECK = ("title", "target", "measured")
_OF_A_DIFFERENCE = ("text", "impact", "resolutions")


def _for_people(key: str, value: Any) -> Any:
    """A value of a result, where its texts are for people as they may be shown; else as it is."""
    if key in _TEXTS:
        return printable.every(value)
    if key == "checks":
        return [_parts(check, _OF_A_CHECK, printable.line) for check in value]
    if key == "differences":
        return [_parts(difference, _OF_A_DIFFERENCE, printable.text) for difference in value]
    return value


def _parts(of: dict[str, Any], keys: tuple[str, ...], how: Callable[[Any], str]) -> dict[str, Any]:
    return {key: printable.every(value, how) if key in keys else value for key, value in of.items()}


def _fail(module: AnsibleModule, message: str, error: Exception, **more: Any) -> None:
    """Ansible shows exception where its configuration says so, and everything else always."""
    traced = printable.text("\n".join(trace(error)))
    if module._verbosity >= _TRACED_FROM:
        more["traceback"] = traced.splitlines()
    module.fail_json(msg=printable.text(message), exception=traced, **more)


_TRACED_FROM = 3  # -vvv


def _undoes(parameters: dict[str, Any]) -> bool:
    """Whether a module is a step of a rollback."""
    state = parameters.get("state")
    return state in ("cleared", "reverted") or "undoes" in (parameters.get("plan") or {})


def _given_spec(parameters: dict[str, Any]) -> Spec | None:
    """The spec of the parameters; of a module that takes a plan, the plan's."""
    given = parameters.get("spec")
    plan, run = parameters.get("plan"), parameters.get("run")
    if plan and run and ledger.plan_hash(plan) == run["plan_hash"]:
        given = plan.get("spec")
    return phase_of(given) if given else None


def phase_of(options: dict[str, Any]) -> Spec:
    """The phase of a module's option spec. Raises RunbookError where it makes no sense."""
    spec = parse(options)
    require_declared(spec.gates)
    return spec


def _approved_spec(
    conn: Connection, login: Mapping[str, Any], run: ledger.Run
) -> tuple[Spec | None, Identity]:
    """The spec that this execution of the run was approved with, None before its approval; and
    which server this is. Raises RunbookError on another server than the one that it is to be on."""
    with looking_in(conn, ()):  # whether the phase's schemas are to be trusted is asked after this
        plan, here = identity.approved_plan_here(conn, login, run)
    return ledger.todays_spec(plan["spec"]) if plan else None, here


def _settings(spec: Spec | None) -> tuple[list[str], int]:
    """What a session takes from the spec: the schemas of its search path, and its lock_timeout in
    milliseconds."""
    if spec is None:
        return [], 500
    return trust.schemas(spec), spec.lock_timeout_ms
