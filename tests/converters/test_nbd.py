"""A disk that nbdkit serves through our reader is that disk, and its server never outlives us."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from converters import nbd
from converters.allocation.left_out import LeftOut, LeftOutRange
from converters.image import open_disk
from converters.nbd import NbdExport, serve
from converters.references import DiskSpec
from p2v.core.errors import ProgramFailed
from p2v.core.workspace import socket_folder
from tests.converters.images import VARIANTS, Variant
from tests.processes import is_running

PEAK_KIB = 300 * 1024
CHECKOUT = Path(nbd.__file__).parent.parent

SERVE_UNTIL_KILLED = """
import sys, time
from pathlib import Path
from converters.nbd import serve
from converters.references import DiskSpec
with serve(DiskSpec(Path(sys.argv[1]), "raw"), Path(sys.argv[2])) as export:
    print(export.program.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def sockets() -> Iterator[Path]:
    with socket_folder() as folder:
        yield folder


def is_gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def read_all(uri: str, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["nbdcopy", uri, str(target)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_every_variant_is_served_byte_for_byte(
    variant: Variant, images: dict[str, Path], content: bytes, sockets: Path, tmp_path: Path
) -> None:
    with serve(DiskSpec(images[variant.name], None if variant.format != "raw" else "raw"), sockets) as export:
        copied = read_all(export.uri, tmp_path / "copy")
        peak_kib = int(Path(f"/proc/{export.program.process.pid}/status").read_text().split("VmHWM:")[1].split()[0])
    assert copied.returncode == 0, copied.stderr
    # some formats round the size up
    assert (tmp_path / "copy").read_bytes()[: len(content)] == content
    assert peak_kib < PEAK_KIB


def test_what_is_left_out_is_served_as_holes(sockets: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"\xaa" * (4 << 20))
    left_out = LeftOut([LeftOutRange(0, 65536, "x"), LeftOutRange((1 << 20) + 512, 1 << 20, "x")])
    with serve(DiskSpec(disk, "raw"), sockets, left_out) as export:
        copied = read_all(export.uri, tmp_path / "copy")
        told = subprocess.run(["nbdinfo", "--map", export.uri], capture_output=True, text=True, check=True).stdout
    assert copied.returncode == 0, copied.stderr
    expected = bytearray(disk.read_bytes())
    for each in left_out:
        expected[each.offset : each.end] = bytes(each.length)
    assert (tmp_path / "copy").read_bytes() == expected
    holes = [(int(line.split()[0]), int(line.split()[1])) for line in told.splitlines() if "hole" in line]
    assert holes == [(each.offset, each.length) for each in left_out]


def test_qemu_reads_the_export_as_a_raw_disk(images: dict[str, Path], sockets: Path, tmp_path: Path) -> None:
    with serve(DiskSpec(images["raw"], "raw"), sockets) as export:
        done = subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "raw", images["raw"], export.uri],
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout


def test_the_export_cannot_be_written(images: dict[str, Path], sockets: Path, tmp_path: Path) -> None:
    before = images["raw"].read_bytes()
    zeroes = tmp_path / "zeroes"
    zeroes.write_bytes(bytes(len(before)))
    with serve(DiskSpec(images["raw"], "raw"), sockets) as export:
        written = subprocess.run(["nbdcopy", zeroes, export.uri], capture_output=True, check=False)
    assert written.returncode != 0
    assert images["raw"].read_bytes() == before


def test_several_disks_are_served_from_one_folder(images: dict[str, Path], sockets: Path, tmp_path: Path) -> None:
    with serve(DiskSpec(images["raw"], "raw"), sockets) as one, serve(DiskSpec(images["raw"], "raw"), sockets) as other:
        assert one.uri != other.uri
        assert read_all(one.uri, tmp_path / "one").returncode == read_all(other.uri, tmp_path / "other").returncode == 0


def test_a_folder_that_others_may_enter_is_refused(images: dict[str, Path], sockets: Path) -> None:
    sockets.chmod(0o755)
    with pytest.raises(ValueError, match="0700"), serve(DiskSpec(images["raw"], "raw"), sockets):
        pass


def test_a_truncated_image_is_not_served_and_the_reader_says_why(
    images: dict[str, Path], sockets: Path, tmp_path: Path
) -> None:
    vhdx = next(images[v.name] for v in VARIANTS if v.format == "vhdx")
    cut = tmp_path / "cut.vhdx"
    cut.write_bytes(vhdx.read_bytes()[: 1 << 20])
    with pytest.raises(ProgramFailed) as caught, serve(DiskSpec(cut, None), sockets):
        pass
    assert str(cut) in caught.value.sentence()
    assert caught.value.exit_status == 65


def test_an_image_that_breaks_while_it_is_read_is_an_error_for_clients_and_told_afterwards(
    images: dict[str, Path], sockets: Path, tmp_path: Path
) -> None:
    stream = next(v for v in VARIANTS if v.compressed)
    broken = tmp_path / f"broken{stream.suffix}"
    data = bytearray(images[stream.name].read_bytes())
    with open_disk(images[stream.name]) as disk:
        stored = next(e.compressed for e in disk.extents() if e.compressed is not None)
    data[stored.offset : stored.offset + stored.length] = b"\xff" * stored.length
    broken.write_bytes(data)
    with serve(DiskSpec(broken, None), sockets) as export:
        assert export.failures() == ()
        copied = read_all(export.uri, tmp_path / "copy")
        failures = export.failures()
    assert copied.returncode != 0
    assert failures
    assert str(broken) in failures[0]


def test_nothing_is_left_when_the_context_ends_by_an_error(images: dict[str, Path], sockets: Path) -> None:
    seen: list[NbdExport] = []

    def interrupted() -> None:
        with serve(DiskSpec(images["raw"], "raw"), sockets) as export:
            seen.append(export)
            assert export.program.running()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_running(seen[0].program.process.pid)
    assert not seen[0].socket.exists()


def test_nothing_is_left_when_the_process_is_killed(images: dict[str, Path], sockets: Path) -> None:
    command = [sys.executable, "-c", SERVE_UNTIL_KILLED, str(images["raw"]), str(sockets)]
    owner = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    assert owner.stdout is not None
    with owner.stdout:
        pid = int(owner.stdout.readline())
    assert is_running(pid)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert is_gone_within(pid, 120)


def test_both_sides_agree_on_how_a_failed_read_is_marked() -> None:
    plugin = ast.parse((CHECKOUT / "converters" / "nbdkit_plugin.py").read_text())
    marks = [
        node.value.value
        for node in plugin.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "READ_FAILED"
        and isinstance(node.value, ast.Constant)
    ]
    assert marks == [nbd._READ_FAILED]
