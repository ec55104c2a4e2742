"""What only the running guest can do, done by itself at its first boot: installing and removing packages.

A script runs once, beside the boot and not as a part of it: nothing waits for it, it has its limits in time, it waits for a
network only when it needs packages, it removes itself however it ends, and what it did is in ``LOG``. What failed is told to the
journal as well, and the unit has failed. It is started by
systemd, by OpenRC, by Upstart (init(5)), or by a link of SysV init where links alone decide (Red Hat's; Debian's and SUSE's
insserv keeps an index that only its own program can write). Everything is in the plan as files, with the very commands.

Commands: apt-get(8), dpkg(1), dnf(8), yum(8), rpm(8), zypper(8), apk(8), pacman(8), tdnf(8), xbps-install(1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from drivers.changes import CarryFile, Change
from drivers.facts import GuestFacts, OperatingSystem, Tool
from drivers.linux import tool_catalogue
from drivers.linux.contribution import Contribution
from drivers.linux.desired import linked, written
from drivers.linux.tool_catalogue import AGENT
from drivers.packages import PackageFile, PackageFormat
from drivers.plan import Finding, PlanOptions

SCRIPT = "/etc/p2v-firstboot"
LOG = "/var/log/p2v-firstboot.log"
PACKAGES_FOLDER = "/var/lib/p2v"
_NAME = "p2v-firstboot"
_ODD = re.compile(r"[^A-Za-z0-9.+~-]")
_NAME_AT_MOST = 150
_UNITS = "/etc/systemd/system"
_WANTS = f"{_UNITS}/multi-user.target.wants"
_OPENRC = f"/etc/init.d/{_NAME}"
_OPENRC_LINK = f"/etc/runlevels/default/{_NAME}"
_SYSV = f"/etc/rc.d/init.d/{_NAME}"
_SYSV_LINKS = tuple(f"/etc/rc.d/rc{level}.d/S99{_NAME}" for level in (2, 3, 5))


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that a boot starts; its text may name its own ``{path}`` and ``{link}``, to remove them."""

    name: str
    template: str

    @property
    def path(self) -> str:
        """Where the unit stands."""
        return f"{_UNITS}/{self.name}"

    @property
    def link(self) -> str:
        """By which it is started."""
        return f"{_WANTS}/{self.name}"

    def changes(self, facts: GuestFacts, why: str) -> Iterator[Change]:
        """The unit and its link, as far as they are not there."""
        text = self.template.format(path=self.path, link=self.link)
        yield from written(facts, self.path, text, 0o644, why)
        yield from linked(facts, self.link, self.path, why)


_UNIT = Unit(
    f"{_NAME}.service",
    f"""\
# Put here by p2v when this machine was moved to KVM; goes away by itself.
[Unit]
Description=What p2v left for the first boot

[Service]
# not oneshot: the boot would wait for it
Type=simple
ExecStart=/bin/sh {SCRIPT}
RuntimeMaxSec=30min
""",
)
_OPENRC_SERVICE = f"""\
#!/sbin/openrc-run
# Put here by p2v when this machine was moved to KVM; goes away by itself.
description="What p2v left for the first boot"

depend() {{
	after *
}}

start() {{
	start-stop-daemon --start --background --exec /bin/sh -- {SCRIPT}
}}
"""
_SYSV_SERVICE = f"""\
#!/bin/sh
# chkconfig: 235 99 01
# description: What p2v left for the first boot; goes away by itself.
[ "$1" = start ] && [ -f {SCRIPT} ] && /bin/sh {SCRIPT} </dev/null &
exit 0
"""
_UPSTART = f"/etc/init/{_NAME}.conf"
_UPSTART_JOB = f"""\
# Put here by p2v when this machine was moved to KVM; goes away by itself.
description "What p2v left for the first boot"
start on stopped rc RUNLEVEL=[2345]
# no task: the boot would wait for it
exec /bin/sh {SCRIPT}
"""
# unit p2v-ssh-keys is identity's
UNIT_NAMES = (_UNIT.name, "p2v-ssh-keys.service")
TEXTS = (SCRIPT, *(f"{_UNITS}/{name}" for name in UNIT_NAMES), _OPENRC, _SYSV, _UPSTART)
LINKS = (*(f"{_WANTS}/{name}" for name in UNIT_NAMES), _OPENRC_LINK, *_SYSV_LINKS)


@dataclass(frozen=True, slots=True)
class PackageManager:
    """How packages are asked about, removed and installed; ``$@`` are their names.

    ``install_files``: how files of ``file_format`` are, of which ``$@`` are the paths.
    """

    installed: str
    remove: str
    install: str
    agent: str = AGENT
    file_format: PackageFormat | None = None
    install_files: str = ""


_RPM = 'rpm -q --quiet "$1"'
_DNF = 'if command -v dnf >/dev/null; then dnf -y {0} "$@"; else yum -y {0} "$@"; fi'
_APT = "DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300"
# what lacks something is made whole where there are repositories, else removed: no package stays half installed
_DPKG = f'DEBIAN_FRONTEND=noninteractive dpkg -i -G -E "$@" || {{ {_APT} -f install; return 1; }}'
_RPM_FILES = (PackageFormat.RPM, 'rpm -U --replacepkgs "$@"')
MANAGERS: Mapping[str, PackageManager] = {
    "debian": PackageManager(
        "dpkg-query -W -f '${Status}' \"$1\" 2>/dev/null | grep -q ' installed$'",
        f'{_APT} purge "$@"',
        f'apt-get update && {_APT} install "$@"',
        AGENT, PackageFormat.DEB, _DPKG,
    ),
    "redhat": PackageManager(_RPM, _DNF.format("remove"), _DNF.format("install"), AGENT, *_RPM_FILES),
    "suse": PackageManager(
        _RPM, 'zypper --non-interactive remove "$@"', 'zypper --non-interactive install "$@"', AGENT, *_RPM_FILES
    ),
    "alt": PackageManager(
        _RPM, 'apt-get -y remove "$@"', 'apt-get update && apt-get -y install "$@"', AGENT, *_RPM_FILES
    ),
    "mageia": PackageManager(_RPM, 'urpme --auto "$@"', 'urpmi --auto "$@"', AGENT, *_RPM_FILES),
    "photon": PackageManager(_RPM, 'tdnf -y remove "$@"', 'tdnf -y install "$@"', AGENT, *_RPM_FILES),
    "alpine": PackageManager('apk info -e "$1" >/dev/null', 'apk del "$@"', 'apk add "$@"'),
    "arch": PackageManager(
        'pacman -Q "$1" >/dev/null 2>&1', 'pacman -Rs --noconfirm "$@"', 'pacman -Sy --noconfirm --needed "$@"'
    ),
    "void": PackageManager('xbps-query "$1" >/dev/null', 'xbps-remove -Ry "$@"', 'xbps-install -Sy "$@"', "qemu-ga"),
}  # fmt: skip
"""By family (``OperatingSystem.family``)."""

# Tools that came without a package bring what removes them: program (a pattern) and option.
_UNINSTALLERS: Mapping[str, tuple[str, str]] = {
    "vmware-tools": ("/usr/bin/vmware-uninstall-tools*.pl", "--default"),
    "virtualbox-guest-additions": ("/opt/VBoxGuestAdditions-*/uninstall.sh", "--force"),
}

_HEAD = """\
#!/bin/sh
# Put here by p2v when this machine was moved to KVM: does what follows once, at the first boot, and goes away.
umask 027
exec 3>&1 >>{log} 2>&1 </dev/null
status=0
failed() {{ echo "$*"; echo "p2v, first boot: $*; see {log}" >&3; status=1; }}
finish() {{
	rm -f {own}
	echo "$(date) done"
	exit "$status"
}}
trap finish EXIT
trap 'failed "stopped before everything was done"; exit 1' HUP INT TERM
echo "$(date) p2v: first boot on KVM"
"""
# Other work on packages holds a lock, and repositories answer only some time after the interfaces are up.
_RETRY = """\
retry() {
	tries=0
	until "$@"; do
		tries=$((tries + 1))
		[ "$tries" -lt "${tries_at_most:-20}" ] || return 1
		sleep 15
	done
}
"""
_REMOVE = """\
set --
for name in {names}; do
	if is_installed "$name"; then set -- "$@" "$name"; fi
done
if [ $# -gt 0 ]; then
	echo "removing $*"
	retry remove "$@" || failed "removing $* failed"
fi
"""
_UNINSTALL = """\
for program in {program}; do
	if [ -x "$program" ]; then
		echo "running $program"
		"$program" {option} || failed "$program failed"
	fi
done
"""
_INSTALL = """\
if ! is_installed {name}; then
	echo "installing {name}"
	retry install {name} || failed "installing {name} failed"
fi
"""
# files need no network: what fails twice lacks something
_INSTALL_FILES = """{digests}
if ! is_installed {name}; then
	set -- {paths}
	echo "installing $*"
	tries_at_most=4
	retry install_files "$@" || failed "installing $* failed"
	tries_at_most=
fi
rm -f {paths}
rmdir {folder} 2>/dev/null
"""
_START: Mapping[str, str] = {
    "systemd": "systemctl enable {name}; systemctl start {name}\n",
    "openrc": "rc-update add {name} default; rc-service {name} start\n",
    "sysv": "chkconfig qemu-ga on; service qemu-ga start\n",
    "upstart": "service {name} start\n",
}


def contribute(facts: GuestFacts, options: PlanOptions) -> Contribution:
    """The script, and what starts it; a warning for everything asked for that cannot be done."""
    foreign = [t for t in facts.tools if t.vendor not in tool_catalogue.KEPT_VENDORS] if options.purge_tools else []
    has_agent = any(tool.name == AGENT for tool in facts.tools)
    wants_agent = (options.install_agent or bool(options.agent_packages)) and not has_agent
    unneeded = (_unneeded(),) if options.agent_packages and has_agent else ()
    if not foreign and not wants_agent:
        return Contribution(warnings=unneeded)
    if facts.image is not None and facts.image.seals("/usr/bin"):
        reason = "the guest's packages belong to its image"
        hint = "Remove or add them in the image; or in the converted guest, with rpm-ostree or transactional-update."
        return Contribution(warnings=(_impossible(reason, hint),))
    system = facts.os
    manager = MANAGERS.get(system.family) if system is not None else None
    init = _init(facts)
    if system is None or manager is None or init is None:
        what = "how packages are managed in" if manager is None else "how something is run at the first boot of"
        return Contribution(warnings=(_impossible(f"{what} this guest is not known"),))
    packages = options.agent_packages if wants_agent else ()
    if blockers := tuple(_unfit(packages, system, manager)):
        return Contribution(blockers=blockers)
    steps, left = _removals(foreign)
    if wants_agent:
        steps.append(_installation(manager, packages) + _START[init].format(name=manager.agent))
    warnings = (*unneeded, *left)
    if not steps:
        return Contribution(warnings=warnings)
    script = _script(init, [_functions(manager), _RETRY, *steps])
    return Contribution((*_carried(facts, packages, script), *_changes(facts, init, script)), warnings)


def _impossible(reason: str, hint: str = "Install or remove the packages yourself in the converted guest.") -> Finding:
    return Finding("linux.first-boot.impossible", f"nothing is done at the first boot: {reason}", hint)


def _unneeded() -> Finding:
    message = f"{AGENT} is installed already, so the package files given are not used"
    return Finding("linux.agent-package.unneeded", message, "Leave out --agent-package.")


def _unfit(packages: Sequence[PackageFile], system: OperatingSystem, manager: PackageManager) -> Iterator[Finding]:
    """Why package files cannot be installed in this guest."""
    for package in packages:
        wanted = manager.file_format
        if wanted is not package.format:
            takes = f"takes .{wanted.value} files" if wanted else "has no package files that are known here"
            message = f"{package.path} is a .{package.format.value} file, and {system.name or system.id} {takes}"
            yield Finding("linux.agent-package.format", message, "Give a package made for the guest's distribution.")
        elif system.arch and not package.fits(system.arch):
            message = f"{package.path} is made for {package.arch}, and the guest is {system.arch}"
            yield Finding("linux.agent-package.architecture", message, "Give the package for the guest's architecture.")
    if packages and not any(package.name == manager.agent for package in packages):
        named = ", ".join(package.name for package in packages)
        message = f"none of the package files is {manager.agent} (they are {named})"
        yield Finding("linux.agent-package.missing", message, "Name its file too, with one --agent-package each.")


def _place(package: PackageFile) -> str:
    """Where a package file lies in the guest until it is installed: a name that needs no quoting."""
    name = _ODD.sub("_", f"{package.name}_{package.version}_{package.arch}")[:_NAME_AT_MOST]
    return f"{PACKAGES_FOLDER}/{name}.{package.format.value}"


def _installation(manager: PackageManager, packages: Sequence[PackageFile]) -> str:
    if not packages:
        return _INSTALL.format(name=manager.agent)
    return f"install_files() {{ {manager.install_files}; }}\n" + _INSTALL_FILES.format(
        # by its digests the script stands for the files: where it is there, so are they
        digests="\n".join(f"# {_place(package)}: SHA-256 {package.sha256}" for package in packages),
        name=manager.agent,
        paths=" ".join(_place(package) for package in packages),
        folder=PACKAGES_FOLDER,
    )


def _carried(facts: GuestFacts, packages: Sequence[PackageFile], script: str) -> Iterator[Change]:
    there = facts.texts.get(SCRIPT)
    if there is not None and there.text == script:
        return
    for package in {_place(package): package for package in packages}.values():
        why = f"the guest installs {package.name} {package.version} from it at its first boot"
        yield CarryFile(package.path, package.size, package.sha256, _place(package), 0o600, why)


def _init(facts: GuestFacts) -> str | None:
    system = facts.os
    if system is None:
        return None
    if system.init in ("systemd", "openrc"):
        return system.init
    if system.init == "upstart" and system.family == "debian":
        return "upstart"
    return "sysv" if system.init in ("sysv", "upstart") and system.family == "redhat" else None


def _removals(foreign: Sequence[Tool]) -> tuple[list[str], list[Finding]]:
    """Steps that remove tools, and what is left."""
    names: list[str] = []
    steps: list[str] = []
    left: list[Finding] = []
    for tool in foreign:
        found = [
            name
            for known in tool_catalogue.KNOWN
            if known.name == tool.name
            for name in (*known.packages, *known.other_packages)
        ]
        names += found
        if tool.name in _UNINSTALLERS:
            program, option = _UNINSTALLERS[tool.name]
            steps.append(_UNINSTALL.format(program=program, option=option))
        elif not found:
            message = f"{tool.name} is turned off but not removed at the first boot: its package's name is not known"
            left.append(Finding("linux.first-boot.tool-left", message, "Remove it in the converted guest."))
    if names:
        steps.insert(0, _REMOVE.format(names=" ".join(dict.fromkeys(names))))
    return steps, left


def _functions(manager: PackageManager) -> str:
    return "".join(
        f"{name}() {{ {body}; }}\n"
        for name, body in (
            ("is_installed", manager.installed),
            ("remove", manager.remove),
            ("install", manager.install),
        )
    )


def _script(init: str, steps: Sequence[str]) -> str:
    own = {
        "systemd": (_UNIT.link, _UNIT.path),
        "openrc": (_OPENRC_LINK, _OPENRC),
        "sysv": (*_SYSV_LINKS, _SYSV),
        "upstart": (_UPSTART,),
    }[init]
    return _HEAD.format(log=LOG, own=" ".join((*own, SCRIPT))) + "".join(steps)


def _changes(facts: GuestFacts, init: str, script: str) -> Iterator[Change]:
    why = "only the running guest can install and remove packages"
    yield from written(facts, SCRIPT, script, 0o644, why)
    if init == "systemd":
        yield from _UNIT.changes(facts, why)
    elif init == "openrc":
        yield from written(facts, _OPENRC, _OPENRC_SERVICE, 0o755, why)
        yield from linked(facts, _OPENRC_LINK, _OPENRC, why)
    elif init == "upstart":
        yield from written(facts, _UPSTART, _UPSTART_JOB, 0o644, why)
    else:
        yield from written(facts, _SYSV, _SYSV_SERVICE, 0o755, why)
        for link in _SYSV_LINKS:
            yield from linked(facts, link, f"../init.d/{_NAME}", why)
