"""What NTLDR starts: boot.ini of Windows NT 4.0 to Server 2003 must lead to Windows' partition on these disks. Pure."""

from __future__ import annotations

from drivers.changes import EditFile
from drivers.facts import GuestFacts, Partition
from drivers.plan import Finding
from drivers.windows import boot_ini
from drivers.windows.boot_entries import named_boot
from drivers.windows.boot_facts import WindowsBoot
from drivers.windows.contribution import WindowsContribution
from drivers.windows.facts import WindowsFacts
from drivers.windows.places import named, root_partition

WHY = "the default of boot.ini does not lead to the partition that Windows is on"
WHY_DRIVER = "the default of boot.ini goes through a driver for the old machine's controller (NTBOOTDD.SYS)"
_ID = "windows.boot-ini"


def contribute(facts: GuestFacts, windows: WindowsFacts) -> WindowsContribution:
    """The edit of boot.ini, or why there is none."""
    boot, root = windows.boot, root_partition(facts)
    if boot is None or root is None:
        return _blocked("no partition of its disks has boot.ini, so nothing starts it", _by_hand(None))
    number = boot_ini.arc_number(facts.partitions, root)
    if number is None:
        return _blocked(f"boot.ini cannot name {named(root)}, which is in no partition table", _by_hand(None))
    wanted = boot_ini.arc_text(root.disk, number, windows.system_root.replace("/", "\\"))
    where = named_boot(facts, boot)
    if boot.boot_ini is None:
        # NTLDR goes by its own default then: the first partition
        if number == 1 and root.disk == 0:
            return WindowsContribution()
        return _blocked(f"there is no boot.ini on {where}, and Windows is not on the first partition", _by_hand(wanted))
    default = boot_ini.default_path(boot.boot_ini)
    path = boot_ini.parse(default)
    if path is None:
        return _blocked(f"boot.ini on {where} starts {default or 'nothing'}, which is no partition", _by_hand(wanted))
    if not path.needs_driver and boot_ini.partition_at(facts.partitions, path) == root and _is_root(path, windows):
        return WindowsContribution()
    return _edit(facts, boot, path, wanted, root)


def _edit(
    facts: GuestFacts, boot: WindowsBoot, path: boot_ini.ArcPath, wanted: str, root: Partition
) -> WindowsContribution:
    where, text = named_boot(facts, boot), boot.boot_ini or ""
    elsewhere = boot_ini.partition_at(facts.partitions, path)
    if not path.needs_driver and elsewhere is not None and elsewhere != root:
        message = f"boot.ini on {where} starts {path.text}, which is {named(elsewhere)}, and Windows is on {named(root)}"
        return _blocked(message, _by_hand(wanted))
    after = boot_ini.with_path(text, path.text, wanted)
    if not boot.mountpoint or boot.dirty or boot_ini.default_path(after) != wanted:
        return _blocked(f"boot.ini on {where} starts {path.text}, and cannot be edited there", _by_hand(wanted))
    why = WHY_DRIVER if path.needs_driver else WHY
    return WindowsContribution(changes=(EditFile(boot.boot_ini_path, text, after, why),))


def _is_root(path: boot_ini.ArcPath, windows: WindowsFacts) -> bool:
    return path.folder.replace("\\", "/").lower() == windows.system_root.lower()


def _by_hand(wanted: str | None) -> str:
    if wanted is None:
        return "Repair its boot files where it is (the recovery console's `bootcfg /rebuild`, `fixboot`)."
    return f"Edit boot.ini where it is: its default is to be {wanted}."


def _blocked(message: str, hint: str) -> WindowsContribution:
    return WindowsContribution(blockers=(Finding(_ID, message, hint),))
