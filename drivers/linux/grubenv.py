"""GRUB's environment block (GRUB manual, "The GRUB environment block"): kernel arguments that Red Hat's menu takes from it.

The block has a fixed size, 1024 bytes, filled up with ``#``: GRUB writes into it in place and can make it neither
longer nor shorter.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import replace

from drivers.changes import EditFile
from drivers.facts import BootEntry, GuestFacts, TextFile
from drivers.linux.architectures import PC, Architecture, architecture_of
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames
from drivers.linux.kernel_arguments import ARGUMENT, CommandLine, lasting, line_findings, plan_lines
from drivers.plan import Finding

SIGNATURE = "# GRUB Environment Block\n"
BLOCKS = ("/boot/grub/grubenv", "/boot/grub2/grubenv", "/boot/efi/EFI/*/grubenv")

_VARIABLE = re.compile(r"^(?:kernelopts|tuned_params)=(?P<value>[^\n]*)", re.MULTILINE)


def environment_block(facts: GuestFacts) -> TextFile | None:
    """The block that the menu loads: it stands beside the configuration."""
    return facts.texts.get(posixpath.join(posixpath.dirname(facts.boot_loader.config), "grubenv"))


def command_lines(block: TextFile) -> Iterator[CommandLine]:
    """Where kernel arguments stand in a block."""
    for variable in _VARIABLE.finditer(block.text):
        yield CommandLine(variable.start("value"), variable.end("value"))


def plan_environment(block: TextFile, names: DeviceNames, *, here: Architecture = PC) -> EditFile | None:
    """The edit of a block, of the same size as before; None when none is needed or it does not fit."""
    edit = plan_lines(block, command_lines(block), names, here=here)
    after = _refilled(edit) if edit is not None else None
    return None if edit is None or after is None else replace(edit, after=after)


def contribute(facts: GuestFacts, names: DeviceNames, default: BootEntry | None) -> Contribution:
    """The edit of the block that GRUB 2 loads, and the names that stay in it."""
    block = environment_block(facts)
    if facts.boot_loader.kind != "grub2" or block is None:
        return Contribution()
    edit = plan_environment(block, names, here=architecture_of(facts))
    found = list(line_findings(block, command_lines(block), names, default))
    kept = [] if edit else [name for line in command_lines(block) for name in _resolvable(block, line, names)]
    if kept:
        found.append(
            Finding(
                "linux.grubenv.names-device",
                f"{block.path} keeps {', '.join(kept)} for kernels: the longer name does not fit into its fixed size",
                "Run grub2-editenv in the guest before the migration.",
            )
        )
    blockers = tuple(finding for finding in found if finding.id.endswith("root-unresolved"))
    warnings = tuple(finding for finding in found if finding not in blockers)
    return Contribution((edit,) if edit else (), warnings, blockers)


def _resolvable(block: TextFile, line: CommandLine, names: DeviceNames) -> Iterator[str]:
    for argument in ARGUMENT.finditer(block.text, line.start, line.end):
        if lasting(argument, names, line.finder) is not None:
            yield argument[0]


def _refilled(edit: EditFile) -> str | None:
    growth = _bytes(edit.after) - _bytes(edit.before)
    filling = len(edit.after) - len(edit.after.rstrip("#"))
    if not edit.before.startswith(SIGNATURE) or filling < growth:
        return None
    return edit.after[: len(edit.after) - filling] + "#" * (filling - growth)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
