"""Each rule about disks with a machine that it fires for, and one next to it that it does not."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.bitlocker import BitLocker
from drivers.changes import WriteFile
from drivers.facts import FileSystem, ImageSystem, Mount, Segment, Volume
from drivers.layout import lay_out
from drivers.partitions import BIOS_BOOT_GUID, read_partitions
from drivers.plan import Finding
from drivers.windows.facts import ControlSets, WindowsFacts, WindowsVersion
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import Verdict, verdict
from p2v.audit.findings import AuditFinding, EvidenceKind, Severity
from p2v.audit.rules.disk_members import bitlocker as bitlocker_rule
from p2v.audit.rules.disks import CHECKS
from p2v.audit.rules.free_space import nearly_full, too_full
from p2v.audit.rules.partition_tables import is_told_here
from p2v.core.units import GIB
from tests.audit.disk_cases import FREEDOS, WINDOWS, Case, fired
from tests.drivers.making import make_disk, make_ext, make_ntfs, run, sized
from tests.drivers.memory_disk import MIB, MemoryDisk, from_file, gpt_disk, gpt_pieces, mbr, mbr_disk, with_pieces
from tests.drivers.test_disk_sights import (
    INTEL,
    bcache_superblock,
    broken,
    clevis,
    luks2,
    lvm_label,
    md_superblock,
)

SIZE = 32 * MIB
GRUB = b"Geom\0Hard Disk\0Read\0 Error\r\n\0GRUB"
OF_WINDOWS = b"Error loading operating system"
ROOT = Mount("/", 0, 1)
OLD_WINDOWS = WindowsFacts("/windows", WindowsVersion(10, 0, 17763), "x86_64", ControlSets())
_PARTITION = MIB


def ext(size_bytes: int, free_bytes: int = 0, block_bytes: int = 4096) -> bytes:
    """The first 2 KiB of an ext4 that was left in order."""
    raw = bytearray(2048)
    log = block_bytes.bit_length() - 11
    struct.pack_into("<7I", raw, 1024, 100, size_bytes // block_bytes, 0, free_bytes // block_bytes, 50, log == 0, log)
    struct.pack_into("<I", raw, 1024 + 40, 100)
    raw[1080:1084] = b"\x53\xef\x01\x00"
    struct.pack_into("<III", raw, 1024 + 92, 4, 0x42, 0)
    return bytes(raw)


def fat(size_bytes: int, *, hidden: int = 2048, free_bytes: int | None = None) -> bytes:
    """The first sectors of a FAT32."""
    raw = bytearray(1024)
    struct.pack_into("<HBHBHHBHHHII", raw, 11, 512, 1, 32, 2, 0, 0, 0xF8, 0, 63, 255, hidden, size_bytes // 512)
    struct.pack_into("<H", raw, 48, 1)
    raw[82:87], raw[510:512] = b"FAT32", b"\x55\xaa"
    raw[512:516] = b"RRaA"
    struct.pack_into("<I", raw, 512 + 488, 0xFFFFFFFF if free_bytes is None else free_bytes // 512)
    return bytes(raw)


def linux(raw: bytes = b"", at: int = _PARTITION, *, size: int = SIZE) -> MemoryDisk:
    """A disk that GRUB starts, with one partition of 8 MiB and what is written at a place."""
    disk = mbr_disk(size, code=GRUB)
    return disk.put(at, raw) if raw else disk


def luks(*slots: str) -> bytes:
    return luks2({"keyslots": {slot: {} for slot in slots}, "tokens": {"0": clevis("tpm2")}})


def bitlocker() -> bytes:
    return (b"\xeb\x58\x90-FVE-FS-").ljust(510, b"\0") + b"\x55\xaa"


def zfs() -> bytes:
    return bytes(128 * 1024) + struct.pack("<Q", 0x00BAB10C)


def changed(size: int) -> tuple[WriteFile, ...]:
    return (WriteFile("/etc/p2v.conf", "x" * size, 0o644, "a test"),)


def cut(disk: MemoryDisk, size: int) -> MemoryDisk:
    disk.size = size
    return disk


def other_backup() -> MemoryDisk:
    other = gpt_pieces(SIZE, [(MIB, 4 * MIB)])
    return with_pieces(gpt_disk(), {at: other[at] for at in (SIZE - 512 - 16384, SIZE - 512)})


def beside(*names: str) -> tuple[Path, ...]:
    return tuple(Path("/srv/web") / name for name in names)


BAD = b"\xff" * 64
BOTH_BAD = {512: BAD, SIZE - 512: BAD}
OVERLAP = [(0x83, 2048, 16384, False), (0x83, 8192, 16384, False)]
TWO = [(0x83, 2048, 8192, True), (0x83, 16384, 8192, False)]
TWO_ACTIVE = [(0x83, 2048, 8192, True), (0x83, 16384, 8192, True)]
NONE_ACTIVE = [(0x83, 2048, 8192, False)]
ODD = [(0x83, 63, 8192, True)]
LOGICAL = [(0x05, 2048, 16384, False)]
FULL = ext(8 * MIB, MIB // 4)
HALF = ext(8 * MIB, 4 * MIB)
SNAPSHOT = "web-000001.vmdk"
DATA = Mount("/srv", 0, 1)
MD_AT = (SIZE // 512 - 16) // 8 * 8 * 512


def several(count: int) -> MemoryDisk:
    return gpt_disk(512 * MIB, [(MIB * (1 + n), MIB) for n in range(count)])


# rule -> a machine that it fires for, one that it does not
CASES: dict[str, tuple[Case, Case]] = {
    "disk.gpt-primary-bad": (Case([gpt_disk().put(512, BAD)]), Case([gpt_disk()])),
    "disk.gpt-both-bad": (Case([with_pieces(gpt_disk(), BOTH_BAD)]), Case([gpt_disk().put(512, BAD)])),
    "disk.gpt-backup-bad": (Case([gpt_disk().put(SIZE - 512, BAD)]), Case([gpt_disk()])),
    "disk.gpt-copies-differ": (Case([other_backup()]), Case([gpt_disk()])),
    "disk.gpt-cut": (Case([cut(gpt_disk(), 30 * MIB)]), Case([cut(gpt_disk(), 64 * MIB)])),
    "disk.gpt-grown": (Case([cut(gpt_disk(), 64 * MIB)]), Case([cut(gpt_disk(), 30 * MIB)])),
    "disk.gpt-hybrid": (
        Case([gpt_disk().put(0, mbr([(0xEE, 1, 2047, False), (0x83, 2048, 16384, True)]))]),
        Case([gpt_disk()]),
    ),
    "disk.gpt-leftover": (Case([gpt_disk().put(0, mbr([(0x83, 2048, 16384, True)]))]), Case([linux()])),
    "disk.gpt-unannounced": (
        Case([gpt_disk().put(0, bytes(512))]),
        Case([gpt_disk().put(0, mbr([(0x83, 2048, 16384, True)]))]),
    ),
    "disk.partition-past-end": (Case([cut(linux(), 4 * MIB)]), Case([cut(linux(), 9 * MIB)])),
    "disk.partitions-overlap": (
        Case([mbr_disk(entries=OVERLAP, code=GRUB)]),
        # the container of logical partitions holds them
        Case([mbr_disk(entries=LOGICAL, code=GRUB).put(MIB, mbr([(0x83, 2048, 4096, False)]))]),
    ),
    "disk.active-several": (Case([mbr_disk(entries=TWO_ACTIVE)]), Case([mbr_disk(entries=TWO)])),
    "disk.active-none": (
        Case([mbr_disk(entries=NONE_ACTIVE, code=OF_WINDOWS)], FREEDOS),
        Case([mbr_disk(entries=NONE_ACTIVE, code=GRUB)]),
    ),
    "disk.unaligned": (Case([mbr_disk(entries=ODD)]), Case([linux()])),
    "disk.not-looked-into": (Case([several(65)]), Case([several(64)])),
    "disk.raid-member": (Case([linux(INTEL, SIZE - 1024)]), Case([linux()])),
    "disk.array-of-disks": (Case([linux(md_superblock(MD_AT), MD_AT)]), Case([linux(md_superblock(4096), MIB + 4096)])),
    "disk.signed-whole": (Case([linux(lvm_label(SIZE), 512)]), Case([linux(lvm_label(8 * MIB), MIB + 512)])),
    "disk.signed-twice": (Case([linux(HALF).put(MIB + 4086, b"SWAPSPACE2")]), Case([linux(HALF)])),
    "disk.drbd": (
        Case([linux(HALF).put(9 * MIB - 4096 + 60, struct.pack(">I", 0x8374026B))]),
        Case([linux(HALF).put(9 * MIB - 4096 + 60, struct.pack(">I", 0x8374026A))]),
    ),
    "disk.bcache": (Case([linux(bcache_superblock(), MIB + 4096)]), Case([linux(HALF)])),
    "disk.zfs": (Case([linux(zfs())]), Case([linux(HALF)])),
    "disk.luks-machine": (Case([linux(luks("0", "1"))]), Case([linux(luks2({"keyslots": {"0": {}}}))])),
    "disk.luks-machine-only": (Case([linux(luks("1"))]), Case([linux(luks("0", "1"))])),
    "disk.luks-network": (Case([linux(luks2({"tokens": {"0": clevis("tang")}}))]), Case([linux(luks("0", "1"))])),
    "disk.luks-header": (Case([linux(luks2({})[:4096] + b"[" * 99)]), Case([linux(luks2({}))])),
    "disk.bitlocker": (Case([linux(bitlocker())]), Case([linux(bitlocker())], WINDOWS, windows=OLD_WINDOWS)),
    "disk.file-system-longer": (Case([linux(ext(9 * MIB, MIB))]), Case([linux(ext(8 * MIB, MIB))])),
    "disk.physical-volume-longer": (
        Case([linux(lvm_label(9 * MIB), MIB + 512)]),
        Case([linux(lvm_label(8 * MIB), MIB + 512)]),
    ),
    "disk.sector-size": (
        Case([gpt_disk(sector_bytes=4096).put(MIB, ext(4 * MIB, MIB, 1024))]),
        Case([gpt_disk(sector_bytes=4096).put(MIB, ext(4 * MIB, MIB))]),
    ),
    "disk.hidden-sectors": (
        Case([mbr_disk(code=OF_WINDOWS).put(MIB, fat(8 * MIB, hidden=63))], FREEDOS),
        Case([mbr_disk(code=OF_WINDOWS).put(MIB, fat(8 * MIB))], FREEDOS),
    ),
    "disk.no-room": (
        Case([linux(fat(8 * MIB, free_bytes=MIB))], mounts=(ROOT,), changes=changed(2 * MIB)),
        Case([linux(fat(8 * MIB, free_bytes=3 * MIB))], mounts=(ROOT,), changes=changed(2 * MIB)),
    ),
    "disk.little-room": (Case([linux(FULL)], mounts=(ROOT,)), Case([linux(HALF)], mounts=(ROOT,))),
    "disk.nearly-full": (Case([linux(ext(8 * MIB, 64 * 1024))]), Case([linux(HALF)])),
    "disk.empty": (Case([linux()], image={"virtual_size": 0}), Case([linux()])),
    "disk.odd-size": (Case([linux()], image={"virtual_size": SIZE + 100}), Case([linux()])),
    "disk.image-unfinished": (Case([linux()], image={"dirty": ("saved state",)}), Case([linux()])),
    "disk.chain": (Case([linux()], image={"parents": ("vmdk, monolithicSparse",)}), Case([linux()])),
    "disk.shorter-than-stated": (Case([linux()], stated_bytes=SIZE + MIB), Case([linux()], stated_bytes=SIZE + 1000)),
    "disk.newer-state-beside": (Case([linux()], beside=beside(SNAPSHOT)), Case([linux()], beside=beside("db-000001.vmdk"))),
    "disk.given-twice": (
        Case([linux(), linux()], paths=(Path("/srv/web/a.vmdk"), Path("/srv/web/a.vmdk"))),
        Case([linux(), mbr_disk().put(0, mbr(disk_id=1))]),
    ),
    "disk.same-identity": (Case([linux(), linux()]), Case([linux(), mbr_disk().put(0, mbr(disk_id=1, code=GRUB))])),
    "disk.order": (Case([MemoryDisk(SIZE), linux()]), Case([linux(), MemoryDisk(SIZE)])),
}  # fmt: skip


@pytest.mark.parametrize("rule", CASES)
def test_the_rule_fires_for_one_machine_and_not_for_its_neighbour(rule: str) -> None:
    fires, clean = CASES[rule]
    assert rule in fired(fires.findings())
    assert rule not in fired(clean.findings())


def test_every_rule_about_disks_has_its_machines() -> None:
    assert {name for name in catalogue() if name.startswith("disk.")} == set(CASES)


def test_a_plain_machine_has_nothing_to_be_told() -> None:
    assert Case([linux(ext(8 * MIB, 4 * MIB))], mounts=(ROOT,), changes=changed(100)).findings() == ()
    assert Case([gpt_disk().put(MIB, HALF)], firmware="uefi").findings() == ()


@pytest.mark.parametrize("rule", CASES)
def test_a_finding_says_where_it_is_to_be_seen(rule: str) -> None:
    (finding,) = (each for each in CASES[rule][0].findings() if each.rule == rule)
    assert finding.evidence
    for evidence in finding.evidence:
        assert evidence.where.startswith("/srv/web")
        assert evidence.kind is EvidenceKind.DESCRIPTION or evidence.offset is not None
    assert finding.remedy


def only(case: Case, rule: str) -> AuditFinding:
    (finding,) = (each for each in case.findings() if each.rule == rule)
    return finding


# --- how much it matters ---------------------------------------------------------------------------------


def test_linux_does_not_find_its_own_partitions_by_a_backup() -> None:
    rule, disk = "disk.gpt-primary-bad", gpt_disk().put(512, BAD)
    assert only(Case([disk], mounts=(ROOT,)), rule).severity is Severity.BLOCKER
    assert only(Case([disk], WINDOWS, windows=OLD_WINDOWS, mounts=(ROOT,)), rule).severity is Severity.WARNING
    assert only(Case([linux(), disk], mounts=(ROOT,)), rule).severity is Severity.WARNING


def test_a_cut_disk_is_a_blocker_where_the_file_system_uses_what_is_missing() -> None:
    used, unused = cut(linux(ext(8 * MIB, MIB)), 6 * MIB), cut(linux(ext(4 * MIB, MIB)), 6 * MIB)
    assert only(Case([used]), "disk.partition-past-end").severity is Severity.BLOCKER
    assert only(Case([unused]), "disk.partition-past-end").severity is Severity.WARNING
    behind = mbr_disk(entries=[(0x83, 1 << 20, 2048, False)], code=GRUB)
    assert only(Case([behind]), "disk.partition-past-end").severity is Severity.BLOCKER


def test_a_key_that_only_the_old_machine_has_blocks() -> None:
    examined = CASES["disk.luks-machine-only"][0]
    assert verdict(examined.findings(), catalogue()) is Verdict.BLOCKED
    assert verdict(CASES["disk.luks-machine"][0].findings(), catalogue()) is Verdict.WARNINGS


def test_a_recovery_key_is_typed_in_and_hangs_on_no_machine() -> None:
    tokens = {"0": {"type": "systemd-tpm2", "keyslots": ["1"]}, "1": {"type": "systemd-recovery", "keyslots": ["0"]}}
    raw = luks2({"keyslots": {"0": {}, "1": {}}, "tokens": tokens})
    assert fired(Case([linux(raw)]).findings()) == {"disk.luks-machine"}


def test_what_is_left_beneath_a_physical_volume_is_harmless() -> None:
    wrapped = Case([linux(HALF).put(MIB + 512, lvm_label(8 * MIB))])
    assert only(wrapped, "disk.signed-twice").severity is Severity.INFORMATION
    assert only(CASES["disk.signed-twice"][0], "disk.signed-twice").severity is Severity.WARNING


def test_partitions_that_only_boot_loaders_write_to_need_no_alignment() -> None:
    odd, reserved = (63 * 512, 4 * MIB), (34 * 512, 4 * MIB - 34 * 512)
    assert "disk.unaligned" in fired(Case([gpt_disk(partitions=[odd])], firmware="uefi").findings())
    bios_boot = gpt_disk(partitions=[reserved], type_guid=BIOS_BOOT_GUID)
    assert "disk.unaligned" not in fired(Case([bios_boot], firmware="uefi").findings())


def test_a_suspended_bitlocker_is_no_more_than_information() -> None:
    locked = Case([linux(bitlocker())])
    examined = locked.examined()
    (partition,) = examined.document.facts.partitions
    assert partition.filesystem is not None
    system = replace(partition.filesystem, bitlocker=BitLocker("encrypted", ("clear key",)))
    facts = replace(examined.document.facts, partitions=(replace(partition, filesystem=system),))
    suspended = replace(examined, document=replace(examined.document, facts=facts))
    assert [each.severity for each in bitlocker_rule(suspended)] == [Severity.INFORMATION]
    assert only(locked, "disk.bitlocker").severity is Severity.WARNING


def test_a_full_logical_volume_is_told_by_its_own_name_and_place() -> None:
    system = FileSystem("ext4", size_bytes=GIB, free_bytes=MIB)
    volume = Volume("/dev/mapper/vg-data", "lvm", "u", GIB, carriers=((0, 1),), segments=(Segment(0, GIB, 0, 3 * MIB),),
                    filesystem=system)  # fmt: skip
    examined = Case([linux()]).examined()
    facts = replace(examined.document.facts, volumes=(volume,))
    (finding,) = nearly_full(replace(examined, document=replace(examined.document, facts=facts)))
    assert "/dev/mapper/vg-data" in finding.message
    assert finding.evidence[0].offset == 3 * MIB
    # what is mounted is judged by what the conversion writes to it
    root = replace(facts, root=Mount("/", 0, 1, volume="/dev/mapper/vg-data"))
    mounted = replace(examined, document=replace(examined.document, facts=root))
    assert [each.rule for each in nearly_full(mounted)] == []
    assert [each.rule for each in too_full(mounted)] == ["disk.little-room"]


@pytest.mark.parametrize("mountpoint, free, is_told", [
    ("/", 99 * MIB, True), ("/", 100 * MIB, False), ("/boot", 49 * MIB, True), ("/boot", 50 * MIB, False),
    ("/srv", 9 * MIB, True), ("/srv", 10 * MIB, False),
])  # fmt: skip
def test_more_room_is_wanted_where_a_system_writes(mountpoint: str, free: int, is_told: bool) -> None:
    disk = mbr_disk(2 * GIB, [(0x83, 2048, 1 << 21, True)], GRUB).put(MIB, ext(GIB, free))
    case = Case([disk], mounts=(Mount(mountpoint, 0, 1),))
    assert ("disk.little-room" in fired(case.findings())) is is_told


def test_hidden_sectors_are_shown_where_they_stand() -> None:
    (evidence,) = only(CASES["disk.hidden-sectors"][0], "disk.hidden-sectors").evidence
    assert (evidence.offset, evidence.text) == (MIB + 28, "63")


def test_one_file_is_given_twice_whatever_it_is_called() -> None:
    disks = [linux(), mbr_disk().put(0, mbr(disk_id=1, code=GRUB))]
    case = Case(disks, image={"files": ("/srv/web/web1.vmdk",)})
    assert "disk.given-twice" in fired(case.findings())


def test_what_a_bios_meets_is_nothing_to_a_machine_that_uefi_starts() -> None:
    for rule in ("disk.active-several", "disk.active-none", "disk.hidden-sectors", "disk.order"):
        assert rule not in fired(replace(CASES[rule][0], firmware="uefi").findings())


def test_disks_as_the_usual_programs_make_them_have_nothing_to_be_told(tmp_path: Path) -> None:
    run("mkfs.vfat", "-F", "12", sized(tmp_path / "esp", 8 * MIB))
    make_ext(tmp_path / "root", 16 * MIB)
    run("mkswap", sized(tmp_path / "swap", 4 * MIB))
    make_ntfs(tmp_path / "data", 8 * MIB)
    script = (
        "label: gpt\nfirst-lba: 34\nstart=34, size=2014, type=21686148-6449-6E6F-744E-656564454649\n"
        "size=8MiB, type=U\nsize=16MiB\nsize=4MiB, type=S\n"
    )
    parts = [(MIB, tmp_path / "esp"), (9 * MIB, tmp_path / "root"), (25 * MIB, tmp_path / "swap")]
    first = make_disk(tmp_path / "first", SIZE, script, parts)
    second = make_disk(tmp_path / "second", SIZE, "label: dos\nsize=8MiB, type=7\n", [(MIB, tmp_path / "data")])
    mounts = (Mount("/", 0, 3), Mount("/boot/efi", 0, 2))
    case = Case([from_file(first), from_file(second)], firmware="uefi", mounts=mounts, changes=changed(1000))
    kinds = [[each.kind for place in disk.partitions for each in place.signatures] for disk in case.examined().sights]
    assert kinds == [["fat", "ext", "swap"], ["ntfs"]]
    assert case.findings() == ()


def luks_with(*tokens: dict[str, object]) -> Case:
    return Case([linux(luks2({"keyslots": {"0": {}, "1": {}}, "tokens": dict(enumerate(tokens))}))])


def test_what_opens_a_container_is_named() -> None:
    recovery: dict[str, object] = {"type": "systemd-recovery", "keyslots": ["0"]}
    stick: dict[str, object] = {"type": "systemd-fido2", "keyslots": ["1"]}
    message = only(luks_with(recovery, stick), "disk.luks-machine").message
    assert "systemd-fido2" in message
    assert "recovery" not in message
    assert fired(luks_with(recovery).findings()) == set()


def test_layers_are_called_by_what_they_are() -> None:
    assert "DRBD" in only(CASES["disk.drbd"][0], "disk.drbd").message
    assert "bcache" in only(CASES["disk.bcache"][0], "disk.bcache").message


def test_disks_count_from_one_and_point_at_their_own_file() -> None:
    hybrid = gpt_disk().put(0, mbr([(0xEE, 1, 2047, False), (0x83, 2048, 16384, True)]))
    finding = only(Case([linux(), hybrid]), "disk.gpt-hybrid")
    assert finding.message.startswith("disk 2 ")
    assert {each.where for each in finding.evidence} == {"/srv/web/web1.vmdk"}
    starting = only(Case([MemoryDisk(SIZE), MemoryDisk(SIZE), linux()]), "disk.order")
    assert [each.where for each in starting.evidence] == ["/srv/web/web.vmdk", "/srv/web/web2.vmdk"]


@pytest.mark.parametrize("make, offset", [(linux, 440), (gpt_disk, 512 + 56)])
def test_an_identifier_is_shown_where_it_stands(make: Callable[[], MemoryDisk], offset: int) -> None:
    (evidence,) = only(Case([make(), make()]), "disk.same-identity").evidence
    assert (evidence.where, evidence.offset) == ("/srv/web/web1.vmdk", offset)


def test_what_is_missing_behind_the_end_is_counted() -> None:
    finding = only(Case([cut(linux(), 4 * MIB)]), "disk.partition-past-end")
    assert "5.0 MiB of it are not there" in finding.message


def test_a_boot_sector_that_nothing_starts_may_say_what_it_likes() -> None:
    elsewhere = mbr_disk(code=GRUB).put(MIB, fat(8 * MIB, hidden=63))
    assert fired(Case([elsewhere], FREEDOS).findings()) == set()
    inactive = mbr_disk(entries=[(0x06, 2048, 16384, False)], code=b"\xfa" * 8).put(MIB, fat(8 * MIB, hidden=63))
    assert fired(Case([inactive], FREEDOS).findings()) == set()


def test_each_file_system_needs_room_for_its_own_changes() -> None:
    disk = mbr_disk(entries=[(0x83, 2048, 8192, True), (0x83, 16384, 16384, False)], code=GRUB)
    disk.put(MIB, fat(4 * MIB, free_bytes=MIB)).put(8 * MIB, fat(8 * MIB, hidden=16384, free_bytes=6 * MIB))
    mounts = (Mount("/", 0, 2), Mount("/boot", 0, 1))
    write = WriteFile("/boot/grub/new", "x" * (2 * MIB), 0o644, "a test")
    finding = only(Case([disk], mounts=mounts, changes=(write,)), "disk.no-room")
    assert "/boot has 1.0 MiB free" in finding.message
    write = WriteFile("/etc/new", "x" * (2 * MIB), 0o644, "a test")
    assert fired(Case([disk], mounts=mounts, changes=(write,)).findings()) == set()


def test_images_fill_their_file_systems_by_design() -> None:
    examined = Case([linux(ext(8 * MIB, 64 * 1024))], mounts=(Mount("/usr", 0, 1),)).examined()
    assert fired(too_full(examined)) == {"disk.little-room"}
    sealed = replace(examined.document.facts, image=ImageSystem("flatcar", sealed=("/usr",)))
    of_images = replace(examined, document=replace(examined.document, facts=sealed))
    assert [*too_full(of_images), *nearly_full(of_images)] == []
    spare = replace(sealed, mounts=(), root=None)
    assert [*nearly_full(replace(examined, document=replace(examined.document, facts=spare)))] == []


# --- what is not told twice ------------------------------------------------------------------------------


def test_what_the_plan_tells_of_windows_is_not_told_again() -> None:
    fat_elsewhere = fat(8 * MIB, hidden=63)
    for disks in ([mbr_disk(entries=TWO_ACTIVE)], [mbr_disk(code=OF_WINDOWS).put(MIB, fat_elsewhere)], [linux(), linux()],
                  [mbr_disk(entries=NONE_ACTIVE, code=OF_WINDOWS)], [MemoryDisk(SIZE), linux()]):  # fmt: skip
        assert fired(Case(disks, WINDOWS, windows=OLD_WINDOWS).findings()) == set()
        assert fired(Case(disks, FREEDOS).findings())


def test_room_that_the_plan_found_missing_is_not_told_again() -> None:
    case = CASES["disk.no-room"][0]
    told = replace(case, blockers=(Finding("linux.space.bytes", "the file system at / has 1.0 MiB free"),))
    assert "disk.no-room" not in fired(told.findings())


def test_a_size_that_blocks_the_plan_is_not_told_again() -> None:
    case = Case([linux()], stated_bytes=SIZE + GIB, blockers=(Finding("source.disk-size", "web.vmdk has 32.0 MiB"),))
    assert fired(case.findings()) == set()


@pytest.mark.parametrize("disk", [
    gpt_disk().put(512, BAD), with_pieces(gpt_disk(), BOTH_BAD), cut(linux(), 4 * MIB),
    mbr_disk(entries=[(0x83, 1 << 20, 2048, False)]),
])  # fmt: skip
def test_notes_that_these_rules_tell_with_evidence_are_known(disk: MemoryDisk) -> None:
    notes = read_partitions(disk, 0).notes
    assert notes
    assert all(map(is_told_here, notes))
    assert Case([disk]).findings()


def test_other_notes_are_not_told_here() -> None:
    assert not is_told_here("the chain of logical partitions is a loop")
    assert not is_told_here("2 systems were found (disk 1; disk 2), so none was chosen")


# --- texts from outside ----------------------------------------------------------------------------------


def test_names_from_outside_are_told_as_what_prints() -> None:
    case = Case(
        [linux()], beside=(Path("/srv/web/\x1b[2Jweb-000001.vmdk"),), image={"dirty": ("\x1b]0;x\x07",)},
        paths=(Path("/srv/web/\x1b[2Jweb.vmdk"),),
    )  # fmt: skip
    findings = case.findings()
    assert fired(findings) == {"disk.image-unfinished", "disk.newer-state-beside"}
    for finding in findings:
        for text in (finding.message, *(e.where for e in finding.evidence), *(e.text for e in finding.evidence)):
            assert text.isprintable()


def test_whatever_stands_on_a_disk_is_told_in_texts_that_print() -> None:
    rng, ends = random.Random(20261127), time.monotonic() + 1.5
    while time.monotonic() < ends:
        for finding in Case([broken(rng)], mounts=(ROOT,)).findings():
            texts = (finding.message, *(each.text for each in finding.evidence))
            assert all(text.isprintable() and len(text) < 600 for text in texts)


@pytest.mark.parametrize("name, base", [
    ("web-000001.vmdk", "web.vmdk"), ("WEB-000012-delta.vmdk", "web.vmdk"), ("web-000001-sesparse.vmdk", "web.vmdk"),
    ("web.avhdx", "web.vhdx"), ("web_12345678-1234-1234-1234-123456789ABC.avhdx", "web.vhdx"), ("web.avhd", "web.vhd"),
])  # fmt: skip
def test_names_of_snapshots_are_known(name: str, base: str) -> None:
    case = Case([linux()], beside=beside(name), paths=beside(base))
    assert fired(case.findings()) == {"disk.newer-state-beside"}


def test_a_snapshot_that_is_part_of_the_chain_is_no_newer_state() -> None:
    case = Case([linux()], beside=beside(SNAPSHOT, "web.vmdk"), paths=beside(SNAPSHOT),
                image={"files": ("/srv/web/web-000001.vmdk", "/srv/web/web.vmdk")})  # fmt: skip
    assert "disk.newer-state-beside" not in fired(case.findings())


def test_a_raw_file_that_ends_within_a_sector_is_told() -> None:
    raw = {"format": "raw", "file_size": SIZE - 100}
    assert "disk.odd-size" in fired(Case([linux()], image=raw).findings())


def test_a_full_efi_system_partition_is_seen_although_facts_do_not_say_so() -> None:
    disk = linux(fat(8 * MIB, free_bytes=64 * 1024))
    assert lay_out([disk]).partitions[0].filesystem is not None
    case = Case([disk], mounts=(Mount("/boot/efi", 0, 1),))
    assert "disk.little-room" in fired(case.findings())


def test_nothing_is_said_of_disks_that_nobody_looked_at() -> None:
    examined = replace(Case([linux(HALF)]).examined(), sights=())
    assert [each for check in CHECKS for each in check(examined)] == []
