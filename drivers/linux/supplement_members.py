"""What was appended to an initramfs, held against what was planned to be: member by member, and no byte besides. Pure."""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Iterator, Mapping

from drivers.changes import ExtendInitramfs
from drivers.expectations import encoded
from drivers.linux.cpio import ALIGNMENT, BadArchive, ByteStream, NewEntry, read_entries, write_archive
from drivers.linux.inflate import Budget, inflated
from drivers.linux.initramfs import MODULE_NAME
from p2v.core.units import MIB

MEMBER_BYTES = 64 * MIB
CONTENTS_BYTES = 256 * MIB
"""Modules and their indexes are tens of MiB."""
_MEMBERS_AT_MOST = 20_000
# what depmod makes; all stand in the folder of modules itself (depmod(8), kmod's tools/depmod.c)
_INDEXES = frozenset({
    "modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.symbols", "modules.symbols.bin",
    "modules.softdep", "modules.weakdep", "modules.devname", "modules.builtin.bin", "modules.builtin.alias.bin",
})  # fmt: skip
_FOLDER_MODE, _FILE_MODE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


def problems(change: ExtendInitramfs, appended: bytes, modules: Mapping[str, str]) -> Iterator[str]:
    """What is in the appended archive and was not planned, or was planned and is not in it.

    ``modules``: SHA-256 of the guest's own files, by the paths of ``change.modules``.
    """
    try:
        archive = _archive(change, appended)
        listed = list(_members(archive))
        if write_archive(listed) != archive:
            yield "what was appended to it has more than its members (owners, times, or something behind them)"
    except (BadArchive, ValueError) as error:
        yield f"what was appended to it is no archive: {error}"
        return
    if len({member.name for member in listed}) != len(listed):
        yield "what was appended to it has a name twice"
    yield from _of_members(change, {member.name: member for member in listed}, modules)


def _of_members(change: ExtendInitramfs, members: Mapping[str, NewEntry], modules: Mapping[str, str]) -> Iterator[str]:
    folders = {parent for name in members for parent in _parents(name)}
    texts = {file.path: encoded(file.after) for file in change.files}
    expected = {posixpath.basename(module): digest for module, digest in modules.items()}
    for name, member in members.items():
        base = posixpath.basename(name)
        if member.mode == _FOLDER_MODE and name in folders:
            continue
        if member.mode != _FILE_MODE:
            yield f"{name}, appended to it, has the mode {member.mode:o}"
        elif name in texts:
            if member.data != texts.pop(name):
                yield f"{name}, appended to it, has other contents than planned"
        elif MODULE_NAME.search(name) and base in expected and _is_below(name, change.archive_prefix):
            if hashlib.sha256(member.data).hexdigest() != expected.pop(base):
                yield f"{name}, appended to it, is not the guest's own module"
        elif not (change.modules and base in _INDEXES and name == posixpath.join(change.archive_prefix, base)):
            yield f"{name} was appended to it, and nobody planned that"
    for missing in (*texts, *expected):
        yield f"{missing} was to be appended to it, and is not there"


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name


def _is_below(name: str, folder: str) -> bool:
    return name.startswith(folder + "/") and not {"", ".", ".."} & set(name.split("/"))


def _archive(change: ExtendInitramfs, appended: bytes) -> bytes:
    """The archive as it is unpacked, from its first entry on. Raises BadArchive when anything stands before or behind it."""
    if change.codec == "lz4":
        stream = ByteStream(iter([appended]))
        stream.skip_zeroes()
        contents = b"".join(inflated("lz4", stream, Budget(left_bytes=CONTENTS_BYTES), lambda: None))
        stream.skip_zeroes()
        if stream.peek():
            raise BadArchive("something stands behind it")
        # as many zeroes as align it in what was packed before
        begin = len(contents[: ALIGNMENT - 1]) - len(contents[: ALIGNMENT - 1].lstrip(b"\0"))
    else:
        # aligned as the kernel counts, from the beginning of the file
        contents, begin = appended, -change.size % ALIGNMENT
    if any(contents[:begin]):
        raise BadArchive("something stands before it")
    return contents[begin:]


def _members(archive: bytes) -> Iterator[NewEntry]:
    for number, entry in enumerate(read_entries(ByteStream(iter([archive])))):
        if number == _MEMBERS_AT_MOST:
            raise BadArchive(f"it has more than {_MEMBERS_AT_MOST} members")
        yield NewEntry(entry.name, entry.mode, entry.data(MEMBER_BYTES))
