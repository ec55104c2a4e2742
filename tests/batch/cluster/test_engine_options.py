"""``p2v batch run --engine ...``, as options."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from p2v.batch.cluster import Certificates, ClusterWish, Storage
from p2v.batch.cluster.opening import many_descriptors
from p2v.cli.batch import engine_options
from p2v.core.errors import ClusterRefused, ToolMissing, Usage


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    engine_options.configure(parser)
    return parser.parse_args(words)


def test_without_an_engine_the_runner_has_its_own(tmp_path: Path) -> None:
    with engine_options.engine(_arguments(), tmp_path / "s") as engine:
        assert engine == engine_options.Engine()


def test_a_cluster_with_its_certificates_and_storages() -> None:
    words = "--engine dask://s:1 --tls-ca a --tls-cert b --tls-key c --storage nfs=/mnt/nfs:4 --storage san=/mnt/san"

    assert engine_options.wish_of(_arguments(*words.split())) == ClusterWish(
        "dask://s:1",
        Certificates(Path("a"), Path("b"), Path("c")),
        (Storage("nfs", Path("/mnt/nfs"), 4), Storage("san", Path("/mnt/san"))),
    )


@pytest.mark.parametrize(
    "words",
    ["--tls-ca a", "--storage nfs=/mnt/nfs:4", "--engine dask://s:1 --tls-ca a --tls-cert b",
     "--engine dask://s:1 --storage a=/b --storage a=/c", "--engine dask://s:1 --storage nonsense"],
)  # fmt: skip
def test_what_does_not_go_together_is_a_usage_error(words: str) -> None:
    with pytest.raises(Usage):
        engine_options.wish_of(_arguments(*words.split()))


def test_nothing_of_dask_is_needed_until_a_cluster_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import sys, p2v.cli.batch.engine_options; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0

    monkeypatch.setitem(sys.modules, "p2v.batch.cluster.link", None)
    with (
        pytest.raises(ToolMissing) as missing,
        engine_options.engine(_arguments("--engine", "dask://127.0.0.1:1"), tmp_path / "s"),
    ):
        pass
    assert "cluster" in missing.value.hint()


def test_a_host_that_is_not_this_one_is_refused_before_anything_is_begun(tmp_path: Path) -> None:
    with (
        pytest.raises(ClusterRefused),
        engine_options.engine(_arguments("--engine", "dask://192.0.2.1:1"), tmp_path / "s"),
    ):
        pass


def test_a_thousand_jobs_may_be_under_way_where_the_host_allows_fewer_files_as_a_rule() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        with many_descriptors(), ExitStack() as stack:
            for _ in range(min(1000, hard - few)):
                stack.callback(os.close, os.eventfd(0, os.EFD_CLOEXEC))
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
