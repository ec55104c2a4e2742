"""Lines of a guest's configuration that go by its machine: names of disks, cards and tapes, host ids of licences. Pure.

What planning reads and speaks of itself is not looked at a second time (``drivers.linux.reading``).

Sources: hier(7) and the distributions' places for scripts; udev(7); multipath.conf(5); systemd.net-naming-scheme(7);
biosdevname(1); the kernel's admin-guide/devices.txt; FlexNet Publisher, "License Administration Guide" (SERVER lines, HOSTID,
kinds of host ids).
"""

from __future__ import annotations

import enum
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from drivers.linux import device_files, old_drivers, paths, reading
from drivers.tree import GuestTree
from p2v.core.text import printable
from p2v.core.units import KIB, MIB

LINES_AT_MOST, LINES_OF_A_FILE = 300, 20
TEXT_LETTERS, _NAME_LETTERS = 160, 80
_FILES_AT_MOST = 600
_FILE_BYTES = 256 * KIB
_BYTES_AT_MOST = 8 * MIB
_LINE_LETTERS = 2000


class LineKind(enum.Enum):
    """What a line goes by."""

    DISK = "disk"
    """A disk's name by order, or by its place."""
    IDENTITY = "identity"
    """What a disk says of itself or its controller: serial number, WWID, model."""
    INTERFACE = "interface"
    DEVICE = "device"
    """Another device: a tape, a serial port, a printer's."""
    MODULE = "module"
    """A driver of hardware that KVM does not have, and its options."""
    LICENCE = "licence"
    """A host id that a licence is bound to."""


@dataclass(frozen=True, slots=True)
class SeenLine:
    """A line that goes by the machine; ``number`` counts from 1. ``name``: what it names; ``text``: cut, without passwords."""

    kind: LineKind
    path: str
    number: int
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class SeenLines:
    """Those found, and how many files were left out for want of room."""

    lines: tuple[SeenLine, ...]
    left_out: int = 0


_DISKS = re.compile(
    r"/dev/(?:(?:sd|hd|xvd)[a-z]{1,3}[0-9]{0,3}|nvme[0-9]{1,3}n[0-9]{1,3}(?:p[0-9]{1,3})?|(?:cciss|ida|rd)/c[0-9]d[0-9]{1,2}(?:p[0-9]{1,3})?"
    r"|dasd[a-z]{1,4}[0-9]?|raw/raw[0-9]{1,3}|mapper/mpath[a-z]{1,3}(?:-?p?(?:art)?[0-9]{1,3})?|disk/by-path/[\w:.+-]{1,200}"
    r"|disk/by-id/(?!dm-|md-|lvm-pv-uuid-)[\w:.+-]{1,200})(?![\w/])"
)
_CARDS = re.compile(
    r"(?<![\w%$-])(?:eth[0-9]{1,3}|en(?:o[0-9]{1,4}|s[0-9]{1,4}|p[0-9]{1,4}s[0-9]{1,3}|x[0-9a-f]{12})(?:f[0-9]{1,3})?(?:np?[0-9]{1,3}|d[0-9]{1,3})?"
    r"|em[1-9][0-9]?|p[0-9]{1,2}p[0-9]{1,2}|wlan[0-9]|wlp[0-9]{1,3}s[0-9]{1,3}|ib[0-9])(?![\w-])"
)
_DEVICES = re.compile(
    r"/dev/(?:n?st[0-9]{1,2}[alm]?|nst|sg[0-9]{1,3}|sch?[0-9]{1,2}|changer|tape(?:/by-id/[\w:.+-]{1,200})?|ttyS[0-9]{1,3}|ttyUSB[0-9]{1,3}"
    r"|ttyACM[0-9]{1,3}|ttyD[0-9A-Za-z]{1,4}|lp[0-9]|usb/\w{1,40}|parport[0-9]|modem|isdn\w{0,10}|capi20|dahdi/\w{1,20}|fd[01]|dvb/\w{1,40})(?![\w/])"
)
_IDENTITIES = re.compile(
    r"(?:\b(?:RESULT|ENV\{(?:ID_SERIAL(?:_SHORT)?|ID_SCSI_SERIAL|ID_WWN\w{0,20}|ID_PATH|DM_UUID)\}|(?:ATTRS?|SYSFS)\{(?:wwid|serial|model|vendor)\}"
    r"|KERNELS|ID)==|^[ \t]*wwid[ \t]+)\"?(?P<name>[^\"\s*?]{4,200})"
)
_KERNEL_NAME = re.compile(
    r"\bKERNEL==\"(?P<name>(?:(?:sd|hd|xvd)[a-z]{1,3}[0-9]{0,3}|nvme[0-9]+n[0-9]+(?:p[0-9]+)?|cciss!c[0-9]d[0-9]+(?:p[0-9]+)?))\""
)
_IS_OF_DISKS = re.compile(r"SUBSYSTEMS?==\"(?:block|scsi)\"|KERNEL==\"(?:sd|hd|xvd|nvme|dm-|cciss)|^[ \t]*wwid[ \t]")
_MODULES = re.compile(
    r"^[ \t]*(?:options|alias[ \t]+\S{1,80})[ \t]+"
    r"(?P<name>qla(?:2xxx|2[0-9]{3}|3xxx)|lpfc|bfa|zfcp|ib_[a-z]{1,20}|mlx[45]_(?:core|ib|en)|vfio[_-]pci|wct\w{2,12}|dahdi|hisax|moxa|mxser|dgap|dgnc|st)(?![\w-])"
)
# only what is shaped as a host id, for there are texts of licences in these folders too
_LICENCES = re.compile(
    r"(?:^[ \t]*SERVER[ \t]+\S{1,200}[ \t]+|\bHOSTID=)\"?"
    r"(?P<name>[0-9A-Fa-f]{8,12}(?![\w-])|[A-Z_]{2,20}=[^\s\"]{1,200}|ANY\b|DEMO\b)"
)
_SECRET = re.compile(
    r"(?i)\b(\w{0,20}(?:passw|passphrase|secret|token|auth_pass|community|credential)\w{0,20})([\s\"']*[=:\s][\s\"']*)[^\s\"';,]+"
)
_PASSWORD_OPTION = re.compile(r"(?i)(--?(?:p|pw|pass|password)[= ]+)\S+")

_SCRIPTS = (LineKind.DISK, LineKind.DEVICE, LineKind.INTERFACE)
_CARD_ONLY = (LineKind.INTERFACE,)
_STORAGE = (LineKind.DISK, LineKind.DEVICE)

PLACES: tuple[tuple[tuple[LineKind, ...], tuple[str, ...]], ...] = (
    (_SCRIPTS, (
        "/etc/rc.local", "/etc/rc.d/rc.local", "/etc/init.d/boot.local", "/etc/init.d/before.local", "/etc/init.d/after.local",
        "/etc/local.d/*.start", "/etc/conf.d/local*", "/etc/crontab", "/etc/anacrontab", "/etc/cron.d/*", "/etc/cron.hourly/*",
        "/etc/cron.daily/*", "/etc/cron.weekly/*", "/etc/cron.monthly/*", "/var/spool/cron/*", "/var/spool/cron/crontabs/*",
        "/var/spool/cron/tabs/*", "/etc/systemd/system/*.service", "/etc/systemd/system/*.service.d/*.conf", "/etc/default/*",
        "/etc/sysconfig/*", "/usr/local/sbin/*", "/usr/local/bin/*", "/etc/NetworkManager/dispatcher.d/*",
        "/etc/network/if-up.d/*", "/etc/network/if-pre-up.d/*", "/sbin/ifup-local", "/sbin/ifup-pre-local", "/root/*.sh",
    )),
    ((*_STORAGE, *_CARD_ONLY), (
        "/etc/snmp/snmpd.conf", "/etc/collectd.conf", "/etc/collectd/collectd.conf", "/etc/nagios/nrpe.cfg", "/etc/nrpe.d/*.cfg",
        "/etc/nagios/nrpe.d/*.cfg", "/etc/monit/monitrc", "/etc/monitrc", "/etc/monit.d/*", "/etc/sysctl.conf",
        "/etc/sysctl.d/*.conf",
    )),
    (_STORAGE, (
        "/etc/kdump.conf", "/etc/docker/daemon.json", "/etc/containers/storage.conf", "/etc/drbd.conf", "/etc/drbd.d/*",
        "/etc/cluster/cluster.conf", "/etc/corosync/corosync.conf", "/etc/tgt/targets.conf", "/etc/tgt/conf.d/*",
        "/etc/target/saveconfig.json",
        "/etc/ietd.conf", "/etc/iet/ietd.conf", "/etc/scst.conf", "/etc/exports", "/etc/hd-idle.conf", "/etc/bacula/*.conf",
        "/etc/bareos/bareos-sd.d/*/*.conf", "/etc/amanda/*/amanda.conf", "/etc/mtx.conf", "/etc/stinit.def", "/etc/sbd.conf",
        "/etc/apcupsd/apcupsd.conf", "/etc/nut/ups.conf", "/etc/ups/ups.conf", "/etc/ser2net.conf", "/etc/conserver.cf",
        "/etc/hylafax/config.*", "/var/spool/hylafax/etc/config.*", "/etc/mgetty+sendfax/mgetty.config", "/etc/lirc/*.conf",
        "/etc/gpsd.conf",
    )),
    ((LineKind.IDENTITY,), ("/etc/udev/rules.d/*.rules", "/etc/multipath.conf", "/etc/multipath/conf.d/*.conf",
        "/etc/scsi_id.config")),
    (_CARD_ONLY, (
        "/etc/iptables/*", "/etc/iptables.rules", "/etc/iptables.up.rules", "/etc/nftables.conf", "/etc/nftables/*.nft",
        "/etc/sysconfig/nftables.conf", "/etc/shorewall/*", "/etc/ufw/*.rules", "/etc/firewalld/zones/*.xml",
        "/etc/firewalld/direct.xml",
        "/etc/sysconfig/SuSEfirewall2", "/etc/keepalived/*.conf", "/etc/ha.d/ha.cf", "/etc/ha.d/haresources", "/etc/ucarp/*.conf",
        "/etc/dhcp/dhcpd.conf", "/etc/dhcp3/dhcpd.conf", "/etc/dhcpd.conf", "/etc/dnsmasq.conf", "/etc/dnsmasq.d/*",
        "/etc/kea/*.conf",
        "/etc/radvd.conf", "/etc/ntp.conf", "/etc/ntpsec/ntp.conf", "/etc/chrony.conf", "/etc/chrony/chrony.conf",
        "/etc/avahi/avahi-daemon.conf",
        "/etc/samba/smb.conf", "/etc/openvpn/*.conf", "/etc/openvpn/server/*.conf", "/etc/wireguard/*.conf", "/etc/quagga/*.conf",
        "/etc/frr/*.conf", "/etc/bird.conf", "/etc/bird/bird.conf", "/etc/ppp/options*", "/etc/ppp/peers/*",
        "/etc/suricata/suricata.yaml",
        "/etc/snort/snort.conf", "/etc/ptp4l.conf", "/etc/linuxptp/*.conf", "/etc/tuned/*/tuned.conf", "/etc/iproute2/rt_tables",
        "/etc/arpwatch.conf", "/etc/igmpproxy.conf", "/etc/vnstat.conf", "/etc/miniupnpd/*.conf", "/etc/hostapd/*.conf",
    )),
    ((LineKind.MODULE,), ("/etc/modprobe.d/*.conf", "/etc/modprobe.d/*", "/etc/modprobe.conf", "/etc/modules.conf")),
    ((LineKind.LICENCE,), (
        "/usr/local/flexlm/*", "/usr/local/flexlm/licenses/*", "/opt/flexlm/*", "/opt/flexlm/licenses/*", "/etc/flexlm/*",
        "/var/flexlm/*",
        "/opt/*/*.lic", "/opt/*/license/*", "/opt/*/licenses/*", "/opt/*/*/licenses/*", "/usr/local/*/*.lic",
        "/usr/local/*/license/*",
        "/usr/local/*/licenses/*",
    )),
)  # fmt: skip
"""What is looked for, and in which files."""

# planning reads these for other things than what is looked for here
_READ_FOR_ELSE = (*device_files.MULTIPATH_CONFIGS, *old_drivers.MODPROBE, *old_drivers.CHRONY)
_TOLD_OF_BY_PLANS = tuple(pattern for pattern in reading.TEXTS if pattern not in _READ_FOR_ELSE)
_BACKUPS = (
    "~",
    ".bak",
    ".old",
    ".orig",
    ".rpmnew",
    ".rpmorig",
    ".rpmsave",
    ".dpkg-old",
    ".dpkg-dist",
    ".dpkg-new",
    ".swp",
)


def find_lines(tree: GuestTree) -> SeenLines:
    """Every line of these files that goes by the machine, within bounds; a file is looked at once for each place it fits."""
    found: list[SeenLine] = []
    seen: dict[str, None] = {}
    left_bytes, left_out = _BYTES_AT_MOST, 0
    for kinds, patterns in PLACES:
        for path in dict.fromkeys(path for pattern in patterns for path in paths.matching(tree, pattern)):
            if path in seen or path.endswith(_BACKUPS) or _is_told_of(path):
                continue
            if len(seen) >= _FILES_AT_MOST or left_bytes <= 0 or len(found) >= LINES_AT_MOST:
                left_out += 1
                continue
            seen[path] = None
            text = _text(tree, path)
            left_bytes -= len(text)
            found += islice(lines_of(path, text, kinds), LINES_OF_A_FILE)
    return SeenLines(tuple(found[:LINES_AT_MOST]), left_out)


def lines_of(path: str, text: str, kinds: tuple[LineKind, ...]) -> Iterator[SeenLine]:
    """The lines of a text that go by something of these kinds; what is remarked out counts for nothing."""
    for number, whole in enumerate(text.split("\n"), start=1):
        line = whole[:_LINE_LETTERS].strip()
        if not line or line[0] in "#;" or line.startswith(("//", "--", "<!--")):
            continue
        line = re.split(r"[ \t]#", line, maxsplit=1)[0]
        for kind in kinds:
            name = _named(kind, line)
            if name:
                yield SeenLine(
                    kind, _cut(path, 400), number, _cut(name, _NAME_LETTERS), _cut(_without_secrets(line), TEXT_LETTERS)
                )


def _named(kind: LineKind, line: str) -> str:
    if kind is LineKind.IDENTITY:
        found = _KERNEL_NAME.search(line) or (_IDENTITIES.search(line) if _IS_OF_DISKS.search(line) else None)
        return found["name"] if found is not None else ""
    pattern = _PATTERNS[kind]
    found = pattern.search(line)
    if found is None:
        return ""
    return found["name"] if "name" in pattern.groupindex else found[0]


_PATTERNS = {
    LineKind.DISK: _DISKS, LineKind.INTERFACE: _CARDS, LineKind.DEVICE: _DEVICES, LineKind.MODULE: _MODULES,
    LineKind.LICENCE: _LICENCES,
}  # fmt: skip


def _text(tree: GuestTree, path: str) -> str:
    """A text; empty for what is none: a program, a folder, something far too large."""
    resolved = paths.resolve(tree, path)
    try:
        if resolved is None or not 0 < tree.lstat(resolved).size <= _FILE_BYTES:
            return ""
        # a program's first bytes say that it is one
        if b"\0" in tree.read_range(resolved, 512, 0):
            return ""
    except FileNotFoundError:
        return ""
    file = paths.read_text(tree, resolved)
    return file.text if file is not None else ""


def _is_told_of(path: str) -> bool:
    return any(p.count("/") == path.count("/") and fnmatch.fnmatchcase(path, p) for p in _TOLD_OF_BY_PLANS)


def _without_secrets(line: str) -> str:
    return _PASSWORD_OPTION.sub(r"\1...", _SECRET.sub(r"\1\2...", line))


def _cut(text: str, letters: int) -> str:
    return printable(text[:letters], keep="")
