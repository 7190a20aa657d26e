"""What several tests share: where things are, waiting, temporary directories, and what may be missing."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import tempfile
import time
import unittest
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn, TypeVar

T = TypeVar("T")

# The directory that holds tests/, deploy/, README.md: the checkout, or the copy of it without the package
# that tests/run makes, so that the installed package is what is tested.
ROOT = Path(__file__).resolve().parent.parent

# The checkout itself, for what reads the sources (ruff, mypy).
CHECKOUT = Path(os.environ.get("SSE_TESTS_CHECKOUT") or ROOT)

_POLL_SECONDS = 0.01
_reservations: list[socket.socket] = []


def nothing_may_be_skipped() -> bool:
    """Whether a skipped test is a failure: in CI, and under tests/run."""
    return bool(os.environ.get("CI")) or os.environ.get("SSE_TESTS_NO_SKIP") == "1"


def missing(what: str) -> NoReturn:
    """End the test because this machine lacks something: a skip, or a failure where nothing may be skipped.

    :param what: what is missing and how to get it, such as ``"chromium (apt-get install chromium)"``.
    """
    if nothing_may_be_skipped():
        raise AssertionError(f"missing: {what}; here nothing may be skipped")
    raise unittest.SkipTest(f"missing: {what}")


def require(folder: str, *, modules: Mapping[str, str], programs: Mapping[str, str]) -> None:
    """For a folder in which every module needs the same: say in one sentence what this machine lacks of it.

    :param modules: the Python modules, each with how to get it.
    :param programs: the programs, likewise.
    :raises ImportError: something is missing.
    """
    lacking = [f"{name} ({how})" for name, how in modules.items() if importlib.util.find_spec(name) is None]
    lacking += [f"{name} ({how})" for name, how in programs.items() if shutil.which(name) is None]
    if lacking:
        raise ImportError(f"{folder} needs {', '.join(lacking)}")


def wait_until(condition: Callable[[], object], *, timeout: float = 10.0, message: str = "") -> None:
    """Wait until ``condition()`` is true.

    :param timeout: seconds; default 10.
    :param message: what was awaited, for the failure.
    :raises AssertionError: when it does not become true in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not in {timeout} seconds: {message or 'the awaited condition'}")
        time.sleep(_POLL_SECONDS)


def kill_at_random(pids: Sequence[int], chance: random.Random, *, most: int = 1) -> int:
    """Kill some of these processes (``SIGKILL``); returns how many that were: fewer if they have just ended.

    gunicorn's workers end and begin at any time, so a list of them may be old.
    """
    killed = 0
    for pid in chance.sample(pids, len(pids)):
        if killed < most:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def temporary_directory(test: unittest.TestCase) -> Path:
    """Make a directory that is removed after the test, with what is left in it.

    Call it before the servers that write into it are started: cleanups run in reverse order.
    """
    # A process that was just killed may have left a file between listing and removing: not our subject.
    directory = tempfile.TemporaryDirectory(prefix="sse_threaded-", ignore_cleanup_errors=True)
    test.addCleanup(directory.cleanup)
    return Path(directory.name)


def has_failed(test: unittest.TestCase) -> bool:
    """Whether a running test has failed already, for its cleanups."""
    # unittest has no public way: since 3.11 the failure is in the result at once, 3.10 keeps it till the end.
    outcome = getattr(test, "_outcome", None)
    result = getattr(outcome, "result", None)
    told = [*getattr(outcome, "errors", ()), *getattr(result, "failures", ()), *getattr(result, "errors", ())]
    return any(error and getattr(case, "test_case", case) is test for case, error in told)


def enter(test: unittest.TestCase, manager: AbstractContextManager[T]) -> T:
    """Enter ``manager`` and leave it after the test; it is told when the test has failed.

    So a ``GunicornServer`` that lives as long as its test shows its output on a failure.
    """

    def leave() -> None:
        if has_failed(test):
            manager.__exit__(AssertionError, AssertionError("the test has failed"), None)
        else:
            manager.__exit__(None, None, None)

    value = manager.__enter__()
    test.addCleanup(leave)
    return value


# What a stream sends about itself, as regular expressions: its last bytes, and the answer where there is none now.
FAREWELL = rb"retry: [0-9]+\nevent: stream-end\ndata: \{\}\n\n"
UNAVAILABLE = rb"retry: [0-9]+\nevent: stream-unavailable\ndata: \{\}\n\n"


def preface(event_id: str, retry: int = 5000) -> bytes:
    """The first bytes of a stream that begins after ``event_id``."""
    return f"retry: {retry}\nevent: stream-start\nid: {event_id}\ndata: {{}}\n\n".encode()


def position(hub: object) -> int:
    """The number of the newest event that a hub has handed out."""
    return int(repr(hub).rpartition("position=")[2].rstrip(">"))


def sqlite_url(directory: Path, name: str = "log.db") -> str:
    """The URL of a SQLite log in ``directory`` (four slashes: an absolute path)."""
    return f"sqlite:///{directory / name}"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and that nobody else gets while this process lives.

    Otherwise a server of another test could get the number, too. The second one then waits for the port, while the
    clients of both talk to the first one, until that ends.
    """
    _reservations.append(reserved_port())
    port: int = _reservations[-1].getsockname()[1]
    return port


def reserved_port(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A port, by default a free one, until it is closed: only who may reuse addresses can listen on it."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        reservation.bind((host, port))
    except BaseException:
        reservation.close()
        raise
    return reservation
