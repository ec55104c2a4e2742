"""LVM2 on disks: physical volumes, the volume group's text metadata, and where a logical volume's bytes stand.

Source: LVM2's on-disk format as documented by libvslvm ("Logical Volume Manager (LVM) format") and lvm2's own
``lib/format_text/layout.h``: a label in one of the first four sectors, a header with the areas of metadata, and in these a ring of
texts of which the one named by the area's header counts. Everything is hostile input: sizes and counts are bounded, and
what is not understood is "not there".
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from p2v.core.units import MIB, SECTOR_BYTES

LABEL_SECTORS = 4
_LABEL, _TYPE = b"LABELONE", b"LVM2 001"
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_CRC_SEED = 0xF597A6CF
_AREAS_AT_MOST = 16
_AREA_HEADER_BYTES = 512
_LARGEST_TEXT = 16 * MIB
_DEEPEST = 16
_SEGMENTS_AT_MOST = 20_000
_IGNORED = 0x1

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*|(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z0-9_.+-]+)|(?P<mark>[={}\[\],])""", re.DOTALL
)

Section = Mapping[str, Any]
Read = Callable[[int, int], bytes]


class Bytes(Protocol):
    """Whatever a physical volume stands on."""

    @property
    def virtual_size(self) -> int:
        """Its bytes."""
        ...

    def pread(self, length: int, offset: int) -> bytes:
        """Read; short at the end only."""
        ...


class BadMetadata(Exception):
    """What looks like LVM is not; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A label found, and the newest metadata text beside it (empty: this volume keeps no copy).

    ``areas``: where its areas of metadata stand, offset and length in bytes each; as stored, nothing judged.
    """

    uuid: str
    size_bytes: int
    text: str = ""
    areas: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """``length`` bytes of a logical volume from ``offset`` on, at ``pv_offset`` of a physical volume."""

    offset: int
    length: int
    pv_uuid: str
    pv_offset: int


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A visible logical volume. ``problem``: why its bytes cannot be told from the metadata; then ``runs`` is empty."""

    group: str
    name: str
    uuid: str
    size_bytes: int
    pv_uuids: tuple[str, ...]
    runs: tuple[Run, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VolumeGroup:
    """A volume group as its newest metadata has it. ``pv_uuids``: all members, found or not."""

    name: str
    uuid: str
    sequence: int
    pv_uuids: tuple[str, ...]
    volumes: tuple[LogicalVolume, ...]


def find_label(read: Read) -> bytes | None:
    """The sector with a physical volume's label; None when there is none. ``read`` takes a length and an offset."""
    for sector in range(LABEL_SECTORS):
        raw = read(SECTOR_BYTES, sector * SECTOR_BYTES)
        if raw[:8] == _LABEL and raw[24:32] == _TYPE and len(raw) == SECTOR_BYTES:
            return raw
    return None


def header_at(label: bytes) -> int:
    """Where in the label's sector the physical volume's header begins; may lie outside of it."""
    return int(struct.unpack_from("<I", label, 20)[0])


def read_physical_volume(device: Bytes) -> PhysicalVolume | None:
    """The label and metadata of a physical volume; None when there is no label. Raises BadMetadata."""
    label = find_label(device.pread)
    return None if label is None else _physical_volume(device, label)


def _physical_volume(device: Bytes, raw: bytes) -> PhysicalVolume:
    at = header_at(raw)
    if at + 40 > SECTOR_BYTES:
        raise BadMetadata(f"the label's header begins at byte {at} of its sector")
    uuid = raw[at : at + 32].decode("ascii", "replace")
    size = struct.unpack_from("<Q", raw, at + 32)[0]
    at = _after_areas(raw, at + 40)
    areas = tuple(_areas(raw, at))
    texts = [text for offset, length in areas if (text := _metadata_text(device, offset, length))]
    return PhysicalVolume(uuid, size, texts[0] if texts else "", areas)


def _areas(raw: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Places (offset, length) in a list that ends with zeroes."""
    for _ in range(_AREAS_AT_MOST):
        if at + 16 > len(raw):
            return
        offset, length = struct.unpack_from("<QQ", raw, at)
        if not offset:
            return
        yield offset, length
        at += 16


def _after_areas(raw: bytes, at: int) -> int:
    return at + 16 * (len(list(_areas(raw, at))) + 1)


def _metadata_text(device: Bytes, offset: int, length: int) -> str:
    """The text that an area's header names; empty when there is none or it is damaged."""
    header = device.pread(_AREA_HEADER_BYTES, offset)
    if len(header) < _AREA_HEADER_BYTES or header[4:20] != _AREA_MAGIC or _crc(header[4:]) != _number(header, 0):
        return ""
    start, size = struct.unpack_from("<QQ", header, 24)
    begin, text_bytes, checksum, flags = struct.unpack_from("<QQII", header, 40)
    if flags & _IGNORED or not 0 < text_bytes <= _LARGEST_TEXT or start != offset or not begin < size:
        return ""
    if text_bytes > size - _AREA_HEADER_BYTES or begin < _AREA_HEADER_BYTES:
        return ""
    # the ring goes on behind the area's header
    first = min(text_bytes, size - begin)
    raw = device.pread(first, start + begin)
    if first < text_bytes:
        raw += device.pread(text_bytes - first, start + _AREA_HEADER_BYTES)
    if len(raw) != text_bytes or _crc(raw) != checksum:
        return ""
    return raw.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _crc(raw: bytes) -> int:
    """LVM's CRC-32 is zlib's with another seed and without the inversions at both ends."""
    return zlib.crc32(raw, _CRC_SEED ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _number(raw: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", raw, at)[0])


# --- the text ------------------------------------------------------------------------------------------------------------


def parse_text(text: str) -> Section:
    """Sections, numbers, strings and lists of LVM's configuration language. Raises BadMetadata."""
    tokens = list(_tokens(text))
    found, at = _section(tokens, 0, 0)
    if at != len(tokens):
        raise BadMetadata("a section ends that never began")
    return found


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadMetadata(f"the metadata have an unknown character at {at}")
        if match.lastgroup:
            yield match[0]
        at = match.end()


def _section(tokens: Sequence[str], at: int, depth: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    if depth > _DEEPEST:
        raise BadMetadata("sections stand in sections without end")
    while at < len(tokens) and tokens[at] != "}":
        name, mark = tokens[at], tokens[at + 1] if at + 1 < len(tokens) else ""
        if mark == "{":
            found[name], at = _section(tokens, at + 2, depth + 1)
            if at >= len(tokens):
                raise BadMetadata(f"the section {name} does not end")
            at += 1
        elif mark == "=":
            found[name], at = _value(tokens, at + 2)
        else:
            raise BadMetadata(f"{name[:80]} is neither a section nor a value")
    return found, at


def _value(tokens: Sequence[str], at: int) -> tuple[Any, int]:
    if at >= len(tokens):
        raise BadMetadata("the metadata end in a value")
    if tokens[at] != "[":
        return _scalar(tokens[at]), at + 1
    values = []
    at += 1
    while at < len(tokens) and tokens[at] != "]":
        if tokens[at] != ",":
            values.append(_scalar(tokens[at]))
        at += 1
    return values, at + 1


def _scalar(token: str) -> Any:
    if token.startswith('"'):
        return re.sub(r"\\(.)", r"\1", token[1:-1], flags=re.DOTALL)
    # long enough for any size, short enough that no number takes long to read
    return int(token) if re.fullmatch(r"-?[0-9]{1,19}", token) else token


# --- what it says --------------------------------------------------------------------------------------------------------


def newest_groups(volumes: Iterable[PhysicalVolume]) -> tuple[VolumeGroup, ...]:
    """The volume groups that the texts describe; of each the newest description counts. Broken texts raise BadMetadata."""
    newest: dict[str, VolumeGroup] = {}
    for text in dict.fromkeys(volume.text for volume in volumes if volume.text):
        for name, section in parse_text(text).items():
            if isinstance(section, dict) and "extent_size" in section:
                group = _group(name, section)
                if group.uuid not in newest or newest[group.uuid].sequence < group.sequence:
                    newest[group.uuid] = group
    return tuple(newest.values())


def _group(name: str, section: Section) -> VolumeGroup:
    extent_bytes = _int(section, "extent_size") * SECTOR_BYTES
    members = {
        pv: (_text(body, "id").replace("-", ""), _int(body, "pe_start") * SECTOR_BYTES)
        for pv, body in _subsections(section, "physical_volumes")
    }
    volumes = tuple(
        _logical_volume(name, lv, body, members, extent_bytes)
        for lv, body in _subsections(section, "logical_volumes")
        if "VISIBLE" in _list(body, "status")
    )
    pv_uuids = tuple(uuid for uuid, _ in members.values())
    return VolumeGroup(name, _text(section, "id"), _int(section, "seqno"), pv_uuids, volumes)


def _logical_volume(
    group: str, name: str, body: Section, members: Mapping[str, tuple[str, int]], extent_bytes: int
) -> LogicalVolume:
    uuid = _text(body, "id")
    segments = [section for key, section in body.items() if key.startswith("segment") and isinstance(section, dict)]
    segments.sort(key=lambda section: _int(section, "start_extent"))
    size = sum(_int(segment, "extent_count") for segment in segments) * extent_bytes
    runs: list[Run] = []
    used: dict[str, None] = {}
    problem = "" if len(segments) <= _SEGMENTS_AT_MOST else f"it has {len(segments)} segments"
    position = 0
    for segment in segments[:_SEGMENTS_AT_MOST]:
        kind, stripes = _text(segment, "type"), _list(segment, "stripes")
        used |= dict.fromkeys(members[pv][0] for pv in stripes[::2] if pv in members)
        if kind != "striped" or len(stripes) != 2 or stripes[0] not in members or not isinstance(stripes[1], int):
            problem = f"it is of the type {'striped over several disks' if len(stripes) > 2 else kind}"
            continue
        if _int(segment, "start_extent") * extent_bytes != position:
            problem = "its segments do not follow each other"
        pv_uuid, data_start = members[stripes[0]]
        length = _int(segment, "extent_count") * extent_bytes
        runs.append(Run(position, length, pv_uuid, data_start + stripes[1] * extent_bytes))
        position += length
    return LogicalVolume(group, name, uuid, size, tuple(used), () if problem else tuple(runs), problem)


def _subsections(section: Section, key: str) -> Iterator[tuple[str, Section]]:
    inner = section.get(key)
    for name, body in (inner if isinstance(inner, dict) else {}).items():
        if isinstance(body, dict):
            yield name, body


def _int(section: Section, key: str) -> int:
    value = section.get(key)
    if not isinstance(value, int) or value < 0:
        raise BadMetadata(f"the metadata have no number {key} where there should be one")
    return value


def _text(section: Section, key: str) -> str:
    value = section.get(key)
    if not isinstance(value, str):
        raise BadMetadata(f"the metadata have no {key} where there should be one")
    return value


def _list(section: Section, key: str) -> list[Any]:
    value = section.get(key)
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []
