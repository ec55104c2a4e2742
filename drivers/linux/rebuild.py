"""``--rebuild-initramfs``: the guest's own program builds each initramfs anew, in the appliance, after all changes.

Only where the user asks for it. Then nothing is appended to what is built anew, and the settings that the other planners write
(dracut's ``add_drivers``, initramfs-tools' modules, ...) bring the drivers in. Commands: update-initramfs(8), dracut(8),
mkinitcpio(8), SUSE's and Red Hat's mkinitrd(8).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from drivers.facts import GuestFacts, Initramfs, Kernel
from drivers.linux.contribution import Contribution
from drivers.linux.next_initramfs import NEEDED
from drivers.plan import Finding, GuestProgram, PlanOptions
from drivers.tree import GuestTree

WHY = "the initramfs of {} is built anew by the guest's own program, as was asked for (--rebuild-initramfs)"

# programs of the guest's run on the appliance's processor
_ARCHITECTURES = frozenset({"x86_64", "i386", "i686"})
_RESCUE = re.compile(r"rescue|kdump")


@dataclass(frozen=True, slots=True)
class Builder:
    """A program that builds an initramfs: where it is, what facts call its images, and its command for one kernel.

    ``command``: None for a kernel that the program cannot build an initramfs of that name for.
    """

    name: str
    paths: tuple[str, ...]
    marks: str
    command: Callable[[str, Kernel, Initramfs, str], tuple[str, ...] | None]


def _update_initramfs(program: str, kernel: Kernel, image: Initramfs, family: str) -> tuple[str, ...] | None:
    # it writes below that name only
    is_its_own = posixpath.basename(image.path) == f"initrd.img-{kernel.version}"
    return (program, "-u", "-k", kernel.version) if is_its_own else None


def _dracut(program: str, kernel: Kernel, image: Initramfs, family: str) -> tuple[str, ...] | None:
    return (program, "--force", image.path, kernel.version)


def _mkinitcpio(program: str, kernel: Kernel, image: Initramfs, family: str) -> tuple[str, ...] | None:
    return (program, "-k", kernel.version, "-g", image.path)


def _mkinitrd(program: str, kernel: Kernel, image: Initramfs, family: str) -> tuple[str, ...] | None:
    if family == "suse":
        return (program, "-k", posixpath.basename(kernel.image), "-i", posixpath.basename(image.path))
    added = (f"--with={name}" for name in NEEDED if name in kernel.modules)
    return (program, "-f", *added, image.path, kernel.version)


# The first that is there: Debian's dracut and SUSE's bring commands of the older names.
BUILDERS: tuple[Builder, ...] = (
    Builder("dracut", ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"), "dracut", _dracut),
    Builder("update-initramfs", ("/usr/sbin/update-initramfs",), "initramfs-tools", _update_initramfs),
    Builder("mkinitcpio", ("/usr/bin/mkinitcpio", "/sbin/mkinitcpio"), "unknown", _mkinitcpio),
    Builder("mkinitrd", ("/sbin/mkinitrd", "/usr/sbin/mkinitrd"), "mkinitrd", _mkinitrd),
)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The guest as it will be when the programs have run, for the planners that come after, and the programs."""

    facts: GuestFacts
    programs: tuple[GuestProgram, ...]
    contribution: Contribution


def find_builders(tree: GuestTree) -> tuple[str, ...]:
    """The programs that are there, each by the first of its paths."""
    found = (next((path for path in builder.paths if tree.exists(path)), None) for builder in BUILDERS)
    return tuple(path for path in found if path is not None)


def plan_rebuild(facts: GuestFacts, options: PlanOptions) -> Rebuilt:
    """One program for each initramfs; a blocker where there is none to run, a warning for an image that is left."""
    if not options.rebuild_initramfs:
        return Rebuilt(facts, (), Contribution())
    builder, program = next(((b, p) for b in BUILDERS for p in facts.programs if p in b.paths), (None, ""))
    problem = _problem(facts, builder)
    if builder is None or problem:
        return Rebuilt(facts, (), Contribution(blockers=(_blocker(problem),)))
    family = facts.os.family if facts.os is not None else ""
    programs: dict[str, GuestProgram] = {}
    left: list[Finding] = []
    for kernel in facts.kernels:
        image = kernel.initramfs
        if image is None or image.path in programs:
            continue
        argv = None if _stays(kernel, image) else builder.command(program, kernel, image, family)
        if argv is None:
            left.append(_left(image, builder))
        else:
            programs[image.path] = GuestProgram(argv, image.path, WHY.format(kernel.version))
    if not programs:
        return Rebuilt(facts, (), Contribution(blockers=(_blocker(f"{builder.name} can build none of its initramfs anew"),)))
    left += _doubts(facts)
    kernels = tuple(_built(k, builder) if k.initramfs and k.initramfs.path in programs else k for k in facts.kernels)
    return Rebuilt(replace(facts, kernels=kernels), tuple(programs.values()), Contribution(warnings=tuple(left)))


def _problem(facts: GuestFacts, builder: Builder | None) -> str:
    arch = facts.os.arch if facts.os is not None else ""
    if builder is None:
        return f"none of the programs that are known ({', '.join(each.name for each in BUILDERS)}) is in the guest"
    if arch and arch not in _ARCHITECTURES:
        return f"programs for {arch} do not run in the appliance"
    if facts.boot_loader.kind == "lilo":
        return "LILO's map names the blocks of an initramfs as it was"
    return ""


def _stays(kernel: Kernel, image: Initramfs) -> bool:
    named = _RESCUE.search(posixpath.basename(image.path)) or _RESCUE.search(posixpath.basename(kernel.image))
    return image.unified or not kernel.modules_folder or named is not None


def _built(kernel: Kernel, builder: Builder) -> Kernel:
    """The kernel with an initramfs that has the drivers it is asked to have, and names nothing old."""
    if kernel.initramfs is None:
        return kernel
    modules = tuple(sorted({*kernel.initramfs.modules, *(name for name in NEEDED if name in kernel.modules)}))
    image = replace(
        kernel.initramfs, modules=modules, builder=builder.marks, squashed=False, problem="", texts={}, members=()
    )
    return replace(kernel, initramfs=image)


def _blocker(problem: str) -> Finding:
    hint = "Convert without --rebuild-initramfs; drivers are then added to what the guest has built."
    return Finding("linux.rebuild.impossible", f"the guest's initramfs cannot be built anew in the appliance: {problem}", hint)


def _doubts(facts: GuestFacts) -> Iterator[Finding]:
    if any(volume.kind == "luks" for volume in facts.volumes):
        message = "programs that build an initramfs look at how the root is opened where they run, and that is the appliance"
        yield Finding("linux.rebuild.encrypted", message, "Check with `p2v verify` that the guest asks for its passphrase.")


def _left(image: Initramfs, builder: Builder) -> Finding:
    message = f"{image.path} is not built anew: it is not one that {builder.name} makes for a kernel by its name"
    return Finding("linux.rebuild.left", message, "It is treated as without --rebuild-initramfs.")
