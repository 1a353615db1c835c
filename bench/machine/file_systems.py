"""Which file system a path is on, from the kernel's table of mounts."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
NETWORK = re.compile(
    r"nfs|cifs|smb|9p|afs|lustre|gpfs|beegfs|ceph|glusterfs|fuse\.(sshfs|s3fs|gcsfuse|rclone|davfs)|davfs"
)


def kind(path: Path) -> str:
    """The type of the file system that a path, or its nearest parent that exists, is on, such as ``ext4``; empty: not
    known here."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    place = os.path.realpath(path)
    best, found = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), before.split()[4])
        inside = place == mount or place.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):  # the last mount of a place hides the others
            best, found = mount, after.split()[0]
    return found


def is_network(file_system: str) -> bool:
    """Whether other machines may write to a file system of this type."""
    return NETWORK.match(file_system) is not None
