# SPDX-License-Identifier: GPL-3.0-or-later
"""Events on their way to hooks, beside what the task does."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from ..core.version import VERSION
from .happened import Happened
from .hooks import Hook

GRACE_SECONDS = 1.0  # that a delivery may last longer than its timeout, before it is given up


class Deliveries:
    """The deliveries of a task. Each has a thread of its own, so none waits for another one, and a
    task waits no longer than the longest timeout."""

    def __init__(self) -> None:
        self._begun: list[tuple[Hook, threading.Thread, list[str], float]] = []

    def begin(self, hook: Hook, event: Happened) -> None:
        """Tell a hook of an event, and do not wait for it."""
        failed = [f"gave no answer within {hook.timeout:g} s"]
        body = event.body().encode()

        def deliver() -> None:
            failed[:] = [why] if (why := _deliver(hook, body)) else []

        thread = threading.Thread(target=deliver, daemon=True)
        self._begun.append((hook, thread, failed, time.monotonic() + hook.timeout + GRACE_SECONDS))
        thread.start()

    def end(self) -> list[str]:
        """Wait for those that were begun; a warning for each that failed."""
        for _, thread, _, deadline in self._begun:
            thread.join(max(deadline - time.monotonic(), 0))
        warnings = [
            f"{hook} was not told: it {failed[0]}. The run goes on."
            for hook, _, failed, _ in self._begun
            if failed
        ]
        self._begun = []
        return list(dict.fromkeys(warnings))


def _deliver(hook: Hook, body: bytes) -> str:
    """Why a hook was not told; empty where it was. Nothing of an error is shown that may have the
    URL, a header or an argument in it."""
    try:
        return _run(hook, body) if hook.command else _post(hook, body)
    except OSError as error:
        return f"failed ({error.strerror or type(error).__name__})"
    except Exception as error:
        return f"failed ({type(error).__name__})"


def _run(hook: Hook, body: bytes) -> str:
    """Run the command in a session of its own, which is ended as a whole where it hangs."""
    with subprocess.Popen(
        hook.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as program:
        try:
            # A program that reads nothing is no failure.
            with contextlib.suppress(BrokenPipeError):
                program.communicate(body, timeout=hook.timeout)
            status = program.wait(timeout=hook.timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            return f"gave no answer within {hook.timeout:g} s"
    return f"ended with status {status}" if status else ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What was meant for one address goes to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(hook: Hook, body: bytes) -> str:
    headers = {"Content-Type": "application/json", "User-Agent": f"pgrunbook/{VERSION}"}
    request = urllib.request.Request(
        hook.url, data=body, headers={**headers, **dict(hook.headers)}, method="POST"
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=hook.timeout):
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"answered {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason
        known = reason.strerror if isinstance(reason, OSError) else ""
        return f"failed ({known or type(reason).__name__})"
    except TimeoutError:
        return f"gave no answer within {hook.timeout:g} s"
    except http.client.HTTPException as error:
        return f"failed ({type(error).__name__})"
