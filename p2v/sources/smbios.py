"""What SMBIOS told a guest of its machine: serial numbers, asset tags, maker and model, as licences hang on them.

Taken is what a description states, and what a hypervisor derives from what it states. What names the old platform itself stays
behind: programs of the guest would take the new machine for one there.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace

from converters.source_file import shown
from p2v.machine import Smbios
from p2v.sources.draft import Draft

# What SMBIOS, QEMU's options and libvirt's schema all take.
_USABLE = re.compile(r"[ -~]{1,255}")
# Asset tags by which a guest's programs know the cloud they run in (cloud-init's ds-identify).
_TAGS_OF_CLOUDS = frozenset({"7783-7084-3265-9085-8269-3286-77", "oraclecloud.com", "amazon ec2", "huaweicloud"})
# Words of makers and models that are a platform's own.
_PLATFORMS = re.compile(
    r"openstack|rhev|ovirt|vmware|virtualbox|innotek|hyper-v|microsoft corp|\bxen\b|\bqemu\b|amazon|google", re.IGNORECASE
)
_OF_THE_MAKER = ("manufacturer", "product", "version", "family")


def smbios_of(draft: Draft, stated: Smbios) -> Smbios:
    """What of the stated strings the machine keeps; what no machine can have is a warning of the draft's."""
    made = replace(stated, **{field.name: _usable(draft, getattr(stated, field.name).strip()) for field in fields(Smbios)})
    if any(_PLATFORMS.search(text) for text in (made.manufacturer, made.product)):
        made = replace(made, **dict.fromkeys(_OF_THE_MAKER, ""))
    if made.asset_tag.lower() in _TAGS_OF_CLOUDS:
        made = replace(made, asset_tag="")
    return made


def _usable(draft: Draft, text: str) -> str:
    if not text or _USABLE.fullmatch(text):
        return text
    draft.warn("smbios", f"the guest was told {shown(text[:80])} of its machine, which is no text that KVM can tell it")
    return ""
