"""Who signed a driver, and with which digests: what a catalogue (.cat) and a signed program say of themselves.

Nothing is verified here, Windows does that; what is looked at is what decides whether a given Windows will try: digests, the
kind of signature, and since when the signer's certificate has been valid.

Sources: RFC 2315 (PKCS #7) and RFC 5280 (certificates); Microsoft, "Windows Authenticode Portable Executable Signature Format"
(certificate table, nested signatures); Windows driver documentation, "WHQL Release Signature" and "Attestation Signing"
(extended key usages 1.3.6.1.4.1.311.10.3.5 and 1.3.6.1.4.1.311.10.3.5.1). DER is read within bounds: lengths of both kinds only,
a limit on depth and on the number of elements.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from p2v.core.units import KIB, MIB

CATALOG_BYTES_AT_MOST = 1 * MIB
_DEPTH_AT_MOST = 3
_ELEMENTS_AT_MOST = 20_000
_CERTIFICATES_AT_MOST = 64
_SEQUENCE, _SET, _INTEGER, _OID = 0x30, 0x31, 0x02, 0x06
_CONTEXT_0, _CONTEXT_1, _CONTEXT_3 = 0xA0, 0xA1, 0xA3
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18

_SIGNED_DATA = "1.2.840.113549.1.7.2"
_NESTED = "1.3.6.1.4.1.311.2.4.1"
_KEY_USAGES = "2.5.29.37"
_COMMON_NAME, _ORGANIZATION = "2.5.4.3", "2.5.4.10"
_WHQL = "1.3.6.1.4.1.311.10.3.5"
_ATTESTED = "1.3.6.1.4.1.311.10.3.5.1"
_DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_DOS_HEADER = struct.Struct("<2s58xI")
_PE_MAGIC, _PE32, _PE32_PLUS = b"PE\0\0", 0x10B, 0x20B
_SECURITY_DIRECTORY = 4
_CERTIFICATE_HEADER = struct.Struct("<IHH")
_PKCS_SIGNED_DATA = 2
_CERTIFICATES_BYTES_AT_MOST = 256 * KIB
MACHINES = {0x014C: "x86", 0x8664: "amd64", 0x0200: "ia64", 0x01C4: "arm", 0xAA64: "arm64"}


class SignatureKind(enum.Enum):
    """Whose signature it is, by the signer's extended key usages."""

    WHQL = "whql"
    """Microsoft's, after its tests."""
    ATTESTED = "attested"
    """Microsoft's, on the maker's word."""
    MAKER = "maker"
    """The maker's own; Windows takes it by a cross-certificate, as long as it does."""


@dataclass(frozen=True, slots=True)
class Signature:
    """``digests``: of all signatures there are, ``sha1`` or ``sha256``. ``valid_from``: of the signer's certificate, as a date."""

    digests: tuple[str, ...]
    kind: SignatureKind
    signer: str
    issuer: str
    valid_from: str


@dataclass(frozen=True, slots=True)
class ProgramHead:
    """What the start of a program says: its processor (``Architecture`` value, empty where unknown), where signatures stand."""

    machine: str
    certificates_offset: int
    certificates_bytes: int


class _BadDer(ValueError):
    """The bytes are not the DER that they should be."""


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    content: bytes
    whole: bytes


def read_signature(data: bytes) -> Signature | None:
    """The signature of a catalogue's bytes (or of a PKCS #7 from a program); None when there is none that can be read."""
    try:
        return _signature(data, 0)
    except (_BadDer, ValueError, IndexError):
        return None


def read_head(data: bytes, file_bytes: int) -> ProgramHead | None:
    """What the first kilobyte or so of a program says; None when it is none. ``file_bytes``: of the whole file."""
    try:
        magic, at = _DOS_HEADER.unpack_from(data)
        if magic != b"MZ" or data[at : at + 4] != _PE_MAGIC:
            return None
        machine, optional = struct.unpack_from("<H", data, at + 4)[0], at + 24
        kind = struct.unpack_from("<H", data, optional)[0]
        directories = optional + {_PE32: 96, _PE32_PLUS: 112}[kind]
        count = struct.unpack_from("<I", data, directories - 4)[0]
        offset, size = (0, 0)
        if count > _SECURITY_DIRECTORY:
            offset, size = struct.unpack_from("<II", data, directories + 8 * _SECURITY_DIRECTORY)
    except (struct.error, KeyError):
        return None
    inside = 0 < size <= _CERTIFICATES_BYTES_AT_MOST and offset + size <= file_bytes
    return ProgramHead(MACHINES.get(machine, ""), *((offset, size) if inside else (0, 0)))


def read_table(data: bytes) -> Signature | None:
    """The signatures in a program's certificate table, as one: the first one's signer, the digests of all."""
    found: list[Signature] = []
    at = 0
    while at + _CERTIFICATE_HEADER.size <= len(data) and len(found) < _CERTIFICATES_AT_MOST:
        length, _, kind = _CERTIFICATE_HEADER.unpack_from(data, at)
        if length <= _CERTIFICATE_HEADER.size or at + length > len(data):
            break
        signature = read_signature(data[at + _CERTIFICATE_HEADER.size : at + length]) if kind == _PKCS_SIGNED_DATA else None
        found += [signature] if signature is not None else []
        at += -(-length // 8) * 8
    return _together(found)


def _together(found: list[Signature]) -> Signature | None:
    if not found:
        return None
    first = found[0]
    digests = tuple(dict.fromkeys(digest for each in found for digest in each.digests))
    return Signature(digests, first.kind, first.signer, first.issuer, first.valid_from)


def _signature(data: bytes, depth: int) -> Signature | None:
    if depth > _DEPTH_AT_MOST or len(data) > CATALOG_BYTES_AT_MOST:
        return None
    # what follows in a certificate table is padding
    kind, content = list(_elements(_one(data, _SEQUENCE).content))[:2]
    if _oid(kind) != _SIGNED_DATA:
        return None
    parts = list(_elements(_one(content.content, _SEQUENCE).content))
    certificates = [c for part in parts if part.tag == _CONTEXT_0 for c in _elements(part.content)][:_CERTIFICATES_AT_MOST]
    signers = [signer for signer in _elements(parts[-1].content) if signer.tag == _SEQUENCE] if parts[-1].tag == _SET else []
    found = list[Signature]()
    for signer in signers[:_CERTIFICATES_AT_MOST]:
        found += _signed(signer, certificates, depth)
    return _together(found)


def _signed(signer: _Element, certificates: list[_Element], depth: int) -> Iterator[Signature]:
    _, issuer_and_serial, algorithm, *rest = list(_elements(signer.content))
    digest = _DIGESTS.get(_oid(_first(algorithm)), "unknown")
    issuer, serial = list(_elements(issuer_and_serial.content))[:2]
    yield _named(digest, issuer, serial, certificates)
    for unsigned in (part for part in rest if part.tag == _CONTEXT_1):
        for attribute in _elements(unsigned.content):
            name, values = list(_elements(attribute.content))[:2]
            if _oid(name) == _NESTED:
                for value in _elements(values.content):
                    nested = _signature(value.whole, depth + 1)
                    if nested is not None:
                        yield nested


def _named(digest: str, issuer: _Element, serial: _Element, certificates: list[_Element]) -> Signature:
    for certificate in certificates:
        fields = [field for field in _elements(_first(certificate).content) if field.tag != _CONTEXT_0]
        if len(fields) < 6 or fields[0].content != serial.content or fields[2].whole != issuer.whole:
            continue
        usages = set(_usages(fields))
        kind = SignatureKind.MAKER
        if _ATTESTED in usages:
            kind = SignatureKind.ATTESTED
        elif _WHQL in usages:
            kind = SignatureKind.WHQL
        return Signature((digest,), kind, _name(fields[4]), _name(fields[2]), _date(_first(fields[3])))
    return Signature((digest,), SignatureKind.MAKER, "", _name(issuer), "")


def _usages(fields: list[_Element]) -> Iterator[str]:
    """The extended key usages among a certificate's extensions."""
    for holder in (field for field in fields if field.tag == _CONTEXT_3):
        for extension in _elements(_first(holder).content):
            parts = list(_elements(extension.content))
            if len(parts) >= 2 and _oid(parts[0]) == _KEY_USAGES:
                yield from (_oid(usage) for usage in _elements(_one(parts[-1].content, _SEQUENCE).content))


def _name(element: _Element) -> str:
    """The common name of a distinguished name, else the organization."""
    found: dict[str, str] = {}
    for relative in _elements(element.content):
        for pair in _elements(relative.content):
            kind, value = list(_elements(pair.content))[:2]
            found.setdefault(_oid(kind), value.content.decode("utf-16-be" if value.tag == 0x1E else "utf-8", "replace"))
    return (found.get(_COMMON_NAME) or found.get(_ORGANIZATION) or "")[:200]


def _date(element: _Element) -> str:
    digits = element.content[:8].decode("ascii", "replace")
    if element.tag == _UTC_TIME:
        # RFC 5280, 4.1.2.5.1
        digits = ("19" if digits[:2] >= "50" else "20") + digits[:6]
    elif element.tag != _GENERALIZED_TIME:
        return ""
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdigit() else ""


def _first(element: _Element) -> _Element:
    for inner in _elements(element.content):
        return inner
    raise _BadDer("an empty element")


def _one(data: bytes, tag: int) -> _Element:
    element, _ = _element(data, 0)
    if element.tag != tag:
        raise _BadDer(f"tag {element.tag:#x} instead of {tag:#x}")
    return element


def _elements(data: bytes) -> Iterator[_Element]:
    at = count = 0
    while at < len(data):
        count += 1
        if count > _ELEMENTS_AT_MOST:
            raise _BadDer("too many elements")
        element, at = _element(data, at)
        yield element


def _element(data: bytes, at: int) -> tuple[_Element, int]:
    """The element at a place and where it ends; raises _BadDer, also for the indefinite form."""
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F:
        raise _BadDer("cut off, or a tag of several bytes")
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or start + size > len(data):
            raise _BadDer("a length that is no DER")
        length, start = int.from_bytes(data[start : start + size], "big"), start + size
    if start + length > len(data):
        raise _BadDer("an element that ends past its parent")
    return _Element(data[at], data[start : start + length], data[at : start + length]), start + length


def _oid(element: _Element) -> str:
    if element.tag != _OID or not 1 <= len(element.content) <= 64:
        return ""
    first, numbers, value = element.content[0], list[int](), 0
    for byte in element.content[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, (min(first // 40, 2), first - 40 * min(first // 40, 2), *numbers)))
