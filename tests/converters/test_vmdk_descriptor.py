"""Text descriptors as programs, editors and transfers leave them; names in them; what they may open."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.image import open_disk, probe
from converters.vmdk_descriptor import MAX_DESCRIPTOR_BYTES, MAX_EXTENTS, ExtentLine, is_descriptor, parse_descriptor
from p2v.core.errors import BadImage, ForbiddenReference, P2vError, UnsupportedImage
from tests.converters import vmdk_writer as writer

SECTOR = 512
CONTENT = b"c" * SECTOR
PLAIN = writer.descriptor('RW 1 FLAT "x.bin" 0', create_type="monolithicFlat")


def read(folder: Path, raw: bytes | str, name: str = "x.bin") -> bytes:
    """The disk of a descriptor whose extent file is ``name``; opening probes it too."""
    writer.put(folder, name, CONTENT)
    image = writer.put(folder, "disk.vmdk", raw)
    assert probe(image).format == "vmdk"
    with open_disk(image) as disk:
        return disk.pread(1 << 20, 0)


def parsed(text: str | bytes) -> list[tuple[str, int, str, str, int]]:
    raw = text if isinstance(text, bytes) else text.encode()
    return [
        (e.access, e.sectors, e.kind, e.file_name, e.offset_sectors) for e in parse_descriptor(raw, Path("x")).extents
    ]


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\n\n\n"),
        PLAIN.rstrip("\n"),
        PLAIN + "\0" * 5000,
        PLAIN + '\0RW 1 FLAT "/etc/passwd" 0\n',
        "\ufeff" + PLAIN,
        "\n \t\r\n" + PLAIN,
        PLAIN.replace("\n", "  \t\n"),
        PLAIN.replace("=", " \t= "),
        PLAIN.replace("\n", "\n\t "),
        PLAIN.replace("RW 1 FLAT", "rw\t1   flat").replace("createType", "CREATETYPE").replace("CID", "cid"),
        PLAIN.replace("# Disk DescriptorFile", "#Disk Descriptor File"),
        PLAIN.replace("# Disk DescriptorFile", "# DISK DESCRIPTORFILE"),
        PLAIN.replace("# Extent", '# RW 1 FLAT "/etc/passwd" 0\n# Extent'),
        PLAIN + "toolsInstallType = 4\nsome words without meaning\n===\n[section]\n",
        PLAIN.replace('"monolithicFlat"', "monolithicFlat"),
        PLAIN + PLAIN.replace('RW 1 FLAT "x.bin" 0', "# nothing"),
    ],
    ids=range(19),
)
def test_odd_lines_read_as_the_plain_descriptor(text: str, tmp_path: Path) -> None:
    assert read(tmp_path, text) == CONTENT


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le-bom", "utf-16-be-bom"])
def test_byte_order_marks_tell_the_encoding(encoding: str, tmp_path: Path) -> None:
    name = "Fläche 日本.bin"
    text = PLAIN.replace("x.bin", name)
    raw = text.encode(encoding.removesuffix("-bom"))
    if encoding.endswith("-bom"):
        raw = (b"\xff\xfe" if "-le-" in encoding else b"\xfe\xff") + raw
    assert read(tmp_path, raw, name) == CONTENT


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("windows-1252", "cp1252", "Disque é – œ.bin"),
        ("Windows-1252", "cp1252", "ä.bin"),
        ("windows-1251", "cp1251", "Диск.bin"),
        ("GBK", "gbk", "磁盘 乗.bin"),
        ("GB18030", "gb18030", "磁盘.bin"),
        ("Shift_JIS", "cp932", "表ソ能ディスク.bin"),
        ("windows-932", "cp932", "①表.bin"),
        ("EUC-JP", "euc_jp", "ディスク.bin"),
        ("EUC-KR", "euc_kr", "디스크.bin"),
        ("Big5", "big5", "磁碟功.bin"),
        ("ISO-8859-15", "iso8859_15", "10 €.bin"),
        ("UTF-8", "utf-8", "Festplatte-ß 日本.bin"),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_names_in_the_declared_encoding_are_found(
    declared: str, codec: str, name: str, line_end: str, tmp_path: Path
) -> None:
    text = PLAIN.replace("x.bin", name).replace("version=1", f'version=1\nencoding="{declared}"')
    assert read(tmp_path, text.replace("\n", line_end).encode(codec), name) == CONTENT


def test_names_in_an_undeclared_or_unknown_encoding_are_found_by_their_bytes(tmp_path: Path) -> None:
    for encoding in ("", 'encoding="unicode_escape"\n', 'encoding="rot13"\n', 'encoding="utf-8"\n', 'encoding=""\n'):
        raw = (encoding + PLAIN).encode().replace(b"x.bin", b"Fl\xe4che.bin").replace(b"# Disk", b"\n# Disk", 1)
        raw = b"# Disk DescriptorFile\n" + raw
        assert read(tmp_path, raw, os.fsdecode(b"Fl\xe4che.bin")) == CONTENT


def test_characters_that_end_lines_elsewhere_may_stand_in_names(tmp_path: Path) -> None:
    name = "a\x0bb\x0cc\x1cd\x85e\u2028f.bin"
    assert read(tmp_path, PLAIN.replace("x.bin", name), name) == CONTENT


@pytest.mark.parametrize(
    "name", ['a "quoted" name.bin', 'ends with ".bin', " spaces  inside .bin", "per%cent $HOME `id`", "#.bin"]
)
def test_names_with_quotes_and_spaces(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN.replace("x.bin", name), name) == CONTENT


def test_extent_lines_are_read_in_their_parts() -> None:
    text = "\n".join(
        (
            'RW 4192256 SPARSE "a b-s001.vmdk"',
            'RDONLY 5 flat "x" 63 partitionUUID "ab cd" tail',
            "NOACCESS 7 ZERO",
            'RW 1 ZERO "" 0',
            'RW 2 VMFS "q"uo"te" 9',
        )
    )
    assert parsed(text) == [
        ("RW", 4192256, "SPARSE", "a b-s001.vmdk", 0),
        ("RDONLY", 5, "FLAT", "x", 63),
        ("NOACCESS", 7, "ZERO", "", 0),
        ("RW", 1, "ZERO", "", 0),
        ("RW", 2, "VMFS", 'q"uo"te', 9),
    ]


@pytest.mark.parametrize(
    "line",
    ["RW", "RW 1", "RW 1 FLAT x.bin 0", 'RW 1 FLAT "x.bin', 'RW -1 FLAT "x.bin" 0', 'RW 0x10 FLAT "x" 0',
     'RW 99999999999999999999 FLAT "x" 0', 'RW 1 FLAT "x.bin" -1', 'RW 1 FL"AT "x" 0'],
)  # fmt: skip
def test_lines_that_begin_as_extents_and_are_none_are_refused(line: str) -> None:
    with pytest.raises(BadImage, match="extent line") as caught:
        parsed(line)
    assert "edited" in caught.value.hint()


@pytest.mark.parametrize("key", ["CID", "parentCID", "createType", "parentFileNameHint"])
def test_what_makes_the_disk_may_not_be_said_twice_and_differently(key: str) -> None:
    with pytest.raises(BadImage, match=key.lower()):
        parse_descriptor(f"{key}=1\nversion=1\n{key.upper()}=2\n".encode(), Path("x"))
    assert parse_descriptor(f"{key}=1\n{key}=1\n".encode(), Path("x")).values == {key.lower(): "1"}


def test_of_other_keys_the_first_counts() -> None:
    assert parse_descriptor(b"a=1\nA=2\n", Path("x")).values == {"a": "1"}


def test_a_descriptor_has_at_most_64_kib(tmp_path: Path) -> None:
    padded = PLAIN + "#" * (MAX_DESCRIPTOR_BYTES - len(PLAIN))
    assert read(tmp_path, padded) == CONTENT
    assert read(tmp_path, PLAIN + "\0" * 10 * MAX_DESCRIPTOR_BYTES) == CONTENT
    for longer in (padded + "#", padded[:-1] + "\u00e4", ("\ufeff" + padded).encode("utf-16-le")):
        with pytest.raises(BadImage, match="longer than 65536"):
            read(tmp_path, longer)


def test_hundreds_of_extents_are_read_and_more_than_the_limit_refused(tmp_path: Path) -> None:
    lines = []
    for number in range(600):
        writer.put(tmp_path, f"{number}", bytes([number % 256]) * SECTOR)
        lines.append(f'RW 1 FLAT "{number}" 0')
    image = writer.put(tmp_path, "disk.vmdk", writer.descriptor(*lines, create_type="twoGbMaxExtentFlat"))
    with open_disk(image) as disk:
        assert disk.pread(1 << 20, 0) == b"".join(bytes([n % 256]) * SECTOR for n in range(600))
        assert (
            disk.pread(600, 300 * SECTOR - 10)
            == bytes([299 % 256]) * 10 + bytes([300 % 256]) * SECTOR + bytes([301 % 256]) * 78
        )
    with pytest.raises(BadImage, match=str(MAX_EXTENTS + 1)):
        parsed("RW 1 ZERO\n" * (MAX_EXTENTS + 1))


@pytest.mark.parametrize(
    "line", ["RW 9223372036854775808 ZERO", "RW 9999999999999999999 ZERO", 'RW 1 FLAT "x.bin" 9999999999999999999',
             'RW 9007199254740993 FLAT "x.bin" 0', 'RW 1 FLAT "x.bin" 1', 'RW 2 FLAT "x.bin" 0'],
)  # fmt: skip
def test_absurd_sizes_and_places_are_refused(line: str, tmp_path: Path) -> None:
    with pytest.raises(BadImage):
        read(tmp_path, writer.descriptor(line, create_type="monolithicFlat"))


def test_extents_that_total_absurd_sizes_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    text = writer.descriptor(*["RW 4503599627370496 ZERO"] * 4, 'RW 1 FLAT "/etc/passwd" 0', create_type="custom")
    with pytest.raises(BadImage, match="make a disk of"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "name",
    ["/etc/hostname", "../x", "sub/../../x", r"..\x", "link", "sub/link", "loop", "nbd://h/x", "nbd:unix:/x", "json:{}", "file:x",
     "http://h/x", "ssh://h/x", "fat:rw:/", "/proc/self/mem", "/dev/../etc/hostname", r"C:\x", r"\\server\share\x"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["FLAT", "VMFS", "SPARSE", "VMFSSPARSE", "SESPARSE"])
def test_an_extent_outside_the_folder_is_never_opened(kind: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "vm"
    (folder / "sub").mkdir(parents=True)
    writer.put(tmp_path, "x", CONTENT)
    (folder / "link").symlink_to(tmp_path / "x")
    (folder / "sub" / "link").symlink_to("../../x")
    (folder / "loop").symlink_to("loop")
    image = writer.put(folder, "disk.vmdk", writer.descriptor(f'RW 1 {kind} "{name}"', create_type="custom"))
    windows = name.startswith(("C:", "\\\\"))
    # A drive or share says nothing here: a file of that last name is looked for beside the image.
    expected = (BadImage,) if windows else (ForbiddenReference, UnsupportedImage)
    with pytest.raises(expected) as caught:
        open_disk(image)
    assert windows or isinstance(caught.value, ForbiddenReference) or "raw device" in str(caught.value)


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "device", "empty"])
def test_an_extent_that_is_no_file_is_not_waited_for(kind: str, tmp_path: Path) -> None:
    extent = tmp_path / "x.bin"
    if kind == "fifo":
        os.mkfifo(extent)
    elif kind == "folder":
        extent.mkdir()
    elif kind == "socket":
        os.mknod(extent, 0o140600)
    elif kind == "device":
        extent.symlink_to("/dev/zero")
    else:
        extent.touch()
    started = time.monotonic()
    with pytest.raises(BadImage):
        open_disk(writer.put(tmp_path, "disk.vmdk", PLAIN))
    # one that nobody writes to would be waited for for ever
    assert time.monotonic() - started < 120


def test_files_beside_the_image_are_found_by_their_last_name(tmp_path: Path) -> None:
    for name in (r"C:\VMs\x.bin", r"\\server\share\x.bin", "/vmfs/volumes/1/vm/x.bin", "./x.bin"):
        assert read(tmp_path, PLAIN.replace("x.bin", name)) == CONTENT


@given(st.binary(max_size=300), st.integers(0, len(PLAIN)))
def test_any_bytes_raise_only_our_errors(junk: bytes, at: int) -> None:
    raw = PLAIN.encode()
    is_descriptor(junk)
    for changed in (junk, raw[:at] + junk + raw[at:], b"\xff\xfe" + junk, b"\xfe\xff" + junk):
        said = "x: "
        extents: tuple[ExtentLine, ...] = ()
        try:
            extents = parse_descriptor(changed, Path("x")).extents
        except P2vError as error:
            said = error.sentence()
        assert said.startswith("x: ")
        assert all(0 <= line.sectors < 1 << 64 and line.kind.isupper() for line in extents)


def test_long_lines_of_every_kind_are_read_quickly() -> None:
    """No pattern may take longer than its line deserves."""
    started = time.process_time()
    for line in ('RW 1 FLAT "' + '" ' * 30_000, "RW 1 FLAT " + '"' * 60_000, "a" * 65_000, "a =" + " " * 60_000 + '"',
                 "RW " + " " * 60_000 + "1", 'RW 1 FLAT "x" ' + "1 " * 30_000 + '"', "RW 1 FLAT " + '"x" 1' * 10_000,
                 ("encoding" + " " * 100) * 600):  # fmt: skip
        try:
            parse_descriptor(line.encode(), Path("x"))
        except BadImage:
            continue
    assert time.process_time() - started < 2
