"""The support bundle of a conversion that failed: what helps is in it, and nothing that says whose machine it was."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from p2v.cli.main import main
from p2v.core.errors import BadImage, ReadFailed, TargetExists
from p2v.core.events import Moment, MomentKind
from p2v.record.failed import FailedRun, failed_bundle
from p2v.record.scrub import _KEPT
from tests.batch.dos import dos_disk
from tests.record.filling import Filler, stands_in
from tests.record.making import filled_record

TOOLS = {"p2v": "0.1.0", "qemu": "QEMU emulator version 7.2"}


def unpacked(path: Path) -> dict[str, str]:
    with tarfile.open(path) as tar:
        files = {member.name.removeprefix("p2v-bundle/"): tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def packed(tmp_path: Path, run: FailedRun) -> dict[str, str]:
    return unpacked(failed_bundle(run, tmp_path / "bundle.tar.gz").path)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_no_text_of_any_field_of_the_plan_is_in_it_but_of_those_that_may_stay(tmp_path: Path) -> None:
    filler = Filler()
    document = filled_record(filler).document
    secret = "acmeserver17"
    warned = Moment(1.0, MomentKind.WARNED, f"{secret} is slow", 0.1)
    files = packed(tmp_path, FailedRun(raised(ReadFailed(f"/srv/{secret}", "broken")), (warned,), document, TOOLS))
    text = "\n".join(files.values()).lower()
    left = {place for marker, place in filler.places.items() if stands_in(text, marker.lower())}
    assert left <= {f"{place}{key}" for place in _KEPT for key in ("", " (a key)")}
    assert secret not in text
    assert {"failure.json", "plan.json", "events.jsonl", "versions.json", "MANIFEST.txt"} == set(files)


def test_the_error_is_told_with_what_it_came_of(tmp_path: Path) -> None:
    cause = raised(OSError(5, "Input/output error", "/home/jane/vm.raw"))
    error = raised(BadImage(Path("/srv/vm.vhd"), "block 17 lies at byte 4608000000, past the end of the file"), cause)
    files = packed(tmp_path, FailedRun(error, (), None, TOOLS))
    failure = json.loads(files["failure.json"])
    assert (failure["code"], failure["exit_code"]) == ("bad-image", 65)
    assert "block 17 lies at byte 4608000000, past the end of the file" in failure["message"]
    assert failure["because"][0].startswith("OSError: ")
    assert "jane" not in "".join(files.values())
    assert "it failed before there was a plan" in files["MANIFEST.txt"]


def test_a_failure_of_the_suite_itself_says_where_in_its_code(tmp_path: Path) -> None:
    def broken() -> None:
        int("acme-secret")

    try:
        broken()
    except ValueError as error:
        files = packed(tmp_path, FailedRun(error, (), None, TOOLS))
    failure = json.loads(files["failure.json"])
    assert failure["where"][-1].startswith("test_failed.py:")
    assert failure["where"][-1].endswith(" broken")
    assert failure["message"].startswith("ValueError: ")
    assert "acme" not in files["failure.json"]
    assert str(Path(__file__).parent) not in files["failure.json"]


def test_a_chain_of_causes_that_comes_round_ends(tmp_path: Path) -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    files = packed(tmp_path, FailedRun(first, (), None, TOOLS))
    assert len(json.loads(files["failure.json"])["because"]) == 1


def test_a_convert_that_fails_leaves_it_and_one_that_does_not_leaves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = dos_disk(tmp_path / "payroll.raw")
    target = tmp_path / "support.tar.gz"
    order = ["convert", str(disk), "-o", str(tmp_path / "out"), "--progress", "none", "--support-bundle", str(target)]
    assert main(order) == 0
    assert not target.exists()
    assert main(order) == 73
    files = unpacked(target)
    assert json.loads(files["failure.json"])["code"] == "target-exists"
    assert json.loads(files["plan.json"])["machine"]["name"] == "<machine-1>"
    assert '"text": "plan"' in files["events.jsonl"]
    assert "payroll" not in "".join(files.values())
    assert str(target) in capsys.readouterr().err
    # the next failure must not take the place of what may not have been sent yet
    before = target.read_bytes()
    assert main(order) == TargetExists(target).exit_code
    assert target.read_bytes() == before


def test_a_bundle_that_cannot_be_written_hides_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "disk.vmdk").write_bytes(b"KDMV" + bytes(60))
    target = tmp_path / "nowhere" / "support.tar.gz"
    order = ["convert", str(tmp_path / "disk.vmdk"), "-o", str(tmp_path / "out"), "--progress", "none"]
    assert main([*order, "--support-bundle", str(target)]) == 65
    said = capsys.readouterr().err
    assert "no support bundle was made" in said
    assert "disk.vmdk" in said.splitlines()[-2]


def test_a_command_that_makes_no_sense_packs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "support.tar.gz"
    assert main(["convert", "-o", str(tmp_path / "out"), "--support-bundle", str(target)]) == 64
    assert not target.exists()
