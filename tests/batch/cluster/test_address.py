"""Whom a batch talks to: on any address that is not this host alone, with certificates only."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.batch.cluster.address import Certificates, objection, parse_address
from p2v.core.errors import ClusterRefused, NoSource, Usage


def _nobody(host: str) -> tuple[str, ...]:
    raise OSError(-2, "Name or service not known")


def _certificates(folder: Path) -> Certificates:
    made = Certificates(folder / "ca.pem", folder / "p2v.pem", folder / "p2v.key")
    for path in (made.authority, made.certificate, made.key):
        path.write_text("")
        path.chmod(0o600)
    return made


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1"])
def test_a_scheduler_on_this_host_needs_no_certificates(host: str) -> None:
    written = f"[{host}]" if ":" in host else host

    address = parse_address(f"dask://{written}:9999")

    assert address.url == f"tcp://{written}:9999"
    assert not address.encrypted


@pytest.mark.parametrize(
    "found", [("192.0.2.7",), ("127.0.0.1", "192.0.2.7"), ("0.0.0.0",), ("::",), ("fe80::1%eth0",), ()]
)
def test_any_other_address_is_refused_without_certificates(found: tuple[str, ...]) -> None:
    with pytest.raises(ClusterRefused) as refusal:
        parse_address("dask://scheduler.example:8786", resolver=lambda host: found)

    assert refusal.value.exit_code == 77
    assert "--tls-cert" in refusal.value.hint()


def test_with_certificates_it_is_spoken_to_by_tls_wherever_it_is(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path)

    assert parse_address("dask://192.0.2.7", certificates, _nobody).url == "tls://192.0.2.7:8786"
    assert parse_address("dask://127.0.0.1:1", certificates, _nobody).url == "tls://127.0.0.1:1"


def test_a_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path)
    certificates.key.chmod(0o644)

    with pytest.raises(ClusterRefused, match="everybody") as refusal:
        parse_address("dask://192.0.2.7", certificates)
    assert refusal.value.hint() == f"chmod 600 {certificates.key}"


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    certificates = _certificates(tmp_path)
    certificates.certificate.unlink()

    with pytest.raises(NoSource, match=r"p2v\.pem"):
        parse_address("dask://192.0.2.7", certificates)


def test_a_name_that_nobody_knows_is_no_loopback() -> None:
    with pytest.raises(NoSource, match=r"scheduler\.example"):
        parse_address("dask://scheduler.example", resolver=_nobody)


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:8786", "tcp://127.0.0.1:8786", "dask://", "dask://127.0.0.1:port", "dask://127.0.0.1:99999",
     "dask://127.0.0.1/path", "dask://me@127.0.0.1", "dask://127.0.0.1?x=1"],
)  # fmt: skip
def test_what_is_no_address_is_a_usage_error(text: str) -> None:
    with pytest.raises(Usage):
        parse_address(text)


def test_a_worker_that_everybody_reaches_is_objected_to() -> None:
    assert objection("tcp://127.0.0.1:4000") == ""
    assert objection("tls://192.0.2.7:4000") == ""
    assert "192.0.2.7" in objection("tcp://192.0.2.7:4000")
    assert objection("tcp://[::]:4000")
    assert objection("ws://127.0.0.1:4000")
    assert objection("nonsense")
