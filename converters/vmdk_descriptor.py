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
# The largest disk in extents of 2 GB has 2 TB.
MAX_EXTENTS = 2048

# The encodings VMware products write; a descriptor may not pick any other of Python's codecs.
_ENCODINGS = {
    **{f"windows-{page}": f"cp{page}" for page in (932, 936, 949, 950, *range(1250, 1259))},
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15)},
    "utf-8": "utf-8",
    "us-ascii": "ascii",
    "gbk": "gbk",
    "gb2312": "gb2312",
    "gb18030": "gb18030",
    "big5": "big5",
    "shift_jis": "cp932",
    "euc-jp": "euc_jp",
    "euc-kr": "euc_kr",
}
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_ENCODING_LINE = re.compile(rb'^[ \t]*\.?encoding[ \t]*=[ \t]*"?([A-Za-z0-9_.-]{1,40})"?', re.MULTILINE | re.IGNORECASE)
_EXTENT_LINE = re.compile(r"^(RW|RDONLY|NOACCESS)\s+(\d{1,19})\s+([A-Z]+)(?:\s+(.*))?$", re.IGNORECASE)
# What follows a name: its offset, then perhaps words about a partition. A name may hold quotes where those words do not.
_NAME_AND_OFFSET = (
    re.compile(r'^"([^"]*)"(?:\s+(\d{1,19})(?:\s[^"]*)?)?$'),
    re.compile(r'^"(.*)"(?:\s+(\d{1,19}))?$'),
    re.compile(r'^"([^"]*)"\s+(\d{1,19})\s.*$'),
)
_KEY_LINE = re.compile(r"^([A-Za-z][\w.\-]*)\s*=\s*(.*)$")
# Read differently, these would make another disk.
_SAID_ONCE = ("cid", "parentcid", "parentfilenamehint", "createtype")
_NIL_UUID = "00000000-0000-0000-0000-000000000000"


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
    def parent_content_id(self) -> str | None:
        """The CID of the disk this holds changes to, as it is written; None where it says that there is none."""
        parent = self.values.get("parentcid", "ffffffff")
        return None if content_id_number(parent) == c_vmdk.NO_PARENT_CID else parent

    @property
    def parent_name(self) -> str | None:
        """Where the disk this holds changes to was."""
        return self.values.get("parentfilenamehint")

    @property
    def parent_uuid(self) -> str | None:
        """VirtualBox's name for the disk this holds changes to; it writes no CID of it."""
        parent = self.values.get("ddb.uuid.parent", _NIL_UUID).strip("{}").lower()
        return None if parent in (_NIL_UUID, "") else parent

    @property
    def has_parent(self) -> bool:
        """Whether this is a child (delta) disk, which holds only changes."""
        return not (self.parent_content_id is None and self.parent_name is None and self.parent_uuid is None)


def content_id_number(written: str) -> int | None:
    """A CID as a number: writers differ in leading zeroes and letters. None where it is none."""
    return int(written, 16) if re.fullmatch(r"[0-9A-Fa-f]{1,8}", written) else None


def is_descriptor(head: bytes) -> bool:
    """Whether a file's first bytes begin a text descriptor."""
    text = head[:1024]
    for bom, encoding in _BOMS:
        if text.startswith(bom):
            text = text.removeprefix(bom).decode(encoding, "replace").encode("utf-8")
            break
    first = c_vmdk.DESCRIPTOR_FIRST_LINE.replace(" ", "").lower().encode()
    # Other programs than VMware's space the words otherwise.
    return text.lstrip(b" \t\r\n")[:64].translate(None, b" \t").lower().startswith(first)


def parse_descriptor(raw: bytes, image: Path) -> Descriptor:
    """Read a descriptor's bytes (up to its first NUL).

    Raises BadImage when it is too long, has lines that are no extents though they begin as such, too
    many extents, or says twice and differently what makes the disk.
    """
    text, length = decoded(raw)
    if length > MAX_DESCRIPTOR_BYTES:
        raise BadImage(image, f"its descriptor is longer than {MAX_DESCRIPTOR_BYTES} bytes", _DAMAGED)
    values: dict[str, str] = {}
    extents: list[ExtentLine] = []
    # Not splitlines: that ends lines at characters that may stand in names.
    for line in re.split(r"[\r\n]+", text):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.split(None, 1)[0].upper() in ("RW", "RDONLY", "NOACCESS"):
            extents.append(_extent_line(line, image))
            continue
        key = _KEY_LINE.match(line)
        if key is not None:
            _keep(values, key[1].lower(), _unquoted(key[2].strip()), image)
    if len(extents) > MAX_EXTENTS:
        problem = f"its descriptor names {len(extents)} extents; at most {MAX_EXTENTS} are read"
        raise BadImage(image, problem, _DAMAGED)
    return Descriptor(values, tuple(extents))


_DAMAGED = "Compare the descriptor with the original's; it is text and may have been edited."


def _extent_line(line: str, image: Path) -> ExtentLine:
    extent = _EXTENT_LINE.match(line)
    if extent is not None:
        access, sectors, kind, rest = extent.groups()
        if not rest:
            return ExtentLine(access.upper(), int(sectors), kind.upper(), "", 0)
        found = next((match for pattern in _NAME_AND_OFFSET if (match := pattern.match(rest))), None)
        if found is not None:
            return ExtentLine(access.upper(), int(sectors), kind.upper(), found[1], int(found[2] or 0))
    raise BadImage(image, f"its descriptor has the extent line {line[:200]!a}, which cannot be read", _DAMAGED)


def _keep(values: dict[str, str], key: str, value: str, image: Path) -> None:
    first = values.setdefault(key, value)
    if first != value and key in _SAID_ONCE:
        problem = f"its descriptor says {key} twice and differently: {first[:200]!a} and {value[:200]!a}"
        raise BadImage(image, problem, _DAMAGED)


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == '"' else value.strip('"')


def decoded(raw: bytes) -> tuple[str, int]:
    """The text of a descriptor (or a .vmx: it names its encoding the same way) up to its first NUL, and the bytes it takes."""
    for bom, encoding in _BOMS[1:]:
        if raw.startswith(bom):
            text = raw.removeprefix(bom).decode(encoding, "replace").split("\0", 1)[0]
            return text, len(bom) + 2 * len(text)
    raw = raw.split(b"\0", 1)[0]
    lines = raw.removeprefix(_BOMS[0][0]).replace(b"\r", b"\n")
    declared = _ENCODING_LINE.search(lines)
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    # surrogateescape keeps file names in an undeclared encoding openable.
    return lines.decode(_ENCODINGS.get(name, "utf-8"), "surrogateescape"), len(raw)
