"""Why a scheduler and we do not come to talk, in words: Dask tries again until its time is over, and says little then."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from p2v.batch.cluster.address import Address, Certificates
from p2v.core.errors import P2vError

_SECONDS = 5.0
_WORD_SECONDS = 2.0
"""For a scheduler's first word; it speaks as soon as it is spoken to."""
_MAKE = "docs/cluster.md shows how certificates are made"
_NOT_YET, _EXPIRED, _OF_OTHERS = 9, 10, (2, 7, 18, 19, 20, 21)
"""Codes of OpenSSL's verification (https://docs.openssl.org/3.0/man1/openssl-verification-options/)."""
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")

Trouble = tuple[str, str]
"""What is wrong, and what to do."""


def trouble(address: Address, certificates: Certificates | None) -> Trouble | None:
    """What is wrong with the certificates of one of both sides; None: nothing that is known, or nobody is there at all."""
    if certificates is None:
        return _without(address)
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(certificates.authority))
    except (OSError, ValueError):
        return f"{certificates.authority} is no certificate (PEM) of an authority", f"{_MAKE}: this one is ca.pem."
    try:
        context.load_cert_chain(str(certificates.certificate), str(certificates.key), password="")
    except (OSError, ValueError) as error:
        what = f"{certificates.key} is not the key of {certificates.certificate}, has a passphrase, or one of both is no PEM"
        return f"{what} ({getattr(error, 'reason', '') or error})", f"{_MAKE}; a key belongs to one certificate."
    context.check_hostname = False
    return _with(address, context, certificates)


def why_lost(error: Exception, address: Address, certificates: Certificates | None) -> str:
    """Why a talk with a scheduler has ended with an error, in words."""
    if isinstance(error, P2vError):
        return error.sentence()
    found = trouble(address, certificates)
    return found[0] if found else f"{type(error).__name__}: {error}"[:500]


def _with(address: Address, context: ssl.SSLContext, certificates: Certificates) -> Trouble | None:
    try:
        with _connected(address) as plain, context.wrap_socket(plain) as secure:
            # the other side's objections to us come as its first word
            secure.settimeout(_WORD_SECONDS)
            secure.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _of_theirs(error, certificates)
    except ssl.SSLError as error:
        return _of_ours(error.reason or "", certificates)
    except (OSError, ValueError):
        return None
    return None


def _of_theirs(error: ssl.SSLCertVerificationError, certificates: Certificates) -> Trouble:
    if error.verify_code == _EXPIRED:
        return "the scheduler's certificate has expired (or its authority's)", f"Give it a new one; {_MAKE}."
    if error.verify_code == _NOT_YET:
        return "the scheduler's certificate is not valid yet by this host's clock", "Set the clocks of the hosts."
    if error.verify_code in _OF_OTHERS:
        words = f"the scheduler's certificate is not of the authority in {certificates.authority}"
        return words, "Everybody in a cluster needs ca.pem of the same authority, and a certificate of it."
    return f"the scheduler's certificate is not accepted: {error.verify_message}", f"{_MAKE[0].upper()}{_MAKE[1:]}."


def _of_ours(reason: str, certificates: Certificates) -> Trouble | None:
    own = certificates.certificate
    if reason in _NO_TLS:
        return (
            "what answers there does not speak TLS",
            "Start the scheduler with --protocol tls and certificates, or name its right port; docs/cluster.md shows how.",
        )
    if "EXPIRED" in reason:
        return f"the scheduler refuses our certificate: {own} has expired", f"Make a new one; {_MAKE}."
    # an authority of the same name as its own, with another key, is found out by its signature
    if "UNKNOWN_CA" in reason or "DECRYPT_ERROR" in reason:
        words = f"the scheduler refuses our certificate: {own} is not of its authority"
        return words, "Everybody in a cluster needs ca.pem of the same authority, and a certificate of it."
    if "CERTIFICATE" in reason:
        words = f"the scheduler refuses our certificate, {own} ({reason.lower().replace('_', ' ')})"
        return words, f"By its clock it may not be valid yet. {_MAKE[0].upper()}{_MAKE[1:]}."
    return None


def _without(address: Address) -> Trouble | None:
    """Whether a scheduler that is spoken to without certificates wants some."""
    with suppress(OSError), _connected(address) as plain:
        plain.settimeout(_WORD_SECONDS)
        with suppress(TimeoutError):
            plain.recv(1)
            return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is said to it but that we could speak TLS
    wants = (
        "the scheduler speaks TLS, and no certificates were named",
        f"Give --tls-ca, --tls-cert and --tls-key; {_MAKE}.",
    )
    try:
        with _connected(address) as plain, context.wrap_socket(plain):
            return wants
    except ssl.SSLError as error:
        return wants if "ALERT" in (error.reason or "") else None
    except OSError:
        return None


def _connected(address: Address) -> socket.socket:
    return socket.create_connection((address.host, address.port), _SECONDS)
