"""Where an SQLite store lies: one process at a time sets it up, and not on a network file system."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentcanary.errors import StoreError, StoreRefusedError

# Write-ahead logging needs memory shared by all processes, which none of these gives across machines.
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre"}
    | {"ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)


def file_system(path: Path, mounts: str) -> str:
    r"""The type of the file system that holds ``path``.

    Args:
        path: Absolute, without symbolic links.
        mounts: The text of ``/proc/mounts``.

    >>> file_system(Path("/srv/data/x"), "a / ext4 rw 0 0\nb /srv/data nfs4 rw 0 0\n")
    'nfs4'
    """
    best, found = -1, ""
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        mount = Path(point.encode().decode("unicode_escape"))
        # The last of several mounts on one point is the one that is seen.
        if path.is_relative_to(mount) and len(mount.parts) >= best:
            best, found = len(mount.parts), kind
    return found


def refuse_network_file_system(path: Path) -> None:
    """Refuse a path on a network file system.

    Raises:
        StoreRefusedError: If it is on one.
    """
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return
    kind = file_system(path.resolve(), mounts.read_text("utf-8", "replace"))
    if kind in NETWORK_FILE_SYSTEMS:
        raise StoreRefusedError(
            f"store {path} is on a network file system ({kind}), where SQLite loses data; "
            f"put it on a local disk, or use PostgreSQL"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file beside ``path``, so that one process at a time creates or migrates the store.

    Raises:
        StoreError: If the folder cannot be made or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"store {path} cannot be set up: {error.strerror}: {error.filename}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
