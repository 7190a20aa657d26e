"""One process of the runner: imports one module and runs the classes of it that the pool hands out.

It reads and writes lines of JSON on two pipes. What the tests print, and the programs that they start, goes to
standard output, which is a file that the pool shows after a failure.
"""

from __future__ import annotations

import faulthandler
import importlib
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
import unittest
import warnings
from collections.abc import Iterable, Iterator
from typing import IO, Any

# What takes longer hangs: one test (or the set-up of a class), and the threads that are left at the end. The
# stacks of all threads are printed and the process ends, so that a deadlock shows where it is.
HANGS_SECONDS = 600
LEAVES_SECONDS = 60


# The pool's word to stop. SIGINT would do, but unittest runs no cleanups after a KeyboardInterrupt.
STOP_SIGNAL = signal.SIGHUP


# They wait until a new process has its own handlers for them.
_HELD_SIGNALS = (signal.SIGINT, signal.SIGTERM, STOP_SIGNAL)


class Stopped(BaseException):
    """The run is broken off."""


class Forked(BaseException):
    """Raised in a new process, for the command to call :func:`run` with these pipes and to end."""

    def __init__(self, reader: int, writer: int) -> None:
        super().__init__()
        self.reader = reader
        self.writer = writer


def fork(output: IO[bytes], reader: int, writer: int, *, not_theirs: Iterable[int]) -> int:
    """Start a process, and return its number.

    :param output: the file for what it prints.
    :param reader: the pipe from the pool, for the new process.
    :param writer: the pipe to the pool, likewise.
    :param not_theirs: descriptors to close in the new process.
    :raises Forked: in the new process.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        pid = os.fork()
        if not pid:
            os.setsid()  # so that what it leaves behind can be ended with it
            # A shell that starts this in the background has Ctrl-C ignored; tests and their programs would, too.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            nothing = os.open(os.devnull, os.O_RDONLY)
            for descriptor, standard in ((nothing, 0), (output.fileno(), 1), (output.fileno(), 2)):
                os.dup2(descriptor, standard)
            for descriptor in (nothing, *not_theirs):
                os.close(descriptor)
            output.close()
            # Not buffered, so that output is in order with that of other programs, and none is lost by a kill.
            sys.stdout = sys.__stdout__ = _unbuffered(1)
            sys.stderr = sys.__stderr__ = _unbuffered(2)
            raise Forked(reader, writer)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_SIGNALS)


def _unbuffered(descriptor: int) -> io.TextIOWrapper:
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)  # type: ignore[arg-type]


class Channel:
    """The pipes to the pool."""

    def __init__(self, reader: IO[str], writer: IO[str]) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, kind: str, **message: object) -> None:
        self._writer.write(json.dumps({"kind": kind, **message}) + "\n")
        self._writer.flush()

    def receive(self) -> Any:
        line = self._reader.readline()
        if not line:
            raise SystemExit("the pool has ended")
        return json.loads(line)


class Result(unittest.TestResult):
    """Tells the pool about each test at once."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel
        self._began = (0.0, 0.0)
        self._outcome = ""

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome = ""
        self._channel.send("started", test=test.id(), output=os.fstat(1).st_size)
        watch()
        self._began = (time.monotonic(), processor_seconds())

    def stopTest(self, test: unittest.TestCase) -> None:
        seconds, processor = time.monotonic() - self._began[0], processor_seconds() - self._began[1]
        self._channel.send("finished", test=test.id(), outcome=self._outcome, seconds=seconds, processor=processor)
        watch()
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._outcome = "passed"

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._outcome = "passed"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._channel.send("failed", test=test.id(), title=str(test), why="It was expected to fail, and passed.")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._channel.send("skipped", title=str(test), why=reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._tell_failure(test, test, self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._tell_failure(test, test, self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        before = len(self.failures) + len(self.errors)
        super().addSubTest(test, subtest, err)
        if err is not None and len(self.failures) + len(self.errors) > before:
            kind = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._tell_failure(test, subtest, kind[-1][1])

    def _tell_failure(self, test: unittest.TestCase, subject: unittest.TestCase, why: str) -> None:
        self._channel.send("failed", test=test.id(), title=str(subject), why=why)


class SharedSuite(unittest.TestSuite):
    """The classes of one module, as the pool hands them out: other processes may run some of them."""

    _cleanup = False  # unittest would remove each test after its run from a list that is empty here

    def __init__(self, channel: Channel, groups: dict[str, unittest.TestSuite]) -> None:
        super().__init__()
        self._channel = channel
        self._groups = groups

    def __iter__(self) -> Iterator[unittest.TestSuite]:
        while True:
            self._channel.send("next")
            group = self._channel.receive()["group"]
            if group is None:
                return
            yield self._groups[group]


def processor_seconds() -> float:
    """Processor time of this process, and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def watch(seconds: float = HANGS_SECONDS) -> None:
    """Print all stacks and end the process, unless this is called again within ``seconds``."""
    faulthandler.dump_traceback_later(seconds, exit=True)


def load(module: str, names: list[str]) -> dict[str, unittest.TestSuite]:
    """The tests of a module, or those of its classes and tests that are named, by class."""
    loader = unittest.defaultTestLoader
    if names:
        suite = loader.loadTestsFromNames([f"{module}.{name}" for name in names])
    else:
        try:
            suite = loader.loadTestsFromModule(importlib.import_module(module))
        except Exception:
            # unittest's own answer to it is a test that fails, and this says more about it.
            suite = unittest.TestSuite([_ImportFailure(module, traceback.format_exc())])
    groups: dict[str, unittest.TestSuite] = {}
    for test in _flat(suite):
        groups.setdefault(type(test).__qualname__, unittest.TestSuite()).addTest(test)
    return groups


class _ImportFailure(unittest.TestCase):
    def __init__(self, module: str, why: str) -> None:
        super().__init__("fail_to_import")
        self._module = module
        self._why = why

    def id(self) -> str:
        return self._module

    def __str__(self) -> str:
        return f"import of {self._module}"

    def fail_to_import(self) -> None:
        raise ImportError(f"{self._module} could not be imported:\n{self._why}") from None


def _flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from _flat(test)
        else:
            yield test


def run(reader: int, writer: int) -> None:
    """Take an order from the pool, and run it."""
    channel = Channel(os.fdopen(reader), os.fdopen(writer, "w"))
    order = channel.receive()
    sys.argv[:] = [order["module"]]
    if order["path"] not in sys.path:
        sys.path.insert(0, order["path"])

    def tell_warning(message: Any, category: Any, filename: str, lineno: int, *_: Any, **__: Any) -> None:
        channel.send("warning", text=warnings.formatwarning(message, category, filename, lineno))

    watch()
    with warnings.catch_warnings():
        warnings.showwarning = tell_warning
        if not sys.warnoptions:
            warnings.simplefilter("default")
        groups = load(order["module"], order["names"])
        channel.send("groups", groups=list(groups))
        result = Result(channel)
        result.failfast = order["failfast"]

        def stop(*_: object) -> None:
            if not result.shouldStop:
                result.stop()
                raise Stopped

        signal.signal(STOP_SIGNAL, stop)
        try:
            SharedSuite(channel, groups).run(result)
        except Stopped:
            pass  # it came between two tests
    channel.send("done")
    watch(LEAVES_SECONDS)
