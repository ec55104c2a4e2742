"""Makes pieces of evidence out of facts: lines of the guest's files, values of its registry, bytes of its disks. Pure.

Nothing is pointed at that the facts do not hold: a line is one of the text that was read, a value one of those that were read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from drivers.facts import GuestFacts, Partition, TextFile, Volume
from drivers.windows.facts import WindowsFacts
from p2v.audit.findings import Evidence, EvidenceKind
from p2v.core.text import printable
from p2v.documents import PlanDocument

_TEXT_AT_MOST, _PATH_AT_MOST, _LINES_AT_MOST = 200, 1000, 4
# so many bytes of a binary value say nothing to anybody
_BINARY_AT_MOST = 32
_PLACE = re.compile(r"\bdisk ([0-9]{1,4}), partition ([0-9]{1,4})\b")
_DISK = re.compile(r"\bdisks? ([0-9]{1,4})\b")


def short(text: str) -> str:
    """A guest's text as it may be shown: in one line, cut, without control characters."""
    return printable(text.strip()[:_TEXT_AT_MOST].replace("\t", " "), keep="")


def in_file(path: str, line: int | None = None, text: str = "") -> Evidence:
    """A file of the guest's."""
    return Evidence(EvidenceKind.FILE, printable(path[:_PATH_AT_MOST], keep=""), line=line, text=short(text))


def text_at(facts: GuestFacts, path: str) -> TextFile | None:
    """A text that was read, by the path it was read at or the one that leads to."""
    return facts.texts.get(path) or next((file for file in facts.texts.values() if file.resolved == path), None)


def numbered_line(file: TextFile, number: int) -> Iterator[Evidence]:
    """One line, by its number from 1; nothing where the text has no such line."""
    lines = file.text.split("\n")
    if 0 < number <= len(lines):
        yield in_file(file.path, number, lines[number - 1])


def lines_matching(file: TextFile, pattern: re.Pattern[str]) -> Iterator[Evidence]:
    """The first lines in which a pattern is found."""
    left = _LINES_AT_MOST
    for number, line in enumerate(file.text.split("\n"), start=1):
        if left and pattern.search(line):
            left -= 1
            yield in_file(file.path, number, line)


def lines_naming(file: TextFile, *values: str) -> Iterator[Evidence]:
    """The first lines, no comments, that have all of these values as words."""
    wanted = [re.compile(rf"(?<![\w./-]){re.escape(value)}(?![\w/-])", re.IGNORECASE) for value in values if value]
    left = _LINES_AT_MOST
    for number, line in enumerate(file.text.split("\n") if wanted else (), start=1):
        if left and not line.lstrip().startswith("#") and all(each.search(line) for each in wanted):
            left -= 1
            yield in_file(file.path, number, line)


def on_disk(document: PlanDocument, disk: int, offset: int, text: str = "") -> Iterator[Evidence]:
    """Bytes of a disk, by its number from 0; nothing for a disk that was not given."""
    if 0 <= disk < len(document.sources):
        where = printable(str(document.sources[disk].path)[:_PATH_AT_MOST], keep="")
        yield Evidence(EvidenceKind.BYTES, where, offset=offset, text=short(text))


def of_device(document: PlanDocument, device: Partition | Volume, at: int = 0) -> Iterator[Evidence]:
    """Where a partition, or a volume whose place is known, begins; ``at``: bytes further on in it."""
    kind = device.filesystem.kind if device.filesystem is not None else ""
    if isinstance(device, Partition):
        name = f"partition {device.number}" if device.number else "the whole disk"
        yield from on_disk(document, device.disk, device.offset + at, f"{name}: {kind}" if kind else name)
    elif device.segments:
        first = device.segments[0]
        yield from on_disk(document, first.disk, first.disk_offset + at, f"{device.device}: {kind}".rstrip(": "))


def named_partitions(facts: GuestFacts, message: str) -> Iterator[Partition]:
    """The partitions that a message names as ``disk 1, partition 2``."""
    by_place = {(each.disk, each.number): each for each in facts.partitions}
    for match in _PLACE.finditer(message):
        found = by_place.get((int(match[1]) - 1, int(match[2])))
        if found is not None:
            yield found


def named_disks(message: str) -> tuple[int, ...]:
    """The numbers, from 0, of disks that a message names as ``disk 1``."""
    return tuple(dict.fromkeys(int(match[1]) - 1 for match in _DISK.finditer(message) if int(match[1])))


def in_registry(windows: WindowsFacts, hive: str, key: str, *names: str) -> Iterator[Evidence]:
    """Values of a key that were read, by their names; the key itself where no name is given."""
    file = windows.registry.get(hive)
    spelt = file.key(key) if file is not None else None
    if file is None or spelt is None:
        return
    if not names:
        yield _registry(hive, spelt)
    wanted = {name.lower() for name in names}
    for value in file.keys[spelt]:
        if value.name.lower() in wanted:
            yield _registry(
                hive, f"{spelt}\\{value.name}", "" if value.cut else _told(windows, hive, spelt, value.name)
            )


def in_sets(windows: WindowsFacts, key: str, *names: str) -> Iterator[Evidence]:
    """The same below every control set of SYSTEM that can be started."""
    for number in windows.control_sets.bootable:
        yield from in_registry(windows, "SYSTEM", f"ControlSet{number:03d}\\{key}", *names)


def turned_on(evidence: Iterable[Evidence]) -> Iterator[Evidence]:
    """Only values that are numbers other than 0."""
    return (each for each in evidence if each.text.isdecimal() and int(each.text))


def _registry(hive: str, path: str, text: str = "") -> Evidence:
    return Evidence(EvidenceKind.REGISTRY, printable(f"{hive}\\{path}"[:_PATH_AT_MOST], keep=""), text=short(text))


def _told(windows: WindowsFacts, hive: str, key: str, name: str) -> str:
    value = windows.registry[hive].value(key, name)
    if value is None:
        return ""
    number, text, texts = value.number(), value.text(), value.texts()
    if number is not None:
        return str(number)
    if text is not None:
        return text
    if texts is not None:
        return "; ".join(texts)
    return value.data.hex() if len(value.data) <= _BINARY_AT_MOST else ""
