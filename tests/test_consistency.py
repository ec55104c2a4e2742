"""Which way a disk in use is copied, and why no better one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2v.consistency import LiveSource, LogicalVolume, Way, choose, snapshot_room
from p2v.core.device_use import Mounted, Use, UseKind
from p2v.core.units import GIB, MIB

NO_VOLUME = "/dev/sdb is no logical volume"
VOLUME = LogicalVolume("vg0", "data", 100 * GIB, 50 * GIB)


def mount(place: str, number: str = "8:17", kind: str = "ext4") -> Use:
    return Use(UseKind.MOUNTED, f"mounted on {place}", Mounted(place, number, kind, False))


def way_of(
    *uses: Use,
    volume: LogicalVolume | str = NO_VOLUME,
    needed: dict[str, str] | None = None,
    seconds: float = 60,
) -> LiveSource:
    return choose(0, "wwid=1", 100 * GIB, uses, volume, needed or {}, seconds)


def test_a_snapshot_of_a_logical_volume_is_the_best() -> None:
    made = way_of(mount("/srv"), volume=VOLUME)
    assert (made.way, made.volume, made.snapshot_bytes, made.freezes) == (Way.SNAPSHOT, "vg0/data", 20 * GIB, ())
    assert made.not_better == ()
    # even of what carries this system itself, and of what a process writes to
    assert way_of(mount("/"), Use(UseKind.OPEN, "open in x"), volume=VOLUME).way is Way.SNAPSHOT


def test_a_thin_snapshot_needs_no_room_of_its_own() -> None:
    made = way_of(mount("/srv"), volume=replace(VOLUME, pool="pool0", free_in_group=0))
    assert (made.way, made.snapshot_bytes) == (Way.SNAPSHOT, 0)


def test_a_snapshot_has_as_much_room_as_there_is_and_as_it_can_use() -> None:
    assert snapshot_room(replace(VOLUME, free_in_group=3 * GIB)) == 3 * GIB
    assert snapshot_room(replace(VOLUME, size=2 * GIB)) == GIB
    assert snapshot_room(replace(VOLUME, size=256 * MIB)) == 256 * MIB + 16 * MIB


@pytest.mark.parametrize(
    ("volume", "word"),
    [
        (replace(VOLUME, free_in_group=GIB), "1.0 GiB free"),
        (replace(VOLUME, origin="other"), "snapshot itself"),
        ("LVM (lvcreate) is not installed here", "not installed"),
    ],
)
def test_without_a_snapshot_file_systems_are_frozen_and_the_reason_is_told(volume: LogicalVolume | str, word: str) -> None:
    made = way_of(mount("/srv"), volume=volume)
    assert (made.way, made.freezes) == (Way.FREEZE, ("/srv",))
    assert word in made.not_better[0]


def test_file_systems_are_frozen_once_each_and_those_on_others_first() -> None:
    stacked = Use(UseKind.STACKED, "held by dm-3 (vg0-root)")
    swap = Use(UseKind.SWAP, "swap space in use")
    made = way_of(mount("/srv"), mount("/srv/bind"), stacked, swap, mount("/inner", "7:0", "xfs"))
    assert made.way is Way.FREEZE
    assert made.freezes == ("/inner", "/srv/bind")


@pytest.mark.parametrize(
    ("uses", "seconds", "word"),
    [
        ((mount("/srv"),), 0, "--freeze-limit 0"),
        ((mount("/"), mount("/srv", "8:18")), 60, "root"),
        ((mount("/srv", "8:99"),), 60, "the results go there"),
        ((mount("/boot/efi", kind="vfat"),), 60, "cannot freeze"),
        ((mount("/srv"), Use(UseKind.OPEN, "open in qemu (process 7)")), 60, "open in qemu"),
        ((Use(UseKind.STACKED, "held by md0"),), 60, "no file system"),
        ((Use(UseKind.SWAP, "swap space in use"),), 60, "no file system"),
    ],
)
def test_what_must_not_or_cannot_be_frozen_is_copied_as_it_runs_and_both_reasons_are_told(
    uses: tuple[Use, ...], seconds: float, word: str
) -> None:
    made = way_of(*uses, needed={"8:99": "the results go there"}, seconds=seconds)
    assert made.way is Way.AS_IT_RUNS
    assert made.freezes == ()
    assert len(made.not_better) == 2
    assert word in made.not_better[1]
