"""Logins on Xen's consoles moved to the serial port: inittab(5), securetty(5), systemd's serial-getty@.service.

``hvc0`` and ``xvc0`` do not exist on KVM's PC; what is started on them would be started again and again, and root
could not log in on the serial port where only they are listed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from drivers.changes import Change, DeleteSymlink, EditFile, MakeSymlink
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.kernel_arguments import SERIAL, moves_consoles
from drivers.linux.splice import Splice, spliced

INITTAB = "/etc/inittab"
SECURETTY = "/etc/securetty"
WANTS = "/etc/systemd/system/getty.target.wants"
XEN_CONSOLES = ("hvc0", "xvc0")
LINKS = tuple(f"{WANTS}/serial-getty@{console}.service" for console in (*XEN_CONSOLES, SERIAL))
WHY = "Xen's consoles do not exist on KVM; the serial port takes their place"

_NAME = re.compile(r"(?<![A-Za-z0-9])[xh]vc0(?![A-Za-z0-9])")
_SERIAL = re.compile(rf"(?<![A-Za-z0-9]){SERIAL}(?![A-Za-z0-9])")
_ACTIVE_LINE = re.compile(r"^(?![ \t]*#)[^\n]+", re.MULTILINE)
_LISTED = re.compile(r"^[ \t]*(?P<name>[xh]vc0)(?=[ \t\r]*$)", re.MULTILINE)
_SERIAL_LISTED = re.compile(rf"^[ \t]*{SERIAL}(?=[ \t\r]*$)", re.MULTILINE)


def contribute(facts: GuestFacts) -> Contribution:
    """The edits and links; nothing where hvc0 is every hypervisor's console."""
    if not moves_consoles(facts):
        return Contribution()
    planned = (
        plan(file)
        for path, plan in ((INITTAB, plan_inittab), (SECURETTY, plan_securetty))
        if (file := facts.texts.get(path)) is not None
    )
    return Contribution((*(edit for edit in planned if edit is not None), *_links(facts)))


def plan_inittab(file: TextFile) -> EditFile | None:
    """The first login on such a console goes to the serial port, unless one is there already; the others are turned off."""
    splices: list[Splice] = []
    lines = list(_ACTIVE_LINE.finditer(file.text))
    is_taken = any(_SERIAL.search(line[0]) for line in lines)
    for line in lines:
        # an identifier has at most four characters, but for busybox, whose lines have no runlevels, it is the device
        identifier, _, rest = line[0].partition(":")
        start = line.start() + (0 if rest.startswith(":") else len(identifier))
        names = list(_NAME.finditer(file.text, start, line.end()))
        if not names:
            continue
        if is_taken:
            splices.append(Splice(line.start(), line.start(), "#"))
            continue
        is_taken = True
        splices += [Splice(name.start(), name.end(), SERIAL) for name in names]
    after = spliced(file.text, splices)
    return EditFile(file.resolved, file.text, after, WHY) if after != file.text else None


def plan_securetty(file: TextFile) -> EditFile | None:
    """Where root may log in on such a console only, on the serial port instead."""
    listed = _LISTED.search(file.text)
    if listed is None or _SERIAL_LISTED.search(file.text):
        return None
    after = spliced(file.text, [Splice(listed.start("name"), listed.end("name"), SERIAL)])
    return EditFile(file.resolved, file.text, after, WHY)


def _links(facts: GuestFacts) -> Iterator[Change]:
    serial = LINKS[-1]
    is_there = serial in facts.links
    for path in LINKS[:-1]:
        target = facts.links.get(path)
        if target is None:
            continue
        yield DeleteSymlink(path, target, WHY)
        if not is_there:
            is_there = True
            yield MakeSymlink(serial, target, None, WHY)
