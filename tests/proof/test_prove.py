"""What a proof says of bytes outside of the file systems that were planned in, and how it is written down."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from converters.references import DiskSpec
from drivers.appliance_values import ApplianceFailed
from drivers.facts import Disk, FileSystem, GuestFacts, Mount, Partition, ReadBy, Segment, Volume
from drivers.planned import Explained, Unexplained
from p2v.core import jsonio, jsontext
from p2v.core.acceleration import Acceleration
from p2v.core.events import PhaseTimes, silent
from p2v.core.units import MIB
from p2v.documents import document_converter
from p2v.proof import disks
from p2v.proof.guest import System
from p2v.proof.prove import Pair, _both, _elsewhere, _not_compared, pair_of
from p2v.proof.text import render
from p2v.record import ConversionRecord
from p2v.record.proof import DiskProof, FileSystemProof, Problem, ProofDocument, ProofVerdict, proof_json
from tests.converters.memory_disk import Kind, build


def test_runs_are_cut_at_the_ends_of_changed_ranges() -> None:
    """Against sets of bytes: what is inside and what is outside are all of it, each once and in order."""
    chance = random.Random(5)
    for _ in range(300):
        runs, changed = _ranges(chance), _ranges(chance)
        inside, outside = list(disks.inside(runs, changed)), list(disks.outside(runs, changed))
        bytes_changed = _bytes(changed)
        assert _bytes(inside) == _bytes(runs) & bytes_changed
        assert _bytes(outside) == _bytes(runs) - bytes_changed
        assert inside == sorted(inside)
        assert outside == sorted(outside)
        assert all(length > 0 for _, length in inside + outside)


def _ranges(chance: random.Random) -> list[tuple[int, int]]:
    at, found = 0, []
    for _ in range(chance.randint(0, 5)):
        at += chance.randint(0, 4)
        length = chance.randint(1, 6)
        found.append((at, length))
        at += length
    return found


def _bytes(ranges: Sequence[tuple[int, int]]) -> set[int]:
    return {at for offset, length in ranges for at in range(offset, offset + length)}


def test_an_appliance_that_does_not_start_ends_the_comparison_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = build(tmp_path / "disk", [(Kind.PREAD, 1000 * 1024)] * 400)
    slow.seconds_a_read = 0.02

    @contextmanager
    def no_sides(*_: object) -> Iterator[None]:
        raise ApplianceFailed("start", "there is none")
        yield

    monkeypatch.setattr(sys.modules[_both.__module__], "sides", no_sides)
    disk = SimpleNamespace(source="disk", target="guest.qcow2", virtual_size=slow.virtual_size, changed=(), unreadable=())
    record = cast(ConversionRecord, SimpleNamespace(document=None, disks=(disk,)))
    readers = ([slow], [build(tmp_path / "other", [(Kind.HOLE, slow.virtual_size)])])
    with pytest.raises(ApplianceFailed):
        _both(record, Pair((), ()), readers, [_SYSTEM], cast(Acceleration, None), PhaseTimes(silent), (), 2)
    assert slow.reads < 200


_ROOT = Mount("/", 0, 1)
_IN_VOLUME = Mount("/", 0, 2, volume="/dev/mapper/vg-root")


def _facts(volumes: tuple[Volume, ...] = ()) -> GuestFacts:
    """Partitions 1 and 2 side by side, 5 inside of the extended 3; a gap before the first and one at the end."""
    parts = tuple(
        Partition(0, number, offset * MIB, length * MIB, "83")
        for number, offset, length in ((1, 1, 9), (2, 10, 10), (3, 20, 10), (5, 21, 9))
    )
    return GuestFacts(ReadBy.HOST, (Disk(0, 40 * MIB, "mbr"),), parts, volumes=volumes, root=_ROOT, mounts=(_ROOT,))


def _record(facts: GuestFacts) -> ConversionRecord:
    document, disk = SimpleNamespace(facts=facts), SimpleNamespace(target="guest.qcow2")
    return cast(ConversionRecord, SimpleNamespace(document=document, disks=(disk,)))


_SYSTEM = System((_ROOT,), "ext4", 9 * MIB, (Segment(0, 9 * MIB, 0, 1 * MIB),))


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ((0, 512), [(0, "outside of all partitions")]),
        ((MIB - 512, 1024), [(MIB - 512, "outside of all partitions")]),
        ((MIB, 9 * MIB), []),
        ((9 * MIB, 2 * MIB), [(10 * MIB, "in partition 2")]),
        ((19 * MIB, 3 * MIB), [(19 * MIB, "in partition 2"), (20 * MIB, "in partition 3"), (21 * MIB, "in partition 5")]),
        ((35 * MIB, 512), [(35 * MIB, "outside of all partitions")]),
    ],
)
def test_bytes_that_belong_to_nothing_planned_are_told_with_their_place(run: tuple[int, int], told: list[tuple[int, str]]) -> None:
    found = list(_elsewhere(_record(_facts()), [_SYSTEM], [[run]]))
    assert len(found) == len(told)
    for problem, (offset, place) in zip(found, told, strict=True):
        assert problem.where == "guest.qcow2"
        assert f"at byte {offset} " in problem.problem
        assert place in problem.problem


def _volume(device: str, kind: str, segments: tuple[Segment, ...]) -> Volume:
    return Volume(device, kind, "uuid", 4 * MIB, carriers=((0, 2),), segments=segments, filesystem=FileSystem("ext4"))


@pytest.mark.parametrize("kind", ["luks", "md", "lvm"])
def test_bytes_below_a_volume_that_cannot_be_mapped_are_left_to_the_names(kind: str) -> None:
    """But not those of its neighbours, in one run with them or not."""
    volume = _volume(_IN_VOLUME.volume, kind, ())
    system = System((_IN_VOLUME,), "ext4", volume.size_bytes, ())
    record = _record(_facts((volume,)))
    assert not list(_elsewhere(record, [system], [[(12 * MIB, 512)]]))
    (problem,) = _elsewhere(record, [system], [[(19 * MIB, 1536 * 1024)]])
    assert f"at byte {20 * MIB} " in problem.problem
    assert list(_elsewhere(record, [system], [[(2 * MIB, 512)]]))


def test_of_a_mapped_volume_only_its_own_segments_may_differ() -> None:
    segments = (Segment(0, 2 * MIB, 0, 12 * MIB), Segment(2 * MIB, 2 * MIB, 0, 16 * MIB))
    volume = _volume(_IN_VOLUME.volume, "lvm", segments)
    system = System((_IN_VOLUME,), "ext4", 4 * MIB, segments)
    record = _record(_facts((volume,)))
    assert not list(_elsewhere(record, [system], [[(12 * MIB, 2 * MIB), (17 * MIB, 512)]]))
    (problem,) = _elsewhere(record, [system], [[(13 * MIB, 4 * MIB)]])
    assert f"at byte {14 * MIB} ({2 * MIB} bytes), in partition 2" in problem.problem


def test_volumes_beside_one_that_cannot_be_mapped_are_said_not_to_be_compared() -> None:
    volumes = (_volume(_IN_VOLUME.volume, "lvm", ()), _volume("/dev/mapper/vg-home", "lvm", ()))
    system = System((_IN_VOLUME,), "ext4", 4 * MIB, ())
    (note,) = _not_compared(_record(_facts(volumes)), [system])
    assert "/dev/mapper/vg-home" in note
    segments = (Segment(0, 4 * MIB, 0, 12 * MIB),)
    mapped = System((_IN_VOLUME,), "ext4", 4 * MIB, segments)
    assert not list(_not_compared(_record(_facts((_volume(_IN_VOLUME.volume, "lvm", segments), volumes[1]))), [mapped]))


def test_disks_of_a_record_are_where_they_were_or_where_is_said() -> None:
    """What the record calls a file is looked for beside it, whatever path it gives."""
    spec = DiskSpec(Path("/old/disk.vmdk"), "vmdk")
    record = SimpleNamespace(
        document=SimpleNamespace(sources=(SimpleNamespace(spec=spec),)), undo_journal=None,
        disks=(SimpleNamespace(target="../../etc/guest.qcow2", result=SimpleNamespace(format="qcow2")),),
        hardware=SimpleNamespace(disks=(SimpleNamespace(is_device=False),)),
    )  # fmt: skip
    pair = pair_of(cast(ConversionRecord, record), Path("/results"))
    assert pair.sources == (spec,)
    assert (pair.targets[0].path, pair.targets[0].input_format) == (Path("/results/guest.qcow2"), "qcow2")
    moved = pair_of(cast(ConversionRecord, record), Path("/results"), [Path("/new.vmdk")])
    assert moved.sources[0].path == Path("/new.vmdk")


def test_both_sides_of_a_conversion_in_place_are_the_same_disk() -> None:
    spec = DiskSpec(Path("/disk.raw"), "raw")
    record = SimpleNamespace(document=SimpleNamespace(sources=(SimpleNamespace(spec=spec),)), undo_journal="vm.undo")
    pair = pair_of(cast(ConversionRecord, record), Path("/results"))
    assert pair.targets == (spec,)
    (before,) = pair.sources
    assert (before.path, before.undo_journal, before.undo_disk) == (spec.path, Path("/results/vm.undo"), 0)


def _document(verdict: ProofVerdict) -> ProofDocument:
    system = FileSystemProof(
        "disk 1, partition 1", "ext4", ("/",), 7, 1, False, (Explained("/etc/fstab", "other contents", "edit /etc/fstab"),),
        (Unexplained("/a\nb", "is new"),), {"inodes": 256}, ("a note",),
    )  # fmt: skip
    return ProofDocument(
        "sha", "guest", "2026-01-01T00:00:00Z", verdict, (DiskProof("a", "b", 512, 512, 1, 512, 3),), (system,),
        (Problem("/a\nb", "is new"),), ("note",), (), {"compare": 1.5}, 0.5,
    )  # fmt: skip


@pytest.mark.parametrize("verdict", ProofVerdict)
def test_a_proof_is_read_back_as_it_was_written(verdict: ProofVerdict) -> None:
    document = _document(verdict)
    data = json.loads(proof_json(document))
    digest = data.pop("digest")
    assert digest == jsontext.digest(data)
    assert jsonio.decode(document_converter(), data, ProofDocument) == document


def test_a_proof_as_text_has_the_verdict_first_and_no_name_breaks_its_lines() -> None:
    text = render(_document(ProofVerdict.FAILED))
    assert text.startswith("guest: NOT PROVEN")
    assert not any(line.startswith("b: is new") for line in text.splitlines())
    assert r"/a\x0ab: is new" in text
