"""Which kernels a guest boots, and what each and its initramfs know of virtio."""

from __future__ import annotations

import stat
from collections.abc import Mapping

import pytest

from drivers.facts import BootEntry, BootLoader, Kernel
from drivers.linux.cpio import NewEntry, write_archive
from drivers.linux.kernels import find_kernels
from drivers.tree import GuestTree
from tests.drivers.linux.archives import host_version
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node

V = "6.1.0-9-amd64"
OLD = "5.10.0-8-amd64"
IMAGE = write_archive([NewEntry("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n")])
NO_LOADER = BootLoader("none")

DEPENDENCIES = {
    "kernel/drivers/virtio/virtio_ring.ko": "",
    "kernel/drivers/virtio/virtio.ko": "kernel/drivers/virtio/virtio_ring.ko",
    "kernel/drivers/virtio/virtio_pci.ko": "kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko",
    "kernel/drivers/block/virtio_blk.ko": "kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko",
    "kernel/drivers/char/hw_random/virtio-rng.ko.xz": "kernel/drivers/virtio/virtio.ko",
    "kernel/fs/ext4/ext4.ko": "kernel/fs/jbd2/jbd2.ko",
}


def modules(version: str, prefix: str = "") -> dict[str, Node]:
    folder = f"/usr/lib/modules/{version}"
    lines = (f"{prefix}{path}: {' '.join(prefix + d for d in deps.split())}\n" for path, deps in DEPENDENCIES.items())
    return {
        "/lib": Link("usr/lib"),
        **{f"{folder}/{path}": b"ELF" for path in DEPENDENCIES},
        f"{folder}/modules.dep": "".join(lines),
        f"{folder}/modules.builtin": "kernel/drivers/net/net_failover.ko\nkernel/net/core/failover.ko\n",
    }


def debian(*versions: str, **more: Node) -> InMemoryTree:
    files: dict[str, Node] = {}
    for version in versions:
        files |= modules(version)
        files |= {f"/boot/vmlinuz-{version}": b"MZ", f"/boot/initrd.img-{version}": IMAGE}
    return InMemoryTree({**files, **more})


def entry(kernel: str, *initramfs: str) -> BootEntry:
    return BootEntry("title", kernel, initramfs, "ro")


def loader(*entries: BootEntry) -> BootLoader:
    return BootLoader("grub2", "/boot/grub/grub.cfg", entries)


def only(tree: GuestTree, boot: BootLoader = NO_LOADER) -> Kernel:
    (kernel,) = find_kernels(tree, boot)
    return kernel


def bzimage(version: str) -> bytes:
    """The parts of the x86 boot header that tell the version."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    text = f"{version} (builder@host) #1 SMP\0".encode()
    head[0x300 : 0x300 + len(text)] = text
    return bytes(head)


def test_a_kernel_with_its_modules_is_found_without_any_boot_loader() -> None:
    kernel = only(debian(V))
    assert (kernel.version, kernel.image) == (V, f"/boot/vmlinuz-{V}")
    assert kernel.modules_folder == f"/usr/lib/modules/{V}"
    assert kernel.initramfs is not None
    assert kernel.initramfs.path == f"/boot/initrd.img-{V}"
    assert kernel.initramfs.size == len(IMAGE)


def test_virtio_modules_come_with_their_dependencies_in_load_order() -> None:
    kernel = only(debian(V))
    assert kernel.modules["virtio_rng"] == "kernel/drivers/char/hw_random/virtio-rng.ko.xz"
    assert set(kernel.modules) == {"virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_rng"}
    assert kernel.dependencies["virtio_blk"] == (
        "kernel/drivers/virtio/virtio_ring.ko",
        "kernel/drivers/virtio/virtio.ko",
    )
    assert kernel.builtin == ("failover", "net_failover")


def test_absolute_paths_of_an_old_depmod_are_understood() -> None:
    files = {**modules(V, prefix=f"/lib/modules/{V}/"), f"/boot/vmlinuz-{V}": b"MZ"}
    kernel = only(InMemoryTree(files))
    assert kernel.modules["virtio_blk"] == "kernel/drivers/block/virtio_blk.ko"
    assert kernel.dependencies["virtio"] == ("kernel/drivers/virtio/virtio_ring.ko",)


def test_a_module_whose_dependency_is_missing_is_no_module_but_keeps_its_dependencies() -> None:
    files = {**modules(V), f"/boot/vmlinuz-{V}": b"MZ"}
    del files[f"/usr/lib/modules/{V}/kernel/drivers/virtio/virtio_ring.ko"]
    kernel = only(InMemoryTree(files))
    assert "virtio_blk" not in kernel.modules
    assert "virtio_blk" in kernel.dependencies


def test_the_configuration_tells_what_is_built_in_where_the_tree_does_not() -> None:
    config = "CONFIG_VIRTIO=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_PCI=m\n# CONFIG_VIRTIO_NET is not set\n"
    tree = InMemoryTree({f"/boot/vmlinuz-{V}": b"MZ", f"/lib/modules/{V}": Folder(), f"/boot/config-{V}": config})
    assert only(tree).builtin == ("virtio", "virtio_blk", "virtio_ring")


def test_all_kernels_are_found_the_menus_first_then_the_newest() -> None:
    tree = debian(V, OLD, "6.1.0-10-amd64")
    menu = loader(entry(f"/boot/vmlinuz-{OLD}", f"/boot/initrd.img-{OLD}"))
    assert [kernel.version for kernel in find_kernels(tree, menu)] == [OLD, "6.1.0-10-amd64", V]


def test_entries_for_the_same_pair_make_one_kernel_through_links_too() -> None:
    tree = debian(V, **{"/vmlinuz": Link(f"boot/vmlinuz-{V}"), "/initrd.img": Link(f"boot/initrd.img-{V}")})
    menu = loader(
        entry("/vmlinuz", "/initrd.img"),
        entry(f"/boot/vmlinuz-{V}", f"/boot/initrd.img-{V}"),
        entry(f"/boot/vmlinuz-{V}"),
    )
    assert only(tree, menu).image == f"/boot/vmlinuz-{V}"


def test_another_initramfs_for_the_same_image_is_another_kernel() -> None:
    tree = debian(V, **{"/boot/initrd-fallback.img": IMAGE + bytes(512)})
    image = f"/boot/vmlinuz-{V}"
    found = find_kernels(tree, loader(entry(image, f"/boot/initrd.img-{V}"), entry(image, "/boot/initrd-fallback.img")))
    assert [kernel.initramfs.path for kernel in found if kernel.initramfs] == [
        f"/boot/initrd.img-{V}",
        "/boot/initrd-fallback.img",
    ]


@pytest.mark.parametrize(
    "listed",
    [
        ("/boot/intel-ucode.img", f"/boot/initrd.img-{V}", "/boot/gone.img"),
        (f"/boot/initrd.img-{V}", "/boot/intel-ucode.img"),
        (f"/boot/initrd-{V}kdump",),
    ],
)
def test_microcode_kdump_and_missing_files_in_an_entry_are_not_its_initramfs(listed: tuple[str, ...]) -> None:
    tree = debian(V, **{"/boot/intel-ucode.img": IMAGE, f"/boot/initrd-{V}kdump": IMAGE})
    kernel = only(tree, loader(entry(f"/boot/vmlinuz-{V}", *listed)))
    assert kernel.initramfs is not None
    assert kernel.initramfs.path == f"/boot/initrd.img-{V}"


@pytest.mark.parametrize("name", ["initrd.img-{}", "initramfs-{}.img", "initrd-{}"])
def test_the_initramfs_is_found_by_name_and_kdumps_is_not_it(name: str) -> None:
    kdump = {"/boot/" + name.format(V).replace(V, f"{V}kdump"): IMAGE, f"/boot/initrd-{V}-kdump": IMAGE}
    files = {**modules(V), f"/boot/vmlinuz-{V}": b"MZ", **kdump}
    assert only(InMemoryTree(files)).initramfs is None
    path = "/boot/" + name.format(V)
    initramfs = only(InMemoryTree({**files, path: IMAGE})).initramfs
    assert initramfs is not None
    assert initramfs.path == path


def test_a_rescue_kernel_has_its_own_initramfs_and_the_version_its_image_tells() -> None:
    suffix = "0-rescue-0123456789abcdef0123456789abcdef"
    rescue = {f"/boot/vmlinuz-{suffix}": bzimage(OLD), f"/boot/initramfs-{suffix}.img": IMAGE + bytes(512)}
    newest, second = find_kernels(debian(V, **modules(OLD), **rescue), NO_LOADER)
    assert newest.version == V
    assert (second.version, second.image) == (OLD, f"/boot/vmlinuz-{suffix}")
    assert second.initramfs is not None
    assert second.initramfs.path == f"/boot/initramfs-{suffix}.img"
    assert second.modules_folder == f"/usr/lib/modules/{OLD}"


def test_an_image_without_a_version_in_its_name_tells_its_own() -> None:
    files = {**modules(V), "/boot/vmlinuz-linux": bzimage(V), "/boot/initramfs-linux.img": IMAGE}
    kernel = only(InMemoryTree(files))
    assert (kernel.version, kernel.initramfs and kernel.initramfs.path) == (V, "/boot/initramfs-linux.img")


NOT_BOOTABLE: Mapping[str, Mapping[str, Node]] = {
    "removed kernel": {f"/boot/vmlinuz-{OLD}": b"MZ"},
    "modules alone": modules(OLD),
    "debug image": {f"/boot/vmlinux-{V}.gz": b"\x1f\x8b"},
    "a folder": {f"/boot/vmlinuz-{OLD}/x": b"", **modules(OLD)},
    "a dangling link": {f"/boot/vmlinuz-{OLD}": Link("gone"), **modules(OLD)},
}


@pytest.mark.parametrize("what", NOT_BOOTABLE)
def test_what_cannot_be_booted_is_no_kernel(what: str) -> None:
    assert only(debian(V, **NOT_BOOTABLE[what])).version == V


def test_entries_for_other_programs_or_missing_images_are_no_kernels() -> None:
    tree = debian(V, **{"/boot/memtest86+x64.bin": bzimage("6.10")})
    assert only(tree, loader(entry("/boot/memtest86+x64.bin"), entry("/boot/gone"))).version == V


def test_a_kernel_of_the_menu_counts_without_modules_when_it_has_an_initramfs() -> None:
    tree = InMemoryTree({f"/boot/vmlinuz-{V}": b"MZ", f"/boot/initrd.img-{V}": IMAGE})
    kernel = only(tree, loader(entry(f"/boot/vmlinuz-{V}", f"/boot/initrd.img-{V}")))
    assert (kernel.version, kernel.modules_folder, dict(kernel.modules)) == (V, "", {})


@pytest.mark.parametrize("version", ["-n", "6.1 -C /etc", "../../etc", "$(id)"])
def test_a_version_that_is_none_is_no_kernel(version: str) -> None:
    files: dict[str, Node] = {f"/boot/vmlinuz-{version.replace('/', '_')}": b"MZ", "/lib/modules/-n/x": b""}
    assert find_kernels(InMemoryTree(files), NO_LOADER) == ()


def test_an_endless_boot_menu_is_cut() -> None:
    tree = debian(V, **{f"/boot/{number}": IMAGE + bytes(512 * number) for number in range(100)})
    menu = loader(*(entry(f"/boot/vmlinuz-{V}", f"/boot/{number}") for number in range(100)))
    assert len(find_kernels(tree, menu)) == 64


def test_this_hosts_own_kernel_tree_is_read() -> None:
    version = host_version()
    with open(f"/lib/modules/{version}/modules.dep", "rb") as dep, open(f"/boot/vmlinuz-{version}", "rb") as image:
        listed, head = dep.read(), image.read(1 << 16)
    folder = f"/lib/modules/{version}"
    files: dict[str, Node] = {f"{folder}/modules.dep": listed, "/boot/vmlinuz-linux": head}
    for line in listed.decode().splitlines():
        files[f"{folder}/{line.partition(':')[0]}"] = b""
    kernel = only(InMemoryTree(files))
    assert kernel.version == version
    assert set(kernel.modules) >= {"virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net", "virtio_rng", "virtio_gpu"}
    assert kernel.modules["virtio_rng"].endswith("virtio-rng.ko")
