"""Doorbells: how an append wakes the threads that wait for the log, here and in other processes.

A doorbell is a file descriptor that becomes readable when a ringer writes to it. So the pump waits for it in the
same ``select`` as for its sockets. Ringing carries no data: the woken thread reads the log. One thread waits on a
doorbell and clears it; any thread of any process may ring it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import termios
import threading
import weakref
from collections.abc import Collection
from contextlib import suppress

from .folder_state import FolderState, settled_state

# One read takes all rings that a pipe can hold (64 KiB on Linux). Many rings mean the same as one.
_DRAIN_BYTES = 65536

# The bytes of a ring, and of one for an event that this process has appended. A pipe with fewer bytes than these
# was never full.
_RING, _OWN = b"\0", b"\1"
_CERTAIN_BYTES = 1024

# The kernel puts the number of bytes in a pipe into a C int.
_NO_BYTES = bytes(4)


class Doorbell:
    """A doorbell inside one process: a pipe.

    :ivar closed: whether it was closed; then no thread waits on it any more.
    """

    closed = False
    _read = _write = -1  # until they are open

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._read

    def ring(self) -> None:
        """Wake the waiting thread. This takes no lock, so a signal handler may call it."""
        # A full pipe is readable already.
        with suppress(BlockingIOError):
            os.write(self._write, _RING)

    def is_rung(self) -> bool:
        """Whether it has rung and was not cleared since. Any thread."""
        return any(fcntl.ioctl(self._read, termios.FIONREAD, _NO_BYTES))

    def clear(self) -> bool:
        """Forget the rings so far. Call it before you read the log, so that no later ring is lost.

        Returns whether it is certain that only appends of this process have rung.
        """
        try:
            rings = os.read(self._read, _DRAIN_BYTES)
        except BlockingIOError:
            return False
        # If it was full, it may have lost rings.
        return len(rings) < _CERTAIN_BYTES and rings.count(_OWN) == len(rings)

    def close(self) -> None:
        """Close it; idempotent."""
        self.closed = True

    def __del__(self) -> None:
        # Not in close(): the system gives a closed descriptor's number to the next socket. A thread that is just
        # ringing must never write to that. Its reference to this object keeps the pipe open.
        for descriptor in {self._read, self._write} - {-1}:
            os.close(descriptor)


def make_folder(folder: str, mode: int) -> None:
    """Make a log's folder of doorbells if it is missing. Users who may write the log's file may add to the folder.

    :param folder: its path.
    :param mode: permission bits of the log's file.
    :raises OSError: it cannot be made.
    """
    try:
        os.mkdir(folder)  # not the folder above it, which may have been moved away just now
    except FileExistsError:
        if not os.path.isdir(folder):
            raise
    with suppress(PermissionError):
        os.chmod(folder, mode | (mode & 0o444) >> 2)


class FifoDoorbell(Doorbell):
    """A doorbell for all processes of a machine: a FIFO in the log's folder of doorbells.

    :param folder: the folder, made if it is missing.
    :param mode: permission bits of folder and FIFO, those of the log's file: users who may append may ring.
    :ivar name: the FIFO's name in the folder.
    :raises OSError: the folder cannot be written.
    """

    def __init__(self, folder: str, mode: int) -> None:
        make_folder(folder, mode)
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        hidden = os.path.join(folder, f".{name}")
        self.name = name
        self._path = os.path.join(folder, name)
        os.mkfifo(hidden)
        try:
            # Read and write: a FIFO without a writer would be readable (end of file) all the time.
            self._read = self._write = os.open(hidden, os.O_RDWR | os.O_NONBLOCK)
            os.chmod(hidden, mode)
            # Ringers see it only now: a FIFO that no process reads yet looks like that of a dead process.
            os.rename(hidden, self._path)
        except OSError:
            os.unlink(hidden)
            raise

    def close(self) -> None:
        """Close it and remove the FIFO; idempotent."""
        if not self.closed:
            self.closed = True
            with suppress(OSError):
                os.unlink(self._path)


class Ringer:
    """Rings every doorbell in a folder and those of :meth:`add`. Removes the doorbells of processes that died.

    :param folder: the folder of doorbells; it need not exist yet.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        # Guards the three below. Held during non-blocking calls only.
        self._lock = threading.Lock()
        self._descriptors: dict[str, int] = {}
        self._names: list[str] = []
        self._state: FolderState | None = None  # the folder's, when it had these names
        self._added: tuple[weakref.ref[Doorbell], ...] = ()

    def add(self, doorbell: Doorbell) -> None:
        """Ring this doorbell of the same process, too, while an object refers to it."""
        with self._lock:
            self._added = (*(added for added in self._added if added() is not None), weakref.ref(doorbell))

    def ring(self, own: Collection[str] = ()) -> None:
        """Wake all processes. This never blocks and never fails: readers look at the log now and then anyway.

        :param own: names of doorbells that get the ring for an event of this process; default none.
        """
        with self._lock:
            self._look()
            for name in self._names:
                try:
                    if name in self._descriptors or self._open(name):
                        os.write(self._descriptors[name], _OWN if name in own else _RING)
                except OSError as error:
                    # EAGAIN: it is full, so it has rung. ENXIO on open, EPIPE on write: its reader is dead.
                    if error.errno in (errno.ENXIO, errno.EPIPE):
                        self._remove(name)
        for added in self._added:
            doorbell = added()
            if doorbell is not None:
                doorbell.ring()

    def _look(self) -> None:
        """Read the names of the doorbells, unless the folder is the same as before. With the lock held."""
        state = settled_state(self._folder)
        if state is not None and state == self._state:
            return
        self._state = state
        try:
            self._names = [name for name in os.listdir(self._folder) if name[0] != "."]
        except OSError:
            self._names = []
        for gone in self._descriptors.keys() - self._names:
            os.close(self._descriptors.pop(gone))

    def _open(self, name: str) -> bool:
        """Open a doorbell; returns whether it is one, and not a file of another user or program."""
        path = os.path.join(self._folder, name)
        if not _is_fifo(path):
            return False
        self._descriptors[name] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        if not stat.S_ISFIFO(os.fstat(self._descriptors[name]).st_mode):  # it was replaced since then
            os.close(self._descriptors.pop(name))
            return False
        return True

    def _remove(self, name: str) -> None:
        """Remove a doorbell whose reader is dead."""
        if name in self._descriptors:
            os.close(self._descriptors.pop(name))
        path = os.path.join(self._folder, name)
        with suppress(OSError):
            if _is_fifo(path):
                os.unlink(path)

    def close(self) -> None:
        """Close the descriptors; idempotent."""
        with self._lock:
            while self._descriptors:
                os.close(self._descriptors.popitem()[1])

    def after_fork_in_child(self) -> None:
        """Close the descriptors and make a new lock: a thread that stayed with the parent may hold the old one."""
        self._lock = threading.Lock()
        self._state = None
        self.close()


def _is_fifo(path: str) -> bool:
    return stat.S_ISFIFO(os.lstat(path).st_mode)
