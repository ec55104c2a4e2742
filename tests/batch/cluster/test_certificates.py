"""A cluster that is spoken to by TLS: whoever has no certificate of its authority is nobody, on either side."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from p2v.batch.cluster import Certificates, ClusterWish, link, open_engine
from p2v.core.errors import ClusterGone
from tests.batch.cluster.clusters import cluster, copy_order, disk, finished
from tests.batch.cluster.pages import authority_commands


def _authority(folder: Path) -> Certificates:
    """An authority and one certificate of it, made by the commands of docs/cluster.md."""
    folder.mkdir()
    for command in authority_commands():
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return Certificates(folder / "ca.pem", folder / "p2v.pem", folder / "p2v.key")


def test_a_cluster_with_certificates_converts_for_who_has_one_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours, others = _authority(tmp_path / "ours"), _authority(tmp_path / "others")
    source = disk(tmp_path / "source.raw", 2)
    store = tmp_path / "batch.sqlite"
    options = (
        "--tls-ca-file", str(ours.authority), "--tls-cert", str(ours.certificate), "--tls-key", str(ours.key),
    )  # fmt: skip
    with cluster(tmp_path, options, "tls") as running:
        running.scheduler()
        running.worker()
        with open_engine(ClusterWish(running.engine, ours), store) as engine:
            assert finished(engine.start(copy_order(source, tmp_path / "target.raw"))).exit_status == 0
        assert (tmp_path / "target.raw").read_bytes() == source.read_bytes()

        monkeypatch.setattr(link, "ANSWER_SECONDS", 2.0)
        for certificates in (others, None):
            with pytest.raises(ClusterGone), open_engine(ClusterWish(running.engine, certificates), store):
                pass
        assert running.programs[1].process.poll() is None
