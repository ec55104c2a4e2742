"""Which files a start needs, and whether they are there and whole."""

from __future__ import annotations

import struct

import pytest

from drivers.linux.bootloader import read_boot_loader
from drivers.linux.kernels import find_kernels
from drivers.linux.start_files import read_start_files
from drivers.start_files import StartFile, StartRole
from tests.drivers.linux import images
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures import etc

VERSION = "6.1.0-9-amd64"
KERNEL, INITRD = f"/boot/vmlinuz-{VERSION}", f"/boot/initrd.img-{VERSION}"
MODES = {"/lib/systemd/systemd": 0o755, "/sbin/own": 0o755}


def guest(arguments: str = "", **more: Node) -> dict[str, Node]:
    return {
        etc.GRUB_CFG: etc.grub_cfg("UUID=1", [VERSION], arguments=arguments),
        KERNEL: b"kernel",
        INITRD: b"initramfs",
        "/sbin/init": Link("/lib/systemd/systemd"),
        "/lib/systemd/systemd": b"\x7fELF",
        **more,
    }


def found(files: dict[str, Node]) -> dict[str, StartFile]:
    tree = InMemoryTree(files, MODES)
    return {file.path: file for file in read_start_files(tree, read_boot_loader(tree))}


def test_files_of_the_default_entry() -> None:
    assert found(guest()) == {
        KERNEL: StartFile(StartRole.KERNEL, KERNEL, KERNEL, 6),
        INITRD: StartFile(StartRole.INITRAMFS, INITRD, INITRD, 9),
        "/sbin/init": StartFile(StartRole.INIT, "/sbin/init", "/lib/systemd/systemd", 4, kind="elf"),
    }


def test_what_is_not_there_is_told_too() -> None:
    files = guest()
    for path in (KERNEL, INITRD, "/sbin/init", "/lib/systemd/systemd"):
        del files[path]
    assert {path: file.found for path, file in found(files).items()} == {KERNEL: "", INITRD: "", "/sbin/init": ""}


def test_link_that_leads_nowhere_and_folder_are_no_files() -> None:
    files = {**guest(), KERNEL: Link("gone"), INITRD: Folder()}
    assert (found(files)[KERNEL].found, found(files)[INITRD].problem) == ("", "is no regular file")


def test_no_boot_loader_needs_no_files() -> None:
    assert found({"/sbin/init": b"x"}) == {}


@pytest.mark.parametrize(
    ("paragraphs", "length", "problem"),
    [
        (1000, 28 * 512 + 16_000, ""),
        (1000, 28 * 512 + 16_000 - 4000, ""),
        (100_000, 40_000, f"is cut short: its header tells of {28 * 512 + 1_600_000} bytes, and it has 40000"),
    ],
)
def test_kernel_is_held_against_its_own_header(paragraphs: int, length: int, problem: str) -> None:
    head = bytearray(length)
    head[0x1F1] = 27
    struct.pack_into("<I", head, 0x1F4, paragraphs)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x020F)
    assert found({**guest(), KERNEL: bytes(head)})[KERNEL].problem == problem
    # before 2.04 only half of that number meant anything
    struct.pack_into("<H", head, 0x206, 0x0203)
    assert found({**guest(), KERNEL: bytes(head)})[KERNEL].problem == ""


@pytest.mark.parametrize(
    ("text", "hands_over"),
    [
        ('#!/bin/sh\nexec /sbin/init "$@"\n', True),
        ("#!/bin/sh\nif true; then exec switch_root /new /sbin/init; fi\n", True),
        ("#!/usr/bin/perl\nexec('/sbin/init');\n", True),
        ("#!/bin/sh\n" + "# long\n" * 20_000, True),
        ("#!/bin/sh\nexec >/dev/console\nexec 2>&1\n", False),
        ("#!/bin/sh\nwhile :; do sleep 1000; done\n", False),
    ],
)
def test_script_that_runs_another_program_in_its_place(text: str, hands_over: bool) -> None:
    file = found({**guest("init=/sbin/own"), "/sbin/own": text})["/sbin/own"]
    assert (file.kind, file.hands_over, file.problem) == ("script", hands_over, "")


def test_program_that_may_not_be_run() -> None:
    file = found({**guest("init=/sbin/other"), "/sbin/other": b"\x7fELF"})["/sbin/other"]
    assert file.problem == "is not executable"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {"modules.builtin": "kernel/fs/ext4/ext4.ko\nkernel/drivers/md/dm-mod.ko\nkernel/fs/fuse/fuse.ko\n"},
            ("ext4", "dm_mod"),
        ),
        ({"modules.builtin": ""}, ()),
        ({"config": "CONFIG_XFS_FS=y\nCONFIG_EXT4_FS=m\n"}, ("xfs",)),
        ({"modules.dep": ""}, None),
    ],
)
def test_what_mounts_a_root_and_is_built_in(files: dict[str, str], expected: tuple[str, ...] | None) -> None:
    below: dict[str, Node] = {f"/lib/modules/{VERSION}/{name}": text for name, text in files.items()}
    tree = InMemoryTree({**guest(), INITRD: images.initramfs(VERSION, ("ext4",)), **below})
    (kernel,) = find_kernels(tree, read_boot_loader(tree))
    assert kernel.root_builtin == expected
