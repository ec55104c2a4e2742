"""qcow 1, QED and Parallels through qemu-nbd: its process, its limits, what it is never told to open, and damage."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from converters import c_qemu, qemu_reader
from converters.copy import copy_disk
from converters.image import describe, identity, open_disk
from converters.mapped import MappedDisk
from converters.raw_writer import RawWriter
from drivers.confinement import Limits, confined
from p2v.core.errors import BadImage, P2vError, ProgramFailed, ReaderCrashed, ReadFailed, UnsupportedImage
from p2v.core.events import silent
from p2v.core.workspace import socket_folder
from tests.converters.damage import patched, truncated
from tests.converters.images import BY_NAME, KIB, MIB, make_image, patterned, qemu_img, read_by_qemu
from tests.descriptors import descriptors

CHECKOUT = Path(qemu_reader.__file__).parent.parent
FORMATS = ("qcow", "qed", "parallels")
every_format = pytest.mark.parametrize("name", FORMATS)

READ_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from converters.image import open_disk
with open_disk(Path(sys.argv[1])) as disk:
    print("open", flush=True)
    time.sleep(600)
"""


def servers(image: Path) -> list[int]:
    """The processes that have the image open, but for this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            if any(os.path.samefile(fd, image) for fd in (process / "fd").iterdir() if fd.exists()):
                found.append(int(process.name))
        except OSError:
            continue  # it ended while we looked
    return found


def gone(image: Path, seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while servers(image) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not servers(image)


@pytest.fixture(autouse=True)
def no_folder_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends without the folders its servers had."""
    made: list[Path] = []

    @contextmanager
    def recorded() -> Iterator[Path]:
        with socket_folder() as folder:
            made.append(folder)
            assert folder.stat().st_mode & 0o777 == 0o700
            yield folder

    monkeypatch.setattr(qemu_reader, "socket_folder", recorded)
    yield
    assert not any(folder.exists() for folder in made)


@pytest.fixture
def image(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_image(tmp_path / "image", BY_NAME[getattr(request, "param", "qed")], patterned(3 * MIB + 512))


@every_format
def test_the_server_ends_with_the_disk_and_leaves_nothing(name: str, images: dict[str, Path]) -> None:
    before = descriptors()
    with open_disk(images[name]) as disk:
        assert len(servers(images[name])) == 1
        disk.pread(4096, 0)
    assert not servers(images[name])
    disk.close()
    assert not descriptors() - before
    with pytest.raises(ReadFailed):
        list(disk.extents())


@every_format
def test_a_copy_by_several_threads_is_the_disk(name: str, images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    with open_disk(images[name]) as disk:
        writer = RawWriter(tmp_path / "raw", disk.virtual_size)
        copy_disk(disk, writer, report=silent, threads=3)
        writer.close()
    assert (tmp_path / "raw").read_bytes() == content


@every_format
def test_allocation_is_what_the_server_says(name: str, images: dict[str, Path], content: bytes) -> None:
    with open_disk(images[name]) as disk:
        extents = list(disk.extents())
        assert any(e.zero and not e.allocated for e in extents)
        assert all(not any(content[e.offset : e.end]) for e in extents if e.zero)
        assert all(e.stored is None for e in extents)
        assert describe(disk).allocated_size < len(content)
        assert disk.files == (images[name],)
        assert describe(disk).file_size == images[name].stat().st_size


@pytest.mark.parametrize("image", FORMATS, indirect=True)
def test_the_server_ends_after_a_failed_opening(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()

    def fail(*_: object) -> None:
        raise ReadFailed("x", "second connection")

    monkeypatch.setattr(qemu_reader, "ServedFile", fail)
    with pytest.raises(ReadFailed, match="second connection"):
        open_disk(image)
    assert not servers(image)
    assert not descriptors() - before


def test_the_server_ends_when_its_user_is_killed(image: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", READ_UNTIL_KILLED, str(image)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"open\n"
        assert len(servers(image)) == 2
        user.kill()
    assert gone(image)


def test_a_server_that_hangs_is_a_failed_read(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it is opened with the same patience
    monkeypatch.setattr(qemu_reader, "ANSWER_SECONDS", 3.0)
    with open_disk(image) as disk:
        os.kill(servers(image)[0], signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(ReadFailed, match="within 3 s"):
            disk.pread(512, 0)
        for _ in range(30):
            with pytest.raises(ReadFailed):
                disk.pread(512, 0)
            with pytest.raises(ReadFailed):
                list(disk.extents())
        # it is not waited for again, which would be three minutes
        assert time.monotonic() - started < 90
    assert not servers(image)


def test_a_server_that_dies_is_a_failed_read(image: Path) -> None:
    with open_disk(image) as disk:
        os.kill(servers(image)[0], signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(ReadFailed):
                disk.pread(512, 0)


def test_the_server_is_limited_and_can_open_nothing_more(image: Path) -> None:
    with open_disk(image) as disk:
        process = Path("/proc", str(servers(image)[0]))
        limits = {line[:26].strip(): line[26:].split()[:2] for line in (process / "limits").read_text().splitlines()}
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        numbers = sorted(int(name) for name in os.listdir(process / "fd"))
        assert disk.pread(512, 0) == patterned(3 * MIB + 512)[:512]
    assert limits["Max open files"] == [str(len(numbers))] * 2
    assert numbers == list(range(len(numbers)))
    assert limits["Max address space"] == [str(2 << 30)] * 2
    assert limits["Max file size"] == [str(64 * KIB)] * 2
    assert limits["Max core file size"] == ["0", "0"]
    assert int(limits["Max cpu time"][1]) >= 3600
    assert status["NoNewPrivs"] == "1"
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["Uid"].split() == [str(image.stat().st_uid)] * 4


def test_a_file_of_another_user_is_served_as_that_user(image: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can read for others")
    os.chown(image, 12345, 23456)
    image.chmod(0o400)
    with open_disk(image) as disk:
        status = Path("/proc", str(servers(image)[0]), "status").read_text()
        assert "Uid:\t12345\t12345\t12345\t12345" in status
        assert "Gid:\t23456\t23456\t23456\t23456" in status
        assert disk.pread(512, 0) == patterned(3 * MIB + 512)[:512]


def test_compressed_clusters_of_a_qcow_are_read(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow"
    qemu_img("create", "-q", "-f", "qcow", str(image), "64K")
    # its clusters have 4 KiB; qemu-img -c fails on contents that do not compress
    commands = ["-c", "write -c -P 5 4K 4K", "-c", "write -c -P 6 12K 4K", "-c", "write -P 7 16K 4K"]
    subprocess.run(["qemu-io", "-f", "qcow", *commands, str(image)], check=True, capture_output=True)
    with open_disk(image) as disk:
        found = disk.pread(64 * KIB, 0)
        assert disk.pread(5000, 4000) == found[4000:9000]
    assert found == read_by_qemu(image, BY_NAME["qcow"], tmp_path)
    assert [found[n * 4 * KIB] for n in range(6)] == [0, 5, 0, 6, 7, 0]


def test_a_host_that_refuses_the_limits_is_not_the_images_fault(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_reader, "limited", lambda *_: ["setpriv", "--bounding-set=-nonsense", "--", "true"])
    with pytest.raises(ProgramFailed, match="setpriv"):
        open_disk(image)


@pytest.mark.parametrize("name", ["qcow", "qed"])
def test_images_over_a_backing_file_are_refused_before_qemu_sees_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = child_of_secret(name, tmp_path)
    monkeypatch.setattr(qemu_reader, "background", None)
    with pytest.raises(UnsupportedImage, match="backing file"):
        open_disk(child)


@pytest.mark.parametrize("name", ["qcow", "qed"])
def test_qemu_follows_no_backing_file_even_when_the_header_names_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the header had changed after it was judged."""
    child = child_of_secret(name, tmp_path)
    monkeypatch.setattr(c_qemu, "unpack_qcow1", lambda _: c_qemu.Qcow1Header(0, MIB, 12, 0))
    monkeypatch.setattr(c_qemu, "unpack_qed", lambda _: c_qemu.QedHeader(64 * KIB, 0, MIB))
    with open_disk(child) as disk:
        assert disk.pread(MIB, 0) == bytes(MIB)
        assert not servers(tmp_path / "secret")


def child_of_secret(name: str, folder: Path) -> Path:
    (folder / "secret").write_bytes(b"\xeb" * MIB)
    child = folder / f"child.{name}"
    qemu_img("create", "-q", "-f", name, "-b", str(folder / "secret"), "-F", "raw", str(child), "1M")
    return child


def test_a_size_that_qemu_reads_otherwise_is_bad(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_qemu, "unpack_qed", lambda _: c_qemu.QedHeader(64 * KIB, 0, 3 * MIB))
    with pytest.raises(BadImage, match=str(3 * MIB + 512)):
        open_disk(image)
    assert not servers(image)


def test_an_encrypted_qcow_is_refused(tmp_path: Path) -> None:
    image = str(tmp_path / "x.qcow")
    words = ["-f", "qcow", "-o", "encrypt.format=aes,encrypt.key-secret=s", image, "4M"]
    qemu_img("create", "-q", "--object", "secret,id=s,data=abc", *words)
    with pytest.raises(UnsupportedImage, match="encrypted"):
        open_disk(Path(image))


def test_a_parallels_disk_with_snapshots_is_refused(images: dict[str, Path], tmp_path: Path) -> None:
    image = tmp_path / "disk.hds"
    image.write_bytes(images["parallels"].read_bytes())
    descriptor = tmp_path / "DiskDescriptor.xml"
    descriptor.write_text("<Parallels_disk_image><StorageData><Storage><Image></Image></Storage></StorageData>")
    with open_disk(image) as disk:
        assert disk.facts.format == "parallels"
    descriptor.write_text(descriptor.read_text() + "<Image></Image>")
    with pytest.raises(UnsupportedImage, match="snapshots"):
        open_disk(image)
    descriptor.unlink()
    os.mkfifo(descriptor)
    open_disk(image).close()


def test_the_older_parallels_variant_is_read(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    """QEMU writes the extended one; the older counts the map in sectors, which one cluster of a sector makes equal."""
    raw, cluster, count = patterned(64 * KIB), 4 * KIB, 16
    # header, map; the tracks are sectors of a cluster, and a map entry is the sector a cluster begins at
    header = b"WithoutFreeSpace" + b"".join(n.to_bytes(4, "little") for n in (2, 16, 4, cluster // 512, count))
    # the size has 32 bits; what follows it is undefined
    header += (len(raw) // 512).to_bytes(4, "little") + b"\xee" * 4 + bytes(4) + (cluster // 512).to_bytes(4, "little")
    places = random.Random(1).sample(range(count), count)
    table = b"".join((cluster // 512 * (place + 1)).to_bytes(4, "little") for place in places)
    stored = bytearray(len(raw))
    for number, place in enumerate(places):
        stored[place * cluster : (place + 1) * cluster] = raw[number * cluster : (number + 1) * cluster]
    image = tmp_path / "x.hdd"
    image.write_bytes((header.ljust(64, b"\0") + table).ljust(cluster, b"\0") + stored)
    with open_disk(image) as disk:
        assert "extended" not in disk.facts.variant
        assert disk.pread(len(raw), 0) == raw == read_by_qemu(image, BY_NAME["parallels"], tmp_path)


def test_images_that_were_not_closed_are_read_and_say_so(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    in_use = c_qemu.PARALLELS_IN_USE.to_bytes(4, "little")
    for name, at, sign in (("parallels", 44, in_use), ("qed", 16, bytes([c_qemu.QED_F_NEED_CHECK]))):
        with open_disk(patched(images[name], tmp_path / name, (at, sign))) as disk:
            assert disk.facts.dirty
            assert disk.pread(len(content), 0) == content
        with open_disk(images[name]) as disk:
            assert not disk.facts.dirty


@every_format
def test_damaged_and_cut_images_do_no_harm(name: str, images: dict[str, Path], tmp_path: Path) -> None:
    before = descriptors()
    noise = random.Random(3)
    sound, outcomes = images[name].read_bytes(), {"read": 0, "refused": 0}
    for number in range(40):
        image = tmp_path / "x"
        if number % 4 == 3:
            truncated(images[name], image, noise.choice((10, 40, 63, 512, 5000, len(sound) // 2)))
        else:
            table = {"qcow": 48, "qed": 65536, "parallels": 64}[name]
            at = noise.choice((8 + noise.randrange(56), table + noise.randrange(64)))
            patched(images[name], image, (at, noise.choice((b"\xff", b"\x7f\xff\xff\xff", bytes(8), noise.randbytes(2)))))
        outcomes[_outcome(image)] += 1
    assert min(outcomes.values()) > 0
    assert not descriptors() - before


def _outcome(image: Path) -> str:
    started = time.monotonic()
    try:
        with open_disk(image) as disk:
            identity(disk)
            for _, extent in zip(range(2000), disk.extents(), strict=False):
                assert len(disk.pread(min(extent.length, MIB), extent.offset)) == min(extent.length, MIB)
    except P2vError as error:
        return "refused" if error.sentence() else "unsaid"
    finally:
        assert time.monotonic() - started < 120
    return "read"


def test_an_error_the_server_reports_leaves_the_rest_readable(images: dict[str, Path], content: bytes, tmp_path: Path) -> None:
    """The first L1 entry names a table past the end; QEMU says so when it is read."""
    at = int.from_bytes(images["qed"].read_bytes()[40:48], "little")
    with open_disk(patched(images["qed"], tmp_path / "x.qed", (at, b"\1\2\3"))) as disk:
        for _ in range(2):
            with pytest.raises(BadImage, match="QEMU cannot read") as caught:
                disk.pread(512, 0)
            assert caught.value.hint()


def test_a_disk_of_64_tib_opens_and_is_walked_at_once(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qed", str(tmp_path / "x.qed"), "64T")
    started = time.monotonic()
    with open_disk(tmp_path / "x.qed") as disk:
        assert disk.pread(4096, disk.virtual_size - 4096) == bytes(4096)
        assert [(e.zero, e.length) for e in disk.extents()] == [(True, 64 << 40)]
    assert time.monotonic() - started < 120


# --- in a confined child, as guests are inspected ---


def in_child(disk: MappedDisk, length: int, offset: int) -> bytes:
    found = confined(lambda disks: disks[0].pread(length, offset).hex(), [disk], keep_fds=disk.kept_fds)
    return bytes.fromhex(found)


def test_a_confined_child_reads_through_a_connection_of_its_own(image: Path) -> None:
    raw = patterned(3 * MIB + 512)
    with open_disk(image) as disk:
        assert disk.pread(9000, 5) == raw[5:9005]
        assert in_child(disk, MIB, 1000) == raw[1000 : 1000 + MIB]
        assert disk.pread(9000, 777) == raw[777:9777]
        assert in_child(disk, 512, MIB) == raw[MIB : MIB + 512]


def test_a_child_that_died_amid_a_reply_disturbs_nobody(image: Path) -> None:
    raw = patterned(3 * MIB + 512)
    with open_disk(image) as disk:
        connection = disk.sources[0]._childs  # type: ignore[attr-defined]

        def ask_and_die(_: object) -> None:
            connection._request(0, 4096, 0)
            connection._request(0, 4096, MIB)
            time.sleep(600)

        with pytest.raises(ReaderCrashed):
            confined(ask_and_die, [disk], limits=Limits(seconds=0.3), keep_fds=disk.kept_fds)
        assert disk.pread(MIB, 0) == raw[:MIB]
        # its replies are passed over, for they have other cookies
        assert in_child(disk, 4096, 2 * MIB) == raw[2 * MIB : 2 * MIB + 4096]
