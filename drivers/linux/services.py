"""Services of guests without systemd: which start, and how they are kept from starting.

Each way is the one of the guest's own tools, so that these can turn the service on again:

* SysV init: a start link becomes a stop link, as ``update-rc.d NAME disable`` and ``chkconfig NAME off`` do; where a stop
  link is in the same runlevel already (SUSE's insserv), the start link goes.
* OpenRC, runit: the link in the runlevel goes (``rc-update del``, runsvchdir(8)).
* Upstart: ``manual`` in NAME.override (init(5)), which Upstart knows from 0.6.7 on.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping

from drivers.changes import Change, DeleteSymlink, EditFile, MakeSymlink, WriteFile
from drivers.facts import GuestFacts
from drivers.linux import paths
from drivers.linux.splice import with_lines
from drivers.tree import GuestTree

UPSTART_JOBS = "/etc/init"
INIT_SCRIPTS = ("/etc/init.d", "/etc/rc.d/init.d")
INITS = frozenset({"sysv", "upstart", "openrc", "runit"})
"""Values of ``OperatingSystem.init`` for which services can be turned off here."""

_RUNLEVELS = ("/etc/rc.d/rc[1-5].d", "/etc/rc[1-5S].d", "/etc/init.d/rc[1-5S].d", "/etc/init.d/boot.d")
_LINK_FOLDERS = ("/etc/runlevels/*", "/etc/runit/runsvdir/default")
_SYSV_LINK = re.compile(
    r"(?P<folder>/etc/(?:rc\.d/|init\.d/)?(?:rc[1-5S]|boot)\.d)/(?P<kind>[SK])(?P<number>[0-9]{2})(?P<name>.+)"
)
_LINK = re.compile(r"/etc/(?:runlevels/[^/]+|runit/runsvdir/default)/(?P<name>[^/]+)")


def read_links(tree: GuestTree, names: Collection[str]) -> dict[str, str]:
    """The links by which these services are started or stopped (path with its folder's links followed -> target)."""
    links: dict[str, str] = {}
    for pattern in (*_RUNLEVELS, *_LINK_FOLDERS):
        for folder in {path for found in paths.matching(tree, pattern) if (path := paths.resolve(tree, found))}:
            for entry in tree.list(folder)[: paths.NAMES_AT_MOST]:
                path = posixpath.join(folder, entry)
                if service_of(path) in names and (target := _target(tree, path)) is not None:
                    links[path] = target
    return links


def service_of(path: str) -> str:
    """The service that a link starts or stops; empty when it is no such link."""
    match = _SYSV_LINK.fullmatch(path) or _LINK.fullmatch(path)
    return match["name"] if match else ""


def upstart_texts(tree: GuestTree, names: Collection[str]) -> tuple[str, ...]:
    """Upstart's jobs for these services, and what overrides them, as far as they are there."""
    wanted = {f"{name}.{kind}" for name in names for kind in ("conf", "override")}
    return tuple(f"{UPSTART_JOBS}/{name}" for name in tree.list(UPSTART_JOBS) if name in wanted)


def started(links: Mapping[str, str], jobs: Collection[str]) -> frozenset[str]:
    """The services that start by these links, and by jobs of Upstart of these names."""
    return frozenset(service_of(path) for path in links if not _is_stop(path)) | frozenset(jobs)


def turned_off(facts: GuestFacts, name: str, why: str) -> Iterator[Change]:
    """The changes after which a service does not start."""
    own = {path: target for path, target in facts.links.items() if service_of(path) == name}
    stopped = {posixpath.dirname(path) for path in own if _is_stop(path)}
    for path, target in sorted(own.items()):
        if _is_stop(path):
            continue
        yield DeleteSymlink(path, target, why)
        match = _SYSV_LINK.fullmatch(path)
        if match is not None and match["folder"] not in stopped:
            stopped.add(match["folder"])
            number = min(100 - int(match["number"]), 99)
            yield MakeSymlink(f"{match['folder']}/K{number:02}{name}", target, None, why)
    if f"{UPSTART_JOBS}/{name}.conf" in facts.texts and overrides_work(facts):
        yield from _override(facts, name, why)


def overrides_work(facts: GuestFacts) -> bool:
    """Whether the guest's Upstart reads .override files: RHEL 6 and Ubuntu 10 have 0.6.5, which does not."""
    system = facts.os
    if system is None or system.init != "upstart" or system.family == "redhat":
        return False
    return not (system.id == "ubuntu" and system.version.split(".")[0] in ("6", "7", "8", "9", "10"))


def _override(facts: GuestFacts, name: str, why: str) -> Iterator[Change]:
    path = f"{UPSTART_JOBS}/{name}.override"
    file = facts.texts.get(path)
    if file is None:
        yield WriteFile(path, "manual\n", 0o644, why)
    elif "manual" not in (line.strip() for line in file.text.split("\n")):
        yield EditFile(file.resolved, file.text, with_lines(file.text, "manual\n"), why)


def _is_stop(path: str) -> bool:
    match = _SYSV_LINK.fullmatch(path)
    return match is not None and match["kind"] == "K"


def _target(tree: GuestTree, path: str) -> str | None:
    try:
        return tree.readlink(path)
    except FileNotFoundError:
        return None
