"""Throws a hibernated Windows' session away, before its file system is mounted for anything else.

ntfs-3g mounts such a file system for reading only, whatever it was asked for, unless it is told to remove the session's file
(ntfs-3g(8), ``remove_hiberfile``). So the expectation is looked at first, on one that is mounted for reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from drivers.appliance import Appliance
from drivers.appliance_tree import ApplianceTree
from drivers.changes import Change, DiscardHibernation
from drivers.expectations import Expectations, Verdict
from drivers.facts import Mount


def discard_sessions(appliance: Appliance, root: Mount, changes: Sequence[Change]) -> frozenset[Change]:
    """Those of the changes that are made with this; nothing is mounted before and after. Raises PlanStale, ApplianceFailed."""
    wanted = [change for change in changes if isinstance(change, DiscardHibernation)]
    if not wanted:
        return frozenset()
    appliance.mount([root], read_only=True)
    verdicts = Expectations(ApplianceTree(appliance), {}).verdicts(wanted)
    appliance.umount()
    if Verdict.MAKE not in verdicts:
        return frozenset()
    appliance.mount([root], read_only=False, discarding=True)
    tree = ApplianceTree(appliance)
    # a file whose contents were not copied is no session, and stays for those who make the other changes
    made = frozenset(each for each in wanted if not tree.exists(each.path))
    appliance.umount()
    return made
