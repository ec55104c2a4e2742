"""VHD, VHDX and VMDK by qemu-img: the right size, every byte, whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converters.compare import compare_disks
from converters.foreign_target import ForeignTarget
from converters.image import open_disk
from converters.qemu_img import QemuImg
from converters.references import DiskSpec
from converters.target_formats import FOREIGN_FORMATS
from p2v.core.errors import BadImage, BadTarget, NoSpace, ProgramFailed, TargetBusy, TargetExists, Usage
from p2v.core.events import BytesDone, Event, silent
from p2v.core.run import Completed, SystemRunner
from p2v.core.units import GIB, MIB
from tests.converters.images import BY_NAME, held_by_qemu, make_image, patterned
from tests.converters.memory_disk import content
from tests.loop_devices import tmpfs
from tests.pipeline.running import kill_when, names, p2v, programs_with, sha256, started, state

VARIANTS = [(kind, variant) for kind, known in FOREIGN_FORMATS.items() for variant in known.variants]
EVERY_VARIANT = pytest.mark.parametrize("kind,variant", VARIANTS)
# 17 cylinders of QEMU's geometry would be another size: this one is between two of them
SIZE = 6 * MIB + 512


def target(folder: Path, kind: str, variant: str) -> ForeignTarget:
    final = folder / f"made{FOREIGN_FORMATS[kind].suffix}"
    return ForeignTarget(final, final.with_name(final.name + ".partial"), FOREIGN_FORMATS[kind], variant)


def make(source: Path, input_format: str, made: ForeignTarget, qemu_img: QemuImg | None = None) -> None:
    spec = DiskSpec(source, input_format)
    with open_disk(source, input_format) as disk:
        made.make(spec, disk, qemu_img or QemuImg(SystemRunner()), report=silent)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.raw"
    path.write_bytes(patterned(SIZE))
    return path


@EVERY_VARIANT
@pytest.mark.parametrize("size", [SIZE, 67108864, 3 * MIB - 512])
def test_the_disk_keeps_its_size_and_every_byte(tmp_path: Path, kind: str, variant: str, size: int) -> None:
    # QEMU alone would make 67125248 bytes of 67108864 in a VHD
    source = tmp_path / "source.raw"
    with source.open("wb") as file:
        file.write(patterned(min(size, 4 * MIB)))
        file.truncate(size)
    made = target(tmp_path, kind, variant)
    make(source, "raw", made)
    with open_disk(made.final) as disk, open_disk(source, "raw") as expected:
        assert disk.facts.format == kind
        assert disk.virtual_size == size
        assert compare_disks(expected, disk).same
    if kind != "vhd":  # which it cannot check
        assert QemuImg(SystemRunner()).check(made.final, kind).clean
    info = QemuImg(SystemRunner()).info(made.final, FOREIGN_FORMATS[kind].qemu)
    assert info.virtual_size == size
    assert stat.S_IMODE(made.final.stat().st_mode) == 0o600
    assert names(tmp_path) == {"source.raw", made.final.name}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    stretches=st.lists(st.tuples(st.booleans(), st.integers(1, 3000)), min_size=1, max_size=8),
    chosen=st.sampled_from(VARIANTS),
    seed=st.integers(0, 99),
)
def test_any_disk_is_what_qemu_reads_of_it(
    tmp_path_factory: pytest.TempPathFactory, stretches: list[tuple[bool, int]], chosen: tuple[str, str], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    source = folder / "source.raw"
    parts = [content(count * 512, seed + at) if data else bytes(count * 512) for at, (data, count) in enumerate(stretches)]
    source.write_bytes(b"".join(parts))
    made = target(folder, *chosen)
    make(source, "raw", made)
    assert QemuImg(SystemRunner()).compare(source, "raw", made.final, made.format.qemu)


@pytest.mark.parametrize("image", ["vmdk-stream", "vhdx-dynamic", "qcow2-zstd"])
def test_any_image_that_we_read_can_be_the_source(tmp_path: Path, image: str) -> None:
    source = make_image(tmp_path / "given", BY_NAME[image], patterned(SIZE))
    before = state(source)
    made = target(tmp_path, "vhd", "dynamic")
    make(source, BY_NAME[image].format, made)
    with open_disk(made.final) as disk, open_disk(source) as expected:
        assert compare_disks(expected, disk).same
    assert state(source) == before


def test_a_stream_optimized_one_is_compressed(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(content(8 * MIB, 1))
    made = target(tmp_path, "vmdk", "streamOptimized")
    make(source, "raw", made)
    assert made.final.stat().st_size < 5 * MIB
    with open_disk(made.final) as disk:
        assert any(extent.compressed is not None for extent in disk.extents())


@dataclass
class Meddling:
    """A runner that does something to the image when qemu-img is done with it."""

    meddle: Callable[[Path], None]
    argvs: list[list[str]] = field(default_factory=list)

    def run(self, argv: Any, **options: Any) -> Completed:
        done = SystemRunner().run(argv, **options)
        self.argvs.append(list(argv))
        self.meddle(Path(argv[-1]))
        return done


def test_an_image_that_differs_in_one_byte_is_not_published(tmp_path: Path, source: Path) -> None:
    def flip(image: Path) -> None:
        with image.open("r+b") as file:
            file.seek(SIZE - 3)
            byte = file.read(1)
            file.seek(SIZE - 3)
            file.write(bytes([byte[0] ^ 1]))

    with pytest.raises(BadTarget, match=f"first at byte {SIZE - 3}"):
        make(source, "raw", target(tmp_path, "vhd", "fixed"), QemuImg(Meddling(flip)))
    assert names(tmp_path) == {"source.raw"}


def test_a_disk_of_another_size_is_not_published(tmp_path: Path, source: Path) -> None:
    def grow(image: Path) -> None:
        subprocess.run(["qemu-img", "resize", "-q", "-f", "vmdk", image, "+1M"], check=False)
        QemuImg(SystemRunner()).create(image, "vmdk", SIZE + MIB)

    with pytest.raises(BadTarget, match=str(SIZE + MIB)):
        make(source, "raw", target(tmp_path, "vmdk", "monolithicSparse"), QemuImg(Meddling(grow)))
    assert names(tmp_path) == {"source.raw"}


def test_qemu_img_never_sees_the_source(tmp_path: Path, source: Path) -> None:
    runner = Meddling(lambda image: None)
    make(source, "raw", target(tmp_path, "vhdx", "dynamic"), QemuImg(runner))
    (argv,) = runner.argvs
    assert str(source) not in " ".join(argv)
    assert argv[argv.index("-f") + 1] == "raw"
    assert argv[argv.index("-O") + 1] == "vhdx"
    assert argv[-2].startswith("nbd+unix:")


def test_progress_comes_to_the_whole_disk(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(content(64 * MIB, 1))
    told: list[Event] = []
    made = target(tmp_path, "vhd", "fixed")
    with open_disk(source, "raw") as disk:
        made.make(DiskSpec(source, "raw"), disk, QemuImg(SystemRunner()), report=told.append)
    for phase in ("copy", "compare"):
        assert sum(event.count for event in told if isinstance(event, BytesDone) and event.phase == phase) == 64 * MIB
    assert sum(isinstance(event, BytesDone) and event.phase == "copy" for event in told) > 3


def test_a_source_that_cannot_be_read_is_told_by_the_readers_own_words(tmp_path: Path) -> None:
    image = make_image(tmp_path / "given", BY_NAME["vmdk-stream"], patterned(SIZE))
    with open_disk(image) as disk:
        place = [extent.compressed for extent in disk.extents() if extent.compressed is not None][-1]
    raw = bytearray(image.read_bytes())
    raw[place.offset : place.offset + 60] = b"\xff" * 60
    image.write_bytes(raw)
    before = names(tmp_path)
    with pytest.raises(BadImage, match="damaged") as caught:
        make(image, "vmdk", target(tmp_path, "vhdx", "dynamic"))
    assert caught.value.file == image
    assert names(tmp_path) == before


def test_a_disk_too_large_for_the_format_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    with source.open("wb") as file:
        file.truncate(2041 * GIB)
    with pytest.raises(Usage, match="holds at most"):
        make(source, "raw", target(tmp_path, "vhd", "dynamic"))
    assert names(tmp_path) == {"source.raw"}


def test_a_full_file_system_is_no_space_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(content(16 * MIB, 1))
    with tmpfs(tmp_path / "small", 8 * MIB) as small:
        with pytest.raises(NoSpace):
            make(source, "raw", target(small, "vhd", "dynamic"))
        assert names(small) == set()


def test_a_quota_that_is_used_up_is_no_space(tmp_path: Path, source: Path) -> None:
    class Refusing:
        def run(self, argv: Any, **options: Any) -> Completed:
            raise ProgramFailed("qemu-img", 1, f"qemu-img: error while writing: {os.strerror(errno.EDQUOT)}")

    with pytest.raises(NoSpace):
        make(source, "raw", target(tmp_path, "vhd", "dynamic"), QemuImg(Refusing()))
    assert names(tmp_path) == {"source.raw"}


def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path: Path, source: Path) -> None:
    made = target(tmp_path, "vhd", "dynamic")

    def take_the_name(image: Path) -> None:
        made.final.write_text("mine")

    with pytest.raises(TargetExists):
        make(source, "raw", made, QemuImg(Meddling(take_the_name)))
    assert made.final.read_text() == "mine"
    assert names(tmp_path) == {"source.raw", made.final.name}


def test_what_a_killed_run_left_is_overwritten_unless_qemu_has_it_open(tmp_path: Path, source: Path) -> None:
    made = target(tmp_path, "vmdk", "monolithicSparse")
    QemuImg(SystemRunner()).create(made.partial, "vmdk", 900 * MIB)
    with held_by_qemu(made.partial, "vmdk"), pytest.raises(TargetBusy):
        make(source, "raw", made)
    assert made.partial.exists()
    make(source, "raw", made)
    assert names(tmp_path) == {"source.raw", made.final.name}


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(tmp_path: Path, sig: signal.Signals) -> None:
    source, final = tmp_path / "source.raw", tmp_path / "made.vhdx"
    source.write_bytes(content(150 * MIB, 1))
    words = ("disk", "convert", source, final, "--input-format", "raw")
    assert kill_when(words, started("copy"), sig)
    assert names(tmp_path) <= {"source.raw", "made.vhdx"}
    assert programs_with(str(tmp_path)) == []


def test_after_a_kill_the_same_command_begins_anew(tmp_path: Path) -> None:
    source, final = tmp_path / "source.raw", tmp_path / "made.vmdk"
    source.write_bytes(content(150 * MIB, 1))
    words = ("disk", "convert", source, final, "--input-format", "raw")
    before = sha256(source)
    assert kill_when(words, started("copy"), signal.SIGKILL)
    assert "made.vmdk" not in names(tmp_path)
    assert programs_with(str(tmp_path)) == []
    ran = p2v(*words, "--progress", "none")
    assert ran.status == 0, ran.err
    assert names(tmp_path) == {"source.raw", "made.vmdk"}
    assert p2v("disk", "compare", source, final, "--input-format", "raw", "--progress", "none").status == 0
    assert sha256(source) == before


def test_what_qemu_img_says_comes_through(tmp_path: Path, source: Path) -> None:
    class Refusing:
        def run(self, argv: Any, **options: Any) -> Completed:
            raise ProgramFailed("qemu-img", 1, "qemu-img: something else")

    with pytest.raises(ProgramFailed, match="something else"):
        make(source, "raw", target(tmp_path, "vhd", "dynamic"), QemuImg(Refusing()))
    assert names(tmp_path) == {"source.raw"}
