"""File systems on poisoned disks: every byte 0xAA before they are made, then filled and emptied by the programs that know them."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from converters.allocation.findings import Unused
from converters.allocation.left_out import LeftOut
from converters.allocation.unused import find_unused
from converters.image import open_disk
from converters.sparse_view import SparseView
from p2v.core.run import find_program
from tests.loop_devices import why_not

MIB = 1 << 20
KIB = 1 << 10
POISON = b"\xaa"
LEAST = 64 * KIB

NEEDS_MOUNTS = pytest.mark.skipif(bool(why_not()), reason=why_not())


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skip where one of these is missing."""
    missing = [program for program in programs if find_program(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)} missing")


def run(*argv: str | Path, stdin: str = "", ok: Sequence[int] = (0,)) -> str:
    """Run a program; its stdout. An error shows what it said."""
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    done = subprocess.run(
        [str(a) for a in argv], input=stdin, capture_output=True, text=True, env=env, check=False, timeout=300
    )
    assert done.returncode in ok, f"{argv}: {done.returncode}\n{done.stderr}{done.stdout}"
    return done.stdout


def poisoned(path: Path, size: int) -> Path:
    """A disk of which every byte is 0xAA."""
    with path.open("wb") as file:
        for at in range(0, size, MIB):
            file.write(POISON * min(MIB, size - at))
    return path


@contextmanager
def mounted(image: Path, kind: str, options: str = "") -> Iterator[Path]:
    """A file system mounted by the host's kernel."""
    folder = image.with_name(image.name + ".mnt")
    folder.mkdir()
    run("mount", "-t", kind, "-o", f"loop{',' if options else ''}{options}", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        folder.rmdir()


@contextmanager
def mounted_ntfs(image: Path, options: str = "") -> Iterator[Path]:
    """An NTFS mounted through FUSE."""
    folder = image.with_name(image.name + ".mnt")
    folder.mkdir()
    run("ntfs-3g", "-o", f"no_def_opts,streams_interface=none{',' if options else ''}{options}", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        folder.rmdir()


def scatter(folder: Path, seed: int, budget: int, *, largest: int = 400 * KIB) -> None:
    """Fill a folder with files of every size, take two of three away, fill some of the holes again: free space in pieces."""
    chance = random.Random(seed)
    write_files(folder / "first", chance, budget, largest)
    os.sync()
    for index, path in enumerate(sorted((folder / "first").rglob("file*"))):
        if index % 3:
            path.unlink()
    os.sync()
    write_files(folder / "second", chance, budget // 8, largest)
    (folder / "second" / "empty").touch()
    (folder / "second" / "tiny").write_bytes(b"inline")


def write_files(folder: Path, chance: random.Random, budget: int, largest: int) -> None:
    """Files of every size, in several folders, until ``budget`` bytes are used up."""
    number = 0
    while budget > 0:
        number += 1
        size = chance.choice((10, 300, 5000, 70_000, chance.randrange(largest)))
        path = folder / f"folder{number % 7}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
        budget -= -(-size // LEAST) * LEAST  # as a file system with large clusters has it


def tree_digest(folder: Path) -> str:
    """Names, modes, owners and contents of a whole tree."""
    digest = hashlib.sha256()
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(root) / name
            status = path.lstat()
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            digest.update(f"{path.relative_to(folder)} {status.st_mode:o} {status.st_uid} {size}\n".encode())
            if path.is_symlink():
                digest.update(os.readlink(path).encode())
            elif path.is_file():
                digest.update(path.read_bytes())
    return digest.hexdigest()


def unused(*images: Path) -> Unused:
    """What need not travel of raw disks."""
    readers = [open_disk(image, "raw") for image in images]
    try:
        return find_unused(readers)
    finally:
        for reader in readers:
            reader.close()


def only(found: Unused) -> LeftOut:
    """Of the one disk, whose one volume was understood."""
    assert [volume.why_whole for volume in found.volumes] == [""], found.volumes
    return found.disks[0]


def copied(image: Path, left_out: LeftOut) -> Path:
    """What arrives: a new file with the stored extents of the view, nothing else."""
    copy = image.with_name(image.name + ".copy")
    with SparseView(open_disk(image, "raw"), left_out) as view, copy.open("wb") as file:
        file.truncate(view.virtual_size)
        for extent in view.extents():
            for at in range(extent.offset, extent.end if not extent.zero else extent.offset, MIB):
                file.seek(at)
                file.write(view.pread(min(MIB, extent.end - at), at))
    return copy


def poison_in(path: Path, ranges: Iterable[tuple[int, int]]) -> int:
    """How many bytes of poison there are in ranges of a disk."""
    with path.open("rb") as file:
        found = 0
        for offset, length in ranges:
            file.seek(offset)
            found += file.read(length).count(POISON)
    return found


def long_runs(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in any order (offset, length), neighbours joined, without those too short to leave out."""
    joined: list[list[int]] = []
    for offset, length in sorted(ranges):
        if joined and sum(joined[-1]) == offset:
            joined[-1][1] += length
        else:
            joined.append([offset, length])
    return [(offset, length) for offset, length in joined if length >= LEAST]


def free_by_dumpe2fs(image: Path) -> list[tuple[int, int]]:
    """The witness for ext. With clusters of blocks it names the first block of each."""
    text = run("dumpe2fs", image)
    numbers = {name: int(value) for name, value in re.findall(r"^(\w+ \w+): +(\d+)", text, re.MULTILINE)}
    block = numbers["Block size"]
    unit = numbers.get("Cluster size", block)
    end = numbers["Block count"] * block
    return [
        (int(first) * block, min((int(last or first) - int(first)) * block + unit, end - int(first) * block))
        for line in re.findall(r"^  Free blocks: (.*)$", text, re.MULTILINE)
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line)
    ]


def free_by_xfs_db(image: Path) -> list[tuple[int, int]]:
    """The witness for XFS. The blocks of the AGFL, which it counts too, are told apart from ranges by standing alone."""
    text = run("xfs_db", "-r", "-c", "freesp -d -h 1", "-c", "sb 0", "-c", "p blocksize agblocks agcount", image)
    numbers = {name: int(value) for name, value in re.findall(r"^(\w+) = (\d+)$", text, re.MULTILINE)}
    agfl = set()
    for group in range(numbers["agcount"]):
        argv = ("-c", f"agfl {group}", "-c", "p bno", "-c", f"agf {group}", "-c", "p flfirst fllast flcount")
        flags = run("xfs_db", "-r", *argv, image)
        slots = {
            first + n: int(block)
            for first, last, block in ((int(a), int(b or a), c) for a, b, c in re.findall(r"(\d+)(?:-(\d+))?:(\w+)", flags))
            for n in range(last - first + 1)
            if block != "null"
        }
        at, count = (int(re.search(rf"{name} = (\d+)", flags)[1]) for name in ("flfirst", "flcount"))  # type: ignore[index]
        size = 1 + max(slots, default=0)
        agfl |= {(group, slots.get((at + n) % size, -1)) for n in range(count)}
    return [
        ((int(group) * numbers["agblocks"] + int(block)) * numbers["blocksize"], int(count) * numbers["blocksize"])
        for group, block, count in re.findall(r"^ *(\d+) +(\d+) +(\d+)$", text, re.MULTILINE)
        if not (int(count) == 1 and (int(group), int(block)) in agfl)
    ]


def free_by_bitmap(image: Path, cluster_bytes: int, clusters: int) -> list[tuple[int, int]]:
    """The witness for NTFS: its $Bitmap as ntfs-3g reads it."""
    raw = image.with_name(image.name + ".bitmap")
    with raw.open("wb") as file:
        subprocess.run(["ntfscat", "-f", str(image), "$Bitmap"], stdout=file, check=True, timeout=60)
    bits = raw.read_bytes()
    raw.unlink()
    free = (n for n in range(clusters - 1) if not bits[n // 8] >> n % 8 & 1)
    return [(n * cluster_bytes, cluster_bytes) for n in free]


def check_exact(image: Path, left_out: LeftOut, free: list[tuple[int, int]]) -> None:
    """What is left out is what a witness calls free, but for runs that are too short."""
    assert [(each.offset, each.length) for each in left_out] == long_runs(free)


def check_travels(
    image: Path,
    left_out: LeftOut,
    free: list[tuple[int, int]],
    digest: Callable[[Path], str],
    check: Callable[[Path], object],
    least_share: float = 0.75,
) -> None:
    """What must hold for every file system: the same files arrive, the checker finds nothing, and the poison is gone."""
    before = digest(image)
    copy = copied(image, left_out)
    try:
        check(copy)
        assert digest(copy) == before
        there, left = poison_in(image, free), poison_in(copy, free)
        assert there > 10 * MIB
        assert there - left >= least_share * there, f"{left} of {there} bytes of poison travelled"
    finally:
        copy.unlink()


def removed(*paths: Path) -> None:
    """Disks are large: gone when a test is done."""
    for path in paths:
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_name(path.name + ".mnt"), ignore_errors=True)
