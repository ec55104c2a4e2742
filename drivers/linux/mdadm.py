"""mdadm's configuration: arrays are found by what their members say, not by the names of disks (mdadm.conf(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from drivers.changes import Change, EditFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.splice import Splice, lines_of, spliced
from drivers.plan import Finding

CONFIGS = ("/etc/mdadm.conf", "/etc/mdadm/mdadm.conf")
WHY = "members of arrays are recognised on any disk, whatever it is called"

_WORD = re.compile(r"\S+")
# names and patterns of names that come from the machine; what is written on the disks lasts
_BY_MACHINE = re.compile(
    r"/dev/(?:(?:[svh]|xv)d|nvme|cciss/|disk/by-path/|disk/by-id/(?!md-|dm-|lvm-pv-uuid-)|[\[?])", re.IGNORECASE
)
_IDENTITIES = ("uuid=", "name=", "super-minor=")


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Line:
    """A keyword with its words, continuation lines included; ``number`` counts from 1."""

    number: int
    words: tuple[_Word, ...]

    def is_a(self, keyword: str) -> bool:
        """Keywords may be shortened to three letters."""
        word = self.words[0].text.lower()
        return len(word) >= 3 and keyword.startswith(word)


def plan_mdadm(file: TextFile) -> EditFile | None:
    """The edit of one configuration file; None when no line goes by the names of disks."""
    lines = tuple(_lines(file.text))
    splices = [*_device_splices(lines), *_array_splices(lines)]
    after = spliced(file.text, [_with_gap(file.text, splice) for splice in splices])
    return None if after == file.text else EditFile(file.resolved, file.text, after, WHY)


def contribute(facts: GuestFacts) -> Contribution:
    """The edits, and a warning for each array that only the names of its disks identify."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    for path in CONFIGS:
        file = facts.texts.get(path)
        if file is None:
            continue
        if (edit := plan_mdadm(file)) is not None:
            changes.append(edit)
            warnings += _copies(facts, path)
        warnings += _findings(file)
    return Contribution(tuple(changes), tuple(warnings))


def _device_splices(lines: Sequence[_Line]) -> Iterator[Splice]:
    listed = [line for line in lines if line.is_a("device")]
    if any(word.text.lower() == "partitions" for line in listed for word in line.words[1:]):
        return  # all disks are looked at; what else is named there only comes on top
    for line in listed:
        old = [word for word in line.words[1:] if _BY_MACHINE.match(word.text)]
        yield from (Splice(word.start, word.end, "") for word in old[1:])
        if old:
            yield Splice(old[0].start, old[0].end, "partitions")


def _array_splices(lines: Sequence[_Line]) -> Iterator[Splice]:
    for line, word in _by_devices(lines):
        if _is_identified(line):
            yield Splice(word.start, word.end, "")


def _findings(file: TextFile) -> Iterator[Finding]:
    for line, word in _by_devices(tuple(_lines(file.text))):
        if not _is_identified(line):
            yield Finding(
                "linux.mdadm.array-by-names",
                f"{file.path} line {line.number} knows an array by {word.text} alone, and disks are called otherwise on KVM",
                "Replace devices= with the UUID= that `mdadm --detail --scan` shows in the guest.",
            )


def _copies(facts: GuestFacts, path: str) -> Iterator[Finding]:
    """An initramfs that assembles arrays was given the file as it was."""
    for kernel in facts.kernels:
        image = kernel.initramfs
        # where the copy can be read, it is replaced as well
        if image is not None and image.is_opaque and any(name == "md_mod" or name.startswith("raid") for name in image.modules):
            yield Finding(
                "linux.mdadm.in-initramfs",
                f"{image.path} may hold a copy of {path} as it was, which looks for arrays on the old names of disks only",
                "If the root file system is on an array, rebuild the initramfs in the guest before the migration.",
            )


def _by_devices(lines: Sequence[_Line]) -> Iterator[tuple[_Line, _Word]]:
    for line in lines:
        for word in line.words[1:] if line.is_a("array") else ():
            tag, _, value = word.text.partition("=")
            if tag.lower() == "devices" and any(_BY_MACHINE.match(name) for name in value.split(",")):
                yield line, word


def _is_identified(line: _Line) -> bool:
    return any(word.text.lower().startswith(_IDENTITIES) for word in line.words[1:])


def _with_gap(text: str, splice: Splice) -> Splice:
    """A word that goes takes the blanks before it along."""
    if splice.text:
        return splice
    start = len(text[: splice.start].rstrip(" \t"))
    # what begins a continuation line leaves its blanks, or the line would be none any more
    return splice if text[start - 1] == "\n" else Splice(start, splice.end, "")


def _lines(text: str) -> Iterator[_Line]:
    words: list[_Word] = []
    first = 0
    for number, begin, line in lines_of(text):
        if words and line[:1] not in (" ", "\t"):
            yield _Line(first, tuple(words))
            words = []
        if not words:
            first = number
        for match in _WORD.finditer(line):
            if match[0].startswith("#"):
                break
            words.append(_Word(match[0], begin + match.start(), begin + match.end()))
    if words:
        yield _Line(first, tuple(words))
