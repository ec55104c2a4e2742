"""Batches for the page: one with a bit of everything, one of a large fleet, one that means harm. Nothing of them is on a disk."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from pathlib import Path
from typing import Any

from p2v.batch.jobs import Batch, Budget, Failure, Job, JobEvent, MachineJob, State, Verify, Window
from p2v.batch.report import Chronicle, batch_html
from p2v.batch.report.history import History
from p2v.batch.report.pictures import Boot, Picture
from p2v.core.units import GIB
from tests.pages.hostile import HOSTILE

START = 1_795_000_000.0
NOW = START + 3600


@dataclass(frozen=True)
class Sample:
    """A batch at a moment."""

    batch: Batch
    jobs: tuple[Job, ...]
    events: tuple[JobEvent, ...]
    boots: Mapping[str, Boot]
    now: float = NOW

    def html(self, refresh_seconds: int | None = None) -> str:
        """Its page."""
        return batch_html(self.batch, self.jobs, self.events, self.now, refresh_seconds, boots=self.boots)


def png(width: int = 160, height: int = 100, shade: int = 40) -> bytes:
    """A picture of something like a console with text."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(shade + 160 * _is_letter(x, y) for x in range(width)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _is_letter(x: int, y: int) -> bool:
    return y % 8 < 5 and x < 40 + (y // 8 * 37) % 90 and (x * 7 + y * 5) % 11 < 5 and y < 70


def machine(name: str, **more: Any) -> MachineJob:
    """A machine of one disk."""
    return MachineJob(name, (Path("/srv/esx") / name / f"{name}.vmx",), Path("/srv/kvm"), **more)


class Teller:
    """Makes events, numbered."""

    def __init__(self) -> None:
        self.made: list[JobEvent] = []

    def tell(self, at: float, job: str, fence: int, kind: str, **data: Any) -> None:
        """One event."""
        self.made.append(JobEvent(len(self.made) + 1, START + at, job, fence, kind, data))

    def phase(self, job: str, fence: int, phase: str, begin: float, end: float | None, count: int = 0) -> None:
        """A phase with its bytes in ten pieces; without its end, one that is still open, half of its bytes done."""
        self.tell(begin, job, fence, "phase-started", phase=phase, title=phase, total_bytes=count or None)
        last = end if end is not None else NOW - START
        pieces = 10 if end is not None else 5
        for piece in range(pieces if count else 0):
            self.tell(
                begin + (last - begin) * (piece + 0.5) / pieces,
                job,
                fence,
                "bytes-done",
                phase=phase,
                count=count // 10,
            )
        if end is not None:
            self.tell(end, job, fence, "phase-finished", phase=phase, seconds=end - begin, failed=False)

    def in_order(self) -> tuple[JobEvent, ...]:
        """As a store has them."""
        return tuple(sorted(self.made, key=lambda each: each.at))


def history(jobs: Sequence[Job], events: Iterable[JobEvent], now: float, *, is_run: bool = False) -> History:
    """What the events tell, all of them heard at once."""
    heard = Chronicle()
    heard.hear(events)
    return heard.history(jobs, now, is_run=is_run)


def batch_of(jobs: tuple[Job, ...], **budget: Any) -> Batch:
    """A batch of these jobs."""
    folder = Path("/srv/kvm")
    return Batch(tuple(job.machine for job in jobs), Budget(**budget), folder / "jobs.p2v", folder / "jobs.yaml")


def done(teller: Teller, name: str, begin: float, copy: float, *, gib: int = 8, **more: Any) -> Job:
    """A machine that was converted: copied and rewritten at the same time, committed, booted."""
    teller.tell(begin, name, 1, "claimed", worker="host-a")
    teller.phase(name, 1, "inspect", begin, begin + 2)
    teller.phase(name, 1, "copy", begin + 2, begin + 2 + copy, gib * GIB)
    teller.phase(name, 1, "rewrite", begin + 2, begin + 32)
    after = begin + 2 + max(copy, 30)
    teller.phase(name, 1, "commit", after, after + 3)
    teller.phase(name, 1, "boot", after + 3, after + 43)
    teller.phase(name, 1, "publish", after + 43, after + 44)
    teller.tell(after + 45, name, 1, "done", record=f"/srv/kvm/{name}.json", verified=True)
    seconds = {"inspect": 2.0, "copy": copy, "rewrite": 30.0, "commit": 3.0, "boot": 40.0, "publish": 1.0}
    times: dict[str, Any] = {"began": START + begin, "ended": START + after + 45}
    size: dict[str, Any] = {"bytes_copied": gib * GIB, "bytes_total": gib * GIB}
    job = Job(
        machine(name, verify=Verify.BOOT), State.DONE, 1, 1, "host-a", seconds=seconds, verified=True, **times, **size
    )
    return replace(job, record=Path(f"/srv/kvm/{name}.json"), **more)


LOST = Failure("read-failed", 74, "/srv/esx/mail/mail.vmdk: byte 4,096 cannot be read", "Look at its disk.", True)
LOCKED = Failure(
    "encrypted",
    4,
    "vault: its root is encrypted",
    "Give its key with keys: in jobs.yaml.",
    False,
    Path("/srv/kvm/jobs-failures/vault-1"),
)
NOT_BOOTED = Failure("not-booted", 3, "converted, but its boot check did not see it come up", "Look at its screen.")


def sample() -> Sample:
    """Seven that are done (one slowly), one parked, one that did not boot, running, waiting and cancelled ones."""
    teller = Teller()
    jobs = [done(teller, f"web{number:02d}", number * 60.0, 60.0 + number) for number in range(5)]
    jobs.append(done(teller, "slow-db", 300, 900, gib=8))
    plain = done(teller, "print", 400, 50)
    jobs.append(replace(plain, verified=None, machine=replace(plain.machine, verify=Verify.NONE)))
    teller.tell(500, "vault", 1, "claimed", worker="host-a")
    teller.phase("vault", 1, "inspect", 500, 503)
    teller.tell(504, "vault", 1, "parked", failure={"code": LOCKED.code, "message": LOCKED.message})
    jobs.append(
        Job(
            machine("vault", line=9), State.PARKED, 1, 1, "host-a", failure=LOCKED, began=START + 500, ended=START + 504
        )
    )
    teller.tell(600, "old-nt", 1, "claimed", worker="host-b")
    teller.phase("old-nt", 1, "copy", 601, 700, GIB)
    teller.phase("old-nt", 1, "boot", 700, 1000)
    teller.tell(1001, "old-nt", 1, "parked", failure={"code": NOT_BOOTED.code, "message": NOT_BOOTED.message})
    jobs.append(
        Job(machine("old-nt"), State.PARKED, 1, 1, "host-b", failure=NOT_BOOTED, began=START + 600, ended=START + 1001)
    )
    jobs += [_running(teller), _waiting(teller), Job(machine("later", wave=1), State.WAITING)]
    jobs.append(Job(machine("night", window=Window(time(22), time(5))), State.WAITING))
    jobs.append(Job(machine("gone"), State.CANCELLED, ended=START + 100))
    jobs = [replace(job, machine=replace(job.machine, line=3 + place)) for place, job in enumerate(jobs)]
    return Sample(batch_of(tuple(jobs)), tuple(jobs), teller.in_order(), _boots())


def _running(teller: Teller) -> Job:
    teller.tell(3000, "files", 1, "claimed", worker="host-a")
    teller.phase("files", 1, "copy", 3002, None, 100 * GIB)
    teller.phase("files", 1, "rewrite", 3002, 3040)
    teller.tell(3041, "files", 1, "warning", message="/etc/fstab names a disk by its path")
    size: dict[str, Any] = {"bytes_copied": 50 * GIB, "bytes_total": 100 * GIB}
    return Job(machine("files"), State.RUNNING, 1, 1, "host-a", NOW + 60, phase="copy", began=START + 3000, **size)


def _waiting(teller: Teller) -> Job:
    teller.tell(3100, "mail", 1, "claimed", worker="host-a")
    teller.phase("mail", 1, "copy", 3101, None)
    teller.tell(3400, "mail", 1, "again", failure={"code": LOST.code, "message": LOST.message}, not_before=NOW + 120)
    return Job(machine("mail"), State.WAITING, 1, 1, not_before=NOW + 120, failure=LOST, began=START + 3100)


def _boots() -> dict[str, Boot]:
    shot = Picture(Path("/srv/kvm/web00.png"), 160, 100, png())
    boots = {f"web{number:02d}": Boot("booted", "it came up to a login", 31.0, "kvm", shot) for number in range(4)}
    boots["web04"] = replace(boots["web00"], picture=replace(shot, png=b""))
    boots["old-nt"] = Boot("hang", "nothing happened any more", 300.0, "tcg", replace(shot, png=png(shade=0)))
    return boots


def fleet(count: int) -> Sample:
    """Machines one after the other, a few at a time; some parked, the last ones wait. Every tenth has a screen."""
    teller = Teller()
    jobs = []
    for number in range(count):
        name = f"machine-{number:04d}"
        if number >= count * 0.9:
            jobs.append(Job(machine(name, wave=number % 2), State.WAITING))
            continue
        job = done(teller, name, number * 3.0, 40.0 + number % 7, gib=1 + number % 5)
        if number % 50 == 49:
            job = replace(job, state=State.PARKED, failure=LOST, verified=None, record=None)
        jobs.append(job)
    jobs = [replace(job, machine=replace(job.machine, line=3 + place)) for place, job in enumerate(jobs)]
    shot = Picture(Path("/srv/kvm/a.png"), 640, 400, png(640, 400))
    boots = {job.machine.name: Boot("booted", "it came up", 31.0, "kvm", shot) for job in jobs[::10]}
    return Sample(batch_of(tuple(jobs), copies=4), tuple(jobs), teller.in_order(), boots, START + count * 3.0 + 60)


def hostile() -> Sample:
    """Every text of it a hostile one."""
    events = list(_hostile_events())
    jobs = []
    for place, text in enumerate(HOSTILE):
        failure = Failure(text, 1, text, text, False, Path(text.replace("\0", "") or "x"))
        more: dict[str, Any] = {
            "verify": Verify.BOOT,
            "host": text,
            "line": place,
            "disk_format": text,
            "options": (text,),
        }
        given = replace(machine(text), **more)
        state = list(State)[place % len(State)]
        seconds = {text: 1.0, "copy": 0.0}
        jobs.append(
            Job(given, state, 9**9, 1, text, NOW + 1, 1e12, text, 2**70, 1, seconds, failure, None, Path("x"), 1.0, NOW)
        )
    boots = {text: Boot(text, text, 1.0, text, Picture(Path("x"), 8, 8, png(8, 8))) for text in HOSTILE}
    return Sample(batch_of(tuple(jobs)), tuple(jobs), tuple(events), boots)


def _hostile_events() -> Iterator[JobEvent]:
    kinds = ("claimed", "phase-started", "bytes-done", "warning", "phase-finished", "again", "parked", "phase-started")
    for text in HOSTILE:
        for number, kind in enumerate(kinds):
            for value in (text, None, -1, 1e400, {"message": text}, [text]):
                data = dict.fromkeys(("phase", "count", "message", "worker", "limit", "failure", "failed"), value)
                yield JobEvent(number, START + number, text, number // 3, kind, data)
    yield JobEvent(1, START, "no such machine", 1, "parked", {})
