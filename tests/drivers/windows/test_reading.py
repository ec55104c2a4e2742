"""What is read of a Windows guest: over files in memory, and over disks with NTFS and FAT in the confined child."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.facts import GuestFacts, ReadBy
from drivers.inspection import inspect_confined, needs_appliance
from drivers.layout import Layout
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts
from drivers.windows.names import Names
from drivers.windows.reading import WindowsGuest, read_windows, windows_roots
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows.guest_disk import (
    CURRENT_VERSION,
    MIB,
    ntfs_disk,
    software_tree,
    system_tree,
    windows_files,
)
from tests.drivers.windows.hive_writer import log_entry, new_log, pages_that_differ, with_sequences
from tests.fixtures.hives import Data, Tree, dword, make_hive, multi_sz, qword, sz


def read(files: dict[str, bytes], root: str = "/Windows", dirty: str = "") -> WindowsGuest:
    """What is read of files in memory."""
    tree = InMemoryTree(dict[str, Node](files))
    assert windows_roots(Names(tree)) == (root,)
    return read_windows(tree, root, dirty)


def _read(system: Tree | None = None, software: Tree | None = None, **more: bytes) -> WindowsGuest:
    files = windows_files(
        system=make_hive(system) if system is not None else None,
        software=make_hive(software, name="SOFTWARE") if software is not None else None,
    )
    return read(files | {f"/{name.replace('__', '/').replace('_', '.')}": data for name, data in more.items()})


def facts_of(disk: Path) -> GuestFacts:
    """Facts by the confined child."""
    reader = RawReader(disk)
    try:
        return inspect_confined([reader])
    finally:
        reader.close()


def blockers(facts: GuestFacts) -> set[str]:
    """The ids of a plan's blockers."""
    return {finding.id for finding in plan_guest(facts, PlanOptions()).blockers}


def test_a_server_is_told_by_its_registry() -> None:
    guest = _read()
    assert (guest.system.kind, guest.system.id, guest.system.version) == ("windows", "win2k19", "10.0.17763.1234")
    assert (guest.system.name, guest.system.arch, guest.system.hostname) == ("Windows Server 2019 Standard", "x86_64", "web01")
    assert guest.facts.version.is_server
    assert guest.notes == ()
    assert {name: hive.state for name, hive in guest.facts.registry.items()} == {SYSTEM: "clean", SOFTWARE: "clean"}


_OLD = {"CurrentVersion": sz("5.2"), "CurrentBuildNumber": sz("3790")}


@pytest.mark.parametrize(
    "values, product_type, expected",
    [
        ({"CurrentVersion": sz("4.0"), "CurrentBuildNumber": sz("1381"), "ProductName": sz("Windows NT")}, "WinNT", "winnt4.0"),
        ({"CurrentVersion": sz("5.0"), "CurrentBuildNumber": sz("2195")}, "ServerNT", "win2k"),
        ({"CurrentVersion": sz("5.1"), "CurrentBuildNumber": sz("2600"), "CSDVersion": sz("Service Pack 3")}, "WinNT", "winxp"),
        ({**_OLD, "ProductName": sz("Microsoft Windows XP")}, "WinNT", "winxp"),
        ({**_OLD, "ProductName": sz("Microsoft Windows Server 2003")}, "ServerNT", "win2k3"),
        ({**_OLD, "ProductName": sz("Microsoft Windows Server 2003 R2")}, "LanmanNT", "win2k3r2"),
        ({"CurrentVersion": sz("6.0"), "CurrentBuildNumber": sz("6002"), "InstallationType": sz("Client")}, "", "winvista"),
        ({"CurrentVersion": sz("6.0"), "CurrentBuildNumber": sz("6002")}, "ServerNT", "win2k8"),
        ({"CurrentVersion": sz("6.1"), "CurrentBuildNumber": sz("7601")}, "WinNT", "win7"),
        ({"CurrentVersion": sz("6.1"), "CurrentBuildNumber": sz("7601"), "InstallationType": sz("Server Core")}, "", "win2k8r2"),
        ({"CurrentVersion": sz("6.2"), "CurrentBuildNumber": sz("9200")}, "WinNT", "win8"),
        ({"CurrentVersion": sz("6.2"), "CurrentBuildNumber": sz("9200")}, "ServerNT", "win2k12"),
        ({"CurrentVersion": sz("6.3"), "CurrentBuildNumber": sz("9600")}, "WinNT", "win8.1"),
        ({"CurrentVersion": sz("6.3"), "CurrentBuildNumber": sz("9600")}, "ServerNT", "win2k12r2"),
        ({"CurrentVersion": sz("7.7"), "CurrentBuildNumber": sz("1")}, "WinNT", "windows"),
    ],
)
def test_versions_before_10(values: dict[str, Data], product_type: str, expected: str) -> None:
    system = {**system_tree(), "ControlSet001\\Control\\ProductOptions": {"ProductType": sz(product_type)} if product_type else {}}
    assert _read(system, software_tree(values)).system.id == expected


@pytest.mark.parametrize(
    "build, is_server, expected",
    [(10240, False, "win10"), (19045, False, "win10"), (22000, False, "win11"), (26100, False, "win11"), (14393, True, "win2k16"),
     (17763, True, "win2k19"), (20348, True, "win2k22"), (26100, True, "win2k25")],
)  # fmt: skip
def test_versions_from_10_on_are_told_by_their_build(build: int, is_server: bool, expected: str) -> None:
    values = {"CurrentMajorVersionNumber": dword(10), "CurrentMinorVersionNumber": dword(0), "CurrentVersion": sz("6.3"),
              "CurrentBuildNumber": sz(str(build)), "ProductName": sz("Windows 10 Pro")}  # fmt: skip
    kind = {"ProductType": sz("ServerNT" if is_server else "WinNT")}
    guest = _read({**system_tree(), "ControlSet001\\Control\\ProductOptions": kind}, software_tree(values))
    assert guest.system.id == expected
    assert guest.system.name == ("Windows 11 Pro" if build >= 22000 else "Windows 10 Pro")


def test_control_sets_are_those_that_the_hive_has_and_select_names() -> None:
    guest = _read(system_tree(current=2, sets=(1, 2, 4)))
    sets = guest.facts.control_sets
    assert (sets.current, sets.default, sets.last_known_good, sets.present) == (2, 2, 4, (1, 2, 4))
    assert sets.bootable == (2, 4)
    # the host name is the current set's
    assert guest.system.hostname == "web01"


def test_paths_are_given_as_the_guest_spells_them() -> None:
    spelt = {path.replace("System32/config", "SYSTEM32/CONFIG"): data for path, data in windows_files(root="/WINNT").items()}
    spelt = {path.replace("System32", "SYSTEM32"): data for path, data in spelt.items()}
    guest = read(spelt, "/WINNT")
    assert guest.facts.registry[SYSTEM].path == "/WINNT/SYSTEM32/CONFIG/SYSTEM"
    assert guest.facts.arch == "x86_64"


@pytest.mark.parametrize(
    "machine, arch", [(0x14C, "i386"), (0x8664, "x86_64"), (0xAA64, "aarch64"), (0x200, "ia64"), (0x1234, "x86_64")]
)
def test_the_architecture_is_that_of_the_kernel_or_else_what_the_registry_says(machine: int, arch: str) -> None:
    assert read(windows_files(machine=machine)).facts.arch == arch


def test_a_kernel_that_is_kept_compressed_leaves_the_architecture_to_the_registry() -> None:
    files = windows_files()
    for name in ("ntoskrnl.exe", "cmd.exe"):
        files[f"/Windows/System32/{name}"] = bytes(4096)
    facts = read(files).facts
    assert (facts.arch, facts.compressed) == ("x86_64", True)


@pytest.mark.parametrize("head, state", [(b"hibr", "hibernated"), (b"HIBR", "hibernated"), (b"RSTR", "hibernated"),
                                         (b"wake", "resuming"), (bytes(4), "none"), (b"", "none")])  # fmt: skip
def test_hibernation_is_told_by_its_file(head: bytes, state: str) -> None:
    guest = _read(hiberfil_sys=head)
    assert guest.facts.hibernation == state
    assert _read().facts.hibernation == "none"


@pytest.mark.parametrize("value, is_utc", [(dword(1), True), (qword(1), True), (dword(0), False), (None, False)])
def test_the_clock(value: Data | None, is_utc: bool) -> None:
    zone = {"RealTimeIsUniversal": value} if value is not None else {}
    assert _read({**system_tree(), "ControlSet001\\Control\\TimeZoneInformation": zone}).facts.utc_clock is is_utc


def test_what_windows_has_still_to_do() -> None:
    manager = "ControlSet001\\Control\\Session Manager"
    system = {**system_tree(), manager: {"PendingFileRenameOperations": multi_sz("\\??\\C:\\a", "\\??\\C:\\b")},
              "Setup": {"SystemSetupInProgress": dword(1)}}  # fmt: skip
    current = "Microsoft\\Windows\\CurrentVersion"
    software = software_tree(more={f"{current}\\Component Based Servicing\\RebootPending": {},
                                   f"{current}\\WindowsUpdate\\Auto Update\\RebootRequired": {}})  # fmt: skip
    assert len(_read(system, software).facts.pending) == 4
    assert _read().facts.pending == ()
    assert len(_read(Windows__WinSxS__pending_xml=b"<xml/>").facts.pending) == 1


def test_names_of_drivers_are_those_of_their_folder_in_lower_case() -> None:
    folder = "/Windows/System32/Drivers"
    more = {f"{folder}/{name}": b"" for name in ("Atapi.SYS", "gmreadme.txt", "\udcff.sys", "x" * 300 + ".sys", "etc/hosts")}
    assert read(windows_files() | more).facts.driver_files == ("atapi.sys",)
    assert read(windows_files()).facts.driver_files == ()
    many = {f"{folder}/d{n}.sys": b"" for n in range(6000)}
    assert len(read(windows_files() | many).facts.driver_files) == 5000


def test_fast_start_up_is_of_windows_8_and_later() -> None:
    power = {**system_tree(), "ControlSet001\\Control\\Session Manager\\Power": {"HiberbootEnabled": dword(1)}}
    assert _read(power).facts.fast_startup
    seven = software_tree({"CurrentVersion": sz("6.1"), "CurrentBuildNumber": sz("7601")})
    assert not _read(power, seven).facts.fast_startup
    assert not _read().facts.fast_startup


def test_a_dirty_hive_is_read_with_its_logs() -> None:
    old = make_hive(system_tree())
    new = make_hive({**system_tree(), "ControlSet001\\Services\\Tcpip\\Parameters": {"Hostname": sz("db17")}})
    log = new_log(old, [log_entry(pages_that_differ(old, new), sequence=8, bins_bytes=len(new) - 4096)], sequence=8)
    files = windows_files(system=with_sequences(old, 9, 8))
    guest = read(files | {"/Windows/System32/config/SYSTEM.LOG1": log, "/Windows/System32/config/SYSTEM.LOG2": b""})
    hive = guest.facts.registry[SYSTEM]
    assert (guest.system.hostname, hive.state) == ("db17", "replayed")
    assert [log.path.rpartition(".")[2] for log in hive.logs] == ["LOG1", "LOG2"]
    assert any("logs" in note for note in guest.notes)
    unread = read(files).facts.registry[SYSTEM]
    assert unread.state == "unreadable"
    assert "no log" in unread.problem


def test_hives_that_cannot_be_read_are_said_and_leave_the_rest() -> None:
    guest = read(windows_files(system=b"no hive"))
    assert guest.facts.registry[SYSTEM].state == "unreadable"
    assert guest.system.id == "win2k19" or guest.system.id == "win10"
    assert any(note.startswith("/Windows/System32/config/SYSTEM") for note in guest.notes)


def test_values_that_are_large_are_cut_and_many_keys_are_bounded() -> None:
    services: Tree = {f"ControlSet001\\Services\\svc{n:05d}": {"d": Data(3, bytes(8000))} for n in range(400)}
    guest = _read({**system_tree(), "Select": {"Current": dword(1), "Large": Data(3, bytes(9000))}, **services})
    hive = guest.facts.registry[SYSTEM]
    assert next(value for value in hive.keys["Select"] if value.name == "Large").cut
    assert hive.value("Select", "Large") is None
    assert sum(len(value.data) for values in hive.keys.values() for value in values) < 5 * MIB
    assert any("more of what is looked at" in remark for remark in hive.remarks)


def test_what_only_looks_like_windows_is_none() -> None:
    files = windows_files()
    for gone in ("/Windows/System32/config/SOFTWARE", "/Windows/System32/config/SYSTEM"):
        rest = {path: data for path, data in files.items() if path != gone}
        assert windows_roots(Names(InMemoryTree(dict[str, Node](rest)))) == ()
    assert windows_roots(Names(InMemoryTree({"/Windows": "a file"}))) == ()


# --- disks ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def windows_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ntfs_disk(tmp_path_factory.mktemp("windows") / "disk.img", windows_files())


def test_windows_on_ntfs_is_read_by_the_host(windows_disk: Path) -> None:
    facts = facts_of(windows_disk)
    assert facts.read_by is ReadBy.HOST
    assert facts.os is not None
    assert (facts.os.id, facts.firmware) == ("win2k19", "bios")
    assert facts.windows is not None
    assert facts.windows.registry[SYSTEM].path == "/Windows/System32/config/SYSTEM"
    assert facts.root is not None
    assert (facts.root.mountpoint, facts.root.disk, facts.root.partition) == ("/", 0, 1)
    assert needs_appliance(Layout.of(facts), facts) == ""


def test_windows_on_fat_is_read_by_the_host(tmp_path: Path) -> None:
    disk = tmp_path / "fat.img"
    subprocess.run(["mkfs.vfat", "-C", "-F", "32", str(disk), str(64 * 1024)], check=True, capture_output=True)
    software = make_hive(software_tree({"CurrentVersion": sz("4.0"), "CurrentBuildNumber": sz("1381")}), minor=3)
    files = windows_files(system=make_hive(system_tree(), minor=3), software=software, root="/WINNT", machine=0x14C)
    for path, data in files.items():
        (tmp_path / "file").write_bytes(data)
        folders = path.split("/")[1:-1]
        for depth in range(1, len(folders) + 1):
            below = "::/" + "/".join(folders[:depth])
            subprocess.run(["mmd", "-D", "s", "-i", str(disk), below], capture_output=True, check=False)
        subprocess.run(["mcopy", "-o", "-i", str(disk), str(tmp_path / "file"), f"::{path}"], check=True, capture_output=True)
    facts = facts_of(disk)
    assert facts.os is not None
    assert (facts.os.id, facts.os.arch) == ("winnt4.0", "i386")


def test_an_ntfs_that_was_not_left_in_order_is_read_and_is_a_blocker(tmp_path: Path, windows_disk: Path) -> None:
    raw = bytearray(windows_disk.read_bytes())
    # the flags in $Volume's information attribute: version 3.1, then 0x0001 for dirty
    at = raw.index(b"\x03\x01\x00\x00", raw.index(b"FILE", raw.index(b"FILE") + 3 * 1024))
    raw[at + 2] = 1
    dirty = tmp_path / "dirty.img"
    dirty.write_bytes(raw)
    facts = facts_of(dirty)
    assert facts.windows is not None
    assert facts.windows.dirty == "it is marked dirty"
    assert needs_appliance(Layout.of(facts), facts) == ""
    assert "windows.dirty-volume" in blockers(facts)


def test_of_two_windows_the_one_that_starts_by_default_is_taken(tmp_path: Path) -> None:
    facts = facts_of(ntfs_disk(tmp_path / "two.img", windows_files() | windows_files(root="/WINNT")))
    assert facts.windows is not None
    assert facts.windows.system_root == "/Windows"
    assert any("\\WINNT holds another Windows" in note for note in facts.notes)


def test_two_windows_without_a_default_are_no_choice(tmp_path: Path) -> None:
    files = windows_files() | windows_files(root="/WINNT")
    del files["/Boot/BCD"]
    facts = facts_of(ntfs_disk(tmp_path / "two.img", files))
    assert facts.os is None
    assert any("2 systems were found" in note for note in facts.notes)
    assert blockers(facts) == {"guest.no-os"}


def test_bitlocker_is_told(tmp_path: Path, windows_disk: Path) -> None:
    raw = bytearray(windows_disk.read_bytes())
    raw[2048 * 512 + 3 : 2048 * 512 + 11] = b"-FVE-FS-"
    locked = tmp_path / "locked.img"
    locked.write_bytes(raw)
    assert blockers(facts_of(locked)) == {"windows.bitlocker"}


def test_the_plan_says_what_keeps_the_guest_from_being_changed(windows_disk: Path) -> None:
    facts = facts_of(windows_disk)
    assert facts.windows is not None
    assert blockers(facts) == set()
    for changed, expected in (
        (replace(facts.windows, hibernation="hibernated"), "windows.hibernated"),
        (replace(facts.windows, arch="ia64"), "windows.architecture"),
        (replace(facts.windows, pending=("its own set-up",)), "windows.set-up"),
        (replace(facts.windows, control_sets=replace(facts.windows.control_sets, current=3)), "windows.no-control-set"),
        (_with_hive(facts, state="unreadable", problem="it is gone"), "windows.hive-unreadable"),
        (_with_hive(facts, remarks=("a value is left out",)), "windows.hive-damaged"),
    ):
        assert blockers(replace(facts, windows=changed)) == {expected}


def test_windows_on_a_dynamic_disk_is_a_blocker(windows_disk: Path) -> None:
    facts = facts_of(windows_disk)
    for type_id in ("42", "af9b60a0-1431-4f62-bc68-3311714a69ad"):
        parts = tuple(replace(part, type_id=type_id) for part in facts.partitions)
        assert "windows.dynamic-disk" in blockers(replace(facts, partitions=parts))


def _with_hive(facts: GuestFacts, **changes: object) -> WindowsFacts:
    assert facts.windows is not None
    registry = {**facts.windows.registry, SYSTEM: replace(facts.windows.registry[SYSTEM], **changes)}  # type: ignore[arg-type]
    return replace(facts.windows, registry=registry)


def test_hardware_is_what_the_version_knows(windows_disk: Path) -> None:
    facts = facts_of(windows_disk)
    assert facts.windows is not None
    found = {}
    for number in ((4, 0), (5, 1), (6, 1), (10, 0)):
        windows = replace(facts.windows, version=replace(facts.windows.version, major=number[0], minor=number[1]))
        caps = plan_guest(replace(facts, windows=windows), PlanOptions()).caps
        found[number] = (caps.disk_buses[0], caps.nic_models[0], caps.machine, caps.local_time)
    assert found == {
        (4, 0): ("ide", "pcnet", "pc", True),
        (5, 1): ("ide", "rtl8139", "pc", True),
        (6, 1): ("sata", "e1000", "q35", True),
        (10, 0): ("sata", "e1000e", "q35", True),
    }


def test_a_hive_with_thousands_of_other_keys_gives_what_is_looked_for(tmp_path: Path) -> None:
    many: Tree = {f"Classes\\C{n:05d}": {"d": sz("x" * 60)} for n in range(3000)}
    raw = make_hive({**software_tree(), **many}, name="SOFTWARE")
    disk = ntfs_disk(tmp_path / "big.img", windows_files(software=raw))
    facts = facts_of(disk)
    assert facts.windows is not None
    assert tuple(facts.windows.registry[SOFTWARE].keys) == (CURRENT_VERSION,)
