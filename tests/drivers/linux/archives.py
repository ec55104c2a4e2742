"""Archives made by the real programs, and guests in memory that hold them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.drivers.memory_tree import Folder, InMemoryTree, Link, Node

PACKERS: dict[str, tuple[str, ...]] = {
    "none": ("cat",),
    "gzip": ("gzip", "-9c"),
    "bzip2": ("bzip2", "-c"),
    "xz": ("xz", "--check=crc32", "-c"),
    "lzma": ("xz", "--format=lzma", "-c"),
    "zstd": ("zstd", "-q", "-c", "--check"),
    "lz4": ("lz4", "-l", "-c", "-q"),
}

MERGED_USR: Mapping[str, Node] = {
    "lib": Link("usr/lib"),
    "conf/initramfs.conf": "MODULES=list\n",
    "init": "#!/bin/sh\n",
}


def host_version() -> str:
    """The version of a kernel whose modules this host has."""
    for version in sorted(os.listdir("/lib/modules"), reverse=True) if Path("/lib/modules").is_dir() else ():
        if Path("/lib/modules", version, "modules.dep").exists():
            return version
    pytest.skip("no kernel package is installed on this host (linux-image-amd64)")


def host_module(path: str) -> bytes:
    """A real module by its path below the module folder."""
    return Path("/lib/modules", host_version(), path).read_bytes()


def pack(codec: str, data: bytes) -> bytes:
    """``data`` packed by the program that people pack it with."""
    return subprocess.run(PACKERS[codec], input=data, capture_output=True, check=True).stdout


def lay_out(root: Path, files: Mapping[str, Node]) -> None:
    """Write the files, links and folders below ``root``."""
    for name, node in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match node:
            case Link():
                path.symlink_to(node.target)
            case Folder():
                path.mkdir(exist_ok=True)
            case str():
                path.write_text(node, encoding="utf-8")
            case bytes():
                path.write_bytes(node)


def gnu_cpio(root: Path, files: Mapping[str, Node]) -> bytes:
    """An archive of the files by GNU cpio, parents first, as initramfs-tools and dracut call it."""
    root.mkdir(parents=True)
    lay_out(root, files)
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    listing = b"".join(os.fsencode(name) + b"\0" for name in [".", *names])
    argv = ["cpio", "--quiet", "-0", "-o", "-H", "newc"]
    return subprocess.run(argv, input=listing, cwd=root, capture_output=True, check=True).stdout


def unpack(archive: bytes, root: Path) -> None:
    """Let GNU cpio unpack one archive over what is in ``root``."""
    root.mkdir(parents=True, exist_ok=True)
    argv = ["cpio", "--quiet", "-idu", "--no-absolute-filenames"]
    subprocess.run(argv, input=archive, cwd=root, capture_output=True, check=True)


def microcode(root: Path) -> bytes:
    """The early archive that carries a CPU's microcode; not compressed."""
    return gnu_cpio(root, {"kernel/x86/microcode/AuthenticAMD.bin": bytes(range(256)) * 13 + b"odd"})


def aligned(data: bytes) -> bytes:
    """``data`` with zeroes up to the next 4-byte boundary."""
    return data + bytes(-len(data) % 4)


def tree_with(image: bytes, path: str = "/boot/initrd.img") -> InMemoryTree:
    """A guest that has nothing but this initramfs."""
    return InMemoryTree({path: image})
