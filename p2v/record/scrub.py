"""Texts and records without what says whose machine it was: names, addresses, identifiers, contents.

It works by what may stay, not by what must go. In a text these stay: the words of ``words.txt``, numbers of up to three digits
or with a unit, names of devices as kernels give them, punctuation. All else becomes a placeholder: the same one wherever the
same thing stands, so that what belongs together can still be seen. What a record calls a name (a machine's, a host's, a
network's, a label, a serial number) goes first, even where the vocabulary has the same word. Contents of files are left out.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

_T = TypeVar("_T")

# Fields that say nothing about a guest or its owner, and that a vocabulary would spoil.
_KEPT = {
    "ConversionRecord.started",
    "ConversionRecord.suite_version",
    "ConversionRecord.tools",
    "PlanDocument.suite_version",
}
# Contents of the guest's files.
_CONTENTS = {
    "WriteFile.content",
    "EditFile.before",
    "EditFile.after",
    "InitramfsFile.before",
    "InitramfsFile.after",
    "TextFile.text",
    "Initramfs.texts",
}
# What somebody chose as a name, and what its placeholders are called.
_NAMES = {
    "Machine.name": "machine",
    "TargetHardware.name": "machine",
    "OperatingSystem.hostname": "host",
    "HostRecord.name": "host",
    "FileSystem.label": "label",
    "Partition.partlabel": "label",
    "MachineDisk.serial": "serial",
    "TargetDisk.serial": "serial",
    "NetworkAdapter.name": "network",
    "NetworkAdapter.suffix": "network",
    "Nic.network": "network",
    "Nic.source_network": "network",
    "TargetNic.network": "network",
    "Smbios.serial": "serial",
    "Smbios.board_serial": "serial",
    "Smbios.chassis_serial": "serial",
    "Smbios.board_asset": "asset",
    "Smbios.asset_tag": "asset",
    "GuestReport.serial_number": "serial",
    "LiveSource.device": "serial",
    "LiveSource.volume": "volume",
}
_NAMES_OF_NOBODY = {"", "default", "localhost", "none", "unknown"}

_HEX = "[0-9A-Fa-f]"
_SHAPES = re.compile(
    rf"""
      (?P<uuid>\b{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}\b)
    | (?P<digest>\b(?:p2v1-)?{_HEX}{{32,}}\b)
    | (?P<mac>\b(?:{_HEX}{{2}}[:-]){{5}}{_HEX}{{2}}\b)
    | (?P<time>\[\s*\d{{1,8}}\.\d{{6}}\])
    | (?P<pci>\b{_HEX}{{4}}:{_HEX}{{2}}:{_HEX}{{2}}\.[0-7]\b)
    | (?P<ip>(?<![\w.])(?:\d{{1,3}}\.){{3}}\d{{1,3}}(?![\w.]*\d)|(?<![\w:.])(?:{_HEX}{{0,4}}:){{2,7}}[0-9A-Fa-f.]*(?!\w))
    | (?P<home>(?<=/home/)[^/\s"']+|(?<=\\Users\\)[^\\\s"']+)
    | (?P<secret>(?<![\w-])[\w-]{{0,40}}(?:passw|passphrase|secret|token|psk|key)[\w-]{{0,40}}\s{{0,9}}[:=]\s{{0,9}}\S[^\n]*)
    | (?P<setting>[\w.-]{{0,80}}\w=(?:"[^"]*"|'[^']*'|[^\s,;)\]}}"']+))
    | (?P<dotted>\b[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+){{1,}}\b)
    | (?P<place>(?<=\bbyte\ )\d{{1,20}}\b|(?<=\bsector\ )\d{{1,20}}\b|(?<=\bblock\ )\d{{1,20}}\b)
    | (?P<measure>\b\d+(?=\s?(?:bytes?|[KMGT]i?B|kB|ms|us|ns|s|MHz|GHz|sectors?|blocks?|pages?|seconds?|minutes?)\b))
    | (?P<token>\w+)
    """,
    re.VERBOSE,
)
_DEVICE = re.compile(
    r"(?:[shv]d|xvd)[a-z]{1,2}\d{0,3}|nvme\d{1,2}n\d{1,2}(?:p\d{1,3})?|(?:eno|ens|wlan)\d{1,3}|(?:en|wl)p\d{1,3}s\d{1,3}(?:f\d{1,2})?"
    r"|(?:eth|tty|ttyS|ttyAMA|hvc|md|dm|loop|sr|fd|cpu|ata|host|input|virtio|irq|lo|bond|br|vnet|usb)\d{0,3}"
)
_VERSION = re.compile(r"\d{1,3}(?:\.\d{1,3}){1,2}")
# Settings of the kernel's and their like, whose value is looked at like any other text; of all others it is replaced.
_OPEN_SETTINGS = frozenset({
    "apparmor", "biosdevname", "boot_image", "console", "crashkernel", "elevator", "enforcing", "errors", "init",
    "label", "loglevel", "net.ifnames", "panic", "partuuid", "quiet", "rd.luks.uuid", "rd.lvm.lv", "rd.md.uuid",
    "resume", "ro", "root", "rootflags", "rootfstype", "rw", "selinux", "systemd.unit", "uuid", "vga", "video",
})  # fmt: skip
_ENDLESS = re.compile(r"\S{400,}")
_LONGEST_LINE = 2000


@functools.cache
def vocabulary() -> frozenset[str]:
    """Words that stay, in small letters."""
    text = resources.files("p2v.record").joinpath("words.txt").read_text("ascii")
    return frozenset(word for line in text.splitlines() if not line.startswith("#") for word in line.split())


@dataclass
class Scrubber:
    """Replaces; remembers what by what. ``left_out``: characters of contents, by field."""

    left_out: Counter[str] = field(default_factory=Counter)
    _given: dict[tuple[str, str], str] = field(default_factory=dict)
    _counts: Counter[str] = field(default_factory=Counter)
    _names: dict[str, str] = field(default_factory=dict)
    _name_pattern: re.Pattern[str] | None = None

    @property
    def replaced(self) -> Mapping[str, int]:
        """How many different things of each kind were replaced."""
        return self._counts

    def learn(self, value: Any) -> None:
        """Collect what a record (or any value in it) calls a name; before anything is scrubbed."""
        for name, kind in _names_in(value):
            whole = name.strip().lower()
            if whole not in _NAMES_OF_NOBODY:
                self._names[whole] = self._placeholder(kind, whole)
                for part in re.findall(r"[^\W\d_]{2,}\w*", whole):
                    if part not in _NAMES_OF_NOBODY:
                        self._names.setdefault(part, self._placeholder("name", part))
        longest_first = sorted(self._names, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest_first))
        self._name_pattern = (
            re.compile(rf"(?<![^\W_])(?:{alternatives})(?![^\W_])", re.IGNORECASE) if longest_first else None
        )

    def text(self, text: str) -> str:
        """A text that may be shown to anybody."""
        if self._name_pattern is None:
            return self._without_shapes(text)
        parts, at = [], 0
        for found in self._name_pattern.finditer(text):
            parts += [self._without_shapes(text[at : found.start()]), self._names[found[0].lower()]]
            at = found.end()
        return "".join([*parts, self._without_shapes(text[at:])])

    def log_line(self, line: str) -> str:
        """A line of a console, cut where it is too long; the kernel's times stay."""
        return self.text(line[:_LONGEST_LINE]) + (" [cut]" if len(line) > _LONGEST_LINE else "")

    def value(self, value: _T) -> _T:
        """A dataclass, or anything that stands in one, with every text in it scrubbed by its field."""
        return cast(_T, self._value(value, ""))

    def _value(self, value: Any, place: str) -> Any:
        if place in _CONTENTS:
            return self._content(value, place)
        if place in _KEPT or value is None or isinstance(value, bool | int | float | enum.Enum):
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, PurePath):
            return Path(self.text(str(value)))
        if isinstance(value, Mapping):
            return {self._value(k, place): self._value(v, place) for k, v in value.items()}
        if isinstance(value, tuple):
            return tuple(self._value(each, place) for each in value)
        kind = type(value).__name__
        return type(value)(
            **{f.name: self._value(getattr(value, f.name), f"{kind}.{f.name}") for f in dataclasses.fields(value)}
        )

    def _content(self, value: Any, place: str) -> Any:
        if isinstance(value, Mapping):
            return {self.text(name): self._content(text, place) for name, text in value.items()}
        self.left_out[place] += len(value)
        return f"[{len(value)} characters left out]"

    def _without_shapes(self, text: str) -> str:
        # systemd shortens names with an ellipsis
        plain = "".join(c if c.isascii() or c.isalnum() else "?" for c in text.replace("\u2026", "..."))
        # nothing that a person writes; the shapes would be looked for in it from every letter on
        plain = _ENDLESS.sub(lambda found: self._placeholder("long", found[0]), plain)
        return _SHAPES.sub(self._shape, plain)

    def _shape(self, found: re.Match[str]) -> str:
        kind, text = str(found.lastgroup), found[0]
        match kind:
            case "pci" | "place" | "measure" | "time":
                return text
            case "setting":
                return self._setting(text)
            case "secret":
                name, sign, value = re.split(r"([:=])", text, maxsplit=1)
                return self._without_shapes(name) + sign + self._placeholder("secret", value.strip())
            case "dotted":
                return self._dotted(text)
            case "token":
                return text if _harmless(text) else self._placeholder("word", text.lower())
            case _:
                return self._placeholder("user" if kind == "home" else kind, text.lower())

    def _setting(self, text: str) -> str:
        name, _, value = text.partition("=")
        shown = self._without_shapes(value) if name.lower() in _OPEN_SETTINGS else self._placeholder("value", value)
        return f"{self._dotted(name)}={shown}"

    def _dotted(self, text: str) -> str:
        """Names of files and units and versions stay where all their words may; of a host's name nothing stays."""
        if _VERSION.fullmatch(text):
            return text
        words = re.split(r"[.-]", text)
        is_host = "." in text and len(words) > 2 and words[-1].isalpha() and words[-1].lower() not in vocabulary()
        if is_host and not all(map(_harmless, words)):
            return self._placeholder("host", text.lower())
        return re.sub(r"\w+", lambda m: m[0] if _harmless(m[0]) else self._placeholder("word", m[0].lower()), text)

    def _placeholder(self, kind: str, value: str) -> str:
        if (kind, value) not in self._given:
            self._counts[kind] += 1
            self._given[kind, value] = f"<{kind}-{self._counts[kind]}>"
        return self._given[kind, value]


def _harmless(word: str) -> bool:
    if word.isdecimal():
        return len(word) <= 3
    if word.lower() in vocabulary() or _DEVICE.fullmatch(word):
        return True
    return "_" in word and all(map(_harmless, filter(None, word.split("_"))))


def _names_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _names_in(key)
            yield from _names_in(each)
    elif isinstance(value, tuple):
        for each in value:
            yield from _names_in(each)
    elif dataclasses.is_dataclass(value):
        for f in dataclasses.fields(value):
            inner, kind = getattr(value, f.name), _NAMES.get(f"{type(value).__name__}.{f.name}")
            if kind is not None and isinstance(inner, str):
                yield inner, kind
            yield from _names_in(inner)
