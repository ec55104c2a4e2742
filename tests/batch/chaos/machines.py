"""The fleet of the chaos test: tiny machines that are converted for real, and others that cannot be, each with its reason."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2v.batch.failures import MAY_HELP
from p2v.core.units import MIB
from tests.batch.chaos.storages import FAR_SOURCE, FAR_TARGET, Storages
from tests.batch.dos import dos_disk

_OFTEN = 100
"""Attempts of a machine that no storm may park."""
_TRIES = 20
_PACKED = ("vmdk", "vpc", "vhdx", "qcow2", "vdi")
_SUFFIX = {"vpc": "vhd"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A machine, and what must become of it. ``disk``: what its result must hold; None: it cannot be converted.

    ``codes``: the reasons for which it may be parked; none: it is to be done. ``source``: as it lies on its own disk, where reading
    it waits for no server; ``real_folder``: the same of its results.
    """

    name: str
    kind: str
    source: Path
    real_folder: Path
    keys: Mapping[str, Any]
    disk: Path | None = None
    codes: frozenset[str] = frozenset()

    @property
    def is_far(self) -> bool:
        """Whether a server that is stopped now and then has its source, or is to have its results."""
        places = (str(self.keys["source"]), str(self.keys["target"]))
        return any(part in (FAR_SOURCE, FAR_TARGET) for place in places for part in Path(place).parts)


@dataclass
class Fleet:
    """Makes the machines one after the other, each kind in turn, their places in turn."""

    folder: Path
    storages: Storages
    dice: random.Random
    made: list[Wanted] = field(default_factory=list)
    _raw: list[Path] = field(default_factory=list)

    def build(self, count: int) -> Sequence[Wanted]:
        """``count`` machines: two in three are whole."""
        kinds: tuple[Callable[[str], Wanted], ...] = (
            self._plain, self._packed, self._cut_short, self._slow, self._packed, self._fuzzed,
            self._plain, self._slow, self._naming_others, self._slow, self._impatient, self._empty,
            self._packed, self._plain, self._wrong_key, self._slow, self._hook_after, self._gone,
            self._packed, self._slow, self._no_key, self._packed, self._slow, self._hook_before,
        )  # fmt: skip
        for number in range(count):
            make = kinds[number % len(kinds)]
            self.made.append(make(f"m{number:03}-{make.__name__.strip('_').replace('_', '-')}"))
        return self.made

    def manifest(self, path: Path) -> Path:
        """The batch's manifest; it is YAML, for JSON is."""
        machines = [{"name": each.name, **each.keys} for each in self.made]
        budget = {"copies": 3, "appliances": 8, "jobs": 6}
        path.write_text(json.dumps({"schema": 1, "store": "jobs.batch.sqlite", "budget": budget, "machines": machines}))
        return path

    # --- those that can be converted

    def _plain(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        return self._wanted(name, said, self._disk(source), source)

    def _slow(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        return self._wanted(name, said, self._disk(source), source, limit="1M")

    def _packed(self, name: str) -> Wanted:
        form = _PACKED[len(self.made) % len(_PACKED)]
        source, said = self._place(name, _SUFFIX.get(form, form))
        return self._wanted(name, said, self._pack(source, form), source)

    def _impatient(self, name: str) -> Wanted:
        """One that gives up as soon as any does, by default: a storm may park it, for a reason that storms have."""
        source, said = self._place(name, "raw")
        return self._wanted(name, said, self._disk(source), source, attempts=3, codes=MAY_HELP)

    def _hook_after(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        return self._wanted(name, said, self._disk(source), source, after=["false"])

    # --- those that cannot

    def _cut_short(self, name: str) -> Wanted:
        source, said = self._place(name, "vmdk")
        self._pack(source, "vmdk")
        with source.open("r+b") as file:
            file.truncate(self.dice.choice([100, source.stat().st_size // 2]))
        return self._wanted(name, said, None, source, codes={"bad-image"})

    def _fuzzed(self, name: str) -> Wanted:
        form = self.dice.choice(("vhdx", "vpc", "vmdk"))
        source, said = self._place(name, _SUFFIX.get(form, form))
        self._pack(source, form)
        noisy = bytearray(source.read_bytes())
        for at in (0, *range(64 * 1024, 6 * 64 * 1024, 64 * 1024), len(noisy) - 512):
            noisy[at + 8 : at + 512] = self.dice.randbytes(504)
        source.write_bytes(noisy)
        codes = {"bad-image", "ambiguous-format", "unsupported-image"}
        return self._wanted(name, said, None, source, codes=codes)

    def _naming_others(self, name: str) -> Wanted:
        source, said = self._place(name, "vmdk")
        source.write_text(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"
            'RW 16384 FLAT "/etc/passwd" 0\nddb.adapterType = "ide"\n'
        )  # fmt: skip
        return self._wanted(name, said, None, source, codes={"forbidden-reference"})

    def _empty(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        source.touch()
        return self._wanted(name, said, None, source, codes={"no-source"})

    def _gone(self, name: str) -> Wanted:
        source, said = self._place(name, "vmdk")
        return self._wanted(name, said, None, source, codes={"no-source"})

    def _wrong_key(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        shutil.copy(self._locked(), source)
        key = self.folder / "wrong-key"
        key.write_text("wrong")
        more = {"reader": "host", "keys": f"all:file:{key}"}
        return self._wanted(name, said, None, source, codes={"guest-not-understood"}, **more)

    def _no_key(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        self._disk(source)
        return self._wanted(name, said, None, source, codes={"usage"}, keys=f"all:file:{self.folder / 'no-key'}")

    def _hook_before(self, name: str) -> Wanted:
        source, said = self._place(name, "raw")
        self._disk(source)
        return self._wanted(name, said, None, source, codes={"hook-failed"}, before=["false"])

    # --- what they are made of

    def _place(self, name: str, suffix: str) -> tuple[Path, Path]:
        """Where its source really lies, and by which name the batch reads it."""
        real, said = self.dice.choice(self.storages.sources)
        return real / f"{name}.{suffix}", said / f"{name}.{suffix}"

    def _disk(self, path: Path) -> Path:
        """A disk that no other machine has, a good part of it full of noise."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return dos_disk(path, self.dice.randbytes(5 * MIB // 2))

    def _locked(self) -> Path:
        """An encrypted disk, made once."""
        locked, raw = self.folder / "locked.raw", self.folder / "unlocked.raw"
        tries = 0 if locked.exists() else _TRIES
        for each in reversed(range(tries)):
            words = (
                "convert",
                "--object",
                "secret,id=s,data=right",
                "-f",
                "raw",
                "-O",
                "luks",
                "-o",
                "key-secret=s,iter-time=200",
            )
            try:
                _qemu_img(*words, self._disk(raw), locked)
                break
            except subprocess.CalledProcessError:
                # on a busy host it cannot tell how fast it is
                locked.unlink(missing_ok=True)
                if not each:
                    raise
        return locked

    def _pack(self, path: Path, form: str) -> Path:
        """The raw disk that is in it."""
        raw = self._disk(self.folder / "packed" / f"{path.stem}.raw")
        _qemu_img("convert", "-f", "raw", "-O", form, raw, path)
        return raw

    def _wanted(
        self,
        name: str,
        said: Path,
        disk: Path | None,
        source: Path,
        codes: set[str] | frozenset[str] = frozenset(),
        **keys: Any,
    ) -> Wanted:
        real, folder = self.storages.targets[len(self.made) % len(self.storages.targets)]
        form = self.dice.choice(("raw", "qcow2"))
        given = {"source": str(said), "target": str(folder), "format": form, "attempts": _OFTEN, **keys}
        return Wanted(name, name.partition("-")[2], source, real, given, disk, frozenset(codes))


def _qemu_img(*words: object) -> None:
    subprocess.run(["qemu-img", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def holds(made: Path, form: str, disk: Path) -> bool:
    """Whether a result has a disk's bytes; what it has beyond them (a VHD's size is rounded) is zeroes."""
    said = ["qemu-img", "compare", "-f", form, "-F", "raw", str(made), str(disk)]
    return subprocess.run(said, check=False, stdout=subprocess.DEVNULL).returncode == 0
