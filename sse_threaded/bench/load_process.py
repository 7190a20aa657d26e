"""A process of the load client, and its messages: lines of JSON over standard input and output.

The parent sends an order, and the process sends an answer. Before the answer it may send lines with its progress.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .errors import CannotBench

# Seconds that a process may need beyond the time of its order.
_GRACE = 60.0


class LoadProcess:
    """A process of the load client, seen from the parent.

    :param module: the name of the module that it runs (``python -m``).
    """

    def __init__(self, module: str) -> None:
        # The process must find the package at the same place as this one.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # only the parent handles Ctrl-C
        )
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def order(self, do: str, **what: Any) -> None:
        """Send an order; call :meth:`answer` next."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # answer() then raises
            self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Wait for the answer to the order.

        :param seconds: how long the order itself may take; this method waits a minute longer.
        :param progress: called from time to time with the process id and its count so far.
        :raises CannotBench: the process reports an error, has ended, or does not answer in time.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds + _GRACE
        while True:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                said = json.loads(line)
                if "error" in said:
                    raise CannotBench(said["error"])
                if "progress" not in said:
                    return dict(said)
                if progress is not None:
                    progress(self.pid, said["progress"])
                continue
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise CannotBench("a process of the load client does not answer")
            received = os.read(descriptor, 1 << 20)
            if not received:
                raise CannotBench(f"a process of the load client ended with status {self._process.wait()}")
            self._rest += received

    def close(self) -> None:
        """End the process; may be called twice."""
        self._process.kill()
        self._process.communicate()


def send_to_parent(**what: Any) -> None:
    """In a process of the load client: send a line to the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()
