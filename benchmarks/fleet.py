# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout costs by the number of its hosts, also as docs/fleet.svg:
python -m benchmarks.fleet 1 8 32 100

Databases of 20,000 rows on two embedded servers, dry run and run, each once, with forks 8. The
controller's processor time is that of ansible-playbook and all of its processes; the servers are
not of these.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from benchmarks import plot
from benchmarks.modules import ROOT
from demo import fleet

SESSIONS = 20_000
FORKS = 8


@dataclass(frozen=True)
class Cost:
    """What a command cost: seconds by the clock and of processors, the most memory of a process in
    bytes, and its exit status."""

    wall: float
    processor: float
    peak_bytes: int
    status: int


def measured(command: list[str], log: Path) -> Cost:
    """Run a command; what it cost."""
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    code = os.waitstatus_to_exitcode(status)
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, code)


def measure(hosts: int, folder: Path) -> dict[str, Cost]:
    """Dry run and run on so many new databases."""
    logins = fleet.start(folder / "servers", hosts, SESSIONS)
    inventory = folder / "inventory.yml"
    local = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "runbook_reports": f"{folder}/reports",
    }
    listed = {name: {"runbook_login": login} for name, login in logins.items()}
    inventory.write_text(
        yaml.safe_dump({"databases": {"hosts": listed, "vars": local}}), encoding="utf-8"
    )
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(inventory), "-f", str(FORKS), "playbooks/phase3.yml"]
    command += ["-e", json.dumps({"phase_queries": unenforced()})]
    log = folder / "log"
    dry = measured([*command, "--check"], log)
    approval = re.findall(r"approval=[0-9a-f]{64}", log.read_text(encoding="utf-8"))[-1]
    run = measured([*command, "-e", approval], log)
    fleet.destroy(folder / "servers")
    return {"dry run": dry, "run": run}


def unenforced() -> list[dict[str, object]]:
    """The queries of the phase, measured without a gate: no query is slow on so few rows."""
    phase = yaml.safe_load((ROOT / "playbooks/vars/phase3.yml").read_text(encoding="utf-8"))
    return [{**query, "enforce": False} for query in phase["phase_queries"]]


def main(argv: list[str] | None = None) -> int:
    """Print a line for each number of hosts and step, and draw them."""
    found: dict[int, dict[str, dict[str, float]]] = {}
    for hosts in map(int, argv or sys.argv[1:] or ["1", "8", "32", "100"]):
        with tempfile.TemporaryDirectory(prefix="pgrunbook-fleet-") as folder:
            Path(folder).chmod(0o755)  # the servers are another user's
            costs = measure(hosts, Path(folder))
        for step, cost in costs.items():
            print(
                f"{hosts:4} hosts  {step:8} {cost.wall:7.1f} s  {cost.wall / hosts:5.2f} s a host  "
                f"processor {cost.processor / hosts:5.2f} s a host  "
                f"{cost.peak_bytes / 1e6:5.0f} MB  exit {cost.status}",
                flush=True,
            )
        found[hosts] = {step: asdict(cost) for step, cost in costs.items()}
    plot.write_fleet(found, ROOT / "docs/fleet.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
