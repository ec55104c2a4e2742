"""A machine with something in its drives, converted with it and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from p2v.record import load_record
from tests.fixtures.guests import guest_disks
from tests.pipeline.running import names, p2v, sha256, state
from tests.sources.test_media import disc

DOMAIN = """\
<domain type="vmware"><name>web</name><memory unit="MiB">1024</memory><vcpu>1</vcpu><os><type arch="x86_64">hvm</type></os>
<devices><disk type="file" device="disk"><source file="web.img"/><target dev="sda" bus="scsi"/></disk>
<disk type="file" device="cdrom"><source file="/srv/iso/tools.iso"/><target dev="hdc" bus="ide"/></disk>
<interface type="bridge"><mac address="00:0c:29:4a:00:01"/><source bridge="VM Network"/></interface></devices></domain>
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    shutil.copyfile(guest_disks("vmware")[0], folder / "web.img")
    (folder / "tools.iso").write_bytes(disc() + bytes(range(256)) * 10_000)
    (folder / "web.xml").write_text(DOMAIN, "utf-8")
    return folder


def test_without_the_option_the_plan_says_that_there_is_one(source: Path) -> None:
    ran = p2v("plan", source / "web.xml")
    assert ran.status == 0, ran.err
    assert "--with-media copies it" in ran.out
    assert "web-cdrom1.iso" not in ran.out


@pytest.mark.appliance
def test_a_medium_comes_along_and_is_in_the_drive(source: Path, tmp_path: Path) -> None:
    before = state(source / "tools.iso")
    ran = p2v("plan", source / "web.xml", "--with-media", "--map", "VM Network=user", "--json")
    assert ran.status == 0, ran.err
    plan = tmp_path / "plan.json"
    plan.write_text(ran.out, "utf-8")
    results = tmp_path / "results"
    ran = p2v("convert", "--plan", plan, "-o", results)
    assert ran.status == 0, ran.err
    assert state(source / "tools.iso") == before
    assert names(results) == {"web.qcow2", "web.xml", "web.sh", "web.json", "web-cdrom1.iso"}
    assert sha256(results / "web-cdrom1.iso") == before[0]
    record = load_record(results / "web.json")
    assert [output.sha256 for output in record.outputs if output.name == "web-cdrom1.iso"] == [before[0]]
    file = ET.parse(results / "web.xml").find("devices/disk[@device='cdrom']/source")
    assert file is not None
    assert file.get("file") == str(results / "web-cdrom1.iso")
    assert "file.filename=./web-cdrom1.iso" in (results / "web.sh").read_text("utf-8")


def test_a_medium_that_was_written_to_since_stops_the_plan_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    ran = p2v("plan", source / "web.xml", "--with-media", "--map", "VM Network=user", "--json")
    plan = tmp_path / "plan.json"
    plan.write_text(ran.out, "utf-8")
    assert [drive["image"]["size"] for drive in json.loads(ran.out)["machine"]["removable"]] == [40 * 2048 + 2_560_000]
    with (source / "tools.iso").open("ab") as file:
        file.write(b"more")
    ran = p2v("convert", "--plan", plan, "-o", tmp_path / "results")
    assert ran.status == 78, ran.err
    assert "tools.iso" in ran.err
    assert not (tmp_path / "results").exists()


def test_disks_alone_have_no_media(source: Path) -> None:
    ran = p2v("plan", source / "web.img", "--with-media")
    assert ran.status == 64
    assert "--with-media" in ran.err
