"""A disk image of any format this version reads: what it is, opening it, describing it, knowing it again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from converters.archives import open_source_or_member
from converters.formats import FORMATS, FileEnds, Format, Match, ends_of
from converters.info import FileIdentity, ImageInfo, SourceIdentity
from converters.joined import joined_beside
from converters.mapped import MappedDisk
from converters.raw import open_beginning
from converters.references import NOTHING_SAID, Lookup, Opening, first_opening
from converters.signatures import MIN_DISK_BYTES, foreign_container, nothing_known
from converters.source_file import SourceFile
from p2v.core.errors import AmbiguousFormat, NoKnownFormat, NoSource, Unreadable, UnsupportedImage, Usage
from p2v.core.units import KIB, MIB

RAW = "raw"

_SAMPLES = 64
_SAMPLE_BYTES = 4 * KIB
_END_SAMPLE_BYTES = MIB
# More metadata than this is hashed at its begin and end only; an L1 table or BAT is seldom larger.
_MAX_METADATA_HASHED = 2 * MIB

# Raw extents of a VMDK bear its suffix: NAME-flat.vmdk, NAME-f001.vmdk, NAME-rdm.vmdk.
_RAW_VMDK_EXTENT = re.compile(r"-(flat|f\d{3,4}|rdmp?)\.vmdk$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a file is taken for, and why (a clause about "it")."""

    format: str
    variant: str
    why: str


def open_disk(path: Path, input_format: str | None = None, lookup: Lookup = NOTHING_SAID) -> MappedDisk:
    """Open a disk image or block device for reading; close it, or use it as a context manager.

    ``input_format`` is a format's id (see ``FORMATS``) where the user or a description says it; the
    contents must not contradict it. ``lookup`` says where files it names may be. Raises NoSource, NotPermitted,
    ReadFailed, AmbiguousFormat, BadImage, UnsupportedImage, ForbiddenReference, ParentMissing, WrongParent, Usage (no
    such format).
    """
    file = open_source_or_member(path, _looks_like_disk)
    try:
        return _open_image(file, input_format, first_opening(file, lookup, _open_image))
    except BaseException:
        file.close()
        raise


def open_made(path: Path, format_id: str, virtual_size: int, *, is_device: bool) -> MappedDisk:
    """A disk that a conversion made; a raw one ends where it says, for a block device may be larger. Raises as ``open_disk``."""
    return open_beginning(path, virtual_size) if is_device and format_id == RAW else open_disk(path, format_id)


def _looks_like_disk(file: SourceFile) -> bool:
    """Whether a member of an archive is taken for a disk, by its ends alone."""
    ends = ends_of(file)
    # a descriptor may be shorter than a sector
    large = file.size >= MIN_DISK_BYTES
    return any(known.probe(ends) is not None for known in FORMATS if large or known.is_container)


def _open_image(file: SourceFile, input_format: str | None, opening: Opening) -> MappedDisk:
    whole = joined_beside(file)
    try:
        chosen, _ = _choose(whole, input_format)
        return chosen.open(whole, opening)
    except BaseException:
        whole.close()
        raise


def probe(path: Path) -> ProbeResult:
    """What a file's two ends show it to be, without opening the image in it.

    Raises NoSource, NotPermitted, ReadFailed, AmbiguousFormat, UnsupportedImage.
    """
    file = open_source_or_member(path, _looks_like_disk)
    try:
        chosen, match = _choose(file, None)
    finally:
        file.close()
    return ProbeResult(chosen.id, match.variant, match.why)


def describe(disk: MappedDisk) -> ImageInfo:
    """Everything known about an open image; walks its extents. Raises BadImage, ReadFailed."""
    allocated, stream = 0, None
    for extent in disk.extents():
        if extent.compressed is not None:
            # a child disk cuts its parent's streams into several extents
            if extent.compressed.offset != stream:
                allocated += extent.compressed.length
            stream = extent.compressed.offset
        elif not extent.zero:
            allocated += extent.length
    facts, sectors = disk.facts, disk.logical_sector_size
    return ImageInfo(
        format=facts.format,
        variant=facts.variant,
        virtual_size=disk.virtual_size,
        allocated_size=allocated,
        file_size=sum(file.size for file in disk.host_files),
        files=tuple(str(path) for path in disk.files),
        logical_sector_size=sectors,
        physical_sector_size=max(facts.physical_sector_size, sectors),
        creator=facts.creator,
        creator_version=facts.creator_version,
        identifiers=facts.identifiers,
        dirty=tuple(sign for image in facts.chain for sign in image.dirty),
        notes=tuple(note for image in facts.chain for note in image.notes),
        parents=tuple(f"{image.format}, {image.variant}" for image in facts.chain[1:]),
    )


def identity(disk: MappedDisk) -> SourceIdentity:
    """What tells an unchanged source from a changed one: files, metadata, a fixed sample of the disk.

    The sample is 64 places of 4 KiB and 1 MiB at either end, as stored (compressed blocks are not
    inflated). That one of them cannot be read is a fact like what it holds. Raises BadImage, ReadFailed.
    """
    files = tuple(FileIdentity(str(file.host_path), file.size, file.mtime_ns) for file in disk.host_files)
    facts = disk.facts
    metadata, sample = _metadata_sha256(disk), _sample_sha256(disk)
    return SourceIdentity(files, facts.format, facts.variant, disk.virtual_size, metadata, sample)


def _choose(file: SourceFile, input_format: str | None) -> tuple[Format, Match]:
    if file.size == 0:
        raise NoSource(str(file.path), "is empty")
    ends = ends_of(file)
    matches = [(known, match) for known in FORMATS if (match := known.probe(ends)) is not None]
    containers = [(known, match) for known, match in matches if known.is_container]
    if input_format is not None:
        return _named_format(file, input_format, matches, ends)
    if len(containers) > 1:
        both = " and ".join(f"{known.id} ({match.why})" for known, match in containers)
        raise AmbiguousFormat(file.path, f"could be {both}")
    if containers:
        return containers[0]
    foreign = foreign_container(ends.head, ends.tail)
    if foreign is not None:
        raise UnsupportedImage(file.path, f"is {foreign}, which this version does not read")
    if file.size < MIN_DISK_BYTES:
        raise NoSource(str(file.path), f"has {file.size} bytes, less than a sector; it is truncated or no disk")
    _refuse_contradicting_name(file, matches)
    if not matches:
        raise NoKnownFormat(file.path, nothing_known(ends.head))
    return matches[0]


def _named_format(
    file: SourceFile, name: str, matches: list[tuple[Format, Match]], ends: FileEnds
) -> tuple[Format, Match]:
    known = next((each for each in FORMATS if each.id == name), None)
    if known is None:
        raise Usage(f"{name!r} is no input format", f"Known are: {', '.join(each.id for each in FORMATS)}.")
    found = next((match for each, match in matches if each is known), None)
    if known.is_container:
        if found is None:
            raise AmbiguousFormat(
                file.path,
                f"is called {name}, but has no {name} header or footer",
                "The copy may be incomplete, or --input-format wrong.",
            )
        return known, found
    contradiction = next((f"{each.id}: {match.why}" for each, match in matches if each.is_container), None)
    contradiction = contradiction or foreign_container(ends.head, ends.tail)
    if contradiction is not None:
        raise AmbiguousFormat(
            file.path,
            f"is called raw, but its contents are those of {contradiction}",
            "Whoever could write to the disk could have put that there; if it is no raw disk, "
            "say what it is with --input-format.",
        )
    return known, found or Match("", "the user says so")


def _refuse_contradicting_name(file: SourceFile, matches: list[tuple[Format, Match]]) -> None:
    """A container that lost its header or footer must not pass for a raw disk: a cut fixed VHD begins like one."""
    name = file.path.name.lower()
    called = next((known for known in FORMATS if known.is_container and name.endswith(known.suffixes)), None)
    if called is None or _RAW_VMDK_EXTENT.search(name) or file.is_block_device:
        return
    begin = f"; {matches[0][1].why}" if matches else ""
    raise AmbiguousFormat(
        file.path,
        f"is called {file.path.suffix}, but has no {called.id} header or footer{begin}",
        "The copy may be incomplete; if it is a raw disk, say --input-format raw.",
    )


def _metadata_sha256(disk: MappedDisk) -> str:
    digest = hashlib.sha256()
    for part in disk.layout.metadata():
        length = max(0, min(part.length, part.file.size - part.offset))
        digest.update(f"{part.offset} {length}\n".encode())
        half = _MAX_METADATA_HASHED // 2
        if length <= _MAX_METADATA_HASHED:
            digest.update(part.file.pread(length, part.offset))
        else:
            digest.update(part.file.pread(half, part.offset))
            digest.update(part.file.pread(half, part.offset + length - half))
    return digest.hexdigest()


def _sample_sha256(disk: MappedDisk) -> str:
    digest = hashlib.sha256()
    for length, offset in _sample_ranges(disk.virtual_size):
        digest.update(f"{offset} {length}\n".encode())
        try:
            for stored in disk.stored_bytes(length, offset):
                digest.update(stored)
        except Unreadable:
            digest.update(b"unreadable\n")
    return digest.hexdigest()


def _sample_ranges(virtual_size: int) -> Iterator[tuple[int, int]]:
    yield _END_SAMPLE_BYTES, 0
    yield _END_SAMPLE_BYTES, max(0, virtual_size - _END_SAMPLE_BYTES)
    step = virtual_size // _SAMPLES
    for number in range(_SAMPLES):
        yield _SAMPLE_BYTES, number * step // _SAMPLE_BYTES * _SAMPLE_BYTES
