"""A child process with a group of its own, of which nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from .errors import ServerFailed

# How often a condition that no descriptor announces is looked at.
POLL_SECONDS = 0.02

# SIGKILL needs no consent; a process that is still there after this many seconds hangs in the kernel.
_KILL_SECONDS = 10.0

# Kills the group when this process is gone, however it went (kill -9, a fault, a test runner's time
# limit): then the pipe that only this process holds open ends, and with it the read.
_GUARD = 'read -r line; kill -s KILL -- "-$1"'


class Process(NamedTuple):
    """One line of the process table."""

    pid: int
    state: str
    parent: int
    group: int


def process_table() -> list[Process]:
    """Every process of the machine, without those that have ended; needs ``/proc``, as Linux has it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # gone meanwhile
            pid = int(path.parent.name)
            # The name, in parentheses, may hold spaces and parentheses itself (proc(5)).
            state, parent, group, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
            # A killed process whose first thread is gone is shown as a zombie while others still hold
            # its sockets open.
            if state not in "ZX" or len(list((path.parent / "task").iterdir())) > 1:
                found.append(Process(pid, state, int(parent), int(group)))
    return found


class ChildProcess:
    """A running command in a new session, its output in a file.

    :param command: the arguments, the program first.
    :param output: the file its standard output and error go to.
    :param env: the whole environment.
    :param cwd: the working directory; ``None``: this process's.
    :param pass_fds: descriptors that it inherits beside those three; default none.
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
        # A new session: the group is its own (so that it can be killed as a whole), and Ctrl-C reaches
        # the tests alone, which then end it.
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
        """The process id, which is its group's too."""
        return self._popen.pid

    def poll(self) -> int | None:
        """Its exit status (negative: the signal that ended it), or ``None`` while it runs.

        When it is found ended, what is left of its group is killed, once and never later: a group
        without members gives its number back, and another process may get it.
        """
        if self._popen.returncode is None and self._popen.poll() is not None:
            self._kill_group()
        return self._popen.returncode

    def signal(self, number: int) -> None:
        """Send a signal to the process, not to its group; nothing happens when it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the whole group with SIGKILL and wait until it is gone; may be called twice."""
        if self._popen.returncode is None:
            self._kill_group()
            self._popen.wait(_KILL_SECONDS)

    def _kill_group(self) -> None:
        self._guard.kill()
        self._guard.communicate()
        with contextlib.suppress(ProcessLookupError):  # no member is left
            os.killpg(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + _KILL_SECONDS
        while any(process.group == self.pid for process in process_table()):
            if time.monotonic() > deadline:
                raise ServerFailed(f"processes of group {self.pid} are left after SIGKILL")
            time.sleep(POLL_SECONDS)
