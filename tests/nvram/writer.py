"""Files of UEFI variables as hypervisors write them, from lists of variables: independent of the code under test."""

from __future__ import annotations

import io
import struct
import tarfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
DATABASE = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
ENABLE = "f0a30bc7-af08-4556-99c4-001009c93a44"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
TIME = bytes.fromhex("e8070c1f000000000000000000000000")
_NV_DATA = uuid.UUID("fff12b8d-7696-4c8b-a985-2747075b4f50").bytes_le
_AUTHENTICATED = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_PLAIN = uuid.UUID("ddcf3616-3275-4164-98b6-fe85707ffe7d").bytes_le
_BLOCK = 4096


@dataclass(frozen=True)
class Var:
    """One variable; ``state`` 0x3f is one that counts."""

    name: str
    vendor: str
    value: bytes
    attributes: int = 7
    state: int = 0x3F


def store(variables: Sequence[Var], *, volume: int = 0x84000, area: int = 0x3FFB8, authenticated: bool = True) -> bytes:
    """An edk2 flash file: a firmware volume of ``volume`` bytes with a store of ``area`` bytes (those of OVMF_VARS_4M.fd)."""
    head = struct.pack("<16s16sQ4sIHHHBBIIII", bytes(16), _NV_DATA, volume, b"_FVH", 0x0004FEFF, 72, 0, 0, 0, 2,
                       volume // _BLOCK, _BLOCK, 0, 0)  # fmt: skip
    total = -sum(struct.unpack("<36H", head)) & 0xFFFF
    head = head[:50] + struct.pack("<H", total) + head[52:]
    body = struct.pack("<16sIBBHI", _AUTHENTICATED if authenticated else _PLAIN, area, 0x5A, 0xFE, 0, 0)
    for each in variables:
        body += _variable(each, authenticated=authenticated)
        body += b"\xff" * (-len(body) % 4)
    assert len(body) <= area
    return (head + body).ljust(volume, b"\xff")


def _variable(each: Var, *, authenticated: bool) -> bytes:
    name = (each.name + "\0").encode("utf-16-le")
    vendor = uuid.UUID(each.vendor).bytes_le
    if authenticated:
        head = struct.pack("<HBBIQ16sIII", 0x55AA, each.state, 0, each.attributes, 0, TIME, 0, len(name), len(each.value))
    else:
        head = struct.pack("<HBBIII", 0x55AA, each.state, 0, each.attributes, len(name), len(each.value))
    return head + vendor + name + each.value


def vmware(variables: Sequence[Var], *, room: int = 0x40000) -> bytes:
    """A .nvram of VMware's with a record before that of the variables, which has ``room`` for that many bytes."""
    inner = b""
    for each in variables:
        name = (each.name + "\0").encode("utf-16-le")
        value = (bytes(40) if each.attributes & 0x20 else b"") + each.value
        inner += uuid.UUID(each.vendor).bytes_le + struct.pack("<III", each.attributes, len(name) + len(value), len(name))
        inner += name + value
    used = 16 + len(inner)
    record = (struct.pack("<8sII", b"VMWNVRAM", 0, used) + inner).ljust(room, b"\xff")
    cmos = struct.pack("<4s4sI", b"CMOS", bytes(4), 64) + bytes(64)
    return b"MRVN" + struct.pack("<I", 1) + cmos + struct.pack("<4s4sI", b"EFI_", b"NV\0\0", len(record)) + record


def virtualbox(data: bytes) -> bytes:
    """VirtualBox 7's .nvram of a machine with a TPM: a tar of its devices' states."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in (("TpmEmuTpms/permall", b"\1" * 4393), ("efi/nvram", data)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def node(kind: int, sub_kind: int, content: bytes = b"") -> bytes:
    """One node of a device path."""
    return struct.pack("<BBH", kind, sub_kind, 4 + len(content)) + content


PCI_DISK = node(2, 1, struct.pack("<II", 0x0A0341D0, 0)) + node(1, 1, b"\0\x1f") + node(3, 18, struct.pack("<HHH", 0, 0xFFFF, 0))
END = node(0x7F, 0xFF)


def partition(guid: str = "11111111-2222-4333-8444-555555555555", number: int = 1, first: int = 2048, count: int = 65536) -> bytes:
    """The node of a GPT partition; ``first`` and ``count`` in sectors."""
    return node(4, 1, struct.pack("<IQQ16sBB", number, first, count, uuid.UUID(guid).bytes_le, 2, 2))


def loader(path: str) -> bytes:
    """The node of a file."""
    return node(4, 4, (path + "\0").encode("utf-16-le"))


def entry(title: str, path: bytes, data: bytes = b"") -> bytes:
    """A boot entry (EFI_LOAD_OPTION) that is active."""
    return struct.pack("<IH", 1, len(path)) + (title + "\0").encode("utf-16-le") + path + data


def keys(count: int = 1, octets: int = 300) -> bytes:
    """A signature database of lists with one certificate each, which is none."""
    x509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
    one = x509 + struct.pack("<III", 28 + 16 + octets, 0, 16 + octets) + bytes(16) + b"\x30" * octets
    return one * count
