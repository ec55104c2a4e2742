"""Where the root of an ostree system is: in a deployment, one folder of many, which the boot entry names.

ostree(1), ostree-admin-deploy(1), ostree-prepare-root(1); "Deployments" and "Atomic Upgrades" in ostree's manual. The root file
system holds a repository (``/ostree/repo``) and system trees checked out of it (``/ostree/deploy/OS/deploy/CHECKSUM.N``). A
boot entry's ``ostree=/ostree/boot.B/OS/BOOTCHECKSUM/N`` is a link to one of them, which becomes ``/``: with its own ``/etc``, the
``/var`` of its OS, ``/boot`` of the file system or of a partition, and the whole file system at ``/sysroot``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from drivers.facts import BootLoader, Mount
from drivers.linux import bls, paths
from drivers.tree import FileType, GuestTree

REPOSITORY = "/ostree/repo"
PHYSICAL_ROOT = "/sysroot"
_STATE_ROOTS = "/ostree/deploy"
_DEPLOYMENT = re.compile(r"/ostree/deploy/(?P<os>(?!\.{1,2}/)[^/]+)/deploy/(?P<name>[0-9a-f]{64}\.[0-9]{1,6})")
_ENTRIES = "/loader/entries"
_ARGUMENT = "ostree="


@dataclass(frozen=True, slots=True)
class Deployment:
    """A system tree of an ostree system; ``path`` in the file system that holds the repository, no component a link."""

    path: str
    var: str

    @property
    def name(self) -> str:
        """As ``ostree admin status`` writes it."""
        match = _DEPLOYMENT.fullmatch(self.path)
        return f"{match['os']} {match['name']}" if match else self.path


def is_physical_root(tree: GuestTree) -> bool:
    """Whether a file system by itself holds ostree's repository and deployments (and so no system at its own root)."""
    return all(_is_folder(tree, path) for path in (REPOSITORY, _STATE_ROOTS))


def unread_kind(tree: GuestTree) -> str:
    """What a file system holds that is laid out alike and not read; empty for all others."""
    # bootc(8), "composefs backend": no deployment is a folder of plain files there
    is_composefs = _is_folder(tree, "/composefs/images") and _is_folder(tree, "/state/deploy")
    return "a bootc system whose root is a composefs image, which is not read; install it anew on KVM" if is_composefs else ""


def is_boot(tree: GuestTree) -> bool:
    """Whether a file system by itself is the /boot of an ostree system."""
    return any(_deployment_arguments(snippet.key("options")) for snippet in bls.read_snippets(tree, _ENTRIES))


def booted(tree: GuestTree, loader: BootLoader) -> tuple[Deployment | None, str]:
    """The deployment that starts when nobody chooses, and why there is none.

    ``tree``: the file system with the repository, its /boot mounted; ``loader``: what starts there. Without an entry that
    leads to one, the only deployment that there is.
    """
    snippets = bls.grub_order(bls.read_snippets(tree, f"/boot{_ENTRIES}"))
    default = loader.default_entry
    lines = [default.arguments] if default is not None else []
    lines += [*(entry.arguments for entry in loader.entries), *(snippet.key("options") for snippet in snippets)]
    for line in lines:
        for argument in _deployment_arguments(line):
            found = _deployment(tree, paths.resolve(tree, argument))
            if found is not None:
                return found, ""
    every = list(_all(tree))
    if len(every) == 1:
        return every[0], ""
    return None, f"an ostree system: {len(every)} deployments are there, and no boot entry leads to one of them"


def mounts(deployment: Deployment, root: Mount, boot: Mount | None) -> tuple[Mount, ...]:
    """What ostree mounts before the system starts; ``root`` is the file system with the repository, ``boot`` another one's."""
    return (
        replace(root, folder=deployment.path),
        boot or replace(root, mountpoint="/boot", folder="/boot"),
        replace(root, mountpoint=PHYSICAL_ROOT),
        replace(root, mountpoint="/var", folder=deployment.var),
    )


def _deployment_arguments(line: str) -> list[str]:
    words = (word.strip("\"'") for word in line.split())
    return [word.removeprefix(_ARGUMENT) for word in words if word.startswith(f"{_ARGUMENT}/ostree/")]


def at(path: str) -> Deployment | None:
    """The deployment at a path, if it is one's."""
    match = _DEPLOYMENT.fullmatch(path)
    return Deployment(path, f"{_STATE_ROOTS}/{match['os']}/var") if match is not None else None


def _deployment(tree: GuestTree, path: str | None) -> Deployment | None:
    return at(path) if path is not None and _is_folder(tree, path) else None


def _all(tree: GuestTree) -> Iterator[Deployment]:
    for path in paths.matching(tree, f"{_STATE_ROOTS}/*/deploy/*"):
        # a link on the way would lead the mounts elsewhere
        if paths.resolve(tree, path) == path and (found := _deployment(tree, path)) is not None:
            yield found


def _is_folder(tree: GuestTree, path: str) -> bool:
    try:
        return tree.lstat(path).type is FileType.DIRECTORY and paths.resolve(tree, path) == path
    except FileNotFoundError:
        return False
