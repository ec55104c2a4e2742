"""A Windows that is asleep: blocked, unless the user gives up the session that it keeps. Pure.

What is lost is what was in the memory of its programs, and what Windows had not written yet: NTFS' own structures are
among what fast start-up keeps in memory. Where NTFS' log says so (the file system counts as dirty), nothing can be discarded
here: ntfs-3g does not replay the log, and clears it.

Sources: Microsoft, "Fast startup" (the session of the kernel is kept, those of users are not); ntfs-3g(8), ``remove_hiberfile``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from drivers.changes import DiscardHibernation
from drivers.plan import Finding, PlanOptions
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import WindowsFacts

BLOCKER, DIRTY = "windows.hibernated", "windows.dirty-volume"
_OPTION = "--discard-hibernation"
_WHY = "it is to start anew: what its memory held is of the old machine"
_OR = f"Or give up its session with {_OPTION}: what was not saved in it is lost."


def contribute(windows: WindowsFacts, options: PlanOptions) -> WindowsContribution:
    """The session removed, and what is lost with it; that there is none to discard."""
    if not options.discard_hibernation:
        return WindowsContribution()
    if not _is_discarded(windows, options):
        message = f"{_OPTION} has nothing to do: it is not hibernated"
        return WindowsContribution(warnings=(Finding("windows.option", message),))
    message = (
        "its session is discarded on the target, as asked for: what its programs had not saved, and what Windows had not "
        "written to its disks, is lost, as after a power cut; the source keeps it"
    )
    hint = "Let Windows check its disks after the first start (`chkdsk C:`; from 8 on with `/scan`), also those for data."
    change = DiscardHibernation(windows.hibernation_file, windows.hibernation_bytes, _WHY)
    return WindowsContribution(changes=(change,), warnings=(Finding("windows.session-lost", message, hint),))


def blockers(found: Iterable[Finding], windows: WindowsFacts, options: PlanOptions) -> Iterator[Finding]:
    """What keeps it from being changed, as its state tells, with what was asked for about its session."""
    discarded = _is_discarded(windows, options)
    for each in found:
        if each.id == BLOCKER and discarded:
            continue
        if each.id == BLOCKER and windows.hibernation_file:
            yield replace(each, hint=f"{each.hint} {_OR}")
        elif each.id == DIRTY and discarded:
            hint = f"{_OPTION} is not enough: only Windows itself puts its file system in order. {each.hint}"
            yield replace(each, hint=hint)
        else:
            yield each


def _is_discarded(windows: WindowsFacts, options: PlanOptions) -> bool:
    return options.discard_hibernation and windows.hibernation == "hibernated" and bool(windows.hibernation_file)
