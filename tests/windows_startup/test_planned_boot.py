"""The boot configuration that is planned, in sample guests whose own leads nowhere: they start, and not without any one of it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from drivers.changes import CarryFile, Change, CopyFile, DeleteFile, EditFile, EditHive, WriteFile
from drivers.plan import GuestPlan, PlanOptions
from drivers.windows.driver_changes import members_of
from drivers.windows.driver_choice import choose_drivers
from drivers.windows.facts import BCD
from drivers.windows.media import MediumMember
from drivers.windows.offer import DriverOffer, target_of
from drivers.windows.regf import Value
from drivers.windows.virtio_win import read_catalogue
from tests.drivers.memory_tree import InMemoryTree
from tests.fixtures.hives import binary, dword, sz
from tests.fixtures.windows import MACHINES, VERSIONS, WindowsGuest, bcd, pe, records
from tests.fixtures.windows.rows import rows
from tests.windows_startup import devices
from tests.windows_startup.editing import RemoveKey, Set, edited
from tests.windows_startup.guests import Sample, on_virtio, sample
from tests.windows_startup.planned import facts_of, plan_of, rewritten
from tests.windows_startup.startup import start
from tests.windows_startup.test_planned_drivers import MEDIUM
from tests.windows_startup.verdict import Doubt, Reason, Target

_ENTRY = re.escape(f"Objects\\{bcd.LOADER}\\Elements")
_OWN_SIGNATURE = struct.pack("<I", 0x0BADF00D)
_GPT_SYSTEM_AT = 1024 + 2 * 128 + 16
_OTHER_LOADER = pe.program(pe.Arch.X64, pe.Subsystem.EFI_APPLICATION, "another system's loader")
_SCSI = "scsi(0)disk(0)rdisk(0)partition(1)"
_CONTROLLERS = {
    "ide": (devices.PIIX_IDE,), "sata": (devices.AHCI,),
    "virtio-blk": (devices.VIRTIO_BLK, devices.VIRTIO_BLK_MODERN), "virtio-scsi": (devices.VIRTIO_SCSI, devices.VIRTIO_SCSI_MODERN),
}  # fmt: skip


def blockers(found: Sample) -> set[str]:
    """The ids of what keeps a sample from being converted."""
    return _own(found, plan_of(found))


def _own(found: Sample, plan: GuestPlan) -> set[str]:
    # KVM's machine for ARM64 has virtio's disks only, and no medium is named here
    common = {"windows.no-disk-driver"} if found.guest.arch is pe.Arch.ARM64 else set[str]()
    return {finding.id for finding in plan.blockers} - common


def warnings(found: Sample) -> set[str]:
    return {finding.id for finding in plan_of(found).warnings}


def left_to_do(again: GuestPlan, plan: GuestPlan) -> list[Change]:
    """What a second plan would still change. Files that were put there whole are in no facts: both plans have them, alike."""
    there = [change for change in plan.changes if isinstance(change, CarryFile | WriteFile)]
    carried = {change.path for change in there if isinstance(change, CarryFile)}
    # facts in memory have drivers without contents, which the same ones are to replace
    again_removed = [change for change in again.changes if isinstance(change, DeleteFile) and change.path in carried]
    return [change for change in again.changes if change not in (*there, *again_removed)]


@pytest.mark.parametrize("guest", rows((*VERSIONS, *MACHINES)))
def test_guest_starts_on_every_bus_that_its_plan_promises_and_a_second_plan_changes_nothing(guest: WindowsGuest) -> None:
    """Not on the machine that it leaves: drivers of that one's controller are among what is disabled."""
    with sample(guest.name) as found:
        assert blockers(found) == set()
        plan = plan_of(found)
        assert plan.caps.disk_buses == _own_buses(guest)
        after = rewritten(found, plan)
        for bus in plan.caps.disk_buses:
            for controller in _CONTROLLERS[bus]:
                for last_known_good in (False, True):
                    moved = start(after.machine, _on_kvm(after, controller), last_known_good=last_known_good)
                    assert (moved.stop, moved.doubts) == (None, ()), (bus, moved)
        assert left_to_do(plan_of(after), plan) == []


@pytest.mark.parametrize("guest", rows(guest for guest in (*VERSIONS, *MACHINES) if guest.version.nt >= (5, 1)))
def test_guest_with_a_medium_starts_on_virtio_and_its_plan_still_promises_the_other_buses(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        options = PlanOptions(drivers=_offer(found))
        plan = plan_of(found, options)
        virtio = ("virtio-blk", "virtio-scsi") if guest.version.nt >= (6, 0) else ("virtio-blk",)
        assert plan.caps.disk_buses == (*virtio, *_own_buses(guest))
        after = _with_programs(rewritten(found, plan), plan)
        for bus in plan.caps.disk_buses:
            for controller in _CONTROLLERS[bus]:
                moved = start(after.machine, _on_kvm(after, controller))
                assert (moved.stop, moved.doubts) == (None, ()), (bus, moved)
        assert left_to_do(plan_of(after, options), plan) == []


def _own_buses(guest: WindowsGuest) -> tuple[str, ...]:
    """Those of KVM's that Windows brings drivers for: the machine for ARM64 has virtio's alone."""
    if guest.arch is pe.Arch.ARM64:
        return ()
    return ("sata", "ide") if guest.version.nt >= (6, 0) else ("ide",)


def _on_kvm(found: Sample, controller: devices.Device) -> Target:
    target = found.target(controller)
    return replace(target, heads=devices.seabios_heads(found.machine.disks[0].reader.virtual_size))


def _offer(found: Sample) -> DriverOffer:
    windows = facts_of(found).windows
    assert windows is not None
    target = target_of(windows)
    assert target is not None
    catalogue = read_catalogue(InMemoryTree(MEDIUM.files), "/medium", "folder")
    choice = choose_drivers(catalogue, target)
    located = [MediumMember(path, path, None, len(MEDIUM.files[path]), "") for path in members_of(choice, catalogue)]
    return DriverOffer(catalogue, choice, tuple(located))


def _with_programs(found: Sample, plan: GuestPlan) -> Sample:
    """The programs of drivers that are carried in, as stand-ins for the guest's processor."""
    carried = [change for change in plan.changes if isinstance(change, CarryFile) and change.path.lower().endswith(".sys")]
    program = pe.program(found.guest.arch, pe.Subsystem.NATIVE, "a driver")
    return found.with_files({change.path.lstrip("/"): program for change in carried if "/drivers/" in change.path.lower()})


@pytest.mark.parametrize("name", ["xp", "2003", "nt4-server", "win2000-server"])
def test_old_boot_code_counts_with_the_heads_of_the_new_machine(name: str) -> None:
    with sample(name) as found:
        target = replace(found.at_home, heads=devices.seabios_heads(found.machine.disks[0].reader.virtual_size))
        assert start(found.machine, target).reason is Reason.GEOMETRY
        plan = plan_of(found)
        after = rewritten(found, plan)
        assert start(after.machine, target).stop is None
        without = rewritten(found, plan, lambda what: what != "/$Boot")
        assert start(without.machine, target).reason is Reason.GEOMETRY


@pytest.mark.parametrize("name", ["2016", "vista", "xp"])
def test_boot_code_is_told_where_its_partition_begins(name: str) -> None:
    with sample(name) as found:
        lost = found.with_bytes({found.boot.offset + 28: bytes(4)})
        controller = found.guest.machine.controller
        assert lost.start(controller).reason is Reason.HIDDEN_SECTORS
        plan = plan_of(lost)
        assert plan.blockers == ()
        assert rewritten(lost, plan).start(controller).stop is None
        without = rewritten(lost, plan, lambda what: not what.endswith("/$Boot"))
        assert without.start(controller).reason is Reason.HIDDEN_SECTORS


def test_fat_volume_in_another_place_is_a_blocker() -> None:
    with sample("nt4-workstation") as found:
        assert blockers(found.with_bytes({found.boot.offset + 28: bytes(4)})) == {"windows.hidden-sectors"}


def _store(found: Sample) -> str:
    return "EFI/Microsoft/Boot/BCD" if found.guest.layout.gpt else "Boot/BCD"


def _in_store(key: str, device: bcd.MbrPlace | bcd.GptPlace) -> Callable[[Sample], Sample]:
    def change(found: Sample) -> Sample:
        data = found.read(_store(found), found.boot)
        return found.with_files({_store(found): edited(data, [Set(key, "Element", bcd.device(device))])}, found.boot)

    return change


def _patched(patches: dict[int, bytes]) -> Callable[[Sample], Sample]:
    return lambda found: found.with_bytes(patches)


def _without(*paths: str) -> Callable[[Sample], Sample]:
    return lambda found: found.with_files(dict.fromkeys(paths), found.boot)


def _boot_ini(path: str) -> Callable[[Sample], Sample]:
    def change(found: Sample) -> Sample:
        text = f'[boot loader]\r\ntimeout=30\r\ndefault={path}\r\n[operating systems]\r\n{path}="Windows" /fastdetect\r\n'
        return found.with_files({"boot.ini": text.encode()}, found.boot)

    return change


@dataclass(frozen=True)
class Broken:
    """A guest, what is changed about it, why it stops then; and expressions for what of the plan it needs to start."""

    guest: str
    change: Callable[[Sample], Sample]
    reason: Reason
    needed: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.guest}: {self.reason.name}"


_DEVICE, _OS_DEVICE = rf"{_ENTRY}\\11000001: Element", rf"{_ENTRY}\\21000001: Element"
_ELSEWHERE = bcd.MbrPlace(0x0BADF00D, 63 * 512)
_BROKEN = (
    # another signature on the disk: its own Windows gives it one where two have the same
    Broken("2016", _patched({440: _OWN_SIGNATURE}), Reason.ENTRY_DEVICE, (_DEVICE, _OS_DEVICE)),
    Broken("win7", _patched({440: _OWN_SIGNATURE}), Reason.ENTRY_DEVICE, (_DEVICE, _OS_DEVICE)),
    Broken("vista", _patched({440: _OWN_SIGNATURE}), Reason.ENTRY_DEVICE, (_DEVICE, _OS_DEVICE)),
    # a store that was made on a disk from which this one was copied
    Broken("2012", _in_store(f"Objects\\{bcd.LOADER}\\Elements\\21000001", _ELSEWHERE), Reason.ENTRY_DEVICE, (_OS_DEVICE,)),
    Broken("2012", _in_store(f"Objects\\{bcd.LOADER}\\Elements\\11000001", _ELSEWHERE), Reason.ENTRY_DEVICE, (_DEVICE,)),
    Broken("win10", _patched({512 + 56: bytes(range(16))}), Reason.ENTRY_DEVICE, (_DEVICE, _OS_DEVICE)),
    Broken("2022-core", _patched({_GPT_SYSTEM_AT: bytes(range(16))}), Reason.ENTRY_DEVICE, (_DEVICE, _OS_DEVICE)),
    Broken("win10", _without("EFI/Boot/bootx64.efi"), Reason.NO_EFI_LOADER, ("/Windows/Boot/EFI/Boot/bootx64.efi",)),
    Broken("win11-arm64", _without("EFI/Boot/bootaa64.efi"), Reason.NO_EFI_LOADER, ("/Windows/Boot/EFI/Boot/bootaa64.efi",)),
    Broken("xp", _boot_ini("multi(0)disk(0)rdisk(1)partition(1)\\WINDOWS"), Reason.NO_BOOT_INI_PATH, ("/boot.ini",)),
    Broken("win2000-server", _boot_ini(f"{_SCSI}\\WINNT"), Reason.NEEDS_NTBOOTDD, ("/boot.ini",)),
    Broken("2003", _boot_ini("signature(5ec0ae12)disk(0)rdisk(0)partition(1)\\WINDOWS"), Reason.NEEDS_NTBOOTDD, ("/boot.ini",)),
)  # fmt: skip


def _is_sound(found: Sample) -> Sample:
    """GPT's checksums are of what it was before: the product holds them against it, so they are made anew."""
    disk = found.machine.disks[0]
    if disk.guid is None:
        return found
    header = bytearray(disk.reader.pread(92, 512))
    entries_at, count, size = struct.unpack_from("<QII", header, 72)
    struct.pack_into("<I", header, 88, zlib.crc32(disk.reader.pread(count * size, entries_at * 512)))
    struct.pack_into("<I", header, 16, 0)
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
    return found.with_bytes({512: bytes(header)})


@pytest.mark.parametrize("broken", _BROKEN, ids=lambda broken: broken.name)
def test_what_leads_nowhere_is_planned_anew_and_each_part_of_it_is_needed(broken: Broken) -> None:
    with sample(broken.guest) as found:
        lost = _is_sound(broken.change(found))
        assert lost.start(found.guest.machine.controller).reason is broken.reason
        plan = plan_of(lost)
        assert _own(found, plan) == set()
        after = rewritten(lost, plan)
        at_home = after.start(found.guest.machine.controller)
        assert (at_home.stop, at_home.doubts) == (None, ()), at_home
        assert left_to_do(plan_of(after), plan) == []
        for needed in broken.needed:
            wanted = re.compile(needed, re.IGNORECASE)
            made = list[str]()

            def kept(what: str, wanted: re.Pattern[str] = wanted, made: list[str] = made) -> bool:
                made.append(what)
                return wanted.fullmatch(what) is None

            without = rewritten(lost, plan, kept).start(found.guest.machine.controller)
            assert any(wanted.fullmatch(what) for what in made), needed
            assert without.reason is broken.reason, without


def test_every_object_that_names_the_lost_place_is_told_the_new_one() -> None:
    with sample("2016") as found:
        lost = found.with_bytes({440: _OWN_SIGNATURE})
        after = facts_of(rewritten(lost, plan_of(lost))).windows
    assert after is not None
    assert after.boot is not None
    assert after.boot.store is not None
    places = {object_.id: str(object_.device) for object_ in after.boot.store.objects if object_.device is not None}
    assert len(places) == 4
    assert all("0badf00d" in place for place in places.values())
    first = f"byte {records.MIB} "
    assert {id_ for id_, place in places.items() if first in place} == {bcd.BOOT_MANAGER, bcd.MEMORY_DIAGNOSER}


def test_another_systems_fallback_stays_and_is_told() -> None:
    with sample("win10") as found:
        beside = found.with_files({"EFI/Boot/bootx64.efi": _OTHER_LOADER}, found.boot)
        plan = plan_of(beside)
        assert not any(isinstance(change, CopyFile) for change in plan.changes)
        assert "windows.foreign-fallback" in {finding.id for finding in plan.warnings}
        assert "windows.foreign-fallback" not in warnings(found)


@pytest.mark.parametrize("name", ["2016", "xp"])
def test_guest_whose_version_cannot_be_read_is_told_of_that_alone(name: str) -> None:
    with sample(name) as found:
        unread = found.with_files({found.path("system32/config/SOFTWARE"): b"no hive"})
        assert blockers(unread) == {"windows.hive-unreadable"}
        assert not any(change.path.endswith("$Boot") for change in plan_of(unread).changes)


def _with_letter(found: Sample, data: bytes) -> Sample:
    return found.with_hive("SYSTEM", [Set("MountedDevices", "\\DosDevices\\C:", binary(data))])


@pytest.mark.parametrize("name", ["xp", "2016", "win10"])
def test_letter_of_the_system_follows_its_partition(name: str) -> None:
    with sample(name) as found:
        lost = _with_letter(found, struct.pack("<IQ", 0x0BADF00D, 1 << 20))
        controller = found.guest.machine.controller
        assert [doubt for doubt, _ in lost.start(controller).doubts] == [Doubt.DRIVE_LETTER]
        assert rewritten(lost, plan_of(lost)).start(controller).doubts == ()
        without = rewritten(lost, plan_of(lost), lambda what: not what.startswith("MountedDevices"))
        assert [doubt for doubt, _ in without.start(controller).doubts] == [Doubt.DRIVE_LETTER]


def test_letter_that_another_partition_has_is_left_to_its_owner() -> None:
    with sample("2016") as found:
        assert blockers(_with_letter(found, struct.pack("<IQ", records.SIGNATURE, records.MIB))) == {"windows.drive-letter"}


@pytest.mark.parametrize("name", ["data-offline", "2019"])
def test_further_disks_are_online(name: str) -> None:
    with sample(name) as found:
        ready = on_virtio(found)
        assert Doubt.DATA_DISK_OFFLINE in {doubt for doubt, _ in ready.start(devices.VIRTIO_BLK).doubts}
        after = rewritten(ready, plan_of(ready))
        assert Doubt.DATA_DISK_OFFLINE not in {doubt for doubt, _ in after.start(devices.VIRTIO_BLK).doubts}
        last = after.start(devices.VIRTIO_BLK, last_known_good=True)
        assert Doubt.DATA_DISK_OFFLINE not in {doubt for doubt, _ in last.doubts}
        clustered = found.with_hive("SYSTEM", [Set(f"{found.booted_set}\\Services\\ClusSvc", "Start", dword(2))])
        kept = plan_of(clustered)
        assert [finding.id for finding in kept.warnings].count("windows.cluster-disks") == 1
        hives = [change for change in kept.changes if isinstance(change, EditHive)]
        assert not any("partmgr" in each.key for change in hives for each in change.edits)


def test_disks_that_windows_cannot_tell_apart_are_told() -> None:
    with sample("2019") as found:
        second = found.machine.with_bytes(1, {440: struct.pack("<I", records.SIGNATURE)})
        told = [each for each in plan_of(replace(found, machine=second)).warnings if each.id == "windows.same-signature"]
        assert len(told) == 1
        assert "disks 1 and 2" in told[0].message
        assert "windows.same-signature" not in warnings(found)


_MBR = (
    ("windows.no-boot-code", {0: bytes(440)}),
    ("windows.no-active-partition", {446: b"\0"}),
    ("windows.no-active-partition", {446: b"\0", 446 + 16: b"\x80"}),
    ("windows.several-active", {446 + 16: b"\x80"}),
)


@pytest.mark.parametrize("id_, patches", _MBR)
def test_way_from_a_bios_that_cannot_be_repaired_here_is_a_blocker(id_: str, patches: dict[int, bytes]) -> None:
    with sample("2016") as found:
        lost = found.with_bytes(patches)
        assert lost.start(found.guest.machine.controller).stop is not None
        assert blockers(lost) == {id_}


@pytest.mark.parametrize("edits, id_", [
    ([RemoveKey(f"Objects\\{bcd.LOADER}")], "windows.no-boot-entry"),
    ([Set(f"Objects\\{bcd.LOADER}\\Elements\\22000002", "Element", sz("\\Other"))], "windows.boot-entry-elsewhere"),
    ([Set(f"Objects\\{bcd.LOADER}\\Description", "Type", dword(0x10400008))], "windows.boot-entry-elsewhere"),
    ([Set(f"Objects\\{bcd.LOADER}\\Elements\\21000001", "Element", binary(bytes(88)))], "windows.boot-device"),
    ([RemoveKey(f"Objects\\{bcd.LOADER}\\Elements\\21000001")], "windows.boot-device"),
    (
        [Set(f"Objects\\{bcd.LOADER}\\Elements\\21000001", "Element", bcd.device(bcd.MbrPlace(records.SIGNATURE, records.MIB)))],
        "windows.boot-entry-elsewhere",
    ),
])  # fmt: skip
def test_entry_that_starts_something_else_is_a_blocker(edits: list[Set | RemoveKey], id_: str) -> None:
    with sample("2016") as found:
        lost = found.with_files({"Boot/BCD": edited(found.read("Boot/BCD", found.boot), edits)}, found.boot)
        assert blockers(lost) == {id_}


def test_store_that_is_gone_or_no_hive_is_a_blocker() -> None:
    with sample("2016") as found:
        assert blockers(found.with_files({"Boot/BCD": None}, found.boot)) == {"windows.no-boot-store"}
        assert blockers(found.with_files({"Boot/BCD": b"x" * 9000}, found.boot)) == {"windows.hive-unreadable"}
        no_signature = found.with_bytes({440: bytes(4)})
        assert blockers(no_signature) == {"windows.no-disk-signature"}


def test_settings_of_the_entry_that_starts() -> None:
    with sample("2016") as found:
        loader = f"Objects\\{bcd.LOADER}\\Elements"
        edits = [
            Set(f"{loader}\\16000046", "Element", binary(b"\1")),
            Set(f"{loader}\\250000e0", "Element", binary(struct.pack("<Q", 0))),
            Set(f"{loader}\\25000080", "Element", binary(struct.pack("<Q", 0))),
        ]
        changed = found.with_files({"Boot/BCD": edited(found.read("Boot/BCD", found.boot), edits)}, found.boot)
        assert "windows.safe-boot" in warnings(changed)
        after = facts_of(rewritten(changed, plan_of(changed))).windows
    assert after is not None
    store = after.registry[BCD]
    assert [store.value(f"{loader}\\{name}", "Element") for name in ("16000046", "250000e0")] == [
        _value(b"\0"), _value(struct.pack("<Q", 1)),
    ]  # fmt: skip


def _value(data: bytes) -> object:
    return Value("Element", 3, data)


def test_boot_ini_that_starts_another_partition_is_left_to_its_owner() -> None:
    with sample("2003") as found:
        assert blockers(_boot_ini("C:\\\\other.bin")(found)) == {"windows.boot-ini"}
        assert not any(isinstance(change, EditFile) for change in plan_of(found).changes)
