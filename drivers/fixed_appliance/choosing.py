"""Which appliance a launch uses: the quick one of this host's packages, built when there is none, or libguestfs' own.

Nothing here stops a launch: where the quick one cannot be had, it is told why and the usual one is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.fixed_appliance.building import build
from drivers.fixed_appliance.kernel import Unsuitable
from drivers.fixed_appliance.parts import Parts, fingerprint
from drivers.fixed_appliance.store import Store, Untrusted
from p2v.core.acceleration import Accelerator
from p2v.core.errors import P2vError
from p2v.core.events import Reporter, Warned, phase
from p2v.core.run import Runner
from p2v.core.workspace import cache_folder

VARIABLE = "P2V_APPLIANCE"
"""In the environment: ``plain`` for libguestfs' own appliance, however long it takes to start."""
PLAIN = "plain"
_ARCHITECTURE = "x86_64"
# Others build for some seconds; who waits longer for them starts the usual one.
_WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Quick:
    """A quick appliance for one launch. ``proved``: it has started under this accelerator before."""

    store: Store
    key: str
    accelerator: Accelerator
    proved: bool

    @property
    def folder(self) -> Path:
        """What libguestfs' search path is set to."""
        return self.store.path(self.key)

    def note_works(self) -> None:
        """It has started."""
        self.store.note_works(self.key, self.accelerator)

    def note_failed(self, reason: str) -> None:
        """It did not start, and the usual one did. One that had started before was not to blame."""
        if not self.proved:
            self.store.note_reason(self.key, f"it did not start: {reason}", self.accelerator)


def default_store() -> Store:
    """The store in this user's cache folder."""
    return Store(cache_folder() / "appliances")


def wanted(architecture: str | None = None) -> bool:
    """Whether quick appliances are used at all: on hosts of one architecture, unless the environment says otherwise."""
    return os.environ.get(VARIABLE) != PLAIN and (architecture or os.uname().machine) == _ARCHITECTURE


@contextmanager
def quick_appliance(
    parts: Parts | None, accelerator: Accelerator, runner: Runner, report: Reporter, store: Store | None = None
) -> Iterator[Quick | None]:
    """The quick appliance, built if need be, which nobody removes in this context; None where the usual one is to be used.

    ``parts`` is None where libguestfs has an appliance that somebody built themselves.
    """
    store = store or default_store()
    with ExitStack() as stack:
        quick = None
        if parts is not None and wanted():
            try:
                quick = _found_or_built(parts, accelerator, runner, report, store, stack)
            except (OSError, P2vError, Unsuitable, Untrusted) as error:
                words = error.sentence() if isinstance(error, P2vError) else str(error)
                report(Warned(f"the appliance that starts quicker is not used, which costs some seconds: {words}"))
        yield quick


def _found_or_built(
    parts: Parts, accelerator: Accelerator, runner: Runner, report: Reporter, store: Store, stack: ExitStack
) -> Quick | None:
    key = fingerprint(parts)
    store.make()
    store.require_trust()
    if store.reason_against(key, accelerator) is not None:
        return None  # told when it was found out, and by the doctor
    for _ in range(2):
        held = stack.enter_context(ExitStack())
        held.enter_context(store.locked(_WAIT_SECONDS, alone=False))
        if store.is_whole(key):
            return Quick(store, key, accelerator, store.works(key, accelerator))
        held.close()
        with store.locked(_WAIT_SECONDS, alone=True):
            if not store.is_whole(key):
                with phase(report, "appliance-build", "Building an appliance that starts quicker"):
                    build_into(store, key, parts, runner)
    return None  # removed by somebody as soon as it was built


def build_into(store: Store, key: str, parts: Parts, runner: Runner) -> None:
    """Build the appliance of these parts, and remove old ones. With the lock held alone.

    Raises Unsuitable (which is remembered), ProgramFailed, ProgramTimedOut, ToolMissing, NoSpace, OSError.
    """
    store.remove_old(key)
    with store.building() as folder:
        try:
            build(parts, folder, runner)
        except Unsuitable as error:
            store.note_reason(key, f"it cannot be built: {error}")
            raise
        store.take_in(folder / "fixed", key)
