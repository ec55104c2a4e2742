"""What the appliance does less of at its start: modules of devices that it never has, and devices whose names nobody needs.

The scripts and archives are the installed libguestfs' and supermin's own; what is not found in them as expected stays as it is.
"""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import PurePosixPath

from drivers.fixed_appliance.kernel import Unsuitable
from drivers.linux.cpio import BadArchive, ByteStream, NewEntry, read_entries, write_archive
from p2v.core.units import MIB

# Without network, and with disks on virtio-scsi, the appliance has no such device. Each costs some hundredths of a second to
# load, ata_piix (which looks for disks on empty cables) a quarter. Names with "_", as the kernel has them.
UNNEEDED_MODULES = frozenset(
    {"ata_piix", "libata", "nfit", "libnvdimm", "nd_btt", "nd_pmem", "nd_virtio", "virtio_pmem"}
    | {"virtio_net", "net_failover", "failover", "virtio_crypto", "crypto_engine", "virtio_input", "virtio_mem"}
    | {"virtio_balloon", "virtio_mmio", "virtio_dma_buf", "virtiofs", "crc_itu_t", "crc7", "crc8", "crc32_generic"}
)
_MODULE_LIST = "modules"
_INIT = "init"
_LARGEST_MEMBER_BYTES = 256 * MIB

_ALL_DEVICES = "udevadm trigger"
# Disks and partitions with what is on them, and the channel to libguestfs. What is put together later (LVM, md, LUKS, LDM)
# tells of itself.
_NEEDED_DEVICES = "udevadm trigger --subsystem-match=block --subsystem-match=virtio-ports"


def thinned(archive: bytes) -> bytes:
    """supermin's initrd without the modules that are not needed, neither in its list nor as files.

    Raises Unsuitable where it is built otherwise than known.
    """
    try:
        entries = [
            NewEntry(entry.name, entry.mode, entry.data(_LARGEST_MEMBER_BYTES) if entry.is_file else b"")
            for entry in read_entries(ByteStream([archive]))
            if entry.is_file or entry.is_folder
        ]
    except BadArchive as error:
        raise Unsuitable(f"supermin's initrd cannot be read: {error}") from error
    if not {_MODULE_LIST, _INIT} <= {_name(entry) for entry in entries}:
        raise Unsuitable("supermin's initrd has no list of modules, or no init")
    return write_archive(_without_modules(entry) for entry in entries if not _is_unneeded(_name(entry)))


def _name(entry: NewEntry) -> str:
    return entry.name.removeprefix("./").removeprefix("/")


def _without_modules(entry: NewEntry) -> NewEntry:
    if _name(entry) != _MODULE_LIST:
        return entry
    lines = entry.data.decode("utf-8", "surrogateescape").splitlines(keepends=True)
    kept = "".join(line for line in lines if not _is_unneeded(line.strip()))
    return NewEntry(entry.name, entry.mode, kept.encode("utf-8", "surrogateescape"))


def _is_unneeded(name: str) -> bool:
    stem, dot, ending = PurePosixPath(name).name.partition(".")
    return bool(dot) and ending.startswith("ko") and stem.replace("-", "_") in UNNEEDED_MODULES


def quicker_script(script: str) -> str:
    """libguestfs' init, naming the devices that are needed only; unchanged where it does not ask for all of them exactly once."""
    lines = script.split("\n")
    if lines.count(_ALL_DEVICES) != 1:
        return script
    return "\n".join(_NEEDED_DEVICES if line == _ALL_DEVICES else line for line in lines)


def quicker_archive(packed: bytes) -> bytes:
    """The same for the archive (``init.tar.gz``) that supermin takes it from. Raises Unsuitable when it cannot be read."""
    out = io.BytesIO()
    try:
        with (
            tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as source,
            gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as target,
        ):
            for member in source:
                data = source.extractfile(member) if member.isfile() else None
                content = data.read(_LARGEST_MEMBER_BYTES) if data else b""
                if member.isfile() and member.name.removeprefix("./") == _INIT:
                    content = quicker_script(content.decode("utf-8")).encode("utf-8")
                    member.size = len(content)
                target.addfile(member, io.BytesIO(content) if member.isfile() else None)
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise Unsuitable(f"libguestfs' init cannot be read: {error}") from error
    return out.getvalue()
