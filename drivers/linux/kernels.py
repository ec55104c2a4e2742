"""Every kernel the guest can boot, with its initramfs and what both know of virtio.

Which kernels: those that boot entries name, and those in /boot that have a module tree, old and rescue
kernels included, since any of them may be chosen in the menu. An image and an initramfs make one kernel.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from drivers.facts import BootEntry, BootLoader, Initramfs, Kernel
from drivers.linux import zipl
from drivers.linux.architectures import named
from drivers.linux.initramfs import module_name, read_initramfs
from drivers.linux.paths import resolve
from drivers.linux.unified import UnifiedKernel, read_unified, section_tree, unified_initramfs
from drivers.tree import FileType, GuestTree, text_of
from p2v.core.units import MIB

KERNELS_AT_MOST = 64

#: What a virtio machine may want; the second group is loaded through the first, or serves its disks.
VIRTIO_MODULES = frozenset({
    "virtio", "virtio_ring", "virtio_pci", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_ccw",
    "virtio_blk", "virtio_scsi", "virtio_net", "virtio_rng", "virtio_balloon", "virtio_console", "virtio_gpu",
    "net_failover", "failover", "sd_mod",
})  # fmt: skip

#: Drivers of the other hardware that KVM offers, for kernels that know nothing of virtio.
HARDWARE_MODULES = frozenset({
    "ahci", "ata_piix", "piix", "ide_disk", "ide_generic", "e1000e", "e1000", "8139cp", "8139too",
})  # fmt: skip
_LISTED_MODULES = VIRTIO_MODULES | HARDWARE_MODULES

# What mounts a root: its file system, and what the device it stands on is made by; with the option that builds each in.
_ROOT_MODULES = {
    "ext2": "CONFIG_EXT2_FS", "ext3": "CONFIG_EXT3_FS", "ext4": "CONFIG_EXT4_FS", "xfs": "CONFIG_XFS_FS",
    "btrfs": "CONFIG_BTRFS_FS", "reiserfs": "CONFIG_REISERFS_FS", "jfs": "CONFIG_JFS_FS", "f2fs": "CONFIG_F2FS_FS",
    "dm_mod": "CONFIG_BLK_DEV_DM", "dm_crypt": "CONFIG_DM_CRYPT", "raid0": "CONFIG_MD_RAID0", "raid1": "CONFIG_MD_RAID1",
    "raid10": "CONFIG_MD_RAID10", "raid456": "CONFIG_MD_RAID456", "linear": "CONFIG_MD_LINEAR",
}  # fmt: skip

# For kernels whose tree has no modules.builtin: what the configuration's `=y` builds in.
_CONFIG_MODULES = {
    "CONFIG_VIRTIO": ("virtio", "virtio_ring"),
    "CONFIG_VIRTIO_PCI": ("virtio_pci",),
    "CONFIG_VIRTIO_PCI_LIB": ("virtio_pci_modern_dev",),
    "CONFIG_VIRTIO_PCI_LIB_LEGACY": ("virtio_pci_legacy_dev",),
    "CONFIG_VIRTIO_BLK": ("virtio_blk",),
    "CONFIG_SCSI_VIRTIO": ("virtio_scsi",),
    "CONFIG_BLK_DEV_SD": ("sd_mod",),
    "CONFIG_VIRTIO_NET": ("virtio_net",),
    "CONFIG_NET_FAILOVER": ("net_failover",),
    "CONFIG_FAILOVER": ("failover",),
    "CONFIG_HW_RANDOM_VIRTIO": ("virtio_rng",),
    "CONFIG_VIRTIO_BALLOON": ("virtio_balloon",),
    "CONFIG_VIRTIO_CONSOLE": ("virtio_console",),
    "CONFIG_DRM_VIRTIO_GPU": ("virtio_gpu",),
    "CONFIG_SATA_AHCI": ("ahci",),
    "CONFIG_ATA_PIIX": ("ata_piix",),
    "CONFIG_SCSI_ATA_PIIX": ("ata_piix",),
    "CONFIG_BLK_DEV_PIIX": ("piix",),
    "CONFIG_BLK_DEV_IDEDISK": ("ide_disk",),
    "CONFIG_IDE_GENERIC": ("ide_generic",),
    "CONFIG_E1000E": ("e1000e",),
    "CONFIG_E1000": ("e1000",),
    "CONFIG_8139CP": ("8139cp",),
    "CONFIG_8139TOO": ("8139too",),
}

# What no kernel has as a module is in no list of what it has built in (modules.builtin has what could be one).
_NEVER_MODULES = {"CONFIG_S390_GUEST": ("virtio_ccw",), "CONFIG_VIRTIO_CCW": ("virtio_ccw",)}

VERSION = re.compile(r"[0-9]+\.[0-9]+[A-Za-z0-9._+~-]*")
# "Image" and "image" are SUSE's for aarch64 and s390x
_IMAGE_NAME = re.compile(r"(?:vmlinuz|vmlinux|kernel|[Ii]mage)-(.+)")
# SUSE's zipl starts this one, which runs GRUB
_FIRST_KERNEL = (f"{zipl.FIRST_KERNEL_FOLDER}image", f"{zipl.FIRST_KERNEL_FOLDER}initrd")
_MODULE_ROOTS = ("/lib/modules", "/usr/lib/modules")
# NixOS has its modules beside the system that an entry's init= names (nixos/modules/system/activation/top-level.nix)
_NIX_INIT = re.compile(r"(?<!\S)init=(?P<system>/nix/store/[0-9A-Za-z+._?=-]+)/init(?!\S)")
_INITRAMFS_NAMES = ("initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initrd-{}.img", "initramfs-{}")
# Images that stand before the real one in an entry, and the one that only a crashed kernel starts.
_NOT_THE_INITRAMFS = re.compile(r"ucode|microcode|kdump")
_INDEX_BYTES = 16 * MIB
# Linux/x86 boot protocol, Documentation/arch/x86/boot.rst: "header" and "kernel_version".
_HEADER_MAGIC = (0x202, b"HdrS")
_VERSION_POINTER = 0x20E
_VERSION_BASE = 0x200
_VERSION_TEXT_BYTES = 256


@dataclass
class _Search:
    """What was read so far, so that nothing is read twice."""

    tree: GuestTree
    transport: str
    module_roots: tuple[str, ...] = _MODULE_ROOTS
    seen: set[tuple[str, str | None]] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    initramfs: dict[tuple[str, str], Initramfs] = field(default_factory=dict)
    modules: dict[str, _Modules] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Modules:
    """The part of a module tree that a machine on KVM may want."""

    paths: dict[str, str]
    dependencies: dict[str, tuple[str, ...]]
    builtin: tuple[str, ...]
    root_builtin: tuple[str, ...] | None = None


def find_kernels(tree: GuestTree, loader: BootLoader, arch: str = "") -> tuple[Kernel, ...]:
    """The kernels, those of the boot menu first and in its order, then the others, newest first.

    ``dependencies`` are in the order in which they are loaded. A module whose file (or a dependency's) is missing
    keeps its place in ``dependencies`` but not in ``modules``. ``arch``: the system's (``OperatingSystem.arch``).
    """
    systems = (match["system"] for entry in loader.entries if (match := _NIX_INIT.search(entry.arguments)))
    roots = (*_MODULE_ROOTS, *dict.fromkeys(f"{path}/kernel-modules/lib/modules" for path in systems))
    search = _Search(tree, named(arch).transport, roots)
    found: list[Kernel] = []
    for image, initramfs in _candidates(search, loader):
        if len(found) == KERNELS_AT_MOST:
            break
        kernel = _kernel(search, image, initramfs)
        if kernel is not None:
            found.append(kernel)
    return tuple(found)


def _candidates(search: _Search, loader: BootLoader) -> Iterator[tuple[str, str | None]]:
    """Pairs of a resolved image and the initramfs its entry names, each once."""
    tree = search.tree
    pairs = [(image, _entry_initramfs(tree, entry)) for entry in loader.entries if (image := _file(tree, entry.kernel))]
    has_initramfs = {image for image, initramfs in pairs if initramfs}
    for image, initramfs in pairs:
        # An entry without one (`initrd` under a condition) adds nothing to an image that has one elsewhere.
        if (image, initramfs) in search.seen or (initramfs is None and image in has_initramfs):
            continue
        search.seen.add((image, initramfs))
        search.images.add(image)
        yield image, initramfs
    if search.transport == "virtio_ccw" and (first := _file(tree, _FIRST_KERNEL[0])) is not None:
        search.images.add(first)
        yield first, _file(tree, _FIRST_KERNEL[1])
    names = (name for name in tree.list("/boot") if _IMAGE_NAME.fullmatch(name))
    for name in sorted(names, key=_version_key, reverse=True):
        resolved = _file(tree, posixpath.join("/boot", name))
        if resolved is not None and resolved not in search.images and _has_modules(search, resolved):
            search.images.add(resolved)
            yield resolved, None


def _version_key(name: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number[:9]) for number in re.findall(r"\d+", name)), name


def _file(tree: GuestTree, path: str) -> str | None:
    resolved = resolve(tree, path)
    return resolved if resolved is not None and tree.lstat(resolved).type is FileType.FILE else None


def _entry_initramfs(tree: GuestTree, entry: BootEntry) -> str | None:
    files = [path for path in entry.initramfs if not _NOT_THE_INITRAMFS.search(posixpath.basename(path))]
    return next((resolved for path in reversed(files) if (resolved := _file(tree, path))), None)


def _kernel(search: _Search, image: str, initramfs_path: str | None) -> Kernel | None:
    tree = search.tree
    if (unified := read_unified(tree, image)) is not None:
        return _unified_kernel(search, unified)
    version = _image_version(search, image)
    folder = modules_folder(tree, version, search.module_roots) if version else None
    path = initramfs_path or _initramfs_by_name(tree, image, version)
    has_config = tree.exists(f"/boot/config-{version}")
    # Entries also start memtest and network loaders, which have none of the three.
    if not version or not (folder or path or has_config):
        return None
    modules = _modules(search, version, folder)
    return Kernel(
        version=version,
        image=image,
        modules_folder=folder or "",
        initramfs=_read_initramfs(search, path, version) if path else None,
        modules=modules.paths,
        builtin=modules.builtin,
        dependencies=modules.dependencies,
        transport=search.transport,
        root_builtin=modules.root_builtin,
    )


def _unified_kernel(search: _Search, unified: UnifiedKernel) -> Kernel:
    tree, path = search.tree, unified.path
    inside = section_tree(tree, path, ".linux")
    version = unified.version or (_version_inside(inside, path) if inside is not None else "")
    folder = modules_folder(tree, version, search.module_roots)
    modules = _modules(search, version, folder)
    return Kernel(
        version=version or posixpath.basename(path),
        image=path,
        modules_folder=folder or "",
        initramfs=unified_initramfs(tree, path, version),
        modules=modules.paths,
        builtin=modules.builtin,
        dependencies=modules.dependencies,
        transport=search.transport,
        root_builtin=modules.root_builtin,
    )


def _read_initramfs(search: _Search, path: str, version: str) -> Initramfs:
    key = (path, version)
    if key not in search.initramfs:
        search.initramfs[key] = read_initramfs(search.tree, path, version)
    return search.initramfs[key]


def modules_folder(tree: GuestTree, version: str, roots: tuple[str, ...] = _MODULE_ROOTS) -> str | None:
    """The resolved folder of a kernel version's modules; None when there is none."""
    if not VERSION.fullmatch(version):
        return None
    for root in roots:
        resolved = resolve(tree, f"{root}/{version}")
        if resolved is not None and tree.lstat(resolved).type is FileType.DIRECTORY:
            return resolved
    return None


def _has_modules(search: _Search, image: str) -> bool:
    version = _image_version(search, image)
    return bool(version and modules_folder(search.tree, version, search.module_roots))


def _image_version(search: _Search, image: str) -> str:
    """From the file's name where modules of that version exist, else as the image itself says; empty: unknown."""
    match = _IMAGE_NAME.fullmatch(posixpath.basename(image))
    named = match[1] if match and VERSION.fullmatch(match[1]) else ""
    # kernel-install's layout: <machine id>/<version>/linux
    above = posixpath.basename(posixpath.dirname(image))
    for version in (named, above):
        if version and modules_folder(search.tree, version, search.module_roots):
            return version
    return _version_inside(search.tree, image) or named


def _version_inside(tree: GuestTree, image: str) -> str:
    at, magic = _HEADER_MAGIC
    if tree.read_range(image, len(magic), at) != magic:
        return ""
    pointer = int.from_bytes(tree.read_range(image, 2, _VERSION_POINTER), "little")
    text = tree.read_range(image, _VERSION_TEXT_BYTES, _VERSION_BASE + pointer).partition(b"\0")[0]
    first = text.decode("ascii", "replace").partition(" ")[0]
    return first if VERSION.fullmatch(first) else ""


def _initramfs_by_name(tree: GuestTree, image: str, version: str) -> str | None:
    folder, name = posixpath.split(image)
    match = _IMAGE_NAME.fullmatch(name)
    # A rescue kernel's files share a suffix (`0-rescue-<machine id>`) that is not its version.
    for suffix in filter(None, dict.fromkeys((match[1] if match else "", version))):
        for pattern in _INITRAMFS_NAMES:
            resolved = _file(tree, posixpath.join(folder, pattern.format(suffix)))
            if resolved is not None:
                return resolved
    return None


def _modules(search: _Search, version: str, folder: str | None) -> _Modules:
    known = search.modules.get(version)
    if known is None:
        paths, dependencies = _module_paths(search.tree, folder) if folder else ({}, {})
        in_kernel = _root_builtin(search.tree, version, folder)
        known = _Modules(paths, dependencies, _builtin(search.tree, version, folder), in_kernel)
        search.modules[version] = known
    return known


def _module_paths(tree: GuestTree, folder: str) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    paths: dict[str, str] = {}
    dependencies: dict[str, tuple[str, ...]] = {}
    for line in (text_of(tree, f"{folder}/modules.dep", _INDEX_BYTES) or "").splitlines():
        path, colon, rest = line.partition(":")
        name = module_name(path)
        if not colon or name not in _LISTED_MODULES:
            continue
        # depmod writes first what is loaded last.
        needed = tuple(_below(folder, word) for word in reversed(rest.split()))
        dependencies[name] = needed
        file = _below(folder, path)
        if all(tree.exists(f"{folder}/{part}") for part in (file, *needed)):
            paths[name] = file
    return paths, dependencies


def _below(folder: str, path: str) -> str:
    # Until 2010 or so depmod wrote absolute paths.
    marker = f"/modules/{posixpath.basename(folder)}/"
    return path.partition(marker)[2] if path.startswith("/") and marker in path else path


def _builtin(tree: GuestTree, version: str, folder: str | None) -> tuple[str, ...]:
    listed = text_of(tree, f"{folder}/modules.builtin", _INDEX_BYTES) if folder else None
    if listed is not None:
        names = {module_name(line.strip()) for line in listed.splitlines()}
        found = _LISTED_MODULES & {name for name in names if name}
        return tuple(sorted(found.union(_configured(tree, version, folder, _NEVER_MODULES))))
    return tuple(sorted(set(_configured(tree, version, folder, {**_CONFIG_MODULES, **_NEVER_MODULES}))))


def _root_builtin(tree: GuestTree, version: str, folder: str | None) -> tuple[str, ...] | None:
    """What mounts a root and is built in; None where neither modules.builtin nor the kernel's configuration is there."""
    listed = text_of(tree, f"{folder}/modules.builtin", _INDEX_BYTES) if folder else None
    if listed is not None:
        names = {module_name(line.strip()) for line in listed.splitlines()}
        return tuple(name for name in _ROOT_MODULES if name in names)
    if _configuration(tree, version, folder) is None:
        return None
    options = {option: (name,) for name, option in _ROOT_MODULES.items()}
    return tuple(_configured(tree, version, folder, options))


def _configuration(tree: GuestTree, version: str, folder: str | None) -> str | None:
    texts = (text_of(tree, path, _INDEX_BYTES) for path in (f"/boot/config-{version}", f"{folder}/config"))
    return next((text for text in texts if text is not None), None)


def _configured(
    tree: GuestTree, version: str, folder: str | None, options: Mapping[str, tuple[str, ...]]
) -> Iterator[str]:
    """What the kernel's configuration builds in, of the modules that stand beside options."""
    for line in (_configuration(tree, version, folder) or "").splitlines():
        option, _, value = line.partition("=")
        # ten thousand lines, of which a handful is looked for
        if option in options and value.strip() == "y":
            yield from options[option]
