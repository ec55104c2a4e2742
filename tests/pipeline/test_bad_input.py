"""What cannot be converted gets one clear sentence, a hint, the documented exit code, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from converters.image import open_disk
from p2v.core.units import MIB
from tests.fixtures import guest, layout, packed
from tests.loop_devices import tmpfs
from tests.other_users import let_others_through
from tests.pipeline.running import names, p2v, programs_with, typed


def _text(folder: Path) -> Path:
    path = folder / "in.vmdk"
    path.write_text("this is a letter, not a disk\n" * 100)
    return path


def _empty(folder: Path) -> Path:
    path = folder / "in.raw"
    path.touch()
    return path


def _truncated(folder: Path) -> Path:
    path = folder / "in.vmdk"
    data = packed("vmware", "vmdk-sparse").read_bytes()[: 40 << 20]
    path.write_bytes(data)
    return path


def _missing(folder: Path) -> Path:
    return folder / "in.vmdk"


def _folder(folder: Path) -> Path:
    path = folder / "in"
    path.mkdir()
    return path


def _fifo(folder: Path) -> Path:
    path = folder / "in"
    os.mkfifo(path)
    return path


def _backing(folder: Path) -> Path:
    path = folder / "in.qcow2"
    argv = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", str(path), "1M"]
    subprocess.run(argv, check=True)
    return path


def _raw_with_qcow2_header(folder: Path) -> Path:
    path = _backing(folder)
    renamed = path.with_suffix(".raw")
    path.rename(renamed)
    return renamed


def _descriptor(folder: Path) -> Path:
    path = folder / "in.vmdk"
    path.write_text(
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
        'RW 2048 FLAT "/etc/passwd" 0\n'
    )
    return path


def _guest(name: str) -> Callable[[Path], Path]:
    return lambda folder: guest(name)


CASES: tuple[tuple[str, Callable[[Path], Path], int], ...] = (
    ("text-file", _text, 65),
    ("empty-file", _empty, 66),
    ("missing", _missing, 66),
    ("folder", _folder, 66),
    ("fifo", _fifo, 66),
    ("truncated", _truncated, 65),
    ("qcow2-backed-by-a-host-file", _backing, 65),
    ("raw-name-with-a-qcow2-header", _raw_with_qcow2_header, 65),
    ("vmdk-extent-is-a-host-file", _descriptor, 65),
    ("zeroes", _guest("empty-disk"), 65),
    ("no-os", _guest("no-os"), 76),
    ("unknown-os", _guest("unknown-os"), 76),
)


@pytest.mark.parametrize("name,make,status", CASES, ids=[c[0] for c in CASES])
def test_bad_source(tmp_path: Path, name: str, make: Callable[[Path], Path], status: int) -> None:
    source = make(tmp_path)
    there = names(tmp_path)
    ran = typed("convert", source, "-o", tmp_path / "out", "--name", "vm", "--progress", "none")
    assert ran.status == status, ran.err
    said = ran.err.strip().splitlines()
    assert said[0].startswith("p2v: ")
    assert "Traceback" not in ran.err
    assert "root:" not in ran.err + ran.out
    assert len(said) >= 2, "a hint is missing"
    assert names(tmp_path) == there


@pytest.mark.appliance
def test_a_copy_that_fails_ends_the_rewriting_too(tmp_path: Path) -> None:
    """Damage in a file that planning never reads is met by the copy, seconds before the appliance is up."""
    source = tmp_path / "in.vmdk"
    shutil.copy(packed("vmware", "vmdk-stream"), source)
    source.chmod(0o644)
    _damage_stored_file(source, "/usr/bin/perl")
    ran = p2v("convert", source, "-o", tmp_path / "out", "--progress", "json")
    assert ran.status == 65, ran.err
    assert "compressed" in ran.err
    phases = [json.loads(line).get("phase") for line in ran.err.splitlines() if line.startswith("{")]
    assert "appliance" in phases
    assert "apply" not in phases
    assert names(tmp_path) == {"in.vmdk"}
    assert programs_with(str(tmp_path)) == []


def _damage_stored_file(stream: Path, path: str) -> None:
    """Flip bytes of the grain that holds the first block of a guest's file."""
    image = f"{guest('vmware')}?offset={layout.ROOT_OFFSET_BYTES}"
    said = subprocess.run(["debugfs", "-R", f"blocks {path}", image], check=True, capture_output=True, text=True)
    offset = layout.ROOT_OFFSET_BYTES + int(said.stdout.split()[0]) * 4096
    with open_disk(stream) as disk:
        (grain,) = (e.compressed for e in disk.extents() if e.offset <= offset < e.end)
    assert grain is not None
    with stream.open("r+b") as file:
        file.seek(grain.offset + grain.length // 2)
        file.write(b"\xff" * 16)


@pytest.mark.parametrize(
    "words",
    [
        ["--mac", "01:00:5e:00:00:01"],
        ["--mac", "nonsense"],
        ["--ip", "1:10.0.2.40"],
        ["--network", "2:user"],
        ["--memory", "lots"],
        ["--memory", "1"],
        ["--cpus", "0"],
        ["--name", "../up"],
        ["--threads", "0"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_usage_errors(tmp_path: Path, words: list[str]) -> None:
    ran = typed("convert", packed("vmware", "vmdk-sparse"), "-o", tmp_path / "out", *words)
    assert ran.status == 64, ran.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_verb_is_a_usage_error() -> None:
    assert p2v("frobnicate").status == 64
    assert p2v().status == 64


def test_no_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", 64 * MIB) as small:
        ran = p2v("convert", packed("vmware", "vmdk-sparse"), "-o", small / "out", "--progress", "none")
        assert ran.status == 73, ran.err
        assert names(small) == set()


def test_a_target_that_exists_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "vm.xml").write_text("mine")
    ran = p2v("convert", packed("vmware", "vmdk-sparse"), "-o", tmp_path, "--name", "vm", "--progress", "none")
    assert ran.status == 73, ran.err
    assert names(tmp_path) == {"vm.xml"}
    assert (tmp_path / "vm.xml").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_source_and_a_folder_without_permission(tmp_path: Path) -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    source = tmp_path / "vm.vmdk"
    source.touch(0o600)
    let_others_through(tmp_path)
    ran = p2v("inspect", source, prefix=as_nobody, env={"HOME": "/nonexistent"})
    assert ran.status == 77, ran.err
    disk = guest("vmware")
    ran = p2v("convert", disk, "-o", tmp_path / "out", prefix=as_nobody, env={"HOME": "/nonexistent"})
    assert ran.status == 77, ran.err
    assert names(tmp_path) == {"vm.vmdk"}
