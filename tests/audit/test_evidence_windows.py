"""Findings of Windows guests point at registry values, boot entries and files that the facts hold, and at bytes of their disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition
from drivers.plan import Finding
from drivers.windows import bcd
from drivers.windows.boot_facts import BootSector, LoaderFile, WindowsBoot
from drivers.windows.c_bcd import OS_LOADER
from drivers.windows.facts import BCD, SOFTWARE, SYSTEM, ControlSets, HiveLog, WindowsFacts, WindowsVersion
from drivers.windows.versions import CURRENT_VERSION
from p2v.audit.evidence import evidence_of
from p2v.audit.examined import Examined
from p2v.audit.findings import Evidence, EvidenceKind
from tests.audit.planned_guests import disk_path, examined, pieces
from tests.drivers.linux.guest import facts_of, files
from tests.drivers.windows.guest_disk import boot_store
from tests.drivers.windows.guest_facts import facts, service
from tests.drivers.windows.test_boot_configuration import hive_of
from tests.drivers.windows.test_network import STATIC, adapter_keys, facts_with
from tests.drivers.windows.test_states import GUARD, SERVICING, SPACES, data, locked, machine
from tests.fixtures.hives import Tree, binary, dword, multi_sz, sz
from tests.fixtures.windows import bcd as written

SET = "ControlSet001"
MIB = 1 << 20
ROOT = Partition(0, 1, MIB, 1 << 30, "07", bootable=True, partuuid="44332211-01", filesystem=FileSystem("ntfs"))
MBR = Disk(0, 4 << 30, "mbr", "44332211", "windows")


def windows(
    system: Tree | None = None, software: Tree | None = None, version: tuple[int, int] = (10, 0)
) -> WindowsFacts:
    return facts(system or {}, software, version=version)


def guest(found: WindowsFacts, on: GuestFacts | None = None) -> Examined:
    return examined(replace(on or machine(), windows=found))


def registry(path: str, text: str = "") -> Evidence:
    return Evidence(EvidenceKind.REGISTRY, path, text=text)


def bytes_at(offset: int, text: str, disk: int = 0) -> Evidence:
    return Evidence(EvidenceKind.BYTES, disk_path(disk), offset=offset, text=text)


# --- registry --------------------------------------------------------------------------------------------------------------

_POWER, _OPTIONS = f"{SET}\\Control\\Session Manager\\Power", f"{SET}\\Control\\ProductOptions"
_VERSION_KEY = f"SOFTWARE\\{CURRENT_VERSION}"
_GUARD_POLICY = "Policies\\Microsoft\\Windows\\DeviceGuard"


@pytest.mark.parametrize(
    "id_, system, software, expected",
    [
        ("windows.vbs", {GUARD: {"EnableVirtualizationBasedSecurity": dword(1), "Locked": dword(1)}}, {},
         [registry(f"SYSTEM\\{GUARD}\\EnableVirtualizationBasedSecurity", "1")]),
        ("windows.vbs", {f"{SET}\\Control\\Lsa": {"LsaCfgFlags": dword(2)}}, {_GUARD_POLICY: {"LsaCfgFlags": dword(0)}},
         [registry(f"SYSTEM\\{SET}\\Control\\Lsa\\LsaCfgFlags", "2")]),
        ("windows.vbs", {}, {_GUARD_POLICY: {"LsaCfgFlags": dword(1)}}, [registry(f"SOFTWARE\\{_GUARD_POLICY}\\LsaCfgFlags", "1")]),
        ("windows.vbs-mandatory", {GUARD: {"EnableVirtualizationBasedSecurity": dword(1), "Mandatory": dword(1)}}, {},
         [registry(f"SYSTEM\\{GUARD}\\Mandatory", "1")]),
        ("windows.s-mode", {f"{SET}\\Control\\CI\\Policy": {"SkuPolicyRequired": dword(1)}}, {},
         [registry(f"SYSTEM\\{SET}\\Control\\CI\\Policy\\SkuPolicyRequired", "1")]),
        ("windows.write-filter", {f"{SET}\\Services\\uwfvol": service(0), f"{SET}\\Services\\ewf": service(4)}, {},
         [registry(f"SYSTEM\\{SET}\\Services\\uwfvol\\Start", "0")]),
        ("windows.cluster", {f"{SET}\\Services\\ClusSvc": service(2)}, {},
         [registry(f"SYSTEM\\{SET}\\Services\\ClusSvc\\Start", "2")]),
        ("windows.generalized", {}, {SERVICING: {"ImageState": sz("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE")}},
         [registry(f"SOFTWARE\\{SERVICING}\\ImageState", "IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE")]),
        ("windows.activation-oem", {}, {CURRENT_VERSION: {"ProductId": sz("76487-OEM-0011903-00102")}},
         [registry(f"{_VERSION_KEY}\\ProductId", "76487-OEM-0011903-00102")]),
        ("windows.embedded", {"WPA\\PosReady": {"Installed": dword(1)}}, {}, [registry("SYSTEM\\WPA\\PosReady\\Installed", "1")]),
        ("windows.embedded", {f"{SET}\\Control\\ProductOptions": {"ProductSuite": multi_sz("Terminal Server", "EmbeddedNT")}}, {},
         [registry(f"SYSTEM\\{SET}\\Control\\ProductOptions\\ProductSuite", "Terminal Server; EmbeddedNT")]),
    ],
)  # fmt: skip
def test_a_state_points_at_the_values_that_tell_of_it(
    id_: str, system: Tree, software: Tree, expected: list[Evidence]
) -> None:
    assert list(pieces(guest(windows(system, software)), id_)) == expected


def test_a_binary_value_is_pointed_at_and_not_shown() -> None:
    raw = bytearray(1272)
    raw[1016:1028] = "OEM:DM".encode("utf-16-le")
    found = pieces(
        guest(windows({}, {CURRENT_VERSION: {"DigitalProductId4": binary(bytes(raw))}})), "windows.activation-oem"
    )
    assert found == (registry(f"{_VERSION_KEY}\\DigitalProductId4"),)


def test_set_up_that_is_under_way_points_at_its_values() -> None:
    tree: Tree = {
        "Setup": {"CmdLine": sz("C:\\$WINDOWS.~BT\\Sources\\SetupHost.Exe"), "SystemSetupInProgress": dword(1)}
    }
    found = replace(windows(tree), pending=("its own set-up",))
    assert pieces(guest(found), "windows.upgrading") == (
        registry("SYSTEM\\Setup\\CmdLine", "C:\\$WINDOWS.~BT\\Sources\\SetupHost.Exe"),
    )
    plain = replace(
        windows({"Setup": {"CmdLine": sz("oobe\\windeploy.exe"), "OOBEInProgress": dword(1)}}),
        pending=("its own set-up",),
    )
    assert pieces(guest(plain), "windows.set-up") == (registry("SYSTEM\\Setup\\OOBEInProgress", "1"),)


@pytest.mark.parametrize(
    "what, system, software, expected",
    [
        ("files to be renamed or removed at the next start",
         {f"{SET}\\Control\\Session Manager": {"PendingFileRenameOperations": multi_sz("\\??\\C:\\a")}}, {},
         registry(f"SYSTEM\\{SET}\\Control\\Session Manager\\PendingFileRenameOperations", "\\??\\C:\\a")),
        ("updates that it is in the middle of", {},
         {"Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootInProgress": {}},
         registry("SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootInProgress")),
        ("updates of Windows that a start has to finish", {},
         {"Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending": {}},
         registry("SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending")),
        ("a restart that Windows Update asks for", {},
         {"Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired": {}},
         registry("SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired")),
    ],
)  # fmt: skip
def test_what_waits_for_the_next_start_points_at_what_says_so(
    what: str, system: Tree, software: Tree, expected: Evidence
) -> None:
    assert pieces(guest(replace(windows(system, software), pending=(what,))), "windows.pending") == (expected,)


def test_an_adapters_settings_are_pointed_at() -> None:
    found = facts_with(adapter_keys(STATIC))
    (first, *_) = pieces(guest(found), "windows.addresses")
    assert first.where.startswith(f"SYSTEM\\{SET}\\Services\\Tcpip\\Parameters\\Interfaces\\{{")
    assert first.where.endswith("\\IPAddress")
    assert first.text == "10.0.0.5"


def test_programs_point_at_their_entry_in_the_list_of_installed_ones() -> None:
    listed = "Microsoft\\Windows\\CurrentVersion\\Uninstall"
    tree: Tree = {f"{listed}\\A": {"DisplayName": sz("VMware Tools")}, f"{listed}\\B": {"DisplayName": sz("Editor")}}
    found = pieces(guest(windows({}, tree)), "windows.leftover")
    assert found == (registry(f"SOFTWARE\\{listed}\\A\\DisplayName", "VMware Tools"),)


def test_a_letter_points_at_its_value() -> None:
    gone = (0x0BADCAFE).to_bytes(4, "little") + MIB.to_bytes(8, "little")
    own = bytes.fromhex("11223344") + MIB.to_bytes(8, "little")
    letters: Tree = {"MountedDevices": {"\\DosDevices\\C:": binary(own), "\\DosDevices\\E:": binary(gone)}}
    found = windows(letters, {CURRENT_VERSION: {"SystemRoot": sz("C:\\Windows")}})
    on = replace(machine(), disks=(MBR,), partitions=(ROOT,))
    assert pieces(guest(found, on), "windows.lost-letters") == (
        registry("SYSTEM\\MountedDevices\\\\DosDevices\\E:", gone.hex()),
    )


def test_a_hal_points_at_the_computers_class() -> None:
    key = f"{SET}\\Control\\Class\\{{4D36E966-E325-11CE-BFC1-08002BE10318}}\\0000"
    found = windows({key: {"MatchingDeviceId": sz("e_isa_up")}}, version=(5, 1))
    assert pieces(guest(found), "windows.hal-no-acpi") == (registry(f"SYSTEM\\{key}\\MatchingDeviceId", "e_isa_up"),)


@pytest.mark.parametrize(
    "id_, system, software, changes, expected",
    [
        ("windows.fast-startup", {_POWER: {"HiberbootEnabled": dword(1)}}, {}, {"fast_startup": True},
         [f"SYSTEM\\{_POWER}\\HiberbootEnabled"]),
        ("windows.no-control-set", {"Select": {"Current": dword(3)}}, {}, {"control_sets": ControlSets(3, 3, 0, 3, (1,))},
         ["SYSTEM\\Select\\Current"]),
        ("windows.version-unknown", {}, {CURRENT_VERSION: {}}, {"version": WindowsVersion(0, 0, 0)}, [_VERSION_KEY]),
        ("windows.too-old", {}, {CURRENT_VERSION: {"CurrentVersion": sz("3.51")}}, {"version": WindowsVersion(3, 51, 0)},
         [f"{_VERSION_KEY}\\CurrentVersion"]),
        ("windows.evaluation", {}, {CURRENT_VERSION: {"EditionID": sz("ServerStandardEval")}},
         {"version": WindowsVersion(10, 0, 17763, edition_id="ServerStandardEval")}, [f"{_VERSION_KEY}\\EditionID"]),
        ("windows.domain-controller", {_OPTIONS: {"ProductType": sz("LanmanNT")}}, {},
         {"version": WindowsVersion(10, 0, 17763, product_type="LanmanNT")}, [f"SYSTEM\\{_OPTIONS}\\ProductType"]),
        ("windows.no-generation-id", {_OPTIONS: {"ProductType": sz("LanmanNT")}}, {},
         {"version": WindowsVersion(6, 1, 7600, product_type="LanmanNT")}, [f"SYSTEM\\{_OPTIONS}\\ProductType"]),
        ("windows.hal-one-processor", {}, {CURRENT_VERSION: {"CurrentType": sz("Uniprocessor Free")}},
         {"version": WindowsVersion(5, 0, 2195)}, [f"{_VERSION_KEY}\\CurrentType"]),
    ],
)  # fmt: skip
def test_what_it_is_points_at_what_says_so(
    id_: str, system: Tree, software: Tree, changes: Mapping[str, object], expected: list[str]
) -> None:
    found = replace(windows(system, software), **changes)  # type: ignore[arg-type]
    assert [each.where for each in pieces(guest(found), id_)] == expected


def test_a_hive_that_cannot_be_read_points_at_its_file_with_what_is_wrong() -> None:
    found = windows()
    sound = found.registry[SYSTEM]
    unreadable, damaged = (
        replace(sound, state="unreadable", problem="no header"),
        replace(sound, remarks=("a key lies outside",)),
    )
    for hive, id_ in ((unreadable, "windows.hive-unreadable"), (damaged, "windows.hive-damaged")):
        (piece,) = pieces(guest(replace(found, registry={**found.registry, SYSTEM: hive})), id_)
        assert (piece.where, piece.text) == ("/Windows/System32/config/SYSTEM", hive.problem or hive.remarks[0])


def test_a_letter_of_another_partition_and_a_team_point_at_their_keys() -> None:
    other = replace(ROOT, number=2, offset=2 << 30, partuuid="44332211-02", bootable=False)
    there = bytes.fromhex("11223344") + (2 << 30).to_bytes(8, "little")
    letters: Tree = {"MountedDevices": {"\\DosDevices\\C:": binary(there)}}
    found = windows(letters, {CURRENT_VERSION: {"SystemRoot": sz("C:\\Windows")}})
    on = replace(machine(), disks=(MBR,), partitions=(ROOT, other))
    assert pieces(guest(found, on), "windows.drive-letter") == (
        registry("SYSTEM\\MountedDevices\\\\DosDevices\\C:", there.hex()),
    )
    team = facts_with(adapter_keys(STATIC, instance="ROOT\\COMPOSITEBUS\\0000"))
    (first, *_) = pieces(guest(team), "windows.virtual-adapter")
    assert first.where.endswith("\\IPAddress")


@pytest.mark.parametrize(
    "id_, on, more, expected",
    [
        (
            "windows.dirty-data",
            machine(data(filesystem=FileSystem("ntfs", why_not_host="it is marked dirty"))),
            {},
            [(1, MIB)],
        ),
        ("windows.deduplicated", machine(data()), {"deduplicated": ("disk 2, partition 1",)}, [(1, MIB)]),
        ("windows.dynamic-data", machine(data(1, "42")), {}, [(1, MIB)]),
    ],
)
def test_further_volumes_point_at_their_place(
    id_: str, on: GuestFacts, more: Mapping[str, object], expected: list[tuple[int, int]]
) -> None:
    found = replace(windows(), **more)  # type: ignore[arg-type]
    places = [(each.where, each.offset) for each in pieces(guest(found, on), id_)]
    assert places == [(disk_path(disk), offset) for disk, offset in expected]


def test_a_locked_system_and_an_encrypted_linux_point_at_their_volume() -> None:
    hidden = replace(machine(data(0, filesystem=locked("TPM"), number=2)), os=None, root=None)
    assert pieces(examined(hidden), "windows.bitlocker") == (bytes_at(MIB, "partition 2: bitlocker"),)
    luks = replace(hidden, partitions=(Partition(0, 1, MIB, 1 << 30, "83", filesystem=FileSystem("luks", "u")),))
    assert pieces(examined(luks), "guest.encrypted") == (bytes_at(MIB, "partition 1: luks"),)


def test_a_note_points_at_the_partition_or_the_line_that_it_names() -> None:
    noted = replace(
        machine(data()), notes=("disk 2, partition 1 was not looked into for Windows: it is damaged", "nothing else")
    )
    on = guest(windows(), noted)
    assert pieces(on, "guest.reading") == (bytes_at(MIB, "partition 1: ntfs", disk=1),)
    assert evidence_of(on, Finding("guest.reading", "nothing else")) == ()


def test_large_sectors_point_at_the_table_that_counts_in_them() -> None:
    large = replace(machine(), disks=(Disk(0, 4 << 30, "gpt", "g", "windows", 4096),))
    assert pieces(guest(windows(), large), "hardware.sectors")[0] == bytes_at(4096, "the partition table (GPT)")


# --- files and boot entries ------------------------------------------------------------------------------------------------


def test_a_hibernated_system_points_at_its_file_and_one_without_a_file_at_none() -> None:
    asleep = replace(windows(), hibernation="hibernated", hibernation_file="/hiberfil.sys", hibernation_bytes=4096)
    assert pieces(guest(asleep), "windows.hibernated") == (
        Evidence(EvidenceKind.FILE, "/hiberfil.sys", text="4096 bytes"),
    )
    assert pieces(guest(replace(asleep, hibernation_file="")), "windows.hibernated") == ()


@pytest.mark.parametrize("name", [SYSTEM, SOFTWARE])
def test_a_hive_points_at_its_file_and_its_logs(name: str) -> None:
    found = windows()
    log = HiveLog(f"/Windows/System32/config/{name}.LOG1", 1, "")
    hives = {
        each: replace(hive, state="replayed", logs=(log,)) if each == name else hive
        for each, hive in found.registry.items()
    }
    where = [each.where for each in pieces(guest(replace(found, registry=hives)), "windows.hive-replayed")]
    assert where == [f"/Windows/System32/config/{name}", log.path]


@pytest.mark.parametrize(
    "changes, id_, expected",
    [
        ({"encrypted_files": ("disk.sys", "winload.exe")}, "windows.encrypted-files",
         ["/Windows/system32/drivers/disk.sys", "/Windows/system32/winload.exe"]),
        ({"compressed_files": ("hal.dll",)}, "windows.compact", ["/Windows/system32/hal.dll"]),
        ({"compressed": True}, "windows.compact", []),
        ({"missing_files": ("ntfs.sys",)}, "windows.files-elsewhere", ["/Windows/system32/drivers/ntfs.sys"]),
        ({"signs": ("windows.old",)}, "windows.upgraded", ["/Windows.old"]),
        ({"signs": ("sipolicy.p7b",)}, "windows.code-integrity-policy", ["/Windows/System32/CodeIntegrity/SiPolicy.p7b"]),
    ],
)  # fmt: skip
def test_files_are_pointed_at_where_they_were_looked_at(
    changes: Mapping[str, object], id_: str, expected: list[str]
) -> None:
    found = replace(windows(), **changes)  # type: ignore[arg-type]
    assert [each.where for each in pieces(guest(found), id_)] == expected


def _started(more: Tree, **changes: object) -> tuple[WindowsFacts, GuestFacts]:
    hive = hive_of(boot_store(more=more))
    boot = replace(WindowsBoot(0, 1, "/", store=bcd.read_store(hive)), **changes)  # type: ignore[arg-type]
    found = windows()
    found = replace(found, boot=boot, registry={**found.registry, BCD: hive})
    return found, replace(machine(), disks=(MBR,), partitions=(ROOT,), root=Mount("/", 0, 1))


def test_boot_entries_are_pointed_at_by_their_elements() -> None:
    safe = f"Objects\\{written.LOADER}\\Elements\\25000080"
    found = pieces(guest(*_started({safe: {"Element": binary(bytes(8))}})), "windows.safe-boot")
    assert found == (registry(f"BCD\\{safe}\\Element", "00" * 8),)
    other = "{11111111-2222-3333-4444-555555555555}"
    once = f"Objects\\{written.BOOT_MANAGER}\\Elements\\24000002"
    tree: Tree = {f"Objects\\{other}\\Description": {"Type": dword(OS_LOADER)}, once: {"Element": multi_sz(other)}}
    assert pieces(guest(*_started(tree)), "windows.boot-once") == (registry(f"BCD\\{once}\\Element", other),)


def test_boot_ini_points_at_its_default() -> None:
    text = "[boot loader]\r\ntimeout=30\r\ndefault=C:\\\r\n[operating systems]\r\n"
    boot = WindowsBoot(0, 1, "/", boot_ini=text, boot_ini_path="/boot.ini")
    on = replace(machine(), disks=(MBR,), partitions=(ROOT,))
    found = pieces(guest(replace(windows(version=(5, 1)), boot=boot), on), "windows.boot-ini")
    assert found == (Evidence(EvidenceKind.FILE, "/boot.ini", line=3, text="default=C:\\"),)


def test_another_systems_loader_is_pointed_at() -> None:
    manager = LoaderFile("/EFI/Microsoft/Boot/bootmgfw.efi", 1, "aa", "x86_64", is_windows=True)
    fallback = LoaderFile("/EFI/BOOT/BOOTX64.EFI", 1, "bb", "x86_64")
    found, on = _started({}, manager=manager, fallback=fallback)
    told = pieces(guest(found, replace(on, firmware="uefi")), "windows.foreign-fallback")
    assert told == (Evidence(EvidenceKind.FILE, "/EFI/BOOT/BOOTX64.EFI"),)


# --- disks -----------------------------------------------------------------------------------------------------------------


def test_volumes_are_pointed_at_by_the_byte_at_which_they_begin() -> None:
    plain = windows()
    assert pieces(guest(plain, machine(data(filesystem=locked("TPM")))), "windows.bitlocker-data") == (
        bytes_at(MIB, "partition 1: bitlocker", disk=1),
    )
    assert pieces(guest(plain, machine(data(filesystem=FileSystem("refs")))), "windows.refs") == (
        bytes_at(MIB, "partition 1: refs", disk=1),
    )
    assert pieces(guest(replace(plain, dirty="it is marked dirty")), "windows.dirty-volume") == (
        bytes_at(MIB, "partition 1: ntfs"),
    )
    assert pieces(guest(plain, machine(data(1, SPACES), data(2, SPACES))), "windows.storage-spaces") == (
        bytes_at(MIB, f"partition 1: type {SPACES}", disk=1), bytes_at(MIB, f"partition 1: type {SPACES}", disk=2),
    )  # fmt: skip
    assert pieces(guest(plain, machine(root="42")), "windows.dynamic-disk") == (bytes_at(MIB, "partition 1: type 42"),)


def test_disks_of_one_signature_are_pointed_at_by_it() -> None:
    twins = tuple(Disk(index, 4 << 30, "mbr", "0badcafe") for index in range(2))
    found = pieces(guest(windows(), machine(data(), disks=twins)), "windows.same-signature")
    assert found == (bytes_at(440, "signature 0badcafe"), bytes_at(440, "signature 0badcafe", disk=1))
    gpt = tuple(Disk(index, 4 << 30, "gpt", "a-guid") for index in range(2))
    found = pieces(guest(windows(), machine(data(), disks=gpt)), "windows.same-signature")
    assert [each.offset for each in found] == [512 + 56, 512 + 56]


def test_the_way_from_a_bios_points_at_the_table_and_the_boot_sector() -> None:
    found, on = _started({}, sector=BootSector(0, 1, "fat", 255, 63, "BOOTMGR"))
    other = replace(ROOT, number=3, offset=2 << 30)
    several = guest(found, replace(on, partitions=(ROOT, other)))
    assert [each.offset for each in pieces(several, "windows.several-active")] == [446, 446 + 32]
    none = guest(found, replace(on, partitions=(replace(ROOT, bootable=False),)))
    assert pieces(none, "windows.no-active-partition") == (bytes_at(446, "the partition table (MBR)"),)
    assert pieces(none, "windows.hidden-sectors") == (bytes_at(MIB + 28, "partition 1: ntfs"),)
    bare = guest(found, replace(on, disks=(replace(MBR, boot_code=""),)))
    assert pieces(bare, "windows.no-boot-code") == (bytes_at(0, "the first sector"),)


def test_an_unclean_linux_file_system_and_a_full_one_point_at_their_place() -> None:
    facts_ = facts_of(files())
    dirty = FileSystem("ext4", "u", free_bytes=10, why_not_host="its journal is not empty", dirty=True)
    changed = replace(facts_, partitions=(replace(facts_.partitions[0], filesystem=dirty), *facts_.partitions[1:]))
    for id_ in ("linux.file-system.unclean", "linux.space.bytes"):
        assert pieces(examined(changed), id_) == (bytes_at(MIB, "partition 1: ext4"),)


def test_a_hibernated_linux_points_at_its_swap_area() -> None:
    facts_ = facts_of(files())
    swap = replace(
        facts_.partitions[1], filesystem=FileSystem("swap", "s", why_not_host="it holds a hibernated system")
    )
    plain = replace(facts_.partitions[1], number=3, offset=2 << 30)
    changed = replace(facts_, partitions=(facts_.partitions[0], plain, swap))
    assert pieces(examined(changed), "linux.hibernated") == (bytes_at(3 << 30, "partition 2: swap"),)


def test_a_disk_that_was_not_given_is_not_pointed_at() -> None:
    on = guest(windows(), machine(data(filesystem=FileSystem("refs"))))
    for message in (
        "disk 9, partition 1 holds ReFS",
        "disk 2, partition 7 holds ReFS",
        "disk 0, partition 1 holds ReFS",
        "",
    ):
        assert evidence_of(on, Finding("windows.refs", message)) == ()
