"""A store is opened by one host: the one that a file beside it names, wherever several can reach it."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from p2v.batch import store_host
from p2v.batch.store import Store
from p2v.batch.store_host import network_file_system, owner_path
from p2v.cli.main import main
from p2v.core.errors import P2vError, RunElsewhere, StoreElsewhere
from p2v.core.marks import HostName
from tests.batch.machines import batch

HERE, OTHER = HostName("here", "m1"), HostName("other", "m2")
Seen = Callable[[HostName, str], None]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """Makes this process one of a host that sees the folder on a kind of file system."""

    def see(host: HostName, kind: str) -> None:
        mounts = tmp_path.parent / f"{tmp_path.name}.mountinfo"
        mounts.write_text(
            f"22 1 252:0 / / rw - ext4 /dev/vda rw\n40 22 0:50 / {tmp_path} rw shared:1 - {kind} server:/batches rw\n"
        )
        monkeypatch.setattr("p2v.batch.mounts.MOUNTS", mounts)
        for module in ("store_host", "store_runs"):
            monkeypatch.setattr(f"p2v.batch.{module}.this_host", lambda: host)

    return see


def begun(path: Path) -> None:
    with Store.create(path) as store:
        store.put(batch(path.parent, "a"))


@pytest.mark.parametrize("use", [Store.open, Store.create])
@pytest.mark.parametrize("other", [OTHER, HostName("other", "m1"), HostName("here", "m2")])
def test_another_host_opens_no_store_on_a_network_file_system_not_even_to_read(
    tmp_path: Path, seen: Seen, use: Callable[[Path], Store], other: HostName
) -> None:
    seen(HERE, "nfs4")
    begun(tmp_path / "s")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    seen(other, "nfs4")
    with pytest.raises(StoreElsewhere) as raised:
        use(tmp_path / "s")
    assert "here" in str(raised.value)
    assert str(owner_path(tmp_path / "s")) in raised.value.hint()
    # nothing was touched: SQLite did not see it
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    seen(HERE, "nfs4")
    Store.open(tmp_path / "s").close()


def test_the_server_of_a_folder_does_not_open_what_its_client_has(tmp_path: Path, seen: Seen) -> None:
    """On the server the same folder is on a disk of its own."""
    seen(OTHER, "nfs4")
    begun(tmp_path / "s")
    seen(HERE, "xfs")
    for use in (Store.open, Store.create):
        with pytest.raises(StoreElsewhere):
            use(tmp_path / "s")


def test_a_client_does_not_open_what_the_server_has(tmp_path: Path, seen: Seen) -> None:
    seen(HERE, "xfs")
    begun(tmp_path / "s")
    seen(OTHER, "nfs")
    with pytest.raises(StoreElsewhere):
        Store.create(tmp_path / "s")


def test_a_store_on_a_disk_goes_with_the_disk_and_is_its_new_hosts_then(tmp_path: Path, seen: Seen) -> None:
    seen(HERE, "ext4")
    begun(tmp_path / "s")
    seen(OTHER, "ext4")
    Store.open(tmp_path / "s").close()
    Store.create(tmp_path / "s").close()
    seen(HERE, "nfs4")
    with pytest.raises(StoreElsewhere, match="other"):
        Store.open(tmp_path / "s")


def test_who_removes_the_note_takes_the_store_unless_a_run_of_the_other_lives(tmp_path: Path, seen: Seen) -> None:
    seen(OTHER, "nfs4")
    with Store.create(tmp_path / "s") as store:
        store.put(batch(tmp_path, "a"))
        run = store.runs.begin("1:1", "", is_local=True)
        far = time.time() + 3600
        lease = store.claim("a", "other:1", 3600.0, time.time(), run.number)
        assert lease is not None
        assert lease.until >= far - 60
    owner_path(tmp_path / "s").unlink()
    seen(HERE, "nfs4")
    with pytest.raises(RunElsewhere, match="other"):
        Store.create(tmp_path / "s")
    connection = sqlite3.connect(tmp_path / "s")
    with connection:
        connection.execute("UPDATE jobs SET lease_until = 1")
    connection.close()
    Store.create(tmp_path / "s").close()


def test_a_note_that_makes_no_sense_opens_nothing(tmp_path: Path, seen: Seen) -> None:
    seen(HERE, "nfs4")
    begun(tmp_path / "s")
    for text in (b"", b"{", b"[]", b'{"host": 1}', b"\xff" * 9000):
        owner_path(tmp_path / "s").write_bytes(text)
        with pytest.raises(P2vError, match="does not tell which host"):
            Store.open(tmp_path / "s")


def _make(path: str, host: str, go: object, told: object) -> None:
    store_host.this_host = lambda: HostName(host, host)  # type: ignore[attr-defined]  # in this process alone
    store_host.network_file_system = lambda folder, mounts=None: "nfs4"
    go.wait()  # type: ignore[attr-defined]
    try:
        store_host.require_ours(Path(path), make=True)
    except StoreElsewhere as error:
        told.put(error.host)  # type: ignore[attr-defined]
    else:
        told.put(host)  # type: ignore[attr-defined]


def test_of_hosts_that_begin_one_store_at_the_same_moment_one_has_it(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    for number in range(5):
        go, told = spawn.Event(), spawn.Queue()
        path = tmp_path / f"s{number}"
        makers = [spawn.Process(target=_make, args=(str(path), f"h{each}", go, told)) for each in range(4)]
        for each in makers:
            each.start()
        go.set()
        winners = {told.get(timeout=60) for _ in makers}
        for each in makers:
            each.join(60)
        assert len(winners) == 1
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_the_command_line_says_where_to_go(tmp_path: Path, seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    seen(HERE, "nfs4")
    begun(tmp_path / "s")
    seen(OTHER, "nfs4")
    for verb in (["status"], ["report"], ["pause"], ["logs", "a", "--batch"], ["retry", "--batch"]):
        assert main(["batch", *verb, str(tmp_path / "s")]) == 64
        said = capsys.readouterr()
        assert "the host here" in said.err
        assert not said.out


@pytest.mark.parametrize("kind", ["nfs", "cifs", "fuse.sshfs", "virtiofs", "ocfs2"])
def test_what_several_hosts_can_mount_is_known(kind: str) -> None:
    mounts = f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:50 / /srv rw - {kind} x rw\n"
    assert network_file_system(Path("/srv/batches"), mounts) == kind
    assert network_file_system(Path("/home"), mounts) == ""
