"""Parts of an appliance that are made up: a kernel that is none, an initrd, an init script, and a supermin that copies them."""

from __future__ import annotations

import gzip
import io
import lzma
import stat
import struct
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from drivers.fixed_appliance.parts import Parts
from drivers.linux.cpio import NewEntry, write_archive
from p2v.core.run import Completed

ROOT_BYTES = 4096
INIT = "#!/bin/bash\nudevd --daemon\nudevadm trigger\nudevadm settle --timeout=600\nguestfsd\n"


def elf(*, note: int = 18, name: bytes = b"Xen\0", machine: int = 62, note_bytes: int | None = None) -> bytes:
    """An ELF file with one note, which says (18) where a PVH guest begins; 256 KiB, most of it zeroes."""
    noted = struct.pack("<III", 3, 0, 1) + b"GNU\0" + struct.pack("<III", len(name), 4, note) + name + bytes(4)
    head = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    where = struct.pack("<IIQQQQQQ", 4, 0, 120, 0, 0, note_bytes or len(noted), len(noted), 4)
    return (head + where + noted).ljust(256 * 1024, b"\0") + b"end"


def bzimage(payload: bytes, *, length: int | None = None) -> bytes:
    """A kernel of one setup sector, its payload 16 bytes behind it."""
    image = bytearray(1024 + 16) + payload
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 16, len(payload) if length is None else length)
    return bytes(image)


def kernel(contents: bytes | None = None) -> bytes:
    """Packed as distributions do: xz, and the unpacked size."""
    contents = elf() if contents is None else contents
    return bzimage(lzma.compress(contents) + struct.pack("<I", len(contents)))


def initrd(*modules: str) -> bytes:
    """supermin's, with these modules in its list and as files."""
    listed = "".join(f"{module}\n" for module in modules).encode()
    files = [NewEntry("init", stat.S_IFREG | 0o755, b"program"), NewEntry("modules", stat.S_IFREG | 0o644, listed)]
    files += [NewEntry(module, stat.S_IFREG | 0o644, module.encode()) for module in modules]
    return write_archive([NewEntry(".", stat.S_IFDIR | 0o755), *files])


def packed_init(script: str = INIT) -> bytes:
    """init.tar.gz with the script and a rules file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in (("init", script), ("etc/udev/rules.d/99.rules", "# udevadm trigger\n")):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def unpacked(packed: bytes) -> dict[str, tuple[bytes, int]]:
    """Contents and mode of each file of an archive."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        found = {}
        for member in archive:
            data = archive.extractfile(member)
            assert data is not None
            found[member.name] = (data.read(), member.mode)
    return found


def parts(folder: Path) -> Parts:
    """A host with a package database, a kernel and libguestfs' descriptions, below ``folder``."""
    for name in ("supermin.d", "boot", "modules/6.1"):
        (folder / name).mkdir(parents=True)
    (folder / "supermin.d/init.tar.gz").write_bytes(packed_init())
    (folder / "supermin.d/packages").write_text("bash\n")
    (folder / "boot/vmlinuz-6.1").write_bytes(kernel())
    (folder / "modules/6.1/modules.dep").write_text("virtio.ko:\n")
    (folder / "status").write_text("Package: bash\nVersion: 5\n")
    return Parts("1.48.6", folder / "supermin.d", (folder / "status",), folder / "boot", folder / "modules")


def root(contents: bytes = b"") -> bytes:
    """What looks like an ext2 file system to who looks at its superblock, with anything behind it."""
    return bytes(1080) + b"\x53\xef" + bytes(ROOT_BYTES - 1082) + contents


class Supermin:
    """A runner that builds what supermin would; ``during`` is called in the middle of it."""

    def __init__(self, built_kernel: bytes | None = None, during: Callable[[Path], None] = lambda folder: None) -> None:
        self.kernel, self.during, self.runs = built_kernel or kernel(), during, 0

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        assert argv[0] == "supermin"
        self.runs += 1
        made, descriptions = Path(argv[-1]), Path(argv[-3])
        made.mkdir()
        (made / "kernel").write_bytes(self.kernel)
        (made / "initrd").write_bytes(initrd("virtio.ko", "ata_piix.ko"))
        (made / "root").write_bytes(root((descriptions / "init.tar.gz").read_bytes()))
        self.during(made)
        return Completed("", "", 0.0)
