"""The qemu-img wrapper: named formats, literal names, answers that are checked."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from converters.qemu_img import CheckResult, NbdUri, QemuImg
from p2v.core.errors import BadImage, ProgramFailed, Usage
from p2v.core.run import Completed, SystemRunner
from p2v.core.units import KIB, MIB
from p2v.core.unix_sockets import listens
from tests.loop_devices import NEEDS_LOOP_DEVICES, loop_device

QEMU = QemuImg(SystemRunner())
ODD_NAMES = pytest.mark.parametrize(
    "name", ["nbd:foo", "-x", "json:{}", "a,b=c", "file:x", "with space", "\u00fc", 'quote"back\\slash', "a:b", "%d"]
)


@dataclass
class FakeRunner:
    """Answers every program with the same output."""

    stdout: str
    exit_status: int = 0
    calls: list[Sequence[str]] = field(default_factory=list)

    def run(self, argv: Sequence[str], *, accept: Sequence[int] = (0,), **options: Any) -> Completed:
        self.calls.append(argv)
        if self.exit_status not in accept:
            raise ProgramFailed(argv[0], self.exit_status, "")
        return Completed(self.stdout, "", 0.0, self.exit_status)


def write(image: Path, image_format: str, *steps: str) -> None:
    """Run qemu-io commands on an image."""
    commands = [word for step in steps for word in ("-c", step)]
    SystemRunner().run(["qemu-io", "-f", image_format, *commands, str(image)], timeout=60)


@ODD_NAMES
def test_a_name_means_the_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    base, overlay = Path(name), Path(name + ".overlay")
    QEMU.create(base, "qcow2", 8 * MIB)
    QEMU.create_overlay(overlay, base, "qcow2", 8 * MIB)
    write(tmp_path / overlay, "qcow2", "write -P 1 1M 64k")
    assert QEMU.info(base, "qcow2").virtual_size == 8 * MIB
    assert QEMU.info(overlay, "qcow2").backing == str(tmp_path / name)
    assert QEMU.changed_ranges(overlay) == ((MIB, 64 * KIB),)
    assert not QEMU.compare(base, "qcow2", overlay, "qcow2")
    QEMU.commit(overlay, base, "qcow2")
    assert QEMU.check(base, "qcow2").clean
    QEMU.convert(base, "qcow2", Path(name + ".raw"), "raw")
    assert QEMU.compare(overlay, "qcow2", Path(name + ".raw"), "raw")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, name + ".overlay", name + ".raw"])


def test_a_raw_disk_with_a_qcow2_header_stays_raw(tmp_path: Path) -> None:
    QEMU.create(tmp_path / "hostile", "qcow2", 100 * MIB)
    size = MIB
    os.truncate(tmp_path / "hostile", size)
    assert QEMU.info(tmp_path / "hostile", "raw").virtual_size == size
    QEMU.create_overlay(tmp_path / "overlay", tmp_path / "hostile", "raw", size)
    QEMU.convert(tmp_path / "overlay", "qcow2", tmp_path / "copy", "raw")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "hostile").read_bytes()


def test_every_call_names_its_formats(tmp_path: Path) -> None:
    runner = FakeRunner(json.dumps({"format": "raw", "virtual-size": 512}))
    fake = QemuImg(runner)
    fake.info(tmp_path, "raw")
    fake.check(tmp_path, "raw")
    fake.create(tmp_path, "raw", 512)
    fake.convert(tmp_path, "raw", tmp_path, "raw")
    fake.compare(tmp_path, "raw", tmp_path, "raw")
    assert all("-f" in call for call in runner.calls)
    assert all("-O" in call for call in runner.calls if "convert" in call)
    assert all("-F" in call for call in runner.calls if "compare" in call)


def test_changed_ranges_are_data_and_explicit_zeroes_of_the_top_layer(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base", tmp_path / "overlay"
    QEMU.create(base, "qcow2", 16 * MIB)
    write(base, "qcow2", "write -P 7 0 16M")
    QEMU.create_overlay(overlay, base, "qcow2", 16 * MIB)
    write(overlay, "qcow2", "write -P 1 1M 100k", "write -z -u 3M 128k", "write -P 2 3200k 64k")
    # Clusters of the overlay: 100 KiB of data are two of them; zeroes beside data are one range.
    assert QEMU.changed_ranges(overlay) == ((MIB, 128 * KIB), (3 * MIB, 192 * KIB))


def test_changed_ranges_do_not_need_the_backing_file(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base", tmp_path / "overlay"
    QEMU.create(base, "qcow2", MIB)
    QEMU.create_overlay(overlay, base, "qcow2", MIB)
    base.unlink()
    assert QEMU.changed_ranges(overlay) == ()


def test_an_overlay_has_the_size_it_was_asked_for(tmp_path: Path) -> None:
    QEMU.create(tmp_path / "base", "raw", 1000)
    QEMU.create_overlay(tmp_path / "overlay", tmp_path / "base", "raw", 1000)
    assert QEMU.info(tmp_path / "overlay", "qcow2").virtual_size == 1024


def test_an_overlay_over_a_server_is_made_and_pointed_elsewhere(tmp_path: Path) -> None:
    overlay, target = tmp_path / "overlay", tmp_path / "target"
    target.write_bytes(bytes(MIB))
    with nbd_server(target, tmp_path / "socket") as uri:
        QEMU.create_overlay(overlay, uri, "raw", MIB)
        assert QEMU.info(overlay, "qcow2").backing == uri.uri
    QEMU.rebase_unsafe(overlay, target, "raw")
    assert QEMU.info(overlay, "qcow2").backing == str(target)
    assert QEMU.info(overlay, "qcow2").backing_format == "raw"


def nbd_server(image: Path, address: Path) -> NbdServer:
    """A server for ``image``."""
    return NbdServer(image, address)


@dataclass
class NbdServer:
    """qemu-nbd on a unix socket."""

    image: Path
    address: Path

    def __enter__(self) -> NbdUri:
        argv = ["qemu-nbd", "-t", "-f", "raw", "-r", "-k", str(self.address), str(self.image)]
        self._process = subprocess.Popen(argv)
        end = time.monotonic() + 120
        while not listens(self.address) and self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        return NbdUri(f"nbd+unix:///?socket={self.address}")

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.wait()


def test_rebasing_to_another_size_is_refused(tmp_path: Path) -> None:
    QEMU.create(tmp_path / "base", "raw", 2 * MIB)
    QEMU.create(tmp_path / "shorter", "raw", MIB)
    QEMU.create_overlay(tmp_path / "overlay", tmp_path / "base", "raw", 2 * MIB)
    with pytest.raises(BadImage):
        QEMU.rebase_unsafe(tmp_path / "overlay", tmp_path / "shorter", "raw")


def test_a_commit_never_makes_the_target_longer(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base", tmp_path / "overlay"
    QEMU.create(base, "raw", 2 * MIB)
    QEMU.create_overlay(overlay, base, "raw", 3 * MIB)
    with pytest.raises(BadImage):
        QEMU.commit(overlay, base, "raw")
    assert base.stat().st_size == 2 * MIB


def test_a_commit_into_another_file_than_the_backing_file_is_refused(tmp_path: Path) -> None:
    QEMU.create(tmp_path / "base", "raw", MIB)
    QEMU.create(tmp_path / "other", "raw", MIB)
    QEMU.create_overlay(tmp_path / "overlay", tmp_path / "base", "raw", MIB)
    with pytest.raises(BadImage):
        QEMU.commit(tmp_path / "overlay", tmp_path / "other", "raw")
    with pytest.raises(BadImage):
        QEMU.commit(tmp_path / "overlay", tmp_path / "base", "qcow2")


def test_a_commit_keeps_the_overlay(tmp_path: Path) -> None:
    base, overlay = tmp_path / "base", tmp_path / "overlay"
    QEMU.create(base, "raw", MIB)
    QEMU.create_overlay(overlay, base, "raw", MIB)
    write(overlay, "qcow2", "write -P 1 0 64k")
    QEMU.commit(overlay, base, "raw")
    assert QEMU.changed_ranges(overlay) == ((0, 64 * KIB),)
    assert base.read_bytes()[: 64 * KIB] == b"\1" * 64 * KIB


def test_comparing_tells_contents_and_sizes_apart(tmp_path: Path) -> None:
    for name, data in {
        "a": bytes(MIB),
        "b": bytes(MIB),
        "c": bytes(MIB - 512) + b"x" * 512,
        "d": bytes(2 * MIB),
    }.items():
        (tmp_path / name).write_bytes(data)
    assert QEMU.compare(tmp_path / "a", "raw", tmp_path / "b", "raw")
    assert not QEMU.compare(tmp_path / "a", "raw", tmp_path / "c", "raw")
    assert not QEMU.compare(tmp_path / "a", "raw", tmp_path / "d", "raw")


def test_comparing_something_that_is_no_image_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MIB))
    with pytest.raises(ProgramFailed):
        QEMU.compare(tmp_path / "a", "raw", tmp_path / "a", "qcow2")


def test_damage_is_an_answer(tmp_path: Path) -> None:
    image = tmp_path / "image"
    QEMU.create(image, "qcow2", 8 * MIB)
    write(image, "qcow2", "write 0 1M")
    assert QEMU.check(image, "qcow2") == CheckResult(0, 0, 0)
    with image.open("r+b") as file:
        file.seek(0x20000)  # the first refcount block of an image qemu-img made: every cluster free
        file.write(bytes(200))
    result = QEMU.check(image, "qcow2")
    assert result.corruptions > 0
    assert not result.clean


def test_leaks_are_told_from_damage(tmp_path: Path) -> None:
    image = tmp_path / "image"
    QEMU.create(image, "qcow2", 8 * MIB)
    with image.open("r+b") as file:
        file.seek(0x20000 + 2 * 20)
        file.write(b"\0\1")
        file.truncate(65536 * 30)
    result = QEMU.check(image, "qcow2")
    assert (result.corruptions, result.leaks > 0, result.clean) == (0, True, False)


def test_a_format_without_check_says_so(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(MIB))
    result = QEMU.check(tmp_path / "a", "raw")
    assert not result.supported
    assert not result.clean


@pytest.mark.parametrize("out", ["", "nonsense", "[]", "{}", '{"format": "raw"}', '{"format":"raw","virtual-size":-1}'])
def test_an_info_that_makes_no_sense_is_a_failure_of_the_program(out: str) -> None:
    with pytest.raises(ProgramFailed):
        QemuImg(FakeRunner(out)).info(Path("x"), "raw")


def test_an_info_of_another_format_is_a_failure() -> None:
    with pytest.raises(ProgramFailed):
        QemuImg(FakeRunner('{"format": "qcow2", "virtual-size": 512}')).info(Path("x"), "raw")


@pytest.mark.parametrize(
    "entries",
    [
        [{"start": 512, "length": 512, "present": True}],
        [{"start": 0, "length": 0, "present": True}],
        [{"start": 0, "length": 512}],
        [{"start": 0, "length": 512, "present": False}, {"start": 1024, "length": 512, "present": True}],
    ],
)
def test_a_map_with_gaps_is_refused(entries: list[dict[str, object]]) -> None:
    with pytest.raises(BadImage):
        QemuImg(FakeRunner(json.dumps(entries))).changed_ranges(Path("x"))


@pytest.mark.parametrize("out", ["", "{}", "[1]"])
def test_a_map_that_is_none_is_a_failure_of_the_program(out: str) -> None:
    with pytest.raises(ProgramFailed):
        QemuImg(FakeRunner(out)).changed_ranges(Path("x"))


@pytest.mark.parametrize("uri", ["/etc/passwd", "file:/etc/passwd", "nbd:localhost:1", "json:{}", ""])
def test_only_nbd_uris_are_nbd_uris(uri: str) -> None:
    with pytest.raises(Usage):
        NbdUri(uri)


@NEEDS_LOOP_DEVICES
def test_a_commit_goes_into_a_device_that_is_ours_and_may_be_larger(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay"
    QEMU.create(tmp_path / "base", "raw", 8 * MIB)
    QEMU.create_overlay(overlay, tmp_path / "base", "raw", 8 * MIB)
    write(overlay, "qcow2", "write -P 7 1M 64k", "write -z 2M 1M")
    with loop_device(tmp_path / "file", 12 * MIB, fill=b"\xff") as path:
        handle = os.open(path, os.O_RDWR | os.O_EXCL)
        try:
            QEMU.rebase_unsafe(overlay, path, "raw")
            QEMU.commit(overlay, path, "raw")
            # as our own reads see it, in the same cache
            assert os.pread(handle, 64 * KIB, MIB) == b"\x07" * 64 * KIB
            assert os.pread(handle, MIB, 2 * MIB) == bytes(MIB)
            assert os.pread(handle, 4, 8 * MIB) == b"\xff" * 4
        finally:
            os.close(handle)
    with loop_device(tmp_path / "small", 7 * MIB) as path:
        with pytest.raises(BadImage):
            QEMU.rebase_unsafe(overlay, path, "raw")
