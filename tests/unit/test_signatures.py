# SPDX-License-Identifier: GPL-3.0-or-later
"""Which signatures count, with real keys and ssh-keygen: without that these fail, not skip."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible.module_utils.pgrunbook.core.errors import RunbookError
from ansible.module_utils.pgrunbook.core.values import plain
from ansible.module_utils.pgrunbook.signing import approval_file, reread, verify
from ansible.module_utils.pgrunbook.signing.counted import Rules, is_operator
from ansible.module_utils.pgrunbook.signing.reread import Kept
from ansible.module_utils.pgrunbook.signing.verify import Trust
from tests.conftest import ROOT
from tests.plugins import action_plugin
from tests.signers import HASH, HOST, NOW, PLAN, Signer, allowed


@dataclass
class Desk:
    """Alice, Bob and what the controller trusts."""

    folder: Path
    alice: Signer
    bob: Signer
    revoked: str = ""

    def check(
        self,
        *files: str,
        wanted: int = 0,
        at: Any = NOW,
        operators: tuple[str, ...] = (),
        **of: Any,
    ) -> list[str]:
        """Who has signed; all of the files have to count."""
        rules = Rules(wanted, operators, of.get("operator_may_sign", False))
        trust = Trust(str(self.folder / "allowed_signers"), self.revoked)
        plan = replace(PLAN, **of.get("plan", {}))
        return [each.signer for each in verify.signatures(files, plan, trust, rules, at)]

    def refused(self, *files: str, **of: Any) -> str:
        with pytest.raises(RunbookError) as refused:
            self.check(*files, **of)
        said = str(refused.value)
        assert "Nothing was changed. Next step: " in said
        return said


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Signer, Signer]:
    folder = tmp_path_factory.mktemp("signers")
    return folder, *(Signer.made(folder, f"{who}@example.org") for who in ("alice", "bob"))


@pytest.fixture
def desk(keys: tuple[Path, Signer, Signer]) -> Desk:
    folder, alice, bob = keys
    allowed(folder, alice.line(), bob.line('namespaces="pgrunbook"'))
    return Desk(folder, alice, bob)


def test_two_people_who_are_listed_count(desk: Desk) -> None:
    both = (desk.alice.sign(), desk.bob.sign(named=""))
    assert desk.check(*both, wanted=2) == ["alice@example.org", "bob@example.org"]
    found = verify.signatures(
        both, PLAN, Trust(str(desk.folder / "allowed_signers")), Rules(2), NOW
    )
    assert found[0].key.startswith("SHA256:") and found[0].key != found[1].key
    assert (found[0].signed_at, found[0].expires_at) == (
        "2026-01-31T04:00:00Z",
        "2026-02-01T04:00:00Z",
    )
    assert f"{found[0].text}{found[0].signature}" == Path(both[0]).read_text("utf-8")


def test_rows_are_estimates(desk: Desk) -> None:
    assert desk.check(desk.alice.sign(), plan={"hosts": (replace(HOST, rows=2),)})


def test_what_has_expired(desk: Desk) -> None:
    file = desk.alice.sign(hours=2)
    assert desk.check(file, at=NOW + timedelta(hours=2, seconds=-1))
    said = desk.refused(file, at=NOW + timedelta(hours=2))
    assert "alice.approval has expired at 2026-01-31T06:00:00Z" in said


def test_what_is_of_the_future(desk: Desk) -> None:
    file = desk.alice.sign()
    assert desk.check(file, at=NOW - timedelta(minutes=4))
    assert "is of the future" in desk.refused(file, at=NOW - timedelta(minutes=6))


def test_what_is_of_another_plan(desk: Desk) -> None:
    other = "e" * 64
    said = desk.refused(desk.alice.sign(), plan={"hash": other})
    assert f"is of another plan, {HASH[:8]}; this one is {other}" in said


def test_what_says_another_thing_of_the_same_plan(desk: Desk) -> None:
    said = desk.refused(desk.alice.sign(), plan={"hosts": (replace(HOST, database="other"),)})
    assert "does not fit this plan: its line 'Database app' should be 'Database other'" in said


def test_a_signer_who_is_not_listed(desk: Desk) -> None:
    allowed(desk.folder, desk.bob.line())
    said = desk.refused(desk.alice.sign())
    key = verify.load(desk.alice.sign()).key
    assert f"was signed with the key {key}, which is nobody's in runbook_allowed_signers" in said


def test_a_key_that_is_revoked(desk: Desk) -> None:
    file, krl, public = desk.alice.sign(), desk.folder / "krl", f"{desk.alice.key}.pub"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(krl), public], check=True)
    for revoked in (str(krl), public):
        desk.revoked = revoked
        assert "which is revoked (runbook_revoked_signers)" in desk.refused(file)
        assert desk.check(desk.bob.sign()) == ["bob@example.org"]


def test_one_person_counts_once(desk: Desk) -> None:
    file = desk.alice.sign()
    assert "alice@example.org has signed twice" in desk.refused(file, file)
    second = Signer.made(desk.folder, desk.alice.name, f"second{os.urandom(4).hex()}")
    allowed(desk.folder, desk.alice.line(), second.line(), second.line(name="Alice@example.org"))
    assert "alice@example.org has signed twice" in desk.refused(file, second.sign())
    capitals = second.sign(named="Alice@example.org")
    assert "Alice@example.org has signed twice" in desk.refused(file, capitals)


def test_one_key_counts_once(desk: Desk) -> None:
    allowed(desk.folder, desk.alice.line(name="alice@example.org,bob@example.org"))
    files = [desk.alice.sign(file="a"), desk.alice.sign(named="bob@example.org", file="b")]
    assert "alice@example.org and bob@example.org have signed with one key" in desk.refused(*files)


def test_a_key_of_several_names_needs_one(desk: Desk) -> None:
    allowed(desk.folder, desk.alice.line(name="alice@example.org,bob@example.org"))
    said = desk.refused(desk.alice.sign(named=""))
    assert "listed for alice@example.org, bob@example.org" in said and "--as" in said
    allowed(desk.folder, desk.alice.line(name="*@example.org"))
    assert "does not say who signed it" in desk.refused(desk.alice.sign(named=""))
    assert desk.check(desk.alice.sign()) == ["alice@example.org"]


def test_somebody_elses_name(desk: Desk) -> None:
    said = desk.refused(desk.alice.sign(named="bob@example.org"))
    assert "which is not that of bob@example.org in runbook_allowed_signers" in said


@pytest.mark.parametrize("options", ['valid-before="20260101"', 'valid-after="20260301"'])
def test_a_key_outside_its_time(desk: Desk, options: str) -> None:
    file = desk.alice.sign()
    allowed(desk.folder, desk.alice.line(options))
    said = desk.refused(file)
    assert "does not let sign now: key" in said and "valid-after and valid-before" in said
    allowed(desk.folder, desk.alice.line('valid-after="20260101",valid-before="20260301"'))
    assert desk.check(file)


def test_what_was_signed_for_something_else(desk: Desk) -> None:
    said = desk.refused(desk.alice.sign(namespace="git"))
    assert "its namespace is 'git', not 'pgrunbook'" in said
    allowed(desk.folder, desk.alice.line('namespaces="git"'))
    assert "not for the namespace pgrunbook" in desk.refused(desk.alice.sign())


def test_a_text_that_was_changed_after_it_was_signed(desk: Desk) -> None:
    longer = desk.alice.sign(change=lambda text: text.replace("Expires    2026", "Expires    2036"))
    assert "was changed after it was signed" in desk.refused(longer)
    rows = desk.alice.sign(change=lambda text: text.replace("1,000 to fill", "1 to fill"))
    assert "was changed after it was signed" in desk.refused(rows)


@pytest.mark.parametrize("name", ["alice@example.org", "ALICE@elsewhere", "Alice", "alice"])
def test_the_operator_does_not_count_unless_the_phase_says_so(desk: Desk, name: str) -> None:
    allowed(desk.folder, desk.alice.line(name=name))
    file = desk.alice.sign(named=name)
    said = desk.refused(file, operators=("alice", "deploy"))
    assert "is who runs the playbook" in said and "phase_operator_may_sign" in said
    assert desk.check(file, operators=("alice",), operator_may_sign=True) == [name]


def test_who_is_the_operator() -> None:
    assert is_operator("alice@example.org", ("Alice@Example.org", ""))
    assert not is_operator("alice@example.org", ("bob", "", "lice", "example.org"))


def test_too_few(desk: Desk) -> None:
    said = desk.refused(desk.alice.sign(), wanted=2)
    assert "wants 2 signatures (phase_signatures_min), and there is 1, by alice@example.org" in said
    assert "there are none" in desk.refused(wanted=1)
    assert desk.check(wanted=0) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "does not end with an SSH signature"),
        (b"\xff\xfe", "it is not UTF-8"),
        (b"x" * (approval_file.MOST_BYTES + 1), "is larger than"),
        (b"text\n-----BEGIN SSH SIGNATURE-----\n", "does not end with an SSH signature"),
        (
            b"text\n-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
            "is no SSH signature",
        ),
        (
            b"x\n-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAf////8=\n"
            b"-----END SSH SIGNATURE-----\n",
            "is no SSH signature",
        ),
    ],
    ids=["empty", "binary", "huge", "cut", "no magic", "a length that lies"],
)
def test_a_file_that_is_none(desk: Desk, content: bytes, why: str) -> None:
    path = desk.folder / "none.sig"
    path.write_bytes(content)
    assert why in desk.refused(str(path))


def test_a_file_with_more_than_a_signature(desk: Desk) -> None:
    path = Path(desk.alice.sign())
    path.write_text(path.read_text("utf-8") + "and more\n", encoding="utf-8")
    assert "does not end with an SSH signature" in desk.refused(str(path))


def test_a_file_that_is_missing(desk: Desk) -> None:
    assert "cannot be read: No such file" in desk.refused(str(desk.folder / "none"))
    assert "cannot be read: it is no file" in desk.refused(str(desk.folder))
    assert "cannot be read: it is no file" in desk.refused("/dev/zero")
    assert "that is no path" in desk.refused("a\0b")


def test_without_ssh_keygen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    file = desk.alice.sign()
    monkeypatch.setenv("PATH", "/nowhere")
    assert "ssh-keygen, which makes and verifies signatures, is not installed" in desk.refused(file)


def test_with_an_ssh_keygen_that_is_too_old(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    file, old = desk.alice.sign(), desk.folder / "ssh-keygen"
    old.write_text("#!/bin/sh\necho 'unknown option -- O' >&2\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{desk.folder}:{os.environ['PATH']}")
    said = desk.refused(file)
    old.unlink()
    assert "because ssh-keygen says: unknown option -- O" in said


def test_without_a_list_of_signers(desk: Desk) -> None:
    with pytest.raises(RunbookError, match="runbook_allowed_signers is not set"):
        verify.signatures([desk.alice.sign()], PLAN, Trust(), Rules(), NOW)


def _gone(path: Path) -> None:
    path.unlink()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _foreign(path: Path) -> None:
    os.chown(path, 12345, -1)


def _by_all(path: Path) -> None:
    path.chmod(0o646)


def _by_the_group(path: Path) -> None:
    path.chmod(0o664)


def _folder_of_all(path: Path) -> None:
    path.parent.chmod(0o777)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_gone, "cannot be read: No such file"),
        (_folder, "is no file"),
        (_by_all, "may be written by others"),
        (_by_the_group, "may be written by others"),
        (_folder_of_all, "may be written by others"),
        pytest.param(
            _foreign,
            "belongs to the account with the number 12345",
            marks=pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away"),
        ),
    ],
)
@pytest.mark.parametrize("variable", ["runbook_allowed_signers", "runbook_revoked_signers"])
def test_a_list_that_is_not_to_be_trusted(
    desk: Desk, tmp_path: Path, variable: str, spoil: Callable[[Path], None], why: str
) -> None:
    (tmp_path / "list").mkdir(mode=0o755)
    path = tmp_path / "list/signers"
    path.write_text(desk.alice.line() if "allowed" in variable else desk.bob.public)
    path.chmod(0o644)
    other = str(desk.folder / "allowed_signers")
    trust = Trust(str(path)) if "allowed" in variable else Trust(other, str(path))
    assert verify.signatures([desk.alice.sign()], PLAN, trust, Rules(), NOW)
    spoil(path)
    with pytest.raises(RunbookError) as refused:
        verify.signatures([desk.alice.sign()], PLAN, trust, Rules(), NOW)
    assert str(refused.value).startswith(f"{variable} says whose signatures count, and ")
    assert why in str(refused.value) and "Next step: " in str(refused.value)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, []),
        ("a.sig", ["a.sig"]),
        ('["a.sig", "b c.sig"]', ["a.sig", "b c.sig"]),
        (["a.sig"], ["a.sig"]),
        ("[]", []),
    ],
)
def test_paths_are_one_or_several(given: Any, found: list[str]) -> None:
    assert verify.paths(given) == found


@pytest.mark.parametrize("given", ["", "[", "[1]", {"a": 1}, ["a", ""], 3, True])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(RunbookError, match="neither a path nor a list"):
        verify.paths(given)


def test_a_key_that_only_the_agent_holds_signs(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    told = dict(re.findall(r"(SSH_\w+)=([^;]+);", agent))
    try:
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        key = Signer.made(tmp_path, "alice@example.org")
        subprocess.run(["ssh-add", "-q", str(key.key)], check=True)
        public = key.key.with_suffix(".pub")
        key.key.unlink()
        allowed(desk.folder, key.line())
        assert desk.check(replace(key, key=public).sign()) == ["alice@example.org"]
    finally:
        os.kill(int(told["SSH_AGENT_PID"]), signal.SIGTERM)


def test_the_script_needs_nothing_of_ansible_or_of_the_report() -> None:
    lacking = "ansible alembic sqlalchemy matplotlib jinja2 prometheus_client yaml"
    block = (
        "import sys\n"
        f"for name in {lacking!r}.split(): sys.modules[name] = None\n"
        "sys.path.insert(0, 'module_utils')\n"
        "import pgrunbook.rollout.approve"
    )
    subprocess.run([sys.executable, "-c", block], cwd=ROOT, check=True)


def test_by_hand_with_ssh_keygen_alone(desk: Desk) -> None:
    """As docs/security.md says."""
    said = subprocess.run(
        ["bash", "-c", BY_HAND, "bash", desk.alice.sign(at=NOW)],
        cwd=desk.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.startswith('Good "pgrunbook" signature for alice@example.org with ED25519')


BY_HAND = """
sed '/^-----BEGIN SSH/,$d' "$1" >text
sed -n '/^-----BEGIN SSH/,$p' "$1" >text.sig
ssh-keygen -Y verify -f allowed_signers -I alice@example.org -n pgrunbook -s text.sig <text
"""


def kept(desk: Desk, *files: str, **changes: Any) -> Kept:
    trust = Trust(str(desk.folder / "allowed_signers"))
    found = verify.signatures(files, PLAN, trust, Rules(), NOW) if files else ()
    member = (HOST.host, HOST.system_identifier, HOST.database, HOST.plan_hash)
    given = Kept("run1", HASH, "2026-01-31 05:00:00+01", 2, HOST, (member,), ("root",))
    return replace(given, signatures=tuple(map(plain, found)), **changes)


def test_what_a_ledger_keeps_is_verified_again(desk: Desk) -> None:
    trust = Trust(str(desk.folder / "allowed_signers"))
    both = kept(desk, desk.alice.sign(), desk.bob.sign())
    found = reread.verify_again([both, kept(desk, wanted=0)], trust)
    assert found.not_signed == [] and found.notes == []
    (signed,) = found.signed
    assert "run1, by alice@example.org (SHA256:" in signed and "bob@example.org" in signed
    unknown = reread.verify_again([both], Trust())
    assert unknown.not_signed == [] and "were not verified" in unknown.notes[0]


def test_a_key_that_expired_or_was_revoked_since_counts_and_the_latter_is_told(desk: Desk) -> None:
    both = kept(desk, desk.alice.sign(), desk.bob.sign())
    allowed(desk.folder, desk.alice.line('valid-before="20260215"'), desk.bob.line())
    revoked = Trust(str(desk.folder / "allowed_signers"), f"{desk.alice.key}.pub")
    found = reread.verify_again([both], revoked)
    assert found.not_signed == [] and len(found.signed) == 1
    (note,) = found.notes
    assert "of alice@example.org, who signed the plan of run run1, is revoked now" in note


def _forged(each: dict[str, str], **changes: str) -> dict[str, str]:
    return {**each, **changes}


def test_what_was_forged_in_a_ledger_is_not_signed(desk: Desk) -> None:
    trust = Trust(str(desk.folder / "allowed_signers"))
    both = kept(desk, desk.alice.sign(), desk.bob.sign())
    a, b = (dict(each) for each in both.signatures)
    other = replace(HOST, database="other")
    cases = {
        "2 signatures wanted, 1 recorded": replace(both, signatures=(a,)),
        "2 signatures wanted, none recorded": replace(both, signatures=()),
        "2 signatures wanted, 1 valid, by alice@example.org": replace(both, signatures=(a, a)),
        "One of them is none": replace(both, signatures=(a, {"signer": "bob"})),
        "One of them is of another plan": replace(both, hash="e" * 64),
        "1 valid, by alice@example.org (": replace(
            both, signatures=(a, _forged(b, signature=a["signature"]))
        ),
        "is recorded as that of": replace(both, signatures=(a, _forged(b, signer="carol"))),
        "had expired when it was recorded": replace(both, approved_at="2026-03-01 00:00:00+00"),
        "is who ran the playbook": replace(both, operators=("bob",)),
        "was changed after it was signed": replace(
            both, signatures=(a, _forged(b, text=b["text"].replace("1,000", "2,000")))
        ),
    }
    for why, forged in cases.items():
        found = reread.verify_again([forged], trust)
        assert found.signed == [] and why in found.not_signed[0], (why, found)
    elsewhere = replace(both, host=other)
    assert "of another plan" in reread.verify_again([elsewhere], trust).not_signed[0]
    nobody = reread.verify_again([both], Trust(str(desk.folder / "gone")))
    assert "cannot be verified" in nobody.not_signed[0]


def test_the_question_refuses_before_it_asks(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = action_plugin("question")
    now = plugin.datetime.now(UTC).replace(microsecond=0)
    asked = {
        "hash": HASH,
        "scope": "plan",
        "signing": {"wanted": 1, "operator_may_sign": False, "hosts": [plain(HOST)]},
        "signatures": desk.alice.sign(at=now),
        "allowed_signers": str(desk.folder / "allowed_signers"),
        "revoked_signers": "",
        "operator": "carol",
        "first_answer": {},
    }
    found, refusal = plugin._signatures(asked)
    assert refusal == "" and [each["signer"] for each in found] == ["alice@example.org"]
    assert "alice@example.org, key SHA256:" in plugin._signed(found[0])
    none, refusal = plugin._signatures({**asked, "signatures": None})
    assert none == [] and "there are none" in refusal
    assert "runs the playbook" in plugin._signatures({**asked, "operator": "alice"})[1]
    monkeypatch.setattr(plugin, "account", lambda uid: "alice")
    assert "runs the playbook" in plugin._signatures(asked)[1]


def test_the_first_answer_covers_the_waves_and_a_rollback_takes_none(desk: Desk) -> None:
    plugin = action_plugin("question")
    signed = plain(
        verify.signatures(
            [desk.alice.sign()],
            PLAN,
            Trust(str(desk.folder / "allowed_signers")),
            Rules(),
            NOW,
        )
    )
    got = {"hash": HASH, "scope": "plan", "method": "prompt", "signatures": signed}
    first = {**got, "seal": plugin.sealed(got)}
    asked = {"hash": HASH, "scope": "waves", "signatures": None, "first_answer": first}
    assert plugin._signatures(asked) == (signed, "")
    assert plugin._signatures({**asked, "hash": "e" * 64}) == ([], "")
    assert plugin._signatures({**asked, "first_answer": {**first, "signatures": []}}) == ([], "")
    assert plugin._signatures({**asked, "scope": "backfill", "signatures": "a"}) == ([], "")
    for scope in ("rollback", "forget"):
        _, refusal = plugin._signatures({**asked, "scope": scope, "signatures": "a.sig"})
        assert "takes no signatures" in refusal and "Next step" in refusal
        assert plugin._signatures({**asked, "scope": scope}) == ([], "")
