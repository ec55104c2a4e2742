"""Hyper-V's .vmcx: stores written here by the published description, as trees and as machines."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import pytest

from p2v.core.errors import BadDescription
from p2v.core.units import MIB
from p2v.machine import Attachment, DriveKind, Firmware, Machine, MachineDisk, Nic, RemovableDrive, SourceBus
from p2v.sources import vmcx
from p2v.sources.description import Description
from p2v.sources.hyperv_storage import read_store
from tests.sources.laid import fixture, ids, lay
from tests.sources.mutation import survives
from tests.sources.storage_writer import PAGE, store

GUID = "F3C1A1D2-7B5E-4D59-9B6E-6A8B57A3E1D0"
MACHINE_FILE = f"Virtual Machines/{GUID}.vmcx"
NEW = fixture("hyperv/vmcx-generation-2.xml")
DISK = "Virtual Hard Disks/Büro 11.vhdx"


def laid(root: Path, data: bytes, *more: str) -> Description:
    return lay(root, MACHINE_FILE, data, (DISK, *more))


def values(element: Element, place: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf's place and text."""
    for each in element:
        if len(each):
            yield from values(each, f"{place}/{each.tag}")
        else:
            # what is no text, and what has an object of its own, is not read: no machine needs it
            is_read = each.get("type") != "bytes" and len(each.text or "") < 1024
            yield f"{place}/{each.tag}", (each.text or "") if is_read else ""


def xml(text: str) -> Element:
    return fromstring(text.replace('encoding="UTF-16"', ""))


def test_a_vmcx_is_the_machine_and_says_that_its_format_is_no_official_one(tmp_path: Path) -> None:
    machine = vmcx.read(laid(tmp_path, store(NEW)))
    scsi = [Attachment(SourceBus.SCSI, 0, unit, "storvsc") for unit in (0, 1)]
    assert replace(machine, warnings=()) == Machine(
        name="Buro-11",
        disks=(MachineDisk(tmp_path / DISK, attachment=scsi[0]),),
        nics=(Nic("00:15:5d:64:a0:01", "Default Switch", "netvsc"),),
        cpus=2,
        memory_bytes=4096 * MIB,
        firmware=Firmware.UEFI,
        secure_boot=True,
        tpm=True,
        uuid="b03e2d1c-0f0e-4d0c-8b0a-090807060504",
        described_by=vmcx.KIND,
        removable=(RemovableDrive(DriveKind.CDROM, r"C:\ISO\win11.iso", scsi[1]),),
    )
    assert ids(machine.warnings) == ["source.vmcx", "source.passthrough", "source.tpm"]
    assert "Get-VM" in machine.warnings[0].hint


@pytest.mark.parametrize("name", ["2008-r2", "2012-r2-generation-2", "saved-with-host-disks"])
@pytest.mark.parametrize("objects", [3, 200])
def test_a_store_gives_every_value_of_its_configuration_in_order(tmp_path: Path, name: str, objects: int) -> None:
    text = fixture(f"hyperv/{name}.xml").replace("</properties>", f"<long type='string'>{'x' * 2100}</long></properties>")
    data = store(text, objects=objects)
    found = read_store(laid(tmp_path, data), data).root
    wanted = Element("store")
    wanted.append(xml(text))
    assert list(values(found)) == list(values(wanted))


@pytest.mark.parametrize("newer", [0, 1])
def test_the_newer_of_two_headers_counts(tmp_path: Path, newer: int) -> None:
    # what is older is of a version that nobody reads
    assert vmcx.read(laid(tmp_path, store(NEW, newer=newer, older_version=0x0100))).cpus == 2


def test_a_header_whose_sum_is_wrong_does_not_count(tmp_path: Path) -> None:
    data = bytearray(store(NEW, newer=1))
    struct.pack_into("<I", data, PAGE + 10, 0x0100)
    assert vmcx.read(laid(tmp_path, bytes(data))).cpus == 2
    data[20] ^= 1
    with pytest.raises(BadDescription, match="no sound header"):
        vmcx.read(laid(tmp_path, bytes(data)))


def test_a_newer_table_of_keys_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    data = bytearray(store(NEW))
    count_at = data.index(b"count\0") + 6
    table_at = count_at // PAGE * PAGE
    older = bytearray(data[table_at : table_at + PAGE])
    struct.pack_into("<H", older, 4, 2)
    struct.pack_into("<q", older, count_at - table_at, 64)
    offset = len(data)
    data += older
    _add_object(data, offset)
    assert vmcx.read(laid(tmp_path, bytes(data))).cpus == 2
    struct.pack_into("<H", data, offset + 4, 4)
    assert vmcx.read(laid(tmp_path, bytes(data))).cpus == 64


def _add_object(data: bytearray, offset: int) -> None:
    """Name one more key table in the first free entry of the table of objects."""
    first = 2 * PAGE + 8
    free = next(n for n in range(200) if data[first + 18 * n] == 0)
    struct.pack_into("<BIQIB", data, first + 18 * free, 2, 0, offset, PAGE, 1)


def test_changes_in_the_log_that_were_not_applied_are_told(tmp_path: Path) -> None:
    machine = vmcx.read(laid(tmp_path, store(NEW, pending=3)))
    assert "source.log" in ids(machine.warnings)


def test_an_old_version_is_refused_with_the_way_to_read_it_by_hand(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match=r"version 1\.0") as caught:
        vmcx.read(laid(tmp_path, store(NEW, version=0x0100)))
    assert all(word in caught.value.advice for word in ("--cpus", "Get-VMHardDiskDrive", "Compare-VM"))


STOPPED = '<configuration><properties><version type="integer">2304</version></properties></configuration>'
SAVED = '<savedstate><savedVM><partition_state type="bytes">AAAA</partition_state></savedVM></savedstate>'


def test_a_machine_whose_memory_is_in_its_vmrs_must_not_be_converted(tmp_path: Path) -> None:
    state = f"Virtual Machines/{GUID.lower()}.VMRS"
    description = laid(tmp_path, store(NEW), state)
    assert vmcx.read(description).blockers == ()
    (tmp_path / state).write_bytes(store(SAVED))
    assert ids(vmcx.read(description).blockers) == ["source.suspended"]
    (tmp_path / state).write_bytes(store(STOPPED))
    assert vmcx.read(description).blockers == ()
    with open(tmp_path / state, "wb") as file:
        file.truncate(1 << 30)
    assert ids(vmcx.read(description).blockers) == ["source.suspended"]


def test_a_vmrs_is_no_machine(tmp_path: Path) -> None:
    with pytest.raises(BadDescription, match="without a machine's configuration"):
        vmcx.read(laid(tmp_path, store(SAVED)))


@pytest.mark.parametrize(
    ("at", "raw", "problem"),
    [
        (2 * PAGE, b"\1\0\0\0", "no sound table of objects"),
        (2 * PAGE + 4, b"\xff\xff\xff\xff", "no sound table of objects"),
        (3 * PAGE, b"\3\0", "no key table"),
        (3 * PAGE + 12, b"\xff\xff\0\0", "has a key of"),
        (3 * PAGE + 12, b"\1\0\0\0", "has a key of"),
        (3 * PAGE + 16, b"\1\0\x0a\0\0\0", "their own ancestors"),
        (2 * PAGE + 8 + 5, b"\xff\xff\xff\xff\0\0\0\0", "past its end"),
    ],
)
def test_a_damaged_store_is_an_error_that_says_where(tmp_path: Path, at: int, raw: bytes, problem: str) -> None:
    data = bytearray(store(NEW))
    assert data[at : at + len(raw)] != raw
    data[at : at + len(raw)] = raw
    with pytest.raises(BadDescription, match=problem):
        vmcx.read(laid(tmp_path, bytes(data)))


def test_tables_that_name_each_other_without_end_are_soon_given_up(tmp_path: Path) -> None:
    data = bytearray(store(NEW)[: 2 * PAGE].ljust(4 << 20, b"\0"))
    blocks = (len(data) - 2 * PAGE) // 180
    for n in range(blocks):
        # each block is a table to the file's end, of entries that lead to the blocks and one that ends before the next
        at = 2 * PAGE + 180 * n
        entries = b"".join(struct.pack("<BIQIB", 1, 0, 2 * PAGE + 180 * ((9 * n + each) % blocks), 8, 1) for each in range(9))
        data[at : at + 170] = struct.pack("<II", 0x01110001, (len(data) - at - 8) // 18) + entries
    started = time.process_time()
    with pytest.raises(BadDescription):
        vmcx.read(laid(tmp_path, bytes(data)))
    assert time.process_time() - started < 2


def test_recognised_by_the_signature() -> None:
    assert vmcx.recognises(store(NEW)[:4096])
    assert not vmcx.recognises(NEW.encode("utf-16"))
    assert not vmcx.recognises(b"")


def test_mutations_are_machines_or_errors_and_take_no_time(tmp_path: Path) -> None:
    description = laid(tmp_path, store(NEW))

    def read_with_a_sum(changed: Description) -> Machine:
        data = bytearray(changed.data)
        for at in (0, PAGE):
            if len(data) >= at + 46:
                data[at + 4 : at + 8] = bytes(4)
                data[at + 4 : at + 8] = struct.pack("<I", zlib.crc32(data[at : at + 46]))
        return vmcx.read(replace(changed, data=bytes(data)))

    machines, errors = survives(description, read_with_a_sum, 400)
    assert machines > 20
    assert errors > 20
