"""The configuration that planning looks at, taken out of a guest's tree: texts, links, folders."""

from __future__ import annotations

from collections.abc import Mapping

from drivers.expectations import file_digest
from drivers.facts import TextFile
from drivers.linux import (
    boot_entries,
    bootloader,
    cloud_init,
    console,
    crypttab,
    device_files,
    extlinux,
    firstboot,
    grub_edits,
    grub_legacy,
    grubenv,
    identity,
    initramfs_tools,
    lvm_config,
    mainframe,
    mdadm,
    network,
    next_initramfs,
    nic_names,
    old_drivers,
    paths,
    readdressing,
    resolv_conf,
    services,
    tools,
)
from drivers.linux.fstab import FSTAB
from drivers.tree import FileType, GuestTree

# Texts that planning edits or must know in full, by pattern. Nothing that holds secrets.
TEXTS: tuple[str, ...] = (
    FSTAB,
    *bootloader.GRUB2_CONFIGS,
    bootloader.EFI_CONFIGS,
    *grubenv.BLOCKS,
    *next_initramfs.TEXTS,
    console.INITTAB,
    console.SECURETTY,
    *boot_entries.SNIPPETS,
    *boot_entries.COMMAND_LINES,
    *grub_legacy.MENUS,
    *extlinux.CONFIGS,
    *extlinux.INCLUDED,
    *extlinux.SETTINGS,
    *grub_edits.DEVICE_MAPS,
    grub_edits.DEFAULT_GRUB,
    grub_edits.SYSCONFIG_GRUB,
    f"{grub_edits.DEFAULT_GRUB_FOLDER}/*.cfg",
    initramfs_tools.MAIN,
    initramfs_tools.MODULES,
    f"{initramfs_tools.CONF_FOLDER}/*",
    f"{nic_names.LINK_FOLDER}/*.link",
    *nic_names.PERSISTENT_RULES,
    *cloud_init.TEXTS,
    resolv_conf.PATH,
    readdressing.HOSTS,
    *old_drivers.TEXTS,
    crypttab.CRYPTTAB,
    *mdadm.CONFIGS,
    *lvm_config.CONFIGS,
    lvm_config.DEVICES_FILE,
    *device_files.TEXTS,
    *identity.TEXTS,
    *firstboot.TEXTS,
    *mainframe.TEXTS,
)

LINKS: tuple[str, ...] = (
    nic_names.DEFAULT_LINK,
    nic_names.NAMING_RULES,
    *console.LINKS,
    *identity.LINKS,
    *firstboot.LINKS,
)

FOLDERS: tuple[str, ...] = (
    initramfs_tools.FOLDER,
    *next_initramfs.DRACUT_FOLDERS,
    nic_names.LINK_FOLDER,
    tools.SYSTEM_UNITS,
    cloud_init.FOLDER,
    *old_drivers.MODESETTING,
)


def collect_texts(tree: GuestTree) -> tuple[Mapping[str, TextFile], Mapping[str, str], tuple[str, ...]]:
    """Texts by path, symbolic links (path -> target), and folders that are there: for ``GuestFacts``.

    A text is left out when it is no regular file or larger than ``paths.TEXT_BYTES_AT_MOST``.
    """
    patterns = (*TEXTS, *services.upstart_texts(tree, tools.service_names()))
    found = dict.fromkeys(path for pattern in patterns for path in paths.matching(tree, pattern))
    texts: dict[str, TextFile] = {file.path: file for file in network.network_texts(tree)}
    for path in found:
        if (file := paths.read_text(tree, path)) is not None:
            texts[path] = file
    links = services.read_links(tree, tools.service_names())
    for path in (*LINKS, *tools.unit_paths(tree)):
        try:
            links[path] = tree.readlink(path)
        except FileNotFoundError:
            # no link: a unit file of the guest's own is a text that planning must know of
            if path not in LINKS and (file := paths.read_text(tree, path)) is not None:
                texts[path] = file
    folders = tuple(path for path in FOLDERS if paths.resolve(tree, path) is not None)
    # names come out of sets, whose order differs from process to process: the same guest gives the same document
    return dict(sorted(texts.items())), dict(sorted(links.items())), folders


def collect_digests(tree: GuestTree) -> Mapping[str, str]:
    """SHA-256 of the regular files of ``identity.DIGESTS``; links and what is far too large are left out."""
    digests: dict[str, str] = {}
    for path in dict.fromkeys(path for pattern in identity.DIGESTS for path in paths.matching(tree, pattern)):
        try:
            stat = tree.lstat(path)
            is_plain = stat.type is FileType.FILE and paths.resolve(tree, path) == path
            if is_plain and stat.size <= identity.DIGEST_BYTES_AT_MOST:
                digests[path] = file_digest(tree, path, stat.size)
        except FileNotFoundError:
            continue
    return digests
