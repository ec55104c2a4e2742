"""A proof as text."""

from __future__ import annotations

from collections.abc import Iterator

from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds
from p2v.record.proof import DiskProof, FileSystemProof, ProofDocument, ProofVerdict

_TOLD_AT_MOST = 200
_VERDICTS = {
    ProofVerdict.PROVEN: "PROVEN: the result is the source, but for what was planned",
    ProofVerdict.GUEST_PROGRAM: "PROVEN but for what a program of the guest's changed, which was asked for",
    ProofVerdict.FAILED: "NOT PROVEN",
}


def render(proof: ProofDocument) -> str:
    """The whole proof; the verdict first."""
    lines = [f"{proof.machine}: {_VERDICTS[proof.verdict]}"]
    lines += _told("Nothing accounts for", [f"{p.where}: {p.problem}" for p in proof.problems])
    lines += _told("Changed while the guest's program ran", [f"{p.where}: {p.problem}" for p in proof.by_programs])
    for disk in proof.disks:
        lines += ["", *_disk(disk)]
    for system in proof.file_systems:
        lines += ["", *_file_system(system)]
    lines += ["", *(f"note: {note}" for note in proof.notes)] if proof.notes else []
    times = ", ".join(f"{name} {format_seconds(seconds)}" for name, seconds in proof.seconds.items())
    lines += ["", f"Time: {times} (load {proof.load:.1f})"]
    return "\n".join(printable(line, keep="") for line in lines)


def _told(title: str, rows: list[str]) -> Iterator[str]:
    if rows:
        yield ""
        yield f"{title}:"
        yield from (f"  {row}" for row in rows[:_TOLD_AT_MOST])
    if len(rows) > _TOLD_AT_MOST:
        yield f"  and {len(rows) - _TOLD_AT_MOST} more (--json has all)"


def _disk(disk: DiskProof) -> Iterator[str]:
    yield f"{disk.target}, from {disk.source}"
    read = f"{format_bytes(disk.read_bytes)} read of both together; what is zero in both is not"
    yield f"  {format_bytes(disk.virtual_size)} compared ({read})"
    yield (
        f"  {format_bytes(disk.different_bytes)} differ; the rewriting touched {format_bytes(disk.changed_bytes)}"
        f" in {disk.changed_ranges} range{'' if disk.changed_ranges == 1 else 's'}"
    )


def _file_system(system: FileSystemProof) -> Iterator[str]:
    where = ", ".join(system.mountpoints)
    read = "all files" if system.read_all else f"{system.files_read} files whose bytes or places differ"
    yield f"{system.device} ({system.kind}, {where}): {system.names} names compared, contents of {read} read on both sides"
    for each in system.explained:
        yield f"  {each.path}: {each.what} ({each.why})"
    for kind, size in sorted(system.kinds.items(), key=lambda item: -item[1]):
        yield f"  {size:>10} bytes differ: {kind}"
    yield from (f"  note: {note}" for note in system.notes)
