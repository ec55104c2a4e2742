"""Which drivers of a medium a given Windows gets: pure, from the catalogue, each with its reason.

For each device the packages are looked at that have its ids in the models section which this Windows would take. Among those
that fit, what their INF files say decides; the names of folders tell more only where an INF file names no version, or
two are equal. A package whose folder is named for a newer Windows is never taken unless its INF file says that it fits. Where
there is none for the guest's own release the nearest older one is taken, and said.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from drivers.plan import Finding
from drivers.windows.devices import BLOCK, DEVICES, NETWORK, SCSI, Device, device_by_id
from drivers.windows.inf import Install, Models, Service, models_for
from drivers.windows.inf_targets import Decoration, WindowsTarget
from drivers.windows.releases import Release, release_by_id, release_of, same_system
from drivers.windows.signing import Trust, signing_findings
from drivers.windows.virtio_win import DriverCatalogue, DriverPackage

_REASONS_AT_MOST = 3
_FIRST_OF_TODAYS_DRIVERS = (6, 0)


class Fit(enum.Enum):
    """How well a package fits."""

    EXACT = "exact"
    """Made for this release, by its INF file or its folder's name."""
    SAID = "said"
    """Its INF file says that it fits this version of Windows."""
    OLDER = "older"
    """Made for an older release."""
    UNSAID = "unsaid"
    """Nothing says what it is for but the processor."""


@dataclass(frozen=True, slots=True)
class ChosenDriver:
    """A driver for a device. ``inf``: its package by path; ``model``: the DDInstall section; ``ids``: those of the device.

    ``service``: empty where the device gets none. ``release``: what it was made for (id), where that is known.
    ``instead_of``: other packages for the same device of the same fitness, which must not be installed beside it.
    """

    device: str
    inf: str
    model: str
    service: str
    ids: tuple[str, ...]
    modern: bool
    fit: Fit
    release: str | None
    why: str
    instead_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MissingDriver:
    """A device without a driver, and why no package is one."""

    device: str
    why: str


@dataclass(frozen=True, slots=True)
class DriverChoice:
    """What a Windows gets from a medium. ``release``: its name. JSON-able."""

    target: WindowsTarget
    release: str
    drivers: tuple[ChosenDriver, ...]
    missing: tuple[MissingDriver, ...]
    findings: tuple[Finding, ...]

    def driver(self, device: str) -> ChosenDriver | None:
        """The driver for a device."""
        return next((each for each in self.drivers if each.device == device), None)


class _Refusal(enum.Enum):
    BROKEN = "broken"
    NEWER = "newer"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why a package is no candidate; ``release``: the newer one that it is for."""

    kind: _Refusal
    text: str
    release: Release | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    package: DriverPackage
    install: Install
    model: str
    ids: tuple[str, ...]
    decoration: Decoration
    fit: Fit
    since: tuple[int, int, int]
    of_release: bool
    """Its folder is named for the very release."""
    why: str

    @property
    def rank(self) -> tuple[object, ...]:
        """Of two candidates the one with the higher value is taken."""
        version = tuple(int(part) for part in self.package.version.version.split(".") if part)
        return (
            self.is_signed,
            self.fit is Fit.EXACT,
            self.since,
            self.decoration.version is not None,
            self.of_release,
            # a driver that does something before one that only gives the device a name
            self.install.service is not None,
            version,
            self.package.version.date,
        )

    @property
    def is_signed(self) -> bool:
        catalog = self.package.catalog(self.decoration.arch) if self.decoration.arch else None
        catalog = catalog or next(iter(self.package.catalogs), None)
        return catalog is not None and catalog.file.path is not None


def choose_drivers(catalogue: DriverCatalogue, target: WindowsTarget, trust: Trust | None = None) -> DriverChoice:
    """The drivers for a Windows, one for each device that the medium has any for, in the order of ``DEVICES``."""
    trust = trust or Trust()
    chosen, missing, signed = list[ChosenDriver](), list[MissingDriver](), list[tuple[DriverPackage, Service | None]]()
    for device in DEVICES:
        candidates, reasons = _candidates(catalogue.packages, device, target)
        if candidates:
            best = max(candidates, key=lambda each: each.rank)
            chosen.append(_chosen(device, best, candidates))
            signed.append((best.package, best.install.service))
        elif reasons or device.id in (BLOCK, NETWORK):
            missing.append(MissingDriver(device.id, _told(reasons)))
    release = release_of(target)
    name = release.name if release else f"Windows {target.text}"
    own = [*_older(chosen, name), *_unsaid(chosen, name), *_missing(missing, chosen, name, catalogue.source)]
    return DriverChoice(
        target, name, tuple(chosen), tuple(missing), (*own, *signing_findings(signed, target, trust))
    )


def _candidates(
    packages: Iterable[DriverPackage], device: Device, target: WindowsTarget
) -> tuple[list[_Candidate], list[_Refused]]:
    found: list[_Candidate] = []
    reasons: list[_Refused] = []
    for package in packages:
        if not any(device.matching(model.ids) for models in package.sections for model in models.models):
            continue
        each = _judged(package, device, target)
        if isinstance(each, _Candidate):
            found.append(each)
        else:
            reasons.append(each)
    return found, reasons


def _judged(package: DriverPackage, device: Device, target: WindowsTarget) -> _Candidate | _Refused:
    """The package as a candidate, or why it is none."""
    for models in models_for(package.sections, target):
        ids = tuple(each for model in models.models for each in device.matching(model.ids))
        if not ids:
            continue
        model = next(model for model in models.models if device.matching(model.ids))
        install = package.installed(model.install, models.decoration.arch or target.arch)
        if install is None:
            return _Refused(_Refusal.BROKEN, f"{package.inf} lacks its [{model.install}]")
        if problem := _unusable(package, install, target):
            return _Refused(_Refusal.BROKEN, problem)
        standing = _standing(package, install, models, target)
        if isinstance(standing, _Refused):
            return standing
        fit, since, of_release, why = standing
        return _Candidate(package, install, model.install, ids, models.decoration, fit, since, of_release, why)
    made_for = ", ".join(dict.fromkeys(models.decoration.text or "x86" for models in package.sections if models.models))
    return _Refused(_Refusal.OTHER, made_for)


def _unusable(package: DriverPackage, install: Install, target: WindowsTarget) -> str:
    if not package.version.class_guid:
        return f"{package.inf} names no class of devices"
    for member in install.files:
        file = package.file(member.source)
        if file is None or file.path is None:
            return f"{package.inf} lacks its {member.source}"
    service = install.service
    program = package.program(service.binary) if service is not None else None
    if program is not None and program.machine not in ("", target.arch.value):
        return f"{program.source} of {package.inf} is a program for {program.machine}"
    return ""


def _standing(
    package: DriverPackage, install: Install, models: Models, target: WindowsTarget
) -> tuple[Fit, tuple[int, int, int], bool, str] | _Refused:
    """How it fits, what it was made for (version and build), whether its folder is the release's, and why; or why not."""
    folder = release_by_id(package.release) if package.release else None
    release, decoration = release_of(target), models.decoration
    here = (*target.version, target.build)
    of_release = folder is not None and folder == release
    in_sister = folder is not None and release is not None and same_system(folder, release)
    if decoration.version is not None:
        said = (*decoration.version, decoration.build or 0)
        since = folder.since if folder is not None and said <= folder.since <= here else said
        exact = of_release or (release is not None and said >= release.since)
        fit = Fit.EXACT if exact else Fit.SAID if since[:2] == target.version else Fit.OLDER
        return fit, since, of_release, f"its INF file says so ({decoration.text})"
    if folder is None:
        return Fit.UNSAID, (0, 0, 0), False, f"its INF file names no version ({decoration.text or 'none'}), nor does its folder"
    if not in_sister and folder.since > here:
        return _Refused(_Refusal.NEWER, "", folder)
    if folder.version < _FIRST_OF_TODAYS_DRIVERS <= target.version:
        return _Refused(_Refusal.BROKEN, f"{package.inf} is for {folder.name}, whose drivers are of another kind")
    if not in_sister and install.service is None and not install.needs:
        return _Refused(_Refusal.BROKEN, f"{package.inf} only gives it a name, and is for {folder.name}")
    fit = Fit.EXACT if in_sister else Fit.OLDER
    return fit, folder.since, of_release, f"its folder is named for {folder.name}, its INF file names no version"


def _chosen(device: Device, best: _Candidate, candidates: Sequence[_Candidate]) -> ChosenDriver:
    service = best.install.service
    # a package of the same release that is for the same device fights the chosen one
    rivals = dict.fromkeys(
        each.package.name
        for each in candidates
        if each.package.name != best.package.name and each.package.release == best.package.release
    )
    return ChosenDriver(
        device=device.id,
        inf=best.package.inf,
        model=best.model,
        service=service.name if service is not None else "",
        ids=best.ids,
        modern=device.is_modern(best.ids),
        fit=best.fit,
        release=best.package.release,
        why=best.why,
        instead_of=tuple(rivals),
    )


def _told(refused: Sequence[_Refused]) -> str:
    """The reasons in one sentence, those that something can be done about first."""
    if not refused:
        return "the medium has none"
    broken = list(dict.fromkeys(each.text for each in refused if each.kind is _Refusal.BROKEN))
    told = broken[:_REASONS_AT_MOST]
    if len(broken) > _REASONS_AT_MOST:
        told.append(f"{len(broken) - _REASONS_AT_MOST} more like these")
    newer = [each.release for each in refused if each.release is not None]
    if newer:
        told.append(f"the oldest there is for {min(newer, key=lambda each: (each.since, each.server)).name}, which is newer")
    others = dict.fromkeys(each.text for each in refused if each.kind is _Refusal.OTHER)
    if others and not newer:
        told.append(f"the INF files there are for {', '.join(sorted(others)[:_REASONS_AT_MOST])}")
    return "; ".join(told)


def _older(chosen: Iterable[ChosenDriver], name: str) -> Iterator[Finding]:
    by_release: dict[str, list[ChosenDriver]] = {}
    for each in chosen:
        if each.fit is Fit.OLDER:
            release: Release | None = release_by_id(each.release) if each.release else None
            by_release.setdefault(release.name if release else "an older Windows", []).append(each)
    for made_for, drivers in by_release.items():
        titles = ", ".join(device_by_id(each.device).title for each in drivers)
        message = f"the medium has no drivers for {name} for {titles}; those for {made_for} are used"
        yield Finding("driver.older", message, "A newer virtio-win may have them; try the guest before you rely on it.")


def _unsaid(chosen: Iterable[ChosenDriver], name: str) -> Iterator[Finding]:
    for each in chosen:
        if each.fit is Fit.UNSAID:
            message = f"nothing says that {each.inf} is for {name}: neither its INF file nor its folder names a version"
            yield Finding("driver.unsaid", message, "Keep the medium's own folders; their names tell what the drivers are for.")


def _missing(missing: Iterable[MissingDriver], chosen: Iterable[ChosenDriver], name: str, source: str) -> Iterator[Finding]:
    found = {each.device for each in chosen}
    for each in missing:
        if each.device == BLOCK and SCSI not in found:
            message = f"{source} has no driver of virtio disks for {name}: {each.why}"
            yield Finding("driver.missing-block", message, "The guest will run on SATA or IDE disks.")
        elif each.device == NETWORK:
            message = f"{source} has no driver of virtio network cards for {name}: {each.why}"
            yield Finding("driver.missing-network", message, "The guest will run on an emulated network card.")
