"""The process table, and child processes that leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from .errors import ServerFailed

# Seconds between two checks of a condition that no descriptor signals.
POLL_SECONDS = 0.02

# A process cannot refuse SIGKILL. One that still exists after this many seconds hangs in the kernel.
_KILL_SECONDS = 10.0

# Kills the group when this process ends, in whatever way (kill -9, a crash, the time limit of a test runner). Only
# this process holds the pipe open, so then the pipe closes and the read returns.
_GUARD = 'read -r line; kill -s KILL -- "-$1"'


class Process(NamedTuple):
    """One process in the process table."""

    pid: int
    state: str
    parent: int
    group: int


def process_table() -> list[Process]:
    """Return every running process of the machine; needs the ``/proc`` of Linux."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has just ended
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                # The name, in parentheses, may contain spaces and parentheses (proc(5)).
                state, parent, group, *_ = file.read().rpartition(")")[2].split()
            # A killed process whose first thread has ended is shown as a zombie, while its other threads still
            # keep its sockets open.
            if state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1:
                found.append(Process(int(pid), state, int(parent), int(group)))
    return found


class ChildProcess:
    """A running command in a session and a process group of its own, with its output in a file.

    :param command: the program and its arguments.
    :param output: the file for its standard output and standard error.
    :param env: the whole environment.
    :param cwd: the working directory; ``None``: this process's.
    :param pass_fds: descriptors that it inherits beside 0, 1 and 2; default: none.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes],
        env: Mapping[str, str],
        cwd: str | os.PathLike[str] | None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        # In a session of its own it has its own group, which can be killed as a whole. And Ctrl-C reaches only the
        # tests, which then end it.
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            cwd=cwd,
            start_new_session=True,
            pass_fds=pass_fds,
        )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._popen.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Return its exit status (negative: the signal that ended it), or ``None`` while it runs.

        When the process has ended, this kills the rest of its group. It does so once and not later: the number of
        an empty group is free, and another process may get it.
        """
        if self._popen.returncode is None and self._popen.poll() is not None:
            self._kill_group()
        return self._popen.returncode

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its group; does nothing when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the whole group with SIGKILL and wait until it has ended; may be called twice."""
        if self._popen.returncode is None:
            self._kill_group()
            self._popen.wait(_KILL_SECONDS)

    def _kill_group(self) -> None:
        self._guard.kill()
        self._guard.communicate()
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:  # the group is empty
            return
        deadline = time.monotonic() + _KILL_SECONDS
        while any(process.group == self.pid for process in process_table()):
            if time.monotonic() > deadline:
                raise ServerFailed(f"processes of group {self.pid} are left after SIGKILL")
            time.sleep(POLL_SECONDS)
