"""``p2v convert``'s options about the images it makes: what they say, and what is refused before anything is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from converters.qemu_img import QemuImg
from converters.target_formats import PLAIN, Preallocation, TargetFormat, TargetOptions
from p2v.cli import layout_options
from p2v.cli.main import main
from p2v.core.disk import Codec
from p2v.core.errors import ProgramFailed, ToolMissing
from p2v.core.run import Completed, SystemRunner
from p2v.core.units import MIB


def said(*words: str, target_format: TargetFormat = TargetFormat.QCOW2) -> TargetOptions:
    parser = argparse.ArgumentParser()
    layout_options.configure(parser)
    return layout_options.layout_of(parser.parse_args(words), target_format)


def test_nothing_said_is_the_plain_layout() -> None:
    assert said() == PLAIN
    assert said("--preallocation", "off", "--cluster-size", "64K") == PLAIN
    assert said(target_format=TargetFormat.RAW) == PLAIN


def test_what_is_said_is_what_is_made() -> None:
    assert said("--compress=deflate", "--cluster-size", "2MiB") == TargetOptions(2 * MIB, compression=Codec.DEFLATE)
    assert said("--preallocation", "metadata").preallocation is Preallocation.METADATA
    assert not said("--no-reflink").shares


class Answering:
    """A qemu-img that knows zstd, or not, or is not there."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def run(self, argv: Any, **options: Any) -> Completed:
        if self.error is not None:
            raise self.error
        return Completed("", "", 0.0)


def test_the_codec_that_is_left_to_us_is_one_that_this_hosts_qemu_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, codec in (
        (None, Codec.ZSTD),
        (ProgramFailed("qemu-img", 1, "Invalid parameter 'compression_type'"), Codec.DEFLATE),
        (ToolMissing("qemu-img", "qemu-utils"), Codec.ZSTD),
    ):
        runner = Answering(error)
        monkeypatch.setattr(SystemRunner, "run", lambda self, argv, runner=runner, **options: runner.run(argv))
        assert said("--compress").compression is codec


def test_this_hosts_qemu_img_says_itself_what_it_knows() -> None:
    assert QemuImg(SystemRunner()).knows_zstd()
    assert not QemuImg(Answering(ProgramFailed("qemu-img", 1, "no"))).knows_zstd()


def test_convert_does_not_begin_what_its_own_qemu_could_not_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(QemuImg, "knows_zstd", lambda self: False)
    assert main(["convert", str(tmp_path / "nothing"), "-o", str(tmp_path / "out"), "--compress=zstd"]) == 64
    assert "--compress=deflate" in capsys.readouterr().err
    # deflate goes on to the source, which is not there
    assert main(["convert", str(tmp_path / "nothing"), "-o", str(tmp_path / "out"), "--compress=deflate"]) == 66


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "raw", "--compress=zstd"),
        ("--format", "raw", "--cluster-size", "1M"),
        ("--format", "raw", "--preallocation", "metadata"),
        ("--cluster-size", "32K"),
        ("--cluster-size", "100K"),
        ("--compress=deflate", "--preallocation", "falloc"),
        ("--compress=gzip",),
        ("--preallocation", "full"),
    ],
    ids=" ".join,
)
def test_what_has_no_meaning_is_refused_before_anything_is_read(words: tuple[str, ...], tmp_path: Path) -> None:
    try:
        status = main(["convert", str(tmp_path / "nothing"), "-o", str(tmp_path / "out"), *words])
    except SystemExit as ended:
        status = int(str(ended.code))
    assert status == 64
    assert list(tmp_path.iterdir()) == []
