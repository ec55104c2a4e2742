"""What no list of names shows: bitmaps, journals, superblocks, blocks of two files, folders that lie about kinds."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.listing import BadListing
from p2v.core.units import KIB
from tests.proof.bench import PARTITION_OFFSET, Bench, on_loop, run
from tests.proof.sample import LINK

_INODE = f"set_inode_field /{LINK}"


def _device(bench: Bench) -> str:
    return f"{bench.after}?offset={PARTITION_OFFSET}"


def _debugfs(bench: Bench, *commands: str) -> str:
    script = bench.scratch / "commands"
    script.write_text("".join(f"{command}\n" for command in commands))
    return run("debugfs", "-w", "-f", script, _device(bench))


def _block_of(bench: Bench, path: str) -> int:
    return int(run("debugfs", "-R", f"blocks {path}", _device(bench)).split()[0])


def _poke(bench: Bench, offset: int, data: bytes) -> None:
    with bench.after.open("r+b") as file:
        file.seek(PARTITION_OFFSET + offset)
        file.write(data)


def _mounted(spoil: Callable[[Path], object]) -> Callable[[Bench], None]:
    def spoilt(bench: Bench) -> None:
        with bench.on_result() as root:
            spoil(root)

    return spoilt


def _transaction(bench: Bench) -> None:
    """A committed transaction that puts other bytes into a file at the next mount."""
    evil = bench.scratch / "evil"
    evil.write_bytes(b"other bytes".ljust(KIB, b"\0"))
    _debugfs(bench, "jo", f"jw -b {_block_of(bench, '/usr/bin/many3')} {evil}", "jc")


def _lost_inode(bench: Bench) -> None:
    """The name is gone, its inode and its block are not."""
    number = run("debugfs", "-R", "stat /etc/tool.conf", f"{bench.before}?offset={PARTITION_OFFSET}").split()[1]
    _debugfs(bench, *(f"set_inode_field <{number}> {f}" for f in ("mode 0100644", "links_count 1", "dtime 0")), f"seti <{number}>")


# what is done to the result, and words of what is told
EXT4: dict[str, tuple[Callable[[Bench], object], str]] = {
    "a transaction that waits in the journal": (_transaction, "replayed"),
    "blocks of a file marked as free": (lambda b: _debugfs(b, f"freeb {_block_of(b, '/usr/bin/program')} 3"), "free now"),
    "free blocks given out": (lambda b: _debugfs(b, "setb 20000 2"), "given out now"),
    "an inode marked as free": (lambda b: _debugfs(b, "freei /usr/bin/many3"), "free now"),
    "the planned file's inode marked as free": (lambda b: _debugfs(b, f"freei /{LINK}"), "of a planned name is free"),
    "an inode without a name": (_lost_inode, "of a name that is gone is not free"),
    "a group that says it was never used": (lambda b: _debugfs(b, "set_bg 0 flags 0x7"), "flags"),
    "a group's count of folders": (lambda b: _debugfs(b, "set_bg 0 used_dirs_count 99"), "counts 99 folders"),
    "inodes that were never used": (lambda b: _debugfs(b, "set_bg 0 itable_unused 1900"), "never used"),
    "reserved room": (lambda b: _poke(b, 3 * KIB + 100, b"hidden"), "room for group descriptors"),
    "errors": (lambda b: _debugfs(b, "set_super_value state 3"), "marked as having errors"),
    "orphans": (lambda b: _debugfs(b, f"set_super_value last_orphan {_number(b)}"), "list of orphans"),
    "another feature": (lambda b: _debugfs(b, "feature stable_inodes"), "superblock differs at byte 93"),
    "a planned file that cannot be changed": (lambda b: _debugfs(b, f"{_INODE} flags 0x80010"), "flags 0x10"),
    "a planned file's number of blocks": (lambda b: _debugfs(b, f"{_INODE} blocks 99"), "counts other blocks"),
    "a planned file's project": (lambda b: _debugfs(b, f"{_INODE} projid 7"), "project"),
    "a planned file that was deleted": (lambda b: _debugfs(b, f"{_INODE} dtime 20200101"), "deleted"),
    "behind the planned file's end": (lambda b: _poke(b, _block_of(b, f"/{LINK}") * KIB + 500, b"hidden"), "bytes behind its end"),
    "blocks behind the planned file's end": (
        _mounted(lambda r: run("fallocate", "-n", "-l", "20000", "-o", "4096", r / LINK)), "blocks behind its end"
    ),
    "blocks behind the edited file's end": (
        _mounted(lambda r: run("fallocate", "-n", "-l", "20000", "-o", "4096", r / "etc/fstab")), "blocks behind its end"
    ),
    "a folder's number of names": (lambda b: _debugfs(b, "set_inode_field /etc links_count 9"), "number of names 3 -> 9"),
    "a second name of a planned file": (
        _mounted(lambda r: os.link(r / LINK, r / "etc/more/second")), "one of 2 names of a file"
    ),
    "an edited file that another took the place of": (
        _mounted(lambda r: (run("cp", "-p", r / "etc/fstab", r / "etc/x"), (r / "etc/x").rename(r / "etc/fstab"))), "inode number"
    ),
    "a folder that became a link": (_mounted(lambda r: _moved(r / "etc/systemd", r / "home/sub")), "kind of file"),
}  # fmt: skip


def _moved(path: Path, to: Path) -> None:
    path.rename(to)
    path.symlink_to(to.name)


def _number(bench: Bench) -> int:
    return int(run("debugfs", "-R", "stat /usr/bin/many4", _device(bench)).split()[1])


@pytest.mark.parametrize(("kind", "what"), [("ext4", what) for what in EXT4])
def test_what_hides_in_the_structures_of_ext4_is_named(bench: Bench, what: str) -> None:
    spoil, words = EXT4[what]
    spoil(bench)
    told = [each.problem for each in bench.prove()[1].unexplained]
    assert any(words in problem for problem in told), told


def _same_block(bench: Bench) -> None:
    """The planned file has the block of a file with the same contents."""
    _debugfs(bench, f"{_INODE} block[0] {_block_of(bench, '/lib/same.link')}")


def _lying_folder(bench: Bench) -> None:
    # before a name stands its length and the kind of file: 1 is a plain one, 6 a socket
    _poke(bench, _block_of(bench, "/etc") * KIB + _raw_at(bench, b"passwd") - 1, b"\6")


def _raw_at(bench: Bench, name: bytes) -> int:
    with bench.after.open("rb") as file:
        file.seek(PARTITION_OFFSET + _block_of(bench, "/etc") * KIB)
        return file.read(KIB).find(name)


# ext3 has no checksums that would tell first
EXT3: dict[str, tuple[Callable[[Bench], object], str, str]] = {
    "two files with one block": (_same_block, "/lib/same.link", "belong to a planned name too"),
    "a kind of file that only the folder says": (_lying_folder, "/etc/passwd", "its folder says"),
    "another journal": (lambda b: _poke(b, _journal_of(b) + 0x30, b"user"), "/", "journal's superblock differs at byte 48"),
    "a journal that is none": (lambda b: _poke(b, _journal_of(b), b"none"), "/", "cannot be mounted"),
    "a file system that was not unmounted": (
        lambda b: _poke(b, KIB + 0x3A, struct.pack("<H", 0)), "/", "not cleanly unmounted"
    ),
}  # fmt: skip


def _journal_of(bench: Bench) -> int:
    return int(run("debugfs", "-R", "bmap <8> 0", _device(bench))) * KIB


@pytest.mark.parametrize(("kind", "what"), [("ext3", what) for what in EXT3])
def test_what_hides_in_the_structures_of_ext3_is_named(bench: Bench, what: str) -> None:
    spoil, path, words = EXT3[what]
    spoil(bench)
    try:
        told = [(each.path, each.problem) for each in bench.prove()[1].unexplained]
    except BadListing as error:
        told = [("/", str(error))]  # p2v.proof.prove says so of the whole file system
    assert any(words in problem and where == path for where, problem in told), told


def _on_device(*words: str) -> Callable[[Bench], None]:
    def spoilt(bench: Bench) -> None:
        with on_loop(bench.after) as device:
            run(*words, device)

    return spoilt


def _xfs_inode(field: str) -> Callable[[Bench], None]:
    def spoilt(bench: Bench) -> None:
        with bench.on_result() as root:
            number = (root / "usr/bin/program").stat().st_ino
        _on_device("xfs_db", "-x", "-c", f"inode {number}", "-c", f"write -d {field}")(bench)

    return spoilt


OTHERS: dict[str, tuple[str, Callable[[Bench], object], str]] = {
    "label": ("xfs", _on_device("xfs_admin", "-L", "other"), "superblock differs at byte 108"),
    "copy of the superblock": ("xfs", _on_device("xfs_db", "-x", "-c", "sb 1", "-c", 'write -d fname "x"'), "in group 1"),
    "unwritten extent": ("xfs", _xfs_inode("u3.bmx[0].extentflag 1"), "other contents"),
    "project": ("xfs", _xfs_inode("core.projid_lo 7"), "project 0 -> 7"),
    "generation": ("xfs", _xfs_inode("core.gen 7"), "generation"),
    "flag of a name with a newline": ("xfs", _mounted(lambda r: run("chattr", "+i", r / "home/user/one\nline")), "flags  -> i"),
    "label of Btrfs": ("btrfs", _mounted(lambda r: run("btrfs", "filesystem", "label", r, "other")), "superblock differs"),
    "another subvolume": ("btrfs", _mounted(lambda r: run("btrfs", "subvolume", "create", r / "home/evil")), "is new"),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "what"), [(kind, what) for what, (kind, _, _) in OTHERS.items()])
def test_what_no_list_of_names_shows_is_named_on_other_file_systems(bench: Bench, what: str) -> None:
    _, spoil, words = OTHERS[what]
    spoil(bench)
    told = [each.problem for each in bench.prove()[1].unexplained]
    assert any(words in problem for problem in told), told
