"""A small disk with one ext4 partition, made and looked into without mounting anything."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

MIB = 1024 * 1024
OFFSET = MIB
ROOT_BYTES = 60 * MIB
DISK_BYTES = 64 * MIB
UUID = "11111111-2222-3333-4444-555555555555"
LABEL = "smallroot"
STALE_HOSTNAME = b"before-the-journal"
HOSTNAME = b"after-the-journal"


def run(*argv: str | Path, stdin: str | None = None) -> str:
    return subprocess.run([*argv], input=stdin, capture_output=True, text=True, check=True).stdout


def debugfs(image: Path, commands: Iterable[str], *, write: bool = False) -> str:
    """What debugfs prints; it reads what is there, no journal is replayed."""
    script = "\n".join(commands) + "\n"
    mode = ["-w"] if write else []
    done = subprocess.run(
        ["debugfs", *mode, "-f", "-", f"{image}?offset={OFFSET}"],
        input=script,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    assert not complaints, complaints
    return done.stdout


def make_disk(image: Path, root: Path) -> None:
    """Put a folder's files into a new disk."""
    with image.open("wb") as disk:
        disk.truncate(DISK_BYTES)
    run("sfdisk", "--quiet", image, stdin=f"label: dos\nstart={OFFSET // 512}, size={ROOT_BYTES // 512}, type=83\n")
    size = f"{ROOT_BYTES // 1024}k"
    run(
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-L",
        LABEL,
        "-U",
        UUID,
        "-d",
        root,
        "-E",
        f"offset={OFFSET}",
        image,
        size,
    )


def set_label(image: Path, path: str, label: bytes, folder: Path) -> None:
    value = folder / "label"
    value.write_bytes(label)
    debugfs(image, [f"ea_set -f {value} {path} security.selinux"], write=True)


def label_of(image: Path, path: str, folder: Path) -> bytes:
    value = folder / "label-found"
    debugfs(image, [f"ea_get -f {value} {path} security.selinux"])
    return value.read_bytes()


def leave_in_journal(image: Path, path: str, content: bytes, folder: Path) -> None:
    """As after a crash: a file's new contents are committed to the journal and not yet in their place."""
    (number,) = debugfs(image, [f"blocks {path}"]).splitlines()[-1].split()
    block = folder / "block"
    block.write_bytes(content.ljust(4096, b"\0"))
    debugfs(image, ["jo", f"jw -b {number} {block}", "jc"], write=True)
    features = debugfs(image, ["show_super_stats -h"])
    assert "needs_recovery" in features


def damage(image: Path, path: str) -> None:
    """A wrong link count; the superblock still says clean."""
    debugfs(image, [f"set_inode_field {path} links_count 7"], write=True)


def read_file(image: Path, path: str, folder: Path) -> bytes:
    copy = folder / "dumped"
    copy.unlink(missing_ok=True)
    debugfs(image, [f"dump {path} {copy}"])
    return copy.read_bytes()


def inode_of(image: Path, path: str) -> tuple[int, str, int, int]:
    """Inode number, mode in octal with the file type, owner, group."""
    said = debugfs(image, [f"stat {path}"])
    number = re.search(r"Inode: (\d+)", said)
    mode = re.search(r"Mode:\s+(\d+)", said)
    kind = re.search(r"Type: (\S+)", said)
    owner = re.search(r"User:\s+(\d+)\s+Group:\s+(\d+)", said)
    if not (number and mode and kind and owner):
        raise AssertionError(said)
    return int(number[1]), f"{kind[1]} {mode[1]}", int(owner[1]), int(owner[2])


def digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def names_in(image: Path, folder: str) -> set[str]:
    said = debugfs(image, [f"ls -p {folder}"])
    return {line.split("/")[5] for line in said.splitlines() if line.startswith("/")}


def qemus() -> set[int]:
    """QEMU processes that are ours: children of this process."""
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            name, _, rest = Path("/proc", entry, "stat").read_text().rpartition(")")
        except OSError:
            continue
        state, parent = rest.split()[:2]
        if "(qemu" in name and int(parent) == os.getpid() and state != "Z":
            found.add(int(entry))
    return found
