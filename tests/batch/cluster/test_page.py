"""What docs/cluster.md tells people to type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from distributed.cli import dask_scheduler, dask_worker

from p2v.batch.cluster.placing import CONVERT, KVM, Storage

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text("utf-8")
_OPTION = re.compile(r"--[a-z][a-z-]+")
_COMMAND = re.compile(r"(?:^    dask |command: \[dask, )(scheduler|worker)((?:.*(?:\\|,)\n)*.*)", re.MULTILINE)


def _commands() -> Iterator[tuple[str, str]]:
    """Of each command of Dask on the page: which, and its words."""
    for found in _COMMAND.finditer(PAGE):
        yield found[1], found[2]


def _options(command: Any) -> set[str]:
    return {word for parameter in command.params for word in (*parameter.opts, *parameter.secondary_opts)}


def test_dask_knows_the_options_that_it_is_told_to_be_given() -> None:
    known = {"scheduler": _options(dask_scheduler.main), "worker": _options(dask_worker.main)}
    seen = [(kind, option) for kind, words in _commands() for option in _OPTION.findall(words)]

    assert {kind for kind, _ in seen} == {"scheduler", "worker"}
    assert len(seen) > 20
    assert [each for each in seen if each[1] not in known[each[0]]] == []


def test_every_command_brings_certificates_and_keeps_its_page_to_itself() -> None:
    commands = list(_commands())

    assert len(commands) == 4
    for _, words in commands:
        assert {"--tls-ca-file", "--tls-cert", "--tls-key", "--dashboard-address"} <= set(_OPTION.findall(words))
        assert "127.0.0.1:0" in words


def test_the_resources_are_those_that_jobs_take() -> None:
    named = set(re.findall(r"^\| `([a-zA-Z-]+)` \|", PAGE, re.MULTILINE))
    assert named == {CONVERT, KVM, Storage("NAME", Path("/")).resource}


def test_the_manifests_are_yaml() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    kinds = [each["kind"] for each in yaml.safe_load_all(block)]

    assert kinds == ["Service", "Deployment", "StatefulSet"]


def test_the_program_for_slurm_is_python() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    compile(block, "cluster.md", "exec")
