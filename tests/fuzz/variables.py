"""Files of UEFI variables as fuzzing targets: what a description beside them names, in stores of a few KiB."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.laying import laid
from tests.fuzz.sparse import Sparse
from tests.nvram import writer
from tests.nvram.writer import DATABASE, ENABLE, GLOBAL, SHIM, Var

_VOLUME_BYTES, _AREA_BYTES = 0x8000, 0x4000
_HEADER_BYTES, _CHECKSUM_AT = 72, 50
_PATH = writer.PCI_DISK + writer.partition() + writer.loader("\\EFI\\debian\\grubx64.efi") + writer.END
_VARIABLES = (
    Var("Boot0001", GLOBAL, writer.entry("debian", _PATH, b"data")),
    Var("Boot0002", GLOBAL, writer.entry("gone", _PATH), state=0x3C),
    Var("BootOrder", GLOBAL, b"\1\0\2\0"),
    Var("PK", GLOBAL, writer.keys(octets=40), 0x27),
    Var("KEK", GLOBAL, writer.keys(2, octets=40), 0x27),
    Var("db", DATABASE, writer.keys(octets=40), 0x27),
    Var("SecureBootEnable", ENABLE, b"\1", 3),
    Var("MokList", SHIM, writer.keys(octets=40), 3),
)
_DOMAIN = """<domain type="kvm"><name>web</name><os firmware="efi"><type>hvm</type><nvram>input</nvram></os>
<devices><disk type="file" device="disk"><source file="web.img"/><target dev="vda"/></disk></devices></domain>"""
_VMX = 'config.version = "8"\nfirmware = "efi"\nnvram = "input"\nide0:0.present = "TRUE"\nide0:0.fileName = "web.img"\n'


def edk2(folder: Path) -> Iterable[Path]:
    """Stores with authentication, without, and in VirtualBox's archive; named by a domain of libvirt's."""
    stores = {
        "authenticated": writer.store(_VARIABLES, volume=_VOLUME_BYTES, area=_AREA_BYTES),
        "plain": writer.store(_VARIABLES, volume=_VOLUME_BYTES, area=_AREA_BYTES, authenticated=False),
    }
    stores["archive"] = writer.virtualbox(stores["authenticated"])
    return _laid(folder, "web.xml", _DOMAIN, stores)


def vmware(folder: Path) -> Iterable[Path]:
    """VMware's, named by a .vmx."""
    return _laid(folder, "web.vmx", _VMX, {"vmware": writer.vmware(_VARIABLES, room=0x2000)})


def volume_sum(file: Sparse) -> None:
    """The checksum of a volume's header."""
    raw = file.read(0, _HEADER_BYTES)
    if len(raw) == _HEADER_BYTES:
        others = raw[:_CHECKSUM_AT] + bytes(2) + raw[_CHECKSUM_AT + 2 :]
        file.write(_CHECKSUM_AT, struct.pack("<H", -sum(struct.unpack("<36H", others)) & 0xFFFF))


def _laid(folder: Path, name: str, text: str, stores: dict[str, bytes]) -> Iterable[Path]:
    (folder / "web.img").write_bytes(b"disk")
    (folder / name).write_text(text, "utf-8")
    return laid(folder, stores)
