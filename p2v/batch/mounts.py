"""What is mounted where on this host, and which server a network's file system is of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from p2v.core.block_devices import kernel_text, mounts_in

MOUNTS = Path("/proc/self/mountinfo")
# the last two lines: what several hosts, or guests of one host, can mount at once
_NETWORKS = re.compile(
    r"nfs4?|cifs|smb3|smbfs|9p|ceph|glusterfs|lustre|gpfs|afs|beegfs|fuse\.(sshfs|glusterfs|s3fs|rclone)"
    r"|ocfs2|gfs2|orangefs|pvfs2|coda|ncpfs|virtiofs|vboxsf|prl_fs|fuse\.(ceph|ceph-fuse|mfs|moosefs|lizardfs|juicefs)"
    r"|fuse\.(vmhgfs-fuse|gcsfuse|davfs|cvmfs2|beegfs|seaweedfs|curlftpfs|smbnetfs)"
)
_SHARE = re.compile(r"[/\\\\]{2}(?:[^/@\\\\]*@)?(?P<host>[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.%]+\]?)(?:[/\\\\].*)?")
_REMOTE = re.compile(r"(?:[^@:/]*@)?(?P<host>\[[^\]/]+\]|[A-Za-z0-9._-]+):.*")
# of these, what is mounted is called HOST:PATH
_COLON = re.compile(r"nfs4?|ceph|glusterfs|fuse\.(sshfs|glusterfs)")


@dataclass(frozen=True, slots=True)
class Mounts:
    """What is mounted where, the last of several at one place only: place, kind, source."""

    points: Mapping[str, tuple[str, str]]

    @classmethod
    def of(cls, text: str | None = None) -> Mounts:
        """Of what stands in /proc/self/mountinfo (https://docs.kernel.org/filesystems/proc.html, section 3.5); nothing where that
        cannot be read.
        """
        found = mounts_in(kernel_text(MOUNTS) if text is None else text)
        return cls({mount.point: (mount.kind, mount.source) for mount in found})

    def point_of(self, path: Path) -> str:
        """Where what a path is on is mounted, by its words alone: nothing is asked, so links are not followed."""
        return self._above(os.path.abspath(path))

    def network_of(self, path: Path) -> tuple[str, str]:
        """Kind and source of the network's file system that a path is on; empty where it is on none. The path's links are followed,
        so a mount may be asked.
        """
        kind, source = self.points.get(self._above(os.path.realpath(path)), ("", ""))
        return (kind, source) if _NETWORKS.fullmatch(kind) else ("", "")

    def server_of(self, path: Path) -> str:
        """The name of the server that a path's bytes come from, as it was mounted; empty where there is none."""
        return server_name(*self.network_of(path))

    def _above(self, place: str) -> str:
        while place not in self.points and place != "/":
            place = os.path.dirname(place)
        return place


def server_name(kind: str, source: str) -> str:
    """Whom a mount is of: ``host:/path`` (also ``[address]:/path``, ``user@host:path``), ``//host/share``; empty: nobody knows."""
    share = _SHARE.fullmatch(source)
    found = share or (_REMOTE.fullmatch(source) if _COLON.fullmatch(kind) else None)
    return found["host"].strip("[]") if found is not None else ""
