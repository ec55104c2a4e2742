"""Whether a Windows will still be activated on other hardware, by how it was sold. Pure.

Sources: Microsoft, knowledge base article 936607 (DigitalProductId: the channel), "Volume Activation" (KMS, MAK), "OEM Activation
3.0" (a key in the firmware's MSDM table), "System Locked Preinstallation" (SLP: the firmware names its maker, in the SLIC table
since Vista), "Evaluate Windows Server" (evaluation editions).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, WindowsFacts
from drivers.windows.versions import CURRENT_VERSION

_PLATFORM = f"{CURRENT_VERSION}\\SoftwareProtectionPlatform"
# version 4 of the product id: its last but one text; version 3: a number
_CHANNEL_AT, _CHANNEL_BYTES = 1016, 128
_LICENCE_AT = 80
_LICENCES = {0: "Retail", 1: "Retail", 2: "OEM", 3: "Volume"}
_VISTA, _EIGHT = (6, 0), (6, 2)
_ACTIVATE = "Activate it on KVM: `slmgr /dlv` shows how it stands, `slmgr /ato` activates, `slui 4` by telephone."
_OTHER_KEY = "Ask for a licence that may be moved, and enter its key on KVM (`slmgr /ipk KEY`, `slmgr /ato`)."


def channel(windows: WindowsFacts) -> str:
    """How it was sold: ``OEM:SLP``, ``OEM:DM``, ``Volume:MAK``, ``Volume:GVLK``, ``Retail``, ...; empty where nothing tells."""
    software = windows.registry.get(SOFTWARE)
    if software is None:
        return ""
    newest = software.value(CURRENT_VERSION, "DigitalProductId4")
    if newest is not None and len(newest.data) >= _CHANNEL_AT + _CHANNEL_BYTES:
        raw = newest.data[_CHANNEL_AT : _CHANNEL_AT + _CHANNEL_BYTES]
        text = raw.decode("utf-16-le", "replace").split("\0")[0]
        if text and text.isascii() and text.isprintable():
            return text
    if "OEM" in software.text(CURRENT_VERSION, "ProductId").upper():
        return "OEM"
    older = software.value(CURRENT_VERSION, "DigitalProductId")
    if older is not None and len(older.data) >= _LICENCE_AT + 4:
        return _LICENCES.get(struct.unpack_from("<I", older.data, _LICENCE_AT)[0], "")
    return ""


def warnings(windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be done about its activation."""
    sold, kind = channel(windows), channel(windows).upper()
    if kind.startswith("OEM"):
        yield _of_maker(windows, sold)
    elif kind.startswith("VOLUME") and ("GVLK" in kind or "KMSCLIENT" in kind):
        server = windows.registry[SOFTWARE].text(_PLATFORM, "KeyManagementServiceName")[:200]
        where = server or "the one that its domain names"
        message = f"it is activated by a KMS host ({where}), which it has to reach from its new place within 30 days"
        hint = "Nothing, where it reaches that host; else `slmgr /skms HOST`, `slmgr /ato`."
        yield Finding("windows.activation-volume", message, hint)
    elif kind.startswith("VOLUME"):
        message = f"it has a volume licence ({sold}), and new hardware makes it ask for activation again"
        yield Finding("windows.activation-volume", message, f"{_ACTIVATE} A key for many activations (MAK) counts one more.")
    elif kind:
        message = f"it was sold as {sold}, and new hardware makes it ask for activation again"
        yield Finding("windows.activation", message, f"{_ACTIVATE} The licence must not be in use on the old machine any longer.")
    version = windows.version
    if version.edition_id.lower().endswith("eval") or "evaluation" in version.product_name.lower():
        message = "it is an evaluation edition, which shuts down every hour once its time is over, and cannot be activated"
        hint = "`slmgr /dli` says how long it has. Servers become licensed ones by `DISM /online /Set-Edition:... /ProductKey:...`."
        yield Finding("windows.evaluation", message, hint)


def _of_maker(windows: WindowsFacts, sold: str) -> Finding:
    """The maker's licence, which is bound to the machine."""
    if windows.version.number < _VISTA:
        message = (
            f"its licence ({sold}) is bound to the firmware of the machine it was sold with: it may let nobody "
            "log on until activated"
        )
        hint = (
            "Activate it by telephone at the log-on screen, with the key on its label; it may have to be another "
            "key, of no maker."
        )
        return Finding("windows.activation-oem", message, hint)
    is_late = windows.version.number >= _EIGHT
    where = "a key in that machine's firmware" if is_late else "what that machine's firmware says of its maker"
    message = (
        f"its licence ({sold}) is bound to the machine it was sold with, and its activation to {where}: on "
        "KVM it is not activated"
    )
    return Finding("windows.activation-oem", message, _OTHER_KEY)
