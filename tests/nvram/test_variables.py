"""UEFI variables: read from what hypervisors write, chosen, and written into a firmware's template."""

from __future__ import annotations

import random
import struct
import time

import pytest

from p2v.core.firmware import installed_firmware
from p2v.machine import UefiVariable
from p2v.nvram import edk2, vmware
from p2v.nvram.carried import described, for_machine, is_switched_off, worth_carrying
from p2v.nvram.variables import BadVariables, are_signature_lists, boot_entry_title, short_boot_entry
from tests.nvram import writer
from tests.nvram.writer import DATABASE, ENABLE, GLOBAL, SHIM, TIME, Var

DEBIAN = writer.entry("debian", writer.partition() + writer.loader("\\EFI\\debian\\shimx64.efi") + writer.END)
LONG = writer.entry(
    "Windows Boot Manager",
    writer.PCI_DISK + writer.partition(number=2) + writer.loader("\\EFI\\Microsoft\\Boot\\bootmgfw.efi") + writer.END,
    b"WINDOWS\0",
)
WHOLE_DISK = writer.entry("EFI VMware Virtual SCSI Hard Drive (0.0)", writer.PCI_DISK + writer.END)
NETWORK = writer.entry("PXE", writer.node(2, 1, bytes(8)) + writer.node(3, 11, bytes(33)) + writer.END)
SHELL = writer.entry("EFI Internal Shell", writer.node(4, 7, bytes(16)) + writer.node(4, 6, bytes(16)) + writer.END)
MACHINES = (
    Var("Boot0000", GLOBAL, WHOLE_DISK),
    Var("Boot0001", GLOBAL, SHELL),
    Var("Boot0002", GLOBAL, LONG),
    Var("Boot0003", GLOBAL, DEBIAN),
    Var("Boot0004", GLOBAL, NETWORK),
    Var("BootOrder", GLOBAL, struct.pack("<6H", 3, 0, 2, 4, 3, 9)),
    Var("BootNext", GLOBAL, b"\1\0"),
    Var("ConOut", GLOBAL, writer.PCI_DISK + writer.END),
    Var("MTC", "eb704011-1402-11d3-8e77-00a0c969723b", b"\7\0\0\0", 3),
)
SECURE = (
    *MACHINES,
    Var("PK", GLOBAL, writer.keys(), 0x27),
    Var("KEK", GLOBAL, writer.keys(2), 0x27),
    Var("db", DATABASE, writer.keys(3), 0x27),
    Var("dbx", DATABASE, writer.keys(1, 48), 0x27),
    Var("SecureBootEnable", ENABLE, b"\1", 3),
    Var("MokList", SHIM, writer.keys(), 3),
    Var("MokListRT", SHIM, writer.keys(), 6),
)


def as_read(each: Var, *, with_time: bool = True) -> UefiVariable:
    return UefiVariable(each.name, each.vendor, each.attributes, each.value.hex(), (TIME if with_time else bytes(16)).hex())


def names(variables: tuple[UefiVariable, ...]) -> list[str]:
    return [each.name for each in variables]


def test_a_store_is_read_whole() -> None:
    assert edk2.read_store(writer.store(SECURE)) == tuple(as_read(each) for each in SECURE)


def test_a_store_without_authentication_is_read() -> None:
    found = edk2.read_store(writer.store(MACHINES, authenticated=False))
    assert found == tuple(as_read(each, with_time=False) for each in MACHINES)


def test_vmwares_file_is_read() -> None:
    assert vmware.read_nvram(writer.vmware(SECURE)) == tuple(as_read(each, with_time=False) for each in SECURE)


def test_vmwares_file_of_a_bios_machine_has_none() -> None:
    assert vmware.read_nvram(b"MRVN\1\0\0\0" + struct.pack("<4s4sI", b"CMOS", bytes(4), 8) + bytes(8)) == ()


def test_deleted_variables_are_none_and_half_replaced_ones_count() -> None:
    old, new = Var("A", GLOBAL, b"old", state=0x3E), Var("A", GLOBAL, b"new")
    gone, unfinished = Var("B", GLOBAL, b"x", state=0x3C), Var("C", GLOBAL, b"x", state=0x7F)
    lone = Var("D", GLOBAL, b"kept", state=0x3E)
    found = edk2.read_store(writer.store((old, gone, unfinished, new, lone)))
    assert {each.name: bytes.fromhex(each.value) for each in found} == {"A": b"new", "D": b"kept"}
    assert edk2.read_store(writer.store((new, old)))[0].value == b"new".hex()


@pytest.mark.parametrize(
    ("at", "data"),
    [
        (16, b"\0"), (44, b"\0"),
        (40, b"x"), (48, b"\0\1"), (32, b"\xff" * 8), (72, b"\0"), (92, b"\0"), (93, b"\0"), (88, b"\xff\xff\xff\x7f"),
        (88, b"\0\0\0\0"), (100 + 36, b"\xff\xff\xff\xff"), (100 + 40, b"\xff\xff\xff\xff"),
    ],
)  # fmt: skip
def test_a_store_that_contradicts_itself_is_refused(at: int, data: bytes) -> None:
    broken = bytearray(writer.store(SECURE))
    broken[at : at + len(data)] = data
    with pytest.raises(BadVariables):
        edk2.read_store(bytes(broken))


def test_a_cut_file_is_refused() -> None:
    whole = writer.store(SECURE)
    for length in (0, 40, 71, 99, 4096, len(whole) - 1):
        with pytest.raises(BadVariables):
            edk2.read_store(whole[:length])


@pytest.mark.parametrize("make", [writer.store, writer.vmware])
def test_broken_files_are_refused_or_read_and_soon(make: object) -> None:
    assert callable(make)
    whole = make(SECURE)
    read = vmware.read_nvram if make is writer.vmware else edk2.read_store
    chance = random.Random(5)
    begun = time.process_time()
    for _ in range(600):
        broken = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            broken[chance.randrange(3000)] = chance.choice((0, 1, 0x3F, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        try:
            described(worth_carrying(read(bytes(broken))), secure_boot=True)
        except BadVariables:
            continue
    assert time.process_time() - begun < 60


def test_what_means_something_elsewhere_is_chosen() -> None:
    found = worth_carrying(edk2.read_store(writer.store(SECURE)))
    assert names(found) == [
        "Boot0002", "Boot0003", "BootOrder", "PK", "KEK", "db", "dbx", "SecureBootEnable", "MokList",
    ]  # fmt: skip
    assert bytes.fromhex(found[2].value) == struct.pack("<2H", 3, 2)
    assert names(for_machine(found, secure_boot=False)) == ["Boot0002", "Boot0003", "BootOrder"]
    assert found[3].time == TIME.hex()
    said = described(found, secure_boot=True)
    assert said == "boot entries Windows Boot Manager, debian, keys of secure boot, the owner's keys (MOK)"
    assert described(found, secure_boot=False) == "boot entries Windows Boot Manager, debian"


def test_an_entry_names_its_partition_alone() -> None:
    short = short_boot_entry(LONG)
    path = writer.partition(number=2) + writer.loader("\\EFI\\Microsoft\\Boot\\bootmgfw.efi") + writer.END
    assert short == writer.entry("Windows Boot Manager", path, b"WINDOWS\0")
    assert short_boot_entry(DEBIAN) == DEBIAN
    assert boot_entry_title(LONG) == "Windows Boot Manager"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"\1\0\0\0", WHOLE_DISK, NETWORK, SHELL,
        DEBIAN[:-4],
        writer.entry("no file", writer.partition() + writer.END),
        writer.entry("no end", writer.partition() + writer.loader("\\a.efi")),
        writer.entry("a node of nothing", writer.partition() + struct.pack("<BBH", 4, 4, 0) + writer.END),
        writer.entry("a long end", writer.partition() + writer.loader("\\a.efi") + struct.pack("<BBH", 0x7F, 0xFF, 5)),
        writer.entry("a short partition", writer.node(4, 1, bytes(8)) + writer.loader("\\a.efi") + writer.END),
        writer.entry("nodes without end", writer.node(4, 4, b"\0\0") * 500 + writer.END),
        struct.pack("<IH", 1, 0xFFFF) + DEBIAN[6:],
    ],
)  # fmt: skip
def test_other_entries_are_left_behind(value: bytes) -> None:
    assert short_boot_entry(value) is None


@pytest.mark.parametrize("gone", ["PK", "KEK", "db"])
def test_keys_come_as_a_whole_or_not_at_all(gone: str) -> None:
    found = worth_carrying(edk2.read_store(writer.store([each for each in SECURE if each.name != gone])))
    assert not {"PK", "KEK", "db", "dbx"} & set(names(found))


def test_keys_that_are_none_are_left_behind() -> None:
    broken = [Var(e.name, e.vendor, e.value + b"x", e.attributes) if e.name == "db" else e for e in SECURE]
    assert "PK" not in names(worth_carrying(edk2.read_store(writer.store(broken))))
    assert not are_signature_lists(b"")
    assert not are_signature_lists(writer.keys()[:-1])
    assert not are_signature_lists(writer.keys()[:20])
    assert not are_signature_lists(writer.keys()[:24] + b"\0\0\0\0" + writer.keys()[28:])


def test_what_a_running_system_could_write_is_no_owners_key() -> None:
    variables = (Var("MokList", SHIM, writer.keys(), 7), Var("MokSBState", SHIM, b"\1", 7))
    assert worth_carrying(edk2.read_store(writer.store(variables))) == ()


def test_secure_boot_that_was_switched_off_stays_off() -> None:
    off = [Var("SecureBootEnable", ENABLE, b"\0", 3) if each.name == "SecureBootEnable" else each for each in SECURE]
    found = worth_carrying(edk2.read_store(writer.store(off)))
    assert is_switched_off(found)
    assert "switched off" in described(found, secure_boot=True)
    assert not is_switched_off(for_machine(found, secure_boot=False))


def test_a_template_is_written_into_and_keeps_its_own() -> None:
    template = writer.store((Var("Own", GLOBAL, b"1234567"), Var("PK", GLOBAL, writer.keys(2), 0x27)))
    carried = worth_carrying(edk2.read_store(writer.store(SECURE, volume=0x20000, area=0xDFB8)))
    made = edk2.write_store(template, carried)
    assert len(made) == len(template)
    found = {each.name: each for each in edk2.read_store(made)}
    assert set(found) == {"Own", *names(carried)}
    assert found["PK"].value == writer.keys().hex()
    assert made[:100] == template[:100]
    assert made[72 + 0x3FFB8 :] == template[72 + 0x3FFB8 :]
    # the same in a tool that knows nothing of ours: what is behind the last variable is erased
    assert set(made[72 + 0x3FFB8 - 12 * 1024 : 72 + 0x3FFB8]) == {0xFF}


def test_what_does_not_fit_is_refused() -> None:
    big = UefiVariable("dbx", DATABASE, 0x27, writer.keys(1, 50_000).hex())
    with pytest.raises(BadVariables):
        edk2.write_store(writer.store((), volume=0x20000, area=0xDFB8), (big,))
    assert len(edk2.write_store(writer.store(()), (big,))) == 0x84000


def test_a_template_without_authentication_is_not_written() -> None:
    with pytest.raises(BadVariables):
        edk2.write_store(writer.store((), authenticated=False), ())


@pytest.mark.skipif(installed_firmware(secure_boot=True) is None, reason="no UEFI firmware with keys is installed")
def test_the_firmwares_own_template_is_read_and_written() -> None:
    files = installed_firmware(secure_boot=True)
    assert files is not None
    template = files.variables.read_bytes()
    found = edk2.read_store(template)
    assert {"PK", "KEK", "db", "dbx", "SecureBootEnable"} <= set(names(found))
    assert described(worth_carrying(found), secure_boot=True) == "keys of secure boot"
    again = edk2.write_store(template, worth_carrying(found))
    assert {e.name: e.value for e in edk2.read_store(again)} == {e.name: e.value for e in found}
