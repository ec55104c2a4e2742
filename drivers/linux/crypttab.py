"""/etc/crypttab: encrypted devices named by the UUID of their header (crypttab(5) of systemd and of Debian's cryptsetup)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from drivers.changes import EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.devices import DeviceNames, Resolution, Use, device_path
from drivers.linux.splice import Splice, lines_of, spliced
from drivers.plan import Finding

CRYPTTAB = "/etc/crypttab"
WHY = "encrypted devices are found by the UUID of their header, whatever their disk is called"

_FIELD = re.compile(r"[^ \t\r]+")
_DEVICE = re.compile(r"/dev/[^,:\s]+")
# what stands there has no header of LUKS, or none that stays from one start to the next
_WITHOUT_HEADER = frozenset({"plain", "swap", "tmp", "tcrypt", "tcrypt-hidden", "tcrypt-system", "bitlk", "loop"})


@dataclass(frozen=True, slots=True)
class _Line:
    """An entry; ``start`` and ``end`` of its device in the text; ``others``: the key and the options as one text."""

    name: str
    device: str
    others: str
    options: tuple[str, ...]
    number: int
    start: int
    end: int

    def has_header(self) -> bool:
        """Whether the device itself begins with a LUKS header."""
        words = {option.partition("=")[0] for option in self.options}
        return words.isdisjoint(_WITHOUT_HEADER) and "header" not in words

    def fstype(self) -> str:
        """What is expected on the device; empty where nothing tells."""
        return "luks" if self.has_header() else ""


def plan_crypttab(file: TextFile, names: DeviceNames) -> EditFile | None:
    """The edit that names every resolvable device by what lasts; None when no line needs it."""
    splices = [
        Splice(line.start, line.end, stable)
        for line in _lines(file.text)
        if (found := _resolution(line, names)) is not None and (stable := _stable(line, found, names))
    ]
    after = spliced(file.text, splices)
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY)


def contribute(facts: GuestFacts, names: DeviceNames) -> Contribution:
    """The edit of /etc/crypttab, and what it names that is not in the disks."""
    file = facts.texts.get(CRYPTTAB)
    if file is None:
        return Contribution()
    edit = plan_crypttab(file, names)
    return Contribution((edit,) if edit else (), tuple(_findings(file, names)))


def named_devices(file: TextFile | None) -> tuple[Use, ...]:
    """Every device of the table."""
    return tuple(Use(line.device, "", line.fstype()) for line in _lines(file.text)) if file is not None else ()


def _resolution(line: _Line, names: DeviceNames) -> Resolution | None:
    return names.resolve(line.device, line.fstype())


def _stable(line: _Line, found: Resolution, names: DeviceNames) -> str | None:
    if found.stable is None or found.partition is None:
        return None
    kind = found.partition.filesystem.kind if found.partition.filesystem else ""
    if line.has_header() and kind == "luks":
        return found.stable if found.stable.startswith("UUID=") else device_path(found.stable)
    # the file system inside, or what a random key leaves, is no name of the device
    partuuid = names.partuuid(found.partition)
    return device_path(partuuid) if partuuid else None


def _findings(file: TextFile, names: DeviceNames) -> Iterator[Finding]:
    for line in _lines(file.text):
        found = _resolution(line, names)
        if found is not None and _stable(line, found, names) is None:
            problem = found.problem or "what stands there has no lasting name"
            yield Finding(
                "linux.crypttab.unresolved",
                f"{CRYPTTAB} line {line.number} opens {line.device} as {line.name}: {problem}",
                "Name all disks of the machine, in the order the source had them; or edit the line in the guest.",
            )
        for device in _DEVICE.findall(line.others):
            if names.resolve(device) is not None:
                yield Finding(
                    "linux.crypttab.key-on-device",
                    f"{CRYPTTAB} line {line.number}: {line.name} needs {device} for its key or header, "
                    "which may be called otherwise on KVM",
                    "Name it by /dev/disk/by-uuid/ in the guest before or after the migration.",
                )


def _lines(text: str) -> Iterator[_Line]:
    for number, begin, line in lines_of(text):
        fields = list(_FIELD.finditer(line))
        if len(fields) >= 2 and not fields[0][0].startswith("#"):
            device = fields[1]
            options = fields[3][0] if len(fields) > 3 else ""
            yield _Line(
                name=fields[0][0],
                device=device[0],
                others=",".join(field[0] for field in fields[2:4]),
                options=tuple(options.split(",")),
                number=number,
                start=begin + device.start(),
                end=begin + device.end(),
            )
