"""What nobody planned is found and named, wherever it is and however it got there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.listing import BadListing
from p2v.core.units import KIB, MIB
from tests.proof.bench import PARTITION_OFFSET, Bench, copied, run
from tests.proof.sample import GONE, LINK, NEW, OLD

KINDS = ("ext4", "ext3", "xfs", "btrfs")


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversion_as_planned_is_proven_to_the_last_byte(bench: Bench) -> None:
    compared, walked = bench.prove()
    assert not compared.problems
    assert walked.unexplained == ()
    assert {each.path for each in walked.explained} == {
        "/etc", "/etc/fstab", "/etc/systemd", "/etc/systemd/network", "/etc/systemd/network/70-p2v.link", "/etc/tool.service",
        "/etc/more", "/etc/more/deep", "/etc/more/deep/one", "/etc/tool.conf",
    }  # fmt: skip
    assert walked.names > 320
    assert sum(walked.kinds.values()) or bench.kind == "btrfs"


def _times_kept(path: Path, spoil: Callable[[Path], object]) -> None:
    before = path.stat()
    spoil(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _swap_names(root: Path) -> None:
    one, other = root / "usr/bin/many1", root / "usr/bin/many2"
    one.rename(root / "usr/bin/x")
    other.rename(one)
    (root / "usr/bin/x").rename(other)


# what is done to the mounted result, and the path that has to be named
NAMED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file nobody planned": (lambda r: (r / "etc/backdoor").write_text("x"), "/etc/backdoor"),
    "an empty folder": (lambda r: (r / "srv").mkdir(), "/srv"),
    "a file gone": (lambda r: (r / "usr/bin/many7").unlink(), "/usr/bin/many7"),
    "a mode": (lambda r: (r / "usr/bin/program").chmod(0o4755), "/usr/bin/program"),
    "an owner": (lambda r: os.chown(r / "etc/passwd", 1000, 0), "/etc/passwd"),
    "a group": (lambda r: os.chown(r / "etc/passwd", 0, 7), "/etc/passwd"),
    "a time": (lambda r: os.utime(r / "etc/passwd", (1, 1)), "/etc/passwd"),
    "an attribute": (lambda r: os.setxattr(r / "etc/passwd", "user.note", b"x"), "/etc/passwd"),
    "a capability": (lambda r: run("setcap", "cap_net_raw+ep", r / "usr/bin/program"), "/usr/bin/program"),
    "an access list": (lambda r: run("setfacl", "-m", "u:1000:rwx", r / "usr/bin/program"), "/usr/bin/program"),
    "a default access list": (lambda r: run("setfacl", "-d", "-m", "u:1000:rwx", r / "home/user"), "/home/user"),
    "contents, the times set back": (
        lambda r: _times_kept(r / "etc/passwd", lambda p: p.write_text("root::0:0:\n")), "/etc/passwd"
    ),
    "contents of the user's file": (lambda r: (r / "home/user/data").open("ab").write(b"x"), "/home/user/data"),
    "a link elsewhere": (
        lambda r: _instead(r / "etc/tool.service", lambda path: path.symlink_to("/bin/sh")), "/etc/tool.service"
    ),
    "one more name of a file": (lambda r: os.link(r / "etc/passwd", r / "etc/same"), "/etc/passwd"),
    "two files under each other's name": (_swap_names, "/usr/bin/many1"),
    "another device": (
        lambda r: _instead(r / "home/user/null", lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 1))),
        "/home/user/null",
    ),
    "a file that cannot be changed": (lambda r: run("chattr", "+i", r / "usr/bin/many9"), "/usr/bin/many9"),
    "a name with a newline": (
        lambda r: _times_kept(r / "home/user/one\nline", lambda p: p.write_bytes(b"A name with a newline")),
        "/home/user/one\nline",
    ),
    "a name that is no UTF-8": (
        lambda r: (r / "home/user" / os.fsdecode(b"caf\xe9 \\012")).chmod(0o600), "/home/user/" + os.fsdecode(b"caf\xe9 \\012")
    ),
    "the planned file's mode": (lambda r: (r / LINK).chmod(0o600), f"/{LINK}"),
    "the planned file's owner": (lambda r: os.chown(r / LINK, 5, 0), f"/{LINK}"),
    "the planned file's contents": (lambda r: (r / LINK).write_text("[Match]\nX\n"), f"/{LINK}"),
    "the planned file's attributes": (lambda r: os.setxattr(r / LINK, "user.x", b"x"), f"/{LINK}"),
    "the edited file's contents": (lambda r: (r / "etc/fstab").write_text(NEW + "#\n"), "/etc/fstab"),
    "the edited file's mode": (lambda r: (r / "etc/fstab").chmod(0o666), "/etc/fstab"),
    "the edited file as it was": (lambda r: (r / "etc/fstab").write_text(OLD), "/etc/fstab"),
    "the planned folder's mode": (lambda r: (r / "etc/more").chmod(0o777), "/etc/more"),
    "what was to be deleted": (lambda r: (r / "etc/tool.conf").write_bytes(GONE), "/etc/tool.conf"),
    "a planned name that is missing": (lambda r: (r / "etc/more/deep/one").unlink(), "/etc/more/deep/one"),
}  # fmt: skip


# every one on ext4; on the others those that they could show in another way
_ON_OTHERS = (
    "a file nobody planned", "a file gone", "an attribute", "an access list", "contents, the times set back", "another device",
    "a file that cannot be changed", "a name with a newline", "the planned file's contents", "the edited file as it was",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "what"), [("ext4", what) for what in NAMED] + [(kind, what) for kind in KINDS[1:] for what in _ON_OTHERS]
)
def test_what_happens_while_converting_and_was_not_planned_is_named(bench: Bench, what: str) -> None:
    """The record's digests are taken afterwards, so only looking into the file system can find it."""
    spoil, path = NAMED[what]
    with bench.on_result() as root:
        spoil(root)
    _, walked = bench.prove()
    assert path in {each.path for each in walked.unexplained}, [*walked.unexplained, *walked.explained]


def _offset_of(bench: Bench, contents: bytes) -> int:
    at = bench.after.read_bytes().find(contents)
    assert at > PARTITION_OFFSET
    return at


def _poke(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_of_another_file_in_the_same_cluster_is_named(bench: Bench) -> None:
    """No list shows it: same size, same times; only that its bytes differ."""
    at = _offset_of(bench, b"of the user of the user")
    _poke(bench.after, at, b"X")
    _, walked = bench.prove()
    named = {each.path for each in walked.unexplained}
    if bench.kind == "btrfs":
        assert named  # its checksums make the file unreadable
    else:
        assert {"/home/user/data", "/home/user/same"} & named


@pytest.mark.parametrize("kind", ["ext4", "ext3", "xfs"])
def test_two_swapped_sectors_are_named(bench: Bench) -> None:
    at = _offset_of(bench, bytes(range(256)) * 2)
    data = bench.after.read_bytes()
    one, other = data[at : at + 512], bytes(512)
    _poke(bench.after, at, other)
    _poke(bench.after, at + 512, one)
    _, walked = bench.prove()
    assert "/usr/bin/program" in {each.path for each in walked.unexplained}


@pytest.mark.parametrize("kind", ["ext4"])
@pytest.mark.parametrize("where", [0, 446, 512, PARTITION_OFFSET - 1])
def test_boot_sector_table_and_gap_belong_to_no_planned_file_system(bench: Bench, where: int) -> None:
    _poke(bench.after, where, b"\xee")
    compared, walked = bench.prove()
    assert walked.unexplained == ()
    assert (where // 512 * 512, 512) in compared.runs  # p2v.proof.prove tells what is outside of all systems


EXT: dict[str, Callable[[Bench], object]] = {
    "label": lambda b: run("tune2fs", "-L", "other", _device(b)),
    "uuid": lambda b: _new_uuid(b),
    "reserved blocks": lambda b: run("tune2fs", "-r", "7", _device(b)),
    "mount options": lambda b: run("tune2fs", "-o", "journal_data", _device(b)),
    "a copy of the superblock": lambda b: _poke(b.after, PARTITION_OFFSET + (8192 + 1) * KIB + 0x78, b"X"),
    "generation": lambda b: _debugfs(b, "set_inode_field /etc/passwd generation 77"),
    "time of birth": lambda b: _debugfs(b, "set_inode_field /etc/passwd crtime 20010101000000"),
    "project": lambda b: _debugfs(b, "set_inode_field /usr/bin/many3 projid 5"),
    "flags": lambda b: _debugfs(b, f"set_inode_field /etc/passwd flags {'0x80040' if b.kind == 'ext4' else '0x40'}"),
    "journal's inode": lambda b: _debugfs(b, "set_inode_field <8> uid 5"),
    "boot sectors of the file system": lambda b: _poke(b.after, PARTITION_OFFSET + 3, b"X"),
    "behind the end of a file": lambda b: _poke(b.after, _end_of(b, b"root:x:0:0\n"), b"hidden"),
}


def _device(bench: Bench) -> str:
    return f"{bench.after}?offset={PARTITION_OFFSET}"


def _new_uuid(bench: Bench) -> None:
    """tune2fs wants the last check not to be older than the last mount, which may have been a second later."""
    # every test has the source of the others
    bench.before = copied(bench.before, bench.scratch / "before.img")
    for image in (bench.before, bench.after):
        run("debugfs", "-w", "-R", "set_super_value lastcheck 20370101", f"{image}?offset={PARTITION_OFFSET}")
    run("tune2fs", "-U", "11111111-2222-3333-4444-555555555555", _device(bench))


def _debugfs(bench: Bench, command: str) -> None:
    run("debugfs", "-w", "-R", command, _device(bench))


def _end_of(bench: Bench, contents: bytes) -> int:
    return _offset_of(bench, contents) + len(contents) + 20


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for kind in ("ext4", "ext3") for what in EXT])
def test_what_no_list_shows_is_found_in_the_structures_of_ext(bench: Bench, what: str) -> None:
    EXT[what](bench)
    _, walked = bench.prove()
    assert walked.unexplained, walked.kinds


@pytest.mark.parametrize("kind", ["ext4"])
@pytest.mark.parametrize("where", ["inside", "outside"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_every_byte_that_changes_after_the_conversion_is_found(bench: Bench, where: str, side: str, tmp_path: Path) -> None:
    record = bench.record()
    changed = record.changed[len(record.changed) // 2]
    before = tmp_path / "before.img"
    copied(bench.before, before)
    bench.before = before
    at = changed.offset + 70 if where == "inside" else 2 * KIB
    path = bench.before if side == "source" else bench.after
    old = path.read_bytes()[at]
    _poke(path, at, bytes([old ^ 1]))
    compared, _ = bench.prove(record) if where == "outside" else (bench.compare(record), None)
    assert compared.problems


@pytest.mark.parametrize("kind", ["ext4"])
def test_a_target_that_is_cut_short_or_longer_is_found(bench: Bench) -> None:
    record = bench.record()
    size = bench.after.stat().st_size
    for other in (size - 512, size + 512):
        os.truncate(bench.after, other)
        assert any("bytes" in p.problem for p in bench.compare(record).problems)


@pytest.mark.parametrize("kind", ["btrfs"])
def test_a_file_that_neither_side_can_read_is_no_proof(bench: Bench, tmp_path: Path) -> None:
    before = copied(bench.before, tmp_path / "before.img")
    for image in (before, bench.after):
        data = image.read_bytes()
        at = data.find(b"of the user of the user")
        while at > 0:
            _poke(image, at, b"X")
            at = data.find(b"of the user of the user", at + MIB)
    bench.before = before
    _, walked = bench.prove()
    assert {"/home/user/data", "/home/user/same"} <= {each.path for each in walked.unexplained}


@pytest.mark.parametrize("kind", ["ext4"])
def test_a_folder_that_cannot_be_listed_is_no_proof(bench: Bench, tmp_path: Path) -> None:
    bench.before = copied(bench.before, tmp_path / "before.img")
    for image in (bench.before, bench.after):
        run("debugfs", "-w", "-R", "set_inode_field /home/user block[0] 0", f"{image}?offset={PARTITION_OFFSET}")
        run("debugfs", "-w", "-R", "set_inode_field /home/user mode 0040755", f"{image}?offset={PARTITION_OFFSET}")
    with pytest.raises(BadListing):
        bench.prove()
