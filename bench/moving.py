"""Rows of moving the data: every packing to every target against qemu-img's quickest way and against the physical limit.

Inputs are warm in the page cache. The figure of a row, by which its goal is judged, is taken on this host's disk, and both sides
wait until the target is on stable storage: a moved disk that a power cut can take away has not been moved, ours always waits,
and the other's time without waiting (told in the row) is the page cache's, not the disk's. Where the target is in memory, nobody
waits for anything, and what is left is the programs' own work: this is measured too and told in the row, for better or worse.
The limit of a row is the quicker of two plain copies, through the page cache and around it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.inputs import StaleDisk, bulk_disk, input_format, qemu_format, stale_disk
from bench.measuring import P2V, Outcome, Row, Say, paired, scratch_folder, timed
from converters.image import open_disk
from p2v.core.units import GIB, MIB

_REFLINK_FOLDER_BYTES = 12 * GIB
_MEMORY_LIMIT_MB = 300.0
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 4 * GIB


def _ours(source: Path, packing: str, target: Path, disk_format: str, *options: str) -> float:
    argv = ["disk", "convert", "--input-format", input_format(packing), "--format", disk_format, "--progress", "none", *options]
    return timed([*P2V, *argv, str(source), str(target)])


def _qemu_img(
    source: Path, packing: str, target: Path, disk_format: str, *options: str, waits: list[float] | None = None
) -> float:
    """Seconds until the target is on stable storage; those of waiting for it are added to ``waits`` too."""
    argv = ["qemu-img", "convert", "-W", "-m", "16", "-f", qemu_format(packing), "-O", disk_format, *options]
    seconds, waited = timed([*argv, str(source), str(target)]), timed(["sync", str(target)])
    if waits is not None:
        waits.append(waited)
    return seconds + waited


def against_qemu_img(
    packing: str, disk_format: str, *options: str, disk: Callable[[str], Path] = bulk_disk
) -> Callable[[Say], Outcome]:
    """`p2v disk convert` against qemu-img's quickest way; both wait until the target is on stable storage."""

    def measure(say: Say) -> Outcome:
        source, waits = disk(packing), list[float]()
        ours, other = paired(
            lambda place: _ours(source, packing, place / "disk", disk_format, *options),
            lambda place: _qemu_img(source, packing, place / "disk", disk_format, waits=waits),
            say,
        )
        in_memory = _in_memory(
            lambda place: _ours(source, packing, place / "disk", disk_format, *options),
            lambda place: _qemu_img(source, packing, place / "disk", disk_format),
            say,
        )
        waited = statistics.median(waits[1:])
        detail = f"whole processes, both synced; other: qemu-img convert -W -m 16, {waited:.2f} s of it for the disk at the end"
        return Outcome(ours, other, (5, 5), f"{detail}\n{in_memory}")

    return measure


def _in_memory(ours: Callable[[Path], float], other: Callable[[Path], float], say: Say) -> str:
    """The same with the target in memory: what is left of it without a disk."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _MEMORY_BYTES:
        return f"with the target in memory: not measured, {_MEMORY} has no room"
    mine, theirs = paired(ours, other, say, turns=3, below=_MEMORY)
    return f"with the target in memory: ours {mine:.2f} s, other {theirs:.2f} s (ours {mine / theirs:.2f} of it)"


def _against_the_limit(packing: str, *options: str) -> Callable[[Say], Outcome]:
    def measure(say: Say) -> Outcome:
        source = bulk_disk(packing)
        found = {}
        with scratch_folder() as scratch:
            ranges, size = _stored_ranges(source, packing, scratch / "map")
            for way in ("", "direct"):
                plain = _plain_copy(ranges, size, way)
                found[way] = paired(lambda place: _ours(source, packing, place / "disk", "raw", *options), plain, say)
        ours, other = min(found.values(), key=lambda pair: pair[1])
        detail = (
            f"other: the quicker of two plain copies, zeroes left out, synced: through the page cache {found[''][1]:.2f} s, "
            f"around it {found['direct'][1]:.2f} s"
        )
        return Outcome(ours, other, (5, 5), detail)

    return measure


def _plain_copy(ranges: Path, size: int, way: str) -> Callable[[Path], float]:
    words = [way] if way else []
    return lambda place: timed([P2V[0], "-m", "bench.plain_copy", str(ranges), str(place / "disk"), str(size), *words])


def _stored_ranges(source: Path, packing: str, out: Path) -> tuple[Path, int]:
    """Where the disk's bytes stand, by our reader: qemu-img tells that of some formats only."""
    with open_disk(source, input_format(packing)) as disk:
        stored = [(each.stored, each) for each in disk.extents() if each.stored is not None]
        lines = [f"{place.file} {place.offset} {each.offset} {each.length}\n" for place, each in stored]
        out.write_text("".join(lines), "utf-8")
        return out, disk.virtual_size


def _compressed(packing: str, codec: str) -> Callable[[Say], Outcome]:
    def measure(say: Say) -> Outcome:
        source = bulk_disk(packing)
        sizes: dict[str, int] = {}

        def ours(place: Path) -> float:
            seconds = _ours(
                source, packing, place / "disk", "qcow2", "--compress", "deflate" if codec == "zlib" else codec
            )
            sizes["ours"] = (place / "disk").stat().st_size
            return seconds

        def other(place: Path) -> float:
            seconds = _qemu_img(source, packing, place / "disk", "qcow2", "-c", "-o", f"compression_type={codec}")
            sizes["other"] = (place / "disk").stat().st_size
            return seconds

        mine, theirs = paired(ours, other, say, turns=3)
        detail = f"sizes: ours {sizes['ours'] / MIB:.0f} MiB, qemu-img -c {sizes['other'] / MIB:.0f} MiB"
        return Outcome(mine, theirs, (3, 3), detail)

    return measure


def _reflinked(packing: str) -> Callable[[Say], Outcome]:
    def measure(say: Say) -> Outcome:
        with _reflink_folder() as place:
            source = place / bulk_disk(packing).name
            timed(["cp", "--sparse=always", str(bulk_disk(packing)), str(source)])
            ours, other = paired(
                lambda at: _ours(source, packing, at / "disk", "raw"),
                lambda at: _qemu_img(source, packing, at / "disk", "raw"),
                say, turns=3, below=place,
            )  # fmt: skip
        return Outcome(ours, other, (3, 3), "source and target on one XFS with reflinks, in a loop device")

    return measure


@contextmanager
def _reflink_folder() -> Iterator[Path]:
    with scratch_folder() as scratch:
        image, at = scratch / "xfs", scratch / "mount"
        at.mkdir()
        with image.open("wb") as file:
            file.truncate(_REFLINK_FOLDER_BYTES)
        timed(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)])
        timed(["mount", "-o", "loop", str(image), str(at)])
        try:
            yield at
        finally:
            timed(["umount", str(at)])


def _stale(kind: str) -> Callable[[Say], Outcome]:
    """A disk whose file system calls three quarters of what was written free, against the tool that knows only that file system."""

    def measure(say: Say) -> Outcome:
        disk = stale_disk(kind)
        written: dict[str, int] = {}

        def ours(place: Path) -> float:
            seconds = _ours(disk.disk, "raw", place / "disk", "raw", "--used-blocks")
            written["ours"] = (place / "disk").stat().st_blocks * 512
            return seconds

        def other(place: Path) -> float:
            seconds = _only_used(disk, place / "disk")
            written["other"] = (place / "disk").stat().st_blocks * 512
            return seconds

        mine, theirs = paired(ours, other, say, turns=3)
        whole = _qemu_once(disk)
        detail = (
            f"written: ours {written['ours'] / MIB:.0f} MiB ({written['ours'] / disk.used_bytes:.3f} of what is used), "
            f"other {written['other'] / MIB:.0f} MiB; qemu-img, which copies all: {whole:.2f} s"
        )
        return Outcome(mine, theirs, (3, 3), detail)

    return measure


def _only_used(disk: StaleDisk, target: Path) -> float:
    if disk.kind == "ntfs":
        argv = ["ntfsclone", "--quiet", "--overwrite", str(target), str(disk.volume)]
    else:
        argv = ["e2image", "-ra", str(disk.volume), str(target)]
    return timed(argv) + timed(["sync", str(target)])


def _qemu_once(disk: StaleDisk) -> float:
    with scratch_folder() as place:
        return _qemu_img(disk.disk, "raw", place / "disk", "raw")


def _huge(say: Say) -> Outcome:
    """The largest resident set of ours while a disk of 64 TiB with data all over it is copied."""
    with scratch_folder() as place:
        source = place / "huge.qcow2"
        timed(["qemu-img", "create", "-q", "-f", "qcow2", str(source), "64T"])
        # one L2 table in eight is there: 2 GiB in all
        commands = "".join(f"write -P 1 {at} 512\n" for at in range(0, 64 << 40, 4 * GIB))
        subprocess.run(
            ["qemu-io", "-f", "qcow2", str(source)], input=commands.encode(), stdout=subprocess.DEVNULL, check=True
        )
        argv = ["disk", "convert", "--format", "qcow2", "--progress", "none", str(source), str(place / "copy.qcow2")]
        before = os.times()
        with subprocess.Popen([*P2V, *argv]) as child:
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise RuntimeError(f"the copy failed with exit status {child.returncode}")
        seconds = os.times().elapsed - before.elapsed
    mine = usage.ru_maxrss * 1024 / 1e6
    say(f"{mine:.0f} MB, {seconds:.1f} s")
    return Outcome(mine, _MEMORY_LIMIT_MB, (1, 1), f"16384 clusters of data, {seconds:.1f} s; other: the limit")


def _rows() -> Iterator[Row]:
    for packing in ("vmdk-sparse", "vhd-dynamic", "vhdx", "vdi", "raw", "vmdk-stream"):
        goal = 1 / 0.35 if packing == "vmdk-stream" else 1 / 0.7
        for disk_format in ("raw", "qcow2"):
            for name, options in (("", ()), ("-sum", ("--checksum",))):
                title = (
                    f"{packing} to {disk_format}{' with --checksum' if name else ''} against qemu-img convert -W -m 16"
                )
                measure = against_qemu_img(packing, disk_format, *options)
                yield Row(f"move-{packing}-{disk_format}{name}", title, "s", round(goal, 2), measure)
    for packing in ("vmdk-sparse", "vhd-dynamic", "vhdx", "vdi", "raw"):
        for name, options in (("", ()), ("-sum", ("--checksum",))):
            title = f"{packing} to raw{' with --checksum' if name else ''} against the physical limit"
            yield Row(f"limit-{packing}{name}", title, "s", round(1 / 1.15, 2), _against_the_limit(packing, *options))
    for codec in ("zlib", "zstd"):
        yield Row(
            f"compress-{codec}",
            f"raw to qcow2, compressed ({codec}), against qemu-img convert -c",
            "s",
            1.67,
            _compressed("raw", codec),
        )
    for packing in ("raw", "vhdx", "vmdk-sparse"):
        yield Row(
            f"reflink-{packing}",
            f"{packing} to raw on XFS with reflinks against qemu-img",
            "s",
            10,
            _reflinked(packing),
        )
    yield Row("stale-ext4", "ext4, 75 % of it stale, against e2image", "s", round(1 / 1.1, 2), _stale("ext4"))
    yield Row("stale-ntfs", "NTFS, 75 % of it stale, against ntfsclone", "s", round(1 / 1.1, 2), _stale("ntfs"))
    yield Row("memory-64t", "largest resident set while a disk of 64 TiB is copied, against 300 MB", "MB", 1, _huge)


ROWS = tuple(_rows())
