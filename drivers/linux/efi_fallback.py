"""What an empty NVRAM starts: ``\\EFI\\BOOT\\BOOT<arch>.EFI``, made from the guest's own loader where it is missing.

A virtual machine's NVRAM begins empty, and the boot entry that named ``\\EFI\\debian\\shimx64.efi`` stayed with the old
machine. shim loads GRUB from its own folder (shim's README, "DEFAULT_LOADER"), so both are copied, and MokManager with
them. A copied GRUB still finds its configuration, since that folder stays: the distributions' signed images have it
built in (``-p /EFI/debian``: Debian's and Ubuntu's debian/build-efi-images; ``/EFI/redhat``, ``/EFI/fedora``: the spec
files, whose patch "Try $prefix if $fw_path doesn't work" looks beside the program first), and images made by
grub-install name the partition. SUSE's looks beside itself only, so its small configuration is copied too. No copy of a
whole menu is made: it would grow old. systemd-boot finds its entries from the root of its partition.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Sequence

from drivers.changes import Change, CopyFile
from drivers.facts import EfiProgram, GuestFacts
from drivers.linux.contribution import Contribution
from drivers.linux.efi_programs import FALLBACK_NAMES
from drivers.plan import Finding

WHY = "a new machine's firmware has no boot entries, and starts what lies at this path"
WHY_BESIDE = "the loader at the removable path looks for it in its own folder"

_FOLDER = "BOOT"
_MODE = 0o755
# folders that are not called like the distribution's id
_FOLDERS_OF_IDS = {
    "rhel": ("redhat",), "ol": ("redhat", "oracle"), "scientific": ("redhat", "scientific"), "sled": ("sles",),
    "sles_sap": ("sles",), "opensuse-leap": ("opensuse",), "opensuse-tumbleweed": ("opensuse",),
    "linuxmint": ("ubuntu",), "pop": ("systemd",), "kali": ("debian",),
}  # fmt: skip


def contribute(facts: GuestFacts) -> Contribution:
    """The copies that make a UEFI guest start with an empty NVRAM; a warning where none can be made."""
    if facts.firmware != "uefi":
        return Contribution()
    name = FALLBACK_NAMES.get(facts.os.arch if facts.os else "", "")
    there = [program for program in facts.efi_programs if _folder(program).lower() == _FOLDER.lower()]
    fallback = next((program for program in there if _name(program).lower() == name.lower()), None)
    if fallback is None:
        return _make(facts, name, there)
    # shim's own fallback program makes a boot entry for the loader that a .CSV file beside that one names
    if fallback.kind == "shim" and not any(program.kind in ("grub", "fallback") for program in there):
        partners = _partners(facts, [p for p in _loaders(facts) if p.kind == "shim"], fallback)
        return (
            Contribution(tuple(partners)) if partners else Contribution(warnings=(_missing(facts, "what shim loads"),))
        )
    return Contribution()


def _make(facts: GuestFacts, name: str, there: Sequence[EfiProgram]) -> Contribution:
    loaders = _loaders(facts)
    if not name or not loaders or facts.boot_loader.kind == "grub1":
        return Contribution(warnings=(_missing(facts, f"\\EFI\\BOOT\\{name or 'BOOT<arch>.EFI'}"),))
    first = loaders[0]
    folder = posixpath.dirname(there[0].path) if there else _removable(facts, first)
    copy = CopyFile(first.path, first.size, first.sha256, posixpath.join(folder, name), _MODE, WHY)
    beside = _partners(facts, loaders[:1], None, folder)
    return Contribution((copy, *beside))


def _loaders(facts: GuestFacts) -> list[EfiProgram]:
    """Programs that can be started, those of the guest's own distribution first; none where it is not clear whose."""
    suffix = FALLBACK_NAMES.get(facts.os.arch if facts.os else "", "").lower().removeprefix("boot")
    by_folder: dict[str, list[EfiProgram]] = {}
    for program in facts.efi_programs:
        if _folder(program).lower() != _FOLDER.lower():
            by_folder.setdefault(posixpath.dirname(program.path), []).append(program)
    chosen = {folder: loader for folder, inside in by_folder.items() if (loader := _best(inside, suffix)) is not None}
    own = [loader for folder, loader in chosen.items() if _is_own(facts, folder)]
    return own or (list(chosen.values()) if len(chosen) == 1 else [])


def _best(programs: Iterable[EfiProgram], suffix: str) -> EfiProgram | None:
    """shim where it has a GRUB to load, else GRUB, else systemd-boot."""
    given = [program for program in programs if _fits(program, suffix)]
    kinds = [program.kind for program in given]
    order = ("shim", "grub", "systemd-boot") if "grub" in kinds else ("systemd-boot",)
    # shimx64-fedora.efi and the like are variants
    ranked = sorted(given, key=lambda program: (len(_name(program)), _name(program)))
    return next((program for kind in order for program in ranked if program.kind == kind), None)


def _fits(program: EfiProgram, suffix: str) -> bool:
    """Whether a program is for the architecture: old and SUSE's names do not say."""
    endings = [name.lower().removeprefix("boot") for name in FALLBACK_NAMES.values()]
    name = _name(program).lower()
    return name.endswith(suffix) or not any(name.endswith(ending) for ending in endings)


def _is_own(facts: GuestFacts, folder: str) -> bool:
    name = posixpath.basename(folder).lower()
    if facts.boot_loader.kind == "systemd-boot":
        return name == "systemd"
    id_ = facts.os.id.lower() if facts.os else ""
    return facts.boot_loader.config.startswith(folder + "/") or name in (id_, *_FOLDERS_OF_IDS.get(id_, ()))


def _partners(
    facts: GuestFacts, loaders: Sequence[EfiProgram], fallback: EfiProgram | None, folder: str = ""
) -> list[Change]:
    """Copies of what a loader wants beside itself."""
    if not loaders:
        return []
    source = posixpath.dirname(loaders[0].path)
    target = posixpath.dirname(fallback.path) if fallback is not None else folder
    wanted = [
        program
        for program in facts.efi_programs
        if posixpath.dirname(program.path) == source
        and (program.kind in ("grub", "mok-manager") and loaders[0].kind == "shim")
    ]
    there = {_name(p).lower() for p in facts.efi_programs if posixpath.dirname(p.path) == target}
    copies: list[Change] = [
        CopyFile(p.path, p.size, p.sha256, posixpath.join(target, _name(p)), _MODE, WHY_BESIDE)
        for p in wanted
        if _name(p).lower() not in there
    ]
    return copies + list(_suse_config(facts, source, target))


def _suse_config(facts: GuestFacts, source: str, target: str) -> Iterator[Change]:
    file = facts.texts.get(f"{source}/grub.cfg")
    is_there = f"{target}/grub.cfg" in facts.texts
    if facts.os is not None and facts.os.family == "suse" and file is not None and "menuentry" not in file.text:
        data = file.text.encode("utf-8", "surrogateescape")
        if not is_there:
            digest = hashlib.sha256(data).hexdigest()
            yield CopyFile(file.resolved, len(data), digest, f"{target}/grub.cfg", _MODE, WHY_BESIDE)


def _removable(facts: GuestFacts, program: EfiProgram) -> str:
    return posixpath.join(posixpath.dirname(posixpath.dirname(program.path)), _FOLDER)


def _missing(facts: GuestFacts, what: str) -> Finding:
    seen = "no boot loader was found on the EFI system partition"
    if facts.efi_programs:
        seen = "which of its boot loaders is the guest's is not clear"
    if facts.boot_loader.kind == "grub1":
        seen = "GRUB legacy looks for its menu beside itself, and is not copied"
    return Finding(
        "linux.firmware.uefi",
        f"{what} is missing, and {seen}, so a machine with an empty NVRAM may not start it",
        "Copy the guest's loader there before the migration, or choose it once in the firmware's menu.",
    )


def _name(program: EfiProgram) -> str:
    return posixpath.basename(program.path)


def _folder(program: EfiProgram) -> str:
    return posixpath.basename(posixpath.dirname(program.path))
