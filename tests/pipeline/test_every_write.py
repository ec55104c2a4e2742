"""``p2v disk convert`` with every operation that changes a file killed, refused and cut short once, and power cuts after them.

Nothing is left to chance: the operations are counted, each is the last one once. After each the same command ends with the
same disk, goes on with what was synced, and leaves nothing else; the source stays as it was.
"""

from __future__ import annotations

import errno
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from converters import target
from converters.compare import compare_disks
from converters.image import open_disk
from converters.journal import JournalFile, PiecesDone, Record
from p2v.cli.main import main
from p2v.core.units import KIB, MIB
from tests.converters.faulty_storage import Fate, Killed
from tests.faulty_host import Fault, FaultyHost, Kind, same_steps_every_time
from tests.pipeline.running import state

FORMATS = ("raw", "qcow2")
SIZE = 9 * MIB + 512


@dataclass
class Bench:
    """A small source, a folder for the result, and how to run the command in this process."""

    folder: Path
    format: str
    capture: pytest.CaptureFixture[str]
    tally: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.out = self.folder / "out"
        self.out.mkdir()
        self.final = self.out / f"disk.{self.format}"
        (self.folder / "source").mkdir()
        self.source = self.folder / "source" / "source.img"
        dice = random.Random(7)
        with self.source.open("wb") as file:
            # data, a hole, stored zeroes, and a piece that nothing is in; the end is no whole sub-piece
            for offset, data in ((0, 1536 * KIB), (2 * MIB, 3 * MIB), (5 * MIB, 0), (8 * MIB, 800 * KIB)):
                file.seek(offset)
                file.write(dice.randbytes(data))
            file.seek(5 * MIB)
            file.write(bytes(MIB))
            file.truncate(SIZE)
        self.before = state(self.source)
        self.content = self.source.read_bytes()

    def run(self) -> tuple[int, dict[str, object], str]:
        """The command's exit status, what it says as JSON, and what it tells people."""
        status = main(["disk", "convert", str(self.source), str(self.final), "--input-format", "raw",
                       "--format", self.format, "--threads", "1", "--json", "--progress", "plain"])  # fmt: skip
        said = self.capture.readouterr()
        return status, json.loads(said.out) if said.out else {}, said.err

    def faulty(self, **fault: object) -> tuple[FaultyHost, int | None, str]:
        """The command on a host with faults; None for its status when it was killed."""
        host = FaultyHost(self.out, **fault)  # type: ignore[arg-type]
        status, err = None, ""
        with pytest.MonkeyPatch.context() as patch:
            host.install(patch)
            try:
                status, _, err = self.run()
            except Killed:
                self.capture.readouterr()
        host.gone()
        return host, status, err

    def clear(self) -> None:
        for path in self.out.iterdir():
            path.unlink()

    def nothing_or_all(self) -> bool:
        """Whether the result has its final name; when it has, it is complete. The source is as it was."""
        assert state(self.source) == self.before
        if not self.final.exists():
            return False
        with open_disk(self.source, "raw") as one, open_disk(self.final, self.format) as other:
            # qcow2 counts in sectors, as this disk does
            assert compare_disks(one, other).same
        if self.format == "raw":
            assert self.final.read_bytes() == self.content
        return True

    def same_command_ends_it(self, synced: int) -> None:
        """``synced``: bytes of the disk that were recorded and are there; at least these are not copied again."""
        status, said, err = self.run()
        assert status == 0, err
        assert int(str(said["resumed_bytes"])) >= synced, err
        assert "were not as" not in err, err
        assert self.nothing_or_all()
        assert [path.name for path in self.out.iterdir()] == [self.final.name]
        self.tally["resumed" if said["resumed_bytes"] else "begun anew"] += 1


@pytest.fixture(params=FORMATS)
def bench(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    """With checkpoints every 2 MiB."""
    made = Bench(tmp_path, str(request.param), capsys)
    same_steps_every_time(monkeypatch, 2 * MIB)
    yield made
    print(f"\n{made.format}: {dict(made.tally)}")


@dataclass
class Recorded:
    """Bytes of the disk that the last run recorded: all that it appended to its journal, and what of it is on stable storage."""

    appended: int = 0
    synced: int = 0

    def clear(self) -> None:
        self.appended = self.synced = 0


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found = Recorded()
    appended, synced = JournalFile.append, JournalFile.sync

    def append(self: JournalFile, record: Record) -> None:
        appended(self, record)
        if isinstance(record, PiecesDone):
            found.appended += sum(min(2 * MIB, SIZE - index * 2 * MIB) for index, *_ in record)

    def sync(self: JournalFile) -> None:
        synced(self)
        found.synced = found.appended

    monkeypatch.setattr(JournalFile, "append", append)
    monkeypatch.setattr(JournalFile, "sync", sync)
    return found


def test_the_host_is_watched_completely(bench: Bench) -> None:
    """What the model of synced and unsynced bytes holds is what the files hold: no change passes by uncounted."""
    host, status, err = bench.faulty()
    assert status == 0, err
    assert host.is_true()
    assert len(host.steps) >= 25
    assert {Kind.WRITE, Kind.SIZE, Kind.SYNC, Kind.NAME} == set(host.steps)
    # and nothing that counts was unsynced at the end
    assert not [change for change in host.model.pending if not change.names or change.names[0][0] == bench.final]


def test_killed_at_every_operation_the_same_command_goes_on(bench: Bench, recorded: Recorded) -> None:
    host, _, _ = bench.faulty()
    total, published = len(host.steps), 0
    for step in range(total):
        bench.clear()
        recorded.clear()
        host, status, _ = bench.faulty(kill_at=step)
        assert status is None
        published += bench.nothing_or_all()
        bench.tally["kill points"] += 1
        bench.same_command_ends_it(recorded.appended)
    assert bench.tally["resumed"] > total // 2
    assert 0 < published < 4


def killed_twice(bench: Bench, recorded: Recorded, stride: int) -> None:
    host, _, _ = bench.faulty()
    for first in range(3, len(host.steps), stride):
        second, killed = first % stride, True
        while killed:
            bench.clear()
            bench.faulty(kill_at=first)
            recorded.clear()
            killed = bench.faulty(kill_at=second)[1] is None
            if killed:
                bench.nothing_or_all()
                bench.tally["kill points"] += 1
                bench.same_command_ends_it(recorded.appended)
            second += stride


def test_the_next_run_may_be_killed_too(bench: Bench, recorded: Recorded) -> None:
    """A run that goes on is killed at its own operations, and the one after it ends with the same disk."""
    killed_twice(bench, recorded, 5)
    assert bench.tally["kill points"] > 20


@pytest.mark.matrix
def test_the_next_run_may_be_killed_anywhere(bench: Bench, recorded: Recorded) -> None:
    killed_twice(bench, recorded, 1)
    assert bench.tally["kill points"] > 600


def power_cuts(bench: Bench, recorded: Recorded, states: int) -> None:
    host, _, _ = bench.faulty()
    dice = random.Random(len(host.steps))
    for step in range(len(host.steps)):
        bench.clear()
        recorded.clear()
        host, _, _ = bench.faulty(kill_at=step)
        found = list(host.model.fates(step))
        chosen = [[Fate.LOST] * len(host.model.pending), *dice.sample(found, min(states, len(found)))]
        for number, fates in enumerate(chosen):
            if number:
                bench.clear()
                recorded.clear()
                host, _, _ = bench.faulty(kill_at=step)
            host.cut_power(fates)
            bench.nothing_or_all()
            bench.tally["states after a power cut"] += 1
            bench.same_command_ends_it(recorded.synced)


def test_the_power_fails_at_every_operation(bench: Bench, recorded: Recorded) -> None:
    """Of what was not synced all is lost, or each write is there, gone or torn."""
    power_cuts(bench, recorded, 1)
    assert bench.tally["resumed"] > 20


@pytest.mark.matrix
def test_the_power_fails_at_every_operation_in_many_ways(bench: Bench, recorded: Recorded) -> None:
    power_cuts(bench, recorded, 40)
    assert bench.tally["states after a power cut"] > 100
    assert bench.tally["resumed"] > 50


REFUSALS = {
    "no space": (errno.ENOSPC, True, (73,)),
    "no space, once": (errno.ENOSPC, False, (73,)),
    "EIO": (errno.EIO, False, (74,)),
    "EIO from then on": (errno.EIO, True, (74,)),
    "quota": (errno.EDQUOT, True, (73,)),
    "read-only": (errno.EROFS, True, (77,)),
}


@pytest.mark.parametrize(
    "refusal", [pytest.param(name, marks=[] if name in ("no space", "EIO") else [pytest.mark.matrix]) for name in REFUSALS]
)
def test_refused_at_every_operation_it_is_told_in_a_sentence(bench: Bench, refusal: str) -> None:
    """One error of its class, no traceback, nothing or all of it under the final name; then the host is well again."""
    number, lasts, statuses = REFUSALS[refusal]
    host, _, _ = bench.faulty()
    for step, kind in enumerate(host.steps):
        bench.clear()
        _, status, err = bench.faulty(fault=Fault(step, number, lasts))
        assert "Traceback" not in err
        there = bench.nothing_or_all()
        if status == 0:
            # what is left of a complete run is at most its journal
            assert there, kind
            assert step >= len(host.steps) - 2 or (number, kind) == (errno.ENOSPC, Kind.SYNC), (step, kind, err)
            bench.tally["complete all the same"] += 1
            for path in bench.out.glob("*.journal"):
                path.unlink()
            continue
        assert status in statuses, (step, kind, status, err)
        assert not there or step >= len(host.steps) - 2, (step, kind)
        last = [line for line in err.splitlines() if line.startswith("p2v: ")]
        assert str(bench.out) in "".join(last), err
        bench.tally[f"refused: {status}"] += 1
        bench.same_command_ends_it(0)
    assert bench.tally["resumed"] > 5


LATE = {"no space": (errno.ENOSPC, 73), "quota": (errno.EDQUOT, 73), "EIO": (errno.EIO, 74)}


@pytest.mark.parametrize("refusal", [pytest.param(each, marks=[] if each == "no space" else [pytest.mark.matrix]) for each in LATE])
def test_refused_only_when_it_is_synced_nothing_that_was_lost_counts(bench: Bench, refusal: str) -> None:
    """As on NFS: writes are taken by the client, and are gone when its server refuses them."""
    number, wanted = LATE[refusal]
    host, _, _ = bench.faulty()
    for step in [at for at, kind in enumerate(host.steps) if kind is Kind.SYNC]:
        bench.clear()
        host, status, err = bench.faulty(fault=Fault(step, number, loses=True))
        assert host.is_true()
        there = bench.nothing_or_all()
        if there:
            # the last of all: the folder's, when the result has its name and only its journal is to go
            assert step >= len(host.steps) - 2, (step, err)
        else:
            assert status == wanted, (step, status, err)
            # the error that kept it from being synced, which names the place, and not the one of closing it
            assert str(bench.out) in err, err
            bench.same_command_ends_it(0)
        bench.tally[f"refused: {status}"] += 1
    assert bench.tally[f"refused: {wanted}"] > 3
    assert bench.tally["resumed"] > 0


def test_writes_that_are_cut_short_are_completed(bench: Bench) -> None:
    host, _, _ = bench.faulty()
    for step, kind in enumerate(host.steps):
        if kind is not Kind.WRITE:
            continue
        bench.clear()
        _, status, err = bench.faulty(fault=Fault(step, 0))
        assert status == 0, err
        assert bench.nothing_or_all()
        bench.tally["short writes"] += 1
    assert bench.tally["short writes"] > 10


WAYS = pytest.mark.parametrize(
    "lacks", [frozenset(), frozenset({"noreplace"}), frozenset({"noreplace", "link"})], ids=["renameat2", "link", "rename"]
)


@WAYS
def test_a_final_name_that_came_to_be_meanwhile_is_not_replaced(bench: Bench, lacks: frozenset[str]) -> None:
    """Also where the host cannot rename without replacing, but for links, and where it has no links either."""
    with pytest.MonkeyPatch.context() as patch:
        published = target.Target.publish

        def squat(self: target.Target, final: Path) -> None:
            final.write_text("precious")
            published(self, final)

        patch.setattr(target.Target, "publish", squat)
        _, status, err = bench.faulty(lacks=lacks)
    assert status == 73, err
    assert bench.final.read_text() == "precious"
    # and it is not taken for the result later
    status, _, err = bench.run()
    assert status == 73, err
    bench.final.unlink()
    bench.same_command_ends_it(7 * MIB)


@WAYS
def test_however_the_host_renames_a_kill_in_between_is_ended(bench: Bench, lacks: frozenset[str]) -> None:
    """A link and the removal of the other name are two steps."""
    host, status, err = bench.faulty(lacks=lacks)
    assert status == 0, err
    both = 0
    for step in range(len(host.steps) - 8, len(host.steps)):
        bench.clear()
        bench.faulty(kill_at=step, lacks=lacks)
        both += bench.final.exists() and bench.final.with_name(bench.final.name + ".partial").exists()
        bench.nothing_or_all()
        bench.same_command_ends_it(0)
    assert both == (lacks == {"noreplace"})
