"""What docs/cluster.md tells people to type is taken by the programs that it is for, and fits together."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed.cli import dask_scheduler, dask_worker

from p2v.batch.children import GRACE_SECONDS
from p2v.batch.cluster.address import parse_address
from p2v.batch.cluster.placing import APPLIANCE, CONVERT, KVM, Storage
from p2v.cli.batch import running
from p2v.cli.batch.engine_options import wish_of
from p2v.core.errors import ClusterRefused, Usage
from tests.batch.cluster import pages

Json = dict[str, Any]
_DASK = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
_FILES = ("ca.pem", "p2v.pem", "p2v.key")


def _manifests(kind: str = "") -> list[Json]:
    found = [each for each in yaml.safe_load_all(pages.block("yaml")) if kind in ("", each["kind"])]
    assert found
    return found


def _pod(manifest: Json) -> Json:
    pod = manifest["spec"]["template"]["spec"]
    assert isinstance(pod, dict)
    return pod


def _with_pods() -> list[Json]:
    return [each for each in _manifests() if "template" in each["spec"]]


def _container(manifest: Json) -> Json:
    (found,) = _pod(manifest)["containers"]
    assert isinstance(found, dict)
    return found


def _dask_commands() -> Iterator[list[str]]:
    """Their words behind ``dask``: of the page's lines and of its manifests."""
    yield from (words[1:] for words in pages.commands("dask "))
    yield from (words[1:] for each in _with_pods() if (words := _container(each)["command"])[0] == "dask")


def _taken(words: list[str], folder: Path) -> Json:
    """What Dask's own parser makes of a command; the files of certificates must be there for it."""
    for name in _FILES:
        (folder / name).touch()
    there = [str(folder / Path(word).name) if Path(word).name in _FILES else word for word in words[1:]]
    with _DASK[words[0]].make_context(words[0], there) as context:
        return dict(context.params)


def test_dask_takes_its_commands_with_certificates_and_pages_that_nobody_else_sees(tmp_path: Path) -> None:
    taken = [(words[0], _taken(words, tmp_path)) for words in _dask_commands()]

    assert sorted(kind for kind, _ in taken) == ["scheduler"] * 2 + ["worker"] * 2
    for kind, options in taken:
        certificates = [Path(options[name]).name for name in ("tls_ca_file", "tls_cert", "tls_key")]
        assert certificates == list(_FILES)
        assert options["dashboard_address"] == "127.0.0.1:0"
        assert str(options.get("protocol") or options.get("scheduler")).startswith("tls"), kind


def test_a_command_that_dask_does_not_know_would_be_seen(tmp_path: Path) -> None:
    words = next(words for words in _dask_commands() if words[0] == "worker")
    for wrong in ([*words, "--no-such-option"], [*words, "--nthreads", "many"]):
        with pytest.raises(Exception, match=r"no-such-option|many"):
            _taken(wrong, tmp_path)


def test_workers_can_do_what_they_offer(tmp_path: Path) -> None:
    for words in _dask_commands():
        if words[0] == "worker":
            options = _taken(words, tmp_path)
            resources = dict(each.split("=") for each in options["resources"].split())
            assert options["nthreads"] >= int(resources[CONVERT])
            assert set(resources) <= {CONVERT, KVM, "storage-san"}


def test_p2v_takes_its_commands(tmp_path: Path) -> None:
    commands = [*pages.commands("p2v batch run")]
    commands += [_container(each)["command"] for each in _manifests("Job")]

    assert len(commands) == 3
    for words in commands:
        assert words[:3] == ["p2v", "batch", "run"]
        parser = ArgumentParser(exit_on_error=False)
        running.configure(parser)
        wish = wish_of(parser.parse_args(words[3:]))
        assert wish is not None
        assert wish.certificates is not None
        assert parse_address(wish.engine, None, lambda host: ("127.0.0.1",)).port == 8786


def test_the_resources_are_those_that_jobs_take() -> None:
    named = set(re.findall(r"^\| `([a-zA-Z-]+)` \|", pages.PAGE, re.MULTILINE))
    assert named == {CONVERT, KVM, APPLIANCE, Storage("NAME", Path("/")).resource}


# Kubernetes


def test_pods_are_selected_by_the_labels_that_they_have_and_reached_at_the_port_that_they_listen_at(
    tmp_path: Path,
) -> None:
    services = {each["metadata"]["name"]: each["spec"] for each in _manifests("Service")}
    (deployment,), (workers,) = _manifests("Deployment"), _manifests("StatefulSet")
    for each in (deployment, workers):
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"] == labels
        assert services[each["metadata"]["name"]]["selector"] == labels
    assert workers["spec"]["serviceName"] in services

    listens = int(_taken(_container(deployment)["command"][1:], tmp_path)["port"])
    (port,) = services["p2v-scheduler"]["ports"]
    assert port["port"] == listens
    for command in (_container(workers)["command"], _container(_manifests("Job")[0])["command"]):
        addresses = [re.sub(r"^\w+://", "", word) for word in command if "://" in word]
        assert addresses == [f"p2v-scheduler:{listens}"]


def test_every_file_that_a_command_names_is_on_a_volume_of_its_pod() -> None:
    (create,) = pages.commands("kubectl create secret")
    secret = create[create.index("generic") + 1]
    files = {word.partition("=")[2] for word in create if word.startswith("--from-file=")}
    assert files == set(_FILES)
    for each in _with_pods():
        volumes = {volume["name"]: volume for volume in _pod(each)["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in _container(each)["volumeMounts"]}
        assert len(mounts) == len(volumes)
        named = [Path(word) for word in _container(each)["command"] if word.startswith("/")]
        assert {path.name for path in named} >= files
        for path in named:
            volume = mounts[str(path.parent)]
            assert path.name not in files or volume["secret"] == {"secretName": secret, "defaultMode": 0o440}


def test_workers_and_runner_have_the_same_machines_at_the_same_place() -> None:
    (workers,), (runner,) = _manifests("StatefulSet"), _manifests("Job")
    for part in (_container(workers)["volumeMounts"], _container(runner)["volumeMounts"]):
        assert {"name": "machines", "mountPath": "/machines"} in part
    for pod in (_pod(workers), _pod(runner)):
        assert {"name": "machines", "persistentVolumeClaim": {"claimName": "machines"}} in pod["volumes"]


# What a node was seen to do, or a cluster's rules demand


def test_pods_ask_for_nothing_that_the_level_restricted_forbids_and_write_only_to_volumes() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    for each in _with_pods():
        pod, container = _pod(each), _container(each)
        ours, its = pod["securityContext"], container["securityContext"]
        assert ours["runAsNonRoot"] is True
        assert ours["runAsUser"] > 0
        assert ours["fsGroup"] > 0  # who alone, beside root, may read the secret's files
        assert ours["seccompProfile"] == {"type": "RuntimeDefault"}
        assert its["allowPrivilegeEscalation"] is False
        assert its["capabilities"] == {"drop": ["ALL"]}
        assert its["readOnlyRootFilesystem"] is True
        kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"secret", "emptyDir", "persistentVolumeClaim"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        # programs write there, and this user has no home
        temporary = next(mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tmp")
        assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
        assert {(each["name"], each["value"]) for each in container["env"]} == {("HOME", temporary), ("TMPDIR", temporary)}


def test_images_have_one_tag_that_is_not_the_newest() -> None:
    images = {_container(each)["image"] for each in _with_pods()}
    (image,) = images
    tag = image.rpartition("/")[2].partition(":")[2]
    assert tag not in ("", "latest")


def test_when_memory_is_short_conversions_can_go_before_the_worker() -> None:
    """Only in a pod whose requests are its limits does the kernel not count what each process has to its disadvantage."""
    for each in _with_pods():
        assert set(_container(each)["resources"]) == {"limits"}
        assert set(_container(each)["resources"]["limits"]) == {"cpu", "memory"}


def test_orphans_are_collected_where_conversions_or_hooks_run_and_all_pods_of_the_runner_are_one_host() -> None:
    (workers,), (runner,) = _manifests("StatefulSet"), _manifests("Job")
    for each in (workers, runner):
        assert _pod(each)["shareProcessNamespace"] is True
        # longer than a child has to end, which `stop` gives it
        assert _pod(each)["terminationGracePeriodSeconds"] > GRACE_SECONDS
    assert _pod(runner)["hostname"]


def test_there_is_never_a_second_scheduler_behind_the_same_name() -> None:
    (scheduler,) = _manifests("Deployment")
    assert scheduler["spec"]["replicas"] == 1
    assert scheduler["spec"]["strategy"] == {"type": "Recreate"}


def test_the_job_is_not_run_again_for_what_is_so_next_time() -> None:
    (runner,) = _manifests("Job")
    disrupted, ended = runner["spec"]["podFailurePolicy"]["rules"]
    assert disrupted["action"] == "Ignore"
    assert [each["type"] for each in disrupted["onPodConditions"]] == ["DisruptionTarget"]
    assert ended["action"] == "FailJob"
    # some are parked; a manifest or a command that makes no sense; no certificates. After all others the next pod goes on
    assert ended["onExitCodes"] == {"operator": "In", "values": [5, Usage.exit_code, ClusterRefused.exit_code]}


# Slurm


def test_the_program_for_slurm_is_python_and_listens_where_p2v_is_told_to_look() -> None:
    block = pages.block("python")
    compile(block, "cluster.md", "exec")
    (words,) = pages.commands("p2v batch run", "On Slurm")
    (port,) = re.findall(r'"port": (\d+)', block)
    assert words[words.index("--engine") + 1].endswith(f":{port}")
    (tls,) = {str(Path(path).parent) for path in re.findall(r'"(/[^"]+\.(?:pem|key))"', block.replace("{role}", ""))}
    assert [word for word in words if word.startswith("/")] == [f"{tls}/{name}" for name in _FILES]
