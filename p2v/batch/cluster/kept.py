"""Records of results that a worker's host alone has, kept beside the store: checked first, for they came over the network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from p2v.audit.side_by_side import Bounds, side_by_side
from p2v.batch.cluster.messages import Piece
from p2v.batch.failure_bundle import numbered
from p2v.batch.jobs import MachineJob
from p2v.batch.report.pictures import Picture, load
from p2v.batch.results import record_path
from p2v.core.errors import P2vError
from p2v.core.io_errors import write_problem
from p2v.core.units import GIB
from p2v.core.workspace import remove_files, sync_folder, write_synced
from p2v.record import BadRecord, ConversionRecord, load_record

_BOUNDS = Bounds(seconds=60.0, memory_bytes=GIB)
_RECORD = "record.json"
_MOST_NAME_BYTES = 200


def records_folder(store: Path) -> Path:
    """Where a batch keeps them, in a folder for each machine."""
    return store.with_name(f"{store.stem}-records")


def keep(store: Path, machine: MachineJob, fence: int, pieces: Mapping[Piece, bytes]) -> tuple[Path | None, str]:
    """Keep what a worker has handed over of an attempt; where its record is to be read on this host, or in words why nowhere.

    Where this host sees the very same record beside the results, that is it, and nothing is kept.
    """

    def work(_: int) -> dict[str, str]:
        try:
            return {"path": str(_kept(store, machine, fence, pieces))}
        except P2vError as error:
            return {"why": error.sentence()}

    # from a process of its own: a mount may not answer, and what reads a record may meet one that was made to harm it
    (kept,) = side_by_side(work, 1, 1, _BOUNDS)
    match kept.data:
        case {"path": str(path)}:
            return Path(path), ""
        case {"why": str(why)}:
            return None, why
    return None, kept.failure or "it could not be read"


def _kept(store: Path, machine: MachineJob, fence: int, pieces: Mapping[Piece, bytes]) -> Path:
    """Raises BadRecord, and as writing."""
    beside = record_path(machine)
    if _is(beside, pieces[Piece.RECORD]):
        return beside
    folder = records_folder(store) / numbered(machine.name, fence)
    new = folder.with_name(f".{folder.name}.new")
    try:
        remove_files([new])
        new.mkdir(parents=True, mode=0o700)
        write_synced(new / _RECORD, pieces[Piece.RECORD])
        _write_evidence(new, _checked(new / _RECORD, machine), pieces)
        remove_files([each for each in _of_machine(folder) if each != new])
        new.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise write_problem(error, folder) from error
    finally:
        remove_files([new])
    return folder / _RECORD


def _checked(path: Path, machine: MachineJob) -> ConversionRecord:
    record = load_record(path)
    if record.document.machine.name != machine.name:
        raise BadRecord(path, ("it is of another machine",))
    return record


def _write_evidence(folder: Path, record: ConversionRecord, pieces: Mapping[Piece, bytes]) -> None:
    boot = record.boot
    screenshot, log = pieces.get(Piece.SCREENSHOT, b""), pieces.get(Piece.LOG, b"")
    if boot is not None and boot.screenshot is not None and _is_plain(boot.screenshot):
        picture = folder / boot.screenshot
        write_synced(picture, screenshot)
        if load(Picture(picture, 0, 0)) is None:
            remove_files([picture])
    if boot is not None and boot.log is not None and _is_plain(boot.log) and log:
        # the end of one is not the one that the record has a digest of
        name = boot.log if len(log) < Piece.LOG.most_bytes else f"{boot.log}.end"
        write_synced(folder / name, log)


def _is_plain(name: str) -> bool:
    """Whether a file of this folder may have it."""
    is_name = name.isprintable() and "/" not in name and not name.startswith(".") and name != _RECORD
    return is_name and 0 < len(name.encode("utf-8", "replace")) <= _MOST_NAME_BYTES


def _is(path: Path, data: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def _of_machine(folder: Path) -> list[Path]:
    """The folders of all attempts at the machine that ``folder`` is for, and what was begun of one when a runner died."""
    stem = re.escape(folder.name.rpartition("-")[0])
    return [each for each in folder.parent.iterdir() if re.fullmatch(rf"{stem}-[0-9]+|\.{stem}-[0-9]+\.new", each.name)]
