"""The parent of a differencing VHD: its names, and whether it is the one the child was made over.

A child names its parent up to nine times. They are tried in the order relative before absolute (a relative name
survives a move of both), Unicode before ANSI, and the header's plain name last. The parent's unique id decides: it is
made anew whenever a disk is written to by other than its child, so another id means other contents. Its time
stamp is not looked at: copies do not keep file times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from converters import c_vhd
from converters.c_vhd import DynamicHeader, ParentLocator
from converters.mapped import MappedDisk
from converters.references import Opening, SizeBy
from converters.source_file import SourceFile
from p2v.core.errors import WrongParent
from p2v.core.units import KIB

_LONGEST_NAME_BYTES = 64 * KIB
_IDENTIFIER = "uuid"


def open_parent(file: SourceFile, header: DynamicHeader, opening: Opening) -> MappedDisk:
    """The parent's disk. Raises ParentMissing, ForbiddenReference, WrongParent, BadImage."""
    names = tuple(dict.fromkeys(parent_names(file, header)))
    # The child's size is the chain's. A parent shortened to its geometry would hide sectors that the child shows.
    whole = replace(opening, lookup=replace(opening.lookup, size_by=SizeBy.CURRENT_SIZE))
    parent = whole.parent(file, names, "vhd")
    found = dict(parent.facts.identifiers).get(_IDENTIFIER, "")
    if found != str(header.parent_unique_id):
        parent.close()
        raise WrongParent(
            file.path,
            f"was made over the disk {header.parent_unique_id}, but {parent.files[0].name} is {found or 'no VHD'}",
        )
    return parent


def parent_names(file: SourceFile, header: DynamicHeader) -> Iterator[str]:
    """What the child calls its parent, in the order to try. Raises BadImage for locators outside the file."""
    by_code: dict[bytes, list[ParentLocator]] = {}
    for locator in header.parent_locators:
        by_code.setdefault(locator.platform_code, []).append(locator)
    for code, decode in _DECODERS.items():
        for number, locator in enumerate(by_code.get(code, ())):
            length = min(locator.data_length, _LONGEST_NAME_BYTES)
            what = f"the parent locator {code.decode('ascii')} {number}"
            raw = file.read_exactly(length, locator.data_offset, what)
            yield from filter(None, decode(raw))
    if header.parent_unicode_name:
        yield header.parent_unicode_name


def _utf16(raw: bytes) -> Iterator[str]:
    # Microsoft's products write little-endian, though the format is big-endian everywhere else; others took it literally.
    for encoding in ("utf-16-le", "utf-16-be"):
        text = raw[: len(raw) // 2 * 2].decode(encoding, "replace").split("\0", 1)[0]
        if "\ufffd" not in text:
            yield text


def _ansi(raw: bytes) -> Iterator[str]:
    yield raw.split(b"\0", 1)[0].decode("cp1252", "replace")


def _url(raw: bytes) -> Iterator[str]:
    text = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
    if text.startswith("file:"):
        try:
            yield unquote(urlsplit(text).path)
        except ValueError:
            return


_DECODERS: Mapping[bytes, Callable[[bytes], Iterator[str]]] = {
    c_vhd.LOCATOR_WINDOWS_RELATIVE: _utf16,
    c_vhd.LOCATOR_WINDOWS_RELATIVE_ANSI: _ansi,
    c_vhd.LOCATOR_MAC_URL: _url,
    c_vhd.LOCATOR_WINDOWS_ABSOLUTE: _utf16,
    c_vhd.LOCATOR_WINDOWS_ABSOLUTE_ANSI: _ansi,
}
