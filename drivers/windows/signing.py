"""Whether a Windows will take a driver's signature, said before it fails at the first start.

Sources: Microsoft, Windows driver documentation, "Driver Signing Policy" (64-bit since Vista; the dashboard's signature since
Windows 10 1607 with secure boot, except for certificates from before 29 July 2015), "Attestation signing" (Windows 10
desktop and later only), "Trusted Publishers Certificate Store" (what is installed without a question); Security Advisory
3033929 and update KB4474419 (SHA-2 on Windows 7, Server 2008 R2 and Server 2008).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from drivers.plan import Finding
from drivers.windows.inf import Service
from drivers.windows.inf_targets import Architecture, WindowsTarget
from drivers.windows.signature import Signature, SignatureKind
from drivers.windows.virtio_win import DriverPackage

_FIRST_ENFORCING = (6, 0)
_FIRST_WITH_SHA2 = (6, 2)
_BUILD_OF_1607 = 14393
_LAST_DAY_OF_MAKERS = "2015-07-29"
_NAMES_AT_MOST = 4
_ANSWER = "Someone has to answer at the console at the first start; until then the devices have no driver."


@dataclass(frozen=True, slots=True)
class Trust:
    """What is known of a guest besides its version; None: not known.

    ``secure_boot``: it will run with it. ``sha2``: its updates make it read SHA-2 (Windows 7 and Server 2008 only matter).
    """

    secure_boot: bool | None = None
    sha2: bool | None = None


@dataclass(frozen=True, slots=True)
class _Objection:
    """``text`` goes on after the names of what it is about."""

    id: str
    text: str
    hint: str


def signing_findings(
    packages: Iterable[tuple[DriverPackage, Service | None]], target: WindowsTarget, trust: Trust
) -> Iterator[Finding]:
    """What stands in the way of packages' signatures on a Windows, one finding for all that have it in common.

    ``packages``: each with the service of its driver.
    """
    enforces = target.arch is not Architecture.X86 and target.version >= _FIRST_ENFORCING
    found: dict[_Objection, list[str]] = {}
    for package, service in packages:
        for what, objection in _objections(package, service, target, trust) if enforces else ():
            found.setdefault(objection, []).append(what)
        question = _question(package, target)
        if question is not None:
            found.setdefault(question, []).append(package.inf)
    for objection, names in found.items():
        unique = dict.fromkeys(names)
        rest = f" and {len(unique) - _NAMES_AT_MOST} more" if len(unique) > _NAMES_AT_MOST else ""
        listed = ", ".join(list(unique)[:_NAMES_AT_MOST]) + rest
        yield Finding(objection.id, f"{listed}: {objection.text}", objection.hint)


def _objections(
    package: DriverPackage, service: Service | None, target: WindowsTarget, trust: Trust
) -> Iterator[tuple[str, _Objection]]:
    catalog = package.catalog(target.arch)
    signature = catalog.signature if catalog is not None else None
    if signature is None:
        missing = "no catalogue is named" if catalog is None else "the catalogue cannot be read"
        if catalog is not None and catalog.file.path is None:
            missing = "the catalogue is missing"
        hint = "Windows for this processor takes no unsigned driver. Take a complete medium."
        yield package.inf, _Objection("driver.unsigned", missing, hint)
    program = package.program(service.binary) if service is not None and service.is_boot_start else None
    if program is not None and program.machine and program.signature is None:
        hint = "The loader starts it before it knows the catalogue; it needs one of its own."
        yield program.source, _Objection("driver.boot-unsigned", "the program has no signature of its own", hint)
    for what, each in ((package.inf, signature), (program.source if program else "", program.signature if program else None)):
        if each is not None:
            yield from ((what, objection) for objection in _judged(each, target, trust))


def _question(package: DriverPackage, target: WindowsTarget) -> _Objection | None:
    """What Windows asks somebody at its screen before it installs a package; None for nothing."""
    catalog = package.catalog(target.arch)
    signature = catalog.signature if catalog is not None else None
    by_microsoft = signature is not None and signature.kind is not SignatureKind.MAKER
    if target.version < _FIRST_ENFORCING:
        if by_microsoft and signature is not None and "sha1" in signature.digests:
            return None
        text = "not signed by Microsoft in a way that this Windows reads, so that it asks at its screen before it installs them"
        return _Objection("driver.asks", text, _ANSWER)
    if by_microsoft or (signature is None and target.arch is not Architecture.X86):
        return None
    if signature is None:
        text = "without a signature that can be read, so that this Windows asks at its screen before it installs them"
        return _Objection("driver.asks", text, _ANSWER)
    text = f"signed by {signature.signer or 'its maker'}, whom this Windows asks about before it installs them"
    hint = "Make its certificate one of the trusted publishers' before the conversion, or answer at the console at the first start."
    return _Objection("driver.publisher", text, hint)


def _judged(signature: Signature, target: WindowsTarget, trust: Trust) -> Iterator[_Objection]:
    if target.version < _FIRST_WITH_SHA2 and "sha1" not in signature.digests and not trust.sha2:
        updates = "KB3033929 or KB4474419" if target.version == (6, 1) else "KB4474419"
        digests = ", ".join(signature.digests).upper().replace("SHA", "SHA-")
        unknown = "It is not known whether the guest has it. " if trust.sha2 is None else ""
        hint = f"{unknown}Install the update before the conversion, or take a medium from before 2019."
        yield _Objection("driver.sha2", f"signed with {digests} only, which this Windows reads with {updates} alone", hint)
    if signature.kind is SignatureKind.ATTESTED and target.version < (10, 0):
        hint = "Take a medium with drivers for this Windows."
        yield _Objection("driver.attested", "signed by attestation, which only Windows 10 and later take", hint)
    if (*target.version, target.build) < (10, 0, _BUILD_OF_1607) or trust.secure_boot is False:
        return
    perhaps = "with secure boot" if trust.secure_boot is None else "as it runs with secure boot"
    if signature.kind is SignatureKind.ATTESTED and target.is_server:
        hint = "Take drivers with Microsoft's WHQL signature, or turn secure boot off."
        yield _Objection("driver.attested", f"signed by attestation, which a Windows server may refuse {perhaps}", hint)
    if signature.kind is SignatureKind.MAKER and (not signature.valid_from or signature.valid_from >= _LAST_DAY_OF_MAKERS):
        text = f"signed by {signature.signer or 'its maker'} and not by Microsoft, which this Windows refuses {perhaps}"
        yield _Objection("driver.cross-signed", text, "Take drivers with Microsoft's signature, or turn secure boot off.")
