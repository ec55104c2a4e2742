"""The sample guests are what they say: by programs and libraries that had no part in making them."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pyregf
import pytest

from converters.image import open_disk
from tests.fixtures import appliance, disk
from tests.fixtures.programs import FixtureError
from tests.fixtures.windows import (
    GUESTS,
    REPRESENTATIVE,
    Firmware,
    State,
    WindowsGuest,
    bcd,
    logs,
    named,
    pe,
    registry,
    regtext,
    windows_disks,
    windows_packed,
)
from tests.fixtures.windows.pe import Arch
from tests.fixtures.windows.rows import rows
from tests.windows_startup import hive, programs
from tests.windows_startup.guests import Sample, sample
from tests.windows_startup.machine import Partition, machine
from tests.windows_startup.startup import start
from tests.windows_startup.verdict import Reason

_HIVES = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT")
_READABLE = [guest for guest in GUESTS if guest.state is not State.BITLOCKER]


def volume_file(path: Path, found: Sample, partition: Partition) -> Path:
    """A partition's bytes as a file of their own."""
    path.write_bytes(found.machine.disks[partition.disk].reader.pread(partition.length, partition.offset))
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("guest", rows(_READABLE, REPRESENTATIVE & {"nt4-server", "xp", "win7", "win10"}))
def test_every_hive_is_read_by_hivexregedit_and_by_libregf(guest: WindowsGuest, tmp_path: Path) -> None:
    with sample(guest.name) as found:
        for name in _HIVES:
            data = found.read(found.path(f"system32/config/{name}"))
            file = tmp_path / name
            file.write_bytes(data)
            exported = run("hivexregedit", "--export", file, "\\")
            assert exported.returncode == 0, exported.stderr
            opened = pyregf.file()
            opened.open_file_object(io.BytesIO(data))
            assert not opened.is_corrupted()
            keys = sum(line.startswith("[") for line in exported.stdout.splitlines())
            assert keys == _keys(opened.get_root_key()), name


def _keys(key: pyregf.key) -> int:
    return 1 + sum(_keys(child) for child in key.sub_keys)


@pytest.mark.parametrize("guest", rows(_READABLE, REPRESENTATIVE & {"nt4-workstation", "nt4-server", "win7", "win10"}))
def test_file_systems_are_in_order(guest: WindowsGuest, tmp_path: Path) -> None:
    with sample(guest.name) as found:
        for partition in found.machine.partitions:
            volume = found.machine.volume(partition)
            if volume.kind == "fat":
                checked = run("fsck.fat", "-n", volume_file(tmp_path / "volume", found, partition))
                assert checked.returncode == 0, checked.stdout
            elif volume.kind == "ntfs":
                checked = run("ntfsfix", "--no-action", volume_file(tmp_path / "volume", found, partition))
                assert checked.returncode == 0, checked.stdout
                is_system = partition.number == guest.layout.system.number and partition.disk == 0
                assert volume.dirty is (is_system and guest.state is State.DIRTY_VOLUME)


@pytest.mark.parametrize("guest", rows([guest for guest in _READABLE if guest.state is not State.DIRTY_HIVE]))
def test_registry_says_which_version_it_is(guest: WindowsGuest) -> None:
    version = guest.version
    with sample(guest.name) as found:
        system = hive.opened(found.read(found.path("system32/config/SYSTEM")), "SYSTEM")
        software = hive.opened(found.read(found.path("system32/config/SOFTWARE")), "SOFTWARE")
        kernel = programs.machine_of(found.read(found.path("system32/ntoskrnl.exe")))
    current = software.at("Microsoft\\Windows NT\\CurrentVersion")
    assert current is not None
    assert current.text("CurrentBuildNumber") == str(version.build)
    assert current.text("ProductName") == version.product
    assert current.number("CurrentMajorVersionNumber") == (10 if version.nt >= (10, 0) else None)
    assert current.text("InstallationType") == (version.installation if version.nt >= (6, 1) else None)
    select = system.at("Select")
    sets = guest.sets
    assert select is not None
    assert [select.number(name) for name in ("Current", "Default", "Failed", "LastKnownGood")] == [
        sets.current, sets.default, sets.failed, sets.last_known_good,
    ]  # fmt: skip
    assert {name for name in system.keys if name.startswith("controlset")} == {f"controlset{n:03d}" for n in sets.existing}
    assert (system.at("DriverDatabase") is not None) == (version.nt >= (6, 2))
    critical = system.at(f"{found.booted_set}\\Control\\CriticalDeviceDatabase")
    assert (critical is not None) == ((5, 0) <= version.nt < (6, 2))
    assert (system.at("MountedDevices") is not None) == (version.nt >= (5, 0))
    assert (software.at("Wow6432Node") is not None) == (guest.arch is not Arch.X86)
    assert system.at("MiniNt") is None
    assert kernel == {Arch.X86: programs.I386, Arch.X64: programs.AMD64, Arch.ARM64: programs.ARM64}[guest.arch]


@pytest.mark.parametrize("guest", rows(_READABLE))
def test_address_is_tied_to_a_card(guest: WindowsGuest) -> None:
    trees = registry.trees(guest)["SYSTEM"]
    top = f"ControlSet{guest.sets.default:03d}"
    if guest.version.nt < (5, 0):
        addresses = trees[f"{top}\\Services\\{guest.machine.card.service}1\\Parameters\\Tcpip"]
    else:
        network = f"{top}\\Control\\Network\\{{4D36E972-E325-11CE-BFC1-08002BE10318}}\\{registry.ADAPTER}\\Connection"
        instance = trees[network]["PnpInstanceID"].data.decode("utf-16-le").rstrip("\0")
        card = trees[f"{top}\\Enum\\{instance}"]
        driver = card["Driver"].data.decode("utf-16-le").rstrip("\0")
        class_key = trees[f"{top}\\Control\\Class\\{driver}"]
        assert class_key["NetCfgInstanceId"].data.decode("utf-16-le").rstrip("\0") == registry.ADAPTER
        addresses = trees[f"{top}\\Services\\Tcpip\\Parameters\\Interfaces\\{registry.ADAPTER}"]
    assert addresses["IPAddress"].data.decode("utf-16-le").startswith("192.168.40.21\0")


def test_programs_are_programs_to_others() -> None:
    expected = {Arch.X86: "PE32 executable", Arch.X64: "x86-64", Arch.ARM64: "Aarch64"}
    for arch, words in expected.items():
        for subsystem in pe.Subsystem:
            program = pe.program(arch, subsystem, "a text")
            named_by_file = subprocess.run(["file", "-"], input=program, capture_output=True, check=True).stdout.decode()
            assert words in named_by_file, (arch, subsystem)


# public vectors of the 32-bit form (tests of the Rust crate marvin32 and of .NET)
@pytest.mark.parametrize("data, expected", [(b"", 0xB00892AC), (b"h", 0xF41A608E), (b"he", 0x11107C6B), (b"hell", 0x7F91E021)])
def test_hash_of_log_entries_is_marvin32(data: bytes, expected: int) -> None:
    found = logs.marvin32(data)
    assert (found & 0xFFFFFFFF) ^ (found >> 32) == expected


@pytest.mark.parametrize("name, log, magic", [
    ("dirty-hive", "SYSTEM.LOG1", b"HvLE"),
    ("dirty-hive-7", "SYSTEM.LOG1", b"DIRT"),
    ("dirty-hive-xp", "SYSTEM.LOG", b"DIRT"),
])  # fmt: skip
def test_dirty_hive_and_its_log_disagree(name: str, log: str, magic: bytes) -> None:
    with sample(name) as found:
        torn = found.read(found.path("system32/config/SYSTEM"))
        content = found.read(found.path(f"system32/config/{log}"))
    mark, good = logs.MARK_BEFORE.encode("utf-16-le"), "WINGUEST".encode("utf-16-le")
    assert content[512:516] == magic
    assert (mark in torn, good in torn) == (True, False)
    assert (mark in content, good in content) == (False, True)


def test_second_windows_and_what_an_upgrade_left_are_there() -> None:
    with sample("multi-boot") as found:
        other = next(part for part in found.machine.partitions if part.number == 3)
        assert found.machine.volume(other).read("Windows/System32/config/SYSTEM")
        at_home = start(found.machine, found.at_home, entry=bcd.SECOND_LOADER)
        assert (at_home.stop, at_home.storage_service, at_home.doubts) == (None, "storahci", ())
        assert found.start(found.guest.machine.controller).storage_service == "msahci"
        nobody = start(found.machine, found.at_home, entry="{00000000-0000-0000-0000-000000000000}")
        assert nobody.reason is Reason.NO_ENTRY
    with sample("upgraded") as found:
        assert found.read("Windows.old/Windows/System32/config/SOFTWARE") != found.read("Windows/System32/config/SOFTWARE")


def test_guest_of_another_format_has_the_same_disks() -> None:
    guest = named("2019")
    raw, packed = windows_disks(guest), windows_packed(guest, "qcow2")
    assert len(raw) == len(packed) == 2
    for one, other in zip(raw, packed, strict=True):
        assert run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", one, other).returncode == 0


def test_every_layout_is_met() -> None:
    assert {guest.firmware for guest in GUESTS} == set(Firmware)
    assert {guest.state for guest in GUESTS} == set(State)
    assert {guest.arch for guest in GUESTS} == set(Arch)
    assert len({guest.name for guest in GUESTS}) == len(GUESTS)
    assert {guest.name for guest in GUESTS} >= REPRESENTATIVE


@pytest.mark.parametrize("text, problem", [
    ('"Name"="text"', "not a value"),
    ("[SYSTEM\\Key]\nName=text", "not a value"),
    ('[SYSTEM\\Key]\n"Name"=float:1', "no such type"),
    ('[SYSTEM\\Key]\n"Name"="<nobody>"', "nothing says what <nobody> is"),
    ("!driver disk 0", "neither a !driver nor a !critical line"),
])  # fmt: skip
def test_source_that_is_none_is_told_by_its_line(text: str, problem: str) -> None:
    with pytest.raises(FixtureError, match=problem) as told:
        list(regtext.parse(text, {}, "some"))
    assert "some.reg, line" in told.value.problem


def test_unknown_guest_is_told_with_those_there_are() -> None:
    with pytest.raises(FixtureError, match="no sample Windows guest is called 'me'"):
        named("me")


def test_disks_are_read_through_the_products_own_readers() -> None:
    """What a conversion writes is started from the format it is written in."""


    guest = named("win10")
    (packed,) = windows_packed(guest, "qcow2")
    reader = open_disk(packed)
    try:
        with machine(reader) as found:
            at_home = Sample(guest, found)
            assert start(found, at_home.at_home).stop is None
    finally:
        reader.close()


# What libguestfs 1.48 can tell: it names a version by its numbers, and the product by the registry.
_INSPECTED = ("win2000-server", "xp", "2003-x64", "vista", "win7", "2012", "win10", "2022-core")


@pytest.mark.appliance
@pytest.mark.matrix
def test_libguestfs_takes_the_samples_for_what_they_are(tmp_path: Path) -> None:
    """One launch for all; of copies, because the appliance may write. It takes a minute and more: a row of `make matrix`."""
    guests = [named(name) for name in _INSPECTED]
    copies = [tmp_path / f"{guest.name}.raw" for guest in guests]
    for guest, copy in zip(guests, copies, strict=True):
        disk.copied(windows_disks(guest)[0], copy)
    with appliance.launched(copies) as launched:
        found = {}
        for root in launched.inspect_os():
            device = launched.part_to_dev(root)
            found[guests[launched.device_index(device)].name] = (
                launched.inspect_get_type(root),
                (launched.inspect_get_major_version(root), launched.inspect_get_minor_version(root)),
                launched.inspect_get_arch(root),
                launched.inspect_get_product_name(root),
                launched.inspect_get_windows_systemroot(root).strip("/"),
                launched.inspect_get_windows_current_control_set(root),
                launched.inspect_get_hostname(root),
            )
    expected = {
        guest.name: (
            "windows", guest.version.nt, {Arch.X86: "i386", Arch.X64: "x86_64"}[guest.arch], guest.version.product,
            guest.version.folder, f"ControlSet{guest.sets.current:03d}", registry.COMPUTER,
        )
        for guest in guests
    }  # fmt: skip
    assert found == expected
