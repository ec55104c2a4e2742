"""Programs in a guest: how they are recognised, and that the catalogue is one."""

from __future__ import annotations

from collections import Counter

import pytest

from drivers.program_catalogue import PROGRAMS
from drivers.programs import Program, ProgramKind, devices_of_windows, programs_of_linux, programs_of_windows
from drivers.windows.facts import ControlSets
from tests.drivers.memory_tree import InMemoryTree, Link
from tests.drivers.windows.guest_facts import facts, service
from tests.fixtures.hives import sz

ONE = Program(
    "one", ProgramKind.BACKUP, ("one", "one-[0-9]*"), ("/opt/one/*.ini",), ("One", "One$*"), ("oned",), ("One for *",)
)
EMPTY = InMemoryTree({})
SERVICES = "ControlSet001\\Services"


@pytest.mark.parametrize(
    ("package", "is_found"), [("one", True), ("one-2", True), ("one-dev", False), ("ONE", False), ("one\n", False)]
)
def test_by_package(package: str, is_found: bool) -> None:
    found = programs_of_linux(EMPTY, (ONE,), frozenset({package, "bash"}), "/db")
    assert [(each.name, each.where, each.text) for each in found] == (
        [("one", "/db", f"package {package}")] if is_found else []
    )


def test_by_place_and_each_once() -> None:
    tree = InMemoryTree({"/opt/one/b.ini": "", "/opt/one/a.ini": "", "/opt/lost.ini": Link("/nowhere")})
    assert [each.where for each in programs_of_linux(tree, (ONE,), frozenset(), "")] == ["/opt/one/a.ini"]
    assert [each.where for each in programs_of_linux(tree, (ONE,), frozenset({"one", "one-1"}), "/db")] == ["/db"]
    assert programs_of_linux(EMPTY, (ONE,), frozenset(), "") == ()


@pytest.mark.parametrize(
    ("name", "start", "is_found"),
    [
        ("one", 2, True), ("ONE$A", 0, True), ("One", 3, False), ("One", 4, False), ("Oned", 3, True), ("oned", 4, False),
            ("Ones", 2, False),
    ],
)  # fmt: skip
def test_by_service(name: str, start: int, is_found: bool) -> None:
    found = programs_of_windows(facts({f"{SERVICES}\\{name}": service(start)}), (ONE,))
    assert [each.where for each in found] == ([f"SYSTEM\\{SERVICES}\\{name}"] if is_found else [])
    assert all(each.in_registry for each in found)


def test_services_of_a_control_set_that_is_not_started_do_not_count() -> None:
    sets = ControlSets(2, 2, 0, 2, (1, 2))
    made = facts({f"{SERVICES}\\One": service(2), "ControlSet002\\Services\\Two": service(2)}, sets=sets)
    assert programs_of_windows(made, (ONE,)) == ()


@pytest.mark.parametrize(
    ("title", "is_found"),
    [("One for All 3.2", True), ("ONE FOR ALL", True), ("Someone for All", False), ("One", False)],
)
def test_by_title(title: str, is_found: bool) -> None:
    made = facts({}, {"Microsoft\\Windows\\CurrentVersion\\Uninstall\\{1}": {"DisplayName": sz(title)}})
    assert [each.text for each in programs_of_windows(made, (ONE,))] == ([title] if is_found else [])


def test_a_guest_without_registry_has_no_programs() -> None:
    made = facts({}, sets=ControlSets())
    assert programs_of_windows(made, PROGRAMS) == ()
    assert devices_of_windows(made) == ()


def test_names_in_the_catalogue_are_each_one_programs() -> None:
    for field in ("name", "packages", "paths", "services", "drivers", "listed"):
        named = Counter(
            name for program in PROGRAMS for name in ([program.name] if field == "name" else getattr(program, field))
        )
        assert [name for name, count in named.items() if count > 1] == []


def test_every_program_can_be_recognised_and_every_kind_is_used() -> None:
    assert all(
        (*program.packages, *program.paths, *program.services, *program.drivers, *program.listed)
        for program in PROGRAMS
    )
    assert {program.kind for program in PROGRAMS} == set(ProgramKind)
    assert all(path.startswith("/") for program in PROGRAMS for path in program.paths)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_every_program_is_found_by_each_of_its_names(program: Program) -> None:
    def plain(pattern: str) -> str:
        return pattern.replace("[0-9]", "1").replace("[89]", "8").replace("[A-Z]", "A").replace("*", "1")

    for name in program.packages:
        assert program.name in {
            each.name for each in programs_of_linux(EMPTY, PROGRAMS, frozenset({plain(name)}), "/db")
        }
    for path in program.paths:
        assert program.name in {
            each.name for each in programs_of_linux(InMemoryTree({plain(path): "x"}), PROGRAMS, frozenset(), "")
        }
    for name in (*program.services, *program.drivers):
        made = facts({f"{SERVICES}\\{plain(name)}": service(2)})
        assert program.name in {each.name for each in programs_of_windows(made, PROGRAMS)}
    for title in program.listed:
        made = facts({}, {"Microsoft\\Windows\\CurrentVersion\\Uninstall\\{1}": {"DisplayName": sz(plain(title))}})
        assert program.name in {each.name for each in programs_of_windows(made, PROGRAMS)}


def test_what_every_guest_has_is_no_program() -> None:
    debian = frozenset(
        {
            "bash",
            "systemd",
            "libc6",
            "openssh-server",
            "cron",
            "libvirt0",
            "samba-libs",
            "bind9-libs",
            "bind9-host",
            "mysql-common",
        }
    )
    redhat = frozenset(
        {
            "bash",
            "systemd",
            "bind-libs",
            "bind-utils",
            "postgresql-libs",
            "krb5-libs",
            "device-mapper",
            "dhcp-client",
            "mariadb-libs",
        }
    )
    for packages in (debian, redhat):
        assert programs_of_linux(EMPTY, PROGRAMS, packages, "/db") == ()
    windows = {
        f"{SERVICES}\\{name}": service(2)
        for name in (
            "Dhcp",
            "Dnscache",
            "WinDefend",
            "LanmanServer",
            "W32Time",
            "EventLog",
            "VSS",
            "Spooler",
            "TermService",
            "mpssvc",
        )
    }
    assert programs_of_windows(facts(windows), PROGRAMS) == ()
