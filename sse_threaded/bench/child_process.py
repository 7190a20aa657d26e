"""How the load's parent and its processes talk: a line of JSON each way, over standard input and output."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from .errors import CannotBench

# What a child may take beyond the time that its order names, seconds.
_GRACE = 60.0


class Child:
    """A process of the load.

    :param module: its module, run with ``python -m``.
    """

    def __init__(self, module: str) -> None:
        # The package is found where this process found it.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )
        self._rest = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def order(self, do: str, **what: Any) -> None:
        """Send an order; :meth:`answer` has to follow."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer tells
            self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
        """Wait for the answer to the order.

        :param seconds: how long the order itself may take; a minute more is granted.
        :param progress: called with the child's process id and how far it is, now and then.
        :raises CannotBench: the child says why it cannot, has ended, or is silent.
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
        """End it; idempotent."""
        self._process.kill()
        self._process.communicate()


def say(**what: Any) -> None:
    """In a child: send a line to the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def raise_file_limit(files: int) -> None:
    """Let this process have so many open files, if the system allows it.

    :raises CannotBench: the hard limit is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if hard not in (unlimited,) and files > hard:
        raise CannotBench(
            f"{files} open files are needed in one process, the system allows {hard}; use --processes "
            f"{-(-files // max(1, hard - 64))}, or raise the limit (ulimit -Hn {files} as root, or nofile in "
            "/etc/security/limits.conf)"
        )
    if soft != unlimited and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
