"""A network of this thread's own, so that interfaces which come and go in a test are nobody else's.

Chromium gives up what it is loading when an interface of its network comes or goes (ERR_NETWORK_CHANGED), and
tests with Chromium run beside these.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# unshare(2), setns(2): a network namespace. os.unshare() is there from Python 3.12 on.
_CLONE_NEWNET = 0x40000000

_NAMESPACE = Path("/proc/thread-self/ns/net")


@contextmanager
def own_network() -> Iterator[None]:
    """Have an empty network with a loopback interface; where the kernel refuses it, the machine's.

    It holds for the calling thread, the threads that it starts and the programs that these start. Where a
    namespace is refused, interfaces cannot be made either.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(_NAMESPACE, os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            yield
            return
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
    finally:
        os.close(before)
