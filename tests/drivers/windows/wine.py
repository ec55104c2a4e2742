"""Windows' service manager as Wine has it, for the service of the first start: a machine that is turned on and off.

Turned on, Wine starts every automatic service of its registry, as Windows does at a start. It goes off when nothing
runs in it any more, or by ``cut``, as when the power fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from drivers.windows.edits import AddKey, HiveEdit, SetValue

_SECONDS = 600
_TICK = 0.1
# what its command interpreter says first; Wine runs no program before it has started the services of its registry
_IS_ON = "Microsoft Windows"
# one of ours: Wine's own may fail on a busy host, which is no reason to cut off what runs already
_NOT_STARTED = re.compile('^.*service L"p2v.* failed to start.*$', re.MULTILINE)
_STARTS = 5
# Wine gives a service up that does not answer within ten seconds, which a loaded host may need to load its program; here
# in milliseconds
_SERVICE_PATIENCE = "600000"


def why_not() -> str:
    """Why there is no Wine; empty where there is one."""
    return "" if shutil.which("wine") and shutil.which("wineserver") else "wine is not installed"


# one worker, since they share what is made of it
ON_WINE = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.xdist_group("wine")]


def reg_file(edits: Sequence[HiveEdit]) -> bytes:
    """The edits as Windows' registry editor reads them, below HKEY_LOCAL_MACHINE\\SYSTEM."""
    lines = ["Windows Registry Editor Version 5.00"]
    for edit in edits:
        assert isinstance(edit, AddKey | SetValue)
        # Wine has no link: its running control set stands under that name
        key = re.sub("^ControlSet001", "CurrentControlSet", edit.key)
        lines.append(f"[HKEY_LOCAL_MACHINE\\SYSTEM\\{key}]")
        if isinstance(edit, SetValue):
            data = ",".join(edit.data[at : at + 2] for at in range(0, len(edit.data), 2))
            lines.append(f'"{edit.name}"=hex({edit.kind:x}):{data}')
    return b"\xff\xfe" + "".join(f"{line}\r\n" for line in lines).encode("utf-16-le")


@dataclass
class Wine:
    """A Wine of its own in a folder. ``drive``: its drive C."""

    folder: Path
    _on: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _attempts: int = field(default=0, repr=False)

    @property
    def drive(self) -> Path:
        return self.folder / "drive_c"

    @property
    def environment(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR")}
        # no question whether to fetch .NET or a browser, no windows, and nothing in the home of who tests
        own = {"WINEARCH": "win64", "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe="}
        return {**kept, **own, "WINEPREFIX": str(self.folder), "HOME": str(self.folder.parent), "LC_ALL": "C.UTF-8"}

    def run(self, *words: str, check: bool = True) -> str:
        """What a program of it prints."""
        code, said = self._call(["wine", *words])
        assert not check or code == 0, f"{words} ended with {code}: {said}"
        return said

    def _call(self, words: Sequence[str]) -> tuple[int, str]:
        # not a pipe: what a program starts besides itself, Wine's own services among it, holds it open for as long as that runs
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                words, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, check=False,
                timeout=_SECONDS,
            )  # fmt: skip
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")

    def make(self) -> None:
        """Its registry and drive C; a few seconds, and some 700 MB."""
        code, said = self._call(["wineboot", "-i"])
        assert code == 0, f"wineboot ended with {code}: {said}"
        self.run(
            "reg", "add", "HKLM\\System\\CurrentControlSet\\Control",
            "/v", "ServicesPipeTimeout", "/t", "REG_SZ", "/d", _SERVICE_PATIENCE, "/f",
        )  # fmt: skip
        self.wait_until_off()

    def import_registry(self, edits: Sequence[HiveEdit]) -> None:
        """Make edits of SYSTEM; it is off before and after."""
        file = self.drive / "import.reg"
        file.write_bytes(reg_file(edits))
        self.run("reg", "import", "C:\\import.reg")
        file.unlink()
        self.wait_until_off()

    def has_key(self, path: str) -> bool:
        """Whether a key below HKEY_LOCAL_MACHINE is there. It is on."""
        return self._call(["wine", "reg", "query", f"HKLM\\{path}"])[0] == 0

    @contextmanager
    def on(self) -> Iterator[None]:
        """Turned on: its automatic services were started. At the end it is off, whatever ran."""
        try:
            for _ in range(_STARTS):
                self._turn_on()
                if not (failed := self.not_started()):
                    break
                self.cut()
            assert not failed, f"Wine did not start its services: {failed}"
            yield
        except AssertionError as error:
            error.add_note(f"Wine said: {self._log.read_text(errors='replace')[-4000:]}")
            raise
        finally:
            self.cut()

    @property
    def _log(self) -> Path:
        """What Wine itself said since it was turned on."""
        return self.folder.with_name(f"{self.folder.name}-on-{self._attempts}.log")

    def not_started(self) -> list[str]:
        """Wine's words on automatic services that it could not start, since it was turned on."""
        return _NOT_STARTED.findall(self._log.read_text(errors="replace"))

    def _turn_on(self) -> None:
        self._attempts += 1
        env = {**self.environment, "WINEDEBUG": "-all,err+service,fixme+service"}
        with self._log.open("wb") as log:
            # a program that waits for its input keeps it on
            self._on = subprocess.Popen(["wine", "cmd"], env=env, stdin=subprocess.PIPE, stdout=log, stderr=log)
        end = time.monotonic() + _SECONDS
        while _IS_ON not in self._log.read_text(errors="replace"):
            assert self._on.poll() is None, "Wine went off"
            assert time.monotonic() < end, "Wine does not come up"
            time.sleep(_TICK)

    def cut(self) -> None:
        """Everything ends at once."""
        subprocess.run(["wineserver", "-k"], env=self.environment, check=False, timeout=_SECONDS)
        self.wait_until_off()
        if self._on is not None:
            if self._on.stdin is not None:
                self._on.stdin.close()
            self._on.wait(_SECONDS)
            self._on = None

    def wait_until_off(self) -> None:
        subprocess.run(["wineserver", "-w"], env=self.environment, check=False, timeout=_SECONDS)


def wait_for(file: Path, text: str, seconds: float = 240) -> str:
    """The file's text as soon as it has ``text`` in it. Fails with what is there after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        has = file.read_text(errors="replace") if file.exists() else ""
        if text in has:
            return has
        assert time.monotonic() < end, f"no {text!r} in {file.name}:\n{has}"
        time.sleep(_TICK)
