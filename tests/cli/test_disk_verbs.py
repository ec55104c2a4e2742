"""``p2v disk``: what each verb says of tiny images, how it ends, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from converters.qemu_img import QemuImg
from p2v.cli.main import main
from tests.converters.images import BY_NAME, MIB, make_image, patterned, qemu_img
from tests.pipeline.running import kill_when, names, programs_with, sha256, state

SIZE = 6 * MIB + 512


@dataclass(frozen=True)
class Ran:
    """What a run in this process printed, and how it ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def disk(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs ``p2v disk`` with some words."""

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        try:
            status = main(["disk", *map(str, words)])
        except SystemExit as ended:
            status = int(str(ended.code))
        said = capsys.readouterr()
        return Ran(status, said.out, said.err)

    return run


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.raw"
    path.write_bytes(patterned(SIZE))
    return path


@pytest.fixture
def child(base: Path) -> Path:
    path = base.parent / "child.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.name, str(path))
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 165 1M 64k", str(path)], check=True, capture_output=True)
    return path


def test_help_lists_every_verb_with_a_line(disk: Any) -> None:
    ran = disk("--help")
    assert ran.status == 0
    for verb in ("info", "map", "convert", "compare", "check", "serve"):
        assert any(line.split()[:1] == [verb] and len(line.split()) > 3 for line in ran.out.splitlines()), verb


@pytest.mark.parametrize(
    "words",
    [(), ("inspect", "x"), ("info",), ("map", "a", "b"), ("convert", "a"), ("compare", "a"), ("serve", "a"),
     ("info", "--input-format", "qcow3", "a"), ("convert", "a", "b.qcow2", "--threads", "0")],
)  # fmt: skip
def test_wrong_use_ends_with_64(disk: Any, words: tuple[str, ...]) -> None:
    assert disk(*words).status == 64


@pytest.mark.parametrize("verb", ["info", "map", "check"])
def test_a_source_that_is_not_there_ends_with_66(disk: Any, verb: str, tmp_path: Path) -> None:
    assert disk(verb, tmp_path / "nothing.vmdk").status == 66


def test_info_tells_each_image_of_the_chain_with_its_file(disk: Any, base: Path, child: Path) -> None:
    found = disk("info", child, "--json").document
    assert found["virtual_size"] == SIZE
    assert [(link["format"], link["files"]) for link in found["chain"]] == [("qcow2", [str(child)]), ("raw", [str(base)])]
    text = disk("info", child).out
    assert str(child) in text
    assert str(base) in text


def test_info_tells_creator_and_identifiers(disk: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["vhd-dynamic"], patterned(SIZE))
    found = disk("info", image, "--json").document
    assert found["creator"]
    assert [each["name"] for each in found["identifiers"]]


@pytest.mark.parametrize("name", ["qcow2-v3", "vmdk-stream", "vhdx-dynamic"])
def test_map_covers_the_disk_and_says_where_bytes_are(disk: Any, name: str, tmp_path: Path) -> None:
    content = patterned(SIZE)
    image = make_image(tmp_path / "made", BY_NAME[name], content)
    found = disk("map", image, "--json").document
    position = 0
    for extent in found["extents"]:
        assert extent["offset"] == position
        position += extent["length"]
        if extent.get("where") == "stored":
            with open(extent["file"], "rb") as file:
                file.seek(extent["file_offset"])
                expected = content[extent["offset"] : position].ljust(extent["length"], b"\0")
                assert file.read(extent["length"]) == expected
    assert position == found["virtual_size"]
    totals = found["totals"]
    assert totals["extents"] == len(found["extents"])
    assert sum(totals[kind] for kind in ("data", "compressed", "zero", "hole")) == position
    rows = disk("map", image).out.splitlines()[1:-1]
    assert len(rows) == len(found["extents"])
    assert any("compressed" in row for row in rows) == (name == "vmdk-stream")


@pytest.mark.parametrize(("name", "words"), [("copy.qcow2", ()), ("copy.img", ()), ("copy.raw", ()), ("copy", ("--format", "raw"))])
def test_convert_copies_the_whole_chain(
    disk: Any, base: Path, child: Path, tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    before = state(base), state(child)
    ran = disk("convert", child, tmp_path / name, *words, "--checksum", "--progress", "none")
    assert ran.status == 0, ran.err
    target_format = "qcow2" if name.endswith("qcow2") else "raw"
    qemu_img("compare", "-f", "qcow2", "-F", target_format, str(child), str(tmp_path / name))
    assert "p2v1-" in ran.out
    assert (state(base), state(child)) == before
    assert names(tmp_path) == {base.name, child.name, name}


def test_the_digest_is_that_of_the_disk_whatever_it_is_stored_in(disk: Any, child: Path, tmp_path: Path) -> None:
    first = disk("convert", child, tmp_path / "a.qcow2", "--checksum", "--json").document
    second = disk("convert", tmp_path / "a.qcow2", tmp_path / "b.img", "--checksum", "--json").document
    assert first["digest"] == second["digest"]


def test_convert_replaces_nothing_and_says_so_before_it_reads(disk: Any, base: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.img"
    target.write_bytes(b"mine")
    assert disk("convert", base, target, "--input-format", "raw").status == 73
    assert target.read_bytes() == b"mine"
    assert names(tmp_path) == {base.name, target.name}
    assert disk("convert", base, base).status == 73


def test_convert_needs_a_format_it_can_write(disk: Any, base: Path, tmp_path: Path) -> None:
    assert disk("convert", base, tmp_path / "copy.vdi").status == 64
    assert disk("convert", base, tmp_path / "no folder" / "copy.img").status == 66
    assert names(tmp_path) == {base.name}


@pytest.mark.parametrize("codec", ["zstd", "deflate"])
def test_convert_compresses_and_says_to_what(disk: Any, child: Path, tmp_path: Path, codec: str) -> None:
    target = tmp_path / "packed.qcow2"
    ran = disk("convert", child, target, f"--compress={codec}", "--progress", "none")
    assert ran.status == 0, ran.err
    assert f"compressed with {codec}" in ran.out
    info = json.loads(qemu_img("info", "--output=json", str(target)))["format-specific"]["data"]
    assert info["compression-type"] == {"zstd": "zstd", "deflate": "zlib"}[codec]
    qemu_img("compare", "-f", "qcow2", "-F", "qcow2", str(child), str(target))
    qemu_img("check", "-q", "-f", "qcow2", str(target))
    document = disk("convert", child, tmp_path / "again.qcow2", f"--compress={codec}", "--json").document
    assert document["compression"] == codec
    assert document["file_bytes"] < document["written_bytes"]


def test_compress_alone_is_zstd_where_qemu_knows_it(disk: Any, child: Path, tmp_path: Path, monkeypatch: Any) -> None:
    assert "compressed with zstd" in disk("convert", child, tmp_path / "new.qcow2", "--compress").out
    monkeypatch.setattr(QemuImg, "knows_zstd", lambda self: False)
    assert "compressed with deflate" in disk("convert", child, tmp_path / "old.qcow2", "--compress").out


def test_clusters_and_places_are_as_they_were_asked_for(disk: Any, child: Path, tmp_path: Path) -> None:
    target = tmp_path / "wide.qcow2"
    assert disk("convert", child, target, "--cluster-size", "1M", "--preallocation", "metadata").status == 0
    assert json.loads(qemu_img("info", "--output=json", str(target)))["cluster-size"] == MIB
    qemu_img("compare", "-f", "qcow2", "-F", "qcow2", str(child), str(target))
    reserved = tmp_path / "reserved.img"
    assert disk("convert", child, reserved, "--preallocation", "falloc").status == 0
    assert reserved.stat().st_blocks * 512 >= SIZE


@pytest.mark.parametrize(
    "name,words",
    [
        ("a.img", ["--compress"]),
        ("a.img", ["--cluster-size", "128K"]),
        ("a.img", ["--preallocation", "metadata"]),
        ("a.qcow2", ["--cluster-size", "32K"]),
        ("a.qcow2", ["--cluster-size", "96K"]),
        ("a.qcow2", ["--cluster-size", "4M"]),
        ("a.qcow2", ["--cluster-size", "much"]),
        ("a.qcow2", ["--compress", "--preallocation", "metadata"]),
        ("a.qcow2", ["--compress=lzma"]),
        ("a.qcow2", ["--subformat", "fixed"]),
        ("a.vhd", ["--subformat", "streamOptimized"]),
        ("a.vmdk", ["--subformat", "fixed"]),
        ("a.vhdx", ["--compress"]),
        ("a.vhdx", ["--no-reflink"]),
    ],
)
def test_a_layout_without_a_meaning_is_refused_before_anything_is_made(
    disk: Any, base: Path, tmp_path: Path, name: str, words: list[str]
) -> None:
    assert disk("convert", base, tmp_path / name, "--input-format", "raw", *words).status == 64
    assert names(tmp_path) == {base.name}


@pytest.mark.parametrize(
    "name,words,said",
    [
        ("a.vhd", [], "vhd dynamic"),
        ("a.vhd", ["--subformat", "fixed"], "vhd fixed"),
        ("a.vhdx", [], "vhdx dynamic"),
        ("a.vmdk", ["--subformat", "streamOptimized"], "vmdk streamOptimized"),
        ("a.disk", ["--format", "vmdk"], "vmdk monolithicSparse"),
    ],
)
def test_convert_makes_the_formats_of_others(
    disk: Any, child: Path, base: Path, tmp_path: Path, name: str, words: list[str], said: str
) -> None:
    before = state(child), state(base)
    ran = disk("convert", child, tmp_path / name, *words, "--checksum", "--progress", "none")
    assert ran.status == 0, ran.err
    assert said in ran.out
    assert disk("compare", child, tmp_path / name, "--strict").status == 0
    again = disk("convert", tmp_path / name, tmp_path / "back.qcow2", "--checksum", "--json").document
    assert again["digest"] in ran.out
    assert (state(child), state(base)) == before
    assert names(tmp_path) == {base.name, child.name, name, "back.qcow2"}


def test_an_interrupted_compressed_copy_is_gone_on_with(disk: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "large.raw", tmp_path / "out" / "copy.qcow2"
    target.parent.mkdir()
    source.write_bytes(patterned(200 * MIB))
    words = ("disk", "convert", source, target, "--threads", "1", "--input-format", "raw", "--compress")
    copied = 0

    def copying(event: dict[str, Any]) -> bool:
        nonlocal copied
        copied += event["count"] if event["event"] == "bytes-done" else 0
        # the first that is told of may be zeroes alone, of which nothing is kept
        return copied > 32 * MIB

    # the rest would go on for seconds, on however busy a host
    assert kill_when((*words, "--limit", "20M"), copying, signal.SIGTERM)
    assert names(target.parent) == {"copy.qcow2.partial", "copy.qcow2.partial.journal"}
    ran = disk(*words[1:], "--json")
    assert ran.status == 0, ran.err
    assert ran.document["resumed_bytes"] > 0
    qemu_img("check", "-q", "-f", "qcow2", str(target))
    qemu_img("compare", "-f", "raw", "-F", "qcow2", str(source), str(target))


def test_a_damaged_source_leaves_nothing(disk: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["vmdk-stream"], patterned(SIZE))
    streams = [e for e in disk("map", image, "--json").document["extents"] if e.get("where") == "compressed"]
    raw = bytearray(image.read_bytes())
    at = streams[-1]["file_offset"]
    raw[at : at + 60] = b"\xff" * 60
    image.write_bytes(raw)
    folder = tmp_path / "out"
    folder.mkdir()
    assert disk("convert", image, folder / "copy.img").status == 65
    assert names(folder) == set()


def test_an_interrupted_copy_is_gone_on_with(disk: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "large.raw", tmp_path / "out" / "copy.img"
    target.parent.mkdir()
    with source.open("wb") as file:
        for number in range(200):
            file.write(bytes([235, number, 1, 7]) * (MIB // 4))
    words = ("disk", "convert", source, target, "--threads", "1", "--input-format", "raw")

    def copying(event: dict[str, Any]) -> bool:
        return bool(event["event"] == "bytes-done")

    assert kill_when(words, copying, signal.SIGTERM)
    left = names(target.parent)
    if target.name not in left:  # quick hosts may be done before the signal
        assert left == {"copy.img.partial", "copy.img.partial.journal"}
        assert disk(*words[1:]).status == 0
    assert names(target.parent) == {target.name}
    assert sha256(target) == sha256(source)


def test_compare_tells_same_from_different(disk: Any, base: Path, child: Path, tmp_path: Path) -> None:
    made = make_image(tmp_path / "made", BY_NAME["vmdk-stream"], base.read_bytes())
    assert disk("compare", base, made).status == 0
    ran = disk("compare", base, child, "--json")
    assert ran.status == 1
    assert ran.document["first_difference"] == MIB
    assert ran.document["ranges"] == [[MIB, 65536]]
    assert "1048576" in disk("compare", base, child).out


def test_compare_takes_a_format_for_each(disk: Any, tmp_path: Path) -> None:
    bare = tmp_path / "bare.img"
    bare.write_bytes(bytes(MIB))
    qemu_img("create", "-q", "-f", "qcow2", str(tmp_path / "other.qcow2"), "1M")
    assert disk("compare", bare, tmp_path / "other.qcow2").status == 65
    assert disk("compare", "--input-format", "raw", bare, tmp_path / "other.qcow2").status == 0
    assert disk("compare", tmp_path / "other.qcow2", bare, "--input-format-b", "raw").status == 0


def test_sizes_that_differ_by_zeroes_are_the_same_unless_it_is_to_be_strict(disk: Any, base: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.raw"
    longer.write_bytes(base.read_bytes() + bytes(MIB))
    ran = disk("compare", base, longer)
    assert ran.status == 0
    assert str(SIZE + MIB) in ran.out
    assert "zeroes" in ran.out
    assert disk("compare", base, longer, "--strict").status == 1


def test_a_comparison_that_cannot_be_made_is_no_difference(disk: Any, base: Path, child: Path) -> None:
    base.rename(base.with_name("gone"))
    assert disk("compare", child, child).status == 65


@pytest.mark.parametrize("name", ["raw", "vhd-dynamic", "vhdx-dynamic", "vmdk-sparse", "qcow2-v3", "qcow2-zstd"])
def test_sound_images_check_clean(disk: Any, name: str, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME[name], patterned(SIZE))
    ran = disk("check", image, "--data", "--json")
    assert (ran.status, ran.document["sound"], ran.document["findings"]) == (0, True, [])


def test_check_lists_all_that_is_wrong_and_ends_with_65(disk: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["qcow2-v3"], patterned(SIZE))
    raw = bytearray(image.read_bytes())
    table = int.from_bytes(raw[40:48], "big")
    clusters = int.from_bytes(raw[table : table + 8], "big") & 0x00FFFFFFFFFFFE00
    for entry, value in ((1, 0x8000FFFFFFFF0000), (3, 0x8000FFFFFFFE0000)):
        raw[clusters + 8 * entry : clusters + 8 * entry + 8] = value.to_bytes(8, "big")
    image.write_bytes(raw)
    ran = disk("check", image, "--json")
    assert ran.status == 65
    assert [each["disk_offset"] for each in ran.document["findings"]] == [65536, 3 * 65536]
    assert disk("check", image).out.count("error: ") == 2


def test_check_says_what_a_writer_did_not_finish_without_calling_it_wrong(disk: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["qcow2-lazy-refcounts"], patterned(SIZE))
    raw = bytearray(image.read_bytes())
    raw[79] |= 1  # the dirty bit
    image.write_bytes(raw)
    ran = disk("check", image, "--json")
    assert ran.status == 0
    assert any("dirty" in each["note"] for each in ran.document["notes"])


def test_an_image_that_cannot_be_opened_is_one_finding(disk: Any, tmp_path: Path) -> None:
    image = make_image(tmp_path / "made", BY_NAME["vhdx-dynamic"], patterned(SIZE))
    image.write_bytes(image.read_bytes()[:MIB])
    ran = disk("check", image, "--json")
    assert ran.status == 65
    assert len(ran.document["findings"]) == 1
    assert not ran.document["complete"]


@contextmanager
def serving(*words: str | Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``p2v disk serve`` in a process of its own, and the first line it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "p2v", "disk", "serve", *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_serve_offers_the_disk_until_it_is_told_to_end(child: Path, tmp_path: Path, sig: signal.Signals) -> None:
    address = tmp_path / "disk.sock"
    expected = tmp_path / "expected"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", str(child), str(expected))
    with serving(child, "--socket", address) as (process, uri):
        status = address.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o600
        subprocess.run(["nbdcopy", uri, str(tmp_path / "copied")], check=True, timeout=60)
        assert process.poll() is None
        process.send_signal(sig)
        assert process.wait(120) == 0
    assert (tmp_path / "copied").read_bytes() == expected.read_bytes()
    assert not os.path.lexists(address)
    assert not [name for name in names(tmp_path) if name.startswith(".p2v-")]
    assert programs_with(str(address.parent)) == []


def test_serve_refuses_a_name_that_is_taken(disk: Any, child: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"mine")
    assert disk("serve", child, "--socket", taken).status == 73
    assert taken.read_bytes() == b"mine"
    assert disk("serve", child, "--socket", tmp_path / ("x" * 110)).status == 64
    assert disk("serve", child, "--socket", tmp_path / "no folder" / "s").status == 74


def test_serve_says_why_an_image_cannot_be_served(disk: Any, base: Path, child: Path, tmp_path: Path) -> None:
    base.rename(tmp_path / "gone")
    ran = disk("serve", child, "--socket", tmp_path / "s")
    assert ran.status != 0
    assert "base.raw" in ran.err
    assert not os.path.lexists(tmp_path / "s")


def test_serve_ends_when_its_server_is_gone(child: Path, tmp_path: Path) -> None:
    with serving(child, "--socket", tmp_path / "s") as (process, _):
        (server,) = [pid for pid in programs_of(process.pid) if pid != process.pid]
        os.kill(server, signal.SIGKILL)
        assert process.wait(120) == 74
    assert not os.path.lexists(tmp_path / "s")


def programs_of(parent: int) -> list[int]:
    """Its children."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    deadline = time.monotonic() + 60
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(pid) for pid in found]


def test_a_short_run_imports_nothing_heavy_that_it_does_not_need(child: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from p2v.cli.main import main
status = main(["disk", "convert", {str(child)!r}, {str(tmp_path / "copy.raw")!r}, "--progress", "none"])
heavy = "asyncio cattrs concurrent.futures email http socket ssl subprocess tarfile tqdm xml zipfile".split()
print(*(name for name in (*heavy, "converters.vhdx", "converters.vmdk", "drivers.facts", "p2v.machine") if name in sys.modules))
sys.exit(status)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[1:] == [""]
