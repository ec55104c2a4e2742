"""A small tree and what is planned in it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from drivers.changes import Change, DeleteFile, EditFile, MakeSymlink, WriteFile

OLD, NEW = "root=/dev/sda1\n", "root=/dev/vda1\n"
GONE = b"tool\n"
LINK = "etc/systemd/network/70-p2v.link"
CHANGES: tuple[Change, ...] = (
    EditFile("/etc/fstab", OLD, NEW, "why"),
    WriteFile("/etc/systemd/network/70-p2v.link", "[Match]\n", 0o644, "why"),
    MakeSymlink("/etc/tool.service", "/dev/null", "/lib/tool.service", "why"),
    MakeSymlink("/etc/more/deep/one", "../x", None, "why"),
    DeleteFile("/etc/tool.conf", hashlib.sha256(GONE).hexdigest(), "why"),
)


def grow(tree: Path) -> None:
    """Fill a folder with what most guests have, and with odd names."""
    for folder in ("etc/systemd", "lib", "usr/bin", "home/user"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/fstab").write_text(OLD)
    (tree / "etc/tool.conf").write_bytes(GONE)
    (tree / "etc/passwd").write_text("root:x:0:0\n")
    (tree / "etc/tool.service").symlink_to("/lib/tool.service")
    (tree / "lib/tool.service").write_text("[Unit]\n")
    (tree / "lib/same.link").write_text("[Match]\n")
    (tree / "usr/bin/program").write_bytes(bytes(range(256)) * 256)
    (tree / "usr/bin/program").chmod(0o755)
    (tree / "home/user/one\nline").write_bytes(b"a name with a newline")
    (tree / "home/user" / os.fsdecode(b"caf\xe9 \\012")).write_bytes(b"no UTF-8")
    (tree / "home/user/data").write_bytes(b"of the user " * 1000)
    os.link(tree / "home/user/data", tree / "home/user/same")
    os.mknod(tree / "home/user/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(tree / "home/user/pipe")
    for number in range(300):
        (tree / f"usr/bin/many{number}").write_bytes(b"%d" % number)
