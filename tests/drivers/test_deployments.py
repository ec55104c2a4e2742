"""ostree systems: the root is the deployment that starts, wherever /boot is, and nothing leads out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers import deployments
from drivers.changes import EditFile
from drivers.facts import BootLoader, GuestFacts, Mount
from drivers.inspection import inspect_confined, needs_appliance
from drivers.layout import Layout
from drivers.linux.bootloader import read_boot_loader
from drivers.planning import PlanOptions, plan_guest
from drivers.rewrite import mounts_of
from drivers.workshop import mounted
from tests.drivers.making import BOOT_UUID, ELF_X86_64, MIB, ROOT_UUID, lay_files, make_disk, make_ext
from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node
from tests.drivers.raw_reader import RawReader

OLD, NEW = "a" * 64, "b" * 64
BOOT_SUMS = {OLD: "c" * 64, NEW: "d" * 64}
ONE = "label: dos\nlabel-id: 0x0badcafe\nstart=2048, size=98304, type=83\n"
TWO = ONE + "start=100352, size=65536, type=83\n"
VERSION = "6.1.0-9-amd64"


def deployment(name: str, fstab: str = "") -> dict[str, bytes | str | Link]:
    """A checked-out tree, with links as ostree wants them."""
    at = f"/ostree/deploy/fedora/deploy/{name}.0"
    found: dict[str, bytes | str | Link] = {
        f"{at}/usr/lib/os-release": f'ID=fedora\nVERSION_ID="40"\nPRETTY_NAME="Fedora {name[:1]}"\n',
        f"{at}/etc/os-release": Link("../usr/lib/os-release"),
        f"{at}/etc/hostname": f"host-{name[:1]}\n",
        f"{at}/etc/fstab": fstab,
        f"{at}/usr/bin/sh": ELF_X86_64,
        f"{at}/usr/lib/systemd/systemd": ELF_X86_64,
        f"{at}/usr/lib/modules/{VERSION}/modules.builtin": "".join(
            f"kernel/{module}.ko\n" for module in ("virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_net")
        ),
        f"{at}/boot/.keep": "",
        f"{at}/var/.keep": "",
        f"{at}/sysroot/.keep": "",
    }
    links = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "home": "var/home", "ostree": "sysroot/ostree"}
    return {**found, **{f"{at}/{link}": Link(target) for link, target in links.items()}}


def physical(fstab: str = "") -> dict[str, bytes | str | Link]:
    """The file system with the repository and two deployments."""
    return {
        "/ostree/repo/config": "[core]\nrepo_version=1\n",
        **deployment(OLD),
        **deployment(NEW, fstab),
        "/ostree/boot.1": Link("boot.1.1"),
        **{
            f"/ostree/boot.1.1/fedora/{BOOT_SUMS[name]}/0": Link(f"../../../deploy/fedora/deploy/{name}.0")
            for name in (OLD, NEW)
        },
        "/ostree/deploy/fedora/var/lib/marker": "of the OS\n",
        "/boot/.keep": "",
    }


def boot(root: str = "/dev/sda1", default: int = 2) -> dict[str, bytes | str | Link]:
    """What is in /boot: entries of both deployments, a menu that lists them."""
    found: dict[str, bytes | str | Link] = {
        "/loader": Link("loader.1"),
        "/grub2/grub.cfg": "set default=\"${saved_entry}\"\nblscfg\n",
        "/grub2/grubenv": f"# GRUB Environment Block\nsaved_entry=ostree-{default}\n".ljust(1024, "#"),
    }
    for number, name in ((1, OLD), (2, NEW)):
        folder = f"/ostree/fedora-{BOOT_SUMS[name]}"
        found |= {
            f"/loader.1/entries/ostree-{number}.conf": (
                f"title Fedora {name[:1]} (ostree)\nversion {number}\noptions root={root} rw "
                f"ostree=/ostree/boot.1/fedora/{BOOT_SUMS[name]}/0\nlinux {folder}/vmlinuz-{VERSION}\n"
                f"initrd {folder}/initramfs-{VERSION}.img\n"
            ),
            f"{folder}/vmlinuz-{VERSION}": "kernel",
            f"{folder}/initramfs-{VERSION}.img": "070701",
        }
    return found


def inspected(disk: Path) -> GuestFacts:
    reader = RawReader(disk)
    try:
        return inspect_confined([reader])
    finally:
        reader.close()


def two_partitions(tmp_path: Path, boot_files: Mapping[str, bytes | str | Link], fstab: str = "") -> Path:
    root = make_ext(tmp_path / "root", 48 * MIB, lay_files(tmp_path / "root.d", physical(fstab)))
    other = make_ext(tmp_path / "boot", 32 * MIB, lay_files(tmp_path / "boot.d", boot_files), uuid=BOOT_UUID)
    return make_disk(tmp_path / "disk", 82 * MIB, TWO, [(MIB, root), (49 * MIB, other)])


@pytest.mark.parametrize(("default", "name"), [(2, NEW), (1, OLD)])
def test_the_root_is_the_deployment_that_the_default_entry_names(tmp_path: Path, default: int, name: str) -> None:
    facts = inspected(two_partitions(tmp_path, boot(default=default)))
    assert facts.os is not None
    assert (facts.os.id, facts.os.hostname, facts.os.init) == ("fedora", f"host-{name[:1]}", "systemd")
    state = "/ostree/deploy/fedora"
    assert facts.root == Mount("/", 0, 1, folder=f"{state}/deploy/{name}.0")
    assert facts.mounts[1:] == (
        Mount("/boot", 0, 2), Mount("/sysroot", 0, 1), Mount("/var", 0, 1, folder=f"{state}/var"),
    )  # fmt: skip
    assert needs_appliance(Layout.of(facts), facts) == ""
    assert facts.image is not None
    assert (facts.image.kind, facts.image.deployment) == ("ostree", f"{name}.0")


def test_fstab_of_the_deployment_counts(tmp_path: Path) -> None:
    fstab = f"UUID={ROOT_UUID} / ext4 noatime 0 1\nUUID={BOOT_UUID} /boot ext4 nodev 0 2\n"
    facts = inspected(two_partitions(tmp_path, boot(), fstab))
    assert [(m.mountpoint, m.options) for m in facts.mounts] == [
        ("/", "noatime"), ("/sysroot", ""), ("/var", ""), ("/boot", "nodev"),
    ]  # fmt: skip
    assert facts.texts["/etc/fstab"].text == fstab


def test_boot_on_the_root_file_system_is_found(tmp_path: Path) -> None:
    files = {**physical(), **{f"/boot{path}": node for path, node in boot().items()}}
    files.pop("/boot/.keep")
    root = make_ext(tmp_path / "root", 48 * MIB, lay_files(tmp_path / "root.d", files))
    facts = inspected(make_disk(tmp_path / "disk", 50 * MIB, ONE, [(MIB, root)]))
    assert facts.root is not None
    assert facts.root.folder.endswith(f"{NEW}.0")
    assert Mount("/boot", 0, 1, folder="/boot") in facts.mounts
    assert [kernel.image for kernel in facts.kernels] == [
        f"/boot/ostree/fedora-{BOOT_SUMS[name]}/vmlinuz-{VERSION}" for name in (NEW, OLD)
    ]


def test_without_an_entry_that_leads_anywhere_nothing_is_guessed(tmp_path: Path) -> None:
    facts = inspected(two_partitions(tmp_path, {"/marker": "boot\n"}))
    assert facts.os is None
    assert any("2 deployments" in note for note in facts.notes)


def test_entries_and_fstab_are_rewritten_and_the_repository_is_left_alone(tmp_path: Path) -> None:
    fstab = "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 /boot ext4 defaults 0 2\n"
    facts = inspected(two_partitions(tmp_path, boot(), fstab))
    plan = plan_guest(facts, PlanOptions((None,)))
    assert not plan.blockers
    edited = {change.path: change.after for change in plan.changes if isinstance(change, EditFile)}
    assert edited["/etc/fstab"] == f"UUID={ROOT_UUID} / ext4 defaults 0 1\nUUID={BOOT_UUID} /boot ext4 defaults 0 2\n"
    for number in (1, 2):
        assert f"options root=UUID={ROOT_UUID} rw ostree=/ostree/boot.1/" in edited[f"/boot/loader.1/entries/ostree-{number}.conf"]
    assert all(change.path.startswith(("/etc/", "/boot/")) for change in plan.changes)
    assert [mount.folder for mount in mounts_of(facts, plan.changes)] == [f"/ostree/deploy/fedora/deploy/{NEW}.0", ""]


def test_the_tree_for_supplements_is_the_deployments(tmp_path: Path) -> None:
    disk = two_partitions(tmp_path, boot())
    facts = inspected(disk)
    reader = RawReader(disk)
    tree = mounted([reader], facts)
    assert tree.read("/etc/hostname") == b"host-b\n"
    assert tree.read("/var/lib/marker") == b"of the OS\n"
    assert tree.exists(f"/boot/loader/entries/ostree-{1}.conf")
    assert tree.exists("/ostree/repo/config")
    reader.close()


def in_memory(changed: Mapping[str, Node | None]) -> InMemoryTree:
    nodes: dict[str, Node] = {**physical(), **{f"/boot{path}": node for path, node in boot().items()}}
    for path, node in changed.items():
        nodes = {known: n for known, n in nodes.items() if known != path and not known.startswith(f"{path}/")}
        if node is not None:
            nodes[path] = node
    return InMemoryTree(nodes)


@pytest.mark.parametrize("node", [Link("/etc"), Link(f"{OLD}.0"), "a file\n", None])
def test_a_deployment_that_is_no_folder_is_none(node: Node | None) -> None:
    tree = in_memory({f"/ostree/deploy/fedora/deploy/{NEW}.0": node})
    found, problem = deployments.booted(tree, read_boot_loader(tree))
    # the next entry's is taken, or what the link leads to, but never a place that is no deployment
    assert (found and found.path, problem) == (f"/ostree/deploy/fedora/deploy/{OLD}.0", "")


@pytest.mark.parametrize("target", ["/", "../../../..", "../../../deploy/fedora/deploy/..", "../0", "/proc/self/root"])
def test_an_entry_that_leads_out_of_the_deployments_is_not_followed(target: str) -> None:
    links = {f"/ostree/boot.1.1/fedora/{csum}/0": Link(target) for csum in BOOT_SUMS.values()}
    tree = in_memory(links)
    found, problem = deployments.booted(tree, read_boot_loader(tree))
    assert found is None
    assert "2 deployments" in problem


def test_the_only_deployment_needs_no_entry() -> None:
    tree = in_memory({f"/ostree/deploy/fedora/deploy/{OLD}.0": None, "/boot": Folder()})
    found, _ = deployments.booted(tree, BootLoader("none"))
    assert found is not None
    assert found.name == f"fedora {NEW}.0"


@pytest.mark.parametrize("path", ["/", f"/ostree/deploy/../deploy/{NEW}.0", f"/ostree/deploy/a/deploy/{NEW}", "/ostree/deploy"])
def test_a_path_that_is_no_deployments_is_refused(path: str) -> None:
    assert deployments.at(path) is None


def test_a_bootc_system_without_ostree_is_told_of(tmp_path: Path) -> None:
    files: dict[str, bytes | str | Link] = {"/composefs/images/x": "", "/state/deploy/y/etc/hostname": "h\n"}
    root = make_ext(tmp_path / "root", 48 * MIB, lay_files(tmp_path / "root.d", files))
    facts = inspected(make_disk(tmp_path / "disk", 50 * MIB, ONE, [(MIB, root)]))
    assert facts.root is None
    assert any("bootc" in note for note in facts.notes)


def test_a_system_beside_an_ostree_system_makes_two(tmp_path: Path) -> None:
    system: dict[str, bytes | str | Link] = {"/etc/os-release": "ID=debian\n", "/bin/sh": ELF_X86_64}
    root = make_ext(tmp_path / "root", 48 * MIB, lay_files(tmp_path / "root.d", physical()))
    other = make_ext(tmp_path / "other", 32 * MIB, lay_files(tmp_path / "other.d", system), uuid=BOOT_UUID)
    facts = inspected(make_disk(tmp_path / "disk", 82 * MIB, TWO, [(MIB, root), (49 * MIB, other)]))
    assert facts.root is None
    assert any("2 systems were found" in note for note in facts.notes)
