"""The parent of a differencing VHD: its names, and whether it is the one the child was made over.

A child names its parent up to nine times. They are tried in the order relative before absolute (a relative name
survives a move of both), Unicode before ANSI, and the header's plain name last; none of them where the user named the
parent. The parent's unique id decides which disk it is. Whether the parent was written to since it does not tell: the
specification, unlike VHDX's, has no rule that writing changes it. The time stamp would tell, but a copy that does not keep
file times looks the same, so a parent written later than the child says is worth a note and no more.
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
from p2v.core.errors import BadImage, WrongParent
from p2v.core.units import KIB, SECTOR_BYTES

_LONGEST_NAME_BYTES = 64 * KIB
_LOCATOR_ADVICE = "Name the parent with --parent FILE; the locators are not looked at then."
# FAT keeps file times in steps of two seconds.
_TIME_STEP_SECONDS = 2
_IDENTIFIER = "uuid"


def open_parent(file: SourceFile, header: DynamicHeader, opening: Opening) -> MappedDisk:
    """The parent's disk. Raises ParentMissing, ForbiddenReference, WrongParent, BadImage."""
    is_named_by_user = len(opening.chain) < len(opening.lookup.parents)
    names = () if is_named_by_user else tuple(dict.fromkeys(parent_names(file, header)))
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


def parent_notes(header: DynamicHeader, parent: MappedDisk) -> tuple[str, ...]:
    """What to say when the parent's file was written after the time its child has for it. A stamp of 0 is none."""
    file = parent.sources[0]
    written = file.mtime_ns // 1_000_000_000 - c_vhd.EPOCH_UNIX_SECONDS
    if header.parent_time_stamp == 0 or written <= header.parent_time_stamp + _TIME_STEP_SECONDS:
        return ()
    return (
        f"its parent {file.path.name} was written {written - header.parent_time_stamp} seconds after the time this disk "
        "has for it: harmless if the parent was only copied, but if it was changed, this disk is damaged",
    )


def parent_names(file: SourceFile, header: DynamicHeader) -> Iterator[str]:
    """What the child calls its parent, in the order to try. Raises BadImage for locators outside the file."""
    by_code: dict[bytes, list[ParentLocator]] = {}
    for locator in header.parent_locators:
        by_code.setdefault(locator.platform_code, []).append(locator)
    for code, decode in _DECODERS.items():
        for number, locator in enumerate(by_code.get(code, ())):
            what = f"the parent locator {code.decode('ascii')} {number}"
            yield from filter(None, decode(_locator_data(file, locator, what)))
    if header.parent_unicode_name:
        yield header.parent_unicode_name


def _locator_data(file: SourceFile, locator: ParentLocator, what: str) -> bytes:
    length, offset = locator.data_length, locator.data_offset
    if offset + length > file.size:
        problem = f"{what} lies at byte {offset} ({length} bytes), past the end of the file ({file.size} bytes)"
        raise BadImage(file.path, problem, _LOCATOR_ADVICE)
    # The specification counts the space in sectors, programs in bytes too; longer than the larger of the two is wrong either way.
    if locator.data_space and length > locator.data_space * SECTOR_BYTES:
        problem = f"{what} at byte {offset} has {length} bytes in a space of {locator.data_space} sectors"
        raise BadImage(file.path, problem, _LOCATOR_ADVICE)
    return file.read_exactly(min(length, _LONGEST_NAME_BYTES), offset, what)


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
