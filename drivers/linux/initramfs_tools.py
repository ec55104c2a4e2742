"""The configuration of Debian's initramfs-tools, so that the guest's own next initramfs finds its disks too."""

from __future__ import annotations

import posixpath
import re

from drivers.changes import EditFile, WriteFile
from drivers.facts import GuestFacts, TextFile
from drivers.linux.contribution import Contribution
from drivers.linux.splice import with_lines

FOLDER = "/etc/initramfs-tools"
MAIN = f"{FOLDER}/initramfs.conf"
CONF_FOLDER = f"{FOLDER}/conf.d"
MODULES = f"{FOLDER}/modules"

# in load order; each takes what it needs with it
NEEDED = ("virtio_pci", "virtio_blk", "virtio_scsi")
WHY = "the guest's next kernel or initramfs must find its disks on KVM as well"
COMMENT = "# Added by p2v when this machine was moved to KVM: disks there need these modules."

_SETTING = re.compile(r"^[ \t]*(?:export[ \t]+)?MODULES=([\"']?)(?P<value>[a-z]+)\1(?=[\s;#]|\Z)", re.MULTILINE)


def settings_files(facts: GuestFacts) -> tuple[TextFile, ...]:
    """The files that set RESUME and MODULES, in the order they are read: later ones win."""
    inside = sorted(path for path in facts.texts if posixpath.dirname(path) == CONF_FOLDER)
    return tuple(facts.texts[path] for path in (MAIN, *inside) if path in facts.texts)


def modules_policy(facts: GuestFacts) -> str:
    """Which modules the guest's initramfs gets: ``most`` (also when nothing says), ``dep``, ``list``, ``netboot``."""
    policy = "most"
    for file in settings_files(facts):
        for match in _SETTING.finditer(file.text):
            policy = match["value"]
    return policy


def plan_modules(facts: GuestFacts) -> EditFile | WriteFile | None:
    """The virtio modules at the end of /etc/initramfs-tools/modules.

    Only where the policy leaves them out or may do so: ``list`` has nothing else, ``netboot`` skips disks,
    ``dep`` asks the machine it runs on, which may be another one (a chroot, a rescue system). ``most`` has them
    all, and stays as it is.
    """
    if FOLDER not in facts.folders or modules_policy(facts) == "most":
        return None
    file = facts.texts.get(MODULES)
    text = file.text if file else ""
    listed = {words[0].replace("-", "_") for line in text.split("\n") if (words := line.split())}
    built_in = [set(kernel.builtin) for kernel in facts.kernels]
    everywhere = set.intersection(*built_in) if built_in else set()
    missing = [name for name in NEEDED if name not in listed and name not in everywhere]
    if not missing:
        return None
    after = with_lines(text, f"{COMMENT}\n" + "".join(f"{name}\n" for name in missing))
    if file is None:
        return WriteFile(MODULES, after, 0o644, WHY)
    return EditFile(file.resolved, text, after, WHY)


def contribute(facts: GuestFacts) -> Contribution:
    """What initramfs-tools is told about modules."""
    change = plan_modules(facts)
    return Contribution((change,) if change else ())
