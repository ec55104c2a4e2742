"""The copies of configuration inside an initramfs: read, edited like the guest's own files, and put in their place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.facts import BootLoader, FileSystem, Initramfs, Kernel, Partition
from drivers.linux import initramfs_copies
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
from tests.drivers.linux.guest import ROOT, SWAP, applied, extended, facts_of, files, kernel
from tests.drivers.linux.test_supplement import archived, guest_tree
from tests.drivers.memory_tree import Link, Node

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
