"""A conversion that the kernel ends because memory is short, as in a container with a limit: that is told, and tried again."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2v.batch.children import Ended
from p2v.batch.failures import failure_of
from p2v.core.memory_group import MemoryGroup, MemoryWatch, memory_group
from p2v.core.units import MIB

PATIENCE = 240.0
_LIMIT_BYTES = 256 * MIB

# Joins the group, takes more than half of what there is, and has two children: one that wants more than the rest, which is then
# smaller than we are, and one that ends by itself.
_IN_THE_GROUP = """
import json, os, sys
from pathlib import Path
from p2v.batch.children import LocalStarter, Order, follow
from p2v.batch.jobs import MachineJob

Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
ours = bytearray(160 * 2**20)
order = Order("job", (), {}, 1, MachineJob("job", (), Path(sys.argv[2])))
for code in ("bytearray(2**30)", "raise SystemExit(3)"):
    heard = []
    starter = LocalStarter(Path(sys.argv[2], "jobs.p2v"), (sys.executable, "-ISc", code))
    ended = follow(starter.start(order), lambda: None, heard.append)
    print(json.dumps([ended.exit_status, heard]), flush=True)
"""


@contextlib.contextmanager
def _limited_group() -> Iterator[MemoryGroup]:
    """A control group below ours that may have little, and its swap counts."""
    ours = memory_group()
    if os.geteuid() != 0 or ours is None:
        pytest.skip("needs root, and a control group that counts memory")
    made = MemoryGroup(ours.top / f"p2v-test-{os.getpid()}", ours.top, ours.is_unified)
    limits = {"memory.max": _LIMIT_BYTES, "memory.swap.max": 0}
    if not ours.is_unified:
        limits = {"memory.limit_in_bytes": _LIMIT_BYTES, "memory.swappiness": 0}
    try:
        try:
            made.folder.mkdir()
            for name, value in limits.items():
                (made.folder / name).write_text(str(value))
        except OSError as error:
            pytest.skip(f"needs a control group of its own that counts memory ({error})")
        yield made
    finally:
        _remove(made.folder)


def _remove(folder: Path) -> None:
    """The kernel takes a moment to see that the last of its processes has gone."""
    deadline = time.monotonic() + PATIENCE
    while folder.is_dir():
        try:
            folder.rmdir()
        except OSError:
            assert time.monotonic() < deadline, f"{folder} is still in use"
            time.sleep(0.05)


def test_at_a_limit_of_memory_the_kernel_ends_the_conversion_and_not_who_has_begun_it_and_that_is_told(
    tmp_path: Path,
) -> None:
    with _limited_group() as group:
        assert (group.kills(), group.limit()) == (0, _LIMIT_BYTES)
        done = subprocess.run(
            [sys.executable, "-c", _IN_THE_GROUP, str(group.folder), str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=PATIENCE,
        )  # fmt: skip
        assert group.kills() == 1

    (status, heard), calm = map(json.loads, done.stdout.splitlines())
    assert status == -signal.SIGKILL
    (warning,) = heard
    assert warning["event"] == "warning"
    assert "memory was short" in warning["message"]
    assert "a process" in warning["message"]
    assert "256.0 MiB" in warning["message"]
    assert calm == [3, []]  # what came before is not its affair
    failure = failure_of(Ended(status, "", 1.0), None)
    assert (failure.code, failure.may_help) == ("killed", True)
    assert "memory" in failure.hint


# How the group is found. The folders stand for the kernel's.


def _group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text)


def test_in_a_container_of_version_2_the_group_is_what_is_mounted_and_parents_limits_count(tmp_path: Path) -> None:
    events = "low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"
    _group(tmp_path / "pod", memory_events=events, memory_max=f"{64 * MIB}\n")
    _group(tmp_path / "pod/one", memory_events=events, memory_max="max\n")
    mounts = f"33 32 0:30 / {tmp_path} ro,nosuid - cgroup2 cgroup rw,nsdelegate\n"

    found = memory_group("0::/pod/one\n", mounts)
    assert found is not None
    assert (found.kills(), found.limit()) == (2, 64 * MIB)

    # a container's own root is its group
    root = memory_group("0::/\n", f"33 32 0:30 / {tmp_path}/pod ro - cgroup2 cgroup rw\n")
    assert root is not None
    assert (root.kills(), root.limit()) == (2, 64 * MIB)


def test_in_a_container_of_version_1_the_folder_that_is_mounted_is_the_group(tmp_path: Path) -> None:
    counts = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"
    stat = f"cache 0\nhierarchical_memory_limit {32 * MIB}\n"
    _group(tmp_path / "mem ory", memory_oom_control=counts, memory_stat=stat)
    mount = str(tmp_path / "mem ory").replace(" ", "\\040")
    mounts = (
        f"40 39 0:31 /kubepods/pod1/x {tmp_path} ro - cgroup cgroup rw,cpu,cpuacct\n"
        f"41 39 0:32 /kubepods/pod1/x {mount} ro - cgroup cgroup rw,memory\n"
    )
    groups = "5:cpu,cpuacct:/kubepods/pod1/x\n4:memory:/kubepods/pod1/x\n0::/kubepods/pod1/x\n"

    found = memory_group(groups, mounts)
    assert found is not None
    assert (found.kills(), found.limit()) == (5, 32 * MIB)
    # a group that is not below what is mounted is not seen, and none is made up
    assert memory_group(groups.replace("pod1", "pod2"), mounts) is None


def test_without_a_group_nothing_is_said(tmp_path: Path) -> None:
    assert memory_group("", "") is None
    assert (
        memory_group("0::/\n", f"1 0 0:1 / {tmp_path} rw - cgroup2 cgroup2 rw\n") is None
    )  # nothing counts memory there
    assert MemoryWatch(None, 0).words() == ""


def test_kills_are_counted_from_the_beginning_of_the_watch(tmp_path: Path) -> None:
    group = MemoryGroup(tmp_path, tmp_path, is_unified=True)
    _group(tmp_path, memory_events="oom_kill 4\n", memory_max="max\n")
    assert MemoryWatch(group, 4).words() == ""
    assert "2 processes" in MemoryWatch(group, 2).words()
    assert "MiB" not in MemoryWatch(group, 2).words()  # no limit that is known
