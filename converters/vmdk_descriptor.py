"""The text descriptor of a VMDK: header keys, extent lines, the disk database.

Text from an image: its length, line count and names are limited, and nothing in it is opened here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from converters import c_vmdk
from p2v.core.errors import BadImage

MAX_DESCRIPTOR_BYTES = 64 * 1024
MAX_EXTENTS = 512

# The encodings VMware products write; a descriptor may not pick any other of Python's codecs.
_ENCODINGS = {
    "utf-8": "utf-8",
    "windows-1252": "cp1252",
    "windows-1251": "cp1251",
    "windows-1250": "cp1250",
    "iso-8859-1": "latin-1",
    "us-ascii": "ascii",
    "gbk": "gbk",
    "big5": "big5",
    "shift_jis": "shift_jis",
    "euc-kr": "euc_kr",
}
_ENCODING_LINE = re.compile(rb'^\s*encoding\s*=\s*"?([A-Za-z0-9_.-]{1,40})"?', re.MULTILINE | re.IGNORECASE)
_EXTENT_LINE = re.compile(
    r'^(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+([A-Z]+)(?:\s+"([^"]*)"(?:\s+(\d{1,19}))?.*)?$', re.IGNORECASE
)
_KEY_LINE = re.compile(r"^([A-Za-z][\w.\-]*)\s*=\s*(.*)$")


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One extent of the disk, in order; ``offset_sectors`` counts from its file's begin."""

    access: str
    sectors: int
    kind: str
    file_name: str
    offset_sectors: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A parsed descriptor; keys in lower case, values without quotes."""

    values: dict[str, str]
    extents: tuple[ExtentLine, ...]

    @property
    def create_type(self) -> str:
        """The variant as the descriptor names it (``monolithicSparse``, ``streamOptimized`` ...)."""
        return self.values.get("createtype", "")

    @property
    def content_id(self) -> str:
        """The CID, in lower-case hexadecimal."""
        return self.values.get("cid", "").lower()

    @property
    def has_parent(self) -> bool:
        """Whether this is a child (delta) disk, which holds only changes."""
        parent = self.values.get("parentcid", "ffffffff")
        try:
            return int(parent, 16) != c_vmdk.NO_PARENT_CID
        except ValueError:
            return True


def is_descriptor(head: bytes) -> bool:
    """Whether a file's first bytes begin a text descriptor."""
    text = head[:512].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    return text.startswith(c_vmdk.DESCRIPTOR_FIRST_LINE.lower().encode())


def parse_descriptor(raw: bytes, image: Path) -> Descriptor:
    """Read a descriptor's bytes (up to its first NUL).

    Raises BadImage when it is too long, has lines that are no extents though they begin as such, too
    many extents, or an extent's name twice over its limits.
    """
    raw = raw.split(b"\0", 1)[0].removeprefix(b"\xef\xbb\xbf")
    if len(raw) > MAX_DESCRIPTOR_BYTES:
        raise BadImage(image, f"its descriptor is longer than {MAX_DESCRIPTOR_BYTES} bytes")
    values: dict[str, str] = {}
    extents: list[ExtentLine] = []
    for line in _decoded(raw).splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        extent = _EXTENT_LINE.match(line)
        if extent is not None:
            access, sectors, kind, name, offset = extent.groups()
            extents.append(ExtentLine(access.upper(), int(sectors), kind.upper(), name or "", int(offset or 0)))
            continue
        if line.split(None, 1)[0].upper() in ("RW", "RDONLY", "NOACCESS"):
            raise BadImage(image, f"its descriptor has the extent line {line[:200]!a}, which cannot be read")
        key = _KEY_LINE.match(line)
        if key is not None:
            values.setdefault(key[1].lower(), key[2].strip().strip('"'))
    if len(extents) > MAX_EXTENTS:
        raise BadImage(image, f"its descriptor names {len(extents)} extents; at most {MAX_EXTENTS} are read")
    return Descriptor(values, tuple(extents))


def _decoded(raw: bytes) -> str:
    declared = _ENCODING_LINE.search(raw)
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    # surrogateescape keeps file names in an undeclared encoding openable.
    return raw.decode(_ENCODINGS.get(name, "utf-8"), "surrogateescape")
