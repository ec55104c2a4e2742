"""Who signed drivers, by catalogues and programs as other programs make them, and by ones that lie."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.windows.signature import CATALOG_BYTES_AT_MOST, SignatureKind, read_head, read_signature, read_table
from tests.fixtures.signatures import SHA1, SHA256, signed_data, tlv
from tests.fixtures.virtio_win import ATTESTED, MAKER, OLD_MAKER, WHQL, Signing, certificate_table, program, signature


@pytest.mark.parametrize(
    "signing, kind, digests, valid_from",
    [
        (WHQL, SignatureKind.WHQL, ("sha256",), "2023-05-11"),
        (ATTESTED, SignatureKind.ATTESTED, ("sha256",), "2023-05-11"),
        (MAKER, SignatureKind.MAKER, ("sha256",), "2020-01-01"),
        (OLD_MAKER, SignatureKind.MAKER, ("sha1",), "2010-01-01"),
        (Signing(digests=(SHA1, SHA256), valid_from="991231000000Z"), SignatureKind.WHQL, ("sha1", "sha256"), "1999-12-31"),
    ],
)
def test_a_catalogue_tells_who_signed_it(signing: Signing, kind: SignatureKind, digests: tuple[str, ...], valid_from: str) -> None:
    found = read_signature(signature(signing))
    assert found is not None
    assert (found.kind, found.digests, found.valid_from) == (kind, digests, valid_from)
    assert (found.signer, found.issuer) == (signing.signer, "Example Issuing CA")


@pytest.mark.parametrize("valid_from", ["", "2", "23", "23051", "2305xx000000Z"])
def test_a_date_that_is_none_is_not_taken_for_an_early_one(valid_from: str) -> None:
    """Dates are compared as text, and of an early one a maker's signature is trusted."""
    found = read_signature(signature(replace(MAKER, valid_from=valid_from)))
    assert found is not None
    assert found.valid_from == ""


def test_an_attestation_that_also_claims_the_tests_is_an_attestation() -> None:
    both = Signing(usages=("1.3.6.1.4.1.311.10.3.5", "1.3.6.1.4.1.311.10.3.5.1"))
    found = read_signature(signature(both))
    assert found is not None
    assert found.kind is SignatureKind.ATTESTED


def test_a_second_signature_within_the_first_counts() -> None:
    inner = signed_data((SHA256,), WHQL.usages, "inner", "200101000000Z")
    found = read_signature(signed_data((SHA1,), MAKER.usages, "outer", "100101000000Z", nested=inner))
    assert found is not None
    assert (found.digests, found.signer, found.valid_from) == (("sha1", "sha256"), "outer", "2010-01-01")


def test_signatures_within_signatures_end_somewhere() -> None:
    data = b""
    # more levels than Python has frames for
    for _ in range(600):
        data = signed_data((SHA1,), (), "again", "100101000000Z", nested=data, chain=0)
    assert len(data) < CATALOG_BYTES_AT_MOST
    assert read_signature(data) is not None


def test_a_program_tells_its_processor_and_its_signatures() -> None:
    data = program("/x.sys", "amd64", signature(WHQL))
    head = read_head(data[:4096], len(data))
    assert head is not None
    assert head.machine == "amd64"
    table = data[head.certificates_offset : head.certificates_offset + head.certificates_bytes]
    found = read_table(table)
    assert found is not None
    assert found.kind is SignatureKind.WHQL


@pytest.mark.parametrize("arch", ["x86", "amd64", "arm64"])
def test_processors_of_programs_without_signatures(arch: str) -> None:
    data = program("/x.sys", arch)
    head = read_head(data, len(data))
    assert head is not None
    assert (head.machine, head.certificates_bytes) == (arch, 0)


def test_several_entries_of_a_table_are_one_signature() -> None:
    found = read_table(certificate_table(signature(OLD_MAKER), signature(WHQL)))
    assert found is not None
    assert (found.digests, found.kind) == (("sha1", "sha256"), SignatureKind.MAKER)


def test_a_table_past_the_programs_end_is_none() -> None:
    data = program("/x.sys", "amd64", signature(WHQL))
    head = read_head(data, len(data) - 1)
    assert head is not None
    assert head.certificates_bytes == 0


@pytest.mark.parametrize("data", [b"", b"MZ", b"driver from here", b"MZ" + bytes(58) + struct.pack("<I", 0xFFFFFFFF)])
def test_what_is_no_program_has_no_head(data: bytes) -> None:
    assert read_head(data, len(data)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30\x80\0\0",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30" * 1000,
        tlv(0x30),
        tlv(0x30, tlv(0x06, b"\x2a"), tlv(0xA0)),
        signature(WHQL)[:-1],
        tlv(0x30, *[tlv(0x05)] * 30_000),
    ],
)
def test_what_is_no_signature_is_none(data: bytes) -> None:
    assert read_signature(data) is None


@settings(deadline=None)
@given(st.integers(0, len(signature(WHQL)) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_signatures_never_crash(at: int, junk: bytes) -> None:
    """What is read of them is of the kinds that others are, whatever it says."""
    data = signature(WHQL)
    for found in (read_signature(data[:at] + junk + data[at + len(junk) :]), read_table(certificate_table(data)[:at] + junk)):
        if found is not None:
            assert found.digests
            assert set(found.digests) <= {"md5", "sha1", "sha256", "sha384", "sha512", "unknown"}
            assert re.fullmatch(r"(\d{4}-\d\d-\d\d)?", found.valid_from)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_what_openssl_signs_reads_the_same(digest: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("signed")
    usage = "extendedKeyUsage=1.3.6.1.4.1.311.10.3.5.1"
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", "key", "-out", "cert", "-days", "30", "-subj", "/O=Example/CN=Some Maker"]
    subprocess.run(["openssl", "req", "-x509", *key, "-addext", usage], cwd=tmp_path, check=True, capture_output=True)
    sign = ["-sign", "-in", "text", "-signer", "cert", "-inkey", "key", "-outform", "DER", "-md", digest, "-out", "signed"]
    subprocess.run(["openssl", "cms", *sign, "-nodetach"], cwd=tmp_path, check=True, capture_output=True)
    text = subprocess.run(
        ["openssl", "x509", "-in", "cert", "-noout", "-startdate", "-dateopt", "iso_8601"],
        cwd=tmp_path, capture_output=True, text=True,
    ).stdout  # fmt: skip
    found = read_signature((tmp_path / "signed").read_bytes())
    assert found is not None
    assert (found.digests, found.kind, found.signer) == ((digest,), SignatureKind.ATTESTED, "Some Maker")
    assert not text or found.valid_from == text.partition("=")[2][:10]
