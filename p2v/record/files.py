"""A record against the files it tells of: what was made, read again, and the source where it is still there."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from converters.allocation.left_out import LeftOut
from converters.digest import digest_disk, digest_range
from converters.image import identity, open_disk, open_made
from converters.info import SourceIdentity
from converters.mapped import MappedDisk
from converters.patched import PatchedDisk, sorted_apart
from converters.sparse_view import SparseView
from p2v.core.disk import DiskReader
from p2v.core.errors import P2vError
from p2v.core.events import Reporter, phase, silent
from p2v.core.units import format_bytes
from p2v.core.workspace import sha256_of
from p2v.record.as_copied import SourcesAsCopied, sources_as_copied, unreadable_of
from p2v.record.conversion import ConversionRecord, DiskRecord, OutputFile


class State(enum.Enum):
    """How a file is, compared with the record."""

    SAME = "same"
    DIFFERENT = "different"
    NOT_AT_HAND = "not-at-hand"


@dataclass(frozen=True, slots=True)
class Looked:
    """One thing that was looked at, and a clause about it."""

    what: str
    state: State
    said: str


@dataclass(frozen=True, slots=True)
class DiskFiles:
    """Of one disk: the target, the source, and whether the target is the source but for the changed ranges."""

    target: Looked
    source: Looked
    copied: Looked


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that was looked at. ``source_named``: the user said where the source is, so it has to be there."""

    outputs: tuple[Looked, ...]
    disks: tuple[DiskFiles, ...]
    source_named: bool = False

    @property
    def asked_for(self) -> tuple[Looked, ...]:
        """What has to be there and to be the same; a source may be gone, or have gone on, unless it was named."""
        sources = [disk.source for disk in self.disks] if self.source_named else []
        return (*self.outputs, *(disk.target for disk in self.disks), *sources)

    def of(self, name: str) -> Looked | None:
        """What was found of the output of that name."""
        return next((looked for looked in self.outputs if looked.what == name), None)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files are: outputs in ``folder``, and the disks where they were named, in order."""

    folder: Path
    targets: tuple[Path, ...] = ()
    sources: tuple[Path, ...] = ()


def look(record: ConversionRecord, places: Places, report: Reporter = silent, threads: int = 2) -> Files:
    """Read everything that is at hand. What cannot be read is no error but an answer."""
    disks = {Path(disk.target).name for disk in record.disks}
    outputs = tuple(look_at_output(places.folder, output) for output in record.outputs if output.name not in disks)
    copied = _left_out(record, places, report)
    looked = tuple(
        _Disk(record, index, places, report, threads, copied.left_out[index], is_changed=index in copied.changed).look()
        for index in range(len(record.disks))
    )
    return Files(outputs, looked, bool(places.sources))


def _left_out(record: ConversionRecord, places: Places, report: Reporter) -> SourcesAsCopied:
    """What was not copied, found in the sources again; nothing where they are not at hand, or none was left out."""
    nothing = SourcesAsCopied(tuple(map(unreadable_of, record.disks)))
    if all(not disk.left_out for disk in record.disks):
        return nothing
    with ExitStack() as stack:
        try:
            readers = [
                stack.enter_context(open_disk(path, source.input_format, source.lookup))
                for source, path in zip(record.document.sources, _source_paths(record, places), strict=True)
            ]
            return sources_as_copied(readers, record, report)
        except P2vError:
            return nothing  # it is told of each disk


def _source_paths(record: ConversionRecord, places: Places) -> list[Path]:
    named = dict(enumerate(places.sources))
    return [named.get(index, source.path) for index, source in enumerate(record.document.sources)]


def look_at_output(folder: Path, output: OutputFile) -> Looked:
    path = folder / Path(output.name).name
    if path.exists() and not path.is_file():
        return Looked(output.name, State.DIFFERENT, "is no file")
    try:
        if path.stat().st_size != output.size:
            return Looked(output.name, State.DIFFERENT, f"has {path.stat().st_size} bytes, {output.size} were written")
        found = sha256_of(path)
    except FileNotFoundError:
        return Looked(output.name, State.NOT_AT_HAND, "is not there")
    except OSError as error:
        return Looked(output.name, State.NOT_AT_HAND, f"cannot be read: {error.strerror}")
    if output.sha256 is None:
        return Looked(output.name, State.SAME, "has the size that was written; the record has no digest of it")
    if found != output.sha256:
        return Looked(output.name, State.DIFFERENT, "has another digest than what was written")
    return Looked(output.name, State.SAME, "has the digest of what was written")


@dataclass(frozen=True, slots=True)
class _Disk:
    """One disk of a record and where it is looked for."""

    record: ConversionRecord
    index: int
    places: Places
    report: Reporter
    threads: int
    left_out: LeftOut
    is_changed: bool
    """Other blocks are free in the source now than when it was copied."""

    @property
    def _made(self) -> DiskRecord:
        return self.record.disks[self.index]

    def look(self) -> DiskFiles:
        """Open both ends, hold each against the record, then one against the other."""
        with ExitStack() as stack:
            target, target_said = self._target(stack)
            source, source_said = self._source(stack)
            copied = self._copied(target, source)
            return DiskFiles(target_said, source_said, copied)

    def _target(self, stack: ExitStack) -> tuple[MappedDisk | None, Looked]:
        named = self.places.targets[self.index : self.index + 1]
        made = Path(self._made.target)
        # a name beside the record, or a device; a record is not believed when it says that its disk is elsewhere
        path = named[0] if named else made if made.is_absolute() else self.places.folder / made.name
        name = str(named[0]) if named else self._made.target
        if not path.exists():
            return None, Looked(name, State.NOT_AT_HAND, "is not there")
        try:
            disk = stack.enter_context(self._opened_target(path))
            problem = self._problem(disk, self._made.result, name, after=True)
        except P2vError as error:
            return None, Looked(name, State.DIFFERENT, f"cannot be read as what was made: {error.sentence()}")
        if problem:
            return None, Looked(name, State.DIFFERENT, problem)
        return disk, Looked(name, State.SAME, self._said(after=True))

    @property
    def _is_device(self) -> bool:
        return self.record.hardware.disks[self.index].is_device

    def _opened_target(self, path: Path) -> MappedDisk:
        made = self._made.result
        return open_made(path, made.format, made.virtual_size, is_device=self._is_device)

    def _source(self, stack: ExitStack) -> tuple[DiskReader | None, Looked]:
        planned = self.record.document.sources[self.index]
        path = _source_paths(self.record, self.places)[self.index]
        if not path.exists():
            return None, Looked(str(path), State.NOT_AT_HAND, "is not there")
        try:
            disk = stack.enter_context(open_disk(path, planned.input_format, planned.lookup))
            problem = self._problem(disk, planned.identity, str(path), after=False)
        except P2vError as error:
            return None, Looked(str(path), State.DIFFERENT, f"cannot be read as the source: {error.sentence()}")
        if problem or self.is_changed:
            other = "other blocks are free in it now than when it was copied"
            return None, Looked(str(path), State.DIFFERENT, problem or other)
        return self._as_copied(disk), Looked(str(path), State.SAME, self._said(after=False))

    def _as_copied(self, source: DiskReader) -> DiskReader:
        return SparseView(source, self.left_out) if len(self.left_out) else source

    def _problem(self, disk: MappedDisk, recorded: SourceIdentity, name: str, *, after: bool) -> str:
        """What of a disk is not as the record says, in clauses; empty when nothing is. Looks at what is quick first."""
        ranges = sorted_apart([(r.offset, r.length) for r in self._made.changed], recorded.virtual_size)
        if ranges is None:
            return "the changed ranges in the record do not lie apart and within the disk"
        if disk.virtual_size != recorded.virtual_size:
            return f"is a disk of {disk.virtual_size} bytes, {recorded.virtual_size} are recorded"
        found = identity(disk)
        # what was written to a device may have been copied into a file
        of_device = after and self._is_device
        same = found.sample_sha256 == recorded.sample_sha256 if of_device else _same(recorded, found)
        clauses = [] if same else ["is another disk, or was written to since"]
        for changed in self._made.changed:
            expected = changed.after if after else changed.before
            held = disk if after else self._as_copied(disk)
            if expected is not None and digest_range(held, changed.offset, changed.length) != expected:
                clauses.append(
                    f"the changed range of {changed.length} bytes from {changed.offset} on does not hold what it held"
                )
        content = self._made.result_content if after else None
        if not clauses and content is not None and self._digest(disk, f"Reading {name}") != content:
            clauses.append("has another content digest: it was written to, or damaged, since")
        return "; ".join(clauses)

    def _said(self, *, after: bool) -> str:
        known = [r for r in self._made.changed if (r.after if after else r.before) is not None]
        clauses = ["format, size and samples fit"]
        if known:
            clauses.append(f"{len(known)} changed ranges hold what they held")
        if after and self._made.result_content is not None:
            clauses.append("the content digest is the same")
        return ", ".join(clauses)

    def _copied(self, target: DiskReader | None, source: DiskReader | None) -> Looked:
        what = self._made.target
        if target is None:
            return Looked(what, State.NOT_AT_HAND, f"{what} as it was made is not at hand")
        if source is None:
            return Looked(what, State.NOT_AT_HAND, "the source as it was converted is not at hand")
        if source.virtual_size != target.virtual_size:
            return Looked(what, State.DIFFERENT, "source and target have different sizes")
        ranges = sorted_apart([(r.offset, r.length) for r in self._made.changed], target.virtual_size) or ()
        size = format_bytes(sum(length for _, length in ranges))
        but = f"{what} is the source, but for the {len(ranges)} changed ranges ({size})"
        if self._made.unreadable:
            lost = sum(each.length for each in self._made.unreadable)
            but += f" and {lost} bytes that could not be read, which are zeroes"
        try:
            expected = self._made.source_content or self._digest(source, "Reading the source")
            found = self._digest(PatchedDisk(target, source, ranges), f"Reading {what} with the changes taken back")
        except P2vError as error:
            return Looked(what, State.NOT_AT_HAND, f"could not be read to its end: {error.sentence()}")
        if found != expected:
            return Looked(what, State.DIFFERENT, f"{what} differs from the source outside the changed ranges")
        how = "by the content digest of the copy" if self._made.source_content else "both read now"
        return Looked(what, State.SAME, f"{but}: {how}")

    def _digest(self, disk: DiskReader, title: str) -> str:
        with phase(self.report, "digest", title, disk.virtual_size):
            return digest_disk(disk, threads=self.threads, report=self.report)


def _same(recorded: SourceIdentity, found: SourceIdentity) -> bool:
    """Names, folders and times of files are no matter here: copies do not keep them."""

    def bare(one: SourceIdentity) -> SourceIdentity:
        return replace(one, files=tuple(replace(file, path="", mtime_ns=0) for file in one.files))

    return bare(recorded) == bare(found)


def states(looked: Sequence[Looked]) -> set[State]:
    """Which states there are among what was looked at."""
    return {each.state for each in looked}
