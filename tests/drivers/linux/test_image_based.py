"""Image-based systems in memory, shaped like the real ones: what is done, what is left out, what stands in the way."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Mapping

import pytest

from drivers.changes import EditFile, ExtendInitramfs, MakeSymlink, WriteFile
from drivers.facts import BootEntry, BootLoader, GuestFacts, ImageSystem, Mount, OperatingSystem, Partition, ReadBy
from drivers.linux.cpio import NewEntry, write_archive
from drivers.linux.image_based import contribute, image_of_partitions, read_image
from drivers.linux.initramfs import read_initramfs
from drivers.linux.kernels import find_kernels
from drivers.plan import GuestPlan, PlanOptions
from drivers.planning import plan_guest
from drivers.systems import read_system
from p2v.core.units import MIB
from tests.drivers.linux.guest import VERSION, applied, facts_of, files, kernel
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.fixtures import etc

NONE = BootLoader("none")
STORE = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz"
SYSTEM = f"{STORE}-nixos-system-vmguest-24.05"
MICROOS_FSTAB = """\
/dev/sda1 / btrfs ro 0 0
/dev/sda1 /var btrfs subvol=/@/var,x-initrd.mount 0 0
/dev/sda1 /boot/writable btrfs subvol=/@/boot/writable 0 0
"""
ETC_OVERLAY = (
    "overlay /etc overlay defaults,lowerdir=/sysroot/etc,upperdir=/sysroot/var/lib/overlay/1/etc,"
    "workdir=/sysroot/var/lib/overlay/1/work-etc,x-systemd.requires-mounts-for=/var 0 0\n"
)
ETC_BIND = "/etc /etc none bind,x-initrd.mount 0 0\n"
# "HdrS", and a version 0x240 bytes from the beginning (Documentation/arch/x86/boot.rst)
KERNEL = bytes(0x202) + b"HdrS" + bytes(8) + b"\x40\0" + bytes(0x30) + b"6.6.30 (nixbld)\0"
WHOLE = {
    "flatcar": 'NAME="Flatcar Container Linux by Kinvolk"\nID=flatcar\nID_LIKE=coreos\nVERSION_ID=3815.2.0\n',
    "ubuntu-core": "NAME=\"Ubuntu Core\"\nID=ubuntu-core\nVERSION_ID=22\n",
    "bottlerocket": "NAME=Bottlerocket\nID=bottlerocket\nVERSION_ID=1.20.0\nVARIANT_ID=vmware-k8s-1.29\n",
    "talos": 'NAME="Talos"\nID=talos\nVERSION_ID=v1.7.0\n',
    "chromeos": "NAME=Container-Optimized OS\nID=cos\nVERSION_ID=113\n",
}


def image_of(nodes: Mapping[str, Node], loader: BootLoader = NONE, root: Mount | None = None) -> ImageSystem | None:
    return read_image(InMemoryTree(nodes), loader, root)


def planned(nodes: Mapping[str, Node], image: ImageSystem | None, **more: object) -> GuestPlan:
    facts = dataclasses.replace(facts_of(nodes), image=image)
    return plan_guest(dataclasses.replace(facts, **more), PlanOptions((None,)))  # type: ignore[arg-type]


def ids(plan: GuestPlan) -> tuple[set[str], set[str]]:
    return {finding.id for finding in plan.blockers}, {finding.id for finding in plan.warnings}


# --- recognised ------------------------------------------------------------------------------------------------------


def test_a_system_of_packages_is_no_image() -> None:
    assert image_of(files()) is None


@pytest.mark.parametrize("kind", WHOLE)
def test_a_system_that_is_an_image_as_a_whole_is_blocked_with_a_way_out(kind: str) -> None:
    nodes = {**files(), "/etc/os-release": WHOLE[kind]}
    image = image_of(nodes)
    assert image is not None
    assert (image.kind, image.sealed) == (kind, ("/",))
    plan = planned(nodes, image)
    assert plan.changes == ()
    (blocker,) = (finding for finding in plan.blockers if finding.id.startswith("linux.image"))
    assert blocker.id == "linux.image.closed"
    assert "KVM" in blocker.hint


@pytest.mark.parametrize(
    ("kind", "labels"),
    [
        ("flatcar", ("EFI-SYSTEM", "BIOS-BOOT", "USR-A", "USR-B", "OEM", "OEM-CONFIG", "ROOT")),
        ("chromeos", ("STATE", "KERN-A", "ROOT-A", "KERN-B", "ROOT-B", "OEM", "EFI-SYSTEM")),
        ("talos", ("EFI", "BIOS", "BOOT", "META", "STATE", "EPHEMERAL")),
        ("ubuntu-core", ("BIOS Boot", "ubuntu-seed", "ubuntu-boot", "ubuntu-save", "ubuntu-data")),
        ("bottlerocket", ("BIOS-BOOT", "BOTTLEROCKET-BOOT-A", "BOTTLEROCKET-ROOT-A", "BOTTLEROCKET-DATA")),
    ],
)
def test_a_system_whose_files_say_nothing_is_known_by_its_partitions(kind: str, labels: tuple[str, ...]) -> None:
    partitions = tuple(Partition(0, n, n * MIB, MIB, "x", partlabel=label) for n, label in enumerate(labels, 1))
    image = image_of_partitions(partitions)
    assert image is not None
    assert image.kind == kind
    facts = GuestFacts(ReadBy.HOST, (), partitions, image=image)
    assert [finding.id for finding in plan_guest(facts, PlanOptions()).blockers] == ["linux.image.closed"]
    for number in range(len(labels)):
        some = (*partitions[:number], *partitions[number + 1 :])
        assert image_of_partitions(some) in (None, image)


def test_partitions_of_any_machine_are_no_image() -> None:
    labels = ("EFI System Partition", "ROOT", "STATE", "OEM", None)
    assert image_of_partitions(Partition(0, n, n, 1, "x", partlabel=label) for n, label in enumerate(labels)) is None


@pytest.mark.parametrize(
    ("table", "opened"),
    [(MICROOS_FSTAB + ETC_OVERLAY, ("/var", "/boot/writable")), (MICROOS_FSTAB + ETC_BIND, ("/var", "/boot/writable", "/etc"))],
)
def test_a_transactional_system_is_known_by_its_tool_and_its_read_only_root(table: str, opened: tuple[str, ...]) -> None:
    nodes: dict[str, Node] = {"/usr/sbin/transactional-update": b"#!", "/etc/fstab": table}
    assert image_of(nodes) == ImageSystem("transactional", "", ("/",), opened)
    # the tool is there on servers whose root is like any other
    assert image_of({**nodes, "/etc/fstab": "/dev/sda1 / btrfs defaults 0 0\n"}) is None
    assert image_of({"/etc/fstab": table}) is None


@pytest.mark.parametrize(
    ("arguments", "sealed"),
    [
        ("root=UUID=x usrhash=abcd mount.usr=/dev/mapper/usr", ("/usr",)),
        ("root=/dev/mapper/root roothash=abcd", ("/",)),
        ('dm="1 vroot none ro 1,0 2506752 verity payload=/dev/sda3" root=/dev/dm-0', ("/",)),
    ],
)
def test_a_hash_tree_is_known_by_the_kernels_arguments(arguments: str, sealed: tuple[str, ...]) -> None:
    entry = BootEntry("a", "/boot/vmlinuz", (), arguments)
    image = image_of(files(), BootLoader("grub2", "/boot/grub/grub.cfg", (entry,), "a"))
    assert image is not None
    assert (image.kind, image.sealed) == ("verity", sealed)


@pytest.mark.parametrize("arguments", ["roothash= root=/dev/sda1", "xroothash=1", "root=/dev/mapper/verity-root ro"])
def test_arguments_that_only_look_like_a_hash_tree_are_none(arguments: str) -> None:
    entry = BootEntry("a", "/boot/vmlinuz", (), arguments)
    assert image_of(files(), BootLoader("grub2", "/boot/grub/grub.cfg", (entry,), "a")) is None


@pytest.mark.parametrize(
    ("path", "sealed"),
    [("/usr/lib/x", True), ("/etc/fstab", False), ("/etc", False), ("/etcetera", True), ("/boot/loader.1/a.conf", False)],
)
def test_what_an_image_seals_ends_at_its_folders(path: str, sealed: bool) -> None:
    assert ImageSystem("ostree", "", ("/",), ("/etc", "/var", "/boot", "/efi")).seals(path) is sealed


@pytest.mark.parametrize(
    ("conf", "is_sealed"),
    [
        ("[etc]\ntransient = true\n", True),
        ("[etc]\ntransient=false\n", False),
        ("[root]\ntransient=true\n", False),
        ("\udcff[", False),
    ],
)
def test_an_etc_that_ostree_makes_anew_at_each_start_is_part_of_the_image(conf: str, is_sealed: bool) -> None:
    nodes: dict[str, Node] = {
        "/sysroot/ostree/repo/config": "", "/sysroot/ostree/deploy": Folder(), "/ostree": Link("sysroot/ostree"),
        "/usr/lib/ostree/prepare-root.conf": conf,
    }  # fmt: skip
    image = image_of(nodes, root=Mount("/", 0, 1, folder="/ostree/deploy/a/deploy/x.0"))
    assert image is not None
    assert (image.kind, image.deployment, image.seals("/etc/fstab")) == ("ostree", "x.0", is_sealed)


# --- done and not done -----------------------------------------------------------------------------------------------


def test_a_read_only_snapshot_that_needs_a_change_to_start_is_blocked() -> None:
    image = ImageSystem("transactional", "", ("/",), ("/var",))
    plan = planned(files(), image)
    assert plan.changes == ()
    sealed = [finding for finding in plan.blockers if finding.id == "linux.image.sealed"]
    paths = {finding.message.split(" ")[0] for finding in sealed}
    assert {"/etc/fstab", "/boot/grub/grub.cfg", f"/boot/initrd.img-{VERSION}"} <= paths
    assert all("transactional-update shell" in finding.hint for finding in sealed)
    assert "linux.image.left-out" in ids(plan)[1]


def test_a_read_only_snapshot_that_starts_as_it_is_is_converted_and_what_is_left_out_is_said() -> None:
    nodes = files()
    for path in etc.device_naming_files(etc.Naming.DEVICE, [VERSION]):
        nodes[path] = etc.device_naming_files(etc.Naming.UUID, [VERSION])[path]
    image = ImageSystem("transactional", "", ("/",), ("/var",))
    facts = dataclasses.replace(facts_of(nodes, [kernel(modules=("virtio_pci", "virtio_blk"))]), image=image)
    plan = plan_guest(facts, PlanOptions((None,)))
    assert plan.blockers == ()
    assert plan.changes == ()
    (left,) = (finding for finding in plan.warnings if finding.id == "linux.image.left-out")
    assert "open-vm-tools.service" in left.message


def test_what_was_appended_to_an_image_s_initramfs_is_told_to_be_gone_with_the_next_image() -> None:
    image = ImageSystem("ostree", "x.0", ("/",), ("/etc", "/var", "/boot", "/efi"))
    plan = planned(files(), image)
    assert any(isinstance(change, ExtendInitramfs) for change in plan.changes)
    assert "linux.image.next-initramfs" in ids(plan)[1]
    assert plan.blockers == ()


def test_a_plan_for_an_image_applied_twice_changes_nothing() -> None:
    image = ImageSystem("verity", "", ("/usr",))
    first = planned(files(), image)
    assert first.changes
    extended = kernel(modules=("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod"))
    facts = dataclasses.replace(facts_of(applied(files(), first.changes), [extended]), image=image)
    assert plan_guest(facts, PlanOptions((None,))).changes == ()


def test_changes_of_any_kind_are_kept_or_told_of() -> None:
    changes = (
        WriteFile("/usr/lib/a", "", 0o644, "w"), MakeSymlink("/usr/b", "x", None, "w"), EditFile("/etc/c", "a", "b", "w"),
    )  # fmt: skip
    facts = dataclasses.replace(facts_of(files()), image=ImageSystem("verity", "", ("/usr",)))
    kept, found = contribute(facts, changes)
    assert kept == changes[2:]
    (warning,) = found.warnings
    assert "create /usr/lib/a" in warning.message
    assert "link /usr/b" in warning.message


@pytest.mark.parametrize("options", [PlanOptions(purge_tools=True), PlanOptions(install_agent=True)])
def test_packages_of_an_image_are_not_managed_at_the_first_boot(options: PlanOptions) -> None:
    facts = dataclasses.replace(facts_of(files()), image=ImageSystem("ostree", "x.0", ("/",), ("/etc", "/var", "/boot", "/efi")))
    plan = plan_guest(facts, options)
    assert "linux.first-boot.impossible" in ids(plan)[1]
    assert not any("firstboot" in change.path for change in plan.changes)


# --- NixOS -----------------------------------------------------------------------------------------------------------


def nixos(fstab_device: str = "/dev/disk/by-uuid/x", initrd: bytes = b"") -> dict[str, Node]:
    """A NixOS with systemd-boot, as its files lie: /etc leads into the store, kernels are copied to the ESP."""
    folder = f"{STORE}-linux-6.6.30-modules/lib/modules/6.6.30"
    return {
        "/etc/static": Link(f"{STORE}-etc/etc"),
        "/etc/fstab": Link("/etc/static/fstab"),
        "/etc/os-release": Link("/etc/static/os-release"),
        "/etc/systemd/system": Link("/etc/static/systemd/system"),
        "/etc/NIXOS": "",
        "/etc/machine-id": "1234\n",
        f"{STORE}-etc/etc/fstab": f"{fstab_device} / ext4 x-initrd.mount 0 1\n",
        f"{STORE}-etc/etc/os-release": 'ID=nixos\nVERSION_ID="24.05"\n',
        f"{STORE}-etc/etc/systemd/system/open-vm-tools.service": "[Service]\n",
        f"{SYSTEM}/init": "#!",
        f"{SYSTEM}/kernel-modules": Link(f"{STORE}-linux-6.6.30-modules"),
        f"{folder}/modules.dep": "kernel/drivers/virtio/virtio_pci.ko.xz:\nkernel/drivers/block/virtio_blk.ko.xz:\n",
        f"{folder}/kernel/drivers/virtio/virtio_pci.ko.xz": b"ELF",
        f"{folder}/kernel/drivers/block/virtio_blk.ko.xz": b"ELF",
        f"{folder}/modules.builtin": "",
        "/boot/loader/loader.conf": "default nixos-generation-2.conf\n",
        "/boot/loader/entries/nixos-generation-2.conf": (
            f"title NixOS\nlinux /EFI/nixos/kernel.efi\ninitrd /EFI/nixos/initrd.efi\noptions init={SYSTEM}/init root=/dev/sda1\n"
        ),
        "/boot/EFI/nixos/kernel.efi": KERNEL,
        "/boot/EFI/nixos/initrd.efi": initrd or nix_initrd(),
        "/nix/var/nix/profiles/system": Link("system-2-link"),
        "/nix/var/nix/profiles/system-2-link": Link(SYSTEM),
    }


def nix_initrd(*modules: str) -> bytes:
    folder = f"{STORE[1:]}-linux-6.6.30-modules-shrunk/lib/modules/6.6.30"
    parts = folder.split("/")
    folders = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    entries = [NewEntry(path, stat.S_IFDIR | 0o755) for path in folders]
    names = modules or ("ahci.ko.xz",)
    entries += [NewEntry(f"{folder}/{name}", stat.S_IFREG | 0o644, b"ELF") for name in sorted(names)]
    return write_archive(entries)


def test_nixos_is_known_and_what_leads_into_its_store_is_sealed() -> None:
    image = image_of(nixos())
    assert image is not None
    assert image.kind == "nix"
    assert {"/nix/store", "/etc/static", "/etc/fstab", "/etc/systemd/system"} <= set(image.sealed)
    assert not image.seals("/etc/machine-id")
    assert not image.seals("/boot/loader/entries/nixos-generation-2.conf")


def test_nixos_is_started_by_systemd_though_it_has_no_sbin_init() -> None:
    nodes: dict[str, Node] = {
        **nixos(), "/bin/sh": Link(f"{STORE}-bash/bin/bash"), f"{SYSTEM}/systemd": Link(f"{STORE}-systemd-255"),
        f"{STORE}-systemd-255/lib/systemd/systemd": b"\x7fELF",
    }  # fmt: skip
    system = read_system(InMemoryTree(nodes))
    assert system is not None
    assert (system.kind, system.family, system.init) == ("linux", "nixos", "systemd")


def test_modules_of_a_nixos_initramfs_are_found_in_its_store() -> None:
    tree = InMemoryTree({"/initrd": nix_initrd("virtio_blk.ko.xz")})
    found = read_initramfs(tree, "/initrd", "6.6.30")
    assert found.modules == ("virtio_blk",)
    assert found.module_prefix == f"{STORE[1:]}-linux-6.6.30-modules-shrunk/lib/modules/6.6.30"


def nixos_facts(nodes: Mapping[str, Node]) -> GuestFacts:
    tree = InMemoryTree(nodes)
    facts = facts_of(nodes)
    kernels = find_kernels(tree, facts.boot_loader)
    return dataclasses.replace(
        facts,
        os=OperatingSystem("linux", "nixos", "24.05", "NixOS 24.05", "x86_64", "nixos", "vmguest", "systemd"),
        kernels=kernels,
        image=read_image(tree, facts.boot_loader, facts.root),
    )


def test_nixos_kernels_have_the_modules_of_the_system_that_their_entry_starts() -> None:
    (found,) = nixos_facts(nixos()).kernels
    assert (found.version, found.modules_folder) == ("6.6.30", f"{STORE}-linux-6.6.30-modules/lib/modules/6.6.30")
    assert set(found.modules) == {"virtio_pci", "virtio_blk"}


def test_nixos_is_rewritten_by_its_entries_and_its_initramfs() -> None:
    plan = plan_guest(nixos_facts(nixos()), PlanOptions((None,)))
    assert plan.blockers == ()
    changed = {change.path: change for change in plan.changes}
    entry = changed["/boot/loader/entries/nixos-generation-2.conf"]
    assert isinstance(entry, EditFile)
    assert "root=UUID=" in entry.after
    extended = changed["/boot/EFI/nixos/initrd.efi"]
    assert isinstance(extended, ExtendInitramfs)
    assert extended.archive_prefix == f"{STORE[1:]}-linux-6.6.30-modules-shrunk/lib/modules/6.6.30"
    assert not any(path.startswith(("/nix", "/etc/systemd/system")) for path in changed)


def test_a_nixos_whose_store_names_its_root_by_device_is_blocked() -> None:
    plan = plan_guest(nixos_facts(nixos("/dev/sda1")), PlanOptions((None,)))
    (blocker,) = plan.blockers
    assert blocker.id == "linux.image.sealed"
    assert "configuration.nix" in blocker.hint


def test_links_in_etc_that_lead_nowhere_or_round_are_no_trouble() -> None:
    nodes = {**nixos(), "/etc/loop": Link("loop"), "/etc/gone": Link("/nix/store/gone"), "/etc/deep": Folder()}
    image = image_of(nodes)
    assert image is not None
    assert "/etc/loop" not in image.sealed
