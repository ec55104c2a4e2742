"""The archive that is appended to an initramfs so that it finds its root on virtio: whether, and of what.

The kernel unpacks what stands behind the guest's own archive and lets later files win, so the image is
extended without any of the guest's programs. Measured (docs, DESIGN.md section 4): the disk's modules and
indexes that name them are needed and enough. virtio_net stays out: loaded in the initramfs it would be renamed
before the guest's own .link file could name it. Building is in ``supplement_build``.
"""

from __future__ import annotations

from drivers.changes import ExtendInitramfs, InitramfsFile
from drivers.facts import Initramfs, Kernel
from drivers.linux.initramfs import module_name
from drivers.linux.supplement_build import build_supplement

__all__ = ["build_supplement", "plan_initramfs", "why_not", "why_not_image"]

# virtio-scsi shows its disks through sd_mod, which an NVMe or Xen guest may never have packed.
_WANTED = ("virtio_blk", "virtio_scsi", "sd_mod")
_REQUIRED = ("virtio_blk",)


def plan_initramfs(kernel: Kernel, files: tuple[InitramfsFile, ...] = ()) -> ExtendInitramfs | None:
    """The change that lets ``kernel`` find a root on virtio; None when it does already, or cannot (``why_not``).

    ``files``: copies of the guest's configuration in the image that have to say something else.
    """
    initramfs = kernel.initramfs
    needs_modules = not kernel.finds_virtio_root() and not why_not(kernel)
    if initramfs is None or why_not_image(kernel) or not (needs_modules or files):
        return None
    reasons = [f"the initramfs of {kernel.version} has no driver for virtio disks and would not find its root"] * needs_modules
    reasons += ["its copies of the guest's configuration name devices of the old machine"] * bool(files)
    return ExtendInitramfs(
        path=initramfs.path,
        size=initramfs.size,
        sha256=initramfs.sha256,
        kernel_version=kernel.version,
        modules_folder=kernel.modules_folder,
        modules=_modules_to_add(kernel, initramfs) if needs_modules else (),
        archive_prefix=initramfs.module_prefix,
        codec=_codec(initramfs),
        why="; ".join(reasons),
        files=files,
    )


def why_not(kernel: Kernel) -> str:
    """Why the initramfs of ``kernel`` cannot be extended; empty when it can, or need not be."""
    if kernel.finds_virtio_root():
        return ""
    missing = [name for name in (kernel.transport, *_REQUIRED) if name not in kernel.builtin and name not in kernel.modules]
    for name in missing:
        # The initramfs itself may be the only place that still has it.
        if kernel.initramfs is not None and name in kernel.initramfs.modules:
            continue
        if name in kernel.dependencies:
            return f"files of the module {name} are missing from {kernel.modules_folder}"
        return f"kernel {kernel.version} has no {name}, neither built in nor as a module"
    return why_not_image(kernel)


def why_not_image(kernel: Kernel) -> str:
    """Why nothing at all can be appended to the initramfs of ``kernel``; empty when something can."""
    initramfs = kernel.initramfs
    if initramfs is None:
        return f"kernel {kernel.version} has no initramfs, and its virtio drivers are modules"
    if initramfs.unified:
        return f"{initramfs.path} is a unified kernel image, which is signed or measured as a whole"
    if initramfs.problem:
        return f"{initramfs.path} cannot be read: {initramfs.problem}"
    if initramfs.squashed:
        return f"{initramfs.path} keeps its modules in a squashed image, which hides appended files"
    if initramfs.builder == "mkinitrd":
        return f"{initramfs.path} was made by mkinitrd, which loads a fixed list of modules"
    return ""


def _modules_to_add(kernel: Kernel, initramfs: Initramfs) -> tuple[str, ...]:
    """Paths below the module folder, what is needed first before what needs it."""
    have = {*kernel.builtin, *initramfs.modules}
    paths: dict[str, None] = {}
    for name in (kernel.transport, *_WANTED):
        path = kernel.modules.get(name)
        if path is None or name in have:
            continue
        for part in (*kernel.dependencies.get(name, ()), path):
            if module_name(part) not in have:
                paths[part] = None
    return tuple(paths)


def _codec(initramfs: Initramfs) -> str:
    # The kernel's lz4 unpacker goes on to the end of the file, and takes a plain archive for a broken chunk.
    return "lz4" if initramfs.members and initramfs.members[-1] == "lz4" else "none"
