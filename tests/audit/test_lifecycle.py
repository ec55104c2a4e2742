"""How systems stand on a day: by version, by edition, by name alone; and texts of guests that mean no good."""

from __future__ import annotations

from datetime import date

import pytest

from p2v.audit.document import SystemAudit
from p2v.audit.lifecycle import certified_by, edition_class, numbers, standing_of, state_of, support_of
from p2v.audit.lifecycle_data import Release, Virtio

TODAY = date(2026, 11, 26)


def linux(id_: str, version: str = "", name: str = "") -> SystemAudit:
    return SystemAudit("linux", id_, version, name or f"{id_} {version}", "x86_64")


def windows(id_: str, version: str = "", edition: str = "") -> SystemAudit:
    return SystemAudit("windows", id_, version, f"Windows {id_}", "x86_64", "windows", edition)


@pytest.mark.parametrize(
    ("system", "release", "state", "standard", "extended"),
    [
        (linux("debian", "12"), "Debian 12", "extended", "2026-07-11", "2028-06-30"),
        (linux("debian", "13"), "Debian 13", "supported", "2028-08-09", "2030-06-30"),
        (linux("debian", "3.1"), "Debian 3.1", "ended", "2008-03-31", ""),
        (linux("debian", "7.11"), "Debian 7", "ended", "2016-04-25", "2018-05-31"),
        (linux("ubuntu", "22.04"), "Ubuntu 22.04 LTS", "supported", "2027-06-01", "2032-04-21"),
        (linux("ubuntu", "18.04"), "Ubuntu 18.04 LTS", "extended", "2023-05-31", "2028-04-26"),
        (linux("rhel", "8.10"), "Red Hat Enterprise Linux 8", "supported", "2029-05-31", "2032-05-31"),
        (linux("rhel", "7.9"), "Red Hat Enterprise Linux 7", "extended", "2024-06-30", "2028-06-30"),
        (linux("rhel", "7.3", "Red Hat Linux release 7.3 (Valhalla)"), "Red Hat Linux 7.3", "ended", "2003-12-31", ""),
        (linux("rhel", "10.1"), "Red Hat Enterprise Linux 10", "supported", "2035-05-31", "2038-05-31"),
        (linux("centos", "8", "CentOS Linux 8 (Core)"), "CentOS 8", "ended", "2021-12-31", ""),
        (linux("centos", "9", "CentOS Stream 9"), "CentOS Stream 9", "supported", "2027-05-31", ""),
        (linux("centos", "9", "CENTOS STREAM 9 (64-BIT)"), "CentOS Stream 9", "supported", "2027-05-31", ""),
        (linux("sles", "15.5"), "SUSE Linux Enterprise Server 15 SP5", "extended", "2024-12-31", "2027-12-31"),
        (linux("sles", "15"), "SUSE Linux Enterprise Server 15 without a service pack", "ended", "2019-12-31", "2022-12-31"),
        (linux("sles", "12.5"), "SUSE Linux Enterprise Server 12 SP5", "extended", "2024-10-31", "2027-10-31"),
        (linux("sles", "11.3"), "SUSE Linux Enterprise Server 11 SP3", "ended", "2016-01-31", "2019-01-30"),
        (linux("sles", "11.0"), "SUSE Linux Enterprise Server 11 without a service pack", "ended", "2010-12-31", ""),
        (linux("alpine", "3.22.1"), "Alpine Linux 3.22", "supported", "2027-05-01", ""),
        (linux("amzn", "2018.03"), "Amazon Linux 2018", "ended", "2020-12-31", "2023-12-31"),
        (linux("OL", "9.4"), "Oracle Linux 9", "supported", "2032-06-30", "2035-06-30"),
        (windows("win10", "10.0.19045.4529", "Professional"), "Windows 10 22H2", "ended", "2025-10-14", ""),
        (windows("win10", "10.0.19044", "EnterpriseS"), "Windows 10 LTSC 2021", "supported", "2027-01-12", ""),
        (windows("win10", "10.0.19044", "IoTEnterpriseS"), "Windows 10 IoT LTSC 2021", "supported", "2027-01-12", "2032-01-13"),
        (windows("win10", "10.0.14393", "EnterpriseSN"), "Windows 10 2016 LTSB", "ended", "2021-10-12", "2026-10-13"),
        (windows("win11", "10.0.26100", "Enterprise"), "Windows 11 24H2", "supported", "2027-10-12", ""),
        (windows("win11", "10.0.26100", "Core"), "Windows 11 24H2", "ended", "2026-10-13", ""),
        (windows("win2k19", "10.0.17763", "ServerStandard"), "Windows Server 2019", "extended", "2024-01-09", "2029-01-09"),
        (windows("win2k19", "10.0.17763", "ServerStandardACor"), "Windows Server version 1809", "ended", "2020-11-10", ""),
        (windows("win2k22", "10.0.20348", "ServerDatacenter"), "Windows Server 2022", "extended", "2026-10-13", "2031-10-14"),
        (windows("win7", "6.1.7600", "Professional"), "Windows 7 without a service pack", "ended", "2013-04-09", ""),
        (windows("winnt4.0", "4.0.1381"), "Windows NT 4.0", "ended", "2002-12-31", "2004-12-31"),
        (windows("win2k3r2", "5.2.3790"), "Windows Server 2003 R2", "ended", "2010-07-13", "2015-07-14"),
        (linux("freebsd", "13.2"), "FreeBSD 13.2", "ended", "2024-06-30", ""),
        (linux("netbsd", "8.3"), "NetBSD 8", "ended", "2024-05-04", ""),
        (linux("solaris", "11.4"), "Solaris 11.4", "supported", "2031-11-01", "2037-11-01"),
    ],
)  # fmt: skip
def test_release_is_told_by_version_edition_and_name(
    system: SystemAudit, release: str, state: str, standard: str, extended: str
) -> None:
    support = support_of(system, TODAY)
    assert (support.release, support.state) == (release, state)
    assert (support.standard_end, support.extended_end) == (standard, extended)
    assert support.source.startswith("https://")


@pytest.mark.parametrize(
    ("system", "why"),
    [
        (linux("debian", "trixie/sid"), "testing has no number"),
        (linux("debian", "14"), "not out when the data was made"),
        (linux("sles", "15.8"), "no service pack that the data knows, and not the one without"),
        (linux("sles", "10.1", "SUSE LINUX 10.1 (i586)"), "not the enterprise server"),
        (linux("fedora", "43", "Fedora Linux 43 (Workstation Edition Prerelease)"), "in development"),
        (linux("rhel"), "some releases are supported, some are not"),
        (windows("win10"), "the long-term channel is supported, the others are not"),
        (windows("win10", "10.0.19044"), "an edition is not known"),
        (windows("win10", "10.0.99999", "Professional"), "a build that the data does not know"),
        (windows("windows", "6.9.1"), "no known Windows"),
        (linux("openbsd", "7.7"), "no day was set"),
        (linux("templeos", "5"), "a system that the data does not know"),
        (linux("", ""), "nothing at all"),
        (SystemAudit("other", "os2", "", "OS/2, eComStation or ArcaOS", "i386"), "a disk does not tell which"),
        (SystemAudit("other", "dos", "", "DOS", "i386"), "MS-DOS ended, FreeDOS did not say"),
    ],
)
def test_what_is_not_told_for_certain_is_unknown(system: SystemAudit, why: str) -> None:
    support = support_of(system, TODAY)
    assert support.state == "unknown", why
    assert (support.standard_end, support.extended_end) == ("", "")


def test_releases_that_stand_alike_are_told_together() -> None:
    """As an inventory has them, and disks of FAT."""
    server = support_of(windows("win2k16"), TODAY)
    assert (server.state, server.release, server.extended_end) == ("extended", "Windows Server 2016", "2027-01-12")
    old = support_of(SystemAudit("other", "win9x", "", "Windows 95, 98 or Me", "i386"), TODAY)
    assert (old.state, old.release, old.standard_end) == ("ended", "Windows 95, 98 or Me", "2006-07-11")
    seven = support_of(windows("win7"), TODAY)
    assert (seven.state, seven.release, seven.extended_end) == ("ended", "Windows 7", "2020-01-14")
    version = support_of(windows("win10", "10.0.18362"), TODAY)
    assert (version.state, version.release) == ("ended", "Windows 10 1903")


def test_editions_of_an_inventorys_words() -> None:
    standard = support_of(windows("win2k19", "", "Standard"), TODAY)
    assert (standard.state, standard.release, standard.extended_end) == (
        "extended",
        "Windows Server 2019",
        "2029-01-09",
    )
    home = support_of(windows("win10", "", "Home"), TODAY)
    assert (home.state, home.release, home.standard_end) == ("ended", "Windows 10", "2025-10-14")
    long_term = SystemAudit("windows", "win10", "10.0.19044", "Windows 10 Enterprise LTSC", "x86_64", "", "Enterprise")
    assert support_of(long_term, TODAY).release == "Windows 10 LTSC 2021"


def test_of_releases_that_are_supported_the_one_that_ends_first_is_told() -> None:
    support = support_of(windows("win11", "10.0.26200"), TODAY)
    assert (support.state, support.standard_end) == ("supported", "2027-10-12")


@pytest.mark.parametrize("id_", ["arch", "gentoo", "void", "opensuse-tumbleweed", "manjaro", "kali"])
def test_rolling_systems_are_supported_while_somebody_updates_them(id_: str) -> None:
    support = support_of(linux(id_, "20240101"), TODAY)
    assert (support.state, support.standard_end) == ("supported", "")
    assert support.source


def test_the_last_day_belongs_to_the_phase() -> None:
    twelve = Release("12", standard=date(2026, 7, 11), extended=date(2028, 6, 30))
    days = [(2026, 7, 11), (2026, 7, 12), (2028, 6, 30), (2028, 7, 1)]
    assert [state_of(twelve, date(*day)) for day in days] == ["supported", "extended", "extended", "ended"]


def test_a_phase_that_nobody_knows_is_never_taken_to_be_over_or_to_go_on() -> None:
    assert state_of(Release("1"), TODAY) == "unknown"
    assert state_of(Release("1", standard=date(2020, 1, 1), extended_unknown=True), TODAY) == "unknown"
    assert state_of(Release("1", standard=date(2030, 1, 1), extended_unknown=True), TODAY) == "supported"
    assert state_of(Release("1", extended=date(2016, 12, 31)), TODAY) == "ended"
    assert state_of(Release("1", extended=date(2030, 12, 31)), TODAY) == "unknown"


@pytest.mark.parametrize(
    ("edition", "kind"),
    [
        ("Core", "home"), ("CoreN", "home"), ("Professional", "home"), ("ProfessionalEducation", "home"),
        ("Enterprise", "enterprise"), ("EnterpriseN", "enterprise"), ("Education", "enterprise"), ("IoTEnterprise", "enterprise"),
        ("EnterpriseS", "ltsc"), ("EnterpriseSEval", "ltsc"), ("IoTEnterpriseSK", "iot-ltsc"), ("ServerRdsh", "enterprise"),
        ("ServerStandard", "server"), ("ServerDatacenterCor", "server"), ("ServerStandardACor", "channel"), ("", ""),
    ],
)  # fmt: skip
def test_editions_are_kept_for_whom_microsoft_keeps_them(edition: str, kind: str) -> None:
    assert edition_class(edition) == kind


def test_versions_are_compared_as_numbers() -> None:
    assert numbers("22.04") == numbers("v22.4") == (22, 4)
    assert (numbers("trixie/sid"), numbers(""), numbers("x" * 10**6)) == ((), (), ())
    assert numbers("9" * 5000) == (999999999,)
    assert support_of(linux("ubuntu", "22.4"), TODAY).release == "Ubuntu 22.04 LTS"


@pytest.mark.parametrize(
    ("system", "kind", "words"),
    [
        (linux("debian", "12"), Virtio.KERNEL, "kernel"),
        (linux("debian", "4.0"), Virtio.NONE, "no virtio drivers"),
        (linux("rhel", "5.11"), Virtio.LATE, "since 5.3"),
        (windows("win2k22", "10.0.20348"), Virtio.MEDIUM, "current"),
        (windows("win2k12r2", "6.3.9600"), Virtio.UNSIGNED, "test signature"),
        (windows("win7", "6.1.7601"), Virtio.FROZEN, "0.1.173"),
        (windows("win2k", "5.0.2195"), Virtio.NONE, "no virtio drivers"),
        (linux("rhel"), Virtio.UNKNOWN, ""),
        (linux("templeos"), Virtio.UNKNOWN, ""),
        (linux("arch"), Virtio.KERNEL, "kernel"),
    ],
)
def test_drivers_are_told_in_words(system: SystemAudit, kind: Virtio, words: str) -> None:
    assert standing_of(system, TODAY).virtio is kind
    told = support_of(system, TODAY).virtio
    assert words in told if words else told == ""


def test_certified_is_only_what_a_list_names() -> None:
    def makers(system: SystemAudit) -> list[str]:
        return [name.partition(" ")[0] for name in certified_by(standing_of(system, TODAY))]

    assert makers(linux("rhel", "9.4")) == ["Red"]
    assert makers(windows("win2k19", "10.0.17763", "ServerStandard")) == ["Red", "SUSE"]
    assert makers(windows("win2k19", "10.0.17763", "ServerStandardACor")) == []
    assert makers(linux("sles", "12.5")) == ["SUSE"]
    assert makers(linux("debian", "12")) == []
    # one of the releases that it may be is on no list
    assert makers(linux("rhel")) == []


def test_successor_is_advised_to_those_whose_support_is_over() -> None:
    assert "AlmaLinux" in support_of(linux("centos", "7"), TODAY).successor
    assert support_of(linux("debian", "13"), TODAY).successor == ""


def test_a_guests_own_words_are_cut_and_escaped() -> None:
    hostile = SystemAudit(
        "linux", "x\x1b[2J" * 1000, "\x00" * 1000, "evil\x1b]0;name\x07" + "y" * 10**6, "", edition="\x9b" * 9999
    )
    told = support_of(hostile, TODAY)
    assert told.state == "unknown"
    assert told.release.isprintable()
    assert len(told.release) < 1000
    assert support_of(SystemAudit("", "debian", "12\x1b[2J", "x" * 10**6, ""), TODAY).release == "Debian 12"
