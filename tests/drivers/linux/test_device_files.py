"""Files that name disks: crypttab, mdadm.conf, LVM's, systemd's units, autofs, caches."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from drivers.changes import DeleteFile, EditFile
from drivers.facts import FileSystem, GuestFacts, Partition
from drivers.linux import crypttab, device_files, lvm_config, mdadm
from drivers.linux.contribution import Contribution, joined
from drivers.linux.devices import DeviceNames
from drivers.linux.lvm_filters import parse_filters
from p2v.core.units import MIB
from tests.drivers.linux.guest import ROOT, SWAP, applied, facts_of, files, kernel, text_file
from tests.drivers.memory_tree import Node
from tests.fixtures.layout import SWAP_UUID

LUKS_UUID = "aaaa0000-1111-2222-3333-444455556666"
PV_UUID = "AbCdEf-0000-1111-2222-3333-4444-555555"
LUKS = Partition(0, 3, 0, MIB, "83", False, "c0ffee12-03", filesystem=FileSystem("luks", LUKS_UUID))
VOLUME = Partition(0, 5, 0, MIB, "8e", False, "c0ffee12-05", filesystem=FileSystem("lvm2", PV_UUID))
BARE = Partition(0, 6, 0, MIB, "83", False, "c0ffee12-06", filesystem=FileSystem("unknown"))
EVERY = (ROOT, SWAP, LUKS, VOLUME, BARE)
NAMES = DeviceNames(1, EVERY, ROOT)
# one partition of one disk, as the kinds of machines there are call it
SPELLINGS = (
    "/dev/sda{}", "/dev/vda{}", "/dev/hda{}", "/dev/xvda{}", "/dev/nvme0n1p{}", "/dev/cciss/c0d0p{}",
    "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part{}", "/dev/disk/by-id/wwn-0x6000c29-part{}",
)  # fmt: skip


def facts(more: dict[str, Node]) -> GuestFacts:
    """The guest with these files besides."""
    return facts_of({**files(), **more}, partitions=EVERY)


def contributed(found: GuestFacts) -> Contribution:
    """What the planners of device files say."""
    return joined((
        crypttab.contribute(found, NAMES), mdadm.contribute(found), lvm_config.contribute(found),
        device_files.contribute(found, NAMES),
    ))  # fmt: skip


def after(path: str, text: str) -> str:
    """The file once the plan was carried out; asserts that planning again changes nothing."""
    nodes: dict[str, Node] = {**files(), path: text}
    done = applied(nodes, contributed(facts(nodes)).changes)
    assert contributed(facts(done)).changes == ()
    found = done[path]
    assert isinstance(found, str)
    return found


def ids(path: str, text: str) -> list[str]:
    """Ids of the warnings."""
    return [finding.id for finding in contributed(facts({path: text})).warnings]


# -- crypttab ----------------------------------------------------------------------------------------------------------

CRYPTTAB = "/etc/crypttab"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_encrypted_device_is_named_by_its_header(spelling: str) -> None:
    text = f"# x\r\nroot\t{spelling.format(3)}  none\tluks,discard # {spelling.format(3)}\r\n"
    assert after(CRYPTTAB, text) == text.replace(spelling.format(3), f"UUID={LUKS_UUID}", 1)
    assert ids(CRYPTTAB, text) == []


def test_a_device_with_a_random_key_is_named_by_its_place_in_the_partition_table() -> None:
    text = "swap /dev/sda2 /dev/urandom swap,cipher=aes-xts-plain64\n"
    assert after(CRYPTTAB, text) == text.replace("/dev/sda2", "/dev/disk/by-partuuid/c0ffee12-02")


def test_a_device_whose_header_is_elsewhere_is_named_by_its_place_and_the_headers_device_is_warned_of() -> None:
    text = "data /dev/sda6 none header=/dev/sda5\n"
    assert after(CRYPTTAB, text) == text.replace("/dev/sda6", "/dev/disk/by-partuuid/c0ffee12-06")
    assert ids(CRYPTTAB, text) == ["linux.crypttab.key-on-device"]


@pytest.mark.parametrize(
    "line",
    [
        f"root UUID={LUKS_UUID} none luks", "root /dev/mapper/vg-root none luks", "root /dev/vg0/root none", "root /dev/md0 none",
        "root /dev/disk/by-uuid/x none", "root PARTLABEL=x /dev/urandom swap", "#root /dev/sda3 none", "root", "",
        "root /dev/disk/by-id/lvm-pv-uuid-x none",
    ],
)  # fmt: skip
def test_names_that_last_stay_in_crypttab(line: str) -> None:
    assert after(CRYPTTAB, line) == line
    assert ids(CRYPTTAB, line) == []


def test_an_encrypted_device_that_is_not_there_is_a_warning_with_its_line() -> None:
    text = "# x\nroot /dev/sdb3 none luks\nother /dev/sda1 none luks\n"
    assert after(CRYPTTAB, text) == text
    found = crypttab.contribute(facts({CRYPTTAB: text}), NAMES).warnings
    assert [(f.id, f"line {n}" in f.message) for f, n in zip(found, (2, 3), strict=True)] == [
        ("linux.crypttab.unresolved", True), ("linux.crypttab.unresolved", True),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["/dev/sda6:/keys/root", "/key:/dev/disk/by-path/pci-x-part6", "/dev/sda6"])
def test_a_key_on_a_device_is_warned_of(key: str) -> None:
    assert ids(CRYPTTAB, f"root UUID={LUKS_UUID} {key} luks\n") == ["linux.crypttab.key-on-device"]


# -- mdadm -------------------------------------------------------------------------------------------------------------

MDADM = "/etc/mdadm/mdadm.conf"


@pytest.mark.parametrize(
    "name", [*(s.format(1) for s in SPELLINGS), "/dev/sd*", "/dev/[hs]d?[0-9]", "/dev/disk/by-path/pci*"]
)
def test_members_are_looked_for_on_all_disks(name: str) -> None:
    text = f"# {name}\nDEV {name} {name}\t/dev/mapper/x # {name}\nARRAY /dev/md0 UUID=a:b:c:d\n"
    assert after(MDADM, text) == text.replace(f"DEV {name} {name}", "DEV partitions")


@pytest.mark.parametrize(
    "text",
    [
        "DEVICE partitions\n", "DEVICE partitions /dev/sda1\n", "DEVICE /dev/sda1\nDEVICE partitions containers\n", "",
        "DEVICE /dev/disk/by-id/md-uuid-x /dev/mapper/*\n", "ARRAY /dev/md0 UUID=a devices=/dev/mapper/a\n", "MAILADDR /dev/sda1\n",
    ],
)  # fmt: skip
def test_an_mdadm_conf_that_looks_everywhere_stays(text: str) -> None:
    assert after(MDADM, text) == text
    assert ids(MDADM, text) == []


def test_lines_that_go_on_below_are_one_line() -> None:
    text = "device\n   /dev/sda1\n   /dev/sdb1\n  /dev/mapper/x\narr /dev/md0\n\tdevices=/dev/sda1,/dev/sdb1 uuid=a:b\n"
    assert after("/etc/mdadm.conf", text) == (
        "device\n   partitions\n   \n  /dev/mapper/x\narr /dev/md0\n\t uuid=a:b\n"
    )


def test_an_array_that_only_names_of_disks_identify_is_warned_of() -> None:
    text = "ARRAY /dev/md0 level=raid1 devices=/dev/sda1,/dev/sdb1\n"
    assert after(MDADM, text) == text
    assert ids(MDADM, text) == ["linux.mdadm.array-by-names"]


def test_an_initramfs_with_raid_that_nobody_can_read_may_hold_the_old_file() -> None:
    nodes: dict[str, Node] = {**files(), MDADM: "DEVICE /dev/sda1\n"}
    known = kernel(modules=["raid1", "md_mod"])
    assert known.initramfs is not None
    squashed = replace(known, initramfs=replace(known.initramfs, squashed=True))
    assert mdadm.contribute(facts_of(nodes, [known], partitions=EVERY)).warnings == ()
    found = facts_of(nodes, [squashed], partitions=EVERY)
    assert [finding.id for finding in mdadm.contribute(found).warnings] == ["linux.mdadm.in-initramfs"]
    assert ids(MDADM, "DEVICE /dev/sda1\n") == []


# -- LVM ---------------------------------------------------------------------------------------------------------------

LVM = "/etc/lvm/lvm.conf"


def filtered(patterns: str) -> str:
    """The patterns of a filter once the plan was carried out."""
    text = after(LVM, f'# filter = [ "a|/dev/sda5|" ]\ndevices {{\n\tfilter = [ {patterns} ]\n}}\n')
    return text.partition("\tfilter = [ ")[2].partition(" ]")[0]


@pytest.mark.parametrize("spelling", SPELLINGS[2:])
def test_the_volume_is_accepted_by_its_new_name_beside_the_old_one(spelling: str) -> None:
    old = f'"a|^{spelling.format(5)}$|", "r|.*|"'
    assert filtered(old) == f'"a|^/dev/[sv]da5$|", {old}'


def test_a_new_name_that_is_accepted_already_is_not_added() -> None:
    old = '"a|^/dev/sda5$|", "r|.*|"'
    assert filtered(old) == f'"a|^/dev/vda5$|", {old}'


@pytest.mark.parametrize("old", ['"a|/dev/sd.*|", "r|.*|"', '"r|/dev/mapper/.*|", "a/^\\/dev\\/[hs]d[a-z]/", "r|.*|"'])
def test_a_filter_that_accepts_any_disk_accepts_any_new_one(old: str) -> None:
    found = filtered(old)
    assert '"a|^/dev/vd[a-z]+[0-9]*$|", "a' in found.replace("[sv]d", "vd")


def test_the_new_name_goes_before_the_pattern_that_accepted_the_old_one() -> None:
    old = '"r|/dev/drbd0|", "a|/dev/sda5|", "r|.*|"'
    assert filtered(old) == '"r|/dev/drbd0|", "a|^/dev/vda5$|", "a|/dev/sda5|", "r|.*|"'


@pytest.mark.parametrize(
    "old",
    [
        '"a|.*|"', '"a|.*/|"', '"r|/dev/cdrom|"', '"a|/dev/mapper/.*|", "r|.*|"', '"r|/dev/sda5|", "a|/dev/sd|", "r|.*|"', "",
        f'"a|/dev/disk/by-id/lvm-pv-uuid-{PV_UUID}|", "r|.*|"', '"a|/dev/[sv]d|", "r|.*|"',
    ],
)  # fmt: skip
def test_filters_that_accept_the_new_name_or_never_accepted_the_volume_stay(old: str) -> None:
    assert filtered(old) == old


@pytest.mark.parametrize("pattern", ["a|(a*)*b|", "a|((((.*.*.*.*|", "x", "a|[|"])
def test_a_filter_that_is_not_understood_is_warned_of_and_stays(pattern: str) -> None:
    text = f'devices/global_filter = [ "{pattern}", "a|/dev/sda5|", "r|.*|" ]\n'
    assert after(LVM, text) == text
    assert ids(LVM, text) == ["linux.lvm.filter-not-understood"]


@pytest.mark.parametrize(
    "text", ["filter", "filter =", "filter = [", 'filter = [ "', 'filter = "', "filter=" * 300 + "[" * 300]
)
def test_a_filter_that_is_cut_off_does_no_harm(text: str) -> None:
    assert len(parse_filters(text)) <= 8
    assert after(LVM, text) == text


DEVICES = "/etc/lvm/devices/system.devices"
ENTRY = f"IDTYPE=sys_wwid IDNAME=naa.600 DEVNAME=/dev/sda5 PVID={PV_UUID.replace('-', '')} PART=5\n"


def test_a_devices_file_that_knows_disks_by_hardware_is_removed_and_that_is_said() -> None:
    text = "# LVM uses devices listed in this file.\nVERSION=1.1.2\n" + ENTRY
    found = lvm_config.contribute(facts({DEVICES: text}))
    change = found.changes[0]
    assert isinstance(change, DeleteFile)
    assert (change.path, change.sha256) == (DEVICES, hashlib.sha256(text.encode()).hexdigest())
    assert [finding.id for finding in found.warnings] == ["linux.lvm.devices-file-removed"]
    assert "vgimportdevices" in found.warnings[0].hint


@pytest.mark.parametrize("kind", ["devname", "md_uuid", "crypt_uuid"])
def test_a_devices_file_whose_entries_last_stays(kind: str) -> None:
    text = ENTRY.replace("sys_wwid", kind)
    assert after(DEVICES, text) == text
    assert ids(DEVICES, text) == []


# -- the smaller files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_a_mount_unit_mounts_is_named_by_uuid(spelling: str) -> None:
    text = f"[Mount]\r\nWhat = {spelling.format(2)}\r\nWhere=/data\r\n"
    assert after("/etc/systemd/system/data.mount", text) == text.replace(
        spelling.format(2), f"/dev/disk/by-uuid/{SWAP_UUID}"
    )
    drop_in = "/etc/systemd/system/data.mount.d/10.conf"
    assert SWAP_UUID in after(drop_in, text)


@pytest.mark.parametrize(
    "text", ["[Mount]\nWhat=/dev/hda1\nType=iso9660\n", "[Mount]\nWhat=LABEL=x\n", "#What=/dev/sda1\n"]
)
def test_units_that_name_no_disk_stay(text: str) -> None:
    assert after("/etc/systemd/system/data.mount", text) == text
    assert ids("/etc/systemd/system/data.mount", text) == []


def test_a_unit_that_names_a_disk_that_was_not_given_is_warned_of() -> None:
    assert ids("/etc/systemd/system/data.mount", "[Mount]\nWhat=/dev/sdb1\n") == ["linux.unit.unresolved"]


def test_a_swap_unit_is_left_because_its_name_is_its_device() -> None:
    path, text = "/etc/systemd/system/dev-sda2.swap", "[Swap]\nWhat=/dev/sda2\n"
    assert after(path, text) == text
    assert ids(path, text) == ["linux.unit.swap-named-after-device"]
    assert ids("/etc/systemd/system/swapfile.swap", "[Swap]\nWhat=/swapfile\n") == []


def test_a_unit_that_waits_for_a_device_is_warned_of() -> None:
    text = "[Unit]\nAfter=dev-sda3.device dev-mapper-x.device\n"
    assert ids("/etc/systemd/system/data.automount", text) == ["linux.unit.waits-for-device"]


def test_local_devices_in_autofs_maps_are_named_by_uuid() -> None:
    text = "# a :/dev/sda2\ncd -fstype=iso9660,ro :/dev/hdc\ndata\t-fstype=ext4 :/dev/sda2\nnfs host:/dev/sda2\n"
    assert after("/etc/auto.misc", text) == text.replace("ext4 :/dev/sda2", f"ext4 :/dev/disk/by-uuid/{SWAP_UUID}")
    program = "#!/bin/sh\necho x :/dev/sda2\n"
    assert after("/etc/auto.net", program) == program


def test_uswsusp_resumes_by_uuid() -> None:
    text = "# /etc/uswsusp.conf\nresume device = /dev/sda2\ncompress = y\n"
    assert after("/etc/uswsusp.conf", text) == text.replace("/dev/sda2", f"/dev/disk/by-uuid/{SWAP_UUID}")


@pytest.mark.parametrize(
    ("path", "text", "warning"),
    [
        ("/etc/hdparm.conf", "/dev/sda {\n  apm = 255\n}\n", "linux.hdparm.names-device"),
        ("/etc/smartd.conf", "#/dev/sdb\n/dev/nvme0n1 -a\n", "linux.smartd.names-device"),
        ("/etc/raidtab", "raiddev /dev/md0\n device /dev/sda6\n", "linux.raidtab.names-device"),
        ("/etc/sysconfig/rawdevices", "/dev/raw/raw1 /dev/sda6\n", "linux.rawdevices.names-device"),
    ],
)
def test_what_a_person_has_to_look_at_is_warned_of_and_stays(path: str, text: str, warning: str) -> None:
    assert after(path, text) == text
    assert ids(path, text) == [warning]


def test_caches_of_the_old_disks_are_removed() -> None:
    nodes: dict[str, Node] = {
        **files(),
        "/etc/lvm/cache/.cache": 'persistent_filter_cache {\n valid_devices=["/dev/sda5"]\n}\n',
        "/etc/blkid/blkid.tab": b"\xff<device DEVNO=0x0801>/dev/sda1</device>\n",
    }
    changes = contributed(facts(nodes)).changes
    assert {change.path for change in changes if isinstance(change, DeleteFile)} == {
        "/etc/lvm/cache/.cache", "/etc/blkid/blkid.tab",
    }  # fmt: skip
    assert contributed(facts(applied(nodes, changes))).changes == ()


def test_multipath_names_are_resolved_where_there_is_one_disk_and_warned_of() -> None:
    found = NAMES.resolve("/dev/mapper/mpathap2")
    assert found is not None
    assert found.stable == f"UUID={SWAP_UUID}"
    assert NAMES.resolve("/dev/mapper/mpath-vg") is None
    nodes: dict[str, Node] = {"/etc/fstab": "/dev/mapper/mpatha1 / ext4\n", "/etc/multipath.conf": "defaults {\n}\n"}
    assert [f.id for f in contributed(facts(nodes)).warnings] == ["linux.multipath.named"]


def test_an_edit_goes_to_the_file_that_is_really_there() -> None:
    file = type(text_file("x"))(CRYPTTAB, "/config/crypttab", "root /dev/sda3 none luks\n")
    edit = crypttab.plan_crypttab(file, NAMES)
    assert isinstance(edit, EditFile)
    assert edit.path == "/config/crypttab"
