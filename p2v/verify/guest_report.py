"""The reporter that a boot check puts into the throw-away overlay, and how what it says is read.

It is a systemd unit and a shell script that writes to a second line to the host (on a PC a serial port, elsewhere a
channel of virtio's, as those machines have one serial line only), with programs that every systemd guest has.
Everything it says is the guest's word: parsed strictly, cut to size, never trusted with more than a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from p2v.verify.diagnose import clean
from p2v.verify.evidence import GuestReport, InterfaceAddresses

UNIT_NAME = "p2v-boot-check.service"
UNIT_PATH = f"/etc/systemd/system/{UNIT_NAME}"
WANTED_FOLDER = "/etc/systemd/system/sysinit.target.wants"
SCRIPT_PATH = "/etc/p2v-boot-check"
PORT = "/dev/ttyS1"
CHANNEL = "org.p2v.boot-check"
_CHANNEL_PORT = f"/dev/virtio-ports/{CHANNEL}"
_LONGEST_LIST = 200
_LONGEST_LINE = 500

# Started early and waiting by itself, so that it also speaks where multi-user.target is never reached; left alone when
# emergency.target stops everything else. As a started service it is no job, so the boot can finish around it.
UNIT = f"""\
[Unit]
Description=P2V boot check
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
Type=simple
ExecStart=/bin/sh {SCRIPT_PATH}
StandardInput=null
StandardOutput=null
StandardError=null
"""

_SCRIPT = """\
#!/bin/sh
# Put here by a boot check, in an overlay that is thrown away.
port=%(port)s
mark=%(mark)s
waited=0
while [ "$waited" -lt %(seconds)d ]; do
	state=$(systemctl is-system-running)
	case $state in
	running | degraded | maintenance) break ;;
	esac
	if systemctl --quiet is-active emergency.target || systemctl --quiet is-active rescue.target; then
		break
	fi
	sleep 1
	waited=$((waited + 1))
done 2>/dev/null

# udev makes the name of a channel
[ -c "$port" ] || exit 0
exec >"$port" 2>/dev/null
section() { echo "$mark $1"; }
echo
section begin
section state
systemctl is-system-running
section active
for target in multi-user.target graphical.target emergency.target rescue.target; do
	if systemctl --quiet is-active "$target"; then echo "$target"; fi
done
section root
while read -r _ _ device _ mountpoint rest; do
	if [ "$mountpoint" = / ]; then
		link=$(readlink "/sys/dev/block/$device")
		name=-
		[ -z "$link" ] || name=/dev/${link##*/}
		echo "$name ${rest#* - * }"
	fi
done </proc/self/mountinfo
section addresses
ip -o link show
ip -o addr show
section failed
systemctl list-units --state=failed --plain --no-legend --full --all
section jobs
systemctl list-jobs --plain --no-legend --full
section kernel
uname -r
section messages
dmesg --level=emerg,alert,crit,err
section tpm
for device in /sys/class/tpm/tpm*; do
	if [ -e "$device" ]; then echo "/dev/${device##*/} $(cat "$device/tpm_version_major")"; fi
done
section secureboot
# four bytes of attributes, then 1 or 0; a system without UEFI has none
od -An -j4 -N1 -tu1 /sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c
section serial
cat /sys/class/dmi/id/product_serial
section uptime
cat /proc/uptime
section end
"""


def reporter_script(nonce: str, wait_seconds: int, arch: str = "x86_64") -> str:
    """The shell script; it reports when the boot is over, or after ``wait_seconds`` in any case.

    ``arch``: of the machine it runs on (``TargetHardware.arch``).
    """
    port = PORT if arch == "x86_64" else _CHANNEL_PORT
    return _SCRIPT % {"port": port, "mark": _mark(nonce), "seconds": wait_seconds}


def _mark(nonce: str) -> str:
    return f"P2V-{nonce}"


def parse_report(text: str, nonce: str) -> GuestReport | None:
    """What the reporter wrote to its port; None until all of it is there."""
    sections = _sections(clean(text), _mark(nonce))
    if "end" not in sections:
        return None
    name, source = [*" ".join(sections.get("root", [])[-1:]).split(" "), "", ""][:2]
    uptime = re.match(r"(\d{1,9}(?:\.\d+)?) ", " ".join(sections.get("uptime", [])[:1]))
    return GuestReport(
        state=(sections.get("state", [])[:1] or ["unknown"])[0],
        active=tuple(sections.get("active", [])),
        # Btrfs and others have no block device of their own
        root_device=(source if name == "-" else name) or None,
        root_source=source or None,
        interfaces=_interfaces(sections.get("addresses", [])),
        failed_units=tuple(line.lstrip("●* ").split(" ")[0] for line in sections.get("failed", [])),
        pending_jobs=tuple(_job(line) for line in sections.get("jobs", [])),
        kernel_messages=tuple(sections.get("messages", [])),
        kernel=" ".join(sections.get("kernel", [])[:1]),
        uptime_seconds=float(uptime[1]) if uptime else None,
        tpms=tuple(sections.get("tpm", [])),
        serial_number=" ".join(sections.get("serial", [])[:1]),
        secure_boot={"1": True, "0": False}.get(" ".join(sections.get("secureboot", [])[:1]).strip()),
    )


def _sections(text: str, mark: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in text.splitlines():
        if line.startswith(mark + " "):
            lines = found.setdefault(line.removeprefix(mark + " "), [])
        elif lines is not None and line.strip() and len(lines) < _LONGEST_LIST:
            lines.append(line.strip()[:_LONGEST_LINE])
    return found


def _job(line: str) -> str:
    # "123 apt-daily.service start waiting"
    words = line.split()
    return words[1] if len(words) > 1 else line


def _interfaces(lines: list[str]) -> tuple[InterfaceAddresses, ...]:
    macs: dict[str, str | None] = {}
    addresses: dict[str, list[str]] = {}
    for line in lines:
        if link := re.match(r"\d+: ([^:@\s]+)[:@].*?(?:link/ether ([0-9a-f:]{17})|$)", line):
            macs.setdefault(link[1], link[2])
        elif address := re.match(r"\d+: (\S+)\s+inet6? (\S+)", line):
            addresses.setdefault(address[1], []).append(address[2])
    names = [name for name in {**macs, **addresses} if name != "lo"]
    return tuple(InterfaceAddresses(name, macs.get(name), tuple(addresses.get(name, ()))) for name in names)
