"""What Windows has begun and not finished: its set-up, a template, an upgrade, updates. Pure.

Sources: Microsoft, "Windows Setup states" (ImageState), "Sysprep (generalize)", "Windows Setup: SetupType and CmdLine" of the
System\\Setup key; "Uninstall of a feature update" (Windows.old is kept for some days).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts

SET_UP = "its own set-up"
SERVICING = "updates that it is in the middle of"
OLD_WINDOWS = "windows.old"
_STATE = "Microsoft\\Windows\\CurrentVersion\\Setup\\State"
_GENERALIZED = "IMAGE_STATE_GENERALIZE_RESEAL_TO"
_UPGRADE = ("setuphost", "setupcompletefirstboot", "$windows.~bt")


def blockers(windows: WindowsFacts) -> Iterator[Finding]:
    """What has to come to its end where it is."""
    system = windows.registry[SYSTEM]
    if windows.registry[SOFTWARE].text(_STATE, "ImageState").upper().startswith(_GENERALIZED):
        message = (
            "it is a template (sysprep has generalized it), whose first start sets it up anew and forgets what "
            "is prepared for KVM"
        )
        hint = (
            "Convert the machine as it was before sysprep; or start the template where it is, up to the log-on, "
            "and generalize it on KVM."
        )
        yield Finding("windows.generalized", message, hint)
    elif SET_UP in windows.pending and any(word in system.text("Setup", "CmdLine").lower() for word in _UPGRADE):
        message = "an upgrade to another version is under way: its next start goes on with it"
        yield Finding("windows.upgrading", message, "Start it where it is until the upgrade has ended, and shut it down.")
    elif SET_UP in windows.pending:
        message = "Windows has not finished setting itself up"
        yield Finding("windows.set-up", message, "Start it where it is until it asks for a log-on, and shut it down.")


def warnings(windows: WindowsFacts) -> Iterator[Finding]:
    """What goes on at the next start."""
    for what in windows.pending:
        if what != SET_UP:
            hint = "It goes on at the first start on KVM, which then takes longer; better, restart it once before."
            if what == SERVICING:
                hint = (
                    "Restart it where it is until that has ended: what it does to drivers and services comes after what "
                    "is prepared."
                )
            yield Finding("windows.pending", f"it has not finished: {what}", hint)
    if OLD_WINDOWS in windows.signs:
        message = (
            "it was upgraded, and the version before is kept (Windows.old): who goes back to that, goes back to "
            "one without these drivers"
        )
        yield Finding("windows.upgraded", message, "Remove the previous version by Disk Clean-up once the converted machine runs.")
