"""``p2v audit`` as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AuditDocument, MachineAudit, Origin, Verdict
from p2v.audit.findings import AuditFinding, Severity
from p2v.cli.audit import _fails
from p2v.cli.main import main
from p2v.core import jsonio
from tests.audit.small_machines import described, linux_disk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One machine of VMware's with a small Debian, and a damaged disk."""
    place = tmp_path_factory.mktemp("fleet")
    linux_disk(place / "web.img")
    described(place / "web.vmx", "web01", "web.img")
    (place / "cut.vhdx").write_bytes(b"vhdxfile" + bytes(100))
    return place


def said(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    code = main(["audit", *map(str, words)])
    heard = capsys.readouterr()
    return code, heard.out, heard.err


def test_a_line_a_machine_then_what_stands_in_the_way(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(capsys, folder)
    assert code == 0
    assert any(line.startswith("web01 ") and "Debian GNU/Linux 12" in line for line in out.splitlines())
    assert any(line.startswith("cut ") and "blocked" in line and "1B" in line for line in out.splitlines())
    assert "[audit.bad-image]" in out
    assert out.splitlines()[-2].startswith("2 machines: ")
    assert "1 named or described, 2 loose disks" in err
    # what is looked at second is counted on from the first
    assert "2 of 2" in err
    assert "1 of 1" not in err


def test_json_is_the_whole_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, folder, "--json", "--as-of", "2027-01-31", "--progress", "none")
    document = jsonio.decode(jsonio.converter(), json.loads(out), AuditDocument)
    assert code == 0
    assert document.as_of.isoformat() == "2027-01-31"
    assert {each.name for each in document.machines} == {"web01", "cut"}
    assert "audit.bad-image" in {each.id for each in document.rules}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--fail-on", "blocker"), 4),
        (("--fail-on", "blocker", "--suppress", "audit.bad-image@cut=known"), 0),
        (("--fail-on", "blocker", "--suppress", "audit.bad-image@web01=known"), 4),
        ((), 0),
    ],
)
def test_the_exit_code_is_for_ci(
    folder: Path, words: tuple[str, ...], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, folder / "cut.vhdx", *words)[0] == expected


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--at-once", "0"), 64),
        (("--at-once", "100000"), 64),
        (("--time-limit", "0"), 64),
        (("--time-limit", "nan"), 64),
        (("--time-limit", "inf"), 64),
        (("--suppress", "no.such=x"), 64),
        (("--suppressions", "absent"), 66),
    ],
)
def test_wrong_options_are_refused(
    folder: Path, words: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, folder, *words)[0] == code


def test_what_is_not_there_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, tmp_path / "absent")
    assert code == 66
    assert "absent" in err


def test_every_rule_can_be_explained(capsys: pytest.CaptureFixture[str]) -> None:
    rules = catalogue()
    code, out, _ = said(capsys, "explain", *rules)
    assert code == 0
    for rule in rules.values():
        assert f"{rule.id}: {rule.title}" in out
    assert said(capsys, "explain")[1].count("\n") == len(rules)


def test_a_rule_that_is_none_is_answered_with_those_near_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = said(capsys, "explain", "audit.bad")
    assert code == 64
    assert "audit.bad-image" in err


DOCUMENTS = ("html", "csv", "machines-csv", "sarif", "junit")


def test_each_document_is_written_and_an_older_one_replaced(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for name in DOCUMENTS for word in (f"--{name}", str(tmp_path / name))]
    assert said(capsys, folder / "cut.vhdx", *words)[0] == 0
    first = {name: (tmp_path / name).read_text("utf-8") for name in DOCUMENTS}
    assert all("cut" in text for text in first.values())
    assert said(capsys, folder, *words)[0] == 0
    assert all("web01" in (tmp_path / name).read_text("utf-8") for name in DOCUMENTS)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_replaces_nothing_else(
    folder: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk.vhdx"
    disk.write_bytes((folder / "cut.vhdx").read_bytes())
    before = disk.read_bytes()
    code, out, err = said(capsys, tmp_path, f"--{name}", disk)
    assert (code, out) == (73, "")
    assert f"--{name}" in err
    assert disk.read_bytes() == before
    assert said(capsys, tmp_path, f"--{name}", tmp_path / "absent" / "x")[0] == 66


def test_two_documents_do_not_go_into_one_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(capsys, folder, "--html", tmp_path / "x", "--junit", tmp_path / "x")[0] == 64


@pytest.mark.parametrize(("severity", "code"), [("blocker", 0), ("unknown", 4), ("warning", 4), ("information", 4)])
def test_what_could_not_be_seen_fails_wherever_a_warning_does(
    tmp_path: Path, severity: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.bin").write_bytes(b"\xa5" * 4096)
    assert said(capsys, tmp_path / "noise.bin", "--fail-on", severity)[0] == code


def test_what_the_conversion_sets_right_fails_nothing() -> None:
    finding = AuditFinding("x", Severity.WARNING, "", fixed_by_conversion=True)
    machine = MachineAudit("m", Origin.DISKS, "", (), Verdict.READY, (finding,))
    document = AuditDocument(date(2026, 11, 26), (machine,))
    assert not _fails(document, "warning")
    other = replace(machine, findings=(replace(finding, fixed_by_conversion=False),))
    assert _fails(replace(document, machines=(other,)), "warning")


def test_an_audit_of_nothing_is_no_success_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = said(capsys, tmp_path, "--fail-on", "unknown")
    assert code == 4
    assert "audit.nothing-found" in out


def test_that_findings_were_suppressed_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (folder / "cut.vhdx", "--suppress", "audit.bad-image=known to be broken")
    _, out, _ = said(capsys, *words)
    assert "1 finding suppressed" in out
    assert "known to be broken" in said(capsys, *words, "--all-findings")[1]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_do_no_harm(folder: Path, closed: tuple[int, ...]) -> None:
    command = [sys.executable, "-m", "p2v", "audit", str(folder), "--json"]
    words = " ".join(f"{number}>&-" for number in closed)
    program = ["/bin/sh", "-c", f'exec "$@" {words}', "sh", *command]
    ended = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (0, False)
    if 1 not in closed:
        assert len(json.loads(ended.stdout)["machines"]) == 2
