"""Hosts that are network namespaces: addresses of their own on one switch, a name of their own, mounts of their own, shared disks.

Nothing of it is seen outside, and nothing outlives the processes that hold it, which end with this one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount")
_ALL = ("--net", "--uts", "--mount")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing() -> str:
    """What this host lacks for it, in words; empty: nothing."""
    absent = [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]
    if absent:
        return f"{', '.join(absent)} (iproute2, util-linux)"
    if os.geteuid() != 0:
        return "root, who may make network namespaces"
    with contextlib.ExitStack() as stack:
        try:
            Switch(stack).host("probe")
        except (subprocess.CalledProcessError, OSError) as error:
            return f"network namespaces with veth and a bridge ({error})"
    return ""


@dataclass
class Host:
    """One of them. ``enter``: what a command begins with that is to run there."""

    name: str
    address: str
    enter: tuple[str, ...]

    def run(self, *command: str) -> None:
        """Run a command to its end. Raises CalledProcessError."""
        subprocess.run([*self.enter, *command], check=True, stdin=subprocess.DEVNULL, capture_output=True)

    def cut(self) -> None:
        """Pull its cable."""
        self.run("ip", "link", "set", "eth0", "down")

    def hide(self, folder: Path, megabytes: int = 1) -> None:
        """Have an empty folder in the place of one that the others see: a mount is missing, or there is a disk of its own."""
        self.run("mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "none", str(folder))

    def names_in(self, folder: Path) -> list[str]:
        """What stands in a folder as this host sees it."""
        listed = subprocess.run([*self.enter, "ls", "-A", str(folder)], check=True, capture_output=True, text=True)
        return listed.stdout.split()


@dataclass
class Switch:
    """What hosts are plugged into; ends with the stack."""

    stack: contextlib.ExitStack
    hosts: list[Host] = field(default_factory=list)
    _own: Host | None = None

    def host(self, name: str) -> Host:
        """A further one, at an address of its own."""
        own = self._own or self._switch()
        number = len(self.hosts) + 1
        pid = _namespaces(self.stack, _ALL)
        made = Host(name, f"198.51.100.{number}", _entering(pid, _ALL))
        own.run("ip", "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        own.run("ip", "link", "set", f"port{number}", "master", "switch", "up")
        for command in (
            ("ip", "link", "set", "lo", "up"),
            ("ip", "address", "add", f"{made.address}/24", "dev", "eth0"),
            ("ip", "link", "set", "eth0", "up"),
            ("hostname", name),
        ):
            made.run(*command)
        self.hosts.append(made)
        return made

    def _switch(self) -> Host:
        self._own = Host("switch", "", _entering(_namespaces(self.stack, _ALL), _ALL))
        self._own.run("ip", "link", "add", "switch", "type", "bridge")
        self._own.run("ip", "link", "set", "switch", "up")
        return self._own


def _namespaces(stack: contextlib.ExitStack, kinds: Sequence[str]) -> int:
    """The process that holds a set of them; it says when it has them."""
    holding = ("setpriv", "--pdeathsig", "KILL", "unshare", *kinds, "sh", "-c", "echo; exec sleep 86400")
    holder = subprocess.Popen(holding, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    stack.callback(_end, holder)
    assert holder.stdout is not None
    if holder.stdout.readline() != b"\n":
        raise OSError("unshare does not give namespaces")
    return holder.pid


def _entering(pid: int, kinds: Sequence[str]) -> tuple[str, ...]:
    return ("nsenter", "--target", str(pid), *kinds, "--")


def _end(holder: subprocess.Popen[bytes]) -> None:
    holder.kill()
    holder.communicate()


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Sequence[Host]]:
    """Hosts of these names on one switch."""
    with contextlib.ExitStack() as stack:
        switch = Switch(stack)
        yield [switch.host(name) for name in names]


@contextlib.contextmanager
def housemates(*names: str) -> Iterator[Sequence[Host]]:
    """Hosts of these names at this one's own addresses: with names and mounts of their own alone."""
    with contextlib.ExitStack() as stack:
        made = []
        for name in names:
            made.append(Host(name, "127.0.0.1", _entering(_namespaces(stack, _ALL[1:]), _ALL[1:])))
            made[-1].run("hostname", name)
        yield made
