"""A headless Chromium that tests look at pages with, told what to do over its debugging pipe.

It is ended with all its processes when the test is over, failed or not; what it writes is in the test's own folder.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PATIENCE_SECONDS = 120.0
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
)

_PLACE = """(selector) => {
  const found = document.querySelector(selector);
  found.scrollIntoView({block: 'center', behavior: 'instant'});
  const box = found.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""


def program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("chromium")


class ChromiumFailed(AssertionError):
    """It did not do what it was told, or not in time."""


@dataclass
class Chromium:
    """A running one. Messages are JSON with a NUL byte behind each."""

    told: int
    heard: int
    events: list[Json] = field(default_factory=list)
    _rest: bytes = b""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def call(self, method: str, session: str | None = None, **parameters: Any) -> Json:
        """What it answers. Raises ChromiumFailed with what it says is wrong."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.told, data) :]
        answer = self._until(lambda each: each.get("id") == number, method)
        if "error" in answer:
            raise ChromiumFailed(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def _until(self, wanted: Callable[[Json], bool], what: str) -> Json:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for message in self._messages(deadline, what):
                if "method" in message:
                    self.events.append(message)
                if wanted(message):
                    return message

    def _messages(self, deadline: float, what: str) -> Iterator[Json]:
        """One message; the rest stays for the next call."""
        pieces = [self._rest]
        while b"\0" not in pieces[-1]:
            ready, _, _ = select.select([self.heard], [], [], max(deadline - time.monotonic(), 0))
            piece = os.read(self.heard, 1 << 20) if ready else b""
            if not piece:
                raise ChromiumFailed(f"{what}: {'it ended' if ready else 'no answer in time'}")
            pieces.append(piece)
        message, _, self._rest = b"".join(pieces).partition(b"\0")
        yield json.loads(message)


@dataclass
class Page:
    """A page in it. ``requests``: addresses that it asked for; ``problems``: errors and warnings of its console."""

    chromium: Chromium
    session: str

    def call(self, method: str, **parameters: Any) -> Json:
        """A method of the DevTools protocol."""
        return self.chromium.call(method, self.session, **parameters)

    def go(self, address: str) -> None:
        """Load an address, until all of it is there."""
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def until(self, script: str) -> None:
        """Wait until an expression is true. Raises ChromiumFailed when it does not become so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.value(script):
            if time.monotonic() > deadline:
                raise ChromiumFailed(f"it does not become true: {script}")
            time.sleep(0.02)

    def value(self, script: str) -> Any:
        """What an expression gives; a promise's value, where it gives one."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise ChromiumFailed(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def click(self, selector: str) -> None:
        """Click an element where it is to be seen, as a hand would: when what moves (a page that is scrolled) has come to rest."""
        script = f"({_PLACE})({json.dumps(selector)})"
        deadline, place = time.monotonic() + PATIENCE_SECONDS, self.value(script)
        while True:
            time.sleep(0.05)
            before, place = place, self.value(script)
            if place == before or time.monotonic() > deadline:
                break
        x, y = place
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, code: int) -> None:
        """Press a key: its name and its virtual key code."""
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def window(self, width: int, height: int, scheme: str = "light") -> None:
        """Its size, and whether its reader likes dark or light."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, file: Path) -> None:
        """What is in the window, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def pdf(self, file: Path) -> None:
        """The page as it is printed."""
        answer = self.call("Page.printToPDF", printBackground=False, transferMode="ReturnAsBase64")
        file.write_bytes(base64.b64decode(answer["data"]))

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for so far."""
        return [each["params"]["request"]["url"] for each in self._events("Network.requestWillBeSent")]

    @property
    def problems(self) -> list[Json]:
        """What the console has to say so far."""
        told = [*self._events("Runtime.exceptionThrown"), *self._events("Log.entryAdded")]
        told += [
            each for each in self._events("Runtime.consoleAPICalled") if each["params"]["type"] in ("error", "warning")
        ]
        return [each["params"] for each in told]

    def _events(self, name: str) -> list[Json]:
        self.value("1")  # what came before its answer is here now
        return [
            each for each in self.chromium.events if each["method"] == name and each.get("sessionId") == self.session
        ]


@contextmanager
def running(folder: Path) -> Iterator[Chromium]:
    """A Chromium with a profile of its own below the folder."""
    its_end, told = os.pipe()
    heard, its_other_end = os.pipe()
    # it reads from 3 and writes to 4, which are these pipes' own numbers on no account
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 100) for each in (its_end, its_other_end)]
    os.close(its_end)
    os.close(its_other_end)

    def place_pipes() -> None:
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    process = _started(folder, "--remote-debugging-pipe", close_fds=False, preexec_fn=place_pipes)
    for each in high:
        os.close(each)
    try:
        yield Chromium(told, heard)
    finally:
        os.close(told)  # which asks it to end
        os.close(heard)
        end(process, folder)


def printed_by_command(folder: Path, address: str, pdf: Path, budget_milliseconds: int) -> None:
    """Print a page as a script would, with one command, in which clocks go on by so much as fast as they can.

    Raises ChromiumFailed where it is not printed.
    """
    process = _started(folder, f"--virtual-time-budget={budget_milliseconds}", f"--print-to-pdf={pdf}", address)
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ChromiumFailed(f"{address} was not printed in {PATIENCE_SECONDS:.0f} s") from error
    finally:
        end(process, folder)


def _started(folder: Path, *words: str, **how: Any) -> subprocess.Popen[bytes]:
    """Chromium with a profile of its own below the folder; ``how``: as ``Popen`` has it."""
    found = program()
    assert found, "chromium is not installed; `make setup` brings it"
    environment = os.environ | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    with (folder / "chromium.log").open("wb") as log:
        return subprocess.Popen(
            [found, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            **how,
        )


def end(process: subprocess.Popen[bytes], folder: Path) -> None:
    """End it and all that it started; its crash reporters, in sessions of their own, end with it, a little later."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    asked, deadline = time.monotonic() + 5, time.monotonic() + PATIENCE_SECONDS
    while (left := processes_with(folder)) and time.monotonic() < deadline:
        for each in left if time.monotonic() > asked else ():
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        time.sleep(0.02)  # killed ones, too, take a moment to be gone


def processes_with(folder: Path) -> list[int]:
    """Chromium's processes with the path of the folder, which no other test has, in their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended meanwhile
            words = each.read_bytes()
            if words.startswith(b"/usr/lib/chrom") and os.fsencode(folder) in words:
                found.append(int(each.parent.name))
    return found


@contextmanager
def opened(chromium: Chromium, *, scripts: bool = True) -> Iterator[Page]:
    """A new page with nothing in it; ``scripts``: whether pages may run theirs."""
    target = chromium.call("Target.createTarget", url="about:blank")["targetId"]
    session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = Page(chromium, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
        page.call(f"{domain}.enable")
    if not scripts:
        page.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        yield page
    finally:
        with suppress(ChromiumFailed):
            chromium.call("Target.closeTarget", targetId=target)
