"""What INF files say, from their text to the values that installing them writes."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.windows.inf import Inf, Service, models_for, of_platform, parse_inf
from drivers.windows.inf_registry import RegistryEntry, RegistryOperation, terminated
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget, closest, parse_decoration
from drivers.windows.inf_text import FIELD_AT_MOST, INF_BYTES_AT_MOST, BadInf, parse_text

STORAGE = r"""
; a driver for the disk's controller; "quoted" comments count as comments
[Version]
Signature   = "$Windows NT$"
Class       = SCSIAdapter
ClassGUID   = {4d36e97b-e325-11ce-bfc1-08002be10318}
Provider    = %Maker%
CatalogFile = disk.cat
CatalogFile.NTamd64 = disk64.cat
DriverVer   = 07/03/2023,100.93.104.24000 ; stamped

[SourceDisksNames]
1 = %Medium%,,,""
[SourceDisksNames.amd64]
1 = %Medium%,,,\x64

[SourceDisksFiles]
disk.sys = 1,,
help.dll = 1,extra
[DestinationDirs]
DefaultDestDir = 11
Disk_Files     = 12

[Manufacturer]
%Maker% = Disk, NTx86.5.1, NTamd64.6.1, NTamd64.10.0...22000, NTarm64

[Disk]
%Device% = disk_2000, PCI\VEN_1AF4&DEV_1001&REV_00
[Disk.NTx86.5.1]
%Device% = disk_xp, PCI\VEN_1AF4&DEV_1001&REV_00
[Disk.NTamd64.6.1]
%Device% = disk_inst, PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00, PCI\VEN_1AF4&DEV_1001
%Device% = disk_inst, PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01, \
           PCI\VEN_1AF4&DEV_1042 ; goes on
[Disk.NTamd64.10.0...22000]
%Device% = disk_eleven, PCI\VEN_1AF4&DEV_1042

[disk_inst]
CopyFiles = nowhere
[disk_inst.NTamd64]
CopyFiles = Disk_Files, @help.dll
Include = mshdc.inf
[disk_inst.NTamd64.Services]
AddService = disk, %Associated%, Disk_Service, Disk_Log
AddService = helper,,Helper_Service
[disk_inst.Services]
AddService = wrong, 2, Disk_Service
[disk_inst.NTamd64.HW]
AddReg = Disk_Interrupts

[Disk_Files]
disk.sys,,,2
renamed.sys, disk.sys

[Disk_Service]
DisplayName    = "The disk's ""own"" driver; really"
ServiceType    = %Kernel%
StartType      = 0
ErrorControl   = 0x1
ServiceBinary  = %12%\disk.sys
LoadOrderGroup = SCSI miniport
AddReg         = Disk_Parameters
[Helper_Service]
ServiceType = 16
StartType = 3
ErrorControl = 0
ServiceBinary = %11%\helper.exe

[Disk_Parameters]
HKR, "Parameters\PnpInterface", "5", %Dword%, 0x00000001
HKR, Parameters, BusType, 0x00010001, 10
HKR,,Path,0x20000,"%%SystemRoot%%\System32\disk.dll"
[Disk_Interrupts]
HKR, "Interrupt Management",, 0x00000010
HKR,,Modes,0x00010000,one,"two,2"
HKR,,Modes,0x00010008,three
HKR,,Raw,1,DE,ad,0x00
HKR,,Wide,0x000b0001,1,0,0,0,0,0,0,0
HKR,,Old,4
HKR,,Kept,2,text
NONSENSE,,a,,b

[Strings]
Maker  = "Example, Inc."
Medium = "Disk 1"
Device = "Device"
Kernel = 1
Dword  = 0x00010001
Associated = 0x00000002
[Strings.0407]
Device = "Gerät"
"""


def inf(text: str = STORAGE) -> Inf:
    return parse_inf(text.encode("latin-1"))


def target(version: str, arch: Architecture = Architecture.X64, product: Product | None = None, suites: int = 0) -> WindowsTarget:
    major, minor, build = map(int, version.split("."))
    return WindowsTarget(major, minor, build, arch, product, suites)


def sections(found: Inf, *which: WindowsTarget) -> list[list[str]]:
    return [[models.section for models in models_for(found.sections, each)] for each in which]


def service() -> Service:
    installed = inf().install("disk_inst", Architecture.X64)
    assert installed is not None
    assert installed.service is not None
    return installed.service


def test_the_version_section_tells_whose_package_it_is() -> None:
    version = inf().version
    assert (version.class_name, version.class_guid) == ("SCSIAdapter", "{4D36E97B-E325-11CE-BFC1-08002BE10318}")
    assert (version.provider, version.date, version.version) == ("Example, Inc.", "2023-07-03", "100.93.104.24000")


def test_a_class_that_is_no_guid_is_none() -> None:
    assert inf(STORAGE.replace("{4d36e97b-e325", "{4d36e97b+e325")).version.class_guid == ""


def test_the_catalogue_file_is_the_one_of_the_processor() -> None:
    version = inf().version
    catalogs = dict(version.catalogs)
    assert [of_platform(catalogs, arch) for arch in (Architecture.X86, Architecture.X64)] == ["disk.cat", "disk64.cat"]


def test_windows_takes_the_section_with_the_highest_version_not_above_its_own() -> None:
    found = sections(
        inf(),
        target("5.1.2600", Architecture.X86),
        target("6.0.6002"),
        target("6.1.7601"),
        target("10.0.19045"),
        target("10.0.22000"),
        target("10.0.22631"),
    )
    old, new = ["Disk.NTamd64.6.1"], ["Disk.NTamd64.10.0...22000"]
    assert found == [["Disk.NTx86.5.1"], [], old, old, new, new]


def test_windows_2000_knows_no_decorations() -> None:
    assert sections(inf(), target("5.0.2195", Architecture.X86)) == [["Disk"]]


def test_a_listed_section_that_is_empty_or_missing_excludes_a_windows() -> None:
    assert sections(inf(), target("10.0.26100", Architecture.ARM64)) == [[]]
    assert sections(inf(STORAGE + "[Disk.NTarm64]\nx = disk_inst, ROOT\\X\n"), target("10.0.26100", Architecture.ARM64)) == [
        ["Disk.NTarm64"]
    ]


def test_ids_and_continued_lines_are_kept_in_order() -> None:
    (models,) = models_for(inf().sections, target("6.1.7601"))
    assert [model.ids for model in models.models] == [
        (r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", r"PCI\VEN_1AF4&DEV_1001"),
        (r"PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01", r"PCI\VEN_1AF4&DEV_1042"),
    ]
    assert {model.description for model in models.models} == {"Device"}


@pytest.mark.parametrize(
    "decorations, which, expected",
    [
        # the documentation's own examples
        ("NT, NT.5, NT.5.5, NT....0x80", target("5.1.2600", Architecture.X86), "NT.5"),
        ("NT, NT.5, NT.5.5, NT....0x80", target("5.1.2600", Architecture.X86, suites=0x80), "NT.5"),
        ("NTx86....0x80, NTamd64", target("5.1.2600", Architecture.X86, suites=0x82), "NTx86....0x80"),
        ("NTx86....0x80, NTamd64", target("5.1.2600", Architecture.X86), None),
        ("NT.7.8, NT", target("5.1.2600", Architecture.X86), "NT"),
        ("NTamd64.10.0...14393", target("10.0.14393"), "NTamd64.10.0...14393"),
        # a build is looked at by the exact version only, and not understood before 14310
        ("NTamd64.10.0...14393", target("10.0.10240"), None),
        ("NTamd64.10.0...10240", target("10.0.19045"), None),
        ("NTamd64.6.3...9600", target("6.3.9600"), None),
        ("NTamd64.10.0...30000", target("11.0.100"), "NTamd64.10.0...30000"),
        ("NTamd64.10.0...14393, NTamd64.10.0...17763", target("10.0.20348"), "NTamd64.10.0...17763"),
        # Windows 2000 knows none
        ("NTx86, NT", target("5.0.2195", Architecture.X86), None),
        # products and suites
        ("NTamd64.6.1, NTamd64.6.1.3", target("6.1.7601", product=Product.SERVER), "NTamd64.6.1.3"),
        ("NTamd64.6.1, NTamd64.6.1.3", target("6.1.7601", product=Product.WORKSTATION), "NTamd64.6.1"),
        ("NTamd64.6.1.3", target("6.1.7601"), None),
        # no processor named: x86 only
        ("NT.6.0", target("6.1.7601"), None),
        ("NT.6.0", target("6.1.7601", Architecture.X86), "NT.6.0"),
        ("NTarm64.10.0", target("10.0.26100"), None),
        ("NT.6.1, NTx86.6.1", target("6.1.7601", Architecture.X86), "NTx86.6.1"),
    ],
)
def test_the_closest_decoration_is_taken(decorations: str, which: WindowsTarget, expected: str | None) -> None:
    known = [parse_decoration(text) for text in decorations.split(",")]
    best = closest([each for each in known if each is not None], which)
    assert (best.text if best else None) == expected


@pytest.mark.parametrize("text", ["amd64", "NTmips", "NTamd64.x", "NTamd64.1.2.3.4.5.6", "NTamd64.99999999999999", "NT.-1"])
def test_what_is_no_decoration_is_none(text: str) -> None:
    assert parse_decoration(text) is None


def test_the_service_is_the_associated_one_of_the_section_that_was_taken() -> None:
    found = service()
    assert (found.name, found.display_name) == ("disk", 'The disk\'s "own" driver; really')
    assert (found.type, found.start, found.error_control, found.group) == (1, 0, 1, "SCSI miniport")
    assert (found.binary, found.binary_dirid) == ("disk.sys", 12)
    installed = inf().install("disk_inst", Architecture.X64)
    assert installed is not None
    assert [each.name for each in installed.services] == ["disk", "helper"]
    assert installed.needs == ("mshdc.inf",)


def test_a_driver_without_a_service_has_none() -> None:
    text = STORAGE.replace("AddService = disk, %Associated%, Disk_Service, Disk_Log", "AddService = ,2")
    installed = inf(text).install("disk_inst", Architecture.X64)
    assert installed is not None
    assert installed.service is None


def test_registry_values_have_the_types_of_their_flags() -> None:
    parameters = service().registry
    assert parameters[0] == RegistryEntry("HKR", r"Parameters\PnpInterface", "5", RegistryOperation.SET, 4, "01000000")
    assert (parameters[1].name, parameters[1].data) == ("BusType", "0a000000")
    assert (parameters[2].type, bytes.fromhex(parameters[2].data)) == (2, terminated(r"%SystemRoot%\System32\disk.dll"))


def test_registry_operations_are_those_of_their_flags() -> None:
    installed = inf().install("disk_inst", Architecture.X64)
    assert installed is not None
    key, modes, more, raw, wide, old, kept = installed.hardware
    assert (key.operation, key.key) == (RegistryOperation.ADD_KEY, "Interrupt Management")
    assert (modes.type, bytes.fromhex(modes.data).decode("utf-16-le")) == (7, "one\0two,2\0\0")
    assert more.operation is RegistryOperation.APPEND
    assert (raw.type, raw.data) == (3, "dead00")
    assert (wide.type, wide.data) == (11, struct.pack("<Q", 1).hex())
    assert (old.operation, old.name) == (RegistryOperation.DELETE, "Old")
    assert kept.keeps


def test_files_have_their_place_on_the_medium_and_in_the_guest() -> None:
    installed = inf().install("disk_inst", Architecture.X64)
    assert installed is not None
    assert [(f.name, f.source, f.dirid) for f in installed.files] == [
        ("disk.sys", "x64/disk.sys", 12),
        ("renamed.sys", "x64/disk.sys", 12),
        ("help.dll", "x64/extra/help.dll", 11),
    ]


@pytest.mark.parametrize("name", [r"..\evil.sys", r"C:\evil.sys", "a\x01.sys", "b*.sys", "/../c.sys"])
def test_files_outside_the_package_are_refused(name: str) -> None:
    with pytest.raises(BadInf, match="none of its package"):
        inf(STORAGE.replace("renamed.sys, disk.sys", f"renamed.sys, {name}")).install("disk_inst", Architecture.X64)


@pytest.mark.parametrize("old, new", [("= disk, %", "= a\\b, %"), (r"%12%\disk.sys", r"%12%\di?k.sys"),
                                      ("= disk64.cat", "= ?.cat"), ("HKR, Parameters,", r"HKR, Para\\meters,")])  # fmt: skip
def test_names_that_would_be_more_than_names_are_refused(old: str, new: str) -> None:
    assert old in STORAGE
    with pytest.raises(BadInf):
        inf(STORAGE.replace(old, new)).install("disk_inst", Architecture.X64)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "latin-1", "utf-8"])
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_every_spelling_of_the_text_reads_the_same(encoding: str, marked: bool, newline: str) -> None:
    mark = "\ufeff".encode(encoding) if marked and encoding != "latin-1" else b""
    text = STORAGE.replace("Gerät", "Geraet")
    found = parse_inf(mark + text.replace("\n", newline).encode(encoding))
    expected = inf(text)
    assert (found.version, found.sections) == (expected.version, expected.sections)


def test_strings_are_those_of_the_language_or_its_kin_or_the_plain_ones() -> None:
    data = STORAGE.encode("latin-1")
    strings = [parse_text(data, language).strings["device"] for language in (0x0409, 0x0407, 0x0807, 0x0411)]
    assert strings == ["Device", "Gerät", "Gerät", "Device"]


def test_sections_of_one_name_are_one_and_names_have_no_case() -> None:
    text = parse_text(b"[A]\nx=1\n[b]\n[a]\nX=2\n")
    assert list(text.directives("A", "X")) == [("1",), ("2",)]
    assert text.has("B")


def test_tokens_that_no_string_stands_for_stay() -> None:
    text = parse_text(b'[a]\nx=%12%\\f,%%s%%,"%q%;%q%" ; %q%\n[Strings]\nq="1%q%"\n')
    assert next(text.directives("a", "x")) == ("%12%\\f", "%s%", "1%q%;1%q%")


def test_a_file_ends_at_the_end_of_text_of_old_programs() -> None:
    assert not parse_text(b"[a]\n\x1a[b]\n").has("b")


def test_strings_that_multiply_are_refused() -> None:
    text = parse_text(b"[a]\nx=" + b"%q%" * 1000 + b"\n[Strings]\nq=" + b"y" * 4000)
    with pytest.raises(BadInf, match=str(FIELD_AT_MOST)):
        list(text.entries("a"))


@pytest.mark.parametrize(
    "data, problem",
    [
        (b"", "no sections"),
        (b"MZ\x90\0 not a text", "no sections"),
        (b"[other]\n", "signature"),
        (b"[Version]\nSignature=$Mac$", "signature"),
        (b"[" + b"x" * 300 + b"]", "name of 300"),
        (b"[a]\n" * 60_000, "lines"),
        (b"[a]\nx=" + b"y" * 5000, "5000 characters"),
        (b"[a]\nx=" + b"yy\\\n" * 40_000, "line of more"),
        (b"[a]\nx=" + b",y" * 5000, "fields"),
        (b"[a]\n" + b" " * INF_BYTES_AT_MOST, "bytes"),
    ],
)
def test_what_is_no_inf_file_or_beyond_the_bounds_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(BadInf, match=problem):
        parse_inf(data)


@settings(deadline=None)
@given(st.binary(max_size=400), st.integers(0, len(STORAGE) - 1))
def test_damaged_files_are_refused_or_read_and_never_crash(data: bytes, at: int) -> None:
    """What is read of them are sections that stand in them, and paths that lead nowhere else."""
    whole = STORAGE.encode("latin-1")
    try:
        found = parse_inf(whole[:at] + data + whole[at + len(data) :])
        installs = [found.install("disk_inst", arch) for arch in Architecture]
        models = models_for(found.sections, target("10.0.22631"))
    except BadInf:
        return
    paths = [member.source for install in installs if install is not None for member in install.files]
    paths += [path for _, path in found.version.catalogs]
    assert not [path for path in paths if {"", ".", ".."} & set(path.split("/")) or re.search(r'[\\:*?"<>|\x00-\x1f]', path)]
    assert set(models) <= set(found.sections)


@pytest.mark.parametrize(
    "line, values",
    [
        ('x = "a;b" ; comment', ("a;b",)),
        ('x = a "b"c , d', ("a bc", "d")),
        ('x = "a""b"', ('a"b',)),
        ('x = """a"""', ('"a"',)),
        ('x = " a ", , ""', (" a ", "", "")),
        ('x = "never closed ; so no comment', ("never closed ; so no comment",)),
        ('x = 100%, "b;%" ; %', ("100%", "b;%")),
        ("x = %a;b%, c ; d", ("%a;b%", "c")),
        ("x = a=b", ("a=b",)),
        ('x = "p\\"\\ ; goes on\n,q', ("p\\", "q")),
    ],
)
def test_quotations_comments_and_blanks_of_a_line(line: str, values: tuple[str, ...]) -> None:
    assert list(parse_text(f"[a]\n{line}\n".encode()).directives("a", "x")) == [values]


def test_a_line_without_a_key_has_none() -> None:
    (entry,) = parse_text(b'[a]\nHKR,"a=b",c=d\n').entries("a")
    assert (entry.key, entry.values) == (None, ("HKR", "a=b", "c=d"))
