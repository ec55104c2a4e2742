"""What tells of a guest's state besides its registry: files that are kept in another way, versions, names. What facts leave out."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from drivers.changes import CarryFile
from drivers.expectations import Expectations
from drivers.facts import GuestFacts
from drivers.inspection import inspect_confined
from drivers.plan import Finding, PlanOptions
from drivers.planning import plan_guest
from drivers.tree import Kept
from drivers.windows.facts import SOFTWARE, WindowsFacts
from drivers.windows.names import Names
from drivers.windows.offer import offer_for
from drivers.windows.reading import read_windows
from drivers.windows.state_reading import file_version, kept_at
from drivers.windows.updates import PACKAGES, reads_sha2
from p2v.core.errors import PlanStale
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows import bitlocker_writer, wof
from tests.drivers.windows.dynamic_disks import dynamic_disk
from tests.drivers.windows.guest_disk import (
    CURRENT_VERSION,
    MIB,
    mounted,
    ntfs_disk,
    program,
    software_tree,
    system_tree,
    windows_files,
)
from tests.drivers.windows.test_reading import facts_of
from tests.fixtures.hives import Tree, binary, dword, make_hive, multi_sz, sz
from tests.fixtures.virtio_win import DRIVERS, medium, write_folder

_START = MIB
_SEVEN = {"CurrentVersion": sz("6.1"), "CurrentBuildNumber": sz("7601"), "ProductName": sz("Windows 7 Professional")}
_BOOT: Tree = {
    **system_tree(),
    **{f"ControlSet001\\Services\\{name}": {"Start": dword(0), "Type": dword(1)} for name in ("disk", "storahci", "acpi")},
    "ControlSet001\\Services\\other": {"Start": dword(3), "Type": dword(1)},
}


def read(files: dict[str, Node], kept: dict[str, Kept] | None = None) -> WindowsFacts:
    return read_windows(InMemoryTree(files, kept=kept), "/Windows").facts


def guest(software: Tree | None = None, system: Tree | None = None, more: dict[str, bytes] | None = None) -> dict[str, Node]:
    files = windows_files(
        system=make_hive(system) if system is not None else None,
        software=make_hive(software, name="SOFTWARE") if software is not None else None,
    )
    return dict[str, Node](files | (more or {}))


def warned(facts: GuestFacts) -> dict[str, Finding]:
    return {each.id: each for each in plan_guest(facts, PlanOptions()).warnings}


# --- files that are kept in another way --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compact_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows with a compressed kernel and driver, one that is deduplicated, and a store of deduplicated pieces."""
    path = tmp_path_factory.mktemp("compact") / "disk.img"
    drivers = {f"/Windows/System32/drivers/{name}.sys": b"" for name in ("disk", "storahci", "acpi", "other")}
    ntfs_disk(path, windows_files(system=make_hive(_BOOT)) | drivers)
    volume = path.with_suffix(".volume")
    raw = path.read_bytes()
    volume.write_bytes(raw[_START:])
    with mounted(volume, "streams_interface=windows") as folder:
        system32 = folder / "Windows/System32"
        for name in ("ntoskrnl.exe", "cmd.exe", "drivers/storahci.sys", "drivers/other.sys"):
            wof.compressed(system32 / name, program() + bytes(range(256)) * 40)
        wof.reparsed(system32 / "drivers/acpi.sys", wof.DEDUP)
        (folder / "System Volume Information/Dedup/ChunkStore").mkdir(parents=True)
    path.write_bytes(raw[:_START] + volume.read_bytes())
    return path


def test_compressed_files_are_read_and_told_and_count_as_present(compact_disk: Path) -> None:
    facts = facts_of(compact_disk)
    windows = facts.windows
    assert windows is not None
    assert windows.driver_files == ("acpi.sys", "disk.sys", "other.sys", "storahci.sys")
    # the kernel's own word, although it is compressed
    assert (windows.arch, windows.compressed) == ("x86_64", True)
    # what no start needs is not looked at
    assert windows.compressed_files == ("ntoskrnl.exe", "storahci.sys")
    assert windows.missing_files == ("acpi.sys",)
    assert windows.deduplicated == ("disk 1, partition 1",)
    plan = plan_guest(facts, PlanOptions())
    assert {"windows.compact", "windows.deduplicated", "windows.files-elsewhere"} <= {each.id for each in plan.warnings}


def test_ntfs_3g_shows_such_a_file_as_a_link_through_which_nothing_is_written(compact_disk: Path, tmp_path: Path) -> None:
    volume, path = tmp_path / "volume", "/Windows/System32/drivers/storahci.sys"
    volume.write_bytes(compact_disk.read_bytes()[_START:])
    with mounted(volume) as folder:
        target = os.readlink(folder / path[1:])
    tree = InMemoryTree({path: Link(target)})
    assert kept_at(tree, path) is Kept.COMPRESSED
    with pytest.raises(PlanStale) as stale:
        Expectations(tree, {}).verdicts([CarryFile("/medium/storahci.sys", 1, "00", path, 0o644, "a driver")])
    assert "unsupported reparse tag" in stale.value.sentence()


def test_files_of_a_plain_guest_are_plain(tmp_path: Path) -> None:
    drivers = {f"/Windows/System32/drivers/{name}.sys": b"" for name in ("disk", "storahci", "acpi")}
    windows = facts_of(ntfs_disk(tmp_path / "disk.img", windows_files(system=make_hive(_BOOT)) | drivers)).windows
    assert windows is not None
    assert (windows.compressed, windows.compressed_files, windows.encrypted_files, windows.missing_files) == (False, (), (), ())
    assert (windows.deduplicated, windows.signs) == ((), ())


def test_an_encrypted_driver_that_starts_is_told() -> None:
    path = "/Windows/System32/drivers/disk.sys"
    files = guest(system=_BOOT, more={path: b"", "/Windows/System32/drivers/idle.sys": b""})
    kept = {path: Kept.ENCRYPTED, "/Windows/System32/drivers/idle.sys": Kept.ENCRYPTED}
    assert read(files, kept).encrypted_files == ("disk.sys",)
    assert read(files).encrypted_files == ()


def test_ntfs_encryption_is_seen_on_a_disk(tmp_path: Path) -> None:
    drivers = {f"/Windows/System32/drivers/{name}.sys": b"x" for name in ("disk", "storahci")}
    disk = ntfs_disk(tmp_path / "disk.img", windows_files(system=make_hive(_BOOT)) | drivers)
    raw = bytearray(disk.read_bytes())
    name = "disk.sys".encode("utf-16-le")
    records = (at for at in range(_START, len(raw), 1024) if raw[at : at + 4] == b"FILE" and name in raw[at : at + 1024])
    for record in records:
        (first,) = struct.unpack_from("<H", raw, record + 20)
        # the attributes of a file, in its first attribute: no tool sets this one
        raw[record + first + 24 + 33] |= 0x40
    disk.write_bytes(raw)
    windows = facts_of(disk).windows
    assert windows is not None
    assert windows.encrypted_files == ("disk.sys",)


@pytest.mark.parametrize(
    "target, kept",
    [("unsupported reparse tag 0x80000017", Kept.COMPRESSED), ("unsupported reparse tag 0x80000013", Kept.ELSEWHERE),
     ("/somewhere", Kept.ELSEWHERE)],
)  # fmt: skip
def test_the_links_that_ntfs_3g_shows_are_understood(target: str, kept: Kept) -> None:
    tree = InMemoryTree({"/a.sys": Link(target), "/b.sys": b""})
    assert kept_at(tree, "/a.sys") is kept
    assert kept_at(tree, "/b.sys") is Kept.PLAIN
    assert kept_at(tree, "/none") is Kept.PLAIN


def test_files_that_tell_of_a_state_by_being_there() -> None:
    more = {"/Windows.old/WINDOWS/explorer.exe": b"", "/windows/system32/codeintegrity/sipolicy.p7b": b""}
    assert read(guest()).signs == ()
    assert read(guest() | dict[str, Node]({"/Windows.old/a": b""})).signs == ("windows.old",)
    # the folder's own spelling, one file system in any case
    own = {f"/Windows/System32{path[17:]}" if path.startswith("/windows") else path: data for path, data in more.items()}
    assert read(guest(more=own)).signs == ("windows.old", "sipolicy.p7b")


# --- what is unfinished ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "system, software, expected",
    [
        ({"ControlSet001\\Control\\Session Manager": {"PendingFileRenameOperations2": multi_sz("a", "b")}}, {}, "renamed"),
        ({"ControlSet001\\Control\\Session Manager": {"SetupExecute": multi_sz("poqexec.exe")}}, {}, "in the middle of"),
        ({}, {"Component Based Servicing\\RebootInProgress": {}}, "in the middle of"),
        ({}, {"Component Based Servicing\\PackagesPending": {}}, "a start has to finish"),
        ({"Setup": {"OOBEInProgress": dword(1)}}, {}, "set-up"),
    ],
)
def test_more_that_windows_has_begun(system: Tree, software: Tree, expected: str) -> None:
    more = {f"Microsoft\\Windows\\CurrentVersion\\{key}": values for key, values in software.items()}
    (pending,) = read(guest(software_tree(more=more), {**system_tree(), **system})).pending
    assert expected in pending
    empty: Tree = {"ControlSet001\\Control\\Session Manager": {"SetupExecute": multi_sz()}, "Setup": {"OOBEInProgress": dword(0)}}
    assert read(guest(system={**system_tree(), **empty})).pending == ()


# --- SHA-2 -------------------------------------------------------------------------------------------------------------------


def _versioned(*numbers: int) -> bytes:
    words = struct.pack("<IIII", 0xFEEF04BD, 0x00010000, numbers[0] << 16 | numbers[1], numbers[2] << 16 | numbers[3])
    return program() + words + bytes(36)


def _package(name: str, state: int = 0x70) -> Tree:
    return {f"{PACKAGES}\\{name}~31bf3856ad364e35~amd64~~6.1.1.0": {"CurrentState": dword(state)}}


@pytest.mark.parametrize(
    "packages, integrity, expected",
    [
        (_package("Package_for_KB3033929"), (), True),
        (_package("Package_2_for_KB4474419"), (), True),
        (_package("Package_for_KB3125574", 0x50), (), True),
        (_package("Package_for_KB4474419", 0x40), (6, 1, 7601, 17514), False),
        (_package("Package_for_KB9999999"), (6, 1, 7601, 17514), False),
        (_package("Package_for_KB9999999"), (), None),
        ({}, (6, 1, 7601, 24545), True),
        ({}, (6, 1, 7601, 23403), True),
        ({}, (6, 1, 7601, 17514), None),
    ],
)
def test_whether_windows_7_reads_sha2_is_found_in_its_updates(
    packages: Tree, integrity: tuple[int, ...], expected: bool | None
) -> None:
    more = {"/Windows/System32/ci.dll": _versioned(*integrity)} if integrity else {}
    windows = read(guest(software_tree(_SEVEN, packages), more=more))
    assert windows.integrity_version == integrity
    assert reads_sha2(windows) is expected


@pytest.mark.parametrize("name, expected", [("Package_for_KB4474419", True), ("Package_for_KB3033929", False)])
def test_server_2008_reads_sha2_with_one_update_alone(name: str, expected: bool) -> None:
    of_2008 = {"CurrentVersion": sz("6.0"), "CurrentBuildNumber": sz("6003")}
    assert reads_sha2(read(guest(software_tree(of_2008, _package(name))))) is expected


def test_the_drivers_that_are_offered_are_judged_by_the_updates_of_the_guest(tmp_path: Path) -> None:
    folder = write_folder(medium(DRIVERS[:2], releases=("w7",)).files, tmp_path / "medium")
    told = []
    for packages in ({}, _package("Package_for_KB3033929")):
        offered = offer_for(read(guest(software_tree(_SEVEN, packages))), folder, secure_boot=False)
        assert offered is not None
        assert offered.choice.drivers
        told.append("driver.sha2" in {each.id for each in offered.choice.findings})
    assert told == [True, False]


def test_packages_of_later_versions_are_not_read() -> None:
    windows = read(guest(software_tree(more=_package("Package_for_KB4474419"))))
    assert not any(key.startswith(PACKAGES) for key in windows.registry[SOFTWARE].keys)
    assert reads_sha2(windows) is True


def test_a_version_that_is_cut_off_is_none() -> None:
    cut = _versioned(6, 1, 7601, 24545)[: len(program()) + 12]
    for data in (cut, b"", program()):
        assert file_version(Names(InMemoryTree({"/ci.dll": data})), "/ci.dll") == ()
    assert file_version(Names(InMemoryTree({})), "/ci.dll") == ()


# --- product keys ------------------------------------------------------------------------------------------------------------


def test_product_keys_are_not_among_the_facts() -> None:
    secret = bytes(range(1, 16))
    older, newest = bytearray(164), bytearray(1272)
    older[52:67] = secret
    newest[808:823] = secret
    newest[1016:1022] = "MAK".encode("utf-16-le")
    ids = {"DigitalProductId": binary(bytes(older)), "DigitalProductId4": binary(bytes(newest))}
    values = {**software_tree()[CURRENT_VERSION], **ids}
    platform = {f"{CURRENT_VERSION}\\SoftwareProtectionPlatform": {"BackupProductKeyDefault": sz("AAAAA-BBBBB")}}
    hive = read(guest(software_tree(values, platform))).registry[SOFTWARE]
    kept = hive.value(CURRENT_VERSION, "DigitalProductId4")
    assert kept is not None
    assert kept.data[1016:1022] == newest[1016:1022]
    every = "".join(value.data for values in hive.keys.values() for value in values)
    assert secret.hex() not in every
    assert "AAAAA".encode("utf-16-le").hex() not in every


# --- disks -------------------------------------------------------------------------------------------------------------------


def test_a_dynamic_data_disk_beside_windows_is_told(tmp_path: Path) -> None:
    first = ntfs_disk(tmp_path / "disk.img", windows_files())
    second = dynamic_disk(tmp_path / "data.img", disks=2)
    assert not {"windows.dynamic-data", "windows.dynamic-incomplete"} & set(warned(facts_of(first)))
    readers = [RawReader(first), RawReader(second)]
    try:
        found = warned(inspect_confined(readers))
    finally:
        for reader in readers:
            reader.close()
    assert "disk 2 is a dynamic disk" in found["windows.dynamic-data"].message
    assert "has 2, and 1 of it are given" in found["windows.dynamic-incomplete"].message


def test_a_locked_system_volume_is_told_in_the_words_of_its_metadata(tmp_path: Path) -> None:
    disk = bytearray(ntfs_disk(tmp_path / "disk.img", {"/a": b""}).read_bytes())
    volume = bitlocker_writer.volume(bitlocker_writer.metadata([bitlocker_writer.TPM, bitlocker_writer.RECOVERY]))
    disk[_START : _START + len(volume)] = volume
    (tmp_path / "locked.img").write_bytes(disk)
    facts = facts_of(tmp_path / "locked.img")
    (blocker,) = plan_guest(facts, PlanOptions()).blockers
    assert (blocker.id, "locked, opened by TPM, recovery password" in blocker.message) == ("windows.bitlocker", True)
