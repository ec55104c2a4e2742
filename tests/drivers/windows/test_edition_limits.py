"""What an edition of Windows uses: by its registry, from NT 4.0's product suites to today's edition ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from drivers.caps import GuestCaps
from drivers.windows.edition_limits import LIMITS, limit_of, with_limits
from drivers.windows.facts import WindowsFacts
from p2v.core.units import GIB, TIB
from tests.drivers.windows.guest_facts import facts
from tests.fixtures.hives import Tree, multi_sz, sz

OPTIONS = "ControlSet001\\Control\\ProductOptions"
HAL = "ControlSet001\\Control\\Class\\{4d36e966-e325-11ce-bfc1-08002be10318}\\0000"
CAPS = GuestCaps(("ide",), ("rtl8139",), "bios", "i386")


def guest(
    version: tuple[int, int],
    edition: str = "",
    *,
    arch: str = "x86_64",
    kind: str = "WinNT",
    suites: tuple[str, ...] = (),
    hal: str = "",
    product: str = "",
) -> WindowsFacts:
    tree: Tree = {OPTIONS: {"ProductSuite": multi_sz(*suites)} if suites else {}, HAL: {"MatchingDeviceId": sz(hal)} if hal else {}}
    made = facts(tree, version=version, arch=arch)
    return replace(made, version=replace(made.version, edition_id=edition, product_type=kind, product_name=product))


@pytest.mark.parametrize(
    ("version", "kind", "suites", "title"),
    [
        ((4, 0), "WinNT", (), "Windows NT Workstation 4.0"),
        ((4, 0), "ServerNT", (), "Windows NT Server 4.0"),
        ((4, 0), "LanmanNT", ("Enterprise",), "Windows NT Server 4.0, Enterprise Edition"),
        ((5, 0), "WinNT", ("Terminal Server",), "Windows 2000 Professional"),
        ((5, 0), "ServerNT", ("Terminal Server",), "Windows 2000 Server"),
        ((5, 0), "ServerNT", ("Enterprise", "Terminal Server"), "Windows 2000 Advanced Server"),
        ((5, 0), "ServerNT", ("Enterprise", "DataCenter"), "Windows 2000 Datacenter Server"),
        ((5, 1), "WinNT", (), "Windows XP Professional"),
        ((5, 1), "WinNT", ("Personal",), "Windows XP Home Edition"),
        ((5, 2), "WinNT", (), "Windows XP Professional x64 Edition"),
        ((5, 2), "LanmanNT", (), "Windows Server 2003, Standard Edition"),
        ((5, 2), "ServerNT", ("Blade",), "Windows Server 2003, Web Edition"),
        ((5, 2), "ServerNT", ("Small Business(Restricted)",), "Windows Small Business Server 2003"),
        ((5, 2), "ServerNT", ("Small Business",), "Windows Server 2003, Standard Edition"),
    ],
)
def test_editions_of_nt_5_and_older_are_known_by_their_product_suite(
    version: tuple[int, int], kind: str, suites: tuple[str, ...], title: str
) -> None:
    found = limit_of(guest(version, kind=kind, suites=suites))
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize(
    ("version", "edition", "title"),
    [
        ((6, 0), "HomeBasicN", "Windows Vista Home Basic"),
        ((6, 0), "ServerStandardCore", "Windows Server 2008 Standard"),
        ((6, 0), "ServerEnterpriseV", "Windows Server 2008 Enterprise"),
        ((6, 1), "HomePremiumE", "Windows 7 Home Premium"),
        ((6, 1), "ProfessionalKN", "Windows 7 Professional"),
        ((6, 2), "Core", "Windows 8"),
        ((6, 3), "CoreSingleLanguage", "Windows 8.1"),
        ((6, 3), "ServerDatacenterEval", "Windows Server 2012 R2 Datacenter"),
        ((10, 0), "CoreN", "Windows Home edition"),
        ((10, 0), "EnterpriseSNEval", "Windows Enterprise LTSC"),
        ((10, 0), "ProfessionalWorkstationN", "Windows Pro for Workstations"),
    ],
)
def test_editions_of_vista_and_later_are_known_by_their_id(version: tuple[int, int], edition: str, title: str) -> None:
    found = limit_of(guest(version, edition))
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize("product, family", [
    ("Windows 10 Pro", "Windows 10"), ("Windows 11 Pro", "Windows 11"), ("Windows Server 2022 Standard", "Windows Server 2022"),
    ("\x1b[31mevil", "Windows"), ("", "Windows"),
])  # fmt: skip
def test_releases_of_version_10_are_named_as_the_registry_does_where_that_is_a_name_of_windows(product: str, family: str) -> None:
    found = limit_of(guest((10, 0), "Professional", product=product))
    assert found is not None
    assert found.title == f"{family} Pro edition"


@pytest.mark.parametrize(
    ("windows", "cpus", "sockets", "memory"),
    [
        (guest((4, 0), arch="i386"), 2, 2, 4 * GIB),
        (guest((5, 0), arch="i386", kind="ServerNT", suites=("Enterprise",)), 8, 8, 8 * GIB),
        (guest((5, 1), arch="i386", suites=("Personal",)), 32, 1, 4 * GIB),
        (guest((5, 2), arch="i386", kind="ServerNT"), 32, 4, 4 * GIB),
        (guest((5, 2), kind="ServerNT"), 64, 4, 32 * GIB),
        (guest((5, 2), arch="i386", kind="ServerNT", suites=("Enterprise",)), 32, 8, 64 * GIB),
        (guest((6, 0), "Business", arch="i386"), 32, 2, 4 * GIB),
        (guest((6, 0), "Business"), 64, 2, 128 * GIB),
        (guest((6, 1), "HomePremium"), 256, 1, 16 * GIB),
        (guest((6, 1), "ServerStandard", kind="ServerNT"), 256, 4, 32 * GIB),
        (guest((6, 2), "Core"), None, 1, 128 * GIB),
        (guest((6, 3), "ServerFoundation", kind="ServerNT"), None, 1, 32 * GIB),
        (guest((10, 0), "Professional", arch="i386"), 32, 2, 4 * GIB),
        (guest((10, 0), "Professional"), None, 2, 2 * TIB),
        (guest((10, 0), "Core", arch="aarch64"), None, 1, 128 * GIB),
        (guest((10, 0), "ServerStandard", kind="ServerNT"), None, 64, None),
    ],
)
def test_what_an_edition_uses(windows: WindowsFacts, cpus: int | None, sockets: int, memory: int | None) -> None:
    caps = with_limits(CAPS, windows)
    assert (caps.cpus_at_most, caps.sockets_at_most, caps.memory_at_most_bytes) == (cpus, sockets, memory)


def test_limits_are_said_in_a_sentence() -> None:
    home, pro = guest((5, 1), arch="i386", suites=("Personal",)), guest((10, 0), "Professional", product="Windows 10 Pro")
    assert [with_limits(CAPS, each).limits for each in (home, pro, guest((4, 0), arch="i386"))] == [
        "Windows XP Home Edition uses at most 1 socket, 32 CPUs and 4.0 GiB",
        "Windows 10 Pro edition uses at most 2 sockets and 2.0 TiB",
        "Windows NT Workstation 4.0 uses at most 2 CPUs and 4.0 GiB",
    ]


@pytest.mark.parametrize("windows", [
    guest((10, 0), "ServerRdsh"), guest((6, 1), "S" * 100), guest((7, 5), "Core"), guest((0, 0), arch=""),
    guest((6, 1), "Core" * 20),
], ids=["an edition", "a name without an end", "a version", "nothing", "suffixes only"])  # fmt: skip
def test_of_what_is_not_known_nothing_is_claimed(windows: WindowsFacts) -> None:
    assert limit_of(windows) is None
    caps = with_limits(CAPS, windows)
    assert (caps.memory_at_most_bytes, caps.limits) == (None, "")


@pytest.mark.parametrize(
    ("version", "hal", "cores", "cpus"),
    [
        ((4, 0), "", False, 2), ((5, 0), "acpiapic_mp", False, 2), ((5, 1), "acpiapic_mp", True, 32), ((5, 1), "", True, 32),
        ((5, 1), "mps_mp", False, 2), ((5, 1), "mps_up", True, 32), ((6, 0), "mps_mp", True, 32),
    ],
)  # fmt: skip
def test_who_goes_by_the_tables_of_the_mps_or_knows_no_cores_gets_a_socket_for_each(
    version: tuple[int, int], hal: str, cores: bool, cpus: int
) -> None:
    caps = with_limits(CAPS, guest(version, "Business", arch="i386", hal=hal))
    assert (caps.knows_cores, caps.cpus_at_most) == (cores, cpus)


def test_a_lower_limit_that_was_there_stays() -> None:
    assert with_limits(replace(CAPS, cpus_at_most=1), guest((5, 1), arch="i386")).cpus_at_most == 1


def test_editions_without_any_suffix_are_their_own_keys() -> None:
    for version, editions in LIMITS.items():
        if version >= (6, 0):
            for edition, limit in editions.items():
                found = limit_of(guest(version, edition))
                assert found is not None, edition
                assert found.sockets == limit.sockets


def rows() -> list[str]:
    """The table of docs/windows-hardware.md; memory in GiB."""
    found = ["| edition | sockets | memory, x86 | memory, x64 |", "| --- | --- | --- | --- |"]
    for version, editions in LIMITS.items():
        for limit in editions.values():
            title = f"Windows 10 and later: {limit.title}" if version == (10, 0) else limit.title
            cells = [limit.sockets, *(size // GIB if size is not None else None for size in (limit.memory_x86, limit.memory_x64))]
            found.append(f"| {' | '.join([title, *('–' if cell is None else str(cell) for cell in cells)])} |")
    return found


def test_the_page_has_the_table() -> None:
    assert "\n".join(rows()) in (Path(__file__).parents[3] / "docs" / "windows-hardware.md").read_text("utf-8")
