"""cloud-init, which looks for the cloud that the guest has left (https://docs.cloud-init.io).

Without its metadata service it may wait minutes at every start; then, taking the machine for a new one, it would write
network configuration and replace the SSH host keys. So it is given the sources that can be on any machine: with none of them
there its generator leaves it out, and with a seed it works. Network files, host name and host keys stay in any case.
"""

from __future__ import annotations

from drivers.facts import GuestFacts
from drivers.linux.contribution import Contribution
from drivers.linux.desired import written
from drivers.plan import Finding, PlanOptions

FOLDER = "/etc/cloud/cloud.cfg.d"
CONFIG = f"{FOLDER}/99_p2v.cfg"
NETWORK_CONFIG = f"{FOLDER}/99_p2v-network.cfg"
DISABLED = "/etc/cloud/cloud-init.disabled"
LAST_SOURCE = "/var/lib/cloud/instance/datasource"
TEXTS = (CONFIG, NETWORK_CONFIG, DISABLED, LAST_SOURCE)
"""The other files below /etc/cloud may hold passwords."""

WHY = "cloud-init would wait for the old cloud's metadata service, then configure the machine as a new one"
TEXT = """\
# Made by p2v when this machine was moved to KVM. It is the same machine: its network, name and keys stay.
datasource_list: [ NoCloud, ConfigDrive, None ]
network: {config: disabled}
preserve_hostname: true
ssh_deletekeys: false
"""

WHY_NETWORK = "cloud-init would write the network's configuration anew, as the machine had it before"
NETWORK_TEXT = """\
# Made by p2v when this machine was moved to KVM, with other network addresses.
network: {config: disabled}
"""

# sources that are on the guest's own disks, or that KVM can offer
_LASTING = ("DataSourceNoCloud", "DataSourceConfigDrive", "DataSourceNone", "DataSourceOpenStack")


_NOTHING = PlanOptions()


def contribute(facts: GuestFacts, options: PlanOptions = _NOTHING) -> Contribution:
    """Its new list of sources, where it is used and came from a cloud; hands off the network where ``options`` change that."""
    last = facts.texts.get(LAST_SOURCE)
    source = last.text.partition(":")[0].strip() if last else ""
    if not _is_enabled(facts):
        return Contribution()
    if not source or source.startswith(_LASTING):
        is_changed = bool(options.mac_changes) or any(options.addressing)
        return Contribution(tuple(written(facts, NETWORK_CONFIG, NETWORK_TEXT, 0o644, WHY_NETWORK)) if is_changed else ())
    message = (
        f"cloud-init was configured by {source[:60]!r}, which is not there on KVM; it will leave the machine as it is"
    )
    warning = Finding(
        "linux.cloud-init.source-left", message, f"Give it a NoCloud seed, or remove {CONFIG} and clean it."
    )
    return Contribution(tuple(written(facts, CONFIG, TEXT, 0o644, WHY)), (warning,))


def _is_enabled(facts: GuestFacts) -> bool:
    by_kernel = facts.boot_loader.starts_with("cloud-init=disabled")
    return FOLDER in facts.folders and DISABLED not in facts.texts and not by_kernel
