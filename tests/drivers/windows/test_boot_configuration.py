"""Boot entries, boot.ini and loaders: decoded from bytes that anybody may have written, and read from disks."""

from __future__ import annotations

import re
import struct
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies

from drivers.changes import BootGeometry, CopyFile, EditBootSector, EditFile
from drivers.facts import Disk, GuestFacts, Mount, Partition, ReadBy
from drivers.layout import Layout
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows import bcd, boot_ini, boot_start, old_boot
from drivers.windows import c_bcd as c
from drivers.windows.boot_facts import BootDevice, BootSector, DeviceKind, LoaderFile, WindowsBoot
from drivers.windows.boot_reading import read_sector
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import BCD, HiveFile, WindowsFacts
from drivers.windows.hives import read_hive
from drivers.windows.inspection import find_starting, find_windows
from drivers.windows.names import Names
from drivers.windows.places import told_by
from drivers.windows.reading import read_windows
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows.guest_disk import PLACE, boot_store, ntfs_disk, windows_files
from tests.drivers.windows.samples import facts_of_sample
from tests.drivers.windows.test_reading import facts_of
from tests.fixtures.hives import Tree, binary, dword, make_hive, multi_sz, sz
from tests.fixtures.windows import bcd as written
from tests.fixtures.windows import named, windows_disks

_DISK_ID, _PART_ID = uuid.UUID("5ec0ae12-0000-4000-8000-000000000000"), uuid.UUID("5ec0ae12-0000-4000-8000-000000000003")
_ROOT = Partition(0, 1, 63 * 512, 1 << 26, "07", bootable=True, partuuid="5ec0ae12-01")
_OTHER = Partition(0, 2, 1 << 28, 1 << 26, "07", partuuid="5ec0ae12-02")
_BARE = GuestFacts(
    ReadBy.HOST, (Disk(0, 1 << 30, "mbr", "5ec0ae12", "windows"),), (_ROOT, _OTHER), root=Mount("/", 0, 1)
)
_VHD_PATH = "\\images\\system.vhdx"


def hive_of(tree: Tree) -> HiveFile:
    """A store's hive, read as facts have it."""
    return read_hive(Names(InMemoryTree({"/BCD": make_hive(tree, name="BCD")})), "/BCD", BCD)


def _descriptor(kind: int, rest: bytes, size: int = 0x48) -> bytes:
    return bytes(16) + struct.pack("<IIII", kind, 0, size, 0) + rest


def _nested_vhd() -> bytes:
    """A VHD that is looked for: a file device within a locate device, its path after its parent."""
    parent = written.device(PLACE).data[16:]
    file = struct.pack("<IIII", 0, 0, 0x80, 0) + struct.pack("<III", 5, 0, 1) + parent + _VHD_PATH.encode("utf-16-le") + bytes(2)
    return _descriptor(8, struct.pack("<II", 2, c.OS_DEVICE) + file)


@pytest.mark.parametrize("data, expected", [
    (written.device(written.MbrPlace(0x0A0B0C0D, 1048576)).data, BootDevice(DeviceKind.PARTITION, "0a0b0c0d", 1048576)),
    (
        written.device(written.GptPlace(_DISK_ID, _PART_ID)).data,
        BootDevice(DeviceKind.PARTITION, str(_DISK_ID), None, str(_PART_ID)),
    ),
    # as Windows 8.1 wrote it, by the published finding
    (
        bytes.fromhex(
            "0000000000000000000000000000000006000000000000004800000000000000"
            "0000f01500000000000000000000000000000000010000 00f1a8ebb3".replace(" ", "") + "00" * 28
        ),
        BootDevice(DeviceKind.PARTITION, "b3eba8f1", 368050176),
    ),
    (_descriptor(5, bytes(56)), BootDevice(DeviceKind.BOOT)),
    (_descriptor(8, struct.pack("<II", 0, c.SYSTEM_ROOT) + bytes(24)), BootDevice(DeviceKind.LOCATE, detail="22000002")),
    (_nested_vhd(), BootDevice(DeviceKind.VIRTUAL_DISK, detail=_VHD_PATH)),
    (_descriptor(6, bytes(16) + struct.pack("<II", 6, 0) + bytes(32)), BootDevice(DeviceKind.VIRTUAL_DISK)),
    (_descriptor(0, struct.pack("<I", 3) + bytes(52)), BootDevice(DeviceKind.FILE)),
    (_descriptor(0, struct.pack("<I", 1) + bytes(52)), BootDevice(DeviceKind.OTHER, detail="local device of type 1")),
    (_descriptor(6, bytes(20)), BootDevice(DeviceKind.OTHER, detail="type 6, 52 bytes")),
    (_descriptor(6, bytes(16) + struct.pack("<II", 0, 9) + bytes(32)),
     BootDevice(DeviceKind.OTHER, detail="a partition on a device of type 0, table of style 9")),
    (_descriptor(0x7FFFFFFF, b""), BootDevice(DeviceKind.OTHER, detail="type 2147483647, 32 bytes")),
    (b"", BootDevice(DeviceKind.OTHER, detail="0 bytes")),
    (bytes(31), BootDevice(DeviceKind.OTHER, detail="31 bytes")),
])  # fmt: skip
def test_device_elements(data: bytes, expected: BootDevice) -> None:
    assert bcd.read_device(data) == expected


@pytest.mark.parametrize("table, disk_id, partuuid", [
    ("mbr", "0a0b0c0d", "0a0b0c0d-01"), ("gpt", str(_DISK_ID), str(_PART_ID)),
])  # fmt: skip
def test_element_for_a_partition_is_read_as_that_partition_and_keeps_its_options(table: str, disk_id: str, partuuid: str) -> None:
    disk = Disk(0, 1 << 30, table, disk_id)
    partition = Partition(0, 1, 1 << 20, 1 << 28, "07", partuuid=partuuid)
    options = bytes(range(16))
    made = bcd.device_of(disk, partition, options + bytes(4))
    assert made is not None
    assert (len(made), made[:16]) == (88, options)
    facts = replace(_BARE, disks=(disk,), partitions=(partition,))
    assert told_by(facts, bcd.read_device(made)) == partition
    # as the fixtures' own writer has it
    place = written.MbrPlace(0x0A0B0C0D, 1 << 20) if table == "mbr" else written.GptPlace(_DISK_ID, _PART_ID)
    assert made[16:] == written.device(place).data[16:]


@settings(deadline=None, max_examples=200)
@given(strategies.binary(max_size=300))
def test_no_bytes_are_too_odd_for_a_device_or_a_boot_sector(data: bytes) -> None:
    assert bcd.read_device(data).kind in DeviceKind
    assert bcd.read_device(bytes(16) + struct.pack("<I", 6) + data).kind in DeviceKind
    assert str(bcd.read_device(bytes(16) + struct.pack("<I", 8) + data))
    assert read_sector(_ROOT, data).kind == ""
    assert read_sector(_ROOT, (b"\0\0\0NTFS    " + data).ljust(512, b"\0")).kind == "ntfs"


@settings(deadline=None, max_examples=200)
@given(strategies.text(max_size=200), strategies.text(max_size=60))
@example("C", "c")
@example("Ê=", "ê")
def test_no_text_is_too_odd_for_boot_ini(text: str, path: str) -> None:
    for each in (text, f"[boot loader]\ndefault={path}\n{text}", f"[operating systems]\n{path}={text}"):
        found = boot_ini.default_path(each)
        assert found in each
        parsed = boot_ini.parse(found)
        assert parsed is None or parsed.text == found
        if found:
            # nothing but that path is another one, in whatever letters it stands
            back = boot_ini.with_path(each, found, _RIGHT).replace(_RIGHT, found)
            assert re.fullmatch(re.escape(back), each, re.IGNORECASE)


def test_partition_without_identity_makes_no_element() -> None:
    partition = Partition(0, 1, 1 << 20, 1 << 28, "07", partuuid="no GUID")
    for table, disk_id in (("none", None), ("mbr", "00000000"), ("mbr", None), ("gpt", "no GUID"), ("mbr", "no number")):
        assert bcd.device_of(Disk(0, 1 << 30, table, disk_id), partition) is None


def test_store_tells_its_objects() -> None:
    store = bcd.read_store(hive_of(boot_store()))
    assert store.default == written.LOADER
    loader = store.object(written.LOADER.upper())
    assert loader is not None
    assert loader.is_windows
    assert (loader.title, loader.system_root) == ("Windows Server 2019", "\\Windows")
    assert loader.path == "\\Windows\\system32\\winload.exe"
    assert loader.os_device == BootDevice(DeviceKind.PARTITION, "44332211", 2048 * 512)
    assert {each.type for each in store.objects} >= {c.OS_LOADER, c.RESUME_LOADER}


_MANAGER = f"Objects\\{written.BOOT_MANAGER}\\Elements"


def test_default_that_is_none_gives_way_to_the_order() -> None:
    gone = {f"{_MANAGER}\\23000003": {"Element": sz("{00000000-0000-0000-0000-000000000000}")}}
    assert bcd.read_store(hive_of(boot_store(more=gone))).default == written.LOADER
    both = {**gone, f"{_MANAGER}\\24000001": {"Element": multi_sz("{00000000-0000-0000-0000-000000000000}")}}
    assert bcd.read_store(hive_of(boot_store(more=both))).default == ""


def test_what_is_no_object_or_no_element_is_left_out() -> None:
    odd = {
        "Objects\\not an id": {},
        f"Objects\\{written.LOADER}\\Elements\\zz000001": {"Element": binary(b"\1")},
        f"Objects\\{written.LOADER}\\Elements\\12000004": {"Element": dword(7)},
        f"Objects\\{written.LOADER}\\Elements\\11000001": {"Element": sz("text")},
        f"{_MANAGER}\\23000003": {"Element": binary(b"\xff\xff\xff")},
    }
    store = bcd.read_store(hive_of(boot_store(more=odd)))
    assert all(each.id.startswith("{") for each in store.objects)
    loader = store.object(written.LOADER)
    assert loader is not None
    assert loader.title == ""
    assert loader.device is not None
    assert loader.device.kind is DeviceKind.OTHER


def test_objects_are_bounded() -> None:
    many: Tree = {f"Objects\\{{{number:08x}-0000-0000-0000-000000000000}}\\Description": {} for number in range(400)}
    assert len(bcd.read_store(hive_of(many)).objects) == bcd.OBJECTS_AT_MOST


# --- boot.ini ------------------------------------------------------------------------------------------------------------

_C = "multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS"


@pytest.mark.parametrize("text, expected", [
    (f"[boot loader]\r\ntimeout=30\r\ndefault={_C}\r\n[operating systems]\r\n{_C}=\"XP\" /fastdetect\r\n", _C),
    (f"; a comment\n[Boot Loader]\nDefault = {_C}\n", _C),
    (f"[boot loader]\ntimeout=0\n[operating systems]\nC:\\=\"old\"\n{_C}=\"XP\"\n", "C:\\"),
    (f"[operating systems]\n{_C}=\"XP\"\n", _C),
    ("default=nothing of a section", ""),
    ("", ""),
    ("\udcff\udcfe[boot loader]\0", ""),
])  # fmt: skip
def test_default_of_boot_ini(text: str, expected: str) -> None:
    assert boot_ini.default_path(text) == expected


def test_arc_paths() -> None:
    assert boot_ini.parse(_C) == boot_ini.ArcPath(_C, 0, 1, "\\WINDOWS", False)
    scsi = boot_ini.parse("scsi(0)disk(2)rdisk(0)partition(3)\\WINNT\\")
    assert scsi is not None
    assert (scsi.disk, scsi.partition, scsi.folder, scsi.needs_driver) == (2, 3, "\\WINNT", True)
    signature = boot_ini.parse("SIGNATURE(5EC0AE12)disk(0)rdisk(1)partition(1)\\WINNT")
    assert signature is not None
    assert signature.needs_driver
    for other in ("C:\\", "", "multi(0)disk(0)rdisk(0)partition(99999)\\W", "multi(0)disk(0)rdisk(0)", _C + "\nx"):
        assert boot_ini.parse(other) is None


def test_arc_numbers_count_primary_partitions_first_and_no_container() -> None:
    def part(number: int, type_id: str) -> Partition:
        return Partition(0, number, number << 20, 1 << 20, type_id)

    parts = (part(1, "07"), part(2, "0f"), part(4, "07"), part(5, "07"), Partition(1, 1, 1 << 20, 1 << 20, "07"))
    assert [boot_ini.arc_number(parts, each) for each in parts] == [1, None, 2, 3, 1]
    path = boot_ini.parse("multi(0)disk(0)rdisk(0)partition(3)\\WINDOWS")
    assert path is not None
    assert boot_ini.partition_at(parts, path) == parts[3]


def test_path_is_replaced_where_it_stands_as_a_whole_and_nothing_else_is() -> None:
    longer = f"{_C}.old"
    text = f'[boot loader]\r\ndefault={_C}\r\n[operating systems]\r\n{_C}="XP" /fastdetect\r\n{longer}="Old"\r\nC:\\="\xe9"\r\n'
    new = "multi(0)disk(0)rdisk(1)partition(2)\\WINDOWS"
    after = boot_ini.with_path(text, _C, new)
    assert after == text.replace(f"={_C}\r", f"={new}\r").replace(f'{_C}="XP"', f'{new}="XP"')
    assert longer in after


def _of_nt5(
    text: str | None, *, root: Partition = _ROOT, mountpoint: str = "/", dirty: str = ""
) -> tuple[GuestFacts, WindowsFacts]:
    """Facts of an XP in \\Windows of a partition, started by NTLDR of the first."""
    windows = read_windows(InMemoryTree(dict[str, Node](windows_files())), "/Windows").facts
    boot = WindowsBoot(0, 1, mountpoint, dirty, boot_ini=text, boot_ini_path="/boot.ini" if text is not None else "")
    facts = replace(_BARE, root=Mount("/", root.disk, root.number))
    return facts, replace(windows, boot=boot, version=replace(windows.version, major=5, minor=1))


def _ini(path: str) -> str:
    return f'[boot loader]\r\ndefault={path}\r\n[operating systems]\r\n{path}="Windows" /fastdetect\r\n'


_RIGHT = "multi(0)disk(0)rdisk(0)partition(1)\\Windows"


def test_boot_ini_that_is_right_stays() -> None:
    for text in (_ini(_RIGHT), _ini(_RIGHT.upper()), None):
        assert old_boot.contribute(*_of_nt5(text)) == WindowsContribution()


@pytest.mark.parametrize("path", [
    "multi(0)disk(0)rdisk(3)partition(1)\\Windows",
    "multi(0)disk(0)rdisk(0)partition(7)\\Windows",
    "multi(0)disk(0)rdisk(0)partition(1)\\WINNT",
    "scsi(0)disk(0)rdisk(0)partition(1)\\Windows",
    "signature(5ec0ae12)disk(0)rdisk(0)partition(2)\\Windows",
])  # fmt: skip
def test_boot_ini_that_leads_nowhere_is_edited(path: str) -> None:
    facts, windows = _of_nt5(_ini(path))
    found = old_boot.contribute(facts, windows)
    assert found.blockers == ()
    (change,) = found.changes
    assert isinstance(change, EditFile)
    assert (change.before, change.after) == (_ini(path), _ini(_RIGHT))
    assert windows.boot is not None
    again = replace(windows, boot=replace(windows.boot, boot_ini=change.after))
    assert old_boot.contribute(facts, again) == WindowsContribution()


def test_boot_ini_that_cannot_be_edited_is_a_blocker_that_says_what_to_write() -> None:
    lost = "multi(0)disk(0)rdisk(3)partition(1)\\Windows"
    for case in (
        _of_nt5(_ini("multi(0)disk(0)rdisk(0)partition(2)\\Windows")),
        _of_nt5(_ini(lost), mountpoint=""),
        _of_nt5(_ini(lost), dirty="it is marked dirty"),
        _of_nt5(_ini("C:\\")),
        _of_nt5("[boot loader]\r\n"),
    ):
        found = old_boot.contribute(*case)
        assert found.changes == ()
        assert [finding.id for finding in found.blockers] == ["windows.boot-ini"]
        assert _RIGHT in found.blockers[0].hint
    # without a file NTLDR starts the first partition
    assert [f.id for f in old_boot.contribute(*_of_nt5(None, root=_OTHER)).blockers] == ["windows.boot-ini"]
    facts, windows = _of_nt5(None)
    assert [f.id for f in old_boot.contribute(facts, replace(windows, boot=None)).blockers] == ["windows.boot-ini"]
    whole = replace(facts, partitions=(replace(_ROOT, number=0),), root=Mount("/", 0, 0))
    assert [f.id for f in old_boot.contribute(whole, windows).blockers] == ["windows.boot-ini"]


# --- boot sectors and firmware -------------------------------------------------------------------------------------------


def _head(kind: bytes, loader: bytes, *, heads: int = 255, hidden: int = 63) -> bytes:
    head = bytearray(8192)
    head[3:11] = kind
    struct.pack_into("<HI", head, 26, heads, hidden)
    head[600 : 600 + len(loader)] = loader
    return bytes(head)


def test_boot_sectors_tell_where_they_are_and_what_they_load() -> None:
    in_ntfs = struct.pack("<H", 7) + "BOOTMGR".encode("utf-16-le")
    assert read_sector(_ROOT, _head(b"NTFS    ", in_ntfs)) == BootSector(0, 1, "ntfs", 255, 63, "BOOTMGR")
    fat = bytearray(_head(b"MSDOS5.0", b"NTLDR      "))
    fat[54:59] = b"FAT16"
    assert read_sector(_ROOT, bytes(fat)) == BootSector(0, 1, "fat", 255, 63, "NTLDR")
    assert read_sector(_ROOT, _head(b"NTFS    ", b"BOOTMGR    ")).loader == ""
    assert read_sector(_ROOT, _head(b"-FVE-FS-", in_ntfs)).kind == ""
    assert read_sector(_ROOT, b"\x55\xaa").kind == ""


def _started(
    sector: BootSector, *, version: tuple[int, int] = (5, 1), size: int = 1 << 30, mountpoint: str = "/", dirty: str = ""
) -> WindowsContribution:
    facts, windows = _of_nt5(_ini(_RIGHT), mountpoint=mountpoint, dirty=dirty)
    assert windows.boot is not None
    facts = replace(facts, disks=(replace(facts.disks[0], size_bytes=size),))
    windows = replace(windows, boot=replace(windows.boot, sector=sector), version=replace(windows.version, major=version[0]))
    return boot_start.contribute(facts, windows)


_SECTOR = BootSector(0, 1, "ntfs", 64, 63, "NTLDR")


@pytest.mark.parametrize("sector, size, after", [
    (_SECTOR, 1 << 30, None),
    (replace(_SECTOR, heads=255), 1 << 30, BootGeometry(64, 63)),
    (replace(_SECTOR, heads=255), 100 << 30, None),
    (replace(_SECTOR, heads=240), 100 << 30, BootGeometry(255, 63)),
    (replace(_SECTOR, heads=128), 3 << 30, None),
    (replace(_SECTOR, hidden_sectors=2048), 1 << 30, BootGeometry(64, 63)),
    (replace(_SECTOR, heads=16, hidden_sectors=0), 1 << 30, BootGeometry(64, 63)),
    (replace(_SECTOR, kind="fat", heads=16), 1 << 30, None),
])  # fmt: skip
def test_geometry_of_old_boot_code_is_held_against_the_disk(sector: BootSector, size: int, after: BootGeometry | None) -> None:
    found = _started(sector, size=size)
    assert (found.warnings, found.blockers) == ((), ())
    if after is None:
        assert found.changes == ()
        return
    (change,) = found.changes
    assert isinstance(change, EditBootSector)
    assert (change.path, change.before, change.after) == ("/$Boot", BootGeometry(sector.heads, sector.hidden_sectors), after)


def test_heads_are_of_no_meaning_to_boot_code_of_vista_and_later() -> None:
    assert _started(replace(_SECTOR, heads=16), version=(6, 1)) == WindowsContribution()
    (change,) = _started(replace(_SECTOR, heads=16, hidden_sectors=1), version=(6, 1)).changes
    assert isinstance(change, EditBootSector)
    assert change.after == BootGeometry(16, 63)


def test_geometry_that_cannot_be_edited_is_told() -> None:
    wrong = replace(_SECTOR, heads=255, hidden_sectors=2048)
    for case in (
        _started(wrong, mountpoint=""), _started(wrong, dirty="it is marked dirty"),
    ):  # fmt: skip
        assert case.changes == ()
        assert [finding.id for finding in case.warnings] == ["windows.boot-heads"]
        assert [finding.id for finding in case.blockers] == ["windows.hidden-sectors"]
    fat = _started(replace(wrong, kind="fat"))
    assert ([f.id for f in fat.warnings], [f.id for f in fat.blockers]) == ([], ["windows.hidden-sectors"])
    assert _started(replace(wrong, kind="")) == WindowsContribution()


def test_boot_sector_of_no_loader_and_of_another_systems() -> None:
    assert [finding.id for finding in _started(replace(_SECTOR, loader="")).warnings] == ["windows.boot-sector"]
    facts, windows = _of_nt5(_ini(_RIGHT))
    assert windows.boot is not None
    windows = replace(windows, boot=replace(windows.boot, sector=replace(_SECTOR, hidden_sectors=2048, loader="")))
    # what another system's loader starts is that loader's business
    grub = replace(facts, disks=(replace(facts.disks[0], boot_code="grub2"),))
    assert boot_start.contribute(grub, windows) == WindowsContribution()


def test_disk_that_starts_it_has_to_be_the_first() -> None:
    facts, windows = _of_nt5(_ini(_RIGHT))
    assert windows.boot is not None
    second = replace(facts, disks=(replace(facts.disks[0], index=9, table="gpt"), *facts.disks))
    assert [finding.id for finding in boot_start.contribute(second, windows).blockers] == ["windows.boot-disk"]
    code = replace(facts, disks=(replace(facts.disks[0], boot_code=""),))
    assert [finding.id for finding in boot_start.contribute(code, windows).blockers] == ["windows.no-boot-code"]


def _by_uefi(
    manager: LoaderFile | None, fallback: LoaderFile | None, *, mountpoint: str = "/Windows/Boot", dirty: str = "",
    fallback_path: str = "/Windows/Boot/EFI/Boot/bootx64.efi",
) -> WindowsContribution:  # fmt: skip
    facts, windows = _of_nt5(None)
    made = WindowsBoot(0, 1, mountpoint, dirty, manager=manager, fallback=fallback, fallback_path=fallback_path)
    return boot_start.contribute(replace(facts, firmware="uefi"), replace(windows, boot=made))


def test_fallback_of_uefi_is_copied_only_where_nothing_is() -> None:
    manager = LoaderFile("/Windows/Boot/EFI/Microsoft/Boot/bootmgfw.efi", 1000, "ab" * 32, "x86_64", True)
    copied = _by_uefi(manager, None)
    (change,) = copied.changes
    assert isinstance(change, CopyFile)
    assert (change.source, change.target) == (manager.path, "/Windows/Boot/EFI/Boot/bootx64.efi")
    there = replace(manager, path="/Windows/Boot/EFI/Boot/bootx64.efi")
    assert _by_uefi(manager, there) == WindowsContribution()
    # an older copy of Windows' own stays as well
    assert _by_uefi(manager, replace(there, sha256="cd" * 32)) == WindowsContribution()
    foreign = _by_uefi(manager, replace(there, sha256="cd" * 32, is_windows=False))
    assert ([f.id for f in foreign.warnings], foreign.changes) == (["windows.foreign-fallback"], ())
    for broken in (
        _by_uefi(manager, None, mountpoint=""),
        _by_uefi(manager, None, dirty="it is marked dirty"),
        _by_uefi(replace(manager, sha256=""), None),
        _by_uefi(replace(manager, arch=""), None, fallback_path=""),
    ):
        assert [finding.id for finding in broken.blockers] == ["windows.no-fallback"]
    assert [finding.id for finding in _by_uefi(None, there).blockers] == ["windows.no-boot-manager"]


# --- disks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, number, mountpoint", [
    ("2016", 1, "/Windows/Boot"), ("win10", 1, "/Windows/Boot"), ("vista", 1, "/"), ("xp", 1, "/"),
])  # fmt: skip
def test_partition_that_starts_windows_is_found_and_shown_in_its_tree(name: str, number: int, mountpoint: str) -> None:
    facts = facts_of_sample(name)
    assert facts.windows is not None
    boot = facts.windows.boot
    assert boot is not None
    assert (boot.disk, boot.partition, boot.mountpoint) == (0, number, mountpoint)
    assert boot.sector is not None
    assert boot.sector.loader == {"2016": "BOOTMGR", "win10": "", "vista": "BOOTMGR", "xp": "NTLDR"}[name]
    assert boot.sector.hidden_sectors * 512 == next(p.offset for p in facts.partitions if p.number == number)
    shown = {mount.mountpoint: mount.partition for mount in facts.mounts}
    assert shown[mountpoint] == number
    if name == "xp":
        assert (boot.store, boot.boot_ini_path) == (None, "/boot.ini")
        assert boot_ini.default_path(boot.boot_ini or "") == _C
        return
    assert boot.store is not None
    assert boot.store.default == written.LOADER
    path = "EFI/Microsoft/Boot/BCD" if name == "win10" else "Boot/BCD"
    assert facts.windows.registry[BCD].path == f"{mountpoint.rstrip('/')}/{path}"
    if name == "win10":
        assert boot.manager is not None
        assert boot.fallback is not None
        assert (boot.manager.arch, boot.manager.sha256) == ("x86_64", boot.fallback.sha256)
        assert boot.fallback_path == "/Windows/Boot/EFI/Boot/bootx64.efi"


def test_of_several_systems_the_default_is_taken_and_the_other_told() -> None:
    facts = facts_of_sample("multi-boot")
    assert facts.os is not None
    assert facts.os.id == "win7"
    assert facts.root is not None
    assert facts.root.partition == 2
    assert any("partition 3" in note and "another Windows" in note for note in facts.notes)
    assert plan_guest(facts, PlanOptions()).blockers == ()


def test_partition_without_a_place_in_the_tree_is_read_and_nothing_on_it_is_changed() -> None:
    facts = facts_of_sample("2016")
    layout = Layout.of(facts)
    readers = [RawReader(path) for path in windows_disks(named("2016"))]
    try:
        (found,), _ = find_windows(layout, readers)
        elsewhere = replace(found, root="/Nowhere")
        starting, notes = find_starting(layout, elsewhere, readers)
        assert (starting is not None, notes) == (True, ())
        assert starting is not None
        assert (starting.mountpoint, starting.apart) == ("", True)
        boot = starting.read()
    finally:
        for reader in readers:
            reader.close()
    assert facts.windows is not None
    assert boot.hive is not None
    assert boot.boot.store is not None
    bare = replace(facts, windows=replace(facts.windows, boot=boot.boot, registry={**facts.windows.registry, BCD: boot.hive}))
    plan = plan_guest(bare, PlanOptions())
    assert plan.blockers == ()
    assert not any("BCD" in change.path for change in plan.changes)
    moved = replace(bare, disks=tuple(replace(disk, disk_id="0badf00d") for disk in bare.disks))
    assert "windows.boot-entry-elsewhere" in {finding.id for finding in plan_guest(moved, PlanOptions()).blockers}


def test_boot_partition_that_is_dirty_is_a_blocker() -> None:
    facts = facts_of_sample("2016")
    assert facts.windows is not None
    assert facts.windows.boot is not None
    dirty = replace(facts, windows=replace(facts.windows, boot=replace(facts.windows.boot, dirty="it is marked dirty")))
    found = {finding.id: finding.message for finding in plan_guest(dirty, PlanOptions()).blockers}
    assert "partition 1" in found["windows.dirty-volume"]


def test_windows_inside_of_a_vhd_is_a_blocker(tmp_path: Path) -> None:
    native = {f"Objects\\{written.LOADER}\\Elements\\21000001": {"Element": binary(_nested_vhd())}}
    store = make_hive(boot_store(more=native), name="BCD")
    facts = facts_of(ntfs_disk(tmp_path / "disk.img", {**windows_files(), "/Boot/BCD": store}))
    assert {finding.id for finding in plan_guest(facts, PlanOptions()).blockers} == {"windows.boot-virtual-disk"}
