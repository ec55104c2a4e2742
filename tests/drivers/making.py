"""Tiny disks for these tests, made by the usual programs without root."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.drivers.memory_tree import Link

MIB = 1 << 20
ROOT_UUID = "11111111-2222-4333-8444-555555555555"
BOOT_UUID = "22222222-2222-4333-8444-555555555555"
ELF_X86_64 = b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00" + bytes(44)

SYSTEM: Mapping[str, bytes | str | Link] = {
    "/etc/os-release": Link("../usr/lib/os-release"),
    "/usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "/etc/fstab": f"UUID={ROOT_UUID} / ext4 errors=remount-ro 0 1\n",
    "/etc/hostname": "tiny\n",
    "/bin": Link("usr/bin"),
    "/sbin": Link("usr/sbin"),
    "/usr/bin/sh": Link("dash"),
    "/usr/bin/dash": ELF_X86_64,
    "/usr/sbin/init": Link("../lib/systemd/systemd"),
    "/usr/lib/systemd/systemd": ELF_X86_64,
    "/boot/readme": "empty\n",
}


def run(*argv: str | Path, stdin: str = "") -> str:
    """Run a program; its stdout. An error shows what it said."""
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([str(a) for a in argv], input=stdin, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
    return done.stdout


def lay_files(folder: Path, files: Mapping[str, bytes | str | Link]) -> Path:
    """Write files and links below a folder."""
    for name, node in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(node, Link):
            path.symlink_to(node.target)
        else:
            path.write_bytes(node.encode() if isinstance(node, str) else node)
    return folder


def sized(path: Path, size: int) -> Path:
    """A file of zeroes."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def make_ext(path: Path, size: int, folder: Path | None = None, *options: str, uuid: str = ROOT_UUID) -> Path:
    """An ext file system (ext4 unless the options say otherwise) with a folder's contents."""
    kind = () if "-t" in options else ("-t", "ext4")
    source = ("-d", str(folder)) if folder else ()
    run("mke2fs", "-q", "-F", "-U", uuid, *kind, *options, *source, sized(path, size))
    return path


def make_ntfs(path: Path, size: int) -> Path:
    """An NTFS that says that it begins at sector 2048."""
    run("mkntfs", "-F", "-Q", "-q", "-p", "2048", "-H", "255", "-S", "63", "-s", "512", sized(path, size))
    return path


def make_disk(path: Path, size: int, script: str, parts: Sequence[tuple[int, Path]] = ()) -> Path:
    """A disk with a partition table in sfdisk's language, and files copied to offsets."""
    run("sfdisk", "-q", sized(path, size), stdin=script)
    with path.open("r+b") as disk:
        for offset, part in parts:
            disk.seek(offset)
            disk.write(part.read_bytes())
    return path


def patch(path: Path, offset: int, data: bytes) -> Path:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


def patch_word(path: Path, offset: int, *, set_bits: int = 0, clear_bits: int = 0) -> Path:
    """Set or clear bits of a little-endian 32-bit word."""
    with path.open("rb") as file:
        file.seek(offset)
        value = struct.unpack("<I", file.read(4))[0]
    return patch(path, offset, struct.pack("<I", value & ~clear_bits | set_bits))
