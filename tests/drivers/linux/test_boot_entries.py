"""Boot loaders besides GRUB 2's own menu: what is read of them, and what an edit of their entries may touch."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.changes import DeleteFile, EditFile
from drivers.facts import BootLoader, GuestFacts, Kernel
from drivers.linux import boot_entries, grub_script, grubenv, pe
from drivers.linux.bootloader import read_boot_loader
from drivers.linux.devices import DeviceNames
from drivers.linux.grubenv import plan_environment
from drivers.linux.kernels import find_kernels
from drivers.linux.unified import read_unified
from drivers.plan import GuestPlan
from drivers.planning import PlanOptions, plan_guest
from tests.drivers.linux import images
from tests.drivers.linux.archives import host_version
from tests.drivers.linux.guest import ROOT, SWAP, applied, facts_of, text_file
from tests.drivers.linux.guest import files as debian_files
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures.layout import ROOT_UUID, SWAP_UUID

PLAIN = PlanOptions()
NAMES = DeviceNames(1, (ROOT, SWAP), ROOT)
NEW, OLD, RESCUE = "5.14.0-503.el9.x86_64", "5.14.0-427.el9.x86_64", "0-rescue-abc"
MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "ahci")
BLS = "/boot/loader/entries"
ROOT_ARGUMENT, SWAP_ARGUMENT = f"root=UUID={ROOT_UUID}", f"resume=UUID={SWAP_UUID}"
FEDORA_CFG = """\
load_env -f ${config_directory}/grubenv
set default="${saved_entry}"
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=/dev/sda1 ro resume=/dev/sda2 "
fi
insmod blscfg
blscfg
menuentry 'UEFI Firmware Settings' --id 'uefi-firmware' {
\tfwsetup
}
"""


def loader(nodes: dict[str, Node]) -> BootLoader:
    """The boot loader read from these files."""
    return read_boot_loader(InMemoryTree(nodes))


def facts(nodes: dict[str, Node]) -> GuestFacts:
    """Facts of a guest with these files and the kernels that are in them."""
    nodes = {"/etc/fstab": f"UUID={ROOT_UUID} / ext4 defaults 0 1\n", **nodes}
    tree = InMemoryTree(nodes)
    return facts_of(nodes, find_kernels(tree, read_boot_loader(tree)))


def plan(nodes: dict[str, Node], options: PlanOptions = PLAIN) -> GuestPlan:
    """The plan of a guest with these files."""
    return plan_guest(facts(nodes), options)


def after(nodes: dict[str, Node]) -> dict[str, Node]:
    """The files once the plan was carried out; a second plan has nothing left to do."""
    first = plan(nodes)
    assert [finding.message for finding in first.blockers] == []
    found = applied(nodes, first.changes)
    assert plan(found).changes == ()
    return found


def kernel(version: str, folder: str = "/boot", modules: tuple[str, ...] = MODULES) -> dict[str, Node]:
    """A kernel's files as Red Hat names them."""
    return {
        f"{folder}/vmlinuz-{version}": b"kernel",
        f"{folder}/initramfs-{version}.img": images.initramfs(version, modules),
        f"/usr/lib/modules/{version}/modules.dep": "",
        "/lib": Link("usr/lib"),
    }


def snippet(version: str, options: str = "$kernelopts $tuned_params", title: str = "") -> str:
    """An entry as Red Hat's kernel-install plug-in writes it."""
    return (
        f"title {title or f'Red Hat Enterprise Linux ({version}) 9.5 (Plow)'}\nversion {version}\n"
        f"linux /vmlinuz-{version}\ninitrd /initramfs-{version}.img $tuned_initrd\noptions {options}\n"
        "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class rhel\n"
    )


def block(*lines: str) -> str:
    """An environment block of 1024 bytes."""
    text = grubenv.SIGNATURE + "".join(f"{line}\n" for line in lines)
    return text + "#" * (1024 - len(text))


def red_hat(options: str = "$kernelopts $tuned_params", environment: str = "") -> dict[str, Node]:
    """A BIOS guest with three entries."""
    return {
        "/boot/grub2/grub.cfg": FEDORA_CFG,
        "/boot/grub2/grubenv": environment or block("saved_entry=abc-" + OLD, "kernelopts=root=/dev/sda1 ro quiet"),
        **kernel(NEW), **kernel(OLD), **kernel(RESCUE),
        f"{BLS}/abc-{NEW}.conf": snippet(NEW, options),
        f"{BLS}/abc-{OLD}.conf": snippet(OLD, options),
        f"{BLS}/abc-0-rescue.conf": snippet(RESCUE, options),
    }  # fmt: skip


# -- Boot Loader Specification with GRUB -------------------------------------------------------------------------------


def test_snippets_stand_in_grubs_menu_newest_first_and_take_their_arguments_from_the_environment() -> None:
    found = loader(red_hat())
    assert (found.kind, found.config) == ("grub2", "/boot/grub2/grub.cfg")
    assert [entry.kernel for entry in found.entries] == [f"/boot/vmlinuz-{v}" for v in (NEW, OLD, RESCUE)]
    assert found.entries[0].initramfs == (f"/boot/initramfs-{NEW}.img",)
    assert {entry.arguments for entry in found.entries} == {"root=/dev/sda1 ro quiet"}
    assert found.entries[1].source == f"{BLS}/abc-{OLD}.conf"
    assert found.default == f"Red Hat Enterprise Linux ({OLD}) 9.5 (Plow)"


def test_without_a_saved_entry_the_newest_starts_and_the_menus_own_arguments_are_taken() -> None:
    found = loader(red_hat(environment=block()))
    assert found.default == f"Red Hat Enterprise Linux ({NEW}) 9.5 (Plow)"
    assert found.entries[0].arguments == "root=/dev/sda1 ro resume=/dev/sda2"


@pytest.mark.parametrize(
    ("lower", "higher"),
    [
        ("a-4.18.0-80.el8", "a-4.18.0-305.el8"), ("a-5.9.1-1", "a-5.10.0-1"), ("a-0-rescue", "a-2.6.1-1"),
        ("a-6.1.0~rc1-1", "a-6.1.0-1"), ("a-6.1-1", "a-6.1.1-1"), ("a-6.1-1.x", "a-6.1-1.0"), ("a-6.01-1", "a-6.2-1"),
    ],
)  # fmt: skip
def test_versions_are_compared_as_rpm_does(lower: str, higher: str) -> None:
    nodes: dict[str, Node] = {"/boot/grub2/grub.cfg": "blscfg\n"}
    nodes |= {f"{BLS}/{name}.conf": f"linux /k\ntitle {name}\n" for name in (higher, lower)}
    assert [entry.title for entry in loader(nodes).entries] == [higher, lower]


def test_entries_of_one_title_are_told_apart() -> None:
    nodes: dict[str, Node] = {"/boot/grub2/grub.cfg": 'set default="b"\nblscfg\n'}
    nodes |= {f"{BLS}/{name}.conf": "title Linux\nlinux /k\n" for name in "ab"}
    found = loader(nodes)
    assert sorted(entry.title for entry in found.entries) == ["Linux (a)", "Linux (b)"]
    assert found.default == "Linux (b)"


def test_a_stub_on_the_efi_partition_leads_to_a_menu_of_snippets() -> None:
    nodes = {**red_hat(), "/boot/efi/EFI/redhat/grub.cfg": "set prefix=($dev)/grub2\nconfigfile $prefix/grub.cfg\n"}
    assert loader(nodes).config == "/boot/grub2/grub.cfg"
    assert len(loader(nodes).entries) == 3


def test_arguments_in_snippets_are_named_by_uuid_and_every_other_byte_stays() -> None:
    nodes = red_hat("root=/dev/sda1 ro  resume=/dev/sda2 rd.lvm.lv=rhel/root console=hvc0,115200\tquiet")
    found = after(nodes)
    for name in (NEW, OLD, "0-rescue"):
        path = f"{BLS}/abc-{name}.conf"
        expected = str(nodes[path]).replace("root=/dev/sda1", ROOT_ARGUMENT).replace("resume=/dev/sda2", SWAP_ARGUMENT)
        assert found[path] == expected.replace("console=hvc0,", "console=ttyS0,")


def test_crlf_comments_and_names_that_last_stay_in_a_snippet() -> None:
    text = f"# root=/dev/sda1\r\ntitle x\r\nlinux /vmlinuz-{NEW}\r\ninitrd /i\r\n"
    text += f"options root=/dev/sda1 \r\noptions {SWAP_ARGUMENT}\r\n"
    nodes = {**red_hat(), f"{BLS}/abc-{NEW}.conf": text}
    assert after(nodes)[f"{BLS}/abc-{NEW}.conf"] == text.replace("options root=/dev/sda1", f"options {ROOT_ARGUMENT}")


def test_the_environment_block_and_the_menus_fallback_are_named_by_uuid_and_the_block_keeps_its_size() -> None:
    found = after(red_hat())
    text = str(found["/boot/grub2/grubenv"])
    assert len(text) == 1024
    assert text.startswith(f"{grubenv.SIGNATURE}saved_entry=abc-{OLD}\nkernelopts={ROOT_ARGUMENT} ro quiet\n##")
    assert text.rstrip("#").endswith("quiet\n")
    assert f'set kernelopts="{ROOT_ARGUMENT} ro {SWAP_ARGUMENT} "' in str(found["/boot/grub2/grub.cfg"])


def test_a_block_that_is_a_link_to_the_efi_partition_is_edited_where_it_is() -> None:
    nodes = red_hat()
    nodes["/boot/efi/EFI/redhat/grubenv"] = nodes["/boot/grub2/grubenv"]
    nodes["/boot/grub2/grubenv"] = Link("../efi/EFI/redhat/grubenv")
    assert ROOT_ARGUMENT in str(after(nodes)["/boot/efi/EFI/redhat/grubenv"])


def test_a_longer_name_takes_the_fillings_bytes_and_a_block_that_is_full_stays_with_a_warning() -> None:
    line = "kernelopts=root=/dev/sda1 ro"
    full = grubenv.SIGNATURE + f"{line}\n" + "#" * 10
    assert plan_environment(text_file(full), NAMES) is None
    edit = plan_environment(text_file(full + "#" * 90), NAMES)
    assert edit is not None
    assert len(edit.after) == len(full) + 90
    nodes = red_hat(environment=grubenv.SIGNATURE + f"{line} x={'y' * 950}\n" + "#" * 10)
    assert "linux.grubenv.names-device" in [finding.id for finding in plan(nodes).warnings]


def test_a_block_counts_bytes_not_characters() -> None:
    text = grubenv.SIGNATURE + "kernelopts=root=/dev/sda1 ü\udcff\n" + "#" * 900
    edit = plan_environment(text_file(text), NAMES)
    assert edit is not None
    assert len(edit.after.encode("utf-8", "surrogateescape")) == len(text.encode("utf-8", "surrogateescape"))


def test_a_default_snippet_whose_root_is_not_there_blocks() -> None:
    nodes = red_hat("root=/dev/sdc1 ro")
    assert [finding.id for finding in plan(nodes).blockers] == ["linux.boot-loader.root-unresolved"]
    nodes = red_hat(environment=block("kernelopts=root=/dev/sdc1 ro"))
    assert [finding.id for finding in plan(nodes).blockers] == ["linux.boot-loader.root-unresolved"]
    nodes = {**red_hat("root=/dev/sda1"), f"{BLS}/abc-{NEW}.conf": snippet(NEW, "root=/dev/sdc1")}
    found = plan(nodes)
    assert found.blockers == ()
    assert "linux.boot-loader.argument-names-device" in [finding.id for finding in found.warnings]


def test_a_default_snippet_with_a_uuid_that_nothing_has_is_warned_of() -> None:
    assert "linux.boot-loader.root-absent" in [f.id for f in plan(red_hat("root=UUID=dead-beef")).warnings]


@pytest.mark.parametrize("path", ["/etc/kernel/cmdline", "/etc/cmdline.d/root.conf"])
def test_what_the_next_kernels_entry_is_made_from_is_named_by_uuid(path: str) -> None:
    nodes = {**red_hat(), path: "# root=/dev/sda1\nroot=/dev/sda1 ro console=xvc0\n"}
    assert after(nodes)[path] == f"# root=/dev/sda1\n{ROOT_ARGUMENT} ro console=ttyS0\n"


def test_settings_that_are_a_link_are_edited_once() -> None:
    nodes = {
        **red_hat(),
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="resume=/dev/sda2 console=hvc0 x"\n',
        "/etc/sysconfig/grub": Link("/etc/default/grub"),
    }
    assert after(nodes)["/etc/default/grub"] == f'GRUB_CMDLINE_LINUX="{SWAP_ARGUMENT} console=ttyS0 x"\n'


def test_hvc0_stays_where_every_machine_has_it() -> None:
    found = facts(red_hat("root=UUID=x console=hvc0"))
    assert found.os is not None
    power = dataclasses.replace(found, os=dataclasses.replace(found.os, arch="ppc64le"))
    edits = [change for change in boot_entries.contribute(power, NAMES).changes if isinstance(change, EditFile)]
    assert not any("ttyS0" in edit.after for edit in edits)


def test_a_cryptdevice_ends_at_its_colon() -> None:
    nodes = red_hat("cryptdevice=/dev/sda2:root root=/dev/mapper/root")
    assert f"cryptdevice=UUID={SWAP_UUID}:root root=/dev/mapper/root" in str(after(nodes)[f"{BLS}/abc-{NEW}.conf"])


TEXT = st.text(st.sampled_from("linux options root=/dev/sda1\n\r\t#$=\udcff\x0b "), max_size=80)


@settings(deadline=None, max_examples=60)
@given(TEXT)
def test_any_text_can_be_an_entry_a_label_or_a_menu(text: str) -> None:
    for nodes in (
        {"/boot/grub2/grub.cfg": "blscfg", f"{BLS}/a.conf": text},
        {"/efi/loader/loader.conf": text, "/efi/loader/entries/a.conf": text},
        {"/boot/extlinux.conf": f"label x\n{text}"},
        {"/boot/grub/menu.lst": f"title x\n{text}"},
        {"/etc/lilo.conf": f"image=/x\n{text}"},
    ):
        plan_guest(facts_of({"/etc/fstab": "", **nodes}), PlanOptions())


MEGABYTES = {
    "blanks": " " * 900000,
    "letters": "a" * 900000,
    "key and blanks": "options" + " " * 900000,
    "kernel and blanks": "kernel" + " " * 900000,
    "argument and blanks": "label x\nappend a" + " " * 900000 + "\x0b",
    "roots": "options root=/dev/sda1" * 40000,
    "titles": "title x\nkernel /k root=/dev/sda1\n" * 20000,
    "labels": "label x\nlinux /k\n" * 40000,
    "images": "image=/x\nroot=" * 60000,
    "omitted": 'omit_drivers+="' + "virtio " * 100000,
    "open lists": "MODULES=(\n" * 90000,
    "devices": "/dev/sda1=" * 90000,
}


@pytest.mark.parametrize("kind", MEGABYTES)
def test_megabytes_of_anything_are_read_and_planned_in_seconds(kind: str) -> None:
    started = time.monotonic()
    for path in (
        f"{BLS}/a.conf", "/efi/loader/loader.conf", "/boot/extlinux.conf", "/boot/grub/menu.lst", "/etc/lilo.conf",
        "/etc/dracut.conf", "/etc/mkinitcpio.conf", "/etc/kernel/cmdline", "/boot/grub2/grubenv", "/etc/inittab",
    ):  # fmt: skip
        nodes: dict[str, Node] = {"/etc/fstab": "", path: MEGABYTES[kind], "/usr/lib/dracut": Folder()}
        if path in (f"{BLS}/a.conf", "/boot/grub2/grubenv"):
            nodes["/boot/grub2/grub.cfg"] = "blscfg\n"
        plan_guest(facts_of(nodes), PLAIN)
    assert time.monotonic() - started < 30


def test_blscfg_inside_an_entry_is_none_of_the_menu() -> None:
    assert grub_script.parse("menuentry a {\n blscfg\n}\n").bls_at is None


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


# -- extlinux ----------------------------------------------------------------------------------------------------------

ALPINE = """\
# Generated by update-extlinux 6.04_pre1
DEFAULT menu.c32
PROMPT 0
MENU TITLE Alpine/Linux Boot Menu
LABEL virt
  MENU DEFAULT
  MENU LABEL Linux virt
  LINUX vmlinuz-virt
  INITRD initramfs-virt
  APPEND root=/dev/sda1 modules=sd-mod,ext4 quiet rootfstype=ext4
"""


def alpine(text: str = ALPINE) -> dict[str, Node]:
    """A guest as Alpine lays it out."""
    version = "6.6.31-0-virt"
    return {
        "/boot/extlinux.conf": text,
        "/boot/vmlinuz-virt": images_header(version),
        "/boot/initramfs-virt": images.initramfs(version, MODULES),
        f"/usr/lib/modules/{version}/modules.dep": "",
        "/lib": Link("usr/lib"),
        "/etc/update-extlinux.conf": 'root=/dev/sda1\nmodules=sd-mod,ext4\ndefault_kernel_opts="quiet"\n# root=/dev/sda1\n',
    }


def images_header(version: str) -> bytes:
    """The parts of the x86 boot header that tell the version."""
    head = bytearray(0x400)
    head[0x202:0x206] = b"HdrS"
    head[0x20E:0x210] = (0x100).to_bytes(2, "little")
    head[0x300 : 0x300 + len(version) + 1] = f"{version} ".encode()
    return bytes(head)


def test_alpines_labels_and_settings_are_named_by_uuid() -> None:
    nodes = alpine()
    (entry,) = loader(nodes).entries
    assert (entry.title, entry.kernel, entry.initramfs) == ("virt", "/boot/vmlinuz-virt", ("/boot/initramfs-virt",))
    found = after(nodes)
    assert found["/boot/extlinux.conf"] == ALPINE.replace("root=/dev/sda1", ROOT_ARGUMENT)
    settings_text = str(nodes["/etc/update-extlinux.conf"])
    assert found["/etc/update-extlinux.conf"] == settings_text.replace("root=/dev/sda1", ROOT_ARGUMENT, 1)


def test_included_labels_are_read_and_edited_where_they_stand_and_circles_end() -> None:
    main = "default l1\nprompt 1\ninclude linux.cfg\n"
    included = (
        f"label l0\n kernel /vmlinuz-{NEW}\n append initrd=/initramfs-{NEW}.img root=/dev/sda1\n"
        f"label l1\n kernel /vmlinuz-{OLD}\n append initrd=/initramfs-{OLD}.img root=/dev/sda1 ro\ninclude extlinux.conf\n"
    )
    nodes: dict[str, Node] = {
        "/boot/extlinux/extlinux.conf": main, "/boot/extlinux/linux.cfg": included, **kernel(NEW), **kernel(OLD),
    }  # fmt: skip
    found = loader(nodes)
    assert (found.kind, found.default, len(found.entries)) == ("extlinux", "l1", 2)
    assert found.entries[1].initramfs == (f"/boot/initramfs-{OLD}.img",)
    assert after(nodes)["/boot/extlinux/linux.cfg"] == included.replace("root=/dev/sda1", ROOT_ARGUMENT)


def test_arguments_for_all_labels_count_where_a_label_has_none() -> None:
    text = "append root=/dev/sda1 quiet\nlabel a\n linux /a\n"
    text += "label b\n linux /b\n append root=/dev/sda2\nlabel c\n linux /c\n append -\n"
    entries = loader({"/extlinux.conf": text}).entries
    assert [entry.arguments for entry in entries] == ["root=/dev/sda1 quiet", "root=/dev/sda2", ""]


# -- GRUB legacy -------------------------------------------------------------------------------------------------------

MENU_LST = f"""\
# menu.lst - See: grub(8), info grub, update-grub(8)
default\t\t1
timeout\t\t5
### BEGIN AUTOMAGIC KERNELS LIST
## e.g. kopt=root=/dev/hda1 ro
# kopt=root=/dev/sda1 ro
# groot=(hd0,0)
title\t\tDebian, kernel {NEW}
root\t\t(hd0,0)
kernel\t\t/vmlinuz-{NEW} root=/dev/sda1 ro console=xvc0
initrd\t\t/initramfs-{NEW}.img

title\t\tDebian, kernel {OLD}
root\t\t(hd0,0)
kernel\t\t/vmlinuz-{OLD} root=/dev/sda1 ro
initrd\t\t/initramfs-{OLD}.img
"""


def legacy(text: str = MENU_LST) -> dict[str, Node]:
    """A guest with GRUB legacy."""
    return {"/boot/grub/menu.lst": text, "/boot/grub/device.map": "(hd0)\t/dev/sda\n", **kernel(NEW), **kernel(OLD)}


def test_grub_legacys_entries_and_debians_settings_are_named_by_uuid_and_the_device_map_goes() -> None:
    found = loader(legacy())
    assert (found.kind, found.default) == ("grub1", f"Debian, kernel {OLD}")
    assert found.entries[0].initramfs == (f"/boot/initramfs-{NEW}.img",)
    assert any(isinstance(change, DeleteFile) for change in plan(legacy()).changes)
    expected = MENU_LST.replace("root=/dev/sda1", ROOT_ARGUMENT).replace("console=xvc0", "console=ttyS0")
    assert after(legacy())["/boot/grub/menu.lst"] == expected


@pytest.mark.parametrize(
    ("line", "default"), [("default=0", "A"), ("default saved", "B"), ("default 7", "A"), ("", "A")]
)
def test_grub_legacys_default_is_a_number_or_the_saved_one(line: str, default: str) -> None:
    text = f"{line}\ntitle A\nkernel /a\ntitle B\nkernel /b\n"
    assert loader({"/boot/grub/grub.conf": text, "/boot/grub/default": "1\n#\n"}).default == default


def test_titles_that_repeat_are_told_apart() -> None:
    entries = loader({"/boot/grub/grub.conf": "default 1\ntitle A\nkernel /a\ntitle A\nkernel /b\n"})
    assert ([entry.title for entry in entries.entries], entries.default) == (["A", "A (2)"], "A (2)")


def test_a_kernel_under_xen_is_the_first_module() -> None:
    text = "title A\nkernel /xen.gz dom0_mem=1G\nmodule /vmlinuz-1 root=/dev/sda1 ro\nmodule /initrd-1\n"
    (entry,) = loader({"/boot/grub/menu.lst": text}).entries
    assert (entry.kernel, entry.arguments, entry.initramfs) == ("/vmlinuz-1", "root=/dev/sda1 ro", ("/initrd-1",))


def test_a_menu_that_is_a_link_is_edited_once() -> None:
    nodes = legacy()
    nodes["/boot/grub/grub.conf"] = nodes.pop("/boot/grub/menu.lst")
    nodes["/boot/grub/menu.lst"] = Link("grub.conf")
    nodes["/etc/grub.conf"] = Link("../boot/grub/grub.conf")
    assert ROOT_ARGUMENT in str(after(nodes)["/boot/grub/grub.conf"])


# -- LILO --------------------------------------------------------------------------------------------------------------


def lilo(root: str, config: str, append: str = "", initrd: str = "") -> dict[str, Node]:
    """A guest with LILO and a kernel with the given configuration."""
    return {
        "/etc/lilo.conf": f'boot=/dev/hda\nroot={root}\ndefault=Linux\nimage=/boot/vmlinuz-2.6.18\n\tlabel=Linux\n\tread-only\n'
        + (f'\tappend="{append}"\n' if append else "") + (f"\tinitrd={initrd}\n" if initrd else ""),
        "/boot/vmlinuz-2.6.18": images_header("2.6.18"),
        "/boot/config-2.6.18": config,
    }  # fmt: skip


IDE = "CONFIG_IDE=y\nCONFIG_BLK_DEV_IDEDISK=y\nCONFIG_BLK_DEV_PIIX=y\n"


def test_lilos_map_is_left_alone_and_the_hardware_keeps_the_name_in_it() -> None:
    found = plan(lilo("/dev/hda1", IDE))
    assert (found.changes, found.blockers) == ((), ())
    assert found.caps.disk_buses == ("ide",)
    assert {finding.id for finding in found.warnings} >= {"linux.disks.name-kept"}
    sata = plan(lilo("/dev/sda1", "CONFIG_SATA_AHCI=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n"))
    assert (sata.blockers, sata.caps.disk_buses) == ((), ("sata",))


def test_a_name_in_lilos_map_that_no_hardware_keeps_blocks() -> None:
    found = plan(lilo("/dev/xvda1", IDE))
    assert [finding.id for finding in found.blockers] == ["linux.boot.root-name-fixed"]
    assert [finding.id for finding in plan(lilo("/dev/sda1", IDE)).blockers] == ["linux.boot.root-name-fixed"]


def test_a_name_in_lilos_map_is_kept_though_an_initramfs_could_find_another() -> None:
    nodes = lilo("/dev/sda1", "", initrd="/boot/initrd-2.6.18")
    nodes["/boot/initrd-2.6.18"] = images.initramfs("2.6.18", ("ata_piix", *MODULES))
    found = plan(nodes)
    assert (found.changes, found.blockers, found.caps.disk_buses) == ((), (), ("virtio-scsi", "sata", "ide"))


def test_a_root_by_uuid_is_nothing_that_lilo_stands_in_the_way_of() -> None:
    virtio = "CONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n"
    found = plan(lilo(f'"UUID={ROOT_UUID}"', virtio))
    assert (found.blockers, found.caps.disk_buses) == ((), ("virtio-blk",))


def test_an_initramfs_in_lilos_map_is_not_extended() -> None:
    nodes = lilo(f"UUID={ROOT_UUID}", "", initrd="/boot/initrd-2.6.18")
    folder = "/usr/lib/modules/2.6.18"
    nodes |= {
        "/lib": Link("usr/lib"), "/boot/initrd-2.6.18": images.initramfs("2.6.18", ("ahci",)),
        f"{folder}/modules.dep": "kernel/virtio_pci.ko:\nkernel/virtio_blk.ko:\n",
        f"{folder}/kernel/virtio_pci.ko": b"ELF", f"{folder}/kernel/virtio_blk.ko": b"ELF",
    }  # fmt: skip
    found = plan(nodes)
    assert (found.changes, found.blockers, found.caps.disk_buses) == ((), (), ("sata",))


# -- hardware that the guest has drivers for ---------------------------------------------------------------------------

OLD_RED_HAT = "2.6.18-398.el5"


def mkinitrd(modules: tuple[str, ...], config: str = "", on_disk: tuple[str, ...] = ()) -> dict[str, Node]:
    """A Red Hat 5 guest, whose archive loads modules by a script."""
    archive = images.initramfs(OLD_RED_HAT, modules, marker="bin/nash")
    folder = f"/lib/modules/{OLD_RED_HAT}"
    return {
        "/boot/grub/grub.conf": f"title R\nroot (hd0,0)\nkernel /vmlinuz-{OLD_RED_HAT} ro root=LABEL=/\n"
        f"initrd /initrd-{OLD_RED_HAT}.img\n",
        f"/boot/vmlinuz-{OLD_RED_HAT}": b"kernel",
        f"/boot/initrd-{OLD_RED_HAT}.img": archive,
        f"/boot/config-{OLD_RED_HAT}": config,
        f"{folder}/modules.dep": "".join(f"{folder}/kernel/{name}.ko:\n" for name in on_disk),
        **{f"{folder}/kernel/{name}.ko": b"ELF" for name in on_disk},
    }


def test_an_archive_that_loads_its_modules_by_a_script_gets_ide_and_says_so() -> None:
    found = plan(mkinitrd(("ata_piix", "mptspi"), on_disk=("virtio_pci", "virtio_blk", "e1000")))
    assert found.blockers == ()
    assert (found.caps.disk_buses, found.caps.nic_models) == (("ide",), ("e1000",))
    assert [f.id for f in found.warnings][:2] == ["linux.kernel.no-virtio", "linux.disks.not-virtio"]
    before_libata = plan(mkinitrd(("mptscsih",), IDE, on_disk=("8139cp",)))
    assert (before_libata.blockers, before_libata.caps.disk_buses) == ((), ("ide",))
    assert before_libata.caps.nic_models == ("rtl8139",)


def test_such_an_archive_without_a_driver_for_any_bus_blocks() -> None:
    assert [f.id for f in plan(mkinitrd(("mptspi",))).blockers] == ["linux.boot.no-disk-driver"]
    on_disk = ("virtio_pci", "virtio_blk")
    assert [f.id for f in plan(mkinitrd(("mptspi",), on_disk=on_disk)).blockers] == ["linux.initramfs.fixed"]
    virtio = plan(mkinitrd(("virtio_pci", "virtio_blk")))
    assert (virtio.blockers, virtio.caps.disk_buses) == ((), ("virtio-blk",))


def test_a_squashed_image_blocks_unless_compatible_hardware_is_asked_for() -> None:
    found = facts(red_hat(f"{ROOT_ARGUMENT} ro"))
    squashed = tuple(
        dataclasses.replace(
            kernel,
            modules={"virtio_pci": "a", "virtio_blk": "b", "e1000e": "c"},
            initramfs=kernel.initramfs and dataclasses.replace(kernel.initramfs, modules=(), squashed=True),
        )
        for kernel in found.kernels
    )
    hidden = dataclasses.replace(found, kernels=squashed)
    (blocker,) = plan_guest(hidden, PLAIN).blockers
    assert blocker.id == "linux.initramfs.fixed"
    assert "--compatible" in blocker.hint
    compatible = plan_guest(hidden, PlanOptions(compatible=True))
    assert compatible.blockers == ()
    assert (compatible.caps.disk_buses, compatible.caps.nic_models[0]) == (("sata", "ide"), "e1000e")
    assert "linux.disks.unknown" in [finding.id for finding in compatible.warnings]


def test_compatible_takes_nothing_from_a_guest_that_has_virtio() -> None:
    nodes = red_hat(f"{ROOT_ARGUMENT} ro")
    assert plan(nodes, PlanOptions(compatible=True)).caps == plan(nodes).caps


def test_an_old_kernel_that_looks_for_its_root_itself_keeps_its_name() -> None:
    nodes: dict[str, Node] = {
        "/boot/grub/menu.lst": "title A\nkernel /boot/vmlinuz-2.6.32 root=/dev/sda1 ro\n",
        "/boot/vmlinuz-2.6.32": b"kernel",
        "/boot/config-2.6.32": "CONFIG_ATA_PIIX=y\nCONFIG_VIRTIO_PCI=y\nCONFIG_VIRTIO_BLK=y\n",
    }
    found = plan(nodes)
    assert (found.changes, found.blockers, found.caps.disk_buses) == ((), (), ("ide",))
    newer = {path.replace("2.6.32", "4.19.0"): node for path, node in nodes.items()}
    newer["/boot/grub/menu.lst"] = str(newer["/boot/grub/menu.lst"]).replace("2.6.32", "4.19.0")
    assert "root=PARTUUID=c0ffee12-01 ro" in str(after(newer)["/boot/grub/menu.lst"])
    assert plan(newer).caps.disk_buses[0] == "virtio-blk"
