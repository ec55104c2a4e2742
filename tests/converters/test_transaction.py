"""A commit over three disks, killed at every file operation, with everything unsynced kept, lost or torn: all old or all new.

Nothing here is left to chance: the operations are counted, each is the last one once, and recovery is killed at each of its own.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from converters import c_undo
from converters.pending import note_path, pending_journal
from converters.transaction import Outcome, commit, recover
from converters.undo import undo
from converters.undo_journal import (
    JournalDisk,
    JournalFile,
    JournalHeader,
    JournalWriter,
    State,
    open_journal,
    partial_path,
    redo_path,
)
from p2v.core.errors import BadJournal, Interrupted, NoSpace, TargetExists, UsedSince
from tests.converters.faulty_storage import Fate, FaultyStorage, Killed, opened

SIZE = 16 * 1024
FOLDER = Path("/disks")
DISKS = tuple(FOLDER / f"disk{number}.img" for number in range(3))
# in a folder of its own: its name is synced by nothing else
JOURNAL = Path("/journals/vm.undo")
# disk, offset, length
RANGES = ((0, 512, 1024), (0, 4096, 4096), (1, 0, 1536), (2, 1024, 2048), (2, SIZE - 512, 512))
_DICE = random.Random(6)
OLD = tuple(_DICE.randbytes(SIZE) for _ in DISKS)
IMAGES = tuple(_DICE.randbytes(length) for _, _, length in RANGES)


def _new() -> tuple[bytes, ...]:
    disks = [bytearray(data) for data in OLD]
    for (disk, offset, length), image in zip(RANGES, IMAGES, strict=True):
        disks[disk][offset : offset + length] = image
    return tuple(map(bytes, disks))


NEW = _new()


def fresh() -> FaultyStorage:
    storage = FaultyStorage()
    for path, data in zip(DISKS, OLD, strict=True):
        storage.put(path, data)
    return storage


def header(storage: FaultyStorage) -> JournalHeader:
    files = tuple(JournalFile(path, storage.open(path).state()) for path in DISKS)
    return JournalHeader("vm", "2026-01-01T00:00:00Z", "1", tuple(JournalDisk(p, "raw", SIZE) for p in DISKS), files)


def prepare(storage: FaultyStorage) -> None:
    writer = JournalWriter(storage, JOURNAL)
    for (disk, offset, length), image in zip(RANGES, IMAGES, strict=True):
        writer.add(disk, disk, offset, offset, OLD[disk][offset : offset + length], image)
    writer.finish(header(storage)).close()


def whole_commit(storage: FaultyStorage) -> None:
    prepare(storage)
    with open_journal(storage, JOURNAL) as journal:
        commit(storage, journal, [storage.open(path) for path in DISKS])


def next_start(storage: FaultyStorage, forward: bool) -> Outcome:
    """What p2v does with the disks when it is started again: the notes, then the journal's usual place."""
    places = {pending_journal(storage, disk) for disk in DISKS} | {JOURNAL}
    assert places <= {None, JOURNAL}
    return recover(storage, JOURNAL, partial(opened, storage), forward=forward)


def take_back(storage: FaultyStorage) -> None:
    undo(storage, JOURNAL, partial(opened, storage))


def disks(storage: FaultyStorage) -> tuple[bytes, ...]:
    return tuple(map(storage.data, DISKS))


def steps_of(storage: FaultyStorage, work: Callable[[FaultyStorage], object]) -> int:
    before = storage.steps
    work(storage)
    return storage.steps - before


def killed_at(storage: FaultyStorage, step: int, work: Callable[[FaultyStorage], object]) -> None:
    storage.kill_at = storage.steps + step
    with pytest.raises(Killed):
        work(storage)


def settled(storage: FaultyStorage, forward: bool, tally: Counter[str]) -> None:
    """All that must hold once the next start has run to its end, and when the power fails right after that."""
    outcome = next_start(storage, forward)
    tally[outcome.name] += 1
    found = disks(storage)
    assert found in (OLD, NEW)
    assert found == (NEW if outcome in (Outcome.FINISHED, Outcome.COMMITTED) else OLD)
    later = storage.after_power_cut([Fate.LOST] * len(storage.pending))
    assert disks(later) == found
    next_start(later, forward)
    assert disks(later) == found
    assert not any(later.exists(note_path(disk)) for disk in DISKS) or later.exists(JOURNAL) or found == OLD


def crash_outcomes(storage: FaultyStorage, seed: int) -> list[FaultyStorage]:
    return [storage.after_kill(), *(storage.after_power_cut(fates) for fates in storage.fates(seed))]


@pytest.mark.parametrize("forward", [True, False], ids=["finish", "take back"])
def test_killed_at_every_operation_of_a_commit_all_disks_are_old_or_all_are_new(forward: bool) -> None:
    total = steps_of(fresh(), whole_commit)
    tally: Counter[str] = Counter()
    crashes = 0
    for step in range(total):
        storage = fresh()
        killed_at(storage, step, whole_commit)
        for crashed in crash_outcomes(storage, step):
            mixed = disks(crashed) not in (OLD, NEW)
            assert not mixed or all(crashed.exists(note_path(disk)) for disk in DISKS), step
            tally["mixed"] += mixed
            settled(crashed, forward, tally)
            crashes += 1
    print(f"\n{total} kill points, {crashes} states after them: {dict(tally)}")
    assert total >= 50
    assert crashes > 1000
    # nothing of this is empty: there were half-written disks, and every way out was taken
    assert tally["mixed"] > 100
    assert tally["NOT_BEGUN"]
    assert tally["COMMITTED"]
    assert tally["FINISHED" if forward else "TAKEN_BACK"] > 100


@pytest.mark.parametrize("forward", [True, False], ids=["finish", "take back"])
def test_recovery_killed_at_every_operation_of_its_own_ends_the_same(forward: bool) -> None:
    total = steps_of(fresh(), whole_commit)
    tally: Counter[str] = Counter()
    points = 0
    for step in range(total):
        storage = fresh()
        killed_at(storage, step, whole_commit)
        lost = [Fate.LOST] * len(storage.pending)
        torn = [Fate.TORN_HEAD if Fate.TORN_HEAD in c.fates() else Fate.KEPT for c in storage.pending]
        for crashed in (storage.after_kill(), storage.after_power_cut(lost), storage.after_power_cut(torn)):
            recovery = steps_of(crashed.after_kill(), lambda s: next_start(s, forward))
            for again in range(recovery):
                second = crashed.after_kill()
                killed_at(second, again, lambda s: next_start(s, forward))
                points += 1
                for state in crash_outcomes(second, again)[:24]:
                    settled(state, forward, tally)
    print(f"\n{points} kill points of recoveries: {dict(tally)}")
    assert points > 700
    assert tally["COMMITTED" if forward else "UNDONE"]


def test_undo_killed_at_every_operation_is_undone_in_the_end() -> None:
    done = fresh()
    whole_commit(done)
    done = done.after_kill()
    total = steps_of(done.after_kill(), take_back)
    for step in range(total):
        storage = done.after_kill()
        killed_at(storage, step, take_back)
        for crashed in crash_outcomes(storage, step):
            if disks(crashed) not in (OLD, NEW):
                assert all(crashed.exists(note_path(disk)) for disk in DISKS)
            take_back(crashed)
            assert disks(crashed) == OLD
            assert disks(crashed.after_power_cut([Fate.LOST] * len(crashed.pending))) == OLD
    assert total >= 20


def test_a_device_that_fails_while_it_is_written_gives_everything_back() -> None:
    storage = fresh()
    prepare(storage)
    before = storage.writes
    probe = storage.after_kill()
    whole = steps_of(probe, lambda s: commit(s, open_journal(s, JOURNAL), [s.open(p) for p in DISKS]))
    assert whole
    in_disks = storage.writes - before + 4 + 2  # notes and the record, then two ranges
    storage.fail_writes_after = storage.writes + in_disks
    with open_journal(storage, JOURNAL) as journal, pytest.raises(Interrupted):
        commit(storage, journal, [storage.open(path) for path in DISKS])
    # not even the old bytes could be written: the journal tells the next start, which has room again
    assert disks(storage) not in (OLD, NEW)
    later = storage.after_kill()
    assert next_start(later, True) in (Outcome.FINISHED, Outcome.UNDONE)
    assert disks(later) in (OLD, NEW)


def test_a_range_that_cannot_be_written_is_taken_back_and_no_journal_stays() -> None:
    storage = fresh()
    prepare(storage)

    class _Full:
        def __init__(self, path: Path) -> None:
            self._file = storage.open(path)
            self._fails = True
            self.path = path
            self.state, self.pread = self._file.state, self._file.pread
            self.truncate, self.allocate = self._file.truncate, self._file.allocate
            self.sync, self.close = self._file.sync, self._file.close

        def pwrite(self, data: bytes, offset: int) -> None:
            if self._fails:
                self._fails = False
                raise NoSpace(FOLDER, len(data), 0)
            self._file.pwrite(data, offset)

    with open_journal(storage, JOURNAL) as journal, pytest.raises(NoSpace):
        commit(storage, journal, [storage.open(DISKS[0]), storage.open(DISKS[1]), _Full(DISKS[2])])
    assert disks(storage) == OLD
    assert set(storage.names) == set(DISKS)


def test_a_commit_leaves_the_disks_the_journal_and_nothing_else() -> None:
    storage = fresh()
    whole_commit(storage)
    assert disks(storage) == NEW
    assert set(storage.names) == {*DISKS, JOURNAL}
    with open_journal(storage, JOURNAL) as journal:
        assert journal.state is State.COMMITTED
        assert journal.committed_files() == tuple(storage.open(path).state() for path in DISKS)
    with pytest.raises(TargetExists):
        JournalWriter(storage, JOURNAL)


def test_a_disk_that_changed_while_the_conversion_ran_is_not_written() -> None:
    storage = fresh()
    prepare(storage)
    storage.open(DISKS[1]).pwrite(b"?", 100)
    with open_journal(storage, JOURNAL) as journal, pytest.raises(UsedSince):
        commit(storage, journal, [storage.open(path) for path in DISKS])
    assert disks(storage)[0] == OLD[0]
    assert next_start(storage, True) is Outcome.NOT_BEGUN


def test_somebody_else_wrote_to_a_half_written_disk_so_recovery_refuses_it() -> None:
    storage = fresh()
    step = next(step for step in range(1000) if _mixed_at(step))
    killed_at(storage, step, whole_commit)
    crashed = storage.after_kill()
    crashed.open(DISKS[2]).pwrite(b"mine", SIZE - 100)
    found = disks(crashed)
    with pytest.raises(UsedSince):
        next_start(crashed, True)
    assert disks(crashed) == found


def _mixed_at(step: int) -> bool:
    storage = fresh()
    killed_at(storage, step, whole_commit)
    return disks(storage) not in (OLD, NEW)


def _interrupted() -> FaultyStorage:
    storage = fresh()
    killed_at(storage, next(step for step in range(1000) if _mixed_at(step)), whole_commit)
    return storage.after_kill()


def _flip(storage: FaultyStorage, path: Path, offset: int) -> None:
    data = storage.files[storage.names[path]]
    data[offset] ^= 1


def test_damaged_post_images_are_taken_back_and_damaged_pre_images_finished() -> None:
    storage = _interrupted()
    _flip(storage, redo_path(JOURNAL), 5000)
    assert next_start(storage, True) is Outcome.TAKEN_BACK
    assert disks(storage) == OLD
    storage = _interrupted()
    _flip(storage, JOURNAL, 5000)
    assert next_start(storage, False) is Outcome.FINISHED
    assert disks(storage) == NEW


def test_with_both_damaged_the_range_is_named_and_nothing_is_written() -> None:
    storage = _interrupted()
    found = disks(storage)
    _flip(storage, redo_path(JOURNAL), 4096 + 1024 + 10)
    _flip(storage, JOURNAL, 4096 + 1024 + 10)
    with pytest.raises(BadJournal) as caught:
        next_start(storage, True)
    assert "byte 4096 of /disks/disk0.img" in caught.value.problem
    assert disks(storage) == found


def test_every_damaged_byte_of_a_journal_is_noticed_before_anything_is_written() -> None:
    done = fresh()
    whole_commit(done)
    done = done.after_kill()
    length = len(done.data(JOURNAL))
    with open_journal(done, JOURNAL) as journal:
        records_at = journal.start.records_offset
    for offset in [*range(0, records_at, 97), *range(120), records_at - 1]:
        storage = done.after_kill()
        _flip(storage, JOURNAL, offset)
        with pytest.raises(BadJournal):
            take_back(storage)
        assert disks(storage) == NEW
    # a damaged record is as one that was not written: the commit looks unfinished, and is taken back all the same
    for offset in range(records_at, length, 41):
        storage = done.after_kill()
        _flip(storage, JOURNAL, offset)
        take_back(storage)
        assert disks(storage) in (OLD, NEW)


def _resealed(storage: FaultyStorage, change: Callable[[list[c_undo.Row], dict[str, Any]], None]) -> None:
    """A journal that says something else, and whose digests all fit: made by whoever knows the format."""
    raw = storage.data(JOURNAL)
    start = c_undo.unpack_start(raw)
    rows = [c_undo.unpack_row(raw[start.rows_offset : start.header_offset], i) for i in range(start.row_count)]
    document = json.loads(raw[start.header_offset : start.records_offset])
    change(rows, document)
    table, text = b"".join(map(c_undo.pack_row, rows)), json.dumps(document).encode()
    at = start.rows_offset + len(table)
    start = replace(
        start, row_count=len(rows), header_offset=at, header_length=len(text), records_offset=at + len(text),
        rows_sha256=hashlib.sha256(table).digest(), header_sha256=hashlib.sha256(text).digest(),
    )  # fmt: skip
    block = c_undo.pack_start(start)
    whole = block + hashlib.sha256(block).digest() + raw[c_undo.START_BYTES : start.rows_offset] + table + text
    storage.files[storage.names[JOURNAL]] = bytearray(whole)


def _first(rows: list[c_undo.Row], **fields: int) -> None:
    rows[0] = replace(rows[0], **fields)  # type: ignore[arg-type]


LIES: dict[str, Callable[[list[c_undo.Row], dict[str, Any]], None]] = {
    "a disk there is not": lambda rows, header: _first(rows, disk=3),
    "a file there is not": lambda rows, header: _first(rows, file=7),
    "past the end of its file": lambda rows, header: _first(rows, file_offset=SIZE),
    "past the end of its disk": lambda rows, header: _first(rows, disk_offset=1 << 60),
    "an image elsewhere in the journal": lambda rows, header: _first(rows, image_offset=0),
    "an empty range": lambda rows, header: _first(rows, length=0),
    "a range of 4 GiB": lambda rows, header: _first(rows, length=(1 << 32) - 1),
    "a range over another": lambda rows, header: _first(rows, file_offset=3584),
    "a range of the disk behind the next one": lambda rows, header: _first(rows, disk_offset=9000),
    "ranges out of order": lambda rows, header: rows.reverse(),
    "a range left out": lambda rows, header: rows.clear(),
    "no files": lambda rows, header: header.update(files=[]),
    "files that are numbers": lambda rows, header: header.update(files=[1, 2, 3]),
    "something nobody knows": lambda rows, header: header.update(more=1),
    "a smaller file": lambda rows, header: header["files"][0]["state"].update(size=600),
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_journal_that_contradicts_itself_is_refused_whatever_its_digests_say(lie: str) -> None:
    storage = fresh()
    whole_commit(storage)
    _resealed(storage, LIES[lie])
    with pytest.raises(BadJournal):
        take_back(storage)
    assert disks(storage) == NEW


def test_a_journal_that_is_made_anew_without_a_lie_is_read() -> None:
    storage = fresh()
    whole_commit(storage)
    _resealed(storage, lambda rows, header: None)
    with open_journal(storage, JOURNAL) as journal:
        assert len(journal.rows) == len(RANGES)
        assert journal.rows[-1].disk == 2
        assert [row.length for row in journal.rows[1:3]] == [4096, 1536]


def test_a_journal_cut_anywhere_is_refused_or_harmless() -> None:
    done = fresh()
    whole_commit(done)
    data = done.data(JOURNAL)
    for length in [*range(0, len(data), 61)]:
        storage = done.after_kill()
        storage.files[storage.names[JOURNAL]] = bytearray(data[:length])
        try:
            take_back(storage)
        except BadJournal:
            assert disks(storage) == NEW
        else:
            assert disks(storage) in (OLD, NEW)


def test_undo_restores_the_exact_bytes_once_and_says_so_again() -> None:
    storage = fresh()
    whole_commit(storage)
    result = undo(storage, JOURNAL, partial(opened, storage), full=True)
    assert disks(storage) == OLD
    assert [each.now == each.original != each.found for each in result.files] == [True] * 3
    assert all(each.whole_now != each.whole_found for each in result.files)
    assert [each.length for each in result.files] == [5120, 1536, 2560]
    writes = storage.writes
    assert undo(storage, JOURNAL, partial(opened, storage)).was is State.UNDONE
    assert storage.writes == writes
    assert set(storage.names) == {*DISKS, JOURNAL}


@pytest.mark.parametrize("where", [600, 9000], ids=["in a range", "beside the ranges"])
def test_a_disk_used_since_is_not_undone_unless_forced(where: int) -> None:
    storage = fresh()
    whole_commit(storage)
    storage.open(DISKS[0]).pwrite(b"used", where)
    found = disks(storage)
    with pytest.raises(UsedSince):
        take_back(storage)
    assert disks(storage) == found
    undo(storage, JOURNAL, partial(opened, storage), force=True)
    restored = bytearray(OLD[0])
    if where == 9000:
        restored[9000:9004] = b"used"
    assert disks(storage) == (bytes(restored), *OLD[1:])


def test_a_forced_undo_that_was_killed_takes_force_again() -> None:
    storage = fresh()
    whole_commit(storage)
    storage.open(DISKS[0]).pwrite(b"used", 600)

    def forced(where: FaultyStorage) -> None:
        undo(where, JOURNAL, partial(opened, where), force=True)

    total = steps_of(storage.after_kill(), forced)
    killed_at(storage, total - 15, forced)
    later = storage.after_kill()
    with open_journal(later, JOURNAL) as journal:
        assert journal.state is State.UNDOING
    with pytest.raises(UsedSince):
        take_back(later)
    forced(later)
    assert disks(later) == OLD


def test_a_disk_used_while_an_undo_was_interrupted_is_not_undone() -> None:
    storage = fresh()
    whole_commit(storage)
    total = steps_of(storage.after_kill(), take_back)
    step = next(step for step in range(total) if _mixed_undo(storage, step))
    killed_at(storage, step, take_back)
    later = storage.after_kill()
    later.open(DISKS[2]).pwrite(b"used", 1500)
    found = disks(later)
    with pytest.raises(UsedSince):
        take_back(later)
    with pytest.raises(UsedSince):
        next_start(later, True)
    assert disks(later) == found


def _mixed_undo(storage: FaultyStorage, step: int) -> bool:
    tried = storage.after_kill()
    killed_at(tried, step, take_back)
    return disks(tried) not in (OLD, NEW)


def test_a_cut_disk_is_not_made_longer_not_even_by_force() -> None:
    storage = fresh()
    whole_commit(storage)
    storage.open(DISKS[2]).truncate(SIZE - 256)
    with pytest.raises(UsedSince):
        undo(storage, JOURNAL, partial(opened, storage), force=True)
    assert len(storage.data(DISKS[2])) == SIZE - 256


def test_what_a_run_left_under_the_partial_names_is_replaced() -> None:
    storage = fresh()
    storage.put(partial_path(JOURNAL), b"old")
    storage.put(redo_path(JOURNAL), b"old")
    whole_commit(storage)
    assert disks(storage) == NEW
