"""Systems by the names that VMware has for them."""

from __future__ import annotations

import pytest

from p2v.audit.inventory.systems import by_detail, by_name, differ, system_of

_DETAIL = (
    "architecture='X86' bitness='64' distroName='Ubuntu' distroVersion='22.04' familyName='Linux' "
    "kernelVersion='5.15.0-78-generic' prettyName='Ubuntu 22.04.4 LTS'"
)
_WINDOWS_DETAIL = (
    "architecture='X86' bitness='64' buildNumber='17763' distroName='Windows' distroVersion='10.0' familyName='Windows' "
    "kernelVersion='17763.5329' prettyName='Windows Server 2019, 64-bit (Build 17763.5329)'"
)


@pytest.mark.parametrize(
    "name, kind, id_, version, arch",
    [
        ("Red Hat Enterprise Linux 7 (64-bit)", "linux", "rhel", "7", "x86_64"),
        ("Red Hat Enterprise Linux 2.1", "linux", "rhel", "2.1", ""),
        ("Linux 4.18.0-372.el8.x86_64 Red Hat Enterprise Linux release 8.6 (Ootpa)", "linux", "rhel", "8.6", ""),
        ("CentOS 6 (32-bit)", "linux", "centos", "6", "i386"),
        ("CentOS Linux release 7.9.2009 (Core)", "linux", "centos", "7", ""),
        ("Oracle Linux 8 (64-bit)", "linux", "ol", "8", "x86_64"),
        ("SUSE Linux Enterprise 11 (64-bit)", "linux", "sles", "11", "x86_64"),
        ("SUSE Linux Enterprise Server 15 SP4", "linux", "sles", "15.4", ""),
        ("Debian GNU/Linux 11 (64-bit)", "linux", "debian", "11", "x86_64"),
        ("Ubuntu 22.04.4 LTS", "linux", "ubuntu", "22.04", ""),
        ("Linux 5.15.0-78-generic Ubuntu 20.04.6 LTS", "linux", "ubuntu", "20.04", ""),
        ("Amazon Linux 2 (64-bit)", "linux", "amzn", "2", "x86_64"),
        ("Microsoft Windows Server 2012 (64-bit)", "windows", "win2k12", "", "x86_64"),
        ("Microsoft Windows Server 2008 R2 (64-bit)", "windows", "win2k8r2", "", "x86_64"),
        ("Microsoft Windows Server 2008 (32-bit)", "windows", "win2k8", "", "i386"),
        ("Microsoft Windows Server 2003 Standard (32-bit)", "windows", "win2k3", "", "i386"),
        ("Microsoft Windows Server 2022 (64-bit)", "windows", "win2k22", "", "x86_64"),
        ("Microsoft Windows 7 (64-bit)", "windows", "win7", "", "x86_64"),
        ("Microsoft Windows 8.1 (64-bit)", "windows", "win8.1", "", "x86_64"),
        ("Microsoft Windows 10 (32-bit)", "windows", "win10", "", "i386"),
        ("Microsoft Windows 11 (64-bit)", "windows", "win11", "", "x86_64"),
        ("Microsoft Windows XP Professional (32-bit)", "windows", "winxp", "", "i386"),
        ("Microsoft Windows Vista (64-bit)", "windows", "winvista", "", "x86_64"),
        ("Microsoft Windows 2000 Server", "windows", "win2k", "", ""),
        ("Microsoft Windows NT", "windows", "winnt4.0", "", ""),
        ("Microsoft Small Business Server 2003", "windows", "win2k3", "", ""),
        ("FreeBSD 13 (64-bit)", "other", "freebsd", "13", "x86_64"),
        ("Oracle Solaris 10 (64-bit)", "other", "solaris", "10", "x86_64"),
        ("Apple macOS 12 (64-bit)", "other", "macos", "12", "x86_64"),
        ("Microsoft Windows 98", "other", "win9x", "", ""),
        ("Microsoft MS-DOS", "other", "dos", "", ""),
        ("IBM OS/2", "other", "os2", "", ""),
        ("VMware ESXi 6.0", "other", "esxi", "6.0", ""),
    ],
)
def test_a_name_of_one_release(name: str, kind: str, id_: str, version: str, arch: str) -> None:
    named = by_name(name)
    assert named is not None
    assert (named.system.kind, named.system.id, named.system.version, named.system.arch) == (kind, id_, version, arch)
    assert named.release or kind == "other"


@pytest.mark.parametrize(
    "name, id_",
    [
        ("CentOS 4/5/6/7 (64-bit)", "centos"),
        ("Oracle Linux 4/5/6 (64-bit)", "ol"),
        ("Ubuntu Linux (64-bit)", "ubuntu"),
        ("Rocky Linux (64-bit)", "rocky"),
        ("SUSE openSUSE (64-bit)", "opensuse"),
        ("SUSE Linux Enterprise 15 (64-bit)", "sles"),
        ("CoreOS Linux (64-bit)", "linux"),
        ("Red Hat Enterprise Linux CoreOS 412.86.202301311551-0", "linux"),
        ("Other 3.x or later Linux (64-bit)", "linux"),
        ("Other Linux (32-bit)", "linux"),
        ("Microsoft Windows Server 2016 or later (64-bit)", "windows"),
        ("Microsoft Windows 8.x (64-bit)", "windows"),
        ("FreeBSD Pre-11 versions (64-bit)", "freebsd"),
        ("Debian GNU/Linux 12 or later (64-bit)", "debian"),
    ],
)
def test_a_name_of_several_releases_tells_none(name: str, id_: str) -> None:
    named = by_name(name)
    assert named is not None
    assert (named.system.id, named.system.version, named.release) == (id_, "", False)


@pytest.mark.parametrize("name", ["", "Other (64-bit)", "Other", "x" * 500])
def test_a_name_that_says_nothing(name: str) -> None:
    assert by_name(name) is None


def test_details_say_more_than_names() -> None:
    named = system_of("Ubuntu Linux (64-bit)", "Ubuntu Linux (64-bit)", _DETAIL, "web-1")
    assert named is not None
    assert (named.system.id, named.system.version, named.system.hostname, named.release) == (
        "ubuntu",
        "22.04",
        "web-1",
        True,
    )


def test_details_of_a_windows_have_its_build() -> None:
    named = by_detail(_WINDOWS_DETAIL)
    assert named is not None
    assert (named.system.id, named.system.version, named.system.arch) == ("win2k19", "10.0.17763.5329", "x86_64")


def test_what_was_chosen_tells_the_release_where_tools_do_not() -> None:
    named = system_of("Rocky Linux 9 (64-bit)", "Other 5.x Linux (64-bit)", "", "")
    assert named is not None
    assert (named.system.id, named.system.version) == ("rocky", "9")


@pytest.mark.parametrize(
    "one, other, do",
    [
        ("CentOS 7 (64-bit)", "Red Hat Enterprise Linux 7 (64-bit)", True),
        ("Red Hat Enterprise Linux 6 (64-bit)", "Red Hat Enterprise Linux 7 (64-bit)", True),
        ("Red Hat Enterprise Linux 8 (64-bit)", "Red Hat Enterprise Linux release 8.6 (Ootpa)", False),
        ("Other Linux (64-bit)", "Ubuntu 22.04.4 LTS", False),
        ("Microsoft Windows Server 2012 (64-bit)", "Windows Server 2012 R2", False),
        ("Microsoft Windows Server 2016 or later (64-bit)", "Microsoft Windows Server 2019 (64-bit)", False),
        ("Microsoft Windows 7 (64-bit)", "Microsoft Windows 10 (64-bit)", True),
        ("Other Linux (64-bit)", "Microsoft Windows 10 (64-bit)", True),
        ("", "Microsoft Windows 10 (64-bit)", False),
    ],
)
def test_two_names_of_one_system(one: str, other: str, do: bool) -> None:
    assert differ(by_name(one), by_name(other)) is do
