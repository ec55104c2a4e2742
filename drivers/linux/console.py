"""Logins on consoles that will be gone moved to the serial port: inittab(5), securetty(5), systemd's serial-getty@.service.

``hvc0`` and ``xvc0`` were Xen's and do not exist on KVM's PC, nor does ``ttyS0`` on its machine for Arm; what is started
on them would be started or waited for again and again, and root could not log in on the serial port where only they are
listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.changes import Change, DeleteSymlink, EditFile, MakeSymlink
from drivers.facts import GuestFacts, TextFile
from drivers.linux.architectures import ARCHITECTURES, PC, Architecture, architecture_of
from drivers.linux.contribution import Contribution
from drivers.linux.splice import Splice, spliced

INITTAB = "/etc/inittab"
SECURETTY = "/etc/securetty"
WANTS = "/etc/systemd/system/getty.target.wants"
LINKS = tuple(
    f"{WANTS}/serial-getty@{console}.service"
    for console in dict.fromkeys(name for here in ARCHITECTURES.values() for name in (*here.gone, here.console))
)
WHY = "that console does not exist on KVM; the serial port takes its place"

_ACTIVE_LINE = re.compile(r"^(?![ \t]*#)[^\n]+", re.MULTILINE)


def contribute(facts: GuestFacts) -> Contribution:
    """The edits and links; nothing where KVM has the consoles that every hypervisor has."""
    here = architecture_of(facts)
    if not here.gone:
        return Contribution()
    planned = (
        plan(file, here)
        for path, plan in ((INITTAB, plan_inittab), (SECURETTY, plan_securetty))
        if (file := facts.texts.get(path)) is not None
    )
    return Contribution((*(edit for edit in planned if edit is not None), *_links(facts, here)))


def plan_inittab(file: TextFile, here: Architecture = PC) -> EditFile | None:
    """The first login on such a console goes to the serial port, unless one is there already; the others are turned off."""
    gone, serial = _word(*here.gone), _word(here.console)
    splices: list[Splice] = []
    lines = list(_ACTIVE_LINE.finditer(file.text))
    is_taken = any(serial.search(line[0]) for line in lines)
    for line in lines:
        # an identifier has at most four characters, but for busybox, whose lines have no runlevels, it is the device
        identifier, _, rest = line[0].partition(":")
        start = line.start() + (0 if rest.startswith(":") else len(identifier))
        names = list(gone.finditer(file.text, start, line.end()))
        if not names:
            continue
        if is_taken:
            splices.append(Splice(line.start(), line.start(), "#"))
            continue
        is_taken = True
        splices += [Splice(name.start(), name.end(), here.console) for name in names]
    after = spliced(file.text, splices)
    return EditFile(file.resolved, file.text, after, WHY) if after != file.text else None


def plan_securetty(file: TextFile, here: Architecture = PC) -> EditFile | None:
    """Where root may log in on such a console only, on the serial port instead."""
    listed = _listed(*here.gone).search(file.text)
    if listed is None or _listed(here.console).search(file.text):
        return None
    after = spliced(file.text, [Splice(listed.start("name"), listed.end("name"), here.console)])
    return EditFile(file.resolved, file.text, after, WHY)


def _word(*names: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(names)})(?![A-Za-z0-9])")


def _listed(*names: str) -> re.Pattern[str]:
    return re.compile(rf"^[ \t]*(?P<name>{'|'.join(names)})(?=[ \t\r]*$)", re.MULTILINE)


def _links(facts: GuestFacts, here: Architecture) -> Iterator[Change]:
    serial = _link(here.console)
    is_there = serial in facts.links
    for path in map(_link, here.gone):
        target = facts.links.get(path)
        if target is None:
            continue
        yield DeleteSymlink(path, target, WHY)
        if not is_there:
            is_there = True
            yield MakeSymlink(serial, target, None, WHY)


def _link(console: str) -> str:
    return f"{WANTS}/serial-getty@{console}.service"
