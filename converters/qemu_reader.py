"""qcow version 1, QED and Parallels, read by qemu-nbd: rare formats, whose tables QEMU parses in a process of its own.

qemu-nbd is told the format, given the one file as an open descriptor, and told that there is no backing file whatever
the image says; images that name one are refused before. It runs within limits, without privileges, and once it has
opened the image it can open nothing more, neither file nor socket. It ends when its connections end: with the disk,
and with this process however that dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from converters import c_nbd, c_qemu
from converters.extents import MAX_DATA_EXTENT, data
from converters.info import ImageFacts
from converters.mapped import MappedDisk, MetadataRange
from converters.nbd_client import NbdConnection
from converters.references import Opening
from converters.source_file import SourceFile, open_source, past_the_end
from p2v.core.disk import Extent, StoredAt
from p2v.core.errors import BadImage, P2vError, ProgramFailed, ReadFailed, UnsupportedImage
from p2v.core.limited import Limits, limited
from p2v.core.run import Background, background
from p2v.core.units import GIB, KIB, MIB, SECTOR_BYTES
from p2v.core.workspace import socket_folder

START_SECONDS = 30.0
ANSWER_SECONDS = 60.0
_POLL_SECONDS = 0.01
_MEMORY_BYTES = 2 * GIB
# Its stderr goes to a file, which is the only one it ever writes.
_STDERR_BYTES = 64 * KIB
# Of processor time: a floor, and what a slow host needs to read the whole file a few times.
_CPU_SECONDS = 3600
_SLOWEST_BYTES_PER_SECOND = 8 * MIB
_METADATA_BYTES = MIB
_DESCRIPTOR = "DiskDescriptor.xml"


class ServedFile(SourceFile):
    """What qemu-nbd makes of an image: reads give bytes of the virtual disk. Owns the image, server and connections.

    Its ``path`` is the image's, as another object than ``host_path``: by that readers know that offsets in it are
    not offsets in the host's file.
    """

    def __init__(self, image: SourceFile, connections: tuple[NbdConnection, NbdConnection], owned: ExitStack) -> None:
        super().__init__(Path(image.path), -1, image.size, image.mtime_ns, is_block_device=image.is_block_device)
        self.virtual_size = connections[0].size
        self._image = image
        self._owner_pid = os.getpid()
        self._own, self._childs = connections
        self._owned = owned

    @property
    def host_path(self) -> Path:
        """The image."""
        return self._image.host_path

    @property
    def kept_fds(self) -> tuple[int, ...]:
        """The connection of a forked child."""
        return (self._childs.fd,)

    @property
    def connection(self) -> NbdConnection:
        """This process's own. A child that inspects a hostile guest shares none with its parent: it could leave
        replies in it that the parent takes for its own."""
        return self._own if os.getpid() == self._owner_pid else self._childs

    @property
    def host_sources(self) -> tuple[SourceFile, ...]:
        """The image's."""
        return self._image.host_sources

    def places(self, offset: int, length: int) -> Iterator[tuple[int, StoredAt | None]]:
        """Nowhere: only QEMU knows where it has the byte."""
        yield length, None

    def pread(self, length: int, offset: int) -> bytes:
        """Up to ``length`` bytes of the virtual disk. Raises ReadFailed, BadImage."""
        return self.connection.pread(max(0, min(length, self.virtual_size - offset)), offset)

    def require(self, length: int, offset: int, what: str) -> None:
        """Raise BadImage unless the bytes lie in the virtual disk."""
        if offset < 0 or length < 0 or offset + length > self.virtual_size:
            raise past_the_end(self, what, length, offset)

    def close(self) -> None:
        """End the server and give back the image; closing twice is harmless."""
        self._owned.close()
        self._image.close()


class ServedLayout:
    """A disk whose allocation the server tells."""

    block_bytes = 0

    def __init__(self, served: ServedFile, image: SourceFile) -> None:
        self._served = served
        self._image = image

    @property
    def virtual_size(self) -> int:
        """Bytes of the disk as its guest sees it."""
        return self._served.virtual_size

    def lookup(self, start: int, end: int) -> Iterator[Extent]:
        """All of it, without asking: the server reads holes as zeroes."""
        yield data(0, self.virtual_size, self._served.path, 0)

    def walk(self) -> Iterator[Extent]:
        """Data, holes and allocated zeroes as the server tells them."""
        position = 0
        while position < self.virtual_size:
            length = min(MAX_DATA_EXTENT, self.virtual_size - position)
            for count, flags in self._served.connection.states(length, position):
                if flags & c_nbd.STATE_ZERO:
                    yield Extent(position, count, zero=True, allocated=not flags & c_nbd.STATE_HOLE)
                else:
                    yield data(position, count, self._served.path, position)
                position += count

    def metadata(self) -> Iterator[MetadataRange]:
        """The begin of the image, where these formats have header and first tables."""
        yield MetadataRange(self._image, 0, min(_METADATA_BYTES, self._image.size))


def open_qcow1(file: SourceFile, _opening: Opening) -> MappedDisk:
    """Open a qcow image of version 1. Raises BadImage, UnsupportedImage, ReadFailed, ToolMissing."""
    try:
        header = c_qemu.unpack_qcow1(file.pread(c_qemu.HEADER_BYTES, 0))
    except ValueError as error:
        raise _cut_short(file, "qcow") from error
    if header.backing_file_offset:
        raise _has_backing_file(file, "qcow")
    if header.crypt_method:
        raise UnsupportedImage(file.path, f"is encrypted (method {header.crypt_method})")
    _check_size(file, header.size)
    variant = f"version 1, clusters of {1 << min(header.cluster_bits, 63)} bytes"
    return _served_disk(file, "qcow", header.size, ImageFacts("qcow", variant))


def open_qed(file: SourceFile, _opening: Opening) -> MappedDisk:
    """Open a QED image. Raises BadImage, UnsupportedImage, ReadFailed, ToolMissing."""
    try:
        header = c_qemu.unpack_qed(file.pread(c_qemu.HEADER_BYTES, 0))
    except ValueError as error:
        raise _cut_short(file, "QED") from error
    if header.features & c_qemu.QED_F_BACKING_FILE:
        raise _has_backing_file(file, "QED")
    _check_size(file, header.image_size)
    dirty = ("QED image in need of a check",) if header.features & c_qemu.QED_F_NEED_CHECK else ()
    facts = ImageFacts("qed", f"clusters of {header.cluster_size} bytes", dirty=dirty)
    return _served_disk(file, "qed", header.image_size, facts)


def open_parallels(file: SourceFile, _opening: Opening) -> MappedDisk:
    """Open a Parallels image. Raises BadImage, UnsupportedImage, ReadFailed, ToolMissing."""
    try:
        header = c_qemu.unpack_parallels(file.pread(c_qemu.HEADER_BYTES, 0))
    except ValueError as error:
        raise _cut_short(file, "Parallels") from error
    _refuse_snapshots(file)
    # The older variant counts in 32 bits and leaves the rest of the field undefined.
    sectors = header.nb_sectors if header.magic == c_qemu.PARALLELS_EXT_MAGIC else header.nb_sectors & 0xFFFFFFFF
    size = sectors * SECTOR_BYTES
    _check_size(file, size)
    dirty = ("Parallels image not closed",) if header.in_use == c_qemu.PARALLELS_IN_USE else ()
    extended = ", extended" if header.magic == c_qemu.PARALLELS_EXT_MAGIC else ""
    variant = f"expanding{extended}, clusters of {header.tracks * SECTOR_BYTES} bytes"
    return _served_disk(file, "parallels", size, ImageFacts("parallels", variant, dirty=dirty))


def _cut_short(file: SourceFile, name: str) -> BadImage:
    return BadImage(file.path, f"its {name} header is past the end of the file ({file.size} bytes)")


def _has_backing_file(file: SourceFile, name: str) -> UnsupportedImage:
    return UnsupportedImage(
        file.path,
        f"is a {name} image that holds only changes to a backing file",
        "Merge the two where they were made, if you trust both: qemu-img convert -f FORMAT -O qcow2 IMAGE MERGED.",
    )


def _check_size(file: SourceFile, size: int) -> None:
    if not SECTOR_BYTES <= size < 1 << 63:
        raise BadImage(file.path, f"its header says a disk of {size} bytes")


def _refuse_snapshots(file: SourceFile) -> None:
    """A snapshot's image looks like any other; only the description of the whole disk tells that it is one."""
    try:
        descriptor = open_source(file.host_path.with_name(_DESCRIPTOR))
    except P2vError:
        return  # no description, no more to know
    images = descriptor.pread(MIB, 0).count(b"<Image>")
    descriptor.close()
    if images > 1:
        raise UnsupportedImage(
            file.path,
            f"is one of {images} images of a Parallels disk with snapshots, says {_DESCRIPTOR}",
            "Delete the snapshots in Parallels (which merges them), then copy the disk again.",
        )


def _served_disk(file: SourceFile, driver: str, size: int, facts: ImageFacts) -> MappedDisk:
    if file.host_path is not file.path:
        problem = f"is a {facts.format} image within another file, where QEMU cannot read it"
        raise UnsupportedImage(file.path, problem, "Unpack it first.")
    with ExitStack() as stack:
        connections = _serve(file, driver, stack)
        served_size = connections[0].size
        # QEMU leaves a last part of a sector out.
        if served_size != size - size % SECTOR_BYTES:
            raise BadImage(file.path, f"its header says a disk of {size} bytes, QEMU reads one of {served_size}")
        # From here on the disk ends the server.
        served = ServedFile(file, connections, stack.pop_all())
    return MappedDisk(ServedLayout(served, file), (served,), facts)


def _serve(file: SourceFile, driver: str, stack: ExitStack) -> tuple[NbdConnection, NbdConnection]:
    status = os.fstat(file.fd)
    owner = (status.st_uid, status.st_gid)
    limits = Limits(_MEMORY_BYTES, _CPU_SECONDS + file.size // _SLOWEST_BYTES_PER_SECOND, _STDERR_BYTES)
    # The folder is of use only until both connections are made.
    with socket_folder() as folder:
        if os.geteuid() == 0:
            os.chown(folder, *owner)
        address, log = folder / "nbd.sock", folder / "nbd.log"
        command = limited(_command(driver, address), limits, owner)
        # As its stdin the image has a low number, without a gap in which later descriptors could have theirs.
        program = stack.enter_context(background(command, stderr_file=log, stdin_fd=file.fd, grace_seconds=1.0))
        _wait_until_it_listens(file, program, address)
        try:
            own = NbdConnection(address, file.path, ANSWER_SECONDS)
            stack.callback(own.close)
            childs = NbdConnection(address, file.path, ANSWER_SECONDS)
            stack.callback(childs.close)
        except ReadFailed as error:
            if program.wait(_POLL_SECONDS) is not None:
                raise _refused(file, program) from error
            raise
    program.forbid_new_descriptors()
    return own, childs


def _command(driver: str, address: Path) -> list[str]:
    image = {
        "driver": driver,
        "read-only": True,
        # No backing file, even if the header should name one by the time QEMU reads it.
        "backing": None,
        "file": {"driver": "file", "filename": "/proc/self/fd/0", "locking": "off"},
    }
    # One connection each for us and for a forked child; the server ends with the last of them.
    return ["qemu-nbd", "--read-only", "--shared=2", f"--socket={address}", "json:" + json.dumps(image)]


def _wait_until_it_listens(file: SourceFile, program: Background, address: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    # QEMU opens the image first, then makes the socket.
    while not address.exists():
        if program.wait(_POLL_SECONDS) is not None:
            raise _refused(file, program)
        if time.monotonic() > deadline:
            raise ReadFailed(str(file.path), f"was not opened by QEMU within {START_SECONDS:g} s")


def _refused(file: SourceFile, program: Background) -> P2vError:
    said = program.stderr_tail().strip().splitlines()
    words = said[-1] if said else f"it ended with status {program.exit_status()}"
    wrapper = words.partition(":")[0]
    if wrapper in ("prlimit", "setpriv"):
        # A host that does not let us limit a program; the image has no part in it.
        return ProgramFailed(wrapper, program.exit_status() or 0, words)
    # what QEMU puts before its reason: its own name, and the description of the image we gave it
    with contextlib.suppress(ValueError):
        words = words[words.rindex("}': ") + 4 :]
    return BadImage(file.path, f"QEMU does not open it: {ascii(words[:300])[1:-1]}")
