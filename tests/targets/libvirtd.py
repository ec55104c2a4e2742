"""A real libvirtd of its own: started by hand in a mount namespace, its state on tmpfs, reached by a socket of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from p2v.core.run import background, find_program
from p2v.core.unix_sockets import listens

_SCRIPT = """\
set -e
for d in /etc/libvirt /var/lib/libvirt /run/libvirt /var/cache/libvirt /var/log/libvirt \
	/var/log/swtpm /var/lib/swtpm-localca; do
	mkdir -p $d
	mount -t tmpfs tmpfs $d
done
mkdir -p /etc/libvirt/qemu /var/lib/libvirt/images
# the user and groups that Debian's package would add, which this libvirtd only looks up
{ cat /etc/passwd; echo 'libvirt-qemu:x:0:0::/:/bin/false'; } > /run/libvirt/passwd
{ cat /etc/group; for g in kvm libvirt-qemu libvirt; do grep -q "^$g:" /etc/group || echo "$g:x:0:"; done; } > /run/libvirt/group
mount --bind /run/libvirt/passwd /etc/passwd
mount --bind /run/libvirt/group /etc/group
cat > /etc/libvirt/qemu.conf <<END
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
swtpm_user = "root"
swtpm_group = "root"
END
# it probes every QEMU that it finds, which takes a second each
mkdir "$1/bin"
ln -s "$(command -v qemu-system-x86_64)" "$(command -v qemu-img)" "$1/bin"
for tool in swtpm swtpm_setup swtpm_ioctl swtpm_cert certtool; do
	! command -v $tool >/dev/null || ln -s "$(command -v $tool)" "$1/bin"
done
daemon=$(command -v libvirtd)
# not exec: the first process of the namespace has to reap what the daemon leaves
PATH=$1/bin "$daemon" -f "$1/libvirtd.conf" -p "$1/pid" &
wait
"""
_CONFIGURATION = """\
unix_sock_dir = "{folder}"
auth_unix_rw = "none"
auth_unix_ro = "none"
log_outputs = "3:file:{folder}/log"
"""

ONE_WORKER = pytest.mark.xdist_group("libvirtd")
"""Two libvirts would hand the same port to their guests' screens."""


def why_not() -> str:
    """Why no libvirtd can be started here; empty when it can."""
    missing = [name for name in ("libvirtd", "virsh", "unshare") if find_program(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "needs root"


@contextmanager
def libvirtd(folder: Path) -> Iterator[str]:
    """Start one with its socket in ``folder`` (a short path); its URI. It ends, with all it started, on leaving."""
    (folder / "libvirtd.conf").write_text(_CONFIGURATION.format(folder=folder), "utf-8")
    script = folder / "start"
    script.write_text(_SCRIPT, "utf-8")
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    path = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    with background([*command, "bash", str(script), str(folder)], stderr_file=folder / "stderr", env=path) as daemon:
        address = folder / "libvirt-sock"
        for _ in range(3000):
            if listens(address) or daemon.wait(0.1) is not None:
                break
        if not listens(address):
            raise AssertionError(f"libvirtd did not start: {daemon.stderr_tail()}")
        yield f"qemu+unix:///system?socket={address}"


