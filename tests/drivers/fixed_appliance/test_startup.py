"""What the appliance does less of: exactly what is known to be needless, and nothing where things are otherwise."""

from __future__ import annotations

import pytest

from drivers.fixed_appliance.kernel import Unsuitable
from drivers.fixed_appliance.startup import quicker_archive, quicker_script, thinned
from drivers.linux.cpio import ByteStream, NewEntry, read_entries, write_archive
from tests.drivers.fixed_appliance.made_parts import INIT, initrd, packed_init, unpacked


def contents(archive: bytes) -> dict[str, bytes]:
    return {entry.name: entry.data(1 << 20) for entry in read_entries(ByteStream([archive])) if entry.is_file}


def test_needless_modules_are_in_the_initrd_neither_as_files_nor_in_the_list() -> None:
    before = initrd("virtio.ko", "ata_piix.ko", "crc-itu-t.ko.xz", "virtio_scsi.ko", "unheard-of.ko")
    found = contents(thinned(before))
    assert found["modules"] == b"virtio.ko\nvirtio_scsi.ko\nunheard-of.ko\n"
    assert sorted(found) == ["init", "modules", "unheard-of.ko", "virtio.ko", "virtio_scsi.ko"]
    assert found["virtio_scsi.ko"] == b"virtio_scsi.ko"


@pytest.mark.parametrize(
    "archive", [b"", b"0" * 200, initrd("virtio.ko")[:300], write_archive([NewEntry("init", 0o100755)])]
)
def test_an_initrd_of_another_kind_is_refused(archive: bytes) -> None:
    with pytest.raises(Unsuitable):
        thinned(archive)


def test_the_init_asks_for_disks_and_its_channel_only() -> None:
    changed = quicker_script(INIT).split("\n")
    assert [line for line in changed if line not in INIT.split("\n")] == [
        "udevadm trigger --subsystem-match=block --subsystem-match=virtio-ports"
    ]
    assert len(changed) == len(INIT.split("\n"))


@pytest.mark.parametrize(
    "script",
    ["", "udevadm trigger --type=all\n", "  udevadm trigger\n", INIT + "udevadm trigger\n", "# udevadm trigger\n"],
)
def test_an_init_of_another_kind_stays_as_it_is(script: str) -> None:
    assert quicker_script(script) == script


def test_only_the_init_of_the_archive_is_changed() -> None:
    before, after = unpacked(packed_init()), unpacked(quicker_archive(packed_init()))
    assert after["init"] == (quicker_script(INIT).encode(), 0o755)
    assert after["init"][0] != before["init"][0]
    assert {name: file for name, file in after.items() if name != "init"} == {
        name: file for name, file in before.items() if name != "init"
    }


def test_an_archive_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Unsuitable):
        quicker_archive(packed_init()[:60])
    with pytest.raises(Unsuitable):
        quicker_archive(b"no archive")
