"""Folders of a file system mounted for themselves in the appliance: libguestfs has no call for bind mounts.

Shell, run by the appliance's own shell with the appliance's own programs; nothing of the guest's is run. The whole file
system stands at a place outside of the guest's tree meanwhile.
"""

from __future__ import annotations

import hashlib
import shlex

from drivers.facts import Mount

_STAGES = "/tmp/p2v-mounts"
# where libguestfs keeps the guest's tree
_TREE = "/sysroot"


def bind_script(device: str, mount: Mount, options: str) -> str:
    """What mounts ``mount.folder`` and prints 0 last; else what is wrong, and another number.

    ``device``: a shell pattern of the appliance kernel's name; ``options``: of the mount as a whole.
    """
    stage = f"{_STAGES}/{hashlib.sha256(f'{device} {options}'.encode()).hexdigest()[:16]}"
    folder = shlex.quote(f"{stage}/{mount.folder.strip('/')}")
    point = shlex.quote(f"{_TREE}{mount.mountpoint.rstrip('/')}")
    return f"""(
set -e
device=$(readlink -f {device} | sort -u)
mkdir -p {stage}
grep -q " {stage} " /proc/mounts || mount -o {shlex.quote(options)} "$device" {stage}
# the guest's links must not lead to what is the appliance's own
for path in {folder} {point}; do
    if ! [ -d "$path" ] || [ "$(readlink -f "$path")" != "$path" ]; then echo "$path is no folder"; exit 1; fi
done
mount --bind {folder} {point}
) 2>&1; echo $?"""


def release_script() -> str:
    """What unmounts the file systems that stood outside of the guest's tree, the tree being unmounted."""
    return f"for each in {_STAGES}/*; do if [ -d $each ]; then umount $each && rmdir $each; fi; done; sync"
