"""Inspection of whole disks: which root, which mounts, what the system is, and what the host may not read."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.facts import Disk, FileSystem, GuestFacts, Partition, ReadBy, Tool
from drivers.families import family_of
from drivers.inspection import facts_from_tree, inspect_confined, inspect_disks, needs_appliance
from drivers.keys import Key
from drivers.layout import Layout, lay_out, locked
from drivers.mounting import mounts_from_fstab
from drivers.offline import Limits
from drivers.planning import PlanOptions, plan_guest
from drivers.systems import parse_assignments, read_selinux, read_system
from drivers.tree import GuestTree
from p2v.core.errors import ReaderCrashed
from tests.drivers.making import (
    BOOT_UUID,
    ELF_X86_64,
    MIB,
    ROOT_UUID,
    SYSTEM,
    lay_files,
    make_disk,
    make_ext,
    patch_word,
    sized,
)
from tests.drivers.memory_tree import InMemoryTree, Link
from tests.drivers.raw_reader import RawReader
from tests.drivers.windows.guest_disk import ntfs_disk, windows_files

ONE = "label: dos\nlabel-id: 0x0badcafe\nstart=2048, size=98304, type=83\n"
TWO = ONE + "start=100352, size=65536, type=83\n"
NEEDS_RECOVERY_AT = 1024 + 96


def inspected(*paths: Path) -> GuestFacts:
    readers = [RawReader(path) for path in paths]
    try:
        return inspect_confined(readers)
    finally:
        for reader in readers:
            reader.close()


def root_image(tmp_path: Path, files: dict[str, bytes | str | Link] | None = None, name: str = "root") -> Path:
    folder = lay_files(tmp_path / f"{name}.d", {**SYSTEM, **(files or {})})
    return make_ext(tmp_path / name, 48 * MIB, folder)


def boot_image(tmp_path: Path) -> Path:
    folder = lay_files(tmp_path / "boot.d", {"/marker": "boot\n"})
    return make_ext(tmp_path / "boot", 32 * MIB, folder, uuid=BOOT_UUID)


def two_partitions(tmp_path: Path, boot_spec: str = f"UUID={BOOT_UUID}", spoil_boot: bool = False) -> Path:
    fstab = f"UUID={ROOT_UUID} / ext4 defaults 0 1\n{boot_spec} /boot ext4 nodev 0 2\ntmpfs /tmp tmpfs defaults\n"
    boot = boot_image(tmp_path)
    if spoil_boot:
        patch_word(boot, NEEDS_RECOVERY_AT, set_bits=4)
    root = root_image(tmp_path, {"/etc/fstab": fstab})
    return make_disk(tmp_path / "disk", 82 * MIB, TWO, [(MIB, root), (49 * MIB, boot)])


def test_system_is_found_and_named(tmp_path: Path) -> None:
    disk = make_disk(tmp_path / "disk", 50 * MIB, ONE, [(MIB, root_image(tmp_path))])
    facts = inspected(disk)
    assert facts.read_by is ReadBy.HOST
    assert facts.os is not None
    assert (facts.os.kind, facts.os.id, facts.os.version, facts.os.arch) == ("linux", "debian", "12", "x86_64")
    assert (facts.os.family, facts.os.hostname, facts.os.init) == ("debian", "tiny", "systemd")
    assert facts.root is not None
    assert (facts.root.disk, facts.root.partition, facts.root.options) == (0, 1, "errors=remount-ro")
    assert facts.firmware == "bios"
    assert needs_appliance(Layout.of(facts), facts) == ""


@pytest.mark.parametrize(
    "spec",
    [
        f"UUID={BOOT_UUID}",
        f'UUID="{BOOT_UUID.upper()}"',
        f"/dev/disk/by-uuid/{BOOT_UUID}",
        "PARTUUID=0badcafe-02",
        "/dev/sda2",
        "/dev/nvme0n1p2",
        "/dev/disk/by-id/ata-VBOX_HARDDISK_1-part2",
    ],
)
def test_boot_is_mounted_however_fstab_names_it(tmp_path: Path, spec: str) -> None:
    facts = inspected(two_partitions(tmp_path, spec))
    assert [(m.mountpoint, m.partition) for m in facts.mounts] == [("/", 1), ("/boot", 2)]
    assert facts.mounts[1].options == "nodev"
    assert needs_appliance(Layout.of(facts), facts) == ""


def test_files_below_a_mount_point_come_from_the_mounted_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, ...]] = []

    def look(tree: GuestTree, links: Mapping[str, str]) -> tuple[Tool, ...]:
        seen.append(tree.list("/boot"))
        return ()

    monkeypatch.setattr("drivers.inspection.find_tools", look)
    reader = RawReader(two_partitions(tmp_path))
    inspect_disks([reader])
    reader.close()
    assert "marker" in seen[0]
    assert "readme" not in seen[0]


def test_root_on_a_second_disk_without_partition_table(tmp_path: Path) -> None:
    facts = inspected(make_disk(tmp_path / "first", 50 * MIB, ONE), root_image(tmp_path))
    assert facts.root is not None
    assert (facts.root.disk, facts.root.partition) == (1, 0)
    assert [disk.table for disk in facts.disks] == ["mbr", "none"]


def test_several_systems_are_no_choice(tmp_path: Path) -> None:
    root = root_image(tmp_path)
    facts = inspected(make_disk(tmp_path / "disk", 100 * MIB, TWO, [(MIB, root), (49 * MIB, root)]), root)
    assert facts.os is None
    assert facts.root is None
    assert any("2 systems" in note or "3 systems" in note for note in facts.notes)


def test_windows_beside_linux_is_said_and_never_chosen_instead_of_several(tmp_path: Path) -> None:
    windows = ntfs_disk(tmp_path / "windows.img", windows_files())
    root = root_image(tmp_path)
    facts = inspected(root, windows)
    assert facts.os is not None
    assert (facts.os.kind, facts.windows) == ("linux", None)
    assert any("disk 2, partition 1" in note and "Windows as well" in note for note in facts.notes)
    assert inspected(root, root_image(tmp_path, name="other"), windows).os is None


def test_dirty_root_needs_the_appliance(tmp_path: Path) -> None:
    root = patch_word(root_image(tmp_path), NEEDS_RECOVERY_AT, set_bits=4)
    facts = inspected(make_disk(tmp_path / "disk", 50 * MIB, ONE, [(MIB, root)]))
    assert facts.os is None
    assert "needs_recovery" in needs_appliance(Layout.of(facts), facts)


def test_dirty_file_system_that_belongs_into_the_tree_needs_the_appliance(tmp_path: Path) -> None:
    facts = inspected(two_partitions(tmp_path, spoil_boot=True))
    assert facts.os is not None
    assert "/boot" in needs_appliance(Layout.of(facts), facts)
    assert any("/boot" in note for note in facts.notes)


def test_dirty_data_disk_does_not_need_the_appliance(tmp_path: Path) -> None:
    data = patch_word(boot_image(tmp_path), NEEDS_RECOVERY_AT, set_bits=4)
    facts = inspected(root_image(tmp_path), data)
    assert facts.os is not None
    assert needs_appliance(Layout.of(facts), facts) == ""
    assert needs_appliance(Layout.of(facts)) != ""
    assert any("not looked into" in note for note in facts.notes)


def test_mount_that_is_no_partition_needs_the_appliance(tmp_path: Path) -> None:
    facts = inspected(two_partitions(tmp_path, "/dev/mapper/vg-boot"))
    if "/etc/fstab" not in facts.texts:
        pytest.fail("collect_texts does not give /etc/fstab")
    assert "/dev/mapper/vg-boot" in needs_appliance(Layout.of(facts), facts)


LUKS_UUID = "7e1f0c9a-0000-4000-8000-00000000feed"


def encrypted(*more: Partition) -> Layout:
    closed = FileSystem("luks", LUKS_UUID, why_not_host="it is encrypted")
    return Layout((Disk(0, 50 * MIB, "mbr"),), (Partition(0, 2, MIB, MIB, "83", filesystem=closed), *more))


@pytest.mark.parametrize(
    ("selectors", "is_wanted"),
    [((), False), (("all",), True), ((LUKS_UUID.upper(),), True), (("/dev/sda2",), True), (("/dev/sda1", "another"), False)],
)
def test_a_container_is_worth_an_appliance_only_with_a_key_for_it(selectors: tuple[str, ...], is_wanted: bool) -> None:
    keys = [Key(selector, "secret") for selector in selectors]
    assert bool(needs_appliance(encrypted(), None, keys)) is is_wanted
    assert [device.filesystem is not None for device in locked(encrypted(), keys)] == ([] if is_wanted else [True])


def test_beside_a_container_without_key_an_appliance_may_still_be_worth_it() -> None:
    dirty = Partition(0, 3, 2 * MIB, MIB, "83", filesystem=FileSystem("btrfs", why_not_host="no reader here"))
    assert "btrfs" in needs_appliance(encrypted(dirty))


def test_a_mount_in_a_container_without_key_is_not_looked_for_in_an_appliance(tmp_path: Path) -> None:
    facts = inspected(two_partitions(tmp_path, "/dev/mapper/crypt-boot"))
    layout = encrypted(*facts.partitions)
    assert "crypt-boot" in needs_appliance(Layout.of(facts), facts)
    assert needs_appliance(layout, facts) == ""
    assert "crypt-boot" in needs_appliance(layout, facts, [Key("all", "secret")])


def test_a_plan_says_at_once_that_a_key_is_missing() -> None:
    facts = GuestFacts(ReadBy.HOST, encrypted().disks, encrypted().partitions)
    (blocker,) = plan_guest(facts, PlanOptions()).blockers
    assert blocker.id == "guest.encrypted"
    assert "disk 1, partition 2" in blocker.message
    assert "--key" in blocker.hint


def test_uuid_that_two_partitions_have_is_not_mounted(tmp_path: Path) -> None:
    disk = two_partitions(tmp_path)
    facts = inspected(disk, boot_image(tmp_path))
    assert [m.mountpoint for m in facts.mounts] == ["/"]
    assert any("2 partitions" in note for note in facts.notes)


def test_disk_without_system_says_what_it_holds(tmp_path: Path) -> None:
    facts = inspected(make_disk(tmp_path / "disk", 50 * MIB, ONE, [(MIB, boot_image(tmp_path))]))
    assert facts.os is None
    assert any("ext4" in note for note in facts.notes)
    assert inspected(sized(tmp_path / "empty", MIB)).os is None


def test_system_that_nobody_knows_is_told_by_its_own_words(tmp_path: Path) -> None:
    folder = lay_files(tmp_path / "d", {"/etc/os-release": "ID=plan9next\nVERSION_ID=1\n", "/rc/bin/termrc": "x"})
    facts = inspected(make_ext(tmp_path / "fs", 16 * MIB, folder))
    assert facts.os is not None
    assert (facts.os.kind, facts.os.id, facts.os.family) == ("unknown", "plan9next", "unknown")


def test_what_merely_says_a_name_does_not_rival_a_whole_system(tmp_path: Path) -> None:
    backup = lay_files(tmp_path / "d", {"/etc/os-release": "ID=centos\n"})
    facts = inspected(make_ext(tmp_path / "fs", 16 * MIB, backup, uuid=BOOT_UUID), root_image(tmp_path))
    assert facts.os is not None
    assert facts.os.id == "debian"


def test_separate_usr_is_found_by_the_link_into_it(tmp_path: Path) -> None:
    root = {name: node for name, node in SYSTEM.items() if not name.startswith("/usr/")}
    fstab = f"UUID={ROOT_UUID} / ext4\nUUID={BOOT_UUID} /usr ext4\n"
    first = make_ext(
        tmp_path / "a", 48 * MIB, lay_files(tmp_path / "a.d", {**root, "/etc/fstab": fstab, "/usr/.x": ""})
    )
    usr = {name.removeprefix("/usr"): node for name, node in SYSTEM.items() if name.startswith("/usr/")}
    second = make_ext(tmp_path / "b", 32 * MIB, lay_files(tmp_path / "b.d", usr), uuid=BOOT_UUID)
    facts = inspected(make_disk(tmp_path / "disk", 82 * MIB, TWO, [(MIB, first), (49 * MIB, second)]))
    assert facts.os is not None
    assert (facts.os.id, facts.os.arch, facts.os.init) == ("debian", "x86_64", "systemd")


def test_file_system_that_its_reader_refuses_is_marked(tmp_path: Path) -> None:
    root = root_image(tmp_path)
    with root.open("r+b") as file:  # the table of block groups
        file.seek(2048)
        file.write(b"\xff" * 6144)
    facts = inspected(root)
    assert facts.os is None
    assert needs_appliance(Layout.of(facts), facts)


def test_crash_of_a_reader_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    monkeypatch.setattr("drivers.inspection.find_tools", lambda tree, links: ctypes.string_at(0))
    with pytest.raises(ReaderCrashed) as caught:
        inspected(root_image(tmp_path))
    assert "SIGSEGV" in caught.value.how


def test_facts_from_any_tree_are_the_same() -> None:
    tree = InMemoryTree({**SYSTEM, "/etc/selinux/config": "# SELINUX=disabled\nSELINUX=permissive # for now\n"})
    facts = facts_from_tree(Layout((), ()), tree, ReadBy.APPLIANCE, root=None, mounts=())
    assert facts.read_by is ReadBy.APPLIANCE
    assert facts.os is not None
    assert (facts.os.id, facts.os.arch, facts.selinux) == ("debian", "x86_64", "permissive")


def test_fstab_of_thousands_of_lines_is_bounded() -> None:
    text = "".join(f"UUID=x{index} /mnt/{index} ext4\n" for index in range(50_000))
    found, notes = mounts_from_fstab(text, Layout((), ()), None)
    assert found == ()
    assert len(notes) <= 2048


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/etc/redhat-release": "CentOS release 6.10 (Final)\n"}, ("centos", "6.10", "redhat")),
        ({"/etc/redhat-release": "Red Hat Enterprise Linux Server release 5.11 (Tikanga)\n"}, ("rhel", "5.11", "redhat")),
        ({"/etc/debian_version": "6.0.10\n"}, ("debian", "6.0.10", "debian")),
        ({"/etc/SuSE-release": "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\n"}, ("sles", "11", "suse")),
        ({"/etc/SuSE-release": "SUSE Linux Enterprise Server 11\nVERSION = 11\nPATCHLEVEL = 3\n"}, ("sles", "11.3", "suse")),
        ({"/etc/SuSE-release": "SUSE Linux Enterprise Server 10 (i586)\nVERSION = 10\nPATCHLEVEL=0\n"}, ("sles", "10.0", "suse")),
        ({"/etc/SuSE-release": "SUSE LINUX Enterprise Server 9 (i586)\nVERSION = 9\nPATCHLEVEL = 4\n"}, ("sles", "9", "suse")),
        ({"/etc/SuSE-release": "SUSE Linux Enterprise Server 11 (x86_64)\nPATCHLEVEL = 3x\n"}, ("sles", "11", "suse")),
        ({"/etc/os-release": 'ID="neu"\nID_LIKE="rhel fedora"\nVERSION_ID=9\n'}, ("neu", "9", "redhat")),
        ({"/etc/os-release": "ID=debian\n", "/etc/debian_version": "trixie/sid\n"}, ("debian", "trixie/sid", "debian")),
    ],
)  # fmt: skip
def test_systems_old_and_new(files: dict[str, str], expected: tuple[str, str, str]) -> None:
    system = read_system(InMemoryTree({**files, "/bin/x": ""}))
    assert system is not None
    assert (system.id, system.version, system.family) == expected


@pytest.mark.parametrize(
    ("header", "arch"),
    [
        (ELF_X86_64, "x86_64"),
        (b"\x7fELF\x01\x01\x01" + bytes(11) + b"\x03\x00", "i386"),
        (b"\x7fELF\x02\x01\x01" + bytes(11) + b"\xb7\x00", "aarch64"),
        (b"\x7fELF\x02\x02\x01" + bytes(11) + b"\x00\x16", "s390x"),
        (b"#!/bin/sh\n", ""),
        (b"", ""),
    ],
)
def test_architecture_is_told_by_a_program(header: bytes, arch: str) -> None:
    system = read_system(InMemoryTree({"/etc/os-release": "ID=x\n", "/bin/sh": header}))
    assert system is not None
    assert system.arch == arch


@pytest.mark.parametrize(
    ("files", "init"),
    [
        ({"/sbin/init": Link("/lib/systemd/systemd")}, "systemd"),
        ({"/sbin/init": Link("/bin/busybox"), "/sbin/openrc": ""}, "openrc"),
        ({"/sbin/init": b"", "/sbin/initctl": b"", "/etc/init/rc.conf": ""}, "upstart"),
        ({"/sbin/init": b"", "/etc/inittab": ""}, "sysv"),
        ({}, ""),
    ],
)
def test_init(files: dict[str, bytes | str | Link], init: str) -> None:
    system = read_system(InMemoryTree({"/etc/os-release": "ID=x\n", **files}))
    assert system is not None
    assert system.init == init


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("SELINUX=enforcing\nSELINUXTYPE=targeted\n", "enforcing"),
        ("SELINUX=Disabled\n", "disabled"),
        ("#SELINUX=disabled\n", "permissive"),
    ],
)
def test_selinux(text: str, state: str) -> None:
    assert read_selinux(InMemoryTree({"/etc/selinux/config": text})) == state
    assert read_selinux(InMemoryTree({})) == "absent"


def test_assignments_are_read_as_a_shell_would() -> None:
    text = (
        'A=plain\nB="with \\"quotes\\" and # no comment" # comment\nC=\'single \\n\'\nD=x # y\nA=last\n# E=1\n F = 1\n'
    )
    assert parse_assignments(text) == {
        "A": "last",
        "B": 'with "quotes" and # no comment',
        "C": "single \\n",
        "D": "x",
    }


def test_families() -> None:
    assert family_of("rocky", ["rhel", "centos", "fedora"]) == "redhat"
    assert family_of("unheard-of", ["ubuntu", "debian"]) == "debian"
    assert family_of("unheard-of") == "unknown"


def test_debian_guest_within_a_second_and_300_megabytes() -> None:
    from tests.fixtures import FixtureError, guest

    try:
        path = guest("vmware")
    except FixtureError as error:
        pytest.skip(f"the sample guest is not there: {error}")
    times = []
    for _ in range(3):
        start = _processor_seconds()
        facts = inspected(path)
        times.append(_processor_seconds() - start)
    assert facts.os is not None
    assert (facts.os.id, facts.os.hostname) == ("debian", "vmguest")
    assert facts.kernels
    assert min(times) < 1.0
    # in KiB, of the largest child
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 300 * 1024 or _others_were_larger()
    reader = RawReader(path)
    assert lay_out([reader]).disks[0].boot_code == "grub2"
    reader.close()


def _processor_seconds() -> float:
    """Of this process and of its children that have ended: what it takes where nobody else wants the processor."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _others_were_larger() -> bool:
    """Other children of the test run (format programs) count too; a limit on the child settles it."""
    from tests.fixtures import guest

    reader = RawReader(guest("vmware"))
    try:
        return inspect_confined([reader], Limits(memory_bytes=300 * MIB)).os is not None
    finally:
        reader.close()
