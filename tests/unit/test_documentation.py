# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written about modules, roles and variables is what the code takes."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible.module_utils.pgrunbook.core.login import LOGIN_OPTIONS
from ansible.module_utils.pgrunbook.core.spec import SPEC_OPTIONS
from ansible.module_utils.pgrunbook.core.spec_checks import variable
from ansible.module_utils.pgrunbook.ledger.migrations import MIGRATIONS
from ansible.module_utils.pgrunbook.report import metrics
from ansible.module_utils.pgrunbook.report.facts import Facts
from tests.plugins import action_plugin
from tests.reporting import PLUGIN, build, report_task

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
PLAYBOOKS = sorted(p for f in ("*.yml", "parts/*.yml") for p in (ROOT / "playbooks").glob(f))
# What Ansible takes besides a module's own options.
TASK_KEYWORDS = {
    *("name", "register", "when", "delegate_to", "vars", "loop", "check_mode", "no_log"),
    "run_once",
}


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def ansible_doc(*arguments: str) -> subprocess.Popen[str]:
    """ansible-doc on all modules, as a reader calls it in the checkout."""
    program = Path(sys.executable).with_name("ansible-doc")
    environment = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.Popen(
        [str(program), "-t", "module", *arguments, *MODULES],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def manual() -> tuple[str, str]:
    """What ansible-doc shows of all modules to a reader, and to a program. One call each, and
    both at once: a call takes seconds."""
    shown = [ansible_doc(), ansible_doc("--json")]
    printed = [call.communicate(timeout=60) for call in shown]
    for call, (_, errors) in zip(shown, printed, strict=True):
        assert call.returncode == 0 and errors == "", errors
    return printed[0][0], printed[1][0]


@pytest.fixture(scope="module")
def documented(manual: tuple[str, str]) -> dict[str, Any]:
    """Each module's documentation with its fragments merged, by Ansible itself."""
    found: dict[str, Any] = json.loads(manual[1])
    return found


class Captured(Exception):
    """Ends a module's main() as soon as it has told its argument spec."""


def declared(name: str) -> dict[str, Any]:
    """The keyword arguments with which a module calls AnsibleModule; of one whose work the action
    plugin of its name does alone, what that takes."""
    module = importlib.import_module(name)
    if not hasattr(module, "main"):
        plugin = action_plugin(name.removeprefix("pgrunbook_"))
        return {"argument_spec": plugin.ARGUMENTS, "supports_check_mode": True}

    class Capture:
        def __init__(self, **arguments: Any) -> None:
            raise Captured(arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "AnsibleModule", Capture)
        with pytest.raises(Captured) as captured:
            module.main()
    arguments: dict[str, Any] = captured.value.args[0]
    return arguments


def essence(options: dict[str, Any], inner: str) -> dict[str, Any]:
    """What documentation and argument spec have to agree on, in one form for both."""
    return {
        name: {
            "type": option.get("type", "str"),
            "required": bool(option.get("required", False)),
            "default": option.get("default"),
            "choices": list(option.get("choices") or []),
            "elements": option.get("elements"),
            "options": essence(option.get(inner) or {}, inner),
        }
        for name, option in options.items()
    }


def test_there_are_modules_steps_and_playbooks() -> None:
    """Otherwise the tests below would pass for want of anything to look at."""
    assert len(MODULES) >= 12 and len(STEPS) >= 12 and len(PLAYBOOKS) >= 4


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are(name: str, documented: dict[str, Any]) -> None:
    told = essence(documented[name]["doc"].get("options") or {}, "suboptions")
    assert told == essence(declared(name)["argument_spec"], "options")


@pytest.mark.parametrize("name", MODULES)
def test_module_is_named_after_its_file_and_knows_check_mode(
    name: str, documented: dict[str, Any]
) -> None:
    assert documented[name]["doc"]["module"] == name
    assert declared(name)["supports_check_mode"] is True
    assert documented[name]["doc"]["attributes"]["check_mode"]["support"] == "full"


def descriptions(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, option in options.items():
        yield name, option.get("description")
        yield from descriptions(option.get("suboptions") or {})


@pytest.mark.parametrize("name", MODULES)
def test_every_option_and_every_key_returned_is_described(
    name: str, documented: dict[str, Any]
) -> None:
    for option, description in descriptions(documented[name]["doc"].get("options") or {}):
        assert description, option
    assert documented[name]["return"]
    for key, told in documented[name]["return"].items():
        assert {"description", "returned", "type"} <= set(told), key
        assert (told["type"] == "list") == ("elements" in told), key


def wrong_options(given: dict[str, Any], spec: dict[str, Any], where: str) -> Iterator[str]:
    """What a task gives that the module does not take, and the other way round."""
    for name, value in given.items():
        if name not in spec:
            yield f"{where}: no option {name}"
        elif isinstance(value, dict) and spec[name].get("options"):
            yield from wrong_options(value, spec[name]["options"], f"{where}.{name}")
    for name, option in spec.items():
        if option.get("required") and name not in given:
            yield f"{where}: {name} is required"


def wrong_task(name: str, given: dict[str, Any], where: str) -> list[str]:
    """What is wrong with one task that calls a module of ours."""
    arguments = declared(name)
    wrong = list(wrong_options(given, arguments["argument_spec"], where))
    for several in arguments.get("mutually_exclusive", []):
        if len(set(several) & set(given)) > 1:
            wrong.append(f"{where}: {several} exclude each other")
    for several in arguments.get("required_one_of", []):
        if not set(several) & set(given):
            wrong.append(f"{where}: one of {several} is required")
    return wrong


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_tasks_that_the_module_takes(name: str, documented: dict[str, Any]) -> None:
    tasks = yaml.safe_load(documented[name]["examples"])
    assert tasks
    for task in tasks:
        assert set(task) <= {name} | TASK_KEYWORDS and name in task and task["name"]
        assert wrong_task(name, task[name], task["name"]) == []


def test_ansible_doc_shows_every_module(manual: tuple[str, str]) -> None:
    for name in MODULES:
        assert re.search(rf"^> MODULE {name}\b", manual[0], re.MULTILINE), name


def test_the_report_module_returns_what_it_documents(
    documented: dict[str, Any], tmp_path: Path
) -> None:
    """The other modules need a database."""
    facts = {"plan": {"run": {"id": "x-1", "plan_hash": "ab"}}}
    result = report_task(tmp_path, facts, check=True)
    assert set(result) - {"changed"} == set(documented["pgrunbook_report"]["return"])
    assert result["paths"] == {} and list(tmp_path.iterdir()) == []


def tasks_in(value: Any) -> Iterator[dict[str, Any]]:
    """Every task of a play, role or block, however deep."""
    for item in value or []:
        yield item
        for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks_in(item.get(key))


ALL_TASKS = [
    (f"{path.relative_to(ROOT)}: {task.get('name')}", task)
    for path in [*PLAYBOOKS, *sorted((ROOT / "roles/runbook/tasks").glob("*.yml"))]
    for task in tasks_in(load_yaml(path))
]


def test_every_task_gives_our_modules_what_they_take() -> None:
    calls = [(w, m, task[m]) for w, task in ALL_TASKS for m in MODULES if m in task]
    assert {module for _, module, _ in calls} == set(MODULES), "a module that nobody calls"
    assert [wrong for where, m, given in calls for wrong in wrong_task(m, given, where)] == []


STEPS = {path.stem: path for path in sorted((ROOT / "roles/runbook/tasks").glob("*.yml"))}


def calls_of_steps() -> Iterator[tuple[str, str, set[str]]]:
    """Where a playbook, or a step, calls a step of the role, which one, and what it hands over."""
    for where, task in ALL_TASKS:
        for how in ("import_role", "include_role"):
            if called := task.get(f"ansible.builtin.{how}"):
                assert called["name"] == "runbook", where
                yield where, called["tasks_from"], set(task.get("vars") or {})
        for how in ("import_tasks", "include_tasks"):
            included = str(task.get(f"ansible.builtin.{how}", ""))
            if included.removesuffix(".yml") in STEPS:
                yield where, included.removesuffix(".yml"), set(task.get("vars") or {})


def named_after(word: str, step: str) -> set[str]:
    """The variables that a step's first comment names after a word."""
    comment = re.match(r"---\n((?:# .*\n)*)", STEPS[step].read_text("utf-8"))
    return set(re.findall(r"runbook_\w+", comment[1].partition(word)[2] if comment else ""))


def test_each_step_is_called_with_what_it_needs() -> None:
    """What a step needs, or may have, besides the results of earlier ones is in its first
    comment. What it has itself it hands on."""
    calls = list(calls_of_steps())
    assert {step for _, step, _ in calls} == set(STEPS)
    for where, step, given in calls:
        caller = where.partition(":")[0].rpartition("/")[2].removesuffix(".yml")
        had = named_after("Needs", caller) if where.startswith("roles/") else set()
        named, optional = named_after("Needs", step), named_after("May have", step)
        assert named - optional <= given | had, where
        assert given <= named | {"runbook_error"}, where


def test_the_roles_readme_lists_each_step_with_its_results() -> None:
    readme = (ROOT / "roles/runbook/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .*? \|(.*)\|$", readme, re.MULTILINE)
    assert sorted(step for step, _ in rows) == list(STEPS)
    for step, told in rows:
        found = set()
        for task in tasks_in(load_yaml(STEPS[step])):
            found |= {task["register"]} if "register" in task else set()
            found |= set(task.get("ansible.builtin.set_fact") or {})
        assert set(re.findall(r"runbook_\w+", told)) <= found, step


def test_what_the_inventory_may_set_is_checked_and_on_the_page_on_variables() -> None:
    spec = load_yaml(ROOT / "roles/runbook/meta/argument_specs.yml")["argument_specs"]
    page = (ROOT / "docs/variables.md").read_text(encoding="utf-8")
    assert [name for name in spec["begin"]["options"] if f"`{name}`" not in page] == []


def test_no_variable_can_stand_for_what_a_step_of_the_runbook_finds_or_hands_on() -> None:
    """Apart from the results of other playbooks, which begin with these names."""
    others = ("control_", "demo_", "status_", "watch_")
    spec = load_yaml(ROOT / "playbooks/vars/spec.yml")
    names = set(spec) | {name for _, _, given in calls_of_steps() for name in given}
    for _, task in ALL_TASKS:
        names |= {task["register"]} if "register" in task else set()
        names |= set(task.get("ansible.builtin.set_fact") or {})
    pattern = "".join(
        re.findall(r"'([^']*)'", load_yaml(ROOT / "playbooks/vars/taken.yml")["runbook_taken"])[1:]
    ).replace("$^", "$|^")
    assert {n for n in names if not re.search(pattern, n) and not n.startswith(others)} == set()
    assert not [name for name in PHASE if re.search(pattern, name)]


PHASE = load_yaml(ROOT / "playbooks/vars/phase3.yml")


def test_a_phase_file_holds_what_differs_from_the_defaults() -> None:
    named = {variable(name): option for name, option in SPEC_OPTIONS.items()}
    assert set(PHASE) - set(named) == {"phase_models"}
    same = [n for n, v in PHASE.items() if n in named and v == named[n].get("default", named)]
    assert same == []
    assert {n for n, o in named.items() if o.get("required")} <= set(PHASE)


def test_the_report_takes_what_the_playbooks_and_roles_keep() -> None:
    taken = {field.name for field in dataclasses.fields(Facts)}
    assert set(PLUGIN.RESULTS) | {"finished_at"} == taken
    kept = set(load_yaml(ROOT / "roles/runbook/defaults/main.yml")) | {"runbook_login"}
    for _, task in ALL_TASKS:
        kept |= {task["register"]} if "register" in task else set()
        kept |= set(task.get("ansible.builtin.set_fact") or {}) | set(task.get("vars") or {})
    assert set(PLUGIN.RESULTS.values()) <= kept


@pytest.mark.parametrize("inventory", ["production", "staging"])
def test_inventories_name_placeholders_only(inventory: str) -> None:
    folder = ROOT / "inventories" / inventory
    variables = load_yaml(folder / "group_vars/databases/main.yml")
    assert variables["runbook_login"]["host"].endswith(".invalid")
    assert "password" not in variables["runbook_login"]
    assert "runbook_prepare" not in variables
    hosts = load_yaml(folder / "hosts.yml")["databases"]["hosts"]
    assert all(values is None for values in hosts.values()), "no address beside the name"
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b|::", text), f"{path} has an address"


def test_the_default_inventory_is_the_demo() -> None:
    config = (ROOT / "ansible.cfg").read_text(encoding="utf-8")
    assert re.findall(r"^inventory *= *(.*)$", config, re.MULTILINE) == ["inventories/demo"]


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """Every file that is, or could be, committed, by its path in the checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("only a git checkout knows which files are sources")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8", errors="replace")
        for path in paths
        if path.is_file()
    }


def test_no_source_names_the_host_of_a_package_registry(sources: dict[str, str]) -> None:
    dot = r"\."
    hosts = [
        "py" + f"pi{dot}(org|python)",
        "python" + f"hosted{dot}org",
        "deb" + f"{dot}debian{dot}org",
        "security" + f"{dot}debian{dot}org",
        "registry" + f"{dot}npmjs",
    ]
    found = re.compile("|".join(hosts), re.IGNORECASE)
    assert found.search("https://py" + "pi.org/simple"), "the pattern finds what it should"
    assert [name for name, text in sources.items() if found.search(text)] == []


def test_the_tables_of_phase_3_are_named_in_its_variables_only(sources: dict[str, str]) -> None:
    allowed = re.compile(
        r"playbooks/vars/phase3\.yml|(models|demo|tests|molecule|docs|benchmarks)/.*|.*\.md"
    )
    named = [name for name, text in sources.items() if "session_summaries" in text]
    assert "playbooks/vars/phase3.yml" in named
    assert [name for name in named if not allowed.fullmatch(name)] == []


def table_of(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading of docs/, each cell without backquotes."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert lines
    return [
        [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines[0].splitlines()[2:]
    ]


def test_the_page_on_variables_lists_those_of_the_operator() -> None:
    listed = {row[0] for row in table_of("variables.md", "## Others")}
    assert set(load_yaml(ROOT / "roles/runbook/defaults/main.yml")) <= listed


def test_the_page_on_variables_names_the_ledgers_tables_and_no_column_that_is_not_there() -> None:
    statements = "".join(MIGRATIONS.values())
    made = dict(re.findall(r"TABLE IF NOT EXISTS pgrunbook\.(\w+) \((.*?)\n\);", statements, re.S))
    rows = table_of("variables.md", "## What is written into your database")
    assert {row[0] for row in rows} == set(made)
    for name, _, told in rows:
        added = re.findall(rf"pgrunbook\.{name} ADD COLUMN IF NOT EXISTS (\w+)", statements)
        columns = {*re.findall(r"^    (\w+)", made[name], re.MULTILINE), *added}
        named = set(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", told)))
        assert named <= columns, name


def test_the_page_on_variables_lists_every_metric() -> None:
    listed = [row[0] for row in table_of("variables.md", "## Metrics")]
    assert listed == [f"pgrunbook_{name}" for name in metrics.GAUGES] + ["pgrunbook_state"]


def test_the_page_on_variables_lists_every_key_of_the_login() -> None:
    page = (ROOT / "docs/variables.md").read_text(encoding="utf-8")
    assert [key for key in LOGIN_OPTIONS if f"`{key}`" not in page] == []


def test_the_page_on_the_report_lists_every_key_of_it() -> None:
    built = build({})
    nested = ("backfill", "schema", "history")
    listed = {
        key.strip(" `")
        for row in table_of("report.md", "## report.json")
        for key in row[0].split(",")
    }
    assert listed == {
        name
        for key, value in built.items()
        for name in ([f"{key}.{k}" for k in value] if key in nested else [key])
    }
