"""qemu-img, with every format named and every file name taken literally.

Without a named format qemu-img probes, and a hostile "raw" disk becomes whatever its first bytes say. A name
such as ``nbd:foo`` or ``-x`` would be a protocol or an option: files are always given by absolute path.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2v.core.errors import BadImage, ProgramFailed, Usage
from p2v.core.io_errors import write_problem
from p2v.core.run import Runner
from p2v.core.units import SECTOR_BYTES, round_up
from p2v.core.workspace import temporary_folder

_SHORT_SECONDS = 120.0
# Only a hang is to be caught where bytes are moved; a disk may take a day.
_LONG_SECONDS = 7 * 24 * 3600.0

_CHECK_CORRUPT, _CHECK_LEAKED, _CHECK_UNSUPPORTED = 2, 3, 63


@dataclass(frozen=True, slots=True)
class NbdUri:
    """An image that an NBD server offers: ``nbd+unix:///name?socket=/path`` or ``nbd://host/name``."""

    uri: str

    def __post_init__(self) -> None:
        if not self.uri.startswith(("nbd://", "nbd+unix://", "nbds://", "nbds+unix://")):
            raise Usage(f"{self.uri!r} is no NBD URI")


ImagePlace = Path | NbdUri


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What ``qemu-img info`` says of one image, without its chain. Sizes in bytes; what does not exist is None."""

    format: str
    virtual_size: int
    actual_size: int | None
    cluster_size: int | None
    backing: str | None
    backing_format: str | None
    dirty: bool


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What ``qemu-img check`` says. ``leaks`` are clusters nobody refers to: wasted, harmless."""

    corruptions: int
    leaks: int
    errors: int
    supported: bool = True

    @property
    def clean(self) -> bool:
        """Nothing was found, and something was looked at."""
        return self.supported and not (self.corruptions or self.leaks or self.errors)


def lacked_space(error: ProgramFailed) -> bool:
    """Whether qemu-img ended for want of space, or of quota."""
    return any(os.strerror(number) in error.stderr_tail for number in (errno.ENOSPC, errno.EDQUOT))


@dataclass(frozen=True, slots=True)
class QemuImg:
    """Runs qemu-img. All methods raise ProgramFailed, ProgramTimedOut, ToolMissing; BadImage where an
    image, or what qemu-img says about it, is not as it must be."""

    runner: Runner

    def create(self, image: Path, image_format: str, size: int, options: Iterable[str] = ()) -> None:
        """Make an empty image; ``options`` are ``-o`` settings of the format, each ``name=value``."""
        self._short("create", "-f", image_format, *_settings(options), _literal(image), str(size))

    def knows_zstd(self) -> bool:
        """Whether it reads and writes clusters that are compressed with zstd: QEMU 5.1 can, where it was built so."""
        with temporary_folder() as folder:
            try:
                self.create(folder / "probe.qcow2", "qcow2", SECTOR_BYTES, ("compression_type=zstd",))
            except ProgramFailed:
                return False
        return True

    def create_overlay(self, overlay: Path, backing: ImagePlace, backing_format: str, size: int) -> None:
        """Make a qcow2 overlay of exactly ``size`` bytes (rounded up to a sector) over ``backing``."""
        place = _literal(backing)
        self._short("create", "-f", "qcow2", "-b", place, "-F", backing_format, _literal(overlay), str(size))
        self._require_size(overlay, "qcow2", size)

    def rebase_unsafe(self, overlay: Path, backing: ImagePlace, backing_format: str) -> None:
        """Point an overlay to another backing file that reads the same; only the overlay's header changes.

        Raises BadImage when the sizes differ: qemu-img would let a shorter backing file read as zeroes.
        """
        self._require_size(overlay, "qcow2", self._size_below(overlay, backing, backing_format))
        self._short("rebase", "-u", "-f", "qcow2", "-b", _literal(backing), "-F", backing_format, _literal(overlay))

    def commit(self, overlay: Path, target: Path, target_format: str) -> None:
        """Write the overlay's own clusters into ``target``, which must be its backing file.

        The overlay is kept as it is. Raises NoSpace, BadImage when it has another backing file, or another size:
        qemu-img would silently make the target longer.
        """
        info = self.info(overlay, "qcow2")
        if info.backing != _literal(target) or info.backing_format != target_format:
            raise BadImage(overlay, f"its backing file is {info.backing} ({info.backing_format}), not {target}", "")
        self._require_size(overlay, "qcow2", self._size_below(overlay, target, target_format))
        try:
            self._run("commit", "-q", "-d", "-f", "qcow2", _literal(overlay), timeout=_LONG_SECONDS)
        except ProgramFailed as error:
            if lacked_space(error):
                refusal = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                raise write_problem(refusal, target, needed=overlay.stat().st_size) from error
            raise

    def check(self, image: Path, image_format: str) -> CheckResult:
        """Check an image's metadata; damage is an answer, not an error."""
        status, out = self._run_status(
            ("check", "--output=json", "-f", image_format, _literal(image)),
            accept=(0, _CHECK_CORRUPT, _CHECK_LEAKED, _CHECK_UNSUPPORTED),
            timeout=_LONG_SECONDS,
        )
        if status == _CHECK_UNSUPPORTED:
            return CheckResult(0, 0, 0, supported=False)
        found = _object(out, "check")
        return CheckResult(
            # The exit status is the answer; the counts are absent when they are nought.
            corruptions=max(_count(found, "corruptions") or 0, int(status == _CHECK_CORRUPT)),
            leaks=max(_count(found, "leaks") or 0, int(status == _CHECK_LEAKED)),
            errors=_count(found, "check-errors") or 0,
        )

    def info(self, image: ImagePlace, image_format: str) -> ImageInfo:
        """An image's size and references; its backing file is not opened."""
        found = _object(self._short("info", "--output=json", "-f", image_format, _literal(image)), "info")
        virtual_size = _count(found, "virtual-size")
        said = _text(found, "format")
        if virtual_size is None or said != image_format:
            raise ProgramFailed("qemu-img info", 0, f"says format {said!r} and size {virtual_size!r} of {image}")
        return ImageInfo(
            format=said,
            virtual_size=virtual_size,
            actual_size=_count(found, "actual-size"),
            cluster_size=_count(found, "cluster-size"),
            backing=_text(found, "full-backing-filename") or _text(found, "backing-filename"),
            backing_format=_text(found, "backing-filename-format"),
            dirty=found.get("dirty-flag") is True,
        )

    def changed_ranges(self, overlay: Path) -> tuple[tuple[int, int], ...]:
        """The ranges (offset, length, in bytes) an overlay has of its own: data and explicit zeroes, in order.

        The backing file is not opened. Raises BadImage when the map has gaps or does not reach the end.
        """
        # "backing": null, so that the map is the overlay's alone, and no server is asked about the rest.
        top = {
            "driver": "qcow2",
            "file": {"driver": "file", "filename": _literal(overlay)},
            "backing": None,
        }
        out = self._run("map", "--output=json", "-f", "qcow2", "json:" + json.dumps(top), timeout=_LONG_SECONDS)
        ranges: list[tuple[int, int]] = []
        position = 0
        for entry in _list(out, "map"):
            start, length = _count(entry, "start"), _count(entry, "length")
            if start != position or not length or not isinstance(entry.get("present"), bool):
                raise BadImage(overlay, f"its map does not go on at byte {position}: {entry!r}")
            if entry["present"]:
                if ranges and sum(ranges[-1]) == start:
                    ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
                else:
                    ranges.append((start, length))
            position = start + length
        self._require_size(overlay, "qcow2", position)
        return tuple(ranges)

    def compare(self, first: ImagePlace, first_format: str, second: ImagePlace, second_format: str) -> bool:
        """Whether two images have the same size and contents."""
        sizes = {self.info(first, first_format).virtual_size, self.info(second, second_format).virtual_size}
        if len(sizes) > 1:
            return False
        argv = ("compare", "-q", "-f", first_format, "-F", second_format, _literal(first), _literal(second))
        status, _ = self._run_status(argv, accept=(0, 1), timeout=_LONG_SECONDS)
        return status == 0

    def convert(
        self,
        source: ImagePlace,
        source_format: str,
        target: Path,
        target_format: str,
        *,
        options: Iterable[str] = (),
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Copy an image by qemu-img itself; an existing target is replaced. ``on_line`` gets its lines of progress."""
        argv = ("convert", "-q" if on_line is None else "-p", "-f", source_format, "-O", target_format, *_settings(options))
        self._run(*argv, _literal(source), _literal(target), timeout=_LONG_SECONDS, on_line=on_line)

    def _size_below(self, overlay: Path, backing: ImagePlace, backing_format: str) -> int:
        """What an overlay's size must be: its backing's, but for a block device, which may be larger than the disk on it."""
        size = self.info(backing, backing_format).virtual_size
        if isinstance(backing, Path) and backing.is_block_device():
            return min(size, self.info(overlay, "qcow2").virtual_size)
        return size

    def _require_size(self, image: Path, image_format: str, size: int) -> None:
        found = self.info(image, image_format).virtual_size
        if found != round_up(size, SECTOR_BYTES):
            raise BadImage(image, f"has {found} bytes where {size} were expected", "")

    def _short(self, *argv: str) -> str:
        return self._run(*argv, timeout=_SHORT_SECONDS)

    def _run(self, *argv: str, timeout: float, on_line: Callable[[str], None] | None = None) -> str:
        return self.runner.run(("qemu-img", *argv), timeout=timeout, on_line=on_line).stdout

    def _run_status(self, argv: tuple[str, ...], *, accept: tuple[int, ...], timeout: float) -> tuple[int, str]:
        done = self.runner.run(("qemu-img", *argv), timeout=timeout, accept=accept)
        return done.exit_status, done.stdout


def _literal(place: ImagePlace) -> str:
    """How qemu-img is given an image so that the name means nothing but itself."""
    return place.uri if isinstance(place, NbdUri) else os.path.abspath(place)


def _settings(options: Iterable[str]) -> list[str]:
    return [word for option in options for word in ("-o", option)]


def _parsed(out: str, what: str) -> Any:
    try:
        return json.loads(out)
    except ValueError as error:
        raise ProgramFailed(f"qemu-img {what}", 0, f"its output is no JSON: {out[:200]!r}") from error


def _object(out: str, what: str) -> dict[str, Any]:
    found = _parsed(out, what)
    if not isinstance(found, dict):
        raise ProgramFailed(f"qemu-img {what}", 0, f"its output is no JSON object: {out[:200]!r}")
    return found


def _list(out: str, what: str) -> list[dict[str, Any]]:
    found = _parsed(out, what)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ProgramFailed(f"qemu-img {what}", 0, f"its output is no JSON list of objects: {out[:200]!r}")
    return found


def _count(found: dict[str, Any], name: str) -> int | None:
    value = found.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _text(found: dict[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None
