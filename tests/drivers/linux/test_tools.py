"""Software of other hypervisors: recognised, and its units masked."""

from __future__ import annotations

import dataclasses

from drivers.changes import MakeSymlink
from drivers.linux.tools import contribute, find_tools
from tests.drivers.linux.guest import applied, facts_of, files
from tests.drivers.memory_tree import InMemoryTree, Link, Node

UNIT = "/lib/systemd/system/open-vm-tools.service"


def masks(nodes: dict[str, Node]) -> dict[str, str | None]:
    """The masks that are planned: path -> target of the link that stands there."""
    found = {}
    for change in contribute(facts_of(nodes)).changes:
        assert isinstance(change, MakeSymlink)
        assert change.target == "/dev/null"
        found[change.path] = change.replaces
    return found


def test_debians_open_vm_tools_are_found_with_their_alias_and_what_they_need() -> None:
    tools = find_tools(InMemoryTree(files()))
    assert [(tool.name, tool.vendor, tool.evidence) for tool in tools] == [
        ("open-vm-tools", "vmware", "package open-vm-tools")
    ]
    assert tools[0].units == ("open-vm-tools.service", "vmtoolsd.service", "vgauth.service")


def test_units_are_masked_and_an_alias_is_replaced_by_what_it_is() -> None:
    assert masks(files()) == {
        "/etc/systemd/system/open-vm-tools.service": None,
        "/etc/systemd/system/vmtoolsd.service": UNIT,
        "/etc/systemd/system/vgauth.service": None,
    }


def test_masking_again_changes_nothing_and_links_in_wants_stay() -> None:
    after = applied(files(), contribute(facts_of(files())).changes)
    assert masks(after) == {}
    assert find_tools(InMemoryTree(after))[0].units == ()
    assert after["/etc/systemd/system/multi-user.target.wants/open-vm-tools.service"] == Link(UNIT)


def test_a_unit_that_is_masked_already_by_an_empty_file_is_left() -> None:
    assert "/etc/systemd/system/vgauth.service" not in masks({**files(), "/etc/systemd/system/vgauth.service": ""})


def test_a_unit_file_of_the_guests_own_is_not_replaced_but_warned_of() -> None:
    nodes = {**files(), "/etc/systemd/system/vgauth.service": "[Service]\nExecStart=/bin/true\n"}
    assert "/etc/systemd/system/vgauth.service" not in masks(nodes)
    assert [finding.id for finding in contribute(facts_of(nodes)).warnings] == ["linux.tools.left"]


def test_a_package_that_was_removed_is_no_tool() -> None:
    assert "qemu-guest-agent" not in [tool.name for tool in find_tools(InMemoryTree(files()))]


def test_a_tool_without_package_is_known_by_its_files() -> None:
    nodes: dict[str, Node] = {
        "/etc/vmware-tools/locations": "answer BINDIR /usr/bin\n",
        "/etc/systemd/system/vmware-tools.service": Link("/gone"),
        "/usr/sbin/VBoxService": b"",
    }
    assert [(tool.name, tool.evidence, tool.units) for tool in find_tools(InMemoryTree(nodes))] == [
        ("vmware-tools", "file /etc/vmware-tools/locations", ()),
        ("virtualbox-guest-additions", "file /usr/sbin/VBoxService", ()),
    ]


def test_the_qemu_guest_agent_is_kept() -> None:
    nodes = {
        **files(),
        "/usr/sbin/qemu-ga": b"",
        "/usr/lib/systemd/system/qemu-guest-agent.service": "[Service]\n",
    }
    assert find_tools(InMemoryTree(nodes))[-1].units == ("qemu-guest-agent.service",)
    assert not any("qemu" in path for path in masks(nodes))


def test_a_guest_without_systemd_keeps_its_tools_and_a_warning_says_so() -> None:
    facts = facts_of(files())
    assert facts.os is not None
    old = dataclasses.replace(facts, os=dataclasses.replace(facts.os, init="sysv"))
    found = contribute(old)
    assert found.changes == ()
    assert [finding.id for finding in found.warnings] == ["linux.tools.left"]
