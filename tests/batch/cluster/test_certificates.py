"""A cluster that is spoken to by TLS: whoever has no certificate of its authority that is valid is nobody, on either side."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from p2v.batch.cluster import Certificates, ClusterWish, handshake, open_engine
from p2v.batch.cluster.address import Address
from p2v.core.errors import ClusterRefused
from tests.batch.cluster.clusters import Cluster, cluster, copy_order, disk, finished, until
from tests.batch.cluster.pages import authority_commands


def _authority(folder: Path) -> Certificates:
    """An authority and one certificate of it, made by the commands of docs/cluster.md."""
    folder.mkdir()
    for command in authority_commands():
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return Certificates(folder / "ca.pem", folder / "p2v.pem", folder / "p2v.key")


def _signed_for(made: Certificates, name: str, begin: int, end: int) -> Certificates:
    """One of the same authority for the same key that is good from one day to another, counted from now on."""
    folder = made.authority.parent
    (folder / "index").write_text("")
    days = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + day * 86400)) for day in (begin, end)]
    (folder / "all.conf").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=any\n"
        "unique_subject=no\n[any]\ncommonName=supplied\n"
    )
    command = ["openssl", "ca", "-batch", "-config", "all.conf", "-in", "p2v.csr", "-cert", "ca.pem", "-keyfile", "ca.key",
               "-startdate", days[0], "-enddate", days[1], "-notext", "-out", name]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return replace(made, certificate=folder / name)


def _options(files: Certificates) -> tuple[str, ...]:
    return "--tls-ca-file", str(files.authority), "--tls-cert", str(files.certificate), "--tls-key", str(files.key)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Certificates]:
    """Ours, one that has expired and one that is not valid yet of the same authority, and another authority's."""
    folder = tmp_path_factory.mktemp("authorities")
    ours = _authority(folder / "ours")
    return {
        "ours": ours,
        "others": _authority(folder / "others"),
        "expired": _signed_for(ours, "expired.pem", -20, -10),
        "early": _signed_for(ours, "early.pem", 10, 20),
    }


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, authorities: dict[str, Certificates]) -> Iterator[Cluster]:
    """A scheduler and a worker with certificates of ours."""
    with cluster(tmp_path_factory.mktemp("secure"), _options(authorities["ours"]), "tls") as made:
        made.scheduler()
        made.worker()
        yield made


def _refusal(engine: str, files: Certificates | None, folder: Path) -> ClusterRefused:
    with pytest.raises(ClusterRefused) as refusal, open_engine(ClusterWish(engine, files), folder / "batch.sqlite"):
        pass
    assert refusal.value.exit_code == 77
    return refusal.value


def test_a_cluster_with_certificates_converts_for_who_has_one(
    secure: Cluster, authorities: dict[str, Certificates], tmp_path: Path
) -> None:
    source = disk(tmp_path / "source.raw", 2)
    with open_engine(ClusterWish(secure.engine, authorities["ours"]), tmp_path / "batch.sqlite") as engine:
        assert finished(engine.start(copy_order(source, tmp_path / "target.raw"))).exit_status == 0
    assert (tmp_path / "target.raw").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("whose", "said", "advice"),
    [
        ("expired", "has expired", "Make a new one"),
        ("early", "refuses our certificate", "not be valid yet"),
        # it and we have no authority in common: we find out first
        ("others", "not of the authority in", "same authority"),
        ("", "no certificates were named", "--tls-cert"),
    ],
)
def test_a_runner_without_a_good_certificate_is_refused_and_told_why(
    secure: Cluster, authorities: dict[str, Certificates], tmp_path: Path, whose: str, said: str, advice: str
) -> None:
    refusal = _refusal(secure.engine, authorities.get(whose), tmp_path)

    assert said in refusal.sentence()
    assert advice in refusal.hint()


def test_a_runner_with_another_authority_s_certificate_is_refused_by_the_scheduler(
    secure: Cluster, authorities: dict[str, Certificates], tmp_path: Path
) -> None:
    others = authorities["others"]
    crossed = Certificates(authorities["ours"].authority, others.certificate, others.key)

    assert "is not of its authority" in _refusal(secure.engine, crossed, tmp_path).sentence()


@pytest.mark.parametrize("whose", ["expired", "early"])
def test_a_scheduler_without_a_good_certificate_is_refused_by_the_runner_and_by_workers(
    authorities: dict[str, Certificates], tmp_path: Path, whose: str
) -> None:
    with cluster(tmp_path, _options(authorities[whose]), "tls") as running:
        running.scheduler()
        refusal = _refusal(running.engine, authorities["ours"], tmp_path)
        _worker_that_is_refused(running, _options(authorities["ours"]))
        log = _scheduler_says(running)

    assert {"expired": "the scheduler's certificate has expired", "early": "not valid yet"}[whose] in refusal.sentence()
    assert {"expired": "ALERT_CERTIFICATE_EXPIRED", "early": "ALERT_BAD_CERTIFICATE"}[whose] in log


def test_a_scheduler_that_speaks_plainly_is_refused_where_certificates_were_named(
    authorities: dict[str, Certificates], tmp_path: Path
) -> None:
    with cluster(tmp_path) as running:
        running.scheduler()
        refusal = _refusal(running.engine, authorities["ours"], tmp_path)

    assert "does not speak TLS" in refusal.sentence()
    assert "--protocol tls" in refusal.hint()


@pytest.mark.parametrize(
    ("whose", "why"),
    [("expired", "certificate has expired"), ("others", "ALERT_DECRYPT_ERROR"), ("", "WRONG_VERSION_NUMBER")],
)
def test_a_worker_without_a_good_certificate_does_not_come_to_the_scheduler_whose_log_says_why(
    secure: Cluster, authorities: dict[str, Certificates], whose: str, why: str
) -> None:
    before, said = _registered(secure), len(_scheduler_says(secure))
    _worker_that_is_refused(secure, _options(authorities[whose]) if whose else ())

    assert _registered(secure) == before
    assert why in _scheduler_says(secure)[said:]


def _registered(running: Cluster) -> int:
    return running.programs[0].log.read_bytes().count(b"Register worker")


def _scheduler_says(running: Cluster) -> str:
    return running.programs[0].log.read_text()


def _worker_that_is_refused(running: Cluster, options: tuple[str, ...]) -> None:
    """One that gives up soon."""
    scheme = running.scheme if options else "tcp"
    command = [sys.executable, "-m", "distributed.cli.dask_worker", f"{scheme}://127.0.0.1:{running.port}", "--no-nanny",
               "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--death-timeout", "5",
               "--local-directory", str(running.folder), *options]  # fmt: skip
    log = running.folder / "refused.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ.copy())
    try:
        until(lambda: process.poll() is not None, "the end of a worker that nobody talks to")
    finally:
        process.kill()
        process.wait()
    assert "Registered to:" not in log.read_text()


@pytest.mark.parametrize("which", ["authority", "certificate", "key"])
def test_a_file_that_is_none_of_its_kind_is_named(
    authorities: dict[str, Certificates], tmp_path: Path, which: str
) -> None:
    ours = authorities["ours"]
    (tmp_path / "other.pem").write_text("nonsense")
    (tmp_path / "other.pem").chmod(0o600)

    refusal = _refusal("dask://127.0.0.1:1", replace(ours, **{which: tmp_path / "other.pem"}), tmp_path)

    assert str(tmp_path / "other.pem") in refusal.sentence()


def test_a_key_of_another_certificate_is_told_of(authorities: dict[str, Certificates], tmp_path: Path) -> None:
    crossed = replace(authorities["ours"], key=authorities["others"].key)

    assert "is not the key of" in _refusal("dask://127.0.0.1:1", crossed, tmp_path).sentence()


def test_nobody_there_and_one_who_says_nothing_are_no_matter_of_certificates(
    authorities: dict[str, Certificates], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "_SECONDS", 0.3)
    monkeypatch.setattr(handshake, "_WORD_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for files in (None, authorities["ours"]):
            assert handshake.trouble(Address("127.0.0.1", port, encrypted=files is not None), files) is None
    for files in (None, authorities["ours"]):
        assert handshake.trouble(Address("127.0.0.1", port, encrypted=files is not None), files) is None


def test_a_cluster_at_the_loopback_address_of_ipv6(authorities: dict[str, Certificates], tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"needs ::1 ({error})")
    source = disk(tmp_path / "source.raw", 2)
    for number, (files, scheme) in enumerate([(None, "tcp"), (authorities["ours"], "tls")]):
        folder = tmp_path / scheme
        folder.mkdir()
        with cluster(folder, () if files is None else _options(files), scheme, host="[::1]") as running:
            running.scheduler()
            running.worker()
            with open_engine(ClusterWish(running.engine, files), tmp_path / "batch.sqlite") as engine:
                target = tmp_path / f"{scheme}.raw"
                assert finished(engine.start(copy_order(source, target, fence=number + 1))).exit_status == 0
        assert target.read_bytes() == source.read_bytes()
