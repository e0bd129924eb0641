# SPDX-License-Identifier: GPL-3.0-or-later
"""A small application at work on the same table: pgbench at a fixed rate, and its latency.

pgbench counts a transaction's latency from when its schedule wanted it to start, so a transaction
that had to queue behind a blocked one counts in full. Transactions belong to a measurement when
their scheduled start falls into it; pgbench goes on until the last of them has ended.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.database import Database

CLIENTS = 2
RATE = 100
"""Transactions a second that the application wants to do."""

_WARM_UP_S = 2.0
_DRAIN_S = 120.0
_END_S = 30.0
_A_DAY_S = 86_400

# Two sessions are read, a third is read and updated; a batch that holds it is waited for.
_TRANSACTION = """
\\set a random(1, :rows)
\\set b random(1, :rows)
\\set c random(1, :rows)
\\set score random(0, 100)
BEGIN;
SELECT * FROM session_summaries
WHERE session_id = (SELECT session_id FROM bench_key WHERE number = :a);
SELECT * FROM session_summaries
WHERE session_id = (SELECT session_id FROM bench_key WHERE number = :b);
UPDATE session_summaries SET risk_score = :score
WHERE session_id = (SELECT session_id FROM bench_key WHERE number = :c);
COMMIT;
"""


@dataclass(frozen=True)
class Transaction:
    """One line of pgbench's log; times are seconds since the epoch, latency is in milliseconds."""

    client: int
    scheduled: float
    ended: float
    latency_ms: float
    failed: bool


class Application:
    """The running pgbench."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def measure(self, started: float, ended: float) -> dict[str, Any]:
        """Let what was scheduled until then come to its end, stop pgbench, and count.

        started and ended are seconds since the epoch.
        """
        self._drain(ended)
        status = self._stop()
        return _count(self.transactions(), started, ended, status)

    def transactions(self) -> list[Transaction]:
        """What the log holds so far; its last line may be there in part."""
        lines: list[str] = []
        for log in self._folder.glob("log.*"):
            text = log.read_text(encoding="ascii")
            lines += text[: text.rfind("\n") + 1].splitlines()
        return [_transaction(line.split()) for line in lines]

    def _drain(self, ended: float) -> None:
        give_up = time.monotonic() + _DRAIN_S
        while self._process.poll() is None and time.monotonic() < give_up:
            past = {t.client for t in self.transactions() if t.scheduled > ended}
            if len(past) == CLIENTS:
                return
            time.sleep(0.5)

    def _stop(self) -> int:
        """End pgbench as its own -T does, by SIGALRM: then it writes the rest of its log."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGALRM)
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def application(database: Database, rows: int) -> Iterator[Application]:
    """Start the application on rows sessions and let it warm up; it is ended in any case."""
    with tempfile.TemporaryDirectory(prefix="pgrunbook-bench-") as name:
        folder = Path(name)
        script = folder / "application.sql"
        script.write_text(_TRANSACTION, encoding="ascii")
        with (folder / "output").open("wb") as output:
            process = subprocess.Popen(
                _command(database, script, rows),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                time.sleep(_WARM_UP_S)
                if process.poll() is not None:
                    raise RuntimeError(f"pgbench ended: {(folder / 'output').read_text()}")
                yield Application(process, folder)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


def _command(database: Database, script: Path, rows: int) -> list[str]:
    login = database.login
    command = [str(database.server.bin_dir / "pgbench"), "-n", "-f", str(script)]
    command += ["-h", login["host"], "-p", str(login["port"]), "-U", login["user"]]
    command += ["-c", str(CLIENTS), "-j", "1", "-R", str(RATE), "-T", str(_A_DAY_S)]
    command += ["-D", f"rows={rows}", "--random-seed=7", "-l", "--log-prefix=log"]
    return [*command, login["dbname"]]


def _transaction(fields: Sequence[str]) -> Transaction:
    """client, number, latency in µs or "failed", script, then when it ended: seconds and µs."""
    ended = int(fields[4]) + int(fields[5]) / 1e6
    if not fields[2].isdigit():
        return Transaction(int(fields[0]), ended, ended, 0.0, True)
    latency = int(fields[2])
    return Transaction(int(fields[0]), ended - latency / 1e6, ended, latency / 1000, False)


def _count(
    transactions: Sequence[Transaction], started: float, ended: float, status: int
) -> dict[str, Any]:
    ours = [t for t in transactions if started <= t.scheduled < ended]
    latencies = [t.latency_ms for t in ours if not t.failed]
    return {
        "seconds": ended - started,
        "transactions": len(latencies),
        "failed": sum(t.failed for t in ours),
        "pgbench_status": status,
        "tps": sum(started <= t.ended < ended for t in transactions) / (ended - started),
        "p50_ms": percentile(latencies, 50),
        "p99_ms": percentile(latencies, 99),
        "mean_ms": statistics.fmean(latencies) if latencies else None,
        "max_ms": max(latencies, default=None),
    }


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that at least so many per cent of the values do not exceed."""
    if not values:
        return None
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]
