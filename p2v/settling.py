"""Around a conversion in place: what a run leaves, how the next one brings it to an end, how results get their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from converters.claims import claimed, require_same
from converters.digest import digest_disk
from converters.image import identity, open_disk
from converters.in_place import data_files
from converters.pending import note_path, pending_journal
from converters.storage import HostFile, HostStorage, StoredFile
from converters.transaction import Outcome, recover
from converters.undo_journal import JournalHeader, State, open_journal
from drivers.keys import Key
from p2v.core import events
from p2v.core.block_devices import look_at, stable_names
from p2v.core.errors import BadJournal
from p2v.core.events import Reporter
from p2v.core.interrupts import held_back
from p2v.core.workspace import Outputs, write_synced
from p2v.documents import SourceDisk
from p2v.machine import MachineDisk
from p2v.record import ConversionRecord, DiskRecord, load_record, record_json
from p2v.targets.front_ends import FrontEnd

_STORAGE = HostStorage()


@dataclass(frozen=True, slots=True)
class InPlaceRequest:
    """How a plan is to be carried out where the disks stand. ``folder``: for the definitions, the record, and scratch.

    ``undo_journal``: None for NAME.undo beside the first disk (in ``folder`` for a block device). ``force``: write although
    the boot check failed. ``fresh``: take an interrupted run back instead of finishing it.
    """

    folder: Path
    boot_check: bool = False
    checksum: bool = False
    force: bool = False
    fresh: bool = False
    threads: int = 2
    keys: tuple[Key, ...] = ()
    front_end: FrontEnd = FrontEnd.QEMU
    undo_journal: Path | None = None
    host_name: bool = False
    """The record tells this host's name."""


def settle(name: str, disks: Sequence[MachineDisk], request: InPlaceRequest, report: Reporter) -> ConversionRecord | None:
    """Bring an interrupted run on these disks to an end, before anything looks at them; its record when that completes it.

    The disks are claimed meanwhile: what a run that is under way has begun is nobody else's to end. Says what was done.
    Raises BadJournal, UsedSince, DiskInUse, NotInPlace and what opening disks raises.
    """
    files = list(dict.fromkeys(path for disk in disks for path in _files_of(disk)))
    if not files:
        return None  # nothing that could have been begun in place
    with claimed(files) as handles:
        return _settled(name, dict(zip(files, handles, strict=True)), request, report)


def _settled(
    name: str, files: Mapping[Path, HostFile], request: InPlaceRequest, report: Reporter
) -> ConversionRecord | None:
    noted = {path: pending_journal(_STORAGE, path) for path in files}
    usual = journal_path(name, request, next(iter(files)))
    for journal in dict.fromkeys([*(path for path in noted.values() if path is not None), usual]):
        outcome = recover(_STORAGE, journal, partial(_ours, files, journal), forward=not request.fresh)
        if outcome in (Outcome.NOT_BEGUN, Outcome.FINISHED, Outcome.TAKEN_BACK):
            report(events.Warned(f"{outcome.value} ({journal})"))
        if outcome is Outcome.UNDONE:
            _STORAGE.unlink(journal)  # what it could take back has been taken back
        if outcome in (Outcome.FINISHED, Outcome.COMMITTED):
            record = _left_by(name, request, journal)
            if record is not None:
                return publish_in_place(record, outputs_of(request, name, [o.name for o in record.outputs]), report)
    for path in files:
        if noted[path] is not None:
            _STORAGE.unlink(note_path(path))
    return None


@contextmanager
def _ours(files: Mapping[Path, HostFile], journal: Path, header: JournalHeader) -> Iterator[Sequence[StoredFile]]:
    """A journal that lies beside a disk may be anybody's: it may speak of the disks that were named, and of no others."""
    others = [file.path for file in header.files if file.path not in files]
    if others:
        raise BadJournal(journal, f"is about {others[0]}, which is none of the disks that were named")
    opened = [files[file.path] for file in header.files]
    require_same(header, opened)
    yield opened


def _files_of(disk: MachineDisk) -> Iterator[Path]:
    with open_disk(disk.path, disk.input_format, disk.lookup) as reader:
        yield from (lasting_name(file.path) for file in data_files(reader))


def _left_by(name: str, request: InPlaceRequest, journal: Path) -> ConversionRecord | None:
    """The record that a run before this one had written when it began to commit."""
    path = Outputs(request.folder, (f"{name}.json",)).partial(f"{name}.json")
    if not path.is_file():
        return None
    record = load_record(path)
    with open_journal(_STORAGE, journal) as known:
        ours = record.undo_journal == str(journal) and known.state is State.COMMITTED and known.header.machine == name
    return record if ours else None


def publish_in_place(record: ConversionRecord, outputs: Outputs, report: Reporter) -> ConversionRecord:
    """Complete the record by what the disks are now, and give everything its name."""
    disks = tuple(
        _with_result(disk, source, report) for disk, source in zip(record.disks, record.document.sources, strict=True)
    )
    record = replace(record, disks=disks)
    with events.phase(report, "publish", "Giving the results their names"):
        write_synced(outputs.partial(outputs.names[-1]), record_json(record))
        with held_back():
            outputs.publish(outputs.names)
    return record


def _with_result(disk: DiskRecord, source: SourceDisk, report: Reporter) -> DiskRecord:
    with open_disk(source.path, source.input_format, source.lookup) as reader:
        content = None
        if disk.source_content is not None:
            with events.phase(report, "checksum", "Reading the result", reader.virtual_size):
                content = digest_disk(reader, report=report, phase="checksum")
        return replace(disk, result=identity(reader), result_content=content)


def outputs_of(request: InPlaceRequest, name: str, names: Sequence[str]) -> Outputs:
    """What a conversion in place makes in its folder, the record last."""
    return Outputs(request.folder, (*names, f"{name}.json"))


def journal_path(name: str, request: InPlaceRequest, first: Path) -> Path:
    """Where the undo journal is to be; ``first``: the (lasting) name of the first disk's own file."""
    if request.undo_journal is not None:
        return request.undo_journal.absolute()
    folder = request.folder.absolute() if first.is_block_device() else first.parent
    return folder / f"{name}.undo"


def lasting_name(path: Path) -> Path:
    """The name by which a file is found again: links resolved, a device by its identifier where it has one."""
    if not path.is_block_device():
        return path.resolve()
    return next(iter(stable_names(look_at(path).number)), path.absolute())
