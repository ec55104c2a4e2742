"""A plan with every kind of change, carried out on a guest that can be written, twice."""

from __future__ import annotations

import dataclasses

from drivers.apply import apply_changes
from drivers.changes import DeleteFile, DeleteSymlink, EditFile, ExtendInitramfs, MakeSymlink, WriteFile
from drivers.plan import PlanOptions
from drivers.planning import plan_guest
from drivers.tree import FileType
from tests.drivers import memory_guest
from tests.drivers.linux.guest import facts_of, files
from tests.drivers.memory_guest import MemoryGuest
from tests.drivers.memory_tree import Link, Node

MORE: dict[str, Node] = {
    "/etc/blkid.tab": "<device>/dev/sda1</device>\n",
    "/etc/crypttab": "swap /dev/sda2 /dev/urandom swap\n",
    "/etc/rc2.d/S20open-vm-tools": Link("../init.d/open-vm-tools"),
    "/etc/network/interfaces": "iface em1 inet dhcp\n",
}


def writable(nodes: dict[str, Node]) -> MemoryGuest:
    """The same files as a guest that can be written."""
    made = {}
    for path, node in nodes.items():
        if isinstance(node, Link):
            made[path] = memory_guest.link(node.target)
        elif isinstance(node, bytes | str):
            made[path] = memory_guest.file(node)
    return MemoryGuest(made)


def test_every_kind_of_change_is_made_once_and_folders_that_are_missing_are_made() -> None:
    nodes: dict[str, Node] = {path: node for path, node in files().items() if path != "/etc/systemd/network"} | MORE
    facts = facts_of(nodes)
    assert facts.os is not None
    facts = dataclasses.replace(facts, os=dataclasses.replace(facts.os, init="sysv"))
    # the initramfs' supplement is made elsewhere
    planned = plan_guest(facts, PlanOptions(("00:0c:29:01:02:03",))).changes
    changes = [change for change in planned if not isinstance(change, ExtendInitramfs)]
    assert {type(change) for change in changes} == {EditFile, WriteFile, DeleteFile, DeleteSymlink, MakeSymlink}
    guest = writable(nodes)
    assert not any(done.skipped for done in apply_changes(guest, changes, {}))
    assert guest.lstat("/etc/udev/rules.d").type is FileType.DIRECTORY
    assert guest.readlink("/etc/rc2.d/K80open-vm-tools") == "../init.d/open-vm-tools"
    assert not guest.exists("/etc/blkid.tab")
    writes = len(guest.writes)
    assert all(done.skipped for done in apply_changes(guest, changes, {}))
    assert len(guest.writes) == writes
