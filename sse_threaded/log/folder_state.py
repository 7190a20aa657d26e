"""Whether the entries of a folder are still the same: one call of the system instead of one for each entry."""

from __future__ import annotations

import os
import time
from typing import TypeAlias

# A device, an inode, and the time of the last change in nanoseconds. Each entry that is made, removed, replaced or
# renamed changes this time (POSIX), and no program can set it. Last comes a clock in whole seconds: what the time
# cannot show is found after a second. This is a file system that is mounted over an entry, or that keeps no times.
FolderState: TypeAlias = "tuple[int, int, int, int]"

# Nanoseconds after which the time of a change shows the next change, too. The system takes this time from a clock
# that ticks at least 100 times a second, and some file systems round it to two seconds.
_SETTLED_NS = 3_000_000_000


def settled_state(path: str) -> FolderState | None:
    """Return the state of a folder. While this stays the same, the folder has the same entries.

    Call it before you read the entries, and keep it with them.

    :param path: the folder's.

    It is ``None`` if there is no such folder, or if the folder was changed a moment ago: the next change may then
    not change the state.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    changed = status.st_ctime_ns
    if time.time_ns() - changed <= _SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, changed, int(time.monotonic())
