"""Every sample guest with its whole plan: it starts on all hardware that the plan says, and nothing left out goes unnoticed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from drivers.changes import CarryFile, DeleteFile, EditHive, WriteFile
from drivers.windows.edits import AddKey, DeleteValue, HiveEdit, SetValue
from drivers.windows.regf import BadHive
from p2v.cli.main import main
from tests.fixtures.windows import GUESTS, WindowsGuest, named, windows_disks
from tests.fixtures.windows.rows import rows
from tests.support_matrix_windows import Pieces, Proof, WindowsRow, note, note_pieces
from tests.windows_startup import devices, hive
from tests.windows_startup.afterwards import Omission
from tests.windows_startup.editing import RemoveKey
from tests.windows_startup.guests import Sample, sample
from tests.windows_startup.planned import facts_of, made, placed
from tests.windows_startup.verdict import Doubt, Reason
from tests.windows_startup.whole import Kind, Piece, Rewritten, expected_of, kinds, label, targets, whole_plan

_NOT_YET = "windows.not-rewritten"
#: What keeps its plan from being carried out: all others are converted.
_REFUSED = {
    "hibernated-xp": "windows.hibernated", "hibernated": "windows.hibernated", "fast-started": "windows.hibernated",
    "dirty-ntfs": "windows.dirty-volume", "bitlocker": "windows.bitlocker", "dynamic": "windows.dynamic-disk",
}  # fmt: skip
#: What a start stops at in a guest that is converted all the same: the model knows no other way, and the plan says so.
_STAYS = {"missing-driver": Reason.BOOT_DRIVER_MISSING}
CONVERTED = tuple(guest for guest in GUESTS if guest.name not in _REFUSED.keys() | _STAYS.keys())
_EACH_PIECE_OFTEN = ("nt4-server", "xp", "win11-arm64")
_XP, _VISTA = (5, 1), (6, 0)


def virtio(guest: WindowsGuest) -> tuple[str, ...]:
    """The buses that the medium has drivers for."""
    return () if guest.version.nt < _XP else ("virtio-blk",) if guest.version.nt < _VISTA else ("virtio-blk", "virtio-scsi")


def wrong(made_: Rewritten, ready: Sample) -> list[tuple[Kind, str]]:
    """All that is wrong with it, on what its plan says."""
    return list(kinds(ready, targets(made_.before, made_.plan), expected_of(made_.before, made_.plan)))


@pytest.mark.parametrize("guest", rows(CONVERTED))
def test_guest_with_its_whole_plan_starts_on_all_that_kvm_has_for_it_and_nothing_is_left_out(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        made_ = Rewritten.of(found)
        problems = wrong(made_, made_.whole)
        note(WindowsRow.of(guest, facts_of(found), made_.plan, Proof.IN_MEMORY, [text for _, text in problems]))
        assert {finding.id for finding in made_.plan.blockers} <= {_NOT_YET}
        found_buses = made_.plan.caps.disk_buses
        assert found_buses[: len(virtio(guest))] == virtio(guest)
        assert set(found_buses) - set(virtio(guest)) <= ({"ide"} if guest.version.nt < _VISTA else {"sata", "ide"})
        assert problems == []
        assert_nothing_more_is_planned(made_)


@pytest.mark.parametrize("name", list(_STAYS))
def test_what_kept_a_guest_from_starting_before_does_so_afterwards(name: str) -> None:
    with sample(name) as found:
        made_ = Rewritten.of(found)
        problems = wrong(made_, made_.whole)
        note(WindowsRow.of(found.guest, facts_of(found), made_.plan, Proof.IN_MEMORY, (), before=problems[0][0].value))
        assert {kind for kind, _ in problems if isinstance(kind, Reason)} == {_STAYS[name]}


@pytest.mark.parametrize("name, blocker", _REFUSED.items())
def test_guest_that_is_not_converted_says_why(name: str, blocker: str, capsys: pytest.CaptureFixture[str]) -> None:
    disks = [str(path) for path in windows_disks(named(name))]
    assert main(["plan", "--json", "--progress", "none", "--input-format", "raw", *disks]) == 4
    blockers = [each["id"] for each in json.loads(capsys.readouterr().out)["plan"]["blockers"] if each["id"] != _NOT_YET]
    note(WindowsRow.of_refused(named(name), blockers))
    assert blocker in blockers


def assert_nothing_more_is_planned(made_: Rewritten) -> None:
    """A second plan finds every hive as it is to be, and every file there."""
    changes = whole_plan(made_.whole).changes
    carried = {change.path for change in changes if isinstance(change, CarryFile)}
    for change in changes:
        # facts in memory have drivers without contents, which the same ones are to replace
        if isinstance(change, DeleteFile) and change.path in carried:
            continue
        assert isinstance(change, CarryFile | WriteFile), change
        partition, path = placed(made_.whole, change.path)
        assert made(made_.whole, change).read(path, partition) == made_.whole.read(path, partition)


#: Edits that are not about starting, each with what notices that they are missing.
_BESIDES: tuple[tuple[str, frozenset[Kind]], ...] = (
    (r".*\\Control\\CrashControl: AutoReboot", frozenset({Omission.RESTARTS})),
    (r".*\\Session Manager\\Power: HiberbootEnabled", frozenset({Omission.HIBERNATES})),
    (r"Objects\\.*\\Elements\\250000e0: Element", frozenset({Omission.REPAIRS})),
    (r".*\\Services\\partmgr\\Parameters: SanPolicy", frozenset({Doubt.DATA_DISK_OFFLINE})),
    # leftovers: services, filters of what a person needs, what runs at log-on
    (r"ControlSet\d+\\Services\\[^\\]+: Start", frozenset({Omission.STRANGER, Omission.POWER_STATES, Doubt.PROCESSOR_DRIVER})),
    (r".*: (Upper|Lower)Filters", frozenset({Doubt.NO_INPUT})),
    (r".*\\Control\\NetworkProvider\\Order: ProviderOrder", frozenset({Omission.STRANGER_ASKED})),
    (r"Microsoft\\Windows\\CurrentVersion\\Run: .*", frozenset({Omission.STRANGER_AT_LOG_ON})),
    # what a driver's own INF file says besides: order, place, how it is found and reported
    (r".*\\Services\\vio(stor|scsi): (ErrorControl|Group|Tag|ImagePath)", frozenset({Omission.NOT_AS_INF})),
    (r".*\\Services\\vio(stor|scsi)\\Parameters(: BusType|\\PnpInterface: 5)", frozenset({Omission.NOT_AS_INF})),
    (r".*\\CriticalDeviceDatabase\\.*: ClassGUID", frozenset({Omission.NO_CLASS})),
    (r"DriverDatabase\\.*: (|Configurations|ConfigFlags)", frozenset({Omission.HALF_ENTRY})),
    # packages for Plug and Play
    (r"/win\w+/Drivers/VirtIO/.*", frozenset({Omission.PACKAGE})),
    (r"Microsoft\\Windows\\CurrentVersion: DevicePath", frozenset({Doubt.NO_NETWORK_DRIVER})),
    # the first start
    (r".*\\Services\\p2v-firstboot: (Type|Start|ErrorControl|ImagePath|ObjectName)", frozenset({Omission.NO_FIRST_START})),
    (r"/win\w+/p2v/firstboot-.*", frozenset({Omission.NO_FIRST_START})),
)  # fmt: skip
_FOR_PEOPLE = re.compile(r".*\\Services\\[^\\]+: DisplayName", re.IGNORECASE)
"""Nothing depends on them."""


@pytest.mark.parametrize("guest", rows(CONVERTED, _EACH_PIECE_OFTEN))
def test_each_single_thing_that_is_planned_is_missed_when_it_is_left_out(guest: WindowsGuest) -> None:
    with sample(guest.name) as found:
        made_ = Rewritten.of(found)
        pieces = list(made_.pieces())
        unnoticed = [label(piece) for piece in pieces if not _is_missed(made_, piece)]
    note_pieces(Pieces(guest.name, len(pieces), tuple(unnoticed)))
    assert unnoticed == []


def _is_missed(made_: Rewritten, piece: Piece) -> bool:
    if _FOR_PEOPLE.fullmatch(label(piece)) or _is_the_same_to_windows(piece) or _replaces_a_driver(made_, piece):
        return True
    try:
        ready = made_.without(piece)
    except BadHive:
        # what goes below a key cannot be made without it
        return isinstance(piece, AddKey)
    found = set[Kind]()
    for kind, _ in kinds(ready, targets(made_.before, made_.plan), expected_of(made_.before, made_.plan)):
        if isinstance(kind, Reason):
            return True
        found.add(kind)
    wanted = [expected for pattern, expected in _BESIDES if re.fullmatch(pattern, label(piece), re.IGNORECASE)]
    return any(expected & found for expected in wanted) or (not found and _has_another(made_, piece, ready))


@pytest.mark.parametrize("name", ["2003", "2012"])
def test_an_edit_that_is_taken_back_is_the_same_as_one_that_was_never_made(name: str) -> None:
    with sample(name) as found:
        made_ = Rewritten.of(found)
        edits = [piece for piece in made_.pieces() if isinstance(piece, SetValue | DeleteValue)]
        for piece in edits[:: len(edits) // 8]:
            change = next(each for each in made_.plan.changes if isinstance(each, EditHive) and piece in each.edits)
            partition, path = placed(found, change.path)
            rest = made(found, change, [each for each in change.edits if each is not piece])
            never, back = (hive.opened(each.read(path, partition), path) for each in (rest, made_.without(piece)))
            assert never == back, label(piece)
            assert never != hive.opened(made_.whole.read(path, partition), path)


def _is_the_same_to_windows(piece: Piece) -> bool:
    """A path in other letters."""
    if not isinstance(piece, SetValue) or piece.name != "ImagePath" or piece.before is None:
        return False
    old, new = (bytes.fromhex(data).decode("utf-16-le").lower() for data in (piece.before.data, piece.data))
    return old == new


def _replaces_a_driver(made_: Rewritten, piece: Piece) -> bool:
    """A driver in the place of one of the guest's own, or that one's removal: the model knows no versions of programs."""
    removed = {change.path for change in made_.plan.changes if isinstance(change, DeleteFile)}
    return isinstance(piece, DeleteFile | CarryFile) and piece.path in removed


_IDE_BY_CLASS = ("PCI#CC_0101",)
_AHCI_BY_CLASS = ("PCI#CC_010601", "PCI#CC_0106")
def _had(id_: str) -> tuple[str, ...]:
    return f"{id_}&SUBSYS_00021AF4&REV_00", f"{id_}&SUBSYS_00081AF4&REV_00"


#: Entries beside which another one is as good: what that is (keys beside it), and the controllers that have to need one of both.
_BACKED: tuple[tuple[str, Callable[[str], tuple[str, ...]], tuple[devices.Device, ...]], ...] = (
    # an id with the revision, and without; what a guest of another KVM had
    (r"PCI#VEN_1AF4&DEV_....&REV_0[01]", lambda id_: (id_[:-7], *_had(id_[:-7])), devices.VIRTIO_STORAGE),
    (r"PCI#VEN_1AF4&DEV_....", lambda id_: (f"{id_}&REV_00", f"{id_}&REV_01", *_had(id_)), devices.VIRTIO_STORAGE),
    # QEMU's own controllers, and Windows' entry for their class
    (r"PCI#VEN_8086&DEV_7010", lambda _: _IDE_BY_CLASS, (devices.PIIX_IDE,)),
    (r"PCI#VEN_8086&DEV_7111", lambda _: _IDE_BY_CLASS, (devices.PIIX4_IDE,)),
    (r"PCI#VEN_8086&DEV_2922", lambda _: _AHCI_BY_CLASS, (devices.AHCI,)),
)  # fmt: skip


def _has_another(made_: Rewritten, piece: Piece, ready: Sample) -> bool:
    """Whether it is an entry of a device beside another that is as good, so that the start stops without both."""
    if not isinstance(piece, HiveEdit):
        return False
    top, _, id_ = re.sub(r"\\PCI\\(?=VEN_)", r"\\PCI#", piece.key).rpartition("\\")
    for pattern, others, controllers in _BACKED:
        if re.fullmatch(pattern, id_):
            alone = _without_keys(ready, [*(f"{top}\\{other}" for other in others(id_)), *_known(ready, controllers)])
            wanted = [target for target in targets(made_.before, made_.plan) if target.controller in controllers]
            found = kinds(alone, wanted, expected_of(made_.before, made_.plan))
            return alone is not ready and any(kind is Reason.NO_STORAGE_DRIVER for kind, _ in found)
    return False


def _known(ready: Sample, controllers: tuple[devices.Device, ...]) -> Iterator[str]:
    """Where a guest that was on KVM before has a controller already."""
    for controller in controllers:
        yield from (f"ControlSet{number:03d}\\Enum\\{controller.device_id}" for number in ready.guest.sets.existing)
        yield f"DriverDatabase\\DeviceIds\\{controller.hardware_ids[0]}"


def _without_keys(ready: Sample, keys: list[str]) -> Sample:
    root = hive.opened(ready.read(ready.path("system32/config/SYSTEM")), "SYSTEM")
    # DriverDatabase has the bus as a key of its own
    spelt = [key if root.at(key) else key.replace("\\PCI#", "\\PCI\\") for key in keys]
    there = [RemoveKey(key) for key in dict.fromkeys(spelt) if root.at(key)]
    return ready.with_hive("SYSTEM", there) if there else ready
