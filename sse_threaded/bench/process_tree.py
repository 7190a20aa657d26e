"""Processor time and memory of processes and their descendants, on Linux.

The installed command needs this, so it must work without a further package. The processor clocks are exact to the
nanosecond; ``/proc``, and so psutil, counts hundredths of a second.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from ..testing.processes import process_table
from .errors import CannotBench


class ProcessTree:
    """Processes and their descendants, as they were when this object was created.

    :param roots: the ids of the processes.
    :ivar pids: the ids of the processes and of all their descendants.
    :raises CannotBench: there is no such process, or no ``/proc``.
    """

    def __init__(self, *roots: int) -> None:
        table = process_table()
        for pid in roots:
            if not any(process.pid == pid for process in table):
                raise CannotBench(f"--pid {pid}: there is no such process on this machine")
        self.pids = [*roots]
        for parent in self.pids:  # the loop also visits the pids that it adds
            self.pids += [process.pid for process in table if process.parent == parent]

    def processor_ns(self) -> int:
        """Return the processor time that all have used so far, in nanoseconds, ended threads included."""
        return sum(map(processor_ns, self.pids))

    def pss_kb(self) -> int:
        """Return their memory in KB (PSS: memory that several processes share is divided among them).

        :raises CannotBench: this user may not read it.
        """
        total = 0
        for pid in self.pids:
            try:
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
                    total += int(rollup.partition("\nPss:")[2].split()[0])
            except PermissionError:
                raise CannotBench(f"--pid {pid}: run as its user, or as root, to read its memory") from None
        return total


def processor_ns(pid: int) -> int:
    """Return the processor time that one process has used so far, in nanoseconds; 0 when it has ended."""
    # The number of the processor clock of another process, as clock_getcpuclockid(3) computes it. Python does not
    # offer that function.
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0  # it has ended
