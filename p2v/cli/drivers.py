"""``p2v drivers [PATH]``: the Windows drivers on a medium (virtio-win), and which of them a given Windows gets."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from drivers.windows.devices import device_by_id
from drivers.windows.driver_changes import DriverChanges, GuestPlace, driver_changes, members_of
from drivers.windows.driver_choice import DriverChoice, Fit, choose_drivers
from drivers.windows.inf_registry import REG_BINARY, REG_DWORD, REG_EXPAND_SZ, REG_MULTI_SZ, REG_SZ
from drivers.windows.inf_targets import Architecture, Product, WindowsTarget
from drivers.windows.media import DEFAULT_MEDIA, find_media, locate, read_media
from drivers.windows.releases import RELEASES, release_by_id
from drivers.windows.signature import SignatureKind
from drivers.windows.signing import Trust
from drivers.windows.support import Supported, supported, target_for
from drivers.windows.virtio_win import DriverCatalogue, DriverPackage
from drivers.windows.wanted import WantedValue
from p2v.cli import console, options
from p2v.core import jsontext
from p2v.core.errors import NoSource, Usage
from p2v.core.units import format_bytes
from p2v.documents import to_data

_ARCHITECTURES = {"x86": Architecture.X86, "x64": Architecture.X64, "arm64": Architecture.ARM64}
_NAMES = {arch: name for name, arch in _ARCHITECTURES.items()}
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,6})")
_FIRST_WITH_DRIVER_DATABASE = (6, 2)
_ESSENTIAL = ("block", "scsi", "network")
_RELEASES = ", ".join(release.id for release in RELEASES)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "path", nargs="?", type=Path, metavar="PATH", help="virtio-win.iso, or a folder (default: where virtio-win is installed)"
    )
    group = parser.add_argument_group("what one Windows gets")
    group.add_argument(
        "--for", dest="windows", metavar="VERSION", help=f"as MAJOR.MINOR.BUILD (10.0.20348) or a release: {_RELEASES}"
    )
    group.add_argument("--arch", choices=_ARCHITECTURES, help="its processor (default: x64)")
    group.add_argument("--server", action="store_true", help="it is a server; client and server share version numbers")
    group.add_argument("--secure-boot", choices=("yes", "no"), help="whether it will run with secure boot (default: not known)")
    group.add_argument("--changes", action="store_true", help="show the files and registry values that it would get from them")
    parser.add_argument("--json", action="store_true", help="the whole catalogue, or the choice, as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Read the medium and print. 0 also when a Windows gets no driver: what it lacks is the answer."""
    target, trust = _asked(arguments)
    path = arguments.path or find_media()
    if path is None:
        advice = "Name virtio-win.iso from Fedora's virtio-win project, or a folder with its drivers."
        raise NoSource("virtio-win", f"is in none of {', '.join(DEFAULT_MEDIA)}", advice)
    catalogue = read_media(path)
    if target is not None:
        choice = choose_drivers(catalogue, target, trust)
        if arguments.changes:
            changes = _changes(choice, catalogue)
            _print(arguments.json, changes, render_changes(changes))
        else:
            _print(arguments.json, choice, render_choice(choice, catalogue))
    else:
        _print(arguments.json, catalogue, render_catalogue(catalogue))
    return 0


def _print(as_json: bool, document: object, text: str) -> None:
    if as_json:
        console.out_json(jsontext.pretty(to_data(document)))
    else:
        console.out(text)


def render_catalogue(catalogue: DriverCatalogue) -> str:
    """What is on the medium, for people: a row for each Windows, then what could not be read."""
    rows = supported(catalogue)
    lines = [*_header(catalogue), "", f"{'':<32}{'disks':<8}{'SCSI':<8}{'network':<9}besides"]
    lines += [_row(row) for row in rows]
    if any(row.older for row in rows):
        lines += ["", "older: made for an older Windows, used with a warning where there is nothing better"]
    if catalogue.problems:
        lines += ["", "Not read:", *(f"  {problem.path}: {problem.text}" for problem in catalogue.problems)]
    return "\n".join([*lines, "", "`p2v drivers PATH --for RELEASE` shows which drivers one Windows gets, and why."])


def render_choice(choice: DriverChoice, catalogue: DriverCatalogue) -> str:
    """Which drivers a Windows gets, for people."""
    target = choice.target
    lines = [*_header(catalogue), "", f"{choice.release} ({target.text}, {_NAMES.get(target.arch, target.arch.value)}):"]
    packages = {package.inf: package for package in catalogue.packages}
    for driver in choice.drivers:
        lines.append(f"  {device_by_id(driver.device).title:<30}{driver.inf}{_said(packages[driver.inf], target)}")
        lines.append(f"  {'':<30}{_FITS[driver.fit]}: {driver.why}")
        if driver.instead_of:
            lines.append(f"  {'':<30}not beside it: {', '.join(driver.instead_of)}, which is for the same device")
        if not driver.modern:
            lines.append(f"  {'':<30}for transitional devices alone, not for modern ones")
    if not choice.drivers:
        lines.append("  no driver at all")
    lines += ["", "Without a driver:"] if choice.missing else []
    lines += [f"  {device_by_id(each.device).title:<30}{each.why}" for each in choice.missing]
    lines += ["", "Warnings:"] if choice.findings else []
    for finding in choice.findings:
        lines += [f"- {finding.message} [{finding.id}]", *([f"  {finding.hint}"] if finding.hint else [])]
    return "\n".join(lines)


def _changes(choice: DriverChoice, catalogue: DriverCatalogue) -> DriverChanges:
    """What a guest with everything in the usual places gets; one control set stands for all that a guest has."""
    located = locate(catalogue, members_of(choice, catalogue))
    has_database = choice.target.version >= _FIRST_WITH_DRIVER_DATABASE
    place = GuestPlace("/Windows", "/Windows/System32/drivers", (1,), has_driver_database=has_database)
    return driver_changes(choice, catalogue, located, place)


def render_changes(changes: DriverChanges) -> str:
    """The files and registry values, for people; the latter as regedit writes them, texts readable whatever their type."""
    lines = [f"Files ({len(changes.files)}):"]
    for file in changes.files:
        source = file.member.name if file.member is not None else file.source
        lines.append(f"  {file.path}  ({format_bytes(file.size)}, from {source})")
    lines += ["", "Registry, SYSTEM hive (every control set like the first):"]
    key = None
    for value in changes.values:
        if value.key != key:
            key = value.key
            lines.append(f"  [{key}]")
        lines.append(f"  {_quoted(value.name) if value.name else '@'}={_data(value)}")
    lines += [f"  [-{each.key}]" for each in changes.unwanted]
    lines += ["", "Plug and Play finds the packages in:", *(f"  {folder}" for folder in changes.folders)]
    return "\n".join(lines)


_KINDS = {REG_SZ: "", REG_EXPAND_SZ: "expand:", REG_MULTI_SZ: "multi:"}


def _data(value: WantedValue) -> str:
    data = bytes.fromhex(value.data)
    if value.type == REG_DWORD and len(data) == 4:
        return f"dword:{int.from_bytes(data, 'little'):08x}"
    if value.type in _KINDS:
        texts = data.decode("utf-16-le", "replace").rstrip("\0").split("\0")
        return _KINDS[value.type] + ",".join(map(_quoted, texts))
    return f"hex({value.type:x}):{data.hex(',')}" if value.type != REG_BINARY else f"hex:{data.hex(',')}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _said(package: DriverPackage, target: WindowsTarget) -> str:
    """Version, date and signature of a package, in brackets."""
    catalog = package.catalog(target.arch)
    signature = catalog.signature if catalog is not None else None
    signed = "unsigned"
    if signature is not None:
        digests = ", ".join(signature.digests).upper().replace("SHA", "SHA-")
        signed = f"{_KINDS_OF_SIGNATURES[signature.kind]}, {digests}"
    return f"  ({', '.join(part for part in (package.version.version, package.version.date, signed) if part)})"


_KINDS_OF_SIGNATURES = {
    SignatureKind.WHQL: "WHQL",
    SignatureKind.ATTESTED: "attested by Microsoft",
    SignatureKind.MAKER: "signed by its maker",
}
_FITS = {
    Fit.EXACT: "made for it",
    Fit.SAID: "fits",
    Fit.OLDER: "made for an older one",
    Fit.UNSAID: "nothing says whether it fits",
}


def _header(catalogue: DriverCatalogue) -> list[str]:
    name = f"{catalogue.label}, " if catalogue.label else ""
    kind = "CD image" if catalogue.kind == "iso" else "folder"
    count = len(catalogue.packages)
    return [f"{catalogue.source}: {name}{kind} with {count} driver package{'' if count == 1 else 's'}"]


def _row(row: Supported) -> str:
    def state(device: str) -> str:
        return "yes" if device in row.devices else "older" if device in row.older else "-"

    disks, scsi, network = (state(device) for device in _ESSENTIAL)
    besides = [device for device in row.devices if device not in _ESSENTIAL]
    name = f"{row.name}, {_NAMES[row.arch]}"
    return f"{name:<32}{disks:<8}{scsi:<8}{network:<9}{', '.join(besides) or '-'}"


def _asked(arguments: argparse.Namespace) -> tuple[WindowsTarget | None, Trust]:
    """The Windows that was asked for. Raises Usage."""
    trust = Trust(secure_boot=None if arguments.secure_boot is None else arguments.secure_boot == "yes")
    if arguments.windows is None:
        for option in options.given(arguments, ("arch", "server", "secure_boot", "changes")):
            raise Usage(f"{option} is for --for VERSION", "As in --for 10.0.20348 --server.")
        return None, trust
    arch = _ARCHITECTURES[arguments.arch or "x64"]
    release = release_by_id(arguments.windows)
    if release is not None:
        if arguments.server and not release.server:
            raise Usage(f"{release.name} is no server", "Leave --server out, or name the server's release.")
        return target_for(release, arch), trust
    match = _VERSION.fullmatch(arguments.windows)
    if match is None:
        raise Usage(f"--for {arguments.windows}: no version and no release of Windows", f"As 10.0.20348, or one of {_RELEASES}.")
    product = Product.SERVER if arguments.server else Product.WORKSTATION
    return WindowsTarget(int(match[1]), int(match[2]), int(match[3]), arch, product), trust
