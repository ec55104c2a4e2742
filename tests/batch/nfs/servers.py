"""In the machine: NFS servers in namespaces of their own, and mounts of their exports.

The server's host is a pair of namespaces (network, mounts) that a wire leads to; what it exports is seen here as well, as it
lies on its own disk. It stops when its wires are taken out, and is killed when its threads are ended: what it knew of its
clients is gone then, but for what it keeps on its disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXPORT = Path("/export")
"""What is exported, on its own disk."""
SMALL = EXPORT / "small"
"""A file system of its own below it, with little room, and quotas."""
_SMALL_BYTES = 640 << 20
SERVER, CLIENT = "10.9.1.1", "10.9.1.2"
SERVER_2, CLIENT_2 = "10.9.2.1", "10.9.2.2"
LEASE, GRACE = 15, 10
"""Seconds, of the server's leases and of its time of grace after it was started."""
_PATIENCE = 900.0
_LINKS = ("s1", "s2")
_SETUP = """
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib/nfs
mkdir -p /run/rpc_pipefs /run/rpcbind /run/lock /run/sendsigs.omit.d
cd /var/lib/nfs; mkdir -p sm sm.bak v4recovery nfsdcld nfsdcltrack; touch etab rmtab xtab state
mount -t rpc_pipefs rpc_pipefs /run/rpc_pipefs
mount -t nfsd nfsd /proc/fs/nfsd
ip link set lo up
rpcbind -w
rpc.statd --no-notify
"""


def run(*words: object) -> str:
    """A command that must succeed; what it says."""
    done = subprocess.run(
        [str(each) for each in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
    return str(done.stdout)


def until(fact: Callable[[], Any], what: str, seconds: float = _PATIENCE) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.05)
    return found


def measured(began: float) -> float:
    """Seconds since then."""
    return round(time.monotonic() - began, 1)


@dataclass
class Server:
    """An NFS server. ``squash``: root of a client is nobody here."""

    squash: bool = False
    holder: int = 0
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, *words: object) -> str:
        """A command on the server's host."""
        return run("nsenter", "--target", self.holder, "--net", "--mount", *words)

    def prepare(self) -> None:
        """Its host, and the wires."""
        held = subprocess.Popen(["unshare", "--net", "--mount", "sleep", "infinity"])
        self._processes.append(held)
        own = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
        until(lambda: _differs(held.pid, own), "the server's namespaces")
        self.holder = held.pid
        self.inside("sh", "-euc", _SETUP)
        run("ip", "link", "set", "lo", "up")
        for number, (mine, theirs) in enumerate(((CLIENT, SERVER), (CLIENT_2, SERVER_2)), 1):
            run("ip", "link", "add", f"c{number}", "type", "veth", "peer", "name", f"s{number}", "netns", held.pid)
            run("ip", "address", "add", f"{mine}/24", "dev", f"c{number}")
            run("ip", "link", "set", f"c{number}", "up")
            self.inside("ip", "address", "add", f"{theirs}/24", "dev", f"s{number}")
            self.inside("ip", "link", "set", f"s{number}", "up")

    def start(self) -> None:
        """Begin to serve, at first or again."""
        if not self._is_there("nfsdcld"):
            self._stay("nfsdcld", "-F", "-p", "/run/rpc_pipefs", "-s", "/var/lib/nfs/nfsdcld")
            self._stay("rpc.mountd", "-F")
        how = "root_squash" if self.squash else "no_root_squash"
        for number, place in enumerate((EXPORT, SMALL), 1):
            self.inside("exportfs", "-o", f"rw,sync,{how},no_subtree_check,fsid={number}", f"*:{place}")
        self.inside("rpc.nfsd", "-G", GRACE, "-L", LEASE, "4")

    def kill(self) -> None:
        """It is gone, with all that it knew of its clients but what it keeps on its disk."""
        self.inside("rpc.nfsd", "0")

    def forget(self) -> None:
        """It exports nothing, and has nothing open."""
        self.kill()
        self.inside("exportfs", "-ua")
        self.inside("exportfs", "-f")

    def stop(self) -> None:
        """It gives no answer from now on, and loses nothing."""
        for link in _LINKS:
            self.inside("ip", "link", "set", link, "down")

    def go_on(self) -> None:
        """It answers."""
        for link in _LINKS:
            # that of another host has gone with it
            self.inside("sh", "-c", f"ip link set {link} up || ! ip link show {link}")

    def end(self) -> None:
        """All that runs on its host: what it mounted there goes with its last process."""
        for pid in _on_host(self.holder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for each in self._processes:
            each.wait()

    def _stay(self, *words: str) -> None:
        self._processes.append(self._popen(*words))

    def _popen(self, *words: str) -> subprocess.Popen[bytes]:
        # exec: what is signalled is the server
        return subprocess.Popen(
            ["nsenter", "--target", str(self.holder), "--net", "--mount", *words], stdin=subprocess.DEVNULL
        )

    def _is_there(self, name: str) -> bool:
        return any(name in each.args for each in self._processes if each.poll() is None)  # type: ignore[operator]


def _on_host(holder: int) -> list[int]:
    """Processes of the network namespace of one of them."""
    wanted, found = os.readlink(f"/proc/{holder}/ns/net"), []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and os.readlink(entry / "ns" / "net") == wanted:
                found.append(int(entry.name))
    return found


def _differs(pid: int, own: tuple[str, str]) -> bool:
    with contextlib.suppress(OSError):
        theirs = os.readlink(f"/proc/{pid}/ns/net"), os.readlink(f"/proc/{pid}/ns/mnt")
        return theirs[0] != own[0] and theirs[1] != own[1] and Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    return False


@contextmanager
def exports() -> Iterator[None]:
    """The disk that is exported, empty."""
    for name in ("veth", "loop", "nfsd", "nfsv3", "nfsv4", "quota_v2"):
        run("modprobe", name)
    run("mkfs.ext4", "-q", "-F", "/dev/vdc")
    EXPORT.mkdir(exist_ok=True)
    run("mount", "/dev/vdc", EXPORT)
    image = EXPORT / "small.ext4"
    with image.open("wb") as file:
        file.truncate(_SMALL_BYTES)
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "quota", "-E", "quotatype=usrquota", image)
    SMALL.mkdir()
    run("mount", "-o", "loop,usrquota", image, SMALL)
    try:
        yield
    finally:
        # the server's namespaces, which see them as well, go a moment after their last process
        for place in (SMALL, EXPORT):
            _unmounted(place)
        until(
            lambda: subprocess.run(["losetup", "--all"], capture_output=True, check=True).stdout == b"",
            "the end of a loop device",
        )


@contextmanager
def served(*, squash: bool = False) -> Iterator[Server]:
    """A server with its exports."""
    with exports():
        server = Server(squash)
        try:
            server.prepare()
            server.start()
            yield server
        finally:
            with contextlib.suppress(AssertionError):
                server.forget()
            server.end()


# version 3 has locks by a protocol of their own, which wants these two at the client's, too
_LOCKING = """
mkdir -p /run/rpcbind /run/sendsigs.omit.d
test -e /run/rpc.statd.pid || { rpcbind -w; rpc.statd --no-notify; }
"""


@contextmanager
def mounted(
    place: Path, options: Sequence[str] = ("vers=4.2",), path: Path = EXPORT, address: str = SERVER
) -> Iterator[Path]:
    """An export, mounted hard: who waits for its server waits for as long as it takes."""
    place.mkdir(parents=True, exist_ok=True)
    run("sh", "-euc", _LOCKING)
    words = ["mount", "-t", "nfs", "-o", _options(options), f"{address}:{path}", str(place)]
    until(lambda: subprocess.run(words, check=False, timeout=_PATIENCE).returncode == 0, f"the mount of {path}")
    try:
        yield place
    finally:
        _unmounted(place)


def _options(options: Sequence[str]) -> str:
    """Hard, and looked for anew after some seconds."""
    return ",".join(("hard", "proto=tcp", "timeo=30", "retrans=2", *options))


def _unmounted(place: Path) -> None:
    def is_done() -> bool:
        return subprocess.run(["umount", place], check=False, timeout=_PATIENCE, capture_output=True).returncode == 0

    until(is_done, f"the end of the mount {place}")


@dataclass
class Host:
    """Another client: a host of its own by its network, its name and its identity. ``prefix``: what a command there begins with."""

    holder: int

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self.holder), "--net", "--mount", "--uts")

    def python(self, program: str, *words: object) -> subprocess.Popen[str]:
        """A program there, whose lines are heard and answered."""
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-c", program, *map(str, words)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1,
        )  # fmt: skip


@contextmanager
def second_host(place: Path, options: Sequence[str] = ("vers=4.2",)) -> Iterator[Host]:
    """One with the exports mounted at ``place``, by the second wire."""
    own = os.readlink("/proc/self/ns/net"), os.readlink("/proc/self/ns/mnt")
    held = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sleep", "infinity"])
    try:
        until(lambda: _differs(held.pid, own), "the namespaces of another host")
        host = Host(held.pid)
        place.mkdir(exist_ok=True)
        Path("/tmp/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        how = _options(options)
        run("ip", "link", "set", "c2", "netns", held.pid)
        run(*host.prefix, "sh", "-euc", f"""
            hostname two
            mount --bind /tmp/machine-id /etc/machine-id
            ip link set lo up
            ip link set c2 up
            ip address add {CLIENT_2}/24 dev c2
            mount -t tmpfs tmpfs /run
            {_LOCKING}
            mount -t nfs -o {how} {SERVER_2}:{EXPORT} {place}
        """)  # fmt: skip
        yield host
        run(*host.prefix, "umount", place)
    finally:
        for pid in _on_host(held.pid):
            os.kill(pid, signal.SIGKILL)
        held.wait()
