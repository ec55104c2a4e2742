"""``--new-identity``: what makes a machine a machine of its own, for a copy that will run beside its source.

The machine id is emptied: systemd makes a new one at the next boot and, other than with a missing file, does not take
that boot for the first one of a new installation (machine-id(5), "First Boot Semantics"). D-Bus has a copy, which
systemd would take back.
Host keys of SSH go; most distributions make missing ones when sshd starts, Debian's do so only when the package is
installed, so there a unit does it at the first boot. Seeds of random numbers go, so that two machines do not share one.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.changes import Change, DeleteFile, EditFile, MakeSymlink
from drivers.facts import GuestFacts
from drivers.linux.contribution import Contribution
from drivers.linux.desired import deletion
from drivers.linux.firstboot import Unit
from drivers.linux.paths import TEXT_BYTES_AT_MOST
from drivers.plan import Finding

MACHINE_ID = "/etc/machine-id"
DBUS_ID = "/var/lib/dbus/machine-id"
TEXTS = (MACHINE_ID, DBUS_ID)
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
    changes = [*_machine_id(facts), *(secret for secret in secrets if secret.path in SEEDS)]
    keys: list[Change] = [secret for secret in secrets if secret.path not in SEEDS]
    warnings: list[Finding] = []
    if keys and facts.os is not None and facts.os.family in _KEYS_AT_INSTALLATION:
        if facts.os.init == "systemd":
            keys += KEYS_UNIT.changes(facts, f"{_WHY}: the guest makes the keys that were deleted")
        else:
            keys = []
            message = "the SSH host keys stay: without systemd this guest does not make new ones by itself"
            hint = "In the guest: rm /etc/ssh/ssh_host_*; ssh-keygen -A; then restart sshd."
            warnings.append(Finding("linux.identity.host-keys", message, hint))
    return Contribution((*changes, *keys), tuple(warnings))


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
