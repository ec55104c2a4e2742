"""``p2v plan`` of Windows guests that somebody spoilt: blocked in words or planned for, soon, and never a crash."""

from __future__ import annotations

import random
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from p2v.cli.main import main
from tests.drivers.windows.guest_disk import MIB, boot_store, ntfs_disk, software_tree, system_tree, windows_files
from tests.drivers.windows.hive_writer import HiveWriter, Node
from tests.fixtures.hives import Data, Tree, binary, dword, make_hive, sz
from tests.fixtures.virtio_win import DRIVERS, medium, write_folder

_SECONDS_AT_MOST = 60
_BLOCKED, _PLANNED_OR_BLOCKED = 4, (0, 4)
_LIST_AT, _SUBKEYS_AT, _COUNT_AT = 28, 20, 36
_UNINSTALL = "Microsoft\\Windows\\CurrentVersion\\Uninstall\\x"
_HIVES: dict[str, tuple[str, Callable[[], Tree]]] = {
    "SYSTEM": ("/Windows/System32/config/SYSTEM", system_tree),
    "SOFTWARE": ("/Windows/System32/config/SOFTWARE", lambda: software_tree(more={_UNINSTALL: {"DisplayName": sz("x")}})),
    "BCD": ("/Boot/BCD", boot_store),
}


def planned(folder: Path, capsys: pytest.CaptureFixture[str], files: Mapping[str, bytes], *more: str) -> tuple[int, str]:
    """The exit code, and all that was printed; it took no longer than it may."""
    folder.mkdir(exist_ok=True)
    disk = ntfs_disk(folder / "win.raw", {**windows_files(), **files})
    started = time.monotonic()
    status = main(["plan", "--input-format", "raw", "--progress", "none", str(disk), *more])
    assert time.monotonic() - started < _SECONDS_AT_MOST
    found = capsys.readouterr()
    text = found.out + found.err
    assert "Traceback" not in text
    assert all(char.isprintable() or char in "\n\t" for char in text), "what a terminal would obey"
    return status, text


def _nodes(tree: Tree) -> Node:
    """The keys of a tree, to be written and spoilt by our own writer."""
    root = Node("ROOT")
    for path, values in tree.items():
        at = root
        for name in path.split("\\"):
            child = next((each for each in at.subkeys if each.name == name), None)
            if child is None:
                child = Node(name)
                at.subkeys.append(child)
            at = child
        at.values += [(name, data.type, data.data) for name, data in values.items()]
    return root


def _cycle(tree: Tree) -> bytes:
    """The first key lists the root below itself."""
    root, writer = _nodes(tree), HiveWriter()
    writer.put_all(root)
    loop = writer.cell(struct.pack("<2sHII", b"lh", 1, root.at, 0))
    writer.patch(root.subkeys[0].at, struct.pack("<I", 1), _SUBKEYS_AT)
    writer.patch(root.subkeys[0].at, struct.pack("<I", loop), _LIST_AT)
    return writer.data(root.at)


def _deep(tree: Tree) -> bytes:
    root = _nodes(tree)
    at = root.subkeys[0]
    for number in range(10_000):
        child = Node(f"k{number}")
        at.subkeys.append(child)
        at = child
    return HiveWriter().hive(root)


def _wrong_cell(tree: Tree) -> bytes:
    root, writer = _nodes(tree), HiveWriter()
    writer.put_all(root)
    struct.pack_into("<i", writer.bins, root.subkeys[0].at, -(1 << 31))
    return writer.data(root.at)


def _wrong_counts(tree: Tree) -> bytes:
    root, writer = _nodes(tree), HiveWriter()
    writer.put_all(root)
    for node in _all(root):
        writer.patch(node.at, struct.pack("<I", 0x40000000), _COUNT_AT)
    return writer.data(root.at)


def _shared_list(tree: Tree) -> bytes:
    """Thousands of keys, among those that are looked at, that all have one long list of values."""
    root = _nodes(tree)
    children = [Node(f"k{n}") for n in range(1500)]
    place = next(node for node in _all(root) if node.name in ("Services", "Uninstall", "Elements"))
    place.subkeys += children
    writer = HiveWriter()
    writer.put_all(root)
    shared = writer.cell(struct.pack("<I", writer.value("v", 4, b"1234")) * 60_000)
    for child in children:
        writer.patch(child.at, struct.pack("<II", 60_000, shared), _COUNT_AT)
    return writer.data(root.at)


def _all(node: Node) -> Iterator[Node]:
    yield node
    for child in node.subkeys:
        yield from _all(child)


def _no_hive(_: Tree) -> bytes:
    return random.Random(8).randbytes(200_000)


def _empty(_: Tree) -> bytes:
    return b""


def _zeroes(_: Tree) -> bytes:
    return bytes(8 * MIB)


def _claims_gigabytes(tree: Tree) -> bytes:
    made = bytearray(make_hive(tree))
    made[40:44] = struct.pack("<I", 0xFFFFF000)
    return bytes(made)


def _cut(tree: Tree) -> bytes:
    made = make_hive(tree)
    return made[: len(made) // 2]


_SPOILT = (_cycle, _deep, _wrong_cell, _wrong_counts, _shared_list, _no_hive, _empty, _zeroes, _claims_gigabytes, _cut)


_EACH_HIVE = [pytest.param(name, marks=() if name == "SYSTEM" else (pytest.mark.matrix,)) for name in _HIVES]


def _rows(texts: Mapping[str, bytes]) -> list[ParameterSet]:
    """One text of them always, all in `make matrix`."""
    return [pytest.param(text, id=name, marks=() if name == "noise" else (pytest.mark.matrix,)) for name, text in texts.items()]


@pytest.mark.parametrize("hive", _EACH_HIVE)
@pytest.mark.parametrize("spoil", _SPOILT, ids=lambda spoil: spoil.__name__.strip("_"))
def test_spoilt_hive_is_a_blocker(
    hive: str, spoil: Callable[[Tree], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tree = _HIVES[hive]
    status, text = planned(tmp_path, capsys, {path: spoil(tree())})
    assert status == _BLOCKED
    assert re.search(rf"registry (cannot be read|is damaged): {hive}: .*\[windows\.hive-(unreadable|damaged)\]", text), text


_NULS = {
    "key": lambda node: node.subkeys.append(Node(f"{node.name}\0\x1b[2J", [("", 1, b""), ("Start", 4, bytes(4))])),
    "value": lambda node: node.values.append(("Service\0x", 1, b"y\0")),
}


@pytest.mark.parametrize("hive", _EACH_HIVE)
@pytest.mark.parametrize("spoil", _NULS.values(), ids=list(_NULS))
def test_name_with_nul_among_what_is_looked_at_is_a_blocker(
    hive: str, spoil: Callable[[Node], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tree = _HIVES[hive]
    root = _nodes(tree())
    for node in list(_all(root)):
        spoil(node)
    status, text = planned(tmp_path, capsys, {path: HiveWriter().hive(root)})
    assert status == _BLOCKED
    assert re.search(rf"registry is damaged: {hive}: a name has NUL in it.*\[windows\.hive-damaged\]", text), text


_MOUNTED = (
    {f"\\DosDevices\\{letter}:": binary(data) for letter, data in zip("CDEFGH", (b"", b"\1", bytes(11), bytes(13), b"\xff" * 12,
                                                                                      b"DMIO:ID:" + bytes(15)), strict=True)},
    {f"\\??\\Volume{{{number}}}": binary(bytes(12)) for number in range(5000)},
    {"\\DosDevices\\C:": sz("\x1b[2J" * 3000), "\\DosDevices\\\x1b]0;x\x07:": binary(b"DMIO:ID:" + bytes(16))},
    {"\\DosDevices\\C:": dword(1), "": binary(bytes(12)), "\\DosDevices\\": binary(bytes(12))},
)  # fmt: skip


@pytest.mark.parametrize("values", _MOUNTED, ids=["lengths", "many", "terminal", "names"])
def test_nonsense_for_drive_letters_is_planned_for_or_blocked(
    values: Mapping[str, Data], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    system = HiveWriter().hive(_nodes({**system_tree(), "MountedDevices": values}))
    status, text = planned(tmp_path, capsys, {"/Windows/System32/config/SYSTEM": system})
    assert status in _PLANNED_OR_BLOCKED
    assert "Windows Server 2019" in text


_XP = {
    "ProductName": sz("Microsoft Windows XP"), "CurrentVersion": sz("5.1"), "CurrentBuildNumber": sz("2600"),
}  # fmt: skip
_LOADER = b"[boot loader]\r\ndefault="
_BOOT_INI = {
    "empty": b"",
    "noise": random.Random(9).randbytes(3000),
    "numbers": _LOADER + b"multi(99999999999999999999)disk(4294967296)rdisk(-1)partition(0)\\WINDOWS\r\n",
    "wide": (_LOADER + b"multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n").decode().encode("utf-16"),
    "nul": _LOADER + b"multi(0)disk(0)rdisk(0)partition(1)\\\0\x1b[2J\r\n",
    "brackets": _LOADER + b"multi(" * 5000,
    "one-line": b"[boot loader]" * 50_000,
    "megabytes": (_LOADER + b"multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS\r\n") * 100_000,
}


@pytest.mark.parametrize("text", _rows(_BOOT_INI))
def test_nonsense_in_boot_ini_is_planned_for_or_blocked(
    text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = windows_files(software=make_hive(software_tree(_XP), name="SOFTWARE"), machine=0x14C)
    status, told = planned(tmp_path, capsys, {**files, "/boot.ini": text, "/NTLDR": b"loader", "/NTDETECT.COM": b"x"})
    assert status in _PLANNED_OR_BLOCKED
    assert "Windows XP" in told


_INF = {
    "noise": random.Random(7).randbytes(20_000),
    "nul": b"[Version]\r\nClass=\0\x1b[2J\r\n[Manufacturer]\r\n\0=\0,\0\r\n" * 50,
    "strings": b"[Strings]\r\n" + b"".join(b"s%d=%%s%d%%%%s%d%%\r\n" % (n, n + 1, n + 1) for n in range(500)),
    "sections": b"".join(b"[s%d]\r\nCopyFiles=s%d\r\n" % (n, n + 1) for n in range(20_000)),
    "paths": b"[Version]\r\nCatalogFile=..\\..\\..\\etc\\passwd\r\n[SourceDisksFiles]\r\n/etc/shadow=1\r\n",
    "megabytes": b"[Version]\r\n" + b"a=b\r\n" * 1_000_000,
}


@pytest.mark.parametrize("text", _rows(_INF))
def test_nonsense_in_an_inf_file_leaves_that_driver_out(
    text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = dict(medium(DRIVERS[:3], releases=("2k19",)).files)
    files["/viostor/2k19/amd64/viostor.inf"] = files["/amd64/2k19/viostor.inf"] = text
    folder = write_folder(files, tmp_path / "cd")
    status, told = planned(tmp_path, capsys, {}, "--virtio-win", str(folder))
    assert status in _PLANNED_OR_BLOCKED
    assert "/VirtIO/netkvm/netkvm.sys" in told, told
    assert "/VirtIO/viostor/" not in told
    assert "passwd" not in told
