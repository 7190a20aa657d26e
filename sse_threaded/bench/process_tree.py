"""What a process and all that descend from it use. Linux: from ``/proc`` and the processes' own clocks."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from ..testing.processes import process_table
from .errors import CannotBench


class Tree:
    """A process and its descendants, as they were when it was made.

    :param pid: the process's id.
    :raises CannotBench: there is none, or no ``/proc``.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        table = process_table()
        if not any(process.pid == pid for process in table):
            raise CannotBench(f"--pid {pid}: there is no such process on this machine")
        self.pids = [pid]
        for parent in self.pids:  # it grows meanwhile
            self.pids += [process.pid for process in table if process.parent == parent]

    def processor_ns(self) -> int:
        """The processor time of all so far, nanoseconds, threads that have ended included."""
        return sum(map(processor_ns, self.pids))

    def pss_kb(self) -> int:
        """Their memory, KB, what is shared by several processes counted in proportion.

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
    """The processor time of one process so far, nanoseconds; 0 when it has ended."""
    # The number of another process's CPU clock: clock_getcpuclockid(3), which Python does not offer. It counts
    # nanoseconds, where /proc/PID/stat counts hundredths of a second.
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0  # it has ended
