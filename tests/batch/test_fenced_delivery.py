"""A conversion that is stopped between naming its results and telling libvirt: another defines the machine, and the first does not.

A DOS is converted into a virsh that is played; the last test is the same with a real libvirtd.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.batch.jobs import MachineJob
from p2v.batch.results import result_since
from p2v.core.fence import fence_path, raise_fence
from p2v.core.workspace import socket_folder
from p2v.delivery import DeliveryNote
from tests.batch.dos import dos_disk
from tests.batch.test_fenced_conversion import error, stopped, woken
from tests.pipeline.running import Ran, names, p2v
from tests.targets.libvirtd import ONE_WORKER, libvirtd, why_not

BEFORE_TELLING = "p2v.migrate.deliver_machine"
# its folder: volumes and domains as files, and a line for each word that changed something
VIRSH = """\
#!PYTHON -ISE
import os, re, sys
from pathlib import Path
home = Path(__file__).parent
words = [word for word in sys.argv[1:] if word != "--quiet"]
words = words[2:] if words[0] == "--connect" else words
verb, options = words[0], dict(zip(words[1::2], words[2::2]))
if verb == "define":
    options = {"--file": words[2]}
def told(*said):
    with (home / "told").open("a") as file:
        file.write(" ".join([verb, *said]) + "\\n")
domain = home / "domains" / options.get("--domain", "none")
volume = home / "volumes" / options.get("--vol", options.get("--name", "none"))
if verb in ("dominfo", "domuuid", "start"):
    if not domain.exists():
        sys.exit(1)
    print(domain.read_text())
if verb == "vol-info" and not volume.exists():
    sys.exit(1)
if verb in ("net-list", "pool-list"):
    print("default" if verb == "net-list" else "tank")
if verb == "pool-info":
    print("State:          running")
if verb == "pool-dumpxml":
    print("<pool type='dir'></pool>")
if verb == "vol-create-as":
    volume.touch(exist_ok=False)
    told(volume.name)
if verb == "vol-upload":
    volume.write_bytes(Path(options["--file"]).read_bytes())
if verb == "vol-delete":
    volume.unlink()
    told(volume.name)
if verb == "define":
    text = Path(options["--file"]).read_text()
    name, uuid = (re.search(f"<{each}>(.*?)</{each}>", text)[1] for each in ("name", "uuid"))
    told(name)
    (home / "domains" / name).write_text(uuid)
"""


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dos_disk(tmp_path_factory.mktemp("dos") / "dos.raw")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The played libvirt's."""
    home = tmp_path / "libvirt"
    for folder in ("domains", "volumes"):
        (home / folder).mkdir(parents=True)
    (home / "virsh").write_text(VIRSH.replace("PYTHON", sys.executable))
    (home / "virsh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    return home


def words(source: Path, out: Path, fence: int, *more: str, uri: str = "test:///played") -> list[str]:
    return [
        "convert", str(source), "-o", str(out), "--name", "vm", "--network", "user", "--to", "libvirt", "--connect", uri,
        "--fence", str(fence), "--progress", "json", *more,
    ]  # fmt: skip


def told(home: Path) -> list[str]:
    return (home / "told").read_text().splitlines() if (home / "told").exists() else []


def note(out: Path) -> Path:
    return DeliveryNote.of(out, "vm").path


def require_lost(ran: Ran) -> None:
    assert ran.status == 75, ran.err
    assert error(ran)["code"] == "lease-lost"


def test_one_that_slept_past_its_lease_before_telling_libvirt_tells_it_nothing(
    dos: Path, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "out"
    wanted = MachineJob("vm", (dos,), out, options=("--to=libvirt", "--connect=test:///played"))
    with stopped(BEFORE_TELLING, words(dos, out, 1, "--pool", "tank")) as process:
        assert "vm.json" in names(out)
        # its results are whole, and yet it is not done: nobody takes it for that
        assert result_since(wanted, 0.0) is None
        # unless libvirt is not to be told any more
        assert result_since(MachineJob("vm", (dos,), out), 0.0) is not None
        raise_fence(out, "vm", 2)
        ran = woken(process)
    require_lost(ran)
    assert told(home) == []
    made = (out / "vm.qcow2").stat()
    # the one that came tells it, and copies nothing anew
    ran = p2v(*words(dos, out, 2, "--pool", "tank"))
    assert ran.status == 0, ran.err
    assert told(home) == ["vol-create-as vm.qcow2", "define vm"]
    assert (out / "vm.qcow2").stat().st_mtime_ns == made.st_mtime_ns
    assert not note(out).exists()
    assert result_since(wanted, 0.0) is not None


def test_one_that_slept_while_another_told_libvirt_tells_it_nothing_again(
    dos: Path, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "out"
    with stopped(BEFORE_TELLING, words(dos, out, 1)) as process:
        ran = p2v(*words(dos, out, 2))
        assert ran.status == 0, ran.err
        assert told(home) == ["define vm"]
        # the job has ended: its fence is gone, and that is no leave to go on
        fence_path(out, "vm").unlink()
        require_lost(woken(process))
    assert told(home) == ["define vm"]


def test_one_that_was_killed_before_telling_libvirt_is_gone_on_with(dos: Path, tmp_path: Path, home: Path) -> None:
    out = tmp_path / "out"
    with stopped(BEFORE_TELLING, words(dos, out, 1)):
        pass
    ran = p2v(*words(dos, out, 1))
    assert ran.status == 0, ran.err
    assert told(home) == ["define vm"]


def test_one_that_was_killed_after_telling_libvirt_tells_it_nothing_twice(
    dos: Path, tmp_path: Path, home: Path
) -> None:
    out = tmp_path / "out"
    assert p2v(*words(dos, out, 1)).status == 0
    note(out).write_text("")  # as if it had been killed before it removed this
    ran = p2v(*words(dos, out, 2))
    assert ran.status == 0, ran.err
    assert told(home) == ["define vm"]
    assert not note(out).exists()
    # without it, it is a machine that is there: nothing is replaced
    assert p2v(*words(dos, out, 3)).status == 73


def test_volumes_that_a_killed_one_began_are_taken_back_and_nobody_elses(dos: Path, tmp_path: Path, home: Path) -> None:
    out = tmp_path / "out"
    with stopped(BEFORE_TELLING, words(dos, out, 1, "--pool", "tank")):
        pass
    for name in ("vm.qcow2", "db.qcow2"):
        (home / "volumes" / name).write_bytes(b"half of it")
    noted = [["tank", "vm.qcow2"], ["tank", "db.qcow2"], ["tank"], {}]
    note(out).write_text("".join(json.dumps(each) + "\n" for each in noted) + "{\n")
    ran = p2v(*words(dos, out, 2, "--pool", "tank"))
    assert ran.status == 0, ran.err
    assert told(home) == ["vol-delete vm.qcow2", "vol-create-as vm.qcow2", "define vm"]
    assert (home / "volumes" / "db.qcow2").read_bytes() == b"half of it"
    assert (home / "volumes" / "vm.qcow2").read_bytes() == (out / "vm.qcow2").read_bytes()


def test_one_that_is_refused_while_it_uploads_leaves_what_it_made_to_the_other(
    dos: Path, tmp_path: Path, home: Path
) -> None:
    """Its volume is the other's to take back: that one may have made its own of that name by then."""
    out = tmp_path / "out"
    virsh = home / "virsh"
    # when the upload has come to its end another has the machine
    raising = f"\nif verb == 'vol-upload':\n    Path({str(fence_path(out, 'vm'))!r}).write_text('{2:020d}\\n')\n"
    virsh.write_text(virsh.read_text() + raising)
    require_lost(p2v(*words(dos, out, 1, "--pool", "tank")))
    assert told(home) == ["vol-create-as vm.qcow2"]
    assert list(DeliveryNote(note(out)).begun()) == [("tank", "vm.qcow2")]
    ran = p2v(*words(dos, out, 2, "--pool", "tank"))
    assert ran.status == 0, ran.err
    assert told(home)[1:] == ["vol-delete vm.qcow2", "vol-create-as vm.qcow2", "define vm"]


@contextmanager
def real_libvirt() -> Iterator[str]:
    with socket_folder() as folder, libvirtd(folder) as uri:
        yield uri


@ONE_WORKER
@pytest.mark.matrix
@pytest.mark.timeout(600)
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_with_a_real_libvirt(dos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with real_libvirt() as uri:
        ask = ["virsh", "--quiet", "--connect", uri, "list", "--all", "--name"]
        with stopped(BEFORE_TELLING, words(dos, out, 1, uri=uri)) as process:
            raise_fence(out, "vm", 2)
            require_lost(woken(process))
        assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split() == []
        with stopped(BEFORE_TELLING, words(dos, out, 2, uri=uri)) as process:
            process.send_signal(signal.SIGKILL)
        for _ in range(2):
            ran = p2v(*words(dos, out, 3, uri=uri))
            assert ran.status == 0, ran.err
            assert subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split() == ["vm"]
            note(out).write_text("")
