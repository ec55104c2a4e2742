"""The confined child with a hostile function inside it, and the host-side tree against debugfs and the real files."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from drivers import confinement
from drivers.offline import Limits, OfflineTree, PartitionFile, UnreadableVolume, confined, open_volume
from drivers.tree import FileType, GuestTree
from p2v.core.disk import DiskReader
from p2v.core.errors import BadImage, ReaderCrashed
from tests.address_space import take
from tests.drivers.making import MIB, make_ext, run, sized
from tests.drivers.raw_reader import RawReader


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[RawReader]:
    path = tmp_path / "disk.raw"
    path.write_bytes(b"0123456789" * 1000)
    made = RawReader(path)
    yield made
    made.close()


# --- confined --------------------------------------------------------------------------------------------


def test_child_reads_the_disk_and_gives_json_back(reader: RawReader) -> None:
    odd = "undecodable: \udcff"
    result = confined(lambda readers: {"bytes": readers[0].pread(4, 3).decode(), "name": odd}, [reader])
    assert result == {"bytes": "3456", "name": odd}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_child_is_nobody_without_groups(reader: RawReader) -> None:
    def ids(_: Sequence[DiskReader]) -> Any:
        return [os.getuid(), os.geteuid(), os.getgid()]

    assert confined(ids, [reader]) == [65534, 65534, 65534]


def _open_for_reading(_: Sequence[DiskReader]) -> None:
    Path("/etc/passwd").read_text()


def _open_for_writing(_: Sequence[DiskReader]) -> None:
    Path("/tmp/p2v-test-must-not-appear").write_text("x")


def _make_socket(_: Sequence[DiskReader]) -> None:
    socket.socket(socket.AF_UNIX)


def _fork(_: Sequence[DiskReader]) -> None:
    if os.fork() == 0:
        os._exit(0)


def _thread(_: Sequence[DiskReader]) -> None:
    thread = threading.Thread(target=time.sleep, args=(0,))
    thread.start()


def _exec(_: Sequence[DiskReader]) -> None:
    os.execv("/bin/true", ["true"])


def _start_program(_: Sequence[DiskReader]) -> None:
    subprocess.run(["/bin/true"], check=True)


def _kill_parent(_: Sequence[DiskReader]) -> None:
    os.kill(os.getppid(), signal.SIGKILL)


def _become_root(_: Sequence[DiskReader]) -> None:
    os.setuid(0)


def _write_to_the_disk(readers: Sequence[DiskReader]) -> None:
    for name in range(3, 200):
        try:
            os.pwrite(name, b"x", 0)
        except OSError:
            continue
        raise AssertionError("written")
    raise PermissionError("nothing can be written to")


FORBIDDEN = [
    _open_for_reading, _open_for_writing, _make_socket, _fork, _thread, _exec, _start_program, _kill_parent,
    _become_root, _write_to_the_disk,
]  # fmt: skip


@pytest.mark.parametrize("action", FORBIDDEN)
def test_child_cannot(reader: RawReader, action: Callable[[Sequence[DiskReader]], None]) -> None:
    with pytest.raises(ReaderCrashed) as caught:
        confined(action, [reader])
    assert "PermissionError" in caught.value.how or "RuntimeError" in caught.value.how
    assert not Path("/tmp/p2v-test-must-not-appear").exists()


@pytest.mark.parametrize("action", FORBIDDEN)
@pytest.mark.skipif(os.geteuid() != 0, reason="without root and without seccomp setuid(0) is all that is refused")
def test_child_cannot_even_where_there_is_no_seccomp(
    reader: RawReader, action: Callable[[Sequence[DiskReader]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "filter_system_calls", lambda libc: False)
    # a program that was started could not even load its C library
    with pytest.raises(ReaderCrashed):
        confined(action, [reader])
    assert not Path("/tmp/p2v-test-must-not-appear").exists()


def test_child_keeps_only_the_readers_descriptors(reader: RawReader, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w+b") as secret:
        secret.write(b"secret")
        secret.flush()

        def peek(_: Sequence[DiskReader]) -> Any:
            return os.pread(secret.fileno(), 6, 0).decode()

        with pytest.raises(ReaderCrashed) as caught:
            confined(peek, [reader])
        assert "Bad file descriptor" in caught.value.how


def _spin(_: Sequence[DiskReader]) -> None:
    while True:
        pass


@pytest.mark.parametrize(
    ("action", "limits", "how"),
    [
        (lambda _: ctypes.string_at(0), Limits(), "crashed with SIGSEGV"),
        (lambda _: os.kill(os.getpid(), signal.SIGSEGV), Limits(), "crashed with SIGSEGV"),
        (lambda _: os.abort(), Limits(), "crashed with SIGABRT"),
        (lambda _: time.sleep(60), Limits(seconds=0.3), "took longer than 0.3 s"),
        (_spin, Limits(cpu_seconds=1, seconds=600.0), "took more than 1 s of processor time"),
        (lambda _: len(take(1 << 30)), Limits(memory_bytes=256 * MIB), f"used more than {256 * MIB} bytes of memory"),
        (lambda _: "x" * MIB, Limits(result_bytes=64 * 1024), "gave more than 65536 bytes of results"),
        (lambda _: dict[str, int]()["key"], Limits(), "failed: KeyError"),
        (lambda _: os._exit(0), Limits(), "ended without a result"),
    ],
    ids=["segfault", "raised-segfault", "abort", "hang", "spin", "memory", "flood", "bug", "silent"],
)  # fmt: skip
def test_end_of_the_child_is_an_error_that_says_how(
    reader: RawReader, action: Callable[[Sequence[DiskReader]], Any], limits: Limits, how: str
) -> None:
    with pytest.raises(ReaderCrashed) as caught:
        confined(action, [reader], limits=limits)
    assert caught.value.how.startswith(how)
    assert caught.value.disk == str(reader.files[0])


def test_what_its_parent_throws_away_gives_the_child_no_room(reader: RawReader) -> None:
    def thrown_away() -> int:
        garbage: list[object] = [take(300 * MIB)]
        garbage.append(garbage)
        return len(garbage)

    gc.disable()
    try:
        thrown_away()
        with pytest.raises(ReaderCrashed, match="bytes of memory"):
            confined(lambda _: gc.collect() + len(take(200 * MIB)), [reader], limits=Limits(memory_bytes=64 * MIB))
    finally:
        gc.enable()
        gc.collect()


def test_limits_leave_no_child_behind(reader: RawReader) -> None:
    before = _children()
    with pytest.raises(ReaderCrashed):
        confined(lambda _: time.sleep(60), [reader], limits=Limits(seconds=0.2))
    assert not _children() - before


def _children() -> set[str]:
    """Of this process, zombies among them; others than this test's may come to their end meanwhile."""
    found = set[str]()
    for each in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that another test left may end meanwhile
            found |= set((each / "children").read_text().split())
    return found


def test_known_errors_come_back_as_themselves(reader: RawReader) -> None:
    def fail(_: Sequence[DiskReader]) -> None:
        raise BadImage(Path("/some/disk.vmdk"), "grain 5 is outside", "advice")

    with pytest.raises(BadImage) as caught:
        confined(fail, [reader])
    assert (caught.value.file, caught.value.problem, caught.value.advice) == (
        Path("/some/disk.vmdk"),
        "grain 5 is outside",
        "advice",
    )


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error": "os", "fields": {}}',
        b'{"error": "P2vError.__subclasses__", "fields": {}}',
        b'{"error": "BadImage", "fields": {"file": 5}}',
        b'{"error": "BadImage", "fields": {"file": "a", "problem": "b", "advice": "c", "more": 1}}',
        b"[" * 100_000,
        b"9" * 100_000,
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"",
    ],
)
def test_answers_of_a_child_that_was_taken_over_are_not_believed(
    reader: RawReader, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_answer", lambda work: answer)
    with pytest.raises(ReaderCrashed):
        confined(lambda _: None, [reader])


# --- the file object -------------------------------------------------------------------------------------


def test_partition_file_reads_what_the_range_holds(reader: RawReader) -> None:
    import random

    data = Path(reader.files[0]).read_bytes()[1000:9000]
    file = PartitionFile(reader, 1000, 8000)
    assert file.get_size() == 8000
    PartitionFile._BLOCK, original = 64, PartitionFile._BLOCK
    try:
        chance = random.Random(7)
        for _ in range(500):
            at, length = chance.randrange(0, 8200), chance.choice([0, 1, 63, 64, 65, 500])
            assert file.seek(at) == at
            assert file.read(length) == data[at : at + length]
            assert file.tell() == at + len(data[at : at + length])
    finally:
        PartitionFile._BLOCK = original
    whole = PartitionFile(reader, 1000, 8000)
    whole.seek(-3, 2)
    assert whole.read() == data[-3:]


# --- the tree --------------------------------------------------------------------------------------------


def tree_of(path: Path, kind: str = "ext4") -> OfflineTree:
    reader = RawReader(path)
    return OfflineTree(open_volume(kind, reader, 0, reader.virtual_size))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the kinds that file systems store in different ways."""
    top = tmp_path_factory.mktemp("contents")
    (top / "etc/deep/er").mkdir(parents=True)
    (top / "etc/deep/er/file").write_text("deep\n")
    (top / "etc/empty").touch()
    (top / "etc/small").write_text("tiny")
    (top / "etc/secret").write_text("s")
    (top / "etc/secret").chmod(0o4640)
    (top / "mnt").mkdir()
    (top / "etc/big").write_bytes(os.urandom(5 * MIB + 123))
    with (top / "etc/sparse").open("wb") as file:
        file.write(b"A" * 5000)
        file.seek(3 * MIB + 17)
        file.write(b"B" * 3000)
        file.truncate(9 * MIB + 5)
    with (top / "etc/preallocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 300_000)
        file.seek(100_000)
        file.write(b"XX")
    (top / "many").mkdir()
    for index in range(1200):
        (top / f"many/name-{index:05d}").touch()
    for name, target in {
        "abs": "/etc/small", "rel": "etc/small", "up": "../../../etc/small", "dir": "etc/deep", "loop1": "loop2",
        "loop2": "loop1", "dangling": "nowhere", "long": "etc/" + "./" * 60 + "small", "self": "self/x",
        "etc/deep/back": "..", "slashes": "//etc//deep/",
    }.items():  # fmt: skip
        (top / name).symlink_to(target)
    (top / "ümlaut").write_text("ü")
    Path(os.fsdecode(os.fsencode(top) + b"/not-utf8-\xff")).write_text("x")
    return top


EXT_VARIANTS = {
    "ext2": ("-t", "ext2"),
    "ext3": ("-t", "ext3"),
    "ext4": (),
    "1k-blocks": ("-b", "1024"),
    "no-64bit-no-csum": ("-O", "^64bit,^metadata_csum"),
    "meta_bg": ("-O", "meta_bg,^resize_inode"),
    "csum_seed": ("-O", "metadata_csum_seed"),
    "small-inodes": ("-I", "128"),
    "ea_inode": ("-O", "ea_inode"),
    "casefold": ("-O", "casefold"),
    "orphan_file": ("-O", "orphan_file"),
    "bigalloc": ("-O", "bigalloc"),
}


@pytest.mark.parametrize("variant", EXT_VARIANTS)
def test_ext_contents_are_what_was_written(tmp_path: Path, folder: Path, variant: str) -> None:
    tree = tree_of(make_ext(tmp_path / "fs", 96 * MIB, folder, *EXT_VARIANTS[variant]))
    for name in ("deep/er/file", "empty", "small", "secret", "big", "sparse", "preallocated"):
        assert tree.read(f"/etc/{name}", 64 * MIB) == (folder / "etc" / name).read_bytes(), name
    assert tree.list("/many") == tuple(sorted(os.listdir(folder / "many")))
    assert tree.read("/long") == b"tiny"


def test_inline_data_is_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/small").write_text("held in the inode")
    path = make_ext(tmp_path / "fs", 64 * MIB, tmp_path / "in", "-O", "inline_data")
    run("debugfs", "-R", f"dump /small {tmp_path}/out", path)
    # debugfs pads what it dumps to the room in the inode
    assert (tmp_path / "out").read_bytes().rstrip(b"\0") == b"held in the inode"
    assert tree_of(path).read("/small") == b"held in the inode"


@pytest.fixture(scope="module")
def tree(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> GuestTree:
    return tree_of(make_ext(tmp_path_factory.mktemp("tree") / "fs", 96 * MIB, folder))


@pytest.mark.parametrize("path", ["/abs", "/rel", "/up", "/dir/../small", "/etc/deep/back/small", "//etc/./small"])
def test_links_are_followed_inside_the_guest(tree: GuestTree, path: str) -> None:
    assert tree.exists(path)
    assert tree.read(path) == b"tiny"


@pytest.mark.parametrize(
    "path", ["/loop1", "/dangling", "/self", "/etc/small/x", "/rel/x", "/nowhere/x", "/../x", "/\udcff", "/a\0b"]
)
def test_what_leads_nowhere_is_not_there(tree: GuestTree, path: str) -> None:
    assert not tree.exists(path)
    assert tree.list(path) == ()
    with pytest.raises(FileNotFoundError):
        tree.read(path)


def test_lstat_and_readlink_tell_about_the_path_itself(tree: GuestTree) -> None:
    assert tree.lstat("/loop1").type is FileType.SYMLINK
    assert tree.readlink("/dir") == "etc/deep"
    assert tree.readlink("/dir/back") == ".."
    with pytest.raises(FileNotFoundError):
        tree.readlink("/etc/small")
    with pytest.raises(FileNotFoundError):
        tree.lstat("/nowhere")
    secret = tree.lstat("/etc/secret")
    assert (secret.type, secret.size, secret.mode) == (FileType.FILE, 1, 0o4640)
    assert tree.lstat("/etc").type is FileType.DIRECTORY
    assert tree.lstat("/").type is FileType.DIRECTORY


def test_list_leaves_out_names_that_are_not_utf8(tree: GuestTree) -> None:
    names = tree.list("/")
    assert "ümlaut" in names
    assert {"etc", "abs", "loop1"} <= set(names)
    assert not any(name.startswith("not-utf8") for name in names)
    assert isinstance(tree, OfflineTree)
    assert any("not UTF-8" in problem for problem in tree.problems)


def test_read_keeps_to_its_limit(tree: GuestTree, folder: Path) -> None:
    with pytest.raises(ValueError, match="at most"):
        tree.read("/etc/big", 5 * MIB)
    data = (folder / "etc/big").read_bytes()
    assert tree.read_range("/etc/big", 1000, 4 * MIB + 77) == data[4 * MIB + 77 : 4 * MIB + 1077]
    assert tree.read_range("/etc/big", 1000, len(data) - 10) == data[-10:]
    assert tree.read_range("/etc/big", 1000, len(data) + 10) == b""


def test_mounted_volume_hides_what_is_below_it(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "other/sub").mkdir(parents=True)
    (tmp_path / "other/sub/file").write_text("other")
    (tmp_path / "other/out").symlink_to("/etc/small")
    tree = tree_of(make_ext(tmp_path / "root", 96 * MIB, folder))
    reader = RawReader(make_ext(tmp_path / "fs", 16 * MIB, tmp_path / "other"))
    tree.mount("/dir", open_volume("ext4", reader, 0, reader.virtual_size))
    # through the link: a mount point is where the path leads
    assert tree.read("/etc/deep/sub/file") == b"other"
    assert tree.read("/dir/out") == b"tiny"
    assert tree.read("/dir/../small") == b"tiny"
    assert not tree.exists("/etc/deep/er")


def test_vfat_is_read_without_regard_to_case(tmp_path: Path) -> None:
    path = sized(tmp_path / "fat", 40 * MIB)
    run("mkfs.vfat", "-n", "ESP", path)
    (tmp_path / "loader").write_bytes(os.urandom(300_000))
    run("mmd", "-i", path, "::/EFI", "::/EFI/debian")
    run("mcopy", "-i", path, tmp_path / "loader", "::/EFI/debian/grubx64 with a long name.efi")
    tree = tree_of(path, "vfat")
    assert tree.list("/") == ("EFI",)
    assert tree.list("/efi/DEBIAN") == ("grubx64 with a long name.efi",)
    assert tree.read("/EFI/debian/GRUBX64 with a long name.efi") == (tmp_path / "loader").read_bytes()
    assert not tree.exists("/EFI\\debian")


def test_xfs_contents_are_what_was_written(tmp_path: Path, folder: Path) -> None:
    proto = tmp_path / "proto"
    proto.write_text(
        f"/\n0 0\nd--755 0 0\netc d--755 0 0\nsmall ---640 3 4 {folder}/etc/small\n"
        f"big ---644 0 0 {folder}/etc/big\nlink l--777 0 0 small\n$\n$\n"
    )
    path = tmp_path / "xfs"
    run("mkfs.xfs", "-q", "-p", proto, "-d", f"file,name={path},size=320m")
    tree = tree_of(path, "xfs")
    assert tree.list("/etc") == ("big", "link", "small")
    assert tree.read("/etc/link") == b"tiny"
    assert tree.read("/etc/big", 64 * MIB) == (folder / "etc/big").read_bytes()
    small = tree.lstat("/etc/small")
    assert (small.mode, small.uid, small.gid) == (0o640, 3, 4)


def test_noise_is_refused_and_damage_is_not_there(tmp_path: Path, folder: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(os.urandom(MIB))
    reader = RawReader(noise)
    for kind in ("ext4", "xfs", "vfat", "btrfs"):
        with pytest.raises(UnreadableVolume):
            open_volume(kind, reader, 0, MIB)
    path = make_ext(tmp_path / "fs", 96 * MIB, folder, "-b", "4096")
    # the block of a directory
    block = int(run("debugfs", "-R", "blocks /etc", path).split()[0])
    with path.open("r+b") as file:
        file.seek(block * 4096)
        file.write(os.urandom(4096))
    tree = tree_of(path)
    assert not tree.exists("/etc/small")
    tree.list("/etc")
    assert tree.problems
