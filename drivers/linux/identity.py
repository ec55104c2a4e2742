"""``--new-identity``: what makes a machine a machine of its own, for a copy that will run beside its source.

The machine id is emptied: systemd makes a new one at the next boot and, other than with a missing file, does not take
that boot for the first one of a new installation (machine-id(5), "First Boot Semantics"). D-Bus has a copy, which
systemd would take back. kernel-install puts the id into the arguments of its entries, from where systemd would take it before all
else, so it goes there too; the entries keep their names, which begin with it, by kernel-install's entry token.
Host keys of SSH go; most distributions make missing ones when sshd starts, Debian's do so only when the package is
installed, so there a unit does it at the first boot. Seeds of random numbers go, so that two machines do not share one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from drivers.changes import Change, DeleteFile, EditFile, MakeSymlink, WriteFile
from drivers.facts import GuestFacts
from drivers.linux import boot_entries, grubenv
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.firstboot import Unit
from drivers.linux.paths import TEXT_BYTES_AT_MOST
from drivers.plan import Finding

MACHINE_ID = "/etc/machine-id"
DBUS_ID = "/var/lib/dbus/machine-id"
ENTRY_TOKEN = "/etc/kernel/entry-token"
TEXTS = (MACHINE_ID, DBUS_ID, ENTRY_TOKEN)
LINKS = (DBUS_ID,)
HOST_KEYS = "/etc/ssh/ssh_host_*"
SEEDS = (
    "/var/lib/systemd/random-seed",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/var/lib/misc/random-seed",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
    "/efi/loader/random-seed",
)
DIGESTS = (HOST_KEYS, *SEEDS)
"""Secrets: facts hold their digests only, by which a plan deletes them."""
DIGEST_BYTES_AT_MOST = TEXT_BYTES_AT_MOST

_WHY = "this machine gets an identity of its own"
_WHY_ARGUMENT = f"{_WHY}: the kernel would be told the old machine id"
_WHY_TOKEN = "the boot entries are called by the old machine id, and the guest's next update goes on with them"
_ID = re.compile(r"[0-9a-f]{32}")
# all others make missing keys whenever sshd starts (sshd-keygen, sshd-gen-keys-start, sshdgenkeys, OpenRC's script)
_KEYS_AT_INSTALLATION = frozenset({"debian", "unknown"})

KEYS_UNIT = Unit(
    "p2v-ssh-keys.service",
    """\
# Put here by p2v when this machine was moved to KVM with a new identity; goes away by itself.
[Unit]
Description=New SSH host keys
Before=ssh.service sshd.service
ConditionPathExists=/usr/bin/ssh-keygen

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
ExecStart=-/bin/rm -f {link} {path}
TimeoutStartSec=5min
""",
)


def contribute(facts: GuestFacts) -> Contribution:
    """Everything that a new identity takes; host keys stay, with a warning, where the guest could not make new ones."""
    secrets = [DeleteFile(path, sha256, _WHY) for path, sha256 in sorted(facts.digests.items())]
    changes = [*_machine_id(facts), *_entry_token(facts), *(secret for secret in secrets if secret.path in SEEDS)]
    keys: list[Change] = [secret for secret in secrets if secret.path not in SEEDS]
    warnings = list(_fixed_ids(facts))
    if keys and facts.os is not None and facts.os.family in _KEYS_AT_INSTALLATION:
        if facts.os.init == "systemd":
            keys += KEYS_UNIT.changes(facts, f"{_WHY}: the guest makes the keys that were deleted")
        else:
            keys = []
            message = "the SSH host keys stay: without systemd this guest does not make new ones by itself"
            hint = "In the guest: rm /etc/ssh/ssh_host_*; ssh-keygen -A; then restart sshd."
            warnings.append(Finding("linux.identity.host-keys", message, hint))
    return Contribution((*changes, *keys), tuple(warnings))


def forgotten(facts: GuestFacts, changes: Sequence[Change]) -> tuple[Change, ...]:
    """The changes, after which no kernel is told the old machine id (``systemd.machine_id=``, systemd(1))."""
    found = list(changes)
    argument = _id_argument(facts)
    if argument is None:
        return tuple(found)
    edited = {change.path: index for index, change in enumerate(found) if isinstance(change, EditFile)}
    deleted = {change.path for change in found if isinstance(change, DeleteFile)}
    for path, file in sorted({f.resolved: f for f in facts.texts.values() if argument.search(f.text)}.items()):
        # an environment block keeps its size
        fixed = file.text.startswith(grubenv.SIGNATURE)
        earlier = found[edited[path]] if path in edited else None
        before = earlier.after if isinstance(earlier, EditFile) else file.text
        after = argument.sub(_blanks if fixed else "", before)
        if isinstance(earlier, EditFile):
            found[edited[path]] = replace(earlier, after=after, why=f"{earlier.why}; {_WHY_ARGUMENT}")
        elif path not in deleted:
            found.append(EditFile(path, file.text, after, _WHY_ARGUMENT))
    return tuple(found)


def _blanks(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _id_argument(facts: GuestFacts) -> re.Pattern[str] | None:
    """The argument that tells the guest's own id, with the blanks before it; None where it has none."""
    old = _own_id(facts)
    return re.compile(rf"[ \t]*(?<![\w.-])systemd\.machine_id={old}(?![\w-])") if old else None


def _own_id(facts: GuestFacts) -> str:
    """The guest's machine id; empty where it has none."""
    own = facts.texts.get(MACHINE_ID)
    text = own.text.strip() if own is not None else ""
    return text if _ID.fullmatch(text) else ""


def _fixed_ids(facts: GuestFacts) -> Iterator[Finding]:
    argument = _id_argument(facts)
    for entry in facts.boot_loader.entries if argument is not None else ():
        if argument is not None and argument.search(entry.arguments) and entry.source and entry.source not in facts.texts:
            message = f"{entry.source} tells the guest its old machine id where it cannot be edited, so that id stays"
            hint = "Make the unified kernel image anew in the converted guest, without systemd.machine_id=."
            yield Finding("linux.identity.machine-id-fixed", message, hint)


def _entry_token(facts: GuestFacts) -> Iterator[Change]:
    """kernel-install(8): what the names of entries begin with is the machine id unless this file says otherwise."""
    old = _own_id(facts)
    snippets = [p for p in facts.texts if any(fnmatchcase(p, pattern) for pattern in boot_entries.SNIPPETS)]
    is_ours = any(posixpath.basename(path).startswith(f"{old}-") for path in snippets)
    if old and is_ours and facts.boot_loader.kind == "systemd-boot" and ENTRY_TOKEN not in facts.texts:
        yield WriteFile(ENTRY_TOKEN, f"{old}\n", 0o644, _WHY_TOKEN)


def _machine_id(facts: GuestFacts) -> Iterator[Change]:
    own = facts.texts.get(MACHINE_ID)
    if own is not None and own.text.strip() not in ("", "uninitialized"):
        yield EditFile(own.resolved, own.text, "", f"{_WHY}: systemd makes a new id at the next boot")
    copied = facts.texts.get(DBUS_ID)
    if copied is None or DBUS_ID in facts.links or copied.resolved != DBUS_ID:
        return
    yield deletion(copied, f"{_WHY}: systemd would take D-Bus' copy of the id back")
    if own is not None:
        yield MakeSymlink(DBUS_ID, MACHINE_ID, None, "D-Bus goes by systemd's machine id")
