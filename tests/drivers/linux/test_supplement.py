"""Extending an initramfs: when it is planned, what is built, that kmod finds the modules, and that the kernel boots."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from drivers.changes import ExtendInitramfs
from drivers.facts import BootLoader, Initramfs, Kernel
from drivers.linux.cpio import ByteStream, NewEntry, read_entries, write_archive
from drivers.linux.initramfs import read_initramfs
from drivers.linux.kernels import find_kernels
from drivers.linux.supplement import build_supplement, plan_initramfs, why_not
from p2v.core.errors import GuestNotUnderstood, PlanStale
from p2v.core.run import Completed, SystemRunner, find_program
from tests.drivers.linux.archives import (
    MERGED_USR,
    PACKERS,
    aligned,
    gnu_cpio,
    host_module,
    host_version,
    lay_out,
    pack,
    unpack,
)
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.fixtures import boot, disk, guest
from tests.fixtures.layout import ROOT_UUID

# Planning: pure, with facts made by hand.

V = "6.1.0-9-amd64"
CORE = ("kernel/drivers/virtio/virtio_ring.ko", "kernel/drivers/virtio/virtio.ko")
PCI = ("kernel/drivers/virtio/virtio_pci_modern_dev.ko", "kernel/drivers/virtio/virtio_pci_legacy_dev.ko")
SCSI = ("kernel/drivers/scsi/scsi_common.ko", "kernel/drivers/scsi/scsi_mod.ko")
VIRTIO_PCI = "kernel/drivers/virtio/virtio_pci.ko"
VIRTIO_BLK = "kernel/drivers/block/virtio_blk.ko"
VIRTIO_SCSI = "kernel/drivers/scsi/virtio_scsi.ko"

INITRAMFS = Initramfs(
    "/boot/initrd", 1000, "ab" * 32, ("zstd",), "initramfs-tools", ("ahci", "ext4"), f"usr/lib/modules/{V}"
)
KERNEL = Kernel(
    V,
    "/boot/vmlinuz",
    f"/usr/lib/modules/{V}",
    INITRAMFS,
    modules={
        "virtio_pci": VIRTIO_PCI,
        "virtio_blk": VIRTIO_BLK,
        "virtio_scsi": VIRTIO_SCSI,
        "virtio_net": "kernel/drivers/net/virtio_net.ko",
        "virtio_rng": "kernel/drivers/char/hw_random/virtio-rng.ko",
    },
    dependencies={
        "virtio_pci": (*CORE, *PCI),
        "virtio_blk": CORE,
        "virtio_scsi": (*CORE, *SCSI),
        "virtio_net": CORE,
        "virtio_rng": CORE,
    },
)


def with_initramfs(**changes: object) -> Kernel:
    return dataclasses.replace(KERNEL, initramfs=dataclasses.replace(INITRAMFS, **changes))  # type: ignore[arg-type]


def test_an_initramfs_without_virtio_gets_the_disks_modules_and_nothing_else() -> None:
    change = plan_initramfs(KERNEL)
    assert change is not None
    assert change.modules == (*CORE, *PCI, VIRTIO_PCI, VIRTIO_BLK, *SCSI, VIRTIO_SCSI)
    assert (change.path, change.size, change.sha256) == ("/boot/initrd", 1000, "ab" * 32)
    assert (change.kernel_version, change.modules_folder) == (V, f"/usr/lib/modules/{V}")
    assert (change.archive_prefix, change.codec) == (f"usr/lib/modules/{V}", "none")
    assert why_not(KERNEL) == ""


def test_modules_that_the_archive_has_are_not_added_again() -> None:
    kernel = with_initramfs(modules=("scsi_common", "scsi_mod", "virtio", "virtio_pci_modern_dev", "virtio_ring"))
    change = plan_initramfs(kernel)
    assert change is not None
    assert change.modules == (PCI[1], VIRTIO_PCI, VIRTIO_BLK, VIRTIO_SCSI)


def test_built_in_modules_are_not_added() -> None:
    change = plan_initramfs(dataclasses.replace(KERNEL, builtin=("virtio", "virtio_pci", "virtio_ring", "scsi_mod")))
    assert change is not None
    assert change.modules == (VIRTIO_BLK, SCSI[0], VIRTIO_SCSI)


@pytest.mark.parametrize(
    ("members", "codec"),
    [(("none", "gzip"), "none"), (("lz4",), "lz4"), (("lz4", "none"), "none"), (("none",), "none"), (("xz",), "none")],
)
def test_only_behind_lz4_the_supplement_is_lz4_too(members: tuple[str, ...], codec: str) -> None:
    change = plan_initramfs(with_initramfs(members=members))
    assert change is not None
    assert change.codec == codec


@pytest.mark.parametrize(
    "kernel",
    [
        with_initramfs(modules=("virtio_blk", "virtio_pci")),
        dataclasses.replace(KERNEL, builtin=("virtio_blk", "virtio_pci"), initramfs=None),
    ],
)
def test_a_kernel_that_finds_its_root_needs_no_change_and_no_excuse(kernel: Kernel) -> None:
    assert plan_initramfs(kernel) is None
    assert why_not(kernel) == ""


_NO_BLK = {name: path for name, path in KERNEL.modules.items() if name != "virtio_blk"}
IMPOSSIBLE: Mapping[str, tuple[Kernel, str]] = {
    "squashed": (with_initramfs(squashed=True), "squashed"),
    "unreadable": (with_initramfs(problem="it is torn"), "it is torn"),
    "fixed list": (with_initramfs(builder="mkinitrd"), "mkinitrd"),
    "no initramfs": (dataclasses.replace(KERNEL, initramfs=None), "no initramfs"),
    "module not made": (dataclasses.replace(KERNEL, modules=_NO_BLK, dependencies={}), "no virtio_blk"),
    "file missing": (dataclasses.replace(KERNEL, modules=_NO_BLK), "missing"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_be_extended_is_not_planned_and_says_why(what: str) -> None:
    kernel, word = IMPOSSIBLE[what]
    assert plan_initramfs(kernel) is None
    assert word in why_not(kernel)


# Building: real modules, real programs, and kmod itself as the witness.

SD_AND_DEPENDENCIES = (
    "kernel/drivers/scsi/scsi_common.ko",
    "kernel/drivers/scsi/scsi_mod.ko",
    "kernel/drivers/ata/libata.ko",
    "kernel/drivers/ata/ahci.ko",
    "kernel/drivers/ata/libahci.ko",
)
DISK_ALIASES = {
    "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00": "virtio_pci",
    "virtio:d00000002v00001AF4": "virtio_blk",
}


@dataclasses.dataclass(frozen=True)
class Sample:
    """A guest in memory whose initramfs knows AHCI only, with the host's kernel tree; and that initramfs unpacked."""

    tree: InMemoryTree
    image: bytes
    change: ExtendInitramfs
    contents: Mapping[str, Node]


def guest_tree(image: bytes, modules: Mapping[str, bytes] | None = None) -> InMemoryTree:
    version = host_version()
    host = Path("/lib/modules", version)
    paths = [*SD_AND_DEPENDENCIES, *CORE, *PCI, VIRTIO_PCI, VIRTIO_BLK, VIRTIO_SCSI]
    files: dict[str, Node] = {
        "/lib": Link("usr/lib"),
        f"/boot/vmlinuz-{version}": b"MZ",
        f"/boot/initrd.img-{version}": image,
    }
    files |= {f"/usr/lib/modules/{version}/{path}": (host / path).read_bytes() for path in paths}
    for name in ("modules.dep", "modules.order", "modules.builtin", "modules.builtin.modinfo"):
        files[f"/usr/lib/modules/{version}/{name}"] = (host / name).read_bytes()
    return InMemoryTree({**files, **(modules or {})})


def archived(prefix: str = "usr/lib") -> dict[str, Node]:
    folder = f"{prefix}/modules/{host_version()}"
    files = {f"{folder}/{path}": host_module(path) for path in SD_AND_DEPENDENCIES}
    own: Mapping[str, Node] = MERGED_USR if prefix == "usr/lib" else {"conf/initramfs.conf": ""}
    return {**own, **files, f"{folder}/modules.dep.bin": b"to be replaced"}


def sample(
    folder: Path, codec: str = "gzip", prefix: str = "usr/lib", more: Mapping[str, Node] | None = None
) -> Sample:
    contents = {**archived(prefix), **(more or {})}
    image = pack(codec, gnu_cpio(folder / "root", contents))
    tree = guest_tree(image)
    (kernel,) = find_kernels(tree, BootLoader("none"))
    change = plan_initramfs(kernel)
    assert change is not None
    return Sample(tree, image, change, contents)


def built(sample: Sample, scratch: Path) -> bytes:
    return build_supplement(sample.change, sample.tree, scratch, SystemRunner())


def modprobe(root: Path, *arguments: str) -> str:
    program = find_program("modprobe")
    if program is None:
        pytest.skip("modprobe is not on this host (kmod)")
    argv = [str(program), "-d", str(root), "-S", host_version(), "-C", "/dev/null", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def archive_in(supplement: bytes) -> bytes:
    return supplement[supplement.index(b"070701") :]


@pytest.mark.parametrize("prefix", ["usr/lib", "lib"])
def test_kmod_finds_the_added_modules_and_the_old_ones_in_the_unpacked_image(tmp_path: Path, prefix: str) -> None:
    made = sample(tmp_path, prefix=prefix)
    root = tmp_path / "unpacked"
    root.mkdir()
    lay_out(root, made.contents)
    unpack(archive_in(built(made, tmp_path)), root)
    assert (root / "lib").is_symlink() == (prefix == "usr/lib")
    for alias, module in DISK_ALIASES.items():
        assert modprobe(root, "-R", alias).split() == [module]
    needed = [Path(line.split()[1]) for line in modprobe(root, "--show-depends", "virtio_pci").splitlines()]
    assert {path.name for path in needed} == {Path(path).name for path in (*CORE, *PCI, VIRTIO_PCI)}
    assert needed[-1].name == "virtio_pci.ko"
    assert all(path.is_relative_to(root) and path.is_file() for path in needed)
    assert "libahci.ko" in modprobe(root, "--show-depends", "ahci")


def test_modules_are_added_byte_for_byte_and_links_of_the_archive_get_no_entry(tmp_path: Path) -> None:
    made = sample(tmp_path)
    stream = ByteStream([archive_in(built(made, tmp_path))])
    entries = [(entry.name, entry.is_folder, entry.data(1 << 20)) for entry in read_entries(stream)]
    names = [name for name, _, _ in entries]
    prefix = f"usr/lib/modules/{host_version()}"
    added = (*CORE, *PCI, VIRTIO_PCI, VIRTIO_BLK, VIRTIO_SCSI)
    assert {name: data for name, _, data in entries if name.endswith(".ko")} == {
        f"{prefix}/{path}": host_module(path) for path in added
    }
    assert [name for name, is_folder, _ in entries if is_folder] == [
        f"{prefix}/kernel/drivers/block",
        f"{prefix}/kernel/drivers/virtio",
    ]
    assert names == sorted(names)
    assert {f"{prefix}/modules.{name}" for name in ("dep.bin", "alias.bin", "symbols.bin", "softdep")} <= set(names)


def test_a_link_below_the_module_folder_is_followed_rather_than_replaced(tmp_path: Path) -> None:
    prefix = f"usr/lib/modules/{host_version()}"
    made = sample(tmp_path, more={f"{prefix}/kernel/drivers/virtio": Link("../../vio"), f"{prefix}/vio/x": ""})
    stream = ByteStream([archive_in(built(made, tmp_path))])
    names = [entry.name for entry in read_entries(stream)]
    assert f"{prefix}/vio/virtio.ko" in names
    assert f"{prefix}/kernel/drivers/virtio" not in names


@pytest.mark.parametrize("codec", PACKERS)
def test_the_extended_image_reads_as_one_that_finds_its_root(tmp_path: Path, codec: str) -> None:
    made = sample(tmp_path, codec)
    extended = made.image + built(made, tmp_path)
    found = read_initramfs(guest_tree(extended), made.change.path, host_version())
    assert found.problem == ""
    assert found.members == (codec, "lz4" if codec == "lz4" else "none")
    assert {"virtio_pci", "virtio_blk", "virtio_scsi", "ahci"} <= set(found.modules)
    (kernel,) = find_kernels(guest_tree(extended), BootLoader("none"))
    assert kernel.finds_virtio_root()
    assert plan_initramfs(kernel) is None


def test_an_lz4_archive_of_odd_length_still_leaves_the_supplement_on_a_boundary(tmp_path: Path) -> None:
    contents = gnu_cpio(tmp_path / "root", archived()) + bytes(3)
    for tail in (b"", bytes(1), bytes(4), bytes(9)):
        image = pack("lz4", contents) + tail
        tree = guest_tree(image)
        (kernel,) = find_kernels(tree, BootLoader("none"))
        change = plan_initramfs(kernel)
        assert change is not None
        extended = image + build_supplement(change, tree, tmp_path, SystemRunner())
        found = read_initramfs(guest_tree(extended), change.path, host_version())
        assert (found.problem, "virtio_blk" in found.modules) == ("", True), tail


def test_the_indexes_name_the_archives_files_where_the_guests_tree_is_compressed(tmp_path: Path) -> None:
    version = host_version()
    image = pack("gzip", gnu_cpio(tmp_path / "root", archived()))
    folder = f"/usr/lib/modules/{version}"
    added = (*CORE, *PCI, VIRTIO_PCI, VIRTIO_BLK)
    squeezed = {f"{folder}/{path}.xz": pack("xz", host_module(path)) for path in added}
    change = ExtendInitramfs(
        f"/boot/initrd.img-{version}", len(image), hashlib.sha256(image).hexdigest(), version, folder,
        tuple(f"{path}.xz" for path in added), f"usr/lib/modules/{version}", "none", "test",
    )  # fmt: skip
    supplement = build_supplement(change, guest_tree(image, squeezed), tmp_path, SystemRunner())
    root = tmp_path / "unpacked"
    root.mkdir()
    lay_out(root, archived())
    unpack(archive_in(supplement), root)
    assert modprobe(root, "--show-depends", "virtio_blk").split()[-1].endswith("virtio_blk.ko.xz")
    assert modprobe(root, "--show-depends", "ahci").split()[-1].endswith("ahci.ko")
    assert (root / f"usr/lib/modules/{version}/{VIRTIO_BLK}.xz").read_bytes() == squeezed[f"{folder}/{VIRTIO_BLK}.xz"]


def test_a_module_that_is_a_link_in_the_archive_stays_in_the_indexes(tmp_path: Path) -> None:
    """Red Hat's weak-updates: links to another kernel's extra folder."""
    prefix = f"usr/lib/modules/{host_version()}"
    contents = archived()
    contents["usr/lib/modules/5.0/extra/dummy.ko"] = host_module("kernel/drivers/net/dummy.ko")
    contents[f"{prefix}/weak-updates/dummy.ko"] = Link("/lib/modules/5.0/extra/dummy.ko")
    made = sample(tmp_path, more=contents)
    stream = ByteStream([archive_in(built(made, tmp_path))])
    index = next(entry.data(1 << 20) for entry in read_entries(stream) if entry.name.endswith("modules.dep"))
    assert b"weak-updates/dummy.ko:" in index


def test_hard_linked_modules_are_indexed_by_both_names(tmp_path: Path) -> None:
    root, prefix = tmp_path / "root", f"usr/lib/modules/{host_version()}"
    gnu_cpio(root, archived())
    ahci = root / prefix / "kernel/drivers/ata/ahci.ko"
    os.link(ahci, ahci.with_name("ahci_too.ko"))
    names = b"\0".join(sorted(os.fsencode(path.relative_to(root)) for path in root.rglob("*")))
    argv = ["cpio", "--quiet", "-0", "-o", "-H", "newc"]
    image = subprocess.run(argv, input=names + b"\0", cwd=root, capture_output=True, check=True).stdout
    tree = guest_tree(image)
    (kernel,) = find_kernels(tree, BootLoader("none"))
    change = plan_initramfs(kernel)
    assert change is not None
    stream = ByteStream([archive_in(build_supplement(change, tree, tmp_path, SystemRunner()))])
    index = next(entry.data(1 << 20) for entry in read_entries(stream) if entry.name.endswith("modules.dep"))
    assert b"ata/ahci.ko: kernel/drivers/ata/libahci.ko" in index
    assert b"ata/ahci_too.ko: kernel/drivers/ata/libahci.ko" in index


def test_the_same_change_gives_the_same_bytes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = sample(tmp_path / "guest")
    one, two = tmp_path / "one", tmp_path / "two"
    for scratch in (one, two):
        scratch.mkdir()
    assert built(made, one) == built(made, two)
    assert list(one.iterdir()) == []


def test_an_image_that_has_the_supplement_already_needs_nothing(tmp_path: Path) -> None:
    made = sample(tmp_path)
    supplement = built(made, tmp_path)
    extended = dataclasses.replace(made, tree=guest_tree(made.image + supplement))
    assert built(extended, tmp_path) == b""


@pytest.mark.parametrize("damage", ["changed", "torn", "shorter", "other tail", "half a supplement", "gone"])
def test_any_other_image_is_not_as_planned(tmp_path: Path, damage: str) -> None:
    made = sample(tmp_path)
    supplement = built(made, tmp_path)
    image = {
        # gzip's time of packing: the contents stay sound
        "changed": made.image[:4] + b"\1" + made.image[5:],
        "torn": made.image[:-1] + b"?",
        "shorter": made.image[:-1],
        "other tail": made.image + bytes(len(supplement)),
        "half a supplement": made.image + supplement[:-512],
        "gone": b"",
    }[damage]
    tree = guest_tree(image) if damage != "gone" else InMemoryTree({})
    with pytest.raises(PlanStale):
        build_supplement(made.change, tree, tmp_path, SystemRunner())


def test_a_module_that_is_gone_or_a_prefix_that_is_not_the_archives_is_not_as_planned(tmp_path: Path) -> None:
    made = sample(tmp_path)
    for changes in (
        {"modules": ("kernel/gone.ko",)},
        {"modules": ("../../../../../boot/vmlinuz.ko",)},
        {"archive_prefix": f"lib/modules/{host_version()}"},
        {"codec": "zip"},
    ):
        with pytest.raises(PlanStale):
            built(dataclasses.replace(made, change=dataclasses.replace(made.change, **changes)), tmp_path)


def test_a_version_that_is_an_option_of_depmod_never_reaches_it(tmp_path: Path) -> None:
    made = sample(tmp_path)
    with pytest.raises(GuestNotUnderstood):
        built(dataclasses.replace(made, change=dataclasses.replace(made.change, kernel_version="-n")), tmp_path)


def test_an_archive_whose_names_climb_out_writes_nothing_outside_scratch(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    evil = ("../evil.ko", "/evil.ko", "a/../../../evil.ko", "up/evil.ko")
    entries = [NewEntry("up", 0o120777, b"../../../.."), *(NewEntry(name, 0o100644, b"x") for name in evil)]
    image = aligned(write_archive(entries)) + gnu_cpio(tmp_path / "root", archived())
    tree = guest_tree(image)
    (kernel,) = find_kernels(tree, BootLoader("none"))
    change = plan_initramfs(kernel)
    assert change is not None
    build_supplement(change, tree, scratch, SystemRunner())
    assert list(tmp_path.rglob("evil.ko")) == []
    assert not Path("/evil.ko").exists()


@dataclasses.dataclass
class Watching(SystemRunner):
    """Looks at what depmod is given before it runs."""

    config: str = ""
    order: list[str] = dataclasses.field(default_factory=list)

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        base, version = Path(argv[argv.index("-b") + 1]), argv[-1]
        self.config = Path(argv[argv.index("-C") + 1]).read_text()
        self.order = (base / "lib/modules" / version / "modules.order").read_text().splitlines()
        return super().run(argv, **options)


def test_guests_preferences_among_modules_reach_depmod_and_nothing_else_does(tmp_path: Path) -> None:
    made = sample(tmp_path)
    config = b"search updates built-in\nexternal 6.1 /etc\noverride ahci * extra\ninclude /etc/shadow\n"
    tree = guest_tree(made.image, {"/etc/depmod.d/x.conf": config, "/etc/depmod.d/readme": b"search x"})
    runner = Watching()
    build_supplement(made.change, tree, tmp_path, runner)
    assert runner.config == "search updates built-in\noverride ahci * extra\n"


def test_modules_that_the_guests_order_does_not_list_are_put_behind_it_by_name(tmp_path: Path) -> None:
    extra = f"usr/lib/modules/{host_version()}/extra"
    module = host_module("kernel/drivers/net/dummy.ko")
    made = sample(tmp_path, more={f"{extra}/{name}.ko.xz": pack("xz", module) for name in "zqa"})
    runner = Watching()
    build_supplement(made.change, made.tree, tmp_path, runner)
    assert runner.order[-3:] == ["extra/a.ko", "extra/q.ko", "extra/z.ko"]
    assert runner.order[0].startswith("kernel/")


# Booting.


def _files_of(image: Path, version: str) -> dict[str, Node]:
    """What is needed of a disk's files, read without a mount."""
    folder = f"/usr/lib/modules/{version}"
    paths = [*CORE, *PCI, *SCSI, VIRTIO_PCI, VIRTIO_BLK, VIRTIO_SCSI, "kernel/drivers/scsi/sd_mod.ko"]
    indexes = ["modules.dep", "modules.order", "modules.builtin", "modules.builtin.modinfo"]
    files: dict[str, Node] = {f"{folder}/{name}": disk.read_file(image, f"{folder}/{name}") for name in paths + indexes}
    for name in (f"vmlinuz-{version}", f"initrd.img-{version}"):
        files[f"/boot/{name}"] = disk.read_file(image, f"/boot/{name}")
    return {"/lib": Link("usr/lib"), **files}


@pytest.mark.matrix  # tests/pipeline/test_convert.py boots the same guest with the same archive, as a conversion makes it
@pytest.mark.boots
def test_a_vmware_guest_boots_from_virtio_with_its_extended_initramfs(tmp_path: Path) -> None:
    image = guest("vmware")
    version = next(n.removeprefix("vmlinuz-") for n in disk.list_folder(image, "/boot") if n.startswith("vmlinuz-"))
    files = _files_of(image, version)
    tree = InMemoryTree(files)
    (kernel,) = find_kernels(tree, BootLoader("none"))
    change = plan_initramfs(kernel)
    assert change is not None
    name = f"/boot/initrd.img-{version}"
    extended = disk.read_file(image, name) + build_supplement(change, tree, tmp_path, SystemRunner())
    copy = tmp_path / "copy.raw"
    disk.copied(image, copy)
    disk.edit(copy, [disk.NewFile(name, extended)])
    # The root is mounted and its own init runs; what follows is not the initramfs's business.
    started = "Welcome to "
    ends = [started, r"\(initramfs\)", "Kernel panic"]
    result = boot.by_kernel(copy, boot.Bus.VIRTIO, ends, 400, f"root=UUID={ROOT_UUID} ro")
    assert result.matched == started, result.output[-2000:]
