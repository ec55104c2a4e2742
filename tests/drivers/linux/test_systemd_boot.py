"""systemd-boot's entries and unified kernel images: what is read of them, and what an edit may touch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.facts import Kernel
from drivers.linux import pe
from drivers.linux.grubenv import plan_environment
from drivers.linux.unified import read_unified
from drivers.planning import PlanOptions
from tests.drivers.linux import images
from tests.drivers.linux.archives import host_version
from tests.drivers.linux.boot_guests import (
    MODULES,
    NAMES,
    ROOT_ARGUMENT,
    after,
    facts,
    loader,
    plan,
)
from tests.drivers.linux.guest import files as debian_files
from tests.drivers.linux.guest import text_file
from tests.drivers.memory_tree import InMemoryTree, Link, Node

# -- systemd-boot ------------------------------------------------------------------------------------------------------

DEBIAN_ENTRY = """\
title      Debian GNU/Linux 12 (bookworm)
version    {version}
machine-id abc
sort-key   debian
options    root=/dev/sda1 ro systemd.machine_id=abc
linux      /abc/{version}/linux
initrd     /abc/{version}/initrd.img
"""


def debian_boot(esp: str = "/boot/efi", default: str = "") -> dict[str, Node]:
    """A guest as Debian's systemd-boot package lays it out."""
    nodes: dict[str, Node] = {f"{esp}/loader/loader.conf": f"timeout 3\n{default}", "/lib": Link("usr/lib")}
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        nodes |= {
            f"{esp}/abc/{version}/linux": b"kernel",
            f"{esp}/abc/{version}/initrd.img": images.initramfs(version, MODULES),
            f"{esp}/loader/entries/abc-{version}.conf": DEBIAN_ENTRY.format(version=version),
            f"/usr/lib/modules/{version}/modules.dep": "",
        }
    return nodes


@pytest.mark.parametrize("esp", ["/boot/efi", "/efi", "/boot"])
def test_systemd_boots_entries_are_read_and_rewritten_wherever_the_partition_is_mounted(esp: str) -> None:
    nodes = debian_boot(esp)
    found = loader(nodes)
    assert (found.kind, found.config) == ("systemd-boot", f"{esp}/loader/loader.conf")
    assert [entry.kernel for entry in found.entries] == [f"{esp}/abc/6.1.0-{n}-amd64/linux" for n in (10, 9)]
    assert found.default == "Debian GNU/Linux 12 (bookworm) (6.1.0-10-amd64)"
    changed = after(nodes)
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        expected = DEBIAN_ENTRY.format(version=version).replace("root=/dev/sda1", ROOT_ARGUMENT)
        assert changed[f"{esp}/loader/entries/abc-{version}.conf"] == expected


@pytest.mark.parametrize(
    "default", ["abc-6.1.0-9-amd64.conf", "abc-6.1.0-9-amd64", "*-9-*", "ABC-6.1.0-9*"]
)  # fmt: skip
def test_loader_conf_chooses_by_a_pattern(default: str) -> None:
    assert loader(debian_boot(default=f"default {default}\n")).default.endswith("(6.1.0-9-amd64)")


def test_counted_tries_are_no_part_of_a_name() -> None:
    nodes = debian_boot(default="default abc-6.1.0-9-amd64.conf\n")
    nodes["/boot/efi/loader/entries/abc-6.1.0-9-amd64+2-1.conf"] = nodes.pop(
        "/boot/efi/loader/entries/abc-6.1.0-9-amd64.conf"
    )
    assert loader(nodes).default.endswith("(6.1.0-9-amd64)")


def test_kernels_in_folders_of_their_version_are_known_by_it() -> None:
    kernels: tuple[Kernel, ...] = facts(debian_boot()).kernels
    assert [kernel.version for kernel in kernels] == ["6.1.0-10-amd64", "6.1.0-9-amd64"]
    assert all(kernel.finds_virtio_root() for kernel in kernels)


def test_what_the_removable_path_holds_decides_between_two_boot_loaders() -> None:
    nodes = {**debian_files(), **debian_boot()}
    assert loader(nodes).kind == "grub2"
    program = images.pe({".text": b"x", ".sdmagic": b"#### LoaderInfo: systemd-boot 252.17 ####"})
    assert loader({**nodes, "/boot/efi/EFI/Boot/bootx64.efi": program}).kind == "systemd-boot"


# -- unified kernel images ---------------------------------------------------------------------------------------------

V = "6.1.0-9-amd64"


def unified(command_line: str, modules: tuple[str, ...], on_disk: tuple[str, ...] = ()) -> dict[str, Node]:
    """A guest that is started from one unified kernel image."""
    folder = f"/usr/lib/modules/{V}"
    return {
        "/lib": Link("usr/lib"),
        "/efi/loader/loader.conf": "",
        f"/efi/EFI/Linux/debian-{V}.efi": images.unified(V, command_line, modules),
        f"{folder}/modules.dep": "".join(f"kernel/{name}.ko:\n" for name in on_disk),
        **{f"{folder}/kernel/{name}.ko": b"ELF" for name in on_disk},
    }


def test_a_unified_image_that_has_all_it_needs_is_just_fine() -> None:
    found = plan(unified(f"{ROOT_ARGUMENT} ro quiet", MODULES))
    assert (found.changes, [f.id for f in found.warnings], found.blockers) == ((), ["linux.agent-missing"], ())
    assert found.caps.disk_buses[0] == "virtio-blk"
    (entry,) = loader(unified("root=UUID=x  ro", ())).entries
    assert (entry.kernel, entry.arguments, entry.initramfs) == (f"/efi/EFI/Linux/debian-{V}.efi", "root=UUID=x ro", ())


def test_a_unified_image_without_virtio_blocks_unless_compatible_hardware_is_asked_for() -> None:
    nodes = unified(ROOT_ARGUMENT, ("ahci", "e1000e"), ("virtio_pci", "virtio_blk", "virtio_net", "e1000e"))
    found = plan(nodes)
    assert [finding.id for finding in found.blockers] == ["linux.initramfs.fixed"]
    assert "unified kernel image" in found.blockers[0].message
    compatible = plan(nodes, PlanOptions(compatible=True))
    assert compatible.blockers == ()
    assert (compatible.caps.disk_buses, compatible.caps.nic_models[0]) == (("sata",), "e1000e")


def test_a_unified_image_that_names_its_root_by_device_blocks_unless_the_name_is_kept() -> None:
    modules = ("virtio_pci", "virtio_blk", "ahci")
    found = plan(unified("root=/dev/sda1", modules))
    assert [finding.id for finding in found.blockers] == ["linux.unified.names-device"]
    compatible = plan(unified("root=/dev/sda1", modules), PlanOptions(compatible=True))
    assert (compatible.blockers, compatible.caps.disk_buses) == ((), ("sata",))
    scsi = plan(unified("root=/dev/sda1", (*modules, "virtio_scsi")))
    assert (scsi.blockers, scsi.caps.disk_buses) == ((), ("virtio-scsi", "sata"))
    assert [finding.id for finding in plan(unified("root=/dev/nvme0n1p1", modules)).blockers] == [
        "linux.boot.root-name-fixed"
    ]


def test_an_entry_names_files_as_fat_does_in_any_case() -> None:
    nodes = debian_boot()
    path = "/boot/efi/loader/entries/abc-6.1.0-9-amd64.conf"
    nodes[path] = str(nodes[path]).replace("/abc/6.1.0-9-amd64/linux", "\\ABC\\6.1.0-9-AMD64\\Linux")
    assert "/boot/efi/abc/6.1.0-9-amd64/linux" in [entry.kernel for entry in loader(nodes).entries]


def test_sections_are_where_objdump_says(tmp_path: Path) -> None:
    # kernels are EFI programs themselves
    stub = Path(f"/boot/vmlinuz-{host_version()}")
    image, parts = tmp_path / "a.efi", []
    for name, data in (
        (".cmdline", f"{ROOT_ARGUMENT} ro"),
        (".uname", V),
        (".linux", "kernel"),
        (".initrd", "x" * 5000),
    ):
        (tmp_path / name).write_text(data)
        parts += ["--add-section", f"{name}={tmp_path / name}"]
    subprocess.run(["objcopy", *parts, stub, image], check=True, capture_output=True)
    said = subprocess.run(["objdump", "-h", image], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in said.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    tree = InMemoryTree({"/efi/EFI/Linux/a.efi": image.read_bytes()})
    found = pe.read_sections(tree, "/efi/EFI/Linux/a.efi")
    places = {name: (section.offset, section.size) for name, section in found.items()}
    assert places == {row[1]: (int(row[5], 16), int(row[2], 16)) for row in rows}
    assert {".linux", ".initrd", ".cmdline"} < set(found)
    unified_kernel = read_unified(tree, "/efi/EFI/Linux/a.efi")
    assert unified_kernel is not None
    assert (unified_kernel.version, unified_kernel.arguments) == (V, f"{ROOT_ARGUMENT} ro")


def test_grubs_own_tool_reads_the_block_that_was_edited(tmp_path: Path) -> None:
    file = tmp_path / "grubenv"
    subprocess.run(["grub-editenv", file, "create"], check=True)
    subprocess.run(["grub-editenv", file, "set", "saved_entry=a-1", "kernelopts=root=/dev/sda1 ro $x \\"], check=True)
    edit = plan_environment(text_file(file.read_text()), NAMES)
    assert edit is not None
    file.write_text(edit.after)
    listed = subprocess.run(["grub-editenv", file, "list"], check=True, capture_output=True, text=True).stdout
    assert listed == f"saved_entry=a-1\nkernelopts={ROOT_ARGUMENT} ro $x \\\n"
    assert file.stat().st_size == 1024


def test_damaged_images_are_no_entries() -> None:
    whole = images.unified(V, "x", ("ahci",))
    for length in (0, 1, 63, 64, 130, 200, 400, 700, 1100):
        loader({"/efi/loader/loader.conf": "", "/efi/EFI/Linux/a.efi": whole[:length]})
    cut = InMemoryTree({"/a.efi": whole[:-512]})
    assert set(pe.read_sections(cut, "/a.efi")) == {".osrel", ".cmdline", ".uname", ".linux"}
    huge = bytearray(whole)
    huge[0x86:0x88] = b"\xff\xff"
    assert loader({"/efi/loader/loader.conf": "", "/efi/EFI/Linux/a.efi": bytes(huge)}).entries == ()
