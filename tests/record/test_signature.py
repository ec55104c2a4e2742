"""Signatures with real keys of ssh-keygen's, and everything that must not pass for one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from p2v.core import run
from p2v.core.errors import NoSource, TargetExists, ToolMissing, Usage
from p2v.record import BadRecord
from p2v.record.signature import Signature, Signers, Standing, check, sign, signature_path
from tests.record.making import written

ME = "me@example.org"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "id_ed25519")


def make_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", ME, "-f", path], check=True)
    return path


def signers(folder: Path, key: Path, revoked: Path | None = None) -> Signers:
    file = folder / "allowed_signers"
    file.write_text(f"{ME} {key.with_suffix('.pub').read_text()}")
    return Signers(file, ME, revoked)


def checked(record: Path, by: Signers | None) -> Signature:
    return check(record, record.read_bytes(), by)


def test_signed_record_is_good_and_ssh_keygen_alone_says_so_too(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    assert sign(record, key) == tmp_path / "vm.json.sig"
    fingerprint = subprocess.run(
        ["ssh-keygen", "-l", "-f", key], check=True, capture_output=True, text=True
    ).stdout.split()[1]
    found = checked(record, signers(tmp_path, key))
    assert (found.standing, found.key) == (Standing.GOOD, f"ED25519 {fingerprint}")
    words: list[str | Path] = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-n",
        "p2v-record",
        "-f",
        tmp_path / "allowed_signers",
        "-I",
        ME,
    ]
    with record.open("rb") as data:
        subprocess.run([*words, "-s", tmp_path / "vm.json.sig"], stdin=data, check=True, capture_output=True)
    assert {path.name for path in tmp_path.glob("vm*")} == {"vm.json", "vm.json.sig"}


def test_without_signers_the_key_is_named_and_vouched_for_by_nobody(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    assert checked(record, None).standing is Standing.NONE
    sign(record, key)
    found = checked(record, None)
    assert found.standing is Standing.UNKNOWN_KEY
    assert "SHA256:" in found.key


def test_any_byte_that_is_altered_makes_it_bad(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    sign(record, key)
    data = record.read_bytes()
    for place in (0, len(data) // 2, len(data) - 1):
        altered = bytearray(data)
        altered[place] ^= 1
        for by in (None, signers(tmp_path, key)):
            assert check(record, bytes(altered), by).standing is Standing.BAD
    assert check(record, data + b"\n", None).standing is Standing.BAD


def test_other_key_other_name_other_purpose_and_revoked_key_are_bad(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    sign(record, key)
    other = make_key(tmp_path / "other")
    assert checked(record, signers(tmp_path, other)).standing is Standing.BAD
    mine = signers(tmp_path, key)
    assert checked(record, Signers(mine.file, "you@example.org")).standing is Standing.BAD
    assert checked(record, Signers(mine.file, ME, revoked=key.with_suffix(".pub"))).standing is Standing.BAD
    assert checked(record, Signers(mine.file, ME, revoked=other.with_suffix(".pub"))).standing is Standing.GOOD
    assert check(record, record.read_bytes(), mine, "git").standing is Standing.BAD
    signature_path(record).unlink()
    sign(record, key, "git")
    assert checked(record, None).standing is Standing.BAD
    assert checked(record, mine).standing is Standing.BAD


def test_what_is_no_signature_is_bad(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    for text in ("", "rubbish", "x" * 100_000):
        signature_path(record).write_text(text)
        assert checked(record, signers(tmp_path, key)).standing is Standing.BAD


def test_record_that_is_not_whole_or_is_signed_already_is_not_signed(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    text = record.read_text()
    record.write_text(text.replace('"schema": 2', '"schema": 2 ', 1).replace('"cpus": ', '"cpus": 1', 1))
    with pytest.raises(BadRecord):
        sign(record, key)
    assert not signature_path(record).exists()
    record.write_text(text)
    sign(record, key)
    before = signature_path(record).read_bytes()
    with pytest.raises(TargetExists):
        sign(record, make_key(tmp_path / "other"))
    assert signature_path(record).read_bytes() == before


def test_what_is_no_key_or_no_list_of_signers_says_so(tmp_path: Path, key: Path) -> None:
    record = written(tmp_path)
    with pytest.raises(NoSource):
        sign(record, tmp_path / "none")
    (tmp_path / "text").write_text("no key")
    with pytest.raises(Usage, match="ssh-keygen"):
        sign(record, tmp_path / "text")
    with pytest.raises(Usage):
        sign(record, key, "-n evil")
    with pytest.raises(NoSource):
        checked(record, Signers(tmp_path / "none", ME))
    assert not signature_path(record).exists()


def test_missing_ssh_keygen_names_its_package(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_program", lambda name: None)
    record = written(tmp_path)
    with pytest.raises(ToolMissing) as caught:
        sign(record, key)
    assert "openssh-client" in caught.value.package


def test_passphrase_is_asked_for_on_the_terminal(tmp_path: Path) -> None:
    record, key = written(tmp_path), make_key(tmp_path / "locked", "tell nobody")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "p2v", "record", "sign", str(record), "--key", str(key)])
    seen, typed, end = b"", False, time.monotonic() + 60
    try:
        while time.monotonic() < end:
            seen += os.read(terminal, 1000)
            if b"passphrase" in seen and not typed:
                typed = bool(os.write(terminal, b"tell nobody\n"))
    except OSError:
        pass  # the other end of the terminal is closed: it has ended
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    os.close(terminal)
    assert typed
    assert checked(record, signers(tmp_path, key)).standing is Standing.GOOD


def test_locked_key_away_from_a_terminal_is_an_error_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "SSH_ASKPASS", "SSH_AUTH_SOCK"):
        monkeypatch.delenv(name, raising=False)
    record, key = written(tmp_path), make_key(tmp_path / "locked", "tell nobody")
    done = subprocess.run(
        [sys.executable, "-m", "p2v", "record", "sign", record, "--key", key],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 64
    assert "ssh-add" in done.stderr
    assert not signature_path(record).exists()
