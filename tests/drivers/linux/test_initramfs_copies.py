"""The copies of configuration inside an initramfs: read, edited like the guest's own files, and put in their place."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.facts import BootLoader, FileSystem, Initramfs, Kernel, Partition
from drivers.linux import initramfs_copies
from drivers.linux.cpio import NewEntry, write_archive
from drivers.linux.initramfs import read_initramfs
from drivers.linux.kernels import find_kernels
from drivers.linux.planning import device_names
from drivers.linux.supplement import build_supplement, plan_initramfs
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from p2v.core.errors import PlanStale
from p2v.core.run import SystemRunner
from p2v.core.units import KIB, MIB
from tests.drivers.linux.archives import gnu_cpio, host_version, pack
from tests.drivers.linux.guest import ROOT, SWAP, VERSION, applied, extended, facts_of, files, kernel
from tests.drivers.linux.test_supplement import archived, guest_tree
from tests.drivers.memory_tree import InMemoryTree, Link, Node

LUKS = Partition(0, 5, 0, MIB, "83", False, "c0ffee12-05", filesystem=FileSystem("luks", "feed-0001"))
LVM = Partition(0, 6, MIB, MIB, "8e", False, "c0ffee12-06", filesystem=FileSystem("lvm2", "AbCd"))
EVERY = (ROOT, SWAP, LUKS, LVM)
CRYPTTAB = "sda5_crypt /dev/sda5 none luks,initramfs\n"


def with_texts(texts: Mapping[str, str], **more: object) -> Kernel:
    known = kernel()
    assert known.initramfs is not None
    return dataclasses.replace(known, initramfs=dataclasses.replace(known.initramfs, texts=texts, **more))  # type: ignore[arg-type]


def edited(path: str, text: str) -> str:
    facts = facts_of(files(), [known := with_texts({path: text})], EVERY)
    assert known.initramfs is not None
    found = initramfs_copies.overrides(facts, device_names(facts), known.initramfs)
    return found[0].after if found else text


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        ("cryptroot/crypttab", CRYPTTAB, "sda5_crypt UUID=feed-0001 none luks,initramfs\n"),
        ("etc/crypttab", CRYPTTAB, "sda5_crypt UUID=feed-0001 none luks,initramfs\n"),
        ("conf/conf.d/cryptroot", "target=c,source=/dev/sda5,key=none\n", "target=c,source=UUID=feed-0001,key=none\n"),
        ("etc/mdadm/mdadm.conf", "DEVICE /dev/sda1 /dev/sdb1\n", "DEVICE partitions\n"),
        ("etc/cmdline.d/90-resume.conf", "resume=/dev/sda2", f"resume=UUID={SWAP.filesystem.uuid}"),  # type: ignore[union-attr]
        ("conf/conf.d/resume", "RESUME=/dev/sda2\n", f"RESUME=UUID={SWAP.filesystem.uuid}\n"),  # type: ignore[union-attr]
        ("conf/initramfs.conf", "RESUME=/dev/sda9\n", "RESUME=/dev/sda9\n"),
        ("etc/crypttab", "x UUID=feed-0001 none luks\n", "x UUID=feed-0001 none luks\n"),
    ],
)  # fmt: skip
def test_a_copy_gets_the_edit_that_the_guests_own_file_gets(path: str, before: str, after: str) -> None:
    assert edited(path, before) == after


HOOK = "usr/lib/dracut/hooks/initqueue/finished/devexists-\\x2fdev\\x2fdisk\\x2fby-path\\x2fpci-0000:03:00.0-scsi-0:0:0:0-part2.sh"
TIMEOUT = (
    "etc/systemd/system/dev-disk-by\\x2dpath-pci\\x2d0000:03:00.0\\x2dscsi\\x2d0:0:0:0\\x2dpart2.device.d/timeout.conf"
)


def test_a_dracut_archive_waits_for_its_devices_by_names_that_last() -> None:
    assert SWAP.filesystem is not None
    by_path = '[ -e "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part2" ]\n'
    assert edited(HOOK, by_path) == f'[ -e "/dev/disk/by-uuid/{SWAP.filesystem.uuid}" ]\n'
    assert edited(HOOK, '[ -e "/dev/sda5" ]\n') == '[ -e "/dev/disk/by-uuid/feed-0001" ]\n'
    for lasting in ('[ -e "/dev/disk/by-uuid/x" ]\n', '[ -e "/dev/mapper/vg-root" ]\n', '[ -e "/dev/sdz9" ]\n'):
        assert edited(HOOK, lasting) == lasting


def test_systemd_in_a_dracut_archive_does_not_wait_without_end_for_a_name_that_is_gone() -> None:
    text = "[Unit]\nJobTimeoutSec=0\nJobRunningTimeoutSec=0\n"
    assert edited(TIMEOUT, text) == "[Unit]\nJobTimeoutSec=1\nJobRunningTimeoutSec=1\n"
    lasting = TIMEOUT.replace("path-pci\\x2d0000:03:00.0\\x2dscsi\\x2d0:0:0:0\\x2dpart2", "uuid-feed\\x2d0001")
    assert edited(lasting, text) == text


def test_what_a_dracut_archive_waits_for_is_read_from_it() -> None:
    hook, text = HOOK, b'[ -e "/dev/sda2" ]\n'
    image = write_archive([
        NewEntry("lib", stat.S_IFLNK | 0o777, b"usr/lib"),
        *(NewEntry(path, stat.S_IFDIR | 0o755) for path in ("usr", "usr/lib")),
        NewEntry(hook.removeprefix("usr/"), stat.S_IFREG | 0o755, text),
        NewEntry(TIMEOUT, stat.S_IFREG | 0o644, b"[Unit]\nJobTimeoutSec=0\n"),
    ])  # fmt: skip
    found = read_initramfs(InMemoryTree({"/image": image}), "/image", VERSION)
    assert set(found.texts) == {hook, TIMEOUT}


def test_a_devices_file_in_an_initramfs_is_warned_of_and_left() -> None:
    text = "VERSION=1.1.2\nIDTYPE=sys_wwid IDNAME=naa.5000 DEVNAME=/dev/sda2 PVID=abc\n"
    facts = facts_of(files(), [with_texts({"etc/lvm/devices/system.devices": text})], EVERY)
    plan = plan_guest(facts, PlanOptions())
    assert "linux.lvm.devices-in-initramfs" in {finding.id for finding in plan.warnings}
    assert edited("etc/lvm/devices/system.devices", text) == text
    lasting = text.replace("sys_wwid", "devname")
    facts = facts_of(files(), [with_texts({"etc/lvm/devices/system.devices": lasting})], EVERY)
    assert "linux.lvm.devices-in-initramfs" not in {finding.id for finding in plan_guest(facts, PlanOptions()).warnings}


def test_a_filter_of_lvm_that_accepts_old_names_only_is_widened_in_the_copy_too() -> None:
    text = 'devices {\n  filter = [ "a|^/dev/sda|", "r|.*|" ]\n}\n'
    assert edited("etc/lvm/lvm.conf", text) != text


def test_the_plan_extends_an_image_for_its_copies_alone_and_only_once() -> None:
    known = with_texts({"cryptroot/crypttab": CRYPTTAB}, modules=("virtio_pci", "virtio_blk", "ahci"))
    facts = facts_of(files(), [known], EVERY)
    plan = plan_guest(facts, PlanOptions())
    (change,) = [each for each in plan.changes if isinstance(each, ExtendInitramfs)]
    assert (change.modules, [file.path for file in change.files]) == ((), ["cryptroot/crypttab"])
    after = facts_of(applied(files(), plan.changes), extended([known], plan.changes), EVERY)
    assert not any(isinstance(each, ExtendInitramfs) for each in plan_guest(after, PlanOptions()).changes)


def test_copies_that_cannot_be_reached_are_warned_of() -> None:
    known = with_texts({"etc/crypttab": CRYPTTAB}, modules=("virtio_pci", "virtio_blk"), squashed=True)
    plan = plan_guest(facts_of(files(), [known], EVERY), PlanOptions())
    assert "linux.initramfs.copies" in [finding.id for finding in plan.warnings]


def extended_image(folder: Path, more: Mapping[str, Node], overrides: tuple[InitramfsFile, ...], codec: str = "gzip") -> Initramfs:
    image = pack(codec, gnu_cpio(folder / "root", {**archived(), **more}))
    tree = guest_tree(image)
    (known,) = find_kernels(tree, BootLoader("none"))
    change = plan_initramfs(known, overrides)
    assert change is not None
    whole = image + build_supplement(change, tree, folder, SystemRunner())
    return read_initramfs(guest_tree(whole), change.path, host_version())


def test_what_is_appended_takes_the_copys_place_as_the_kernel_unpacks_it(tmp_path: Path) -> None:
    override = InitramfsFile("cryptroot/crypttab", CRYPTTAB, "sda5_crypt /dev/disk/by-uuid/x none\n")
    found = extended_image(tmp_path, {"cryptroot/crypttab": CRYPTTAB.encode()}, (override,))
    assert found.texts == {"cryptroot/crypttab": "sda5_crypt /dev/disk/by-uuid/x none\n"}
    assert {"virtio_blk", "ahci"} <= set(found.modules)


def test_a_copy_below_a_link_is_known_by_where_it_is(tmp_path: Path) -> None:
    more: dict[str, Node] = {"usr/etc/crypttab": CRYPTTAB.encode(), "etc": Link("usr/etc")}
    image = pack("gzip", gnu_cpio(tmp_path / "root", {**archived(), **more}))
    found = read_initramfs(guest_tree(image), f"/boot/initrd.img-{host_version()}", host_version())
    # the path of the archive, not the name that scripts use
    assert found.texts == {}


@pytest.mark.parametrize("codec", ["gzip", "xz", "zstd", "lz4"])
def test_where_a_hibernated_system_is_looked_for_is_replaced_behind_every_kind_of_archive(codec: str, tmp_path: Path) -> None:
    path, swap = "conf/conf.d/resume", "RESUME=UUID=b1d7e2a4-6f93-4a0c-8c25-7e4d9a3f5b22\n"
    more: dict[str, Node] = {path: b"RESUME=/dev/sda2\n"}
    found = extended_image(tmp_path, more, (InitramfsFile(path, "RESUME=/dev/sda2\n", swap),), codec)
    # a name that lasts is nothing to remember
    assert (found.texts, found.problem) == ({}, "")
    assert {"virtio_blk", "ahci"} <= set(found.modules)


def test_a_path_that_facts_would_not_keep_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(PlanStale):
        extended_image(tmp_path, {}, (InitramfsFile("init", "", "#!/bin/sh\n"),))


def test_a_file_too_large_to_be_configuration_is_not_kept(tmp_path: Path) -> None:
    image = pack("gzip", gnu_cpio(tmp_path / "root", {**archived(), "etc/crypttab": b"/dev/sda5 " * (30 * KIB)}))
    found = read_initramfs(guest_tree(image), f"/boot/initrd.img-{host_version()}", host_version())
    assert (found.texts, found.problem) == ({}, "")
