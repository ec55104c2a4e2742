"""Images of media are copied as they are, and only those that were planned."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.core.errors import NoSource, NotPermitted, PlanStale, ReadFailed
from p2v.core.events import BytesDone, Event, silent
from p2v.machine import DriveKind, Machine, MediumImage, RemovableDrive
from p2v.media import MediumCopy, copy_media, told_of_media
from p2v.sources.media import with_media
from p2v.targets.front_ends import FrontEnd
from p2v.targets.hardware import TargetMedium
from tests.sources.test_media import disc
from tests.targets.samples import hardware

CONTENT = disc() + bytes(range(256)) * 20_000 + b"end"


def image(path: Path) -> MediumImage:
    found = with_media(Machine("web", (), removable=(RemovableDrive(DriveKind.CDROM, "x", path=path),)))
    made = found.removable[0].image
    assert made is not None
    return made


def test_a_copy_has_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "a.iso"
    source.write_bytes(CONTENT)
    told: list[Event] = []
    copy_media([MediumCopy(image(source), "web-cdrom1.iso")], lambda name: tmp_path / f"{name}.partial", told.append)
    assert (tmp_path / "web-cdrom1.iso.partial").read_bytes() == CONTENT
    assert sum(event.count for event in told if isinstance(event, BytesDone)) == len(CONTENT)


def test_a_member_of_an_archive_is_copied_out_of_it(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "web.ova", "w") as tar:
        member = tarfile.TarInfo("a.iso")
        member.size = len(CONTENT)
        tar.addfile(member, io.BytesIO(CONTENT))
    copy_media([MediumCopy(image(tmp_path / "web.ova/a.iso"), "x")], lambda name: tmp_path / name, silent)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["contents", "time"])
def test_another_image_than_the_planned_one_is_not_copied(tmp_path: Path, change: str) -> None:
    source = tmp_path / "a.iso"
    source.write_bytes(CONTENT)
    planned = image(source)
    if change == "time":
        os.utime(source, (1, 1))
    else:
        source.write_bytes(CONTENT + b"more")
    with pytest.raises(PlanStale):
        copy_media([MediumCopy(planned, "x")], lambda name: tmp_path / name, silent)
    assert not (tmp_path / "x").exists()


def test_an_image_that_is_gone_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.iso"
    source.write_bytes(CONTENT)
    planned = image(source)
    source.unlink()
    with pytest.raises(NoSource):
        copy_media([MediumCopy(planned, "x")], lambda name: tmp_path / name, silent)


def test_a_target_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.iso"
    source.write_bytes(CONTENT)
    with pytest.raises((NotPermitted, ReadFailed)):
        copy_media([MediumCopy(image(source), "x")], lambda name: tmp_path / "missing" / name, silent)


def test_front_ends_that_take_no_medium_are_told_of() -> None:


    loaded = replace(hardware(), media=(TargetMedium(DriveKind.CDROM, 0, Path("web-cdrom1.iso")),))
    told = {to: [event.message for event in told_of_media(loaded, to)] for to in FrontEnd}
    assert {to for to, messages in told.items() if messages} == {FrontEnd.PROXMOX, FrontEnd.KUBEVIRT, FrontEnd.OPENSTACK}
    assert "web-cdrom1.iso" in told[FrontEnd.KUBEVIRT][0]
