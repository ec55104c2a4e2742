"""The appliance that starts quicker, for the doctor: whether there is one, and removing it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from drivers.fixed_appliance.choosing import PLAIN, VARIABLE, default_store, wanted
from drivers.fixed_appliance.parts import Parts, fingerprint, supermin_folder
from drivers.fixed_appliance.store import Store, Untrusted
from p2v.core.acceleration import Acceleration
from p2v.core.errors import P2vError
from p2v.core.run import Runner
from p2v.core.units import format_bytes
from p2v.core.workspace import allocated_bytes

_SECONDS = 30.0
_REMOVE_SECONDS = 60.0
# In a child: a library that crashes is a finding.
_LOOK = """
import json, sys, guestfs
g = guestfs.GuestFS(python_return_dict=True)
v = g.version()
found = {"version": "%d.%d.%d%s" % (v["major"], v["minor"], v["release"], v["extra"]), "path": g.get_path()}
print(json.dumps({name: found[name] for name in sys.argv[1:]}))
"""


@dataclass(eq=False)
class ApplianceKept(P2vError):
    """The quick appliance cannot be removed now."""

    folder: Path
    why: str
    exit_code: ClassVar[int] = 75
    code: ClassVar[str] = "appliance-kept"

    def sentence(self) -> str:
        return f"{self.folder} cannot be removed: {self.why}"

    def hint(self) -> str:
        return "An appliance may be starting from it; try again, or remove the folder when no p2v runs."


@dataclass(frozen=True, slots=True)
class QuickAppliance:
    """Whether launches here take (or will build) the quick appliance, and ``what`` there is, or why not."""

    used: bool
    what: str


def look(runner: Runner, answer: Acceleration, store: Store | None = None) -> QuickAppliance:
    """What there is on this host; nothing is built, nothing is changed."""
    if not wanted():
        return QuickAppliance(False, f"not used: {VARIABLE}={PLAIN}, or this is no x86-64 host")
    store = store or default_store()
    try:
        parts = _parts(runner)
        if parts is None:
            return QuickAppliance(
                True, "none: libguestfs has an appliance that was built elsewhere, or cannot build one"
            )
        return _of_parts(parts, answer, store)
    except (OSError, P2vError, ValueError, KeyError, TypeError, Untrusted) as error:
        return QuickAppliance(False, f"not used: {error.sentence() if isinstance(error, P2vError) else error}")


def _of_parts(parts: Parts, answer: Acceleration, store: Store) -> QuickAppliance:
    key = fingerprint(parts)
    if store.folder.is_dir():
        store.require_trust()
    reason = store.reason_against(key, answer.accelerator)
    if reason is not None:
        return QuickAppliance(False, f"not used: {reason}")
    if not store.is_whole(key):
        return QuickAppliance(True, "none yet: the next appliance builds it, or `p2v doctor --build-appliance`")
    size = format_bytes(sum(allocated_bytes(file) for file in store.path(key).iterdir()))
    started = "has started here" if store.works(key, answer.accelerator) else "has not started yet"
    return QuickAppliance(True, f"{store.path(key)} ({size}) {started}")


def _parts(runner: Runner) -> Parts | None:
    said = json.loads(runner.run([sys.executable, "-c", _LOOK, "version", "path"], timeout=_SECONDS).stdout)
    version, path = said["version"], said["path"]
    if not isinstance(version, str) or not isinstance(path, str):
        raise ValueError("libguestfs does not say where it looks for its appliance")
    folder = supermin_folder(path)
    return Parts(version, folder) if folder else None


def try_again(store: Store | None = None) -> None:
    """Forget what was found against building it, or starting it."""
    store = store or default_store()
    for path in store.folder.glob("*"):
        store.forget_reason(path.name.partition(".")[0])


def remove(store: Store | None = None) -> int:
    """Remove every quick appliance of this user's; how many there were. Raises ApplianceKept."""
    store = store or default_store()
    try:
        return store.remove_all(_REMOVE_SECONDS)
    except (OSError, Untrusted) as error:
        raise ApplianceKept(store.folder, str(error)) from error
