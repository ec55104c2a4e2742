"""Software of other hypervisors: recognised, and its units masked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from drivers.changes import MakeSymlink
from drivers.facts import GuestFacts, Tool
from drivers.linux.reading import collect_texts
from drivers.linux.tool_catalogue import KEPT_VENDORS, KNOWN, Known
from drivers.linux.tools import contribute, find_tools, missing_agent
from drivers.plan import PlanOptions
from tests.drivers.linux.guest import applied, facts_of, files
from tests.drivers.linux.rpm_files import ndb
from tests.drivers.memory_tree import InMemoryTree, Link, Node

UNIT = "/lib/systemd/system/open-vm-tools.service"


def found_in(nodes: Mapping[str, Node]) -> tuple[Tool, ...]:
    """The tools of a guest that is all these files."""
    tree = InMemoryTree(nodes)
    return find_tools(tree, collect_texts(tree)[1])


def masks(nodes: dict[str, Node]) -> dict[str, str | None]:
    """The masks that are planned: path -> target of the link that stands there."""
    found = {}
    for change in contribute(facts_of(nodes)).changes:
        assert isinstance(change, MakeSymlink)
        assert change.target == "/dev/null"
        found[change.path] = change.replaces
    return found


def test_debians_open_vm_tools_are_found_with_their_alias_and_what_they_need() -> None:
    tools = found_in(files())
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
    assert found_in(after)[0].units == ()
    assert after["/etc/systemd/system/multi-user.target.wants/open-vm-tools.service"] == Link(UNIT)


def test_a_unit_that_is_masked_already_by_an_empty_file_is_left() -> None:
    assert "/etc/systemd/system/vgauth.service" not in masks({**files(), "/etc/systemd/system/vgauth.service": ""})


def test_a_unit_file_of_the_guests_own_is_not_replaced_but_warned_of() -> None:
    nodes = {**files(), "/etc/systemd/system/vgauth.service": "[Service]\nExecStart=/bin/true\n"}
    assert "/etc/systemd/system/vgauth.service" not in masks(nodes)
    assert [finding.id for finding in contribute(facts_of(nodes)).warnings] == ["linux.tools.left"]


def test_a_package_that_was_removed_is_no_tool() -> None:
    assert "qemu-guest-agent" not in [tool.name for tool in found_in(files())]


def test_a_tool_without_package_is_known_by_its_files() -> None:
    nodes: dict[str, Node] = {
        "/etc/vmware-tools/locations": "answer BINDIR /usr/bin\n",
        "/etc/systemd/system/vmware-tools.service": Link("/gone"),
        "/usr/sbin/VBoxService": b"",
    }
    assert [(tool.name, tool.evidence, tool.units) for tool in found_in(nodes)] == [
        ("vmware-tools", "file /etc/vmware-tools/locations", ()),
        ("virtualbox-guest-additions", "file /usr/sbin/VBoxService", ()),
    ]


@pytest.mark.parametrize(
    ("nodes", "package"),
    [
        ({"/var/lib/pacman/local/virtualbox-guest-utils-7.0.18-1/desc": ""}, "virtualbox-guest-utils"),
        ({"/lib/apk/db/installed": "P:hvtools\nV:6.6-r0\n"}, "hvtools"),
        ({"/var/db/pkg/app-emulation/open-vm-tools-12.4.0/PF": ""}, "open-vm-tools"),
        ({"/var/lib/rpm/Packages.db": ndb(("WALinuxAgent",))}, "WALinuxAgent"),
        ({"/usr/share/rpm/Packages.db": ndb(("hypervkvpd",))}, "hypervkvpd"),
    ],
)
def test_packages_of_every_manager_show_a_tool(nodes: dict[str, Node], package: str) -> None:
    assert [tool.evidence for tool in found_in(nodes)] == [f"package {package}"]


def test_the_qemu_guest_agent_is_kept() -> None:
    nodes = {
        **files(),
        "/usr/sbin/qemu-ga": b"",
        "/usr/lib/systemd/system/qemu-guest-agent.service": "[Service]\n",
    }
    assert found_in(nodes)[-1].units == ("qemu-guest-agent.service",)
    assert not any("qemu" in path for path in masks(nodes))


# -- other inits -------------------------------------------------------------------------------------------------------


def other_init(
    init: str, more: dict[str, Node], family: str = "debian", id_: str = "debian", version: str = "7"
) -> GuestFacts:
    """A guest with open-vm-tools that another init starts."""
    facts = facts_of({**files(), **more})
    assert facts.os is not None
    system = dataclasses.replace(facts.os, init=init, family=family, id=id_, version=version)
    return dataclasses.replace(facts, os=system)


def rewritten(init: str, more: dict[str, Node], **how: str) -> dict[str, Node]:
    """The files that are there in place of ``more`` after the plan; asserts that planning again changes nothing."""
    nodes = {**files(), **more}
    after = applied(nodes, contribute(other_init(init, more, **how)).changes)
    left = {path: node for path, node in after.items() if files().get(path) != node}
    assert contribute(other_init(init, left, **how)).changes == ()
    return left


def test_start_links_become_stop_links_where_the_init_is_sysv() -> None:
    script = {"/etc/init.d/open-vm-tools": "#!/bin/sh\n"}
    links: dict[str, Node] = {
        "/etc/rc2.d/S20open-vm-tools": Link("../init.d/open-vm-tools"),
        "/etc/rc6.d/K20open-vm-tools": Link("../init.d/open-vm-tools"),
        "/etc/rc2.d/S20ssh": Link("../init.d/ssh"),
    }
    assert rewritten("sysv", {**script, **links}) == {
        **script,
        "/etc/rc2.d/K80open-vm-tools": Link("../init.d/open-vm-tools"),
        "/etc/rc6.d/K20open-vm-tools": Link("../init.d/open-vm-tools"),
        "/etc/rc2.d/S20ssh": Link("../init.d/ssh"),
    }


def test_links_are_changed_where_they_really_are() -> None:
    links: dict[str, Node] = {
        "/etc/rc3.d": Link("rc.d/rc3.d"), "/etc/rc.d/rc3.d/S00vmtoolsd": Link("../init.d/vmtoolsd"),
    }  # fmt: skip
    assert rewritten("sysv", links) == {
        "/etc/rc3.d": Link("rc.d/rc3.d"), "/etc/rc.d/rc3.d/K99vmtoolsd": Link("../init.d/vmtoolsd"),
    }  # fmt: skip


def test_a_stop_link_that_is_there_is_kept() -> None:
    links: dict[str, Node] = {
        "/etc/init.d/rc5.d/S11vmtoolsd": Link("../vmtoolsd"), "/etc/init.d/rc5.d/K01vmtoolsd": Link("../vmtoolsd"),
    }  # fmt: skip
    assert rewritten("sysv", links) == {"/etc/init.d/rc5.d/K01vmtoolsd": Link("../vmtoolsd")}


@pytest.mark.parametrize(
    ("init", "path"),
    [("openrc", "/etc/runlevels/boot/open-vm-tools"), ("runit", "/etc/runit/runsvdir/default/vmtoolsd")],
)
def test_a_link_in_a_runlevel_goes(init: str, path: str) -> None:
    assert rewritten(init, {path: Link("/etc/init.d/x"), "/etc/runlevels/boot/sshd": Link("x")}) == {
        "/etc/runlevels/boot/sshd": Link("x")
    }


JOB = "/etc/init/open-vm-tools.conf"
OVERRIDE = "/etc/init/open-vm-tools.override"


@pytest.mark.parametrize(("before", "after"), [(None, "manual\n"), ("# x", "# x\nmanual\n"), ("manual\n", "manual\n")])
def test_a_job_of_upstart_is_told_to_wait_for_a_person(before: str | None, after: str) -> None:
    more: dict[str, Node] = {JOB: "start on runlevel [2345]\n"}
    if before is not None:
        more[OVERRIDE] = before
    assert rewritten("upstart", more, id_="ubuntu", version="14.04")[OVERRIDE] == after


@pytest.mark.parametrize(("family", "id_", "version"), [("redhat", "rhel", "6.9"), ("debian", "ubuntu", "10.04")])
def test_an_upstart_that_is_too_old_for_that_is_warned_of(family: str, id_: str, version: str) -> None:
    found = contribute(other_init("upstart", {JOB: "start on x\n"}, family, id_, version))
    assert (found.changes, [finding.id for finding in found.warnings]) == ((), ["linux.tools.left"])


def test_an_init_that_is_not_known_is_warned_of() -> None:
    found = contribute(other_init("dinit", {}))
    assert (found.changes, [finding.id for finding in found.warnings]) == ((), ["linux.tools.left"])


def test_a_service_that_nothing_starts_needs_nothing() -> None:
    found = contribute(other_init("sysv", {"/etc/init.d/open-vm-tools": "#!/bin/sh\n"}))
    assert (found.changes, found.warnings) == ((), ())


def test_the_unit_that_systemd_makes_of_a_script_is_masked() -> None:
    nodes: dict[str, Node] = {
        **files(), "/etc/vmware-tools/locations": "", "/etc/init.d/vmware-tools": "#!/bin/sh\n",
        "/etc/init.d/open-vm-tools": "#!/bin/sh\n",
    }  # fmt: skip
    assert "/etc/systemd/system/vmware-tools.service" in masks(nodes)
    assert masks(applied(nodes, contribute(facts_of(nodes)).changes)) == {}


# -- the catalogue -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: str(known.name))
def test_every_tool_is_recognised_by_each_of_its_signs_and_turned_off_unless_it_belongs_on_kvm(known: Known) -> None:
    watched = known.only_if
    units: dict[str, Node] = {f"/usr/lib/systemd/system/{unit}": "[Unit]\n" for unit in known.units}
    units |= {f"/etc/init.d/{service}": "#!/bin/sh\n" for service in known.services}
    if watched is not None:
        units[watched[0]] = f'{watched[1]}="iTCO_wdt"\n'
    signs: list[dict[str, Node]] = [{path: b""} for path in known.files]
    signs += [{"/var/lib/dpkg/status": f"Package: {name}\nStatus: install ok installed\n"} for name in known.packages]
    assert signs
    for sign in signs:
        found = found_in({**units, **sign})
        assert [tool.name for tool in found] == [known.name]
        assert set(found[0].units) == {*known.units, *(f"{service}.service" for service in known.services)}
        changes = contribute(facts_of({**units, **sign, "/etc/fstab": ""})).changes
        assert len(changes) == (0 if known.vendor in KEPT_VENDORS else len(found[0].units))


@pytest.mark.parametrize(
    "text", ["", 'watchdog_module="none"\n', "watchdog_module=i6300esb\n", 'watchdog_module="softdog"\n']
)
def test_a_watchdog_that_needs_no_hardware_of_the_machine_stays(text: str) -> None:
    assert found_in({"/usr/sbin/watchdog": b"", "/etc/default/watchdog": text}) == ()


def test_names_in_the_catalogue_are_used_once() -> None:
    units = [unit for known in KNOWN for unit in known.units]
    assert len(units) == len(set(units))
    assert len({known.name for known in KNOWN}) == len(KNOWN)


def test_a_guest_without_the_agent_is_told_so() -> None:
    assert [finding.id for finding in missing_agent(facts_of(files()), PlanOptions()).warnings] == ["linux.agent-missing"]
    assert missing_agent(facts_of({**files(), "/usr/bin/qemu-ga": b""}), PlanOptions()).warnings == ()


def test_an_agent_that_is_installed_at_the_first_boot_is_not_missed() -> None:
    assert missing_agent(facts_of(files()), PlanOptions(install_agent=True)).warnings == ()


def test_facts_come_in_an_order_of_their_own_whatever_the_process() -> None:
    nodes = files() | {f"/etc/rc{level}.d/S01open-vm-tools": Link("../init.d/open-vm-tools") for level in (5, 2, 4, 3)}
    facts = facts_of({**nodes, "/etc/init.d/open-vm-tools": "#!/bin/sh\n"})
    assert len(facts.links) > 3
    assert list(facts.links) == sorted(facts.links)
    assert list(facts.texts) == sorted(facts.texts)
