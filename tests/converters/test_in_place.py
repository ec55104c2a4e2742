"""Changing disks where they stand, by real files: every format, what is refused, who else has them, and the view of before."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from converters.claims import claimed, claimed_as, device_identity
from converters.extents import invariant_broken
from converters.image import open_disk
from converters.in_place import (
    data_files,
    dependents,
    differing,
    keep_changes,
    refuse_unsuitable,
    rewritten_disk,
    runs_from,
)
from converters.mapped import MappedDisk
from converters.references import DiskSpec
from converters.storage import HostStorage
from converters.transaction import Outcome, commit, interrupted_journal, recover
from converters.undo import undo
from converters.undo_journal import JournalDisk, JournalFile, JournalHeader, JournalWriter, open_journal, redo_path
from converters.undo_view import open_before
from p2v.core.errors import BadJournal, DiskInUse, NoSource, NotInPlace, P2vError, UsedSince
from tests.converters.images import BY_NAME, KIB, MIB, make_image, qemu_img, read_by_qemu, rebuilt, whole_disk
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

STORAGE = HostStorage()
# With places that no image stores plainly left out: long stretches of noise and text only.
CHANGES = ((0, 500), (100 * KIB + 10, 5000), (2 * MIB - 100, 200), (11 * MIB, 70 * KIB))
SUITABLE = (
    "raw", "vhd-dynamic-exact", "vhd-fixed-exact", "vhdx-dynamic", "vhdx-fixed", "vmdk-sparse", "vmdk-flat", "vmdk-split-flat",
    "vmdk-split-sparse", "vdi-dynamic", "vdi-fixed", "qcow2-v2", "qcow2-v3", "qcow2-small-clusters", "qcow2-large-clusters",
    "qcow2-subclusters", "qcow2-data-file",
)  # fmt: skip


def full(size: int = 12 * MIB) -> bytes:
    """A disk without zeroes, so that every format stores all of it."""
    noise = bytearray(random.Random(11).randbytes(size // 2))
    noise[510:512] = b"\x55\xaa"
    return bytes(noise) + b"words and words " * (size // 32)


def changed(data: bytes, changes: Sequence[tuple[int, int]] = CHANGES) -> bytes:
    result = bytearray(data)
    for offset, length in changes:
        result[offset : offset + length] = bytes(byte ^ 0x5A for byte in data[offset : offset + length])
    return bytes(result)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


def in_place(disk: MappedDisk, after: bytes, journal: Path, scratch: Path) -> None:
    """What the pipeline does, without a guest: journal and commit."""
    rewritten = scratch / "after.raw"
    rewritten.write_bytes(after)
    files = data_files(disk)
    paths = [file.path.resolve() for file in files]
    with claimed(paths) as handles, open_disk(rewritten, "raw") as new:
        writer = JournalWriter(STORAGE, journal)
        try:
            numbers = {file.path: number for number, file in enumerate(files)}
            keep_changes(writer, 0, disk, new, [(0, disk.virtual_size)], numbers)
        except BaseException:
            writer.discard()
            raise
        states = tuple(JournalFile(p, h.state(), None, device_identity(p)) for p, h in zip(paths, handles, strict=True))
        disks = (JournalDisk(disk.files[0], disk.facts.format, disk.virtual_size),)
        with writer.finish(JournalHeader("vm", "", "", disks, states)) as prepared:
            commit(STORAGE, prepared, handles)


@pytest.mark.parametrize("name", SUITABLE)
def test_every_format_is_changed_in_place_read_as_before_by_the_journal_and_undone(name: str, tmp_path: Path) -> None:
    old = full()
    new = changed(old)
    image = make_image(tmp_path / "image", BY_NAME[name], old)
    (tmp_path / "other").mkdir()
    journal, before = tmp_path / "other" / "vm.undo", digests(image.parent)
    with open_disk(image) as disk:
        refuse_unsuitable(disk)
        in_place(disk, new, journal, tmp_path / "other")
    assert whole_disk(image) == new
    # QEMU, which would run it, reads the same, and finds nothing wrong with it
    assert read_by_qemu(image, BY_NAME[name], tmp_path / "other") == new
    if BY_NAME[name].format in ("qcow2", "vhdx", "vdi"):
        qemu_img("check", "-f", BY_NAME[name].qemu_format, str(image))
    with open_before(DiskSpec(image), journal, 0) as view:
        assert b"".join(view.pread(100_001, at) for at in range(0, len(old) + 100_001, 100_001)) == old
        stored = [(e.offset, e.length, e.stored) for e in view.extents() if e.stored is not None]
        assert sum(length for _, length, _ in stored) == len(old)
        for offset, length, place in stored:
            assert place is not None
            with place.file.open("rb") as file:
                file.seek(place.offset)
                assert file.read(length) == old[offset : offset + length]
    undo(STORAGE, journal, claimed_as)
    assert digests(image.parent) == before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("vmdk-stream", "are compressed"),
        ("qcow2-zstd", "are compressed"),
        ("qcow", "no machine of QEMU's"),
        ("vhdx-dynamic", "have no place in the file"),
        ("vhd-dynamic", "have no place in the file"),
        ("qcow2-v3", "have no place in the file"),
    ],
)
def test_what_is_not_stored_plainly_is_refused_and_nothing_is_written(
    name: str, what: str, tmp_path: Path, content: bytes
) -> None:
    image = make_image(tmp_path / "image", BY_NAME[name], content)
    before = digests(image.parent)
    with open_disk(image) as disk:
        new = bytearray(disk.pread(disk.virtual_size, 0))
        # one in the long zeroes, which dynamic images leave out, one in what is stored
        new[6 * MIB : 6 * MIB + 512] = b"!" * 512
        new[0:4] = b"beg!"

        def attempt() -> None:
            refuse_unsuitable(disk)
            in_place(disk, bytes(new), tmp_path / "vm.undo", tmp_path)

        with pytest.raises(NotInPlace) as caught:
            attempt()
    assert what in caught.value.problem
    assert digests(image.parent) == before
    assert {path.name for path in tmp_path.iterdir()} == {"image", "after.raw"} - ({"after.raw"} if name == "qcow" else set())


def test_zeroes_that_stay_zeroes_need_no_place(tmp_path: Path, content: bytes) -> None:
    image = make_image(tmp_path / "image", BY_NAME["qcow2-v3"], content)
    new = bytearray(content)
    new[0:4] = b"beg!"
    with open_disk(image) as disk:
        in_place(disk, bytes(new), tmp_path / "vm.undo", tmp_path)
    assert whole_disk(image) == bytes(new)


def test_disks_that_share_what_they_store_are_refused(tmp_path: Path) -> None:
    def refused(image: Path) -> str:
        with open_disk(image) as disk, pytest.raises(NotInPlace) as caught:
            refuse_unsuitable(disk)
        return caught.value.problem

    image = make_image(tmp_path / "a", BY_NAME["qcow2-v3"], full(4 * MIB))
    qemu_img("snapshot", "-c", "before", str(image))
    assert "snapshots" in refused(image)
    image = make_image(tmp_path / "b", BY_NAME["qcow2-v3"], full(4 * MIB))
    qemu_img("bitmap", "--add", str(image), "backups")
    assert "bitmaps" in refused(image)
    # a refcount that is too low: the next writer would take the cluster
    image = make_image(tmp_path / "c", BY_NAME["qcow2-v3"], full(4 * MIB))
    with image.open("r+b") as file:
        file.seek(2 * 64 * KIB + 2 * 20)
        file.write(b"\0\0")
    assert "may not be its alone" in refused(image)
    child = tmp_path / "c" / "child.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(child))
    assert "snapshot" in refused(child)


def test_a_disk_with_children_in_its_folder_is_told(tmp_path: Path) -> None:
    image = make_image(tmp_path, BY_NAME["qcow2-v3"], full(4 * MIB))
    with open_disk(image) as disk:
        assert list(dependents(disk)) == []
    qemu_img("create", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(tmp_path / "child.qcow2"))
    (tmp_path / "broken.vmdk").write_bytes(b"KDMV" + bytes(600))
    with open_disk(image) as disk:
        assert list(dependents(disk)) == [tmp_path / "child.qcow2"]


def test_a_flat_image_runs_from_its_raw_bytes_and_others_from_themselves(tmp_path: Path) -> None:
    flat = make_image(tmp_path / "flat", BY_NAME["vmdk-flat"], full(4 * MIB))
    with open_disk(flat) as disk:
        found = runs_from(disk)
    assert (found.path.name, found.format) == ("vmdk-flat-flat.vmdk", "raw")
    for name, called in (("vhd-fixed-exact", "vpc"), ("vhdx-dynamic", "vhdx"), ("qcow2-v3", "qcow2"), ("vmdk-sparse", "vmdk")):
        image = make_image(tmp_path / name, BY_NAME[name], full(4 * MIB))
        with open_disk(image) as disk:
            assert runs_from(disk) == type(found)(image, called)


def test_an_overlay_reads_over_its_disk_whatever_it_names(tmp_path: Path, content: bytes) -> None:
    image = make_image(tmp_path, BY_NAME["vmdk-sparse"], content)
    overlay, size = tmp_path / "overlay.qcow2", len(content)
    qemu_img("create", "-f", "qcow2", str(overlay), str(size))
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "nbd+unix:///?socket=/nowhere", "-F", "raw", str(overlay))
    new = bytearray(content)
    with open_disk(image) as disk:
        top = tmp_path / "top.qcow2"
        qemu_img("create", "-f", "qcow2", str(top), str(size))
        subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3000", "-c", "write -z 9M 64k", str(top)], check=True)
        new[MIB : MIB + 64 * KIB] = b"\x07" * 3000 + bytes(64 * KIB - 3000)
        new[9 * MIB : 9 * MIB + 64 * KIB] = bytes(64 * KIB)
        assert whole(rewritten_disk(overlay, open_disk(image))) == content
        with rewritten_disk(top, open_disk(image)) as after:
            found = list(differing(disk, after, [(MIB, 64 * KIB), (9 * MIB, 64 * KIB)]))
            assert whole(after) == bytes(new)
    patched = bytearray(content)
    for offset, old, data in found:
        assert patched[offset : offset + len(old)] == old
        patched[offset : offset + len(data)] = data
    assert patched == new


def whole(disk: MappedDisk) -> bytes:
    with disk:
        return disk.pread(disk.virtual_size, 0)


@contextmanager
def held(*command: str, until: Callable[[], bool]) -> Iterator[None]:
    """A program that has a file open."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        try:
            for _ in range(6000):
                if until():
                    break
                assert program.poll() is None
                subprocess.run(["sleep", "0.05"], check=True)
            yield
        finally:
            program.kill()


def _is_refused(path: Path) -> bool:
    try:
        with claimed([path]):
            return False
    except DiskInUse:
        return True


def _greets(address: Path) -> bool:
    """Whether QEMU's server has its disk: it listens before it opens it, and greets only afterwards."""
    with socket.socket(socket.AF_UNIX) as client, suppress(FileNotFoundError, ConnectionRefusedError):
        client.settimeout(300)
        client.connect(str(address))
        return client.recv(8) == b"NBDMAGIC"
    return False


def test_a_disk_that_somebody_writes_or_runs_is_refused(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(MIB))
    code = f"import sys; file = open({str(disk)!r}, 'r+b'); sys.stdin.read()"
    assert not _is_refused(disk)
    with held(sys.executable, "-c", code, until=lambda: _is_refused(disk)), pytest.raises(DiskInUse) as caught, claimed([disk]):
        pass
    assert "process" in caught.value.how
    # QEMU with the disk read-only is a machine, or a backup of one, all the same
    arguments = ("-r", "-f", "raw", "-k", str(tmp_path / "socket"), "-t", str(disk))
    server = held("qemu-nbd", *arguments, until=lambda: _greets(tmp_path / "socket"))
    with server, pytest.raises(DiskInUse) as caught, claimed([disk]):
        pass
    assert "QEMU" in caught.value.how
    (tmp_path / "disk.raw.lck").mkdir()
    assert not _is_refused(disk)
    (tmp_path / "disk.raw.lck" / "M1.lck").touch()
    assert _is_refused(disk)


def test_readers_are_welcome_and_qemu_is_kept_out_while_we_write(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(MIB))
    with disk.open("rb") as reader, claimed([disk]):
        assert reader.read(1) == b"\0"
        refused = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "read 0 512", str(disk)], capture_output=True, text=True, check=False
        )
        assert "lock" in refused.stderr
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 512", str(disk)], check=True, stdout=subprocess.DEVNULL)


def test_the_lease_alone_tells_of_writers_that_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(MIB))
    monkeypatch.setattr("converters.claims._writing_processes", lambda wanted: [])
    assert not _is_refused(disk)
    with disk.open("r+b"):
        assert _is_refused(disk)


def test_what_is_no_disk_is_not_opened_for_writing(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", Path("/dev/null")):
        with pytest.raises((NoSource, P2vError)), claimed([path]):
            raise AssertionError(path)


@NEEDS_LOOP_DEVICES
def test_a_block_device_is_changed_and_undone_and_refused_while_it_is_held(tmp_path: Path) -> None:
    old = full(8 * MIB)
    new = changed(old, ((0, 500), (5 * MIB, 9000)))
    (tmp_path / "backing.img").write_bytes(old)
    (tmp_path / "other").mkdir()
    journal = tmp_path / "other" / "vm.undo"
    with loop_device(tmp_path / "backing.img") as device:
        # the kernel hands a claim to one at a time, as for a mount
        handle = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with open_disk(device) as disk, pytest.raises(DiskInUse):
                in_place(disk, new, journal, tmp_path / "other")
        finally:
            os.close(handle)
        # a file that a loop device has is in use as well
        assert _is_refused(tmp_path / "backing.img")
        with open_disk(device) as disk:
            in_place(disk, new, journal, tmp_path / "other")
        assert whole_disk(device) == new
        undo(STORAGE, journal, claimed_as)
        assert whole_disk(device) == old


def test_a_journal_finds_its_own_files_only(tmp_path: Path) -> None:
    """The same name, another file: a copy that was put back, or a journal from elsewhere that names what it likes."""
    image, journal = tmp_path / "disk.raw", tmp_path / "vm.undo"
    old = full(4 * MIB)
    image.write_bytes(old)
    with open_disk(image, "raw") as disk:
        in_place(disk, changed(old, CHANGES[:2]), journal, tmp_path)
    times = image.stat()
    shutil.copyfile(image, tmp_path / "copy")
    os.replace(tmp_path / "copy", image)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UsedSince):
        undo(STORAGE, journal, claimed_as)
    undo(STORAGE, journal, partial(claimed_as, force=True), force=True)
    assert image.read_bytes() == old


@pytest.mark.parametrize("name", ["qcow2-small-clusters", "vmdk-sparse", "vhdx-dynamic", "qcow2-zstd"])
def test_the_view_of_before_cuts_ranges_where_the_disk_beneath_is_cut(name: str, tmp_path: Path, content: bytes) -> None:
    """Rows over holes, over compressed blocks and over several of them, each asked for in small pieces."""
    image, journal = make_image(tmp_path, BY_NAME[name], content), tmp_path / "vm.undo"
    dice = random.Random(5)
    old, rows = bytearray(content), []
    for at in range(0, 11 * MIB, 700 * KIB):
        length = dice.randrange(1, 250) * 512
        old[at : at + length] = dice.randbytes(length)
        rows.append((at, length))
    writer = JournalWriter(STORAGE, journal)
    for at, length in rows:
        writer.add(0, 0, at, at, bytes(old[at : at + length]), content[at : at + length])
    with STORAGE.open(image) as file:
        state = replace(file.state(), size=1 << 40)
    header = JournalHeader("vm", "", "", (JournalDisk(image, "", len(content)),), (JournalFile(image, state),))
    writer.finish(header).close()
    with open_before(DiskSpec(image), journal, 0) as view:
        assert view.pread(len(old), 0) == old
        assert b"".join(view.pread(7 * KIB + 1, at) for at in range(0, len(old), 7 * KIB + 1)) == old
        assert rebuilt(view.extents(), view) == old
        assert invariant_broken(view.extents(), len(old)) is None


def test_the_view_of_before_refuses_what_it_cannot_vouch_for(tmp_path: Path) -> None:
    image, journal = tmp_path / "disk.raw", tmp_path / "vm.undo"
    old = full(4 * MIB)
    image.write_bytes(old)
    with open_disk(image, "raw") as disk:
        in_place(disk, changed(old, CHANGES[:2]), journal, tmp_path)
    with pytest.raises(BadJournal):
        open_before(DiskSpec(image, "raw"), journal, 1)
    with journal.open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BadJournal):
        open_before(DiskSpec(image, "raw"), journal, 0)
    with journal.open("r+b") as file:
        file.seek(5000)
        file.write(byte)
    os.truncate(image, 4 * MIB + 512)
    with pytest.raises(BadJournal):
        open_before(DiskSpec(image, "raw"), journal, 0)


def test_a_killed_process_leaves_a_note_and_the_next_one_finishes(tmp_path: Path) -> None:
    """A real kill, while real files are written: whatever was reached, the end is one of the two."""
    image, journal = tmp_path / "disk.raw", tmp_path / "vm.undo"
    old = full(8 * MIB)
    new = changed(old, [(at, 3000) for at in range(0, 8 * MIB - 4096, 16 * KIB)])
    image.write_bytes(old)
    pid = os.fork()
    if pid == 0:
        # dies by the kernel's hand in the middle of the ranges
        count = 0
        real = os.pwritev

        def dying(handle: int, parts: Sequence[memoryview], offset: int) -> int:
            nonlocal count
            if os.fstat(handle).st_ino == image.stat().st_ino:
                count += 1
                if count == 100:
                    os.kill(os.getpid(), 9)
            return real(handle, parts, offset)

        os.pwritev = dying  # type: ignore[assignment]
        with open_disk(image, "raw") as disk:
            in_place(disk, new, journal, tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert image.read_bytes() not in (old, new)
    assert interrupted_journal(STORAGE, image) == journal
    assert redo_path(journal).exists()
    assert recover(STORAGE, journal, claimed_as) is Outcome.FINISHED
    assert image.read_bytes() == new
    assert interrupted_journal(STORAGE, image) is None
    undo(STORAGE, journal, claimed_as)
    assert image.read_bytes() == old
    with open_journal(STORAGE, journal) as known:
        assert len(known.rows) > 100


def test_a_read_lease_is_given_back(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(512))
    with claimed([disk]), disk.open("rb") as file:
        assert fcntl.fcntl(file, fcntl.F_GETLEASE) == fcntl.F_UNLCK
