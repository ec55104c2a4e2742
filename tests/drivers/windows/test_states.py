"""Every state that keeps a Windows guest from being changed, or that somebody has to know of: one guest in it, and one not."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import pytest

from drivers.bitlocker import BitLocker
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, OperatingSystem, Partition, ReadBy
from drivers.ldm import TYPE_DATA, TYPE_METADATA, DynamicDisk
from drivers.plan import Finding, PlanOptions
from drivers.planning import plan_guest
from drivers.windows import condition
from drivers.windows.facts import SYSTEM, WindowsFacts
from drivers.windows.versions import CURRENT_VERSION
from tests.drivers.windows.guest_facts import facts, service
from tests.fixtures.hives import Data, Tree, binary, dword, multi_sz, sz

GIB = 1024**3
SPACES = "e75caf8f-f680-4cee-afa3-b001e56efc2d"
SET = "ControlSet001"
GUARD = f"{SET}\\Control\\DeviceGuard"
SERVICING = "Microsoft\\Windows\\CurrentVersion\\Setup\\State"
PLATFORM = f"{CURRENT_VERSION}\\SoftwareProtectionPlatform"
NTFS = FileSystem("ntfs")


def machine(*data: Partition, root: str = "07", disks: tuple[Disk, ...] = ()) -> GuestFacts:
    """Windows on the first disk's first partition, of type ``root``; ``data``: further partitions."""
    system = Partition(0, 1, 1 << 20, GIB, root, filesystem=NTFS)
    count = max((part.disk for part in data), default=0) + 1
    made = disks or tuple(Disk(index, 2 * GIB, "mbr") for index in range(count))
    windows = OperatingSystem("windows", "win10", "10.0", "Windows 10", "x86_64", "windows")
    return GuestFacts(ReadBy.HOST, made, (system, *data), os=windows, root=Mount("/", 0, 1))


def data(disk: int = 1, type_id: str = "07", filesystem: FileSystem | None = NTFS, number: int = 1) -> Partition:
    return Partition(disk, number, 1 << 20, GIB, type_id, filesystem=filesystem)


def locked(*protectors: str, state: str = "encrypted") -> FileSystem:
    return FileSystem("bitlocker", why_not_host="it is encrypted", bitlocker=BitLocker(state, protectors))


def found(guest: GuestFacts, windows: WindowsFacts) -> dict[str, Finding]:
    """All findings of a guest, by their ids."""
    every = (*condition.blockers(guest, windows), *condition.warnings(guest, windows))
    assert all(each.hint for each in every if each.id not in ("windows.no-control-set", "windows.architecture"))
    return {each.id: each for each in every}


def blocked(guest: GuestFacts, windows: WindowsFacts) -> set[str]:
    return {each.id for each in condition.blockers(guest, windows)}


def plain(**changes: object) -> WindowsFacts:
    return replace(facts({}, {}, version=(10, 0)), **changes)  # type: ignore[arg-type]


def test_a_guest_in_no_particular_state_has_no_findings() -> None:
    assert found(machine(data()), plain()) == {}


# --- volumes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "volume, words",
    [
        (locked("TPM", "recovery password"), "locked, opened by TPM, recovery password"),
        (locked("clear key", "TPM"), "suspended"),
        (locked("clear key", state="encrypting"), "is encrypting it"),
        (locked("TPM", state="decrypting"), "is decrypting it"),
        (FileSystem("bitlocker"), "locked"),
    ],
)
def test_a_system_that_bitlocker_hides_is_a_blocker_in_the_words_of_its_state(volume: FileSystem, words: str) -> None:
    guest = replace(machine(), os=None, root=None, partitions=(data(0, filesystem=volume),))
    (blocker,) = plan_guest(guest, PlanOptions()).blockers
    assert blocker.id == "windows.bitlocker"
    assert words in blocker.message
    assert "manage-bde -off" in blocker.hint


def test_a_data_volume_with_bitlocker_is_a_warning() -> None:
    warning = found(machine(data(filesystem=locked("TPM"))), plain())["windows.bitlocker-data"]
    assert "disk 2, partition 1" in warning.message
    assert "recovery password" in warning.hint
    suspended = found(machine(data(filesystem=locked("clear key"))), plain())["windows.bitlocker-data"]
    assert "whoever has the copy" in suspended.message
    assert blocked(machine(data(filesystem=locked("TPM"))), plain()) == set()


@pytest.mark.parametrize("type_id", ["42", TYPE_DATA])
def test_windows_on_a_dynamic_disk_is_a_blocker(type_id: str) -> None:
    assert blocked(machine(root=type_id), plain()) == {"windows.dynamic-disk"}
    assert "windows.dynamic-data" not in found(machine(root=type_id), plain())


def test_dynamic_disks_without_a_system_are_why_none_was_found() -> None:
    guest = replace(machine(), os=None, root=None, partitions=(data(0, TYPE_METADATA), data(0, TYPE_DATA, None, 2)))
    assert [each.id for each in plan_guest(guest, PlanOptions()).blockers] == ["windows.dynamic-disk"]


def _dynamic(*members: int) -> tuple[Disk, ...]:
    first = Disk(0, 2 * GIB, "mbr")
    return (first, *(Disk(n + 1, GIB, "mbr", dynamic=DynamicDisk(f"d{n}", "g1", of)) for n, of in enumerate(members)))


def test_dynamic_data_disks_are_named() -> None:
    guest = machine(data(1, "42"), data(2, "42"), disks=_dynamic(2, 2))
    assert set(found(guest, plain())) == {"windows.dynamic-data"}
    assert "disk 2, disk 3 are dynamic disks" in found(guest, plain())["windows.dynamic-data"].message


def test_a_group_of_dynamic_disks_that_is_not_whole_is_told() -> None:
    guest = machine(data(1, "42"), data(2, "42"), disks=_dynamic(3, 3))
    message = found(guest, plain())["windows.dynamic-incomplete"].message
    assert "the group of disk 2, disk 3 has 3, and 2 of it are given" in message


def test_storage_spaces_are_told() -> None:
    guest = machine(data(1, SPACES), data(2, SPACES))
    assert "disk 2, disk 3: part of a pool" in found(guest, plain())["windows.storage-spaces"].message
    alone = replace(guest, os=None, root=None)
    assert [each.id for each in plan_guest(alone, PlanOptions()).blockers] == ["windows.storage-spaces"]


def test_refs_and_deduplicated_and_unclean_data_volumes_are_told() -> None:
    assert set(found(machine(data(filesystem=FileSystem("refs"))), plain())) == {"windows.refs"}
    assert set(found(machine(data()), plain(deduplicated=("disk 2, partition 1",)))) == {"windows.deduplicated"}
    dirty = FileSystem("ntfs", why_not_host="it is marked dirty")
    assert set(found(machine(data(filesystem=dirty)), plain())) == {"windows.dirty-data"}
    # its own has a blocker, by what was read of it
    own = replace(machine(), partitions=(replace(machine().partitions[0], filesystem=dirty),))
    assert set(found(own, plain(dirty="it is marked dirty"))) == {"windows.dirty-volume"}


# --- what is unfinished ----------------------------------------------------------------------------------------------------


def test_a_template_of_sysprep_is_a_blocker() -> None:
    state = {SERVICING: {"ImageState": sz("IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE")}}
    windows = replace(facts({}, state, version=(10, 0)), pending=("its own set-up",))
    assert blocked(machine(), windows) == {"windows.generalized"}
    complete = {SERVICING: {"ImageState": sz("IMAGE_STATE_COMPLETE")}}
    assert blocked(machine(), facts({}, complete, version=(10, 0))) == set()


@pytest.mark.parametrize(
    "command, expected",
    [("C:\\$WINDOWS.~BT\\Sources\\SetupHost.Exe /PreOobe", "windows.upgrading"), ("oobe\\windeploy.exe", "windows.set-up")],
)
def test_set_up_that_is_under_way_is_a_blocker(command: str, expected: str) -> None:
    windows = replace(facts({"Setup": {"CmdLine": sz(command)}}, version=(10, 0)), pending=("its own set-up",))
    assert blocked(machine(), windows) == {expected}
    assert blocked(machine(), replace(windows, pending=())) == set()


@pytest.mark.parametrize(
    "pending, words",
    [("files to be renamed", "restart it once before"), ("updates that it is in the middle of", "until that has ended")],
)
def test_what_goes_on_at_the_next_start_is_told(pending: str, words: str) -> None:
    findings = found(machine(), plain(pending=(pending,)))
    assert set(findings) == {"windows.pending"}
    assert words in findings["windows.pending"].hint
    assert pending in findings["windows.pending"].message


def test_fast_start_up_that_is_on_is_told_where_it_has_not_been_used() -> None:
    assert set(found(machine(), plain(fast_startup=True))) == {"windows.fast-startup"}
    assert set(found(machine(), plain(fast_startup=True, hibernation="hibernated"))) == {"windows.hibernated"}


@pytest.mark.parametrize(
    "state, expected, blocks",
    [("replayed", "windows.hive-replayed", False), ("unreadable", "windows.hive-unreadable", True)],
)
def test_a_hive_that_was_in_use_is_told(state: str, expected: str, blocks: bool) -> None:
    windows = plain()
    registry = {name: replace(hive, state=state) if name == SYSTEM else hive for name, hive in windows.registry.items()}
    changed = replace(windows, registry=registry)
    assert set(found(machine(), changed)) == {expected}
    assert blocked(machine(), changed) == ({expected} if blocks else set())


@pytest.mark.parametrize("arch, expected", [("ia64", {"windows.architecture"}), ("aarch64", set())])
def test_a_processor_that_kvm_has_no_machine_for_is_a_blocker(arch: str, expected: set[str]) -> None:
    assert blocked(machine(), plain(arch=arch)) == expected


def test_an_upgraded_system_with_its_way_back_is_told() -> None:
    assert set(found(machine(), plain(signs=("windows.old",)))) == {"windows.upgraded"}


# --- activation ------------------------------------------------------------------------------------------------------------


def _product(channel: str) -> Data:
    raw = bytearray(1272)
    raw[1016 : 1016 + 2 * len(channel)] = channel.encode("utf-16-le")
    return binary(bytes(raw))


def _older(licence: int) -> Data:
    raw = bytearray(164)
    struct.pack_into("<I", raw, 80, licence)
    return binary(bytes(raw))


@pytest.mark.parametrize(
    "version, values, expected, words",
    [
        ((10, 0), {"DigitalProductId4": _product("OEM:DM")}, "windows.activation-oem", "firmware"),
        ((6, 1), {"DigitalProductId4": _product("OEM:SLP")}, "windows.activation-oem", "says of its maker"),
        ((5, 1), {"ProductId": sz("76487-OEM-0011903-00102")}, "windows.activation-oem", "log on"),
        ((5, 2), {"DigitalProductId": _older(2)}, "windows.activation-oem", "OEM"),
        ((10, 0), {"ProductId": sz("00330-50000-00000-AAOEM")}, "windows.activation-oem", "OEM"),
        ((6, 3), {"DigitalProductId4": _product("Volume:GVLK")}, "windows.activation-volume", "KMS host (kms.example.org)"),
        ((6, 3), {"DigitalProductId4": _product("Volume:MAK")}, "windows.activation-volume", "MAK"),
        ((5, 2), {"DigitalProductId": _older(3)}, "windows.activation-volume", "Volume"),
        ((10, 0), {"DigitalProductId4": _product("Retail")}, "windows.activation", "Retail"),
    ],
)
def test_what_activation_needs_is_told_by_how_it_was_sold(
    version: tuple[int, int], values: Mapping[str, Data], expected: str, words: str
) -> None:
    software: Tree = {CURRENT_VERSION: values, PLATFORM: {"KeyManagementServiceName": sz("kms.example.org")}}
    findings = found(machine(), facts({}, software, version=version))
    assert set(findings) == {expected}
    assert words in findings[expected].message
    assert blocked(machine(), facts({}, software, version=version)) == set()


@pytest.mark.parametrize("values", [{}, {"DigitalProductId": binary(b"\2" * 83)}, {"DigitalProductId4": binary(bytes(1143))},
                                    {"DigitalProductId4": _product("\x1b[2J")}, {"DigitalProductId": _older(77)}])  # fmt: skip
def test_nothing_is_said_of_activation_where_nothing_tells(values: Mapping[str, Data]) -> None:
    assert found(machine(), facts({}, {CURRENT_VERSION: values}, version=(10, 0))) == {}


@pytest.mark.parametrize(
    "edition, name, is_told",
    [("ServerStandardEval", "Windows Server 2022 Standard Evaluation", True), ("EnterpriseEval", "", True),
     ("ServerStandard", "Windows Server 2022 Standard", False)],
)  # fmt: skip
def test_evaluation_editions_are_told(edition: str, name: str, is_told: bool) -> None:
    windows = plain()
    windows = replace(windows, version=replace(windows.version, edition_id=edition, product_name=name))
    assert ("windows.evaluation" in found(machine(), windows)) is is_told


# --- roles -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start, is_member", [(2, True), (3, True), (4, False)])
def test_a_member_of_a_cluster_is_told(start: int, is_member: bool) -> None:
    windows = facts({f"{SET}\\Services\\ClusSvc": service(start)}, version=(5, 2))
    assert ("windows.cluster" in found(machine(), windows)) is is_member


@pytest.mark.parametrize("kind, is_controller", [("LanmanNT", True), ("ServerNT", False)])
def test_a_domain_controller_is_told(kind: str, is_controller: bool) -> None:
    windows = plain()
    windows = replace(windows, version=replace(windows.version, product_type=kind))
    assert ("windows.domain-controller" in found(machine(), windows)) is is_controller


@pytest.mark.parametrize(
    "system, edition, is_told",
    [({}, "Embedded", True), ({"WPA\\PosReady": {"Installed": dword(1)}}, "", True),
     ({f"{SET}\\Control\\ProductOptions": {"ProductSuite": multi_sz("Terminal Server", "EmbeddedNT")}}, "", True),
     ({"WPA\\PosReady": {"Installed": dword(0)}}, "Professional", False), ({}, "IoTEnterprise", False)],
)  # fmt: skip
def test_embedded_editions_are_told(system: Tree, edition: str, is_told: bool) -> None:
    windows = facts(system, version=(6, 1))
    windows = replace(windows, version=replace(windows.version, edition_id=edition))
    assert ("windows.embedded" in found(machine(), windows)) is is_told


# --- what may run ----------------------------------------------------------------------------------------------------------

_POLICY = "Policies\\Microsoft\\Windows\\DeviceGuard"


@pytest.mark.parametrize(
    "system, software, words",
    [
        ({GUARD: {"EnableVirtualizationBasedSecurity": dword(1)}}, {}, "virtualization-based security is on,"),
        ({f"{GUARD}\\Scenarios\\HypervisorEnforcedCodeIntegrity": {"Enabled": dword(1)}}, {}, "memory integrity"),
        ({f"{GUARD}\\Scenarios\\CredentialGuard": {"Enabled": dword(1)}}, {}, "Credential Guard"),
        ({f"{SET}\\Control\\Lsa": {"LsaCfgFlags": dword(2)}}, {}, "Credential Guard"),
        ({}, {_POLICY: {"EnableVirtualizationBasedSecurity": dword(1), "LsaCfgFlags": dword(1)}}, "Credential Guard"),
        ({}, {_POLICY: {"HypervisorEnforcedCodeIntegrity": dword(2)}}, "memory integrity"),
    ],
)
def test_virtualization_based_security_is_told(system: Tree, software: Tree, words: str) -> None:
    findings = found(machine(), facts(system, software, version=(10, 0)))
    assert set(findings) == {"windows.vbs"}
    assert words in findings["windows.vbs"].message


def test_virtualization_based_security_that_is_off_or_unknown_to_that_version_is_none() -> None:
    off: Tree = {GUARD: {"EnableVirtualizationBasedSecurity": dword(0)}, f"{SET}\\Control\\Lsa": {"LsaCfgFlags": dword(0)}}
    assert found(machine(), facts(off, {_POLICY: {"HypervisorEnforcedCodeIntegrity": dword(0)}}, version=(10, 0))) == {}
    assert found(machine(), facts({GUARD: {"EnableVirtualizationBasedSecurity": dword(1)}}, version=(6, 1))) == {}


def test_mandatory_virtualization_based_security_is_a_blocker() -> None:
    tree: Tree = {GUARD: {"EnableVirtualizationBasedSecurity": dword(1), "Mandatory": dword(1)}}
    assert blocked(machine(), facts(tree, version=(10, 0))) == {"windows.vbs-mandatory"}
    without: Tree = {GUARD: {"EnableVirtualizationBasedSecurity": dword(0), "Mandatory": dword(1)}}
    assert blocked(machine(), facts(without, version=(10, 0))) == set()


@pytest.mark.parametrize("number, expected", [(1, {"windows.s-mode"}), (0, set())])
def test_s_mode_is_a_blocker(number: int, expected: set[str]) -> None:
    tree: Tree = {f"{SET}\\Control\\CI\\Policy": {"SkuPolicyRequired": dword(number)}}
    assert blocked(machine(), facts(tree, version=(10, 0))) == expected


@pytest.mark.parametrize("name", ["uwfvol", "fbwf", "ewf"])
def test_write_filters_are_told_unless_they_are_off(name: str) -> None:
    on, off = ({f"{SET}\\Services\\{name}": service(start)} for start in (0, 4))
    assert set(found(machine(), facts(on, version=(6, 1)))) == {"windows.write-filter"}
    assert found(machine(), facts(off, version=(6, 1))) == {}


def test_a_code_integrity_policy_is_told() -> None:
    assert set(found(machine(), plain(signs=("sipolicy.p7b",)))) == {"windows.code-integrity-policy"}


# --- files -----------------------------------------------------------------------------------------------------------------


def test_files_that_are_kept_in_another_way_are_told() -> None:
    many = tuple(f"driver{n}.sys" for n in range(9))
    findings = found(machine(), plain(compressed_files=many))
    assert set(findings) == {"windows.compact"}
    assert "and 5 more" in findings["windows.compact"].message
    assert set(found(machine(), plain(compressed=True))) == {"windows.compact"}
    assert blocked(machine(), plain(encrypted_files=("disk.sys",))) == {"windows.encrypted-files"}
    assert set(found(machine(), plain(missing_files=("disk.sys",)))) == {"windows.files-elsewhere"}
    assert blocked(machine(), plain(missing_files=("disk.sys",), compressed=True)) == set()
