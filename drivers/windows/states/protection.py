"""What Windows lets run: virtualization-based security, code integrity policies, S mode, write filters. Pure.

Sources: Microsoft, "Enable virtualization-based protection of code integrity" (DeviceGuard's values:
EnableVirtualizationBasedSecurity, Locked, Mandatory; Scenarios), "Configure Credential Guard" (LsaCfgFlags: 1 with UEFI lock, 2
without), "SKUPolicyRequired" (S mode), "Windows Defender Application Control" (SiPolicy.p7b), "Unified Write Filter", "Enhanced
Write Filter", "File-Based Write Filter".
"""

from __future__ import annotations

from collections.abc import Iterator

from drivers.plan import Finding
from drivers.windows.facts import SOFTWARE, SYSTEM, WindowsFacts

POLICY_FILE = "sipolicy.p7b"
_DEVICE_GUARD = "Control\\DeviceGuard"
_POLICY = "Policies\\Microsoft\\Windows\\DeviceGuard"
_FIRST_WITH_VBS = (10, 0)
_DISABLED = 4
_WRITE_FILTERS = {"uwfvol": "uwfmgr filter disable", "fbwf": "fbwfmgr /disable", "ewf": "ewfmgr c: -commitanddisable"}


def blockers(windows: WindowsFacts) -> Iterator[Finding]:
    """What stops it, or what is to prepare it, at its first start."""
    if _on(windows, f"{_DEVICE_GUARD}", "Mandatory") and _uses_vbs(windows):
        message = (
            "its virtualization-based security is mandatory: it does not start where the machine offers no "
            "virtualization of its own"
        )
        hint = (
            "Where it runs: `reg add HKLM\\SYSTEM\\CurrentControlSet\\Control\\DeviceGuard /v Mandatory /t "
            "REG_DWORD /d 0 /f`; copy it then."
        )
        yield Finding("windows.vbs-mandatory", message, hint)
    if _on(windows, "Control\\CI\\Policy", "SkuPolicyRequired"):
        message = "it runs in S mode, which lets neither the drivers' set-up nor the programs of the first start run"
        hint = "Switch out of S mode where it runs (Settings, System, Activation; the Store); it is free."
        yield Finding("windows.s-mode", message, hint)


def warnings(windows: WindowsFacts) -> Iterator[Finding]:
    """What is to be known besides."""
    if windows.version.number >= _FIRST_WITH_VBS and _uses_vbs(windows):
        services = {"memory integrity": _uses_hvci(windows), "Credential Guard": _guards(windows)}
        parts = [name for name, is_on in services.items() if is_on]
        what = f" ({' and '.join(parts)})" if parts else ""
        message = f"virtualization-based security is on{what}, which a machine without nested virtualization runs without"
        hint = (
            "Give the guest the host's processor with vmx or svm, and secure boot, or turn it off where it runs. "
            "With memory integrity, take drivers of a virtio-win medium since 2019: older ones are refused."
        )
        if _guards(windows):
            hint += " What Credential Guard keeps is bound to the old machine: saved passwords are entered again."
        yield Finding("windows.vbs", message, hint)
    filters = [name for name in _WRITE_FILTERS if _filters(windows, name)]
    if filters:
        message = (
            f"it has a write filter ({', '.join(filters)}): where that is on, what the first start does is undone "
            "at the next restart"
        )
        hint = f"Turn it off where it runs (`{_WRITE_FILTERS[filters[0]]}`, restart), convert, and turn it on again on KVM."
        yield Finding("windows.write-filter", message, hint)
    if POLICY_FILE in windows.signs:
        message = (
            "a code integrity policy (SiPolicy.p7b) says what may run: it may refuse the drivers and the service "
            "of the first start"
        )
        hint = "Allow Red Hat's driver signatures in the policy, or set it to audit mode, before it is copied."
        yield Finding("windows.code-integrity-policy", message, hint)


def _uses_vbs(windows: WindowsFacts) -> bool:
    by_policy = windows.registry[SOFTWARE].number(_POLICY, "EnableVirtualizationBasedSecurity") == 1
    return by_policy or _on(windows, _DEVICE_GUARD, "EnableVirtualizationBasedSecurity") or _uses_hvci(windows) or _guards(windows)


def _uses_hvci(windows: WindowsFacts) -> bool:
    by_policy = (windows.registry[SOFTWARE].number(_POLICY, "HypervisorEnforcedCodeIntegrity") or 0) in (1, 2)
    return by_policy or _on(windows, f"{_DEVICE_GUARD}\\Scenarios\\HypervisorEnforcedCodeIntegrity", "Enabled")


def _guards(windows: WindowsFacts) -> bool:
    by_policy = (windows.registry[SOFTWARE].number(_POLICY, "LsaCfgFlags") or 0) in (1, 2)
    by_scenario = _on(windows, f"{_DEVICE_GUARD}\\Scenarios\\CredentialGuard", "Enabled")
    return by_policy or by_scenario or _on(windows, "Control\\Lsa", "LsaCfgFlags")


def _on(windows: WindowsFacts, key: str, name: str) -> bool:
    """Whether a number is not 0 in a set that can be started."""
    system = windows.registry[SYSTEM]
    return any(system.number(f"ControlSet{number:03d}\\{key}", name) for number in windows.control_sets.bootable)


def _filters(windows: WindowsFacts, service: str) -> bool:
    system = windows.registry[SYSTEM]
    keys = (f"ControlSet{number:03d}\\Services\\{service}" for number in windows.control_sets.bootable)
    return any(system.key(key) is not None and system.number(key, "Start") not in (None, _DISABLED) for key in keys)
