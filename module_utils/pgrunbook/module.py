# SPDX-License-Identifier: GPL-3.0-or-later
"""The one file that knows Ansible: from a module's options to its result."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import psycopg
except ImportError:
    print(json.dumps({"failed": True, "msg": missing_required_lib("psycopg (version 3)")}))
    sys.exit(1)

from . import catalog
from .checks import settle
from .connection import LOGIN_OPTIONS, Connection, connect, proof, table_lock
from .errors import RunbookError
from .spec import SPEC_OPTIONS, Spec, parse

METRICS_FILE = {"type": "path", "default": ""}
Work = Callable[[Connection, dict[str, Any], bool], dict[str, Any]]

LOGIN = {"type": "dict", "required": True, "options": LOGIN_OPTIONS}
SPEC = {"type": "dict", "required": True, "options": SPEC_OPTIONS}
RUN = {
    "type": "dict",
    "required": True,
    "options": {
        "id": {"type": "str", "required": True},
        "plan_hash": {"type": "str", "required": True},
        "execution": {"type": "str", "required": True},
    },
}


def execute(module: AnsibleModule, work: Work, *, name: str, writes: bool) -> None:
    """Connect, do work(connection, parameters, dry) and exit with what it returns.

    Where the module only reads, or in check mode, the connection is one READ ONLY transaction, and
    the result's proof holds what the server says of it. Whatever gates the result has are enforced
    or not as the phase wants it. Every failure exits through fail_json.
    """
    parameters = module.params
    dry = module.check_mode or not writes
    try:
        spec = parse(parameters["spec"]) if parameters.get("spec") else None
        with connect(
            parameters["login"],
            name=name,
            read_only=dry,
            schemas=_schemas(spec),
            lock_timeout_ms=spec.lock_timeout_ms if spec else 500,
        ) as conn:
            result = work(conn, {**parameters, "spec": spec}, dry)
            result.setdefault("queries", [])
            if spec and "checks" in result:
                result["checks"] = settle(spec, result["checks"])
            result["proof"] = proof(conn)
            if dry:
                require_dry(result["proof"])
    except RunbookError as error:
        module.fail_json(msg=str(error))
    except psycopg.Error as error:
        module.fail_json(msg=database_failure(error), sqlstate=error.sqlstate)
    leave(module, result)


def require_dry(proved: dict[str, Any]) -> None:
    """Raise RunbookError where the server does not say that a transaction was READ ONLY and got no
    transaction id, whatever it did."""
    if not proved["read_only"] or proved["xid"] is not None:
        raise RunbookError(
            "This was to write nothing, but the server says: transaction_read_only "
            f"{'on' if proved['read_only'] else 'off'}, transaction id {proved['xid'] or 'none'}. "
            "It was taken back. Next step: find the function in the phase's expressions or "
            "queries, or in a view that they read, that assigns one, as pg_current_xact_id() "
            "does, and take it out."
        )


def leave(module: AnsibleModule, result: dict[str, Any]) -> None:
    """Exit with the result; its warnings, a list of texts, are shown as Ansible's."""
    for warning in result.get("warnings", []):
        module.warn(warning)
    module.exit_json(**{key: value for key, value in result.items() if key != "warnings"})


def alone(
    conn: Connection, spec: Spec, dry: bool, work: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Do work(), and unless it is dry, while no other writer of pgrunbook works on the table."""
    if dry:
        return work()
    with table_lock(conn, catalog.inspect(conn, spec.table).oid, str(spec.table)):
        return work()


def with_metrics(result: dict[str, Any], path: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The result, once the runs, as ledger.info() has them, are in a Prometheus text file; with a
    warning where they could not be written, which stops no backfill."""
    return written(result, path, "runbook_metrics_file", lambda metrics: metrics.write(path, runs))


def written(
    result: dict[str, Any], path: str, variable: str, write: Callable[[Any], None]
) -> dict[str, Any]:
    """The result, once write() was called with the module metrics; with a warning where the file
    could not be written. No path, no file. variable is where the path comes from."""
    if not path:
        return result
    try:
        from . import metrics

        write(metrics)
    except (ImportError, OSError) as error:
        warning = (
            f"The metrics cannot be written to {path}: {error}. Next step: install "
            "prometheus_client where the module runs and let it write there, or set "
            f"{variable} to another path, or to nothing."
        )
        return {**result, "warnings": [warning]}
    return result


def database_failure(error: psycopg.Error) -> str:
    """An unforeseen database error in one line: what, where, SQLSTATE and the next step."""
    diag = error.diag
    what = diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    where = ".".join(p for p in (diag.schema_name, diag.table_name, diag.column_name) if p)
    detail = f" {diag.message_detail}" if diag.message_detail else ""
    context = f" ({diag.context.splitlines()[0]})" if diag.context else ""
    on = f" on {where}" if where else ""
    return (
        f"PostgreSQL: {what}{on} (SQLSTATE {error.sqlstate or 'none: the connection is gone'})."
        f"{detail}{context} Next step: {_NEXT_STEPS.get((error.sqlstate or '')[:2], _ANY_STEP)}"
    )


_ANY_STEP = "mend the cause and run the playbook again; committed batches are kept."
_NEXT_STEPS = {
    "": "see that the server is up, then run the playbook again; it goes on where it stopped.",
    "42": "check names and privileges in the variables file and of the role, then run again.",
    "57": "see that the server is up and who cancelled the statement, then run again.",
    "53": "free the resource that the server lacks (disk, memory, connections), then run again.",
}


def _schemas(spec: Spec | None) -> list[str]:
    return sorted({spec.table.schema, spec.source.schema}) if spec else []
