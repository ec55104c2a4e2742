"""`p2v record`, as a user types it: what it prints, and its exit codes."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.cli.report import render
from p2v.record.conversion import CheckRecord
from tests.pipeline.running import p2v, typed
from tests.record.making import Conversion, conversion, filled_record

GOLDEN = Path(__file__).parents[1] / "record" / "records"


@pytest.fixture
def made(tmp_path: Path) -> Conversion:
    return conversion(tmp_path)


def test_show_tells_what_report_tells() -> None:
    for name in ("schema-1.json", "schema-2.json"):
        shown, report = typed("record", "show", GOLDEN / name), typed("report", GOLDEN / name)
        assert (shown.status, shown.out) == (report.status, report.out)
        assert "vmguest" in shown.out


def test_verify_says_of_each_claim_whether_it_is_proven(made: Conversion) -> None:
    ran = p2v("record", "verify", made.record, "--files", "--progress", "none")
    assert ran.status == 0, ran.err
    assert "copied right: PROVEN" in ran.out
    assert "changed only as planned: NOT PROVEN (never asked for)" in ran.out
    assert "boots: PROVEN" in ran.out


def test_verify_names_what_differs_and_ends_with_1(made: Conversion) -> None:
    made.poke(made.target, 100)
    ran = typed("record", "verify", made.record, "--target", made.target, "--progress", "none", "--json")
    answer = json.loads(ran.out)
    assert (ran.status, answer["exit_code"], answer["whole"]) == (1, 1, True)
    assert [disk["target"]["state"] for disk in answer["disks"]] == ["different"]
    assert {claim["claim"]: claim["proven"] for claim in answer["claims"]} == {
        "copied right": False, "changed only as planned": False, "boots": True,
    }  # fmt: skip
    assert typed("record", "verify", made.record, "--require", "planned").status == 1


def test_verify_of_a_broken_record_names_the_part_and_ends_with_65(made: Conversion) -> None:
    made.record.write_text(made.record.read_text().replace('"clean": true', '"clean": false'))
    ran = typed("record", "verify", made.record)
    assert ran.status == 65
    assert "part checks: its contents do not fit its digest" in ran.out
    assert "PROVEN" not in ran.out
    made.record.write_text("{")
    assert typed("record", "verify", made.record).status == 65


def test_sign_and_verify_by_name(made: Conversion) -> None:
    key, signers = made.folder / "key", made.folder / "signers"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    signers.write_text(f"me@example.org {key.with_suffix('.pub').read_text()}")
    who = ("--allowed-signers", signers, "--identity", "me@example.org")
    assert p2v("record", "verify", made.record, *who).status == 1
    ran = p2v("record", "sign", made.record, "--key", key)
    assert (ran.status, "SHA256:" in ran.out) == (0, True)
    ran = p2v("record", "verify", made.record, *who)
    assert (ran.status, "signed by me@example.org" in ran.out) == (0, True)
    ran = p2v("record", "verify", made.record)
    assert "nobody vouched for" in ran.out


def test_bundle_prints_its_manifest(made: Conversion) -> None:
    ran = p2v("record", "bundle", made.record, "-o", made.folder / "b.tar.gz")
    assert ran.status == 0, ran.err
    assert "boot.log" in ran.out
    assert "Look through it before you send it." in ran.out


@pytest.mark.parametrize(
    "words, status",
    [
        (("verify", "RECORD", "--identity", "me"), 64),
        (("verify", "RECORD", "--allowed-signers", "RECORD"), 64),
        (("verify", "RECORD", "--source", "none"), 66),
        (("verify", "none"), 66),
        (("sign", "RECORD"), 64),
        (("sign", "RECORD", "--key", "none"), 66),
        (("bundle", "RECORD"), 64),
        (("bundle", "RECORD", "-o", "RECORD"), 73),
        (("bundle", "RECORD", "-o", "none/b.tar.gz"), 74),
    ],
)
def test_what_makes_no_sense_is_told(made: Conversion, words: tuple[str, ...], status: int) -> None:
    ran = typed("record", *(made.record if word == "RECORD" else word for word in words))
    assert ran.status == status, ran.err
    assert ran.err.startswith("p2v: ")
    assert "Traceback" not in ran.err


def test_a_file_system_that_nothing_checks_is_not_called_damaged(tmp_path: Path) -> None:
    checks = (
        CheckRecord("before", "/dev/sda1", "ntfs", False, "there is no checker", checked=False),
        CheckRecord("after", "/dev/sda2", "ext4", False, "bad"),
        CheckRecord("after", "/dev/sda3", "ext4", True, ""),
    )
    text = render(replace(filled_record(), checks=checks), tmp_path)
    assert "/dev/sda1 (ntfs) before: not checked (there is no checker)" in text
    assert "/dev/sda2 (ext4) after: DAMAGED" in text
    assert "/dev/sda3 (ext4) after: clean" in text
