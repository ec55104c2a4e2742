"""Boot entries outside GRUB 2's menu made independent of the machine, and the settings they are made from.

Snippets of the Boot Loader Specification, GRUB legacy's menu, extlinux' labels: each format's module says where
arguments stand, and they are edited alike. The guest's next kernel update makes entries from ``/etc/kernel/cmdline``
(kernel-install(8)), ``/etc/cmdline.d`` (mkinitcpio(8), dracut.cmdline(7)) and each loader's own settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from drivers.changes import Change
from drivers.facts import BootEntry, GuestFacts, TextFile
from drivers.linux import bls, extlinux, grub_edits, grub_legacy, grubenv
from drivers.linux.architectures import architecture_of
from drivers.linux.contribution import Contribution, joined
from drivers.linux.devices import DeviceNames
from drivers.linux.kernel_arguments import (
    CommandLine,
    absent_root,
    line_findings,
    plan_lines,
)
from drivers.linux.resume import baked_in_resume
from drivers.plan import Finding

SNIPPETS = tuple(f"{mountpoint}/loader/entries/*.conf" for mountpoint in ("/boot", "/boot/efi", "/efi"))
COMMAND_LINES = ("/etc/kernel/cmdline", "/etc/cmdline.d/*.conf", "/etc/kernel/cmdline.d/*.conf")

_SNIPPET_FOLDERS = tuple(pattern.removesuffix("*.conf") for pattern in SNIPPETS)
_FILE_LINE = re.compile(r"^(?![ \t]*#)[^\r\n]+", re.MULTILINE)
_SNIPPET_LOADERS = frozenset({"grub2", "systemd-boot"})


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """The edits of all such files, and what in them cannot be made lasting."""
    default = facts.boot_loader.default_entry
    return joined((
        _files(facts, names, default),
        grubenv.contribute(facts, names, default),
        _device_maps(facts, names),
    ))  # fmt: skip


def _files(facts: GuestFacts, names: DeviceNames, default: BootEntry | None) -> Contribution:
    changes: list[Change] = []
    found: list[Finding] = []
    default_text = facts.texts.get(default.source or facts.boot_loader.config) if default is not None else None
    default_file = default_text.resolved if default_text is not None else ""
    here = architecture_of(facts)
    resume = baked_in_resume(facts, names)
    for file, lines, is_entry in _command_files(facts):
        # a snippet's arguments may stand on several lines, of which one says it
        is_told = len(lines) > 1 and "resume=" in file.text and file.path.startswith(_SNIPPET_FOLDERS)
        edit = plan_lines(file, lines, names, here=here, resume=resume if is_entry and not is_told else None)
        changes += [edit] if edit else []
        found += line_findings(file, lines, names, default if file.resolved == default_file else None)
    if default is not None and (default.source or facts.boot_loader.kind != "grub2"):
        path = default.source or facts.boot_loader.config
        found += absent_root(facts, path, default.arguments.split())
    blockers = tuple(finding for finding in found if finding.id.endswith("root-unresolved"))
    return Contribution(tuple(changes), tuple(finding for finding in found if finding not in blockers), blockers)


def _command_files(facts: GuestFacts) -> Iterator[tuple[TextFile, list[CommandLine], bool]]:
    """Each text once: where arguments stand in it, and whether kernels get them as they are."""
    seen: set[str] = set()
    for path, file in sorted(facts.texts.items()):
        lines = None if file.resolved in seen else _lines(facts, file)
        if lines is not None:
            seen.add(file.resolved)
            is_setting = extlinux.is_setting(path) or any(fnmatchcase(path, pattern) for pattern in COMMAND_LINES)
            yield file, lines, not is_setting


def _lines(facts: GuestFacts, file: TextFile) -> list[CommandLine] | None:
    path, kind = file.path, facts.boot_loader.kind
    if any(fnmatchcase(path, pattern) for pattern in COMMAND_LINES):
        return [CommandLine(*line.span()) for line in _FILE_LINE.finditer(file.text)]
    if kind in _SNIPPET_LOADERS and any(fnmatchcase(path, pattern) for pattern in SNIPPETS):
        return list(bls.command_lines(file))
    if kind == "grub1" and path in grub_legacy.MENUS:
        return list(grub_legacy.command_lines(file))
    if kind == "extlinux" and (path in extlinux.CONFIGS or extlinux.is_setting(path) or _is_included(path)):
        return list(extlinux.command_lines(file))
    return None


def _is_included(path: str) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in extlinux.INCLUDED)


def _device_maps(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """GRUB legacy's grub-install makes a missing map anew, and trusts one that is there."""
    if facts.boot_loader.kind != "grub1":
        return Contribution()
    planned = (grub_edits.plan_device_map(facts.texts.get(path), names) for path in grub_edits.DEVICE_MAPS)
    return Contribution(tuple(change for change in planned if change is not None))
