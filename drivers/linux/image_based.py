"""Systems that are put together from images: recognised, and what a plan may do to them.

What a boot entry or the owner's part of /etc can say is done as everywhere else. What would have to be changed in the image
itself is not: it is signed or hashed, shared by several deployments, or read-only and replaced by the next update. Where the
guest would not start without such a change that is a blocker, which says what to do in the source; everything else is left
out, and a warning says so. Appending to an initramfs that a store keeps is done: nothing looks at its hash unless asked to
(``nix-store --verify``). ostree's copies in /boot are named by a checksum of the image that is not compared again either.

Sources: ostree-prepare-root(1); transactional-update(8) and the read-only-root-fs package; the NixOS manual ("NixOS file
system layout"), the Guix manual ("Invoking guix system"); Flatcar's "Disk layout"; Ubuntu Core's "Storage layout";
Bottlerocket's README ("Security"); Talos' "Architecture"; systemd-veritysetup-generator(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drivers.changes import Change, EditFile, ExtendInitramfs, summary
from drivers.deployments import REPOSITORY
from drivers.facts import BootLoader, GuestFacts, ImageSystem, Mount, Partition
from drivers.linux import keyfile, paths
from drivers.linux.contribution import Contribution
from drivers.linux.fstab import FSTAB, parse_fstab
from drivers.plan import Finding
from drivers.systems import os_release
from drivers.tree import GuestTree, text_of

_TRANSACTIONAL = ("/usr/sbin/transactional-update", "/usr/sbin/tukit", "/usr/bin/tukit")
_STORES: Mapping[str, str] = {"nix": "/nix/store", "guix": "/gnu/store"}
# links that a running system goes by; /run is empty on a machine that is off
_INTO_STORE = ("/run/current-system", "/etc/static", "/nix/var/nix/profiles/system", "/var/guix/profiles/system")
_SMALL = 256 * 1024
_LINKS_AT_MOST = 500
# command line arguments by which an initramfs or the kernel learns a hash tree's root
_VERITY = re.compile(r"(?<!\S)(?P<key>roothash|usrhash|verity\.usrhash|verity\.roothash|systemd\.verity_root_hash)=(?!\s|\Z)")
_USR_KEYS = frozenset({"usrhash", "verity.usrhash"})
_MARKED_ROOT = re.compile(r"(?<!\S)dm(?:-mod\.create)?=\"?[^\n]*\bverity\b")

# os-release's ID and VARIANT_ID of systems that are an image as a whole
_WHOLE: Mapping[str, str] = {
    "bottlerocket": "bottlerocket", "talos": "talos", "chromeos": "chromeos", "cos": "chromeos",
    "flatcar": "flatcar", "coreos": "flatcar", "ubuntu-core": "ubuntu-core",
}  # fmt: skip

# Names of GPT partitions by which such a system is known where its files do not say so: /usr or the root is a partition that no
# fstab names, or an image of a kind that is not read.
_PARTITIONS: tuple[tuple[str, frozenset[str]], ...] = (
    ("bottlerocket", frozenset({"BOTTLEROCKET-BOOT-A", "BOTTLEROCKET-ROOT-A"})),
    ("chromeos", frozenset({"KERN-A", "ROOT-A", "KERN-B", "ROOT-B"})),
    ("flatcar", frozenset({"USR-A", "USR-B", "OEM"})),
    ("talos", frozenset({"META", "STATE", "EPHEMERAL"})),
    ("ubuntu-core", frozenset({"ubuntu-seed", "ubuntu-data"})),
)

_ESSENTIAL_TEXTS = frozenset({FSTAB, "/etc/crypttab", "/etc/mdadm.conf", "/etc/mdadm/mdadm.conf", "/etc/lvm/lvm.conf"})
_BOOT = ("/boot/", "/efi/")


@dataclass(frozen=True, slots=True)
class _Advice:
    """What people call a kind of system, and what they do where a plan cannot."""

    name: str
    instead: str


_ADVICE: Mapping[str, _Advice] = {
    "ostree": _Advice(
        "an ostree deployment",
        "Change it in the image that the guest is updated from (or with rpm-ostree), then migrate again.",
    ),
    "transactional": _Advice(
        "a read-only snapshot",
        "Do it in the source with `transactional-update shell` (name devices by UUID, rebuild the initramfs with virtio), "
        "restart it there once, then migrate again.",
    ),
    "nix": _Advice(
        "the Nix store",
        "Say it in the source's configuration.nix (fileSystems by UUID; boot.initrd.availableKernelModules with virtio_pci, "
        "virtio_blk and virtio_scsi), run nixos-rebuild boot, then migrate again.",
    ),
    "guix": _Advice(
        "the Guix store",
        "Say it in the source's operating-system declaration (file systems by UUID, initrd-modules with virtio_pci and "
        "virtio_blk), run guix system reconfigure, then migrate again.",
    ),
}
_VERITY_ADVICE = _Advice("an image with a hash tree", "Build the image anew with this change and install it in the source.")

_REPROVISION = "Its images are made for one kind of machine: start the vendor's image for KVM (QEMU) and move the data to it."
# Nothing of such a system is its owner's to edit: what starts it is checked as a whole, or made by its own installer only.
_NAMES: Mapping[str, str] = {
    "bottlerocket": "Bottlerocket", "chromeos": "Chromium OS or Container-Optimized OS", "flatcar": "Flatcar Container Linux",
    "talos": "Talos", "ubuntu-core": "Ubuntu Core",
}  # fmt: skip
_CLOSED: Mapping[str, str] = {
    "ubuntu-core": "Its recovery and run modes check every file that starts it. Install Ubuntu Core for a KVM machine and "
    "move the data (`snap save`, `snap restore`).",
    "bottlerocket": _REPROVISION,
    "talos": "Take the node out of the cluster and start Talos' nocloud or metal image on KVM with its machine configuration.",
    "chromeos": _REPROVISION,
    "flatcar": "Start Flatcar's qemu image on KVM with the same Ignition configuration and move /var and /home to it: this one's "
    "kernel is chosen by partition attributes and checked by a hash, which are not rewritten here.",
}


def read_image(tree: GuestTree, loader: BootLoader, root: Mount | None) -> ImageSystem | None:
    """What kind of image-based system a tree is, and what of it is sealed; None for all others."""
    if tree.exists(REPOSITORY) and tree.exists("/ostree/deploy"):
        # the deployment's own folder is immutable (chattr +i), its /etc and /var are not
        deployment = root.folder.rpartition("/")[2] if root is not None else ""
        kept = ("/var", "/boot", "/efi") if _forgets_etc(tree) else ("/etc", "/var", "/boot", "/efi")
        return ImageSystem("ostree", deployment, ("/",), kept)
    for kind, store in _STORES.items():
        if any((paths.resolve(tree, path) or "").startswith(f"{store}/") for path in _INTO_STORE):
            return ImageSystem(kind, "", (store, *_links_into(tree, store)))
    release = os_release(tree) or {}
    words = (release.get("ID", "").lower(), *release.get("ID_LIKE", "").lower().split())
    kind = next((_WHOLE[word] for word in words if word in _WHOLE), "")
    if kind:
        return ImageSystem(kind, release.get("VERSION_ID", "")[:100], ("/",))
    if any(tree.exists(path) for path in _TRANSACTIONAL) and (found := _transactional(tree)) is not None:
        return found
    return _verity(loader)


def image_of_partitions(partitions: Iterable[Partition]) -> ImageSystem | None:
    """A system that is an image as a whole, by its partitions' names alone."""
    names = {partition.partlabel for partition in partitions if partition.partlabel}
    kind = next((kind for kind, needed in _PARTITIONS if needed <= names), "")
    return ImageSystem(kind, "", ("/",)) if kind else None


def closed(image: ImageSystem | None) -> Finding | None:
    """Why nothing of a system is rewritten, and what to do instead; None where something is."""
    if image is None or image.kind not in _CLOSED:
        return None
    message = f"this is {_NAMES[image.kind]}, an image as a whole, of which nothing is rewritten"
    return Finding("linux.image.closed", message, _CLOSED[image.kind])


def contribute(facts: GuestFacts, changes: tuple[Change, ...]) -> tuple[tuple[Change, ...], Contribution]:
    """The changes that can be made, and what becomes of those that would be made in an image."""
    image = facts.image
    if image is None:
        return changes, Contribution()
    if (blocker := closed(image)) is not None:
        return (), Contribution(blockers=(blocker,))
    sealed = [change for change in changes if image.seals(change.path) and not _is_appended(image, change)]
    needed = [change for change in sealed if _is_needed(change)]
    left = [change for change in sealed if change not in needed]
    advice = _ADVICE.get(image.kind, _VERITY_ADVICE)
    blockers = [
        Finding("linux.image.sealed", f"{change.path} belongs to {advice.name}, and {change.why}", advice.instead)
        for change in needed
    ]
    warnings = [*_left_out(left, advice), *_later(facts, image, changes)]
    kept = tuple(change for change in changes if change not in sealed)
    return kept, Contribution(warnings=tuple(warnings), blockers=tuple(blockers))


def _is_appended(image: ImageSystem, change: Change) -> bool:
    # Guix loads modules by a list in its initrd's program, so there an addition would do nothing
    return isinstance(change, ExtendInitramfs) and image.kind == "nix"


def _is_needed(change: Change) -> bool:
    """Whether the guest does not start without it: its root, what carries it, and the boot entries themselves."""
    if isinstance(change, ExtendInitramfs):
        return True
    return isinstance(change, EditFile) and (change.path.startswith(_BOOT) or _is_essential(change.path))


def _is_essential(path: str) -> bool:
    # in a store the file is .../etc/fstab
    return any(path == text or path.endswith(text) for text in _ESSENTIAL_TEXTS)


def _left_out(left: list[Change], advice: _Advice) -> Iterator[Finding]:
    if left:
        shown = "; ".join(summary(change) for change in left[:5])
        more = f" (and {len(left) - 5} more)" if len(left) > 5 else ""
        message = f"{len(left)} changes are left out, because they belong to {advice.name}: {shown}{more}"
        yield Finding("linux.image.left-out", message, advice.instead)


def _later(facts: GuestFacts, image: ImageSystem, changes: tuple[Change, ...]) -> Iterator[Finding]:
    """What the next image does with what was appended to this one's initramfs."""
    extended = [change for change in changes if isinstance(change, ExtendInitramfs)]
    if extended and image.kind in ("ostree", "nix"):
        name = facts.os.name if facts.os else "this system"
        message = (
            f"the initramfs of {name}'s present image is extended with virtio drivers; the next image brings its own, and a "
            "rollback starts an older one"
        )
        hint = (
            "See that the next image has them: `rpm-ostree initramfs --enable` makes it in the guest from /etc/dracut.conf.d; or "
            "build the image with a generic initramfs."
            if image.kind == "ostree"
            else _ADVICE[image.kind].instead
        )
        yield Finding("linux.image.next-initramfs", message, hint)


def _forgets_etc(tree: GuestTree) -> bool:
    """Whether an ostree system makes its /etc anew from the image at each start (ostree-prepare-root(1), ``etc.transient``)."""
    for folder in ("/etc", "/usr/lib"):
        text = text_of(tree, f"{folder}/ostree/prepare-root.conf", _SMALL)
        if text is not None:
            return keyfile.first(keyfile.parse(text), "etc", "transient").lower() in ("true", "yes", "1")
    return False


def _links_into(tree: GuestTree, store: str) -> Iterator[str]:
    """Names in /etc, two folders deep, that stand for folders of a store: nothing can be put below them."""
    names = [f"/etc/{name}" for name in tree.list("/etc")[:_LINKS_AT_MOST]]
    for path in names:
        resolved = paths.resolve(tree, path) or ""
        if resolved.startswith(f"{store}/"):
            yield path
        elif resolved == path:
            inside = (f"{path}/{name}" for name in tree.list(path)[:_LINKS_AT_MOST])
            yield from (each for each in inside if (paths.resolve(tree, each) or "").startswith(f"{store}/"))


def _transactional(tree: GuestTree) -> ImageSystem | None:
    """SUSE's: the root is mounted read-only from a snapshot; what is on subvolumes of its own can be written."""
    entries = parse_fstab(text_of(tree, FSTAB, paths.TEXT_BYTES_AT_MOST) or "")
    root = next((entry for entry in entries if entry.mountpoint == "/"), None)
    if root is None or "ro" not in root.options.split(","):
        return None
    writable = tuple(
        entry.mountpoint.rstrip("/")
        for entry in entries
        # what an overlay over /etc hides is seen in the running system only
        if entry.fstype != "overlay" and "ro" not in entry.options.split(",")
    )
    return ImageSystem("transactional", "", ("/",), tuple(dict.fromkeys(path for path in writable if path.startswith("/"))))


def _verity(loader: BootLoader) -> ImageSystem | None:
    """A root or /usr with a hash tree whose root hash the kernel is given."""
    lines = [entry.arguments for entry in loader.starting]
    found = {match["key"] for line in lines for match in _VERITY.finditer(line)}
    if not found and not any(_MARKED_ROOT.search(line) for line in lines):
        return None
    if found and found <= _USR_KEYS:
        return ImageSystem("verity", "", ("/usr",))
    return ImageSystem("verity", "", ("/",), ("/boot", "/efi", "/var"))


