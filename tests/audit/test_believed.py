"""An audit is believed: what boots after a conversion audits as ready, what does not boot is blocked. Over the sample guests.

Which of them boot, and which do not, is shown by tests/pipeline and tests/verify, which boot them.
"""

from __future__ import annotations

import pytest

from drivers.keys import EVERY, Key
from p2v.audit.document import MachineAudit, Verdict
from tests.audit.small_machines import audited, rules_of
from tests.fixtures import guest_disks
from tests.fixtures.families import FAMILIES
from tests.fixtures.records import Guest
from tests.pipeline.test_families import FIXED, OFTEN

BOOT = (
    "vmware",
    "good-virtio",
    "no-virtio",
    "failed-unit",
    "two-cards",
    # made for nothing else of `make test`: two kernels more, and their initramfses
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("vmware-most", "vmware-two-kernels", "older-default")),
)
BROKEN = ("no-bootloader", "no-root", "panic", "hang", "unknown-os")


def _audit(name: str, keys: tuple[Key, ...] = ()) -> MachineAudit:
    (found,) = audited(*guest_disks(name), one_machine=True, keys=keys).machines
    return found


def _told(machine: MachineAudit) -> str:
    return "\n".join(f"{each.severity.value}: {each.message} [{each.rule}]" for each in machine.findings)


@pytest.mark.parametrize("name", BOOT)
def test_what_boots_after_a_conversion_is_ready(name: str) -> None:
    found = _audit(name)
    assert found.verdict in (Verdict.READY, Verdict.WARNINGS), _told(found)


@pytest.mark.parametrize(
    "guest",
    [pytest.param(each, id=each.name, marks=() if each.name in OFTEN else pytest.mark.matrix) for each in FAMILIES],
)
def test_every_family_that_boots_is_ready_or_says_what_it_could_not_see(guest: Guest) -> None:
    if guest.missing:
        pytest.skip(f"{guest.missing} is not installed (make setup-matrix)")
    found = _audit(guest.name, (Key(EVERY, guest.passphrase),) if guest.passphrase else ())
    if guest.name in FIXED:
        assert found.verdict is Verdict.BLOCKED, _told(found)
    elif "audit.needs-appliance" in rules_of(found):
        assert found.verdict is Verdict.UNKNOWN, _told(found)
    else:
        assert found.verdict in (Verdict.READY, Verdict.WARNINGS), _told(found)


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_boot_is_blocked(name: str) -> None:
    found = _audit(name)
    assert found.verdict is Verdict.BLOCKED, _told(found)


@pytest.mark.parametrize("name", ["empty-disk", "no-os", "dirty-ext4"])
def test_what_could_not_be_looked_into_is_not_ready(name: str) -> None:
    found = _audit(name)
    assert found.verdict in (Verdict.UNKNOWN, Verdict.BLOCKED), _told(found)
