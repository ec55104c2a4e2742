"""LVM2: the extents of physical volumes that no logical volume has, and logical volumes that are plain enough to look into.

What a volume group says is taken as a whole or not at all: every segment of every logical volume, hidden ones included, must be
of a kind that is known, and no two may have the same extents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.allocation.runs import Runs
from converters.allocation.volume import NotUnderstood, Volume
from p2v.core import lvm
from p2v.core.units import SECTOR_BYTES

_GROUP_STATUS = frozenset({"RESIZEABLE", "READ", "WRITE"})
_VOLUME_STATUS = frozenset({"READ", "WRITE", "VISIBLE"})
_MEMBER_STATUS = frozenset({"ALLOCATABLE"})
_SEGMENTS_AT_MOST = 100_000
_MEMBERS_AT_MOST = 1024
_LARGEST_COUNT = 1 << 40


@dataclass(frozen=True, slots=True)
class PhysicalVolume:
    """A label found: what the caller calls its place, where it stands, what it says."""

    name: str
    volume: Volume
    label: lvm.PhysicalVolume


@dataclass(frozen=True, slots=True)
class LogicalVolume:
    """A logical volume that may be looked into."""

    name: str
    volume: Volume


@dataclass(frozen=True, slots=True)
class GroupFinding:
    """A volume group: the free extents of each member found, its plain volumes, and which others are copied whole.

    ``whole``: name, size in bytes, and why.
    """

    free: tuple[tuple[PhysicalVolume, Runs], ...] = ()
    volumes: tuple[LogicalVolume, ...] = ()
    whole: tuple[tuple[str, int, str], ...] = ()


def has_label(volume: Volume) -> bool:
    """Whether there is a physical volume's label."""
    return lvm.find_label(lambda length, offset: volume.peek(length, offset)) is not None


def read_label(name: str, volume: Volume) -> PhysicalVolume:
    """A physical volume with its metadata. Raises NotUnderstood."""
    try:
        label = lvm.read_physical_volume(volume)
    except lvm.BadMetadata as why:
        raise NotUnderstood(str(why)) from why
    if label is None:
        raise NotUnderstood("it has no label")
    return PhysicalVolume(name, volume, label)


def read_groups(members: Sequence[PhysicalVolume]) -> Iterator[GroupFinding]:
    """What is known of the volume groups that physical volumes are in; each volume in one finding, or named as whole."""
    left = {_uuid(member): member for member in members}
    if len(left) != len(members):
        yield _all_whole(members, "two places have its identity")
        return
    for text in dict.fromkeys(member.label.text for member in members if member.label.text):
        mine: list[PhysicalVolume] = []
        try:
            group = _group(text)
            mine = [left.pop(uuid) for uuid in tuple(group.members) if uuid in left]
            _check_texts(mine, text)
            yield _finding(group, {_uuid(member): member for member in mine})
        except (NotUnderstood, lvm.BadMetadata) as why:
            # those that are not known to be of this group yet have their turn below
            yield _all_whole(mine or [left.pop(_uuid(m)) for m in members if m.label.text == text and _uuid(m) in left], str(why))
    yield _all_whole(list(left.values()), "no volume group that is understood has it")


def _uuid(member: PhysicalVolume) -> str:
    return member.label.uuid.replace("-", "")


def _all_whole(members: Sequence[PhysicalVolume], why: str) -> GroupFinding:
    return GroupFinding(whole=tuple((member.name, member.volume.size, why) for member in members))


def _check_texts(members: Sequence[PhysicalVolume], text: str) -> None:
    if any(member.label.text not in ("", text) for member in members):
        raise NotUnderstood("the volumes of its group tell of it differently")


@dataclass(frozen=True, slots=True)
class _Member:
    uuid: str
    begin: int
    extents: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of a logical volume on one physical volume alone; all in extents."""

    start: int
    count: int
    member: str
    at: int


@dataclass
class _Group:
    name: str
    extent_bytes: int
    members: dict[str, _Member] = field(default_factory=dict)
    """By UUID."""
    taken: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Extents that segments have (first, count), by UUID."""
    plain: dict[str, list[_Segment]] = field(default_factory=dict)
    others: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Logical volumes that are not plain: size in bytes, and why not."""
    inner: set[str] = field(default_factory=set)
    """Logical volumes that others are made of."""


def _group(text: str) -> _Group:
    sections = [(n, s) for n, s in lvm.parse_text(text).items() if isinstance(s, dict) and "extent_size" in s]
    if len(sections) != 1:
        raise NotUnderstood("its metadata tell of several volume groups, or of none")
    name, section = sections[0]
    if not set(_strings(section.get("status"))) <= _GROUP_STATUS or _strings(section.get("flags")):
        raise NotUnderstood(f"its volume group {name} is in a state that is not known")
    if section.get("lock_type", "none") != "none":
        raise NotUnderstood(f"its volume group {name} is shared with other machines")
    group = _Group(name, _number(section, "extent_size") * SECTOR_BYTES)
    names: dict[str, str] = {}
    for key, body in _sections(section, "physical_volumes"):
        uuid = str(body.get("id", "")).replace("-", "")
        if not set(_strings(body.get("status"))) <= _MEMBER_STATUS or _strings(body.get("flags")):
            raise NotUnderstood(f"a volume of its group {name} is missing or in a state that is not known")
        names[key] = uuid
        group.members[uuid] = _Member(uuid, _number(body, "pe_start") * SECTOR_BYTES, _number(body, "pe_count"))
    if len(group.members) != len(names) or len(names) > _MEMBERS_AT_MOST or not group.extent_bytes:
        raise NotUnderstood(f"its volume group {name} is damaged")
    budget = _SEGMENTS_AT_MOST
    for key, body in _sections(section, "logical_volumes"):
        budget -= _add_volume(group, names, key, body)
        if budget < 0:
            raise NotUnderstood(f"its volume group {name} has more than {_SEGMENTS_AT_MOST} segments")
    return group


def _add_volume(group: _Group, names: Mapping[str, str], name: str, body: lvm.Section) -> int:
    """Take note of a logical volume; how many segments it has."""
    segments = [section for key, section in body.items() if key.startswith("segment") and isinstance(section, dict)]
    if len(segments) != _number(body, "segment_count"):
        raise NotUnderstood(f"the logical volume {name} is damaged")
    problem = ""
    if set(_strings(body.get("status"))) - _VOLUME_STATUS or "VISIBLE" not in _strings(body.get("status")):
        problem = "it is a part of another volume, or in a state that is not known"
    elif _strings(body.get("flags")):
        problem = "it has a flag that is not known"
    plain: list[_Segment] = []
    for segment in sorted(segments, key=lambda segment: _number(segment, "start_extent")):
        found = _segment(group, names, segment)
        if found is None:
            kind = segment.get("type")
            problem = problem or ("it is striped over several disks" if kind == "striped" else f"it is of the type {kind}")
        else:
            if found.start != sum(s.count for s in plain[-1:]) + (plain[-1].start if plain else 0):
                problem = problem or "its segments do not follow each other"
            plain.append(found)
    if problem or not plain:
        size = sum(_number(segment, "extent_count") for segment in segments) * group.extent_bytes
        group.others[name] = size, problem or "it has no segments"
    else:
        group.plain[name] = plain
    return len(segments)


def _segment(group: _Group, names: Mapping[str, str], segment: lvm.Section) -> _Segment | None:
    """Take note of what a segment has; the segment when it is plain. Raises NotUnderstood for one that cannot be told."""
    start, count = _number(segment, "start_extent"), _number(segment, "extent_count")
    stripes = segment.get("stripes")
    if segment.get("type") != "striped" or not isinstance(stripes, list):
        mentioned = set(_every_string(segment))
        if mentioned & set(names):
            raise NotUnderstood(f"its volume group {group.name} has a segment of the type {segment.get('type')} on it")
        group.inner |= mentioned
        return None
    if not stripes or len(stripes) % 2 or count % (len(stripes) // 2):
        raise NotUnderstood(f"its volume group {group.name} is damaged")
    share = count // (len(stripes) // 2)
    for holder, at in zip(stripes[::2], stripes[1::2], strict=True):
        if not isinstance(at, int) or at < 0 or not isinstance(holder, str):
            raise NotUnderstood(f"its volume group {group.name} is damaged")
        if holder in names:
            group.taken.setdefault(names[holder], []).append((at, share))
        else:
            group.inner.add(holder)
    if len(stripes) == 2 and stripes[0] in names:
        return _Segment(start, count, names[stripes[0]], stripes[1])
    return None


def _finding(group: _Group, members: Mapping[str, PhysicalVolume]) -> GroupFinding:
    free = []
    for uuid, member in group.members.items():
        gaps = list(_gaps(sorted(group.taken.get(uuid, ())), member.extents))
        if uuid in members:
            _check_areas(members[uuid], member, group.extent_bytes)
            runs = Runs()
            for first, count in gaps:
                runs.add(member.begin + first * group.extent_bytes, count * group.extent_bytes)
            free.append((members[uuid], runs))
    volumes, whole = [], [(f"{group.name}/{name}", size, why) for name, (size, why) in group.others.items()]
    for name, segments in group.plain.items():
        missing = any(segment.member not in members for segment in segments)
        if name in group.inner or missing:
            why = "it is on a disk that is not here" if missing else "other volumes are made of it, or are snapshots of it"
            whole.append((f"{group.name}/{name}", sum(s.count for s in segments) * group.extent_bytes, why))
            continue
        parts = []
        for segment in segments:
            begin = group.members[segment.member].begin + segment.at * group.extent_bytes
            parts.append(members[segment.member].volume.part(begin, segment.count * group.extent_bytes))
        volumes.append(LogicalVolume(f"{group.name}/{name}", Volume.joined(parts)))
    return GroupFinding(tuple(free), tuple(volumes), tuple(whole))


def _gaps(taken: Sequence[tuple[int, int]], extents: int) -> Iterator[tuple[int, int]]:
    """What is left between. Raises NotUnderstood where two overlap."""
    end = 0
    for first, count in taken:
        if first < end or not count or first + count > extents:
            raise NotUnderstood("two logical volumes have the same extents, or some that are not there")
        if first > end:
            yield end, first - end
        end = first + count
    if end < extents:
        yield end, extents - end


def _check_areas(found: PhysicalVolume, member: _Member, extent_bytes: int) -> None:
    """Whether the extents lie on the volume, beside its label and metadata. Raises NotUnderstood."""
    begin, end = member.begin, member.begin + member.extents * extent_bytes
    if end > found.volume.size or begin < lvm.LABEL_SECTORS * SECTOR_BYTES:
        raise NotUnderstood("its extents lie behind its end, or in its label")
    if any(offset < end and offset + length > begin for offset, length in found.label.areas):
        raise NotUnderstood("its extents lie in its metadata")


def _sections(section: lvm.Section, key: str) -> Iterator[tuple[str, lvm.Section]]:
    inner = section.get(key)
    for name, body in (inner if isinstance(inner, dict) else {}).items():
        if isinstance(body, dict):
            yield name, body


def _number(section: lvm.Section, key: str) -> int:
    value = section.get(key)
    if not isinstance(value, int) or not 0 <= value < _LARGEST_COUNT:
        raise NotUnderstood(f"its metadata have no number {key} where there should be one")
    return value


def _strings(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [text for text in value or () if isinstance(text, str)] \
        if isinstance(value, list) else []


def _every_string(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _every_string(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _every_string(inner)
