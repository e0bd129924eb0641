# SPDX-License-Identifier: GPL-3.0-or-later
"""What others' tools say of the collection: antsibull-docs, ansible-test and ansible-builder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
COLLECTION = "ansible_collections/pgrunbook/pgrunbook"
OFFLINE = (
    *("action-plugin-docs", "compile", "empty-init", "ignores", "line-endings", "no-assert"),
    *("no-get-exception", "no-illegal-filenames", "no-smart-quotes", "replace-urlopen"),
    *("shebang", "symlinks", "use-argspec-type-path", "use-compat-six"),
)
"""The sanity tests that ansible-test runs without installing anything."""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the collection below it, and its tarball."""
    folder = tmp_path_factory.mktemp("staged")
    told(ROOT / "scripts/collection", folder, cwd=ROOT)
    return folder


def told(*command: str | Path, cwd: Path) -> str:
    """What a program of this environment prints, which has to succeed."""
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(cwd),
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_antsibull_docs_has_nothing_to_say(staged: Path) -> None:
    lint = ("antsibull-docs", "lint-collection-docs", "--plugin-docs", staged / COLLECTION)
    assert told(*lint, cwd=staged) == ""


def test_antsibull_docs_makes_the_pages_of_all_modules(staged: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    pages = ("--use-current", "--squash-hierarchy", "--fail-on-error", "--dest-dir", tmp_path)
    assert told("antsibull-docs", "collection", *pages, "pgrunbook.pgrunbook", cwd=staged) == ""
    modules = {path.stem for path in (ROOT / "library").glob("*.py")}
    assert modules == {path.stem[:-7] for path in tmp_path.glob("*_module.rst")}


def test_ansible_test_has_nothing_to_say(staged: Path) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    tests = [part for name in OFFLINE for part in ("--test", name)]
    told("ansible-test", "sanity", "--python", python, *tests, cwd=staged / COLLECTION)


def test_the_collection_has_the_script_that_signs(staged: Path) -> None:
    script = staged / COLLECTION / "scripts/approve"
    assert os.access(script, os.X_OK)
    assert "--expires HOURS" in told(sys.executable, script, "--help", cwd=staged)


def test_the_changelog_is_what_antsibull_changelog_makes_of_its_entries(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "changelogs", tmp_path / "changelogs")
    told("antsibull-changelog", "lint", cwd=tmp_path)
    told("antsibull-changelog", "generate", cwd=tmp_path)
    made = (tmp_path / "CHANGELOG.rst").read_text(encoding="utf-8")
    assert made == (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")


def test_the_collection_has_no_phase_of_its_own(staged: Path) -> None:
    names = [path.read_text(encoding="utf-8") for path in staged.rglob("*.yml")]
    assert not [text for text in names if "session_summaries" in text]


def test_the_execution_environment_takes_the_tarball_of_this_version(
    staged: Path, tmp_path: Path
) -> None:
    (tmp_path / "build").mkdir()
    (tarball,) = staged.glob("*.tar.gz")
    (tmp_path / "build" / tarball.name).write_bytes(tarball.read_bytes())
    file = tmp_path / "execution-environment.yml"
    file.write_bytes((ROOT / file.name).read_bytes())
    printed = told("ansible-builder", "create", "-f", file, "-c", tmp_path / "made", cwd=tmp_path)
    assert "No matches" not in printed, printed
    assert (tmp_path / "made/_build/collections" / tarball.name).exists()
    wanted = yaml.safe_load((tmp_path / "made/_build/requirements.yml").read_text())
    assert [each["name"] for each in wanted["collections"]] == [f"collections/{tarball.name}"]
    needs = (staged / COLLECTION / "requirements.txt").read_text().split()
    assert any(line.startswith("psycopg") for line in needs)
    assert not any("pgserver" in line for line in needs)
