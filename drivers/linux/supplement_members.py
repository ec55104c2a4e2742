"""What was appended to an initramfs, held against what was planned to be: member by member. Pure."""

from __future__ import annotations

import hashlib
import posixpath
import stat
from collections.abc import Iterator, Mapping

from drivers.changes import ExtendInitramfs
from drivers.expectations import encoded
from drivers.linux.cpio import ALIGNMENT, BadArchive, ByteStream, read_entries
from drivers.linux.inflate import Budget, inflated
from drivers.linux.initramfs import MODULE_NAME
from p2v.core.units import MIB

MEMBER_BYTES = 64 * MIB
# what depmod makes, and the lists it makes them from
_INDEX = "modules."
_FOLDER_MODE, _FILE_MODE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


def problems(change: ExtendInitramfs, appended: bytes, modules: Mapping[str, str]) -> Iterator[str]:
    """What is in the appended archive and was not planned, or was planned and is not in it.

    ``modules``: SHA-256 of the guest's own files, by the paths of ``change.modules``.
    """
    try:
        listed = list(_entries(change, appended))
    except (BadArchive, ValueError) as error:
        yield f"what was appended to it is no archive: {error}"
        return
    members = {name: (mode, data) for name, mode, data in listed}
    if len(members) != len(listed):
        yield "what was appended to it has a name twice"
    texts = {file.path: encoded(file.after) for file in change.files}
    expected = {posixpath.basename(module): digest for module, digest in modules.items()}
    for name, (mode, data) in members.items():
        base = posixpath.basename(name)
        if mode == _FOLDER_MODE and any(other.startswith(name + "/") for other in members):
            continue
        if mode != _FILE_MODE:
            yield f"{name}, appended to it, has the mode {mode:o}"
        elif name in texts:
            if data != texts.pop(name):
                yield f"{name}, appended to it, has other contents than planned"
        elif MODULE_NAME.search(name) and base in expected:
            if hashlib.sha256(data).hexdigest() != expected.pop(base):
                yield f"{name}, appended to it, is not the guest's own module"
        elif not (change.modules and base.startswith(_INDEX) and name.startswith(change.archive_prefix + "/")):
            yield f"{name} was appended to it, and nobody planned that"
    for missing in (*texts, *expected):
        yield f"{missing} was to be appended to it, and is not there"


def _entries(change: ExtendInitramfs, appended: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, mode and contents of each member. Raises BadArchive, also when anything but zeroes stands behind the archive."""
    if change.codec == "lz4":
        stream = ByteStream(iter([appended]))
        stream.skip_zeroes()
        contents = ByteStream(inflated("lz4", stream, Budget(), lambda: None))
    else:
        # aligned as the kernel counts, from the beginning of the file
        contents = ByteStream(iter([appended[-change.size % ALIGNMENT :]]))
    for entry in read_entries(contents):
        yield entry.name, entry.mode, entry.data(MEMBER_BYTES)
    contents.skip_zeroes()
    if contents.peek():
        raise BadArchive("something stands behind it")
