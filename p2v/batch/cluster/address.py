"""Where a scheduler is, and whether it may be talked to: on any address that is not loopback, with certificates only.

Whoever may talk to a scheduler of Dask may run any code on its workers, which here read all disks. Between hosts that is
everybody on the network unless both sides show a certificate.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from p2v.core.errors import ClusterRefused, NoSource, Usage

_SCHEME = "dask"
_DEFAULT_PORT = 8786
Resolver = Callable[[str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: of the authority that signed everybody's certificates in this cluster, and our own with its key."""

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Address:
    """A scheduler's. ``encrypted``: it is spoken to by TLS, both sides with certificates."""

    host: str
    port: int
    encrypted: bool

    @property
    def url(self) -> str:
        """As Dask writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.encrypted else 'tcp'}://{host}:{self.port}"


def resolve(host: str) -> tuple[str, ...]:
    """All addresses of a host's name. Raises OSError."""
    return tuple(sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}))


def parse_address(text: str, certificates: Certificates | None = None, resolver: Resolver = resolve) -> Address:
    """``dask://HOST[:PORT]``, as a scheduler's address.

    Raises Usage for what is no such address, NoSource for a name that nobody knows or a file that is not there, ClusterRefused for
    a host that is not this one without certificates, or with a key that everybody on this host can read.
    """
    parts = urlsplit(text)
    try:
        port = parts.port or _DEFAULT_PORT
    except ValueError:
        port = 0
    if (
        parts.scheme != _SCHEME
        or not parts.hostname
        or port == 0
        or parts.path.strip("/")
        or parts.query
        or parts.username
    ):
        hint = "As in --engine dask://scheduler.example:8786; it is spoken to by TLS where certificates are named."
        raise Usage(f"--engine {text}: no address of a scheduler", hint)
    if certificates is not None:
        _require_usable(certificates, text)
        return Address(parts.hostname, port, encrypted=True)
    try:
        addresses = resolver(parts.hostname)
    except OSError as error:
        raise NoSource(
            parts.hostname,
            f"no address of this host is known ({error.strerror})",
            "See to its name, or give its address.",
        ) from error
    if not addresses or not all(map(_is_loopback, addresses)):
        raise ClusterRefused(
            text,
            "not an address of this host alone, and no certificates were named: everybody on the network could run "
            "commands on the workers",
            "Give --tls-ca, --tls-cert and --tls-key; docs/cluster.md shows how they are made.",
        )
    return Address(addresses[0], port, encrypted=False)


def objection(address: str) -> str:
    """Why an address (as Dask writes it) of a scheduler or worker is not to be talked to; empty when it is."""
    parts = urlsplit(address)
    if parts.scheme == "tls":
        return ""
    if parts.scheme == "tcp" and parts.hostname and _is_loopback(parts.hostname):
        return ""
    return f"{address} is reached without TLS, by everybody on the network"


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _require_usable(certificates: Certificates, address: str) -> None:
    for path in (certificates.authority, certificates.certificate, certificates.key):
        if not path.is_file():
            raise NoSource(str(path), "no such file", "docs/cluster.md shows how certificates are made.")
        if not os.access(path, os.R_OK):
            raise ClusterRefused(address, f"{path} cannot be read", "It needs to belong to who runs the batch.")
    if stat.S_IMODE(certificates.key.stat().st_mode) & 0o007:
        raise ClusterRefused(
            address,
            f"{certificates.key}: everybody on this host can read this key, and be us with it",
            f"chmod 600 {certificates.key}",
        )
