"""The same guest through virt-v2v and through ours: what differs is on the list, and the model of a start judges both results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.against_virt_v2v.contents import Contents, contents
from tests.against_virt_v2v.conversions import VERSION, Given, by_us, by_virt_v2v, version
from tests.against_virt_v2v.differences import differences, judged, listed
from tests.against_virt_v2v.guests import RoomyGuest, helpers, medium, source
from tests.windows_startup import devices
from tests.windows_startup.devices import Device
from tests.windows_startup.guests import Sample
from tests.windows_startup.machine import machine
from tests.windows_startup.verdict import Doubt, Reason

_VISTA = (6, 0)
_BLOCK = (devices.VIRTIO_BLK, devices.VIRTIO_BLK_MODERN)
_SCSI = (devices.VIRTIO_SCSI, devices.VIRTIO_SCSI_MODERN)


Start = tuple[Device, bool, Reason | None]
"""A controller, whether it is started from the last known good set, and why it does not start there."""


def _of_virt_v2v(last_known_good: Reason) -> tuple[Start, ...]:
    """What virt-v2v 2.2 makes ready: the current control set, for virtio-blk."""
    in_current = ((controller, False, None) for controller in _BLOCK)
    in_other = ((controller, True, last_known_good) for controller in _BLOCK)
    return (*in_current, *in_other, *((controller, False, Reason.NO_STORAGE_DRIVER) for controller in _SCSI))


# virtio's ids are looked up in the control set, and from 8 on in a database beside all sets, which names a service of the set
_UP_TO_7, _SINCE_8 = _of_virt_v2v(Reason.NO_STORAGE_DRIVER), _of_virt_v2v(Reason.STORAGE_DRIVER_ABSENT)
# it had drivers for transitional devices in every set
_HAD_DRIVERS: tuple[Start, ...] = (
    (devices.VIRTIO_BLK, False, None),
    (devices.VIRTIO_BLK, True, None),
    (devices.VIRTIO_BLK_MODERN, False, None),
    (devices.VIRTIO_BLK_MODERN, True, Reason.NO_STORAGE_DRIVER),
    (devices.VIRTIO_SCSI, False, None),
    (devices.VIRTIO_SCSI_MODERN, False, Reason.NO_STORAGE_DRIVER),
)


@dataclass(frozen=True)
class Case:
    """A guest; where virt-v2v's result starts, and what the model doubts of it there."""

    name: str
    theirs: tuple[Start, ...]
    doubts: tuple[Doubt, ...] = ()


CASES = (
    Case("xp", _UP_TO_7),
    Case("2003-xen", _UP_TO_7),
    Case("vista-x64", _UP_TO_7),
    Case("win7", _UP_TO_7),
    Case("2008-r2", _UP_TO_7),
    Case("2008-r2-kvm", _HAD_DRIVERS),
    Case("2012-r2", _SINCE_8),
    Case("win8.1", _SINCE_8),
    Case("win10", _SINCE_8),
    Case("win10-shared-esp", _SINCE_8),
    Case("win11", _SINCE_8),
    Case("2019", _SINCE_8, (Doubt.DATA_DISK_OFFLINE,)),
    Case("2022", _SINCE_8),
)


@pytest.mark.matrix
@pytest.mark.appliance
# two appliances, of which virt-v2v's inspects the guest as well: five minutes were seen on a busy host
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not version().startswith(VERSION), reason=f"{VERSION} is not installed (make setup)")
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_all_that_differs_from_what_virt_v2v_makes_is_known(case: Case, tmp_path: Path) -> None:
    guest, disks = source(case.name, tmp_path / "source")
    given = Given(disks, medium(tmp_path / "medium"), helpers(tmp_path / "helpers"))
    theirs, ours = by_virt_v2v(given, tmp_path / "theirs"), by_us(given, tmp_path / "ours")
    before, mine, other = (_contents(guest, disks) for disks in (given.disks, ours, theirs))
    found = judged(differences(before, mine, other), listed(), case.name)
    assert not found.unlisted, "\n".join(map(str, found.unlisted))
    assert found.stale == ()
    assert list(_wrong_starts(guest, theirs, case.theirs, case.doubts)) == []
    assert list(_wrong_starts(guest, ours, _of_ours(guest), ())) == []


def _contents(guest: RoomyGuest, disks: Sequence[Path]) -> Contents:
    with machine(*disks) as found:
        return contents(Sample(guest, found))


def _of_ours(guest: RoomyGuest) -> Iterator[Start]:
    for last_known_good in (False, True):
        for controller in _BLOCK:
            yield controller, last_known_good, None
        # virtio-win never had vioscsi for XP and Server 2003, and they have no driver of AHCI
        for controller in (*_SCSI, devices.AHCI) if guest.version.nt >= _VISTA else ():
            yield controller, last_known_good, None
        yield devices.PIIX_IDE, last_known_good, None


def _wrong_starts(guest: RoomyGuest, disks: Sequence[Path], starts: Iterable[Start], doubts: tuple[Doubt, ...]) -> Iterator[str]:
    with machine(*disks) as found:
        for controller, last_known_good, expected in starts:
            start = Sample(guest, found).start(controller, devices.VIRTIO_NET_MODERN, last_known_good=last_known_good)
            is_right = start.reason is expected and (start.stop is not None or tuple(kind for kind, _ in start.doubts) == doubts)
            if not is_right:
                yield f"{controller.name}, last known good {last_known_good}: {start.stop}, {start.doubts}"
